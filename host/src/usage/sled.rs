//! Usage in one tree of sled.
//!
//! One org's days are one range. Sums are read, added to and written back by one writer at a time, in one atomic batch; they are
//! durable after a flush.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, BufMut};
use sled::{IVec, Tree};

use super::row::{MARKS, Place, counts, key_of, mark, number, place, put_number, row_of, start_of, value_of};
use super::{Counts, Day, Detail, Mark, Month, MonthlyCount, Page, Pending, Record, StoreError, Summary, UsageStore};
use crate::data::{Database, Failure};
use crate::id::OrgId;

/// Rows that one batch removes, so that forgetting does not keep the store busy for long.
const SLICE: usize = 1_000;

/// Usage in a tree of its own.
#[derive(Debug, Clone)]
pub struct SledUsage {
    database: Database,
    tree: Tree,
    /// Rows that could not be read: kept as they are, so that one of them neither is lost nor holds up the others.
    aside: Tree,
    /// Held while sums are read and written back.
    writer: Arc<Mutex<()>>,
}

impl SledUsage {
    /// On the database of a data directory.
    ///
    /// # Errors
    /// Those of the database.
    pub fn open(database: &Database) -> Result<Self, Failure> {
        let (tree, aside) = (database.tree("usage")?, database.tree("usage-damaged")?);
        let store = Self { database: database.clone(), tree, aside, writer: Arc::default() };
        match store.aside.len() {
            0 => {}
            rows => tracing::warn!(rows, "damaged rows of usage are kept aside; sums without them are too low"),
        }
        Ok(store)
    }

    /// Does work that may wait for the disk, beside the control runtime.
    fn pending<T, F>(&self, work: F) -> Pending<'_, T>
    where
        T: Send + 'static,
        F: FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    {
        let store = self.clone();
        Box::pin(async move {
            let work = tokio::task::spawn_blocking(move || work(&store));
            work.await.map_err(|error| StoreError::Unavailable(error.into()))?
        })
    }

    fn merge(&self, records: &[Record], marks: &[Mark]) -> Result<(), StoreError> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // A batch may hold several rows of one key, from several workers.
        let mut sums: BTreeMap<Vec<u8>, Counts> = BTreeMap::new();
        for record in records {
            let key = key_of(record);
            match sums.get_mut(&key) {
                Some(sum) => sum.merge(&record.counts),
                None => {
                    let kept = self.tree.get(&key).map_err(unavailable)?;
                    let mut sum = match kept.as_ref().map(|value| (value, counts(value))) {
                        Some((_, Some(sum))) => sum,
                        Some((value, None)) => {
                            self.set_aside(&key, value)?;
                            Counts::default()
                        }
                        None => Counts::default(),
                    };
                    sum.merge(&record.counts);
                    sums.insert(key, sum);
                }
            }
        }
        let mut batch = sled::Batch::default();
        sums.iter().for_each(|(key, counts)| batch.insert(key.as_slice(), value_of(counts)));
        for mark in marks {
            let (key, value) = row_of(mark);
            batch.insert(key, value);
        }
        self.tree.apply_batch(batch).map_err(unavailable)
    }

    /// Calls back with each row of these that can be read.
    fn each(
        &self,
        rows: impl Iterator<Item = sled::Result<(IVec, IVec)>>,
        mut see: impl FnMut(Place, Counts),
    ) -> Result<(), StoreError> {
        let see = |place, counts| {
            see(place, counts);
            true
        };
        self.each_while(rows, see).map(drop)
    }

    /// As [`Self::each`], until whoever is called back has seen enough; whether it has not.
    fn each_while(
        &self,
        rows: impl Iterator<Item = sled::Result<(IVec, IVec)>>,
        mut see: impl FnMut(Place, Counts) -> bool,
    ) -> Result<bool, StoreError> {
        for row in rows {
            let (key, value) = row.map_err(unavailable)?;
            match place(&key).zip(counts(&value)) {
                Some((place, counts)) => {
                    if !see(place, counts) {
                        return Ok(false);
                    }
                }
                None => self.set_aside(&key, &value)?,
            }
        }
        Ok(true)
    }

    /// Moves a damaged row out of the way, and says so. It is there twice before it is there once.
    fn set_aside(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        // The same row may be damaged again, in another way. One log holds both trees: what comes first is durable first.
        let mut place = key.to_vec();
        place.put_u32(crc32fast::hash(value));
        self.aside.insert(place, value).map_err(unavailable)?;
        // Where a writer has replaced it meanwhile, it is no longer the damaged one.
        let _ = self.tree.compare_and_swap(key, Some(value), None::<&[u8]>).map_err(unavailable)?;
        let mut rest = key;
        let org = number(&mut rest).flatten().map(OrgId::from_number);
        let day = rest.try_get_u32().unwrap_or_default();
        tracing::error!(
            org = org.map(|org| org.to_string()),
            days_since_1970 = day,
            "a row of usage is damaged: it is kept in the tree `usage-damaged` and counts no longer; restore the data directory \
             from a backup to have it back"
        );
        Ok(())
    }
}

impl UsageStore for SledUsage {
    fn add_marked(&self, records: Vec<Record>, marks: Vec<Mark>) -> Pending<'_, ()> {
        self.pending(move |store| store.merge(&records, &marks))
    }

    fn marks(&self) -> Pending<'_, Vec<Mark>> {
        self.pending(|store| {
            let mut marks = Vec::new();
            for row in store.tree.range([MARKS]..[MARKS + 1]) {
                let (key, value) = row.map_err(unavailable)?;
                // One that cannot be read must not be taken for none: calls would be counted again.
                marks.push(
                    mark(&key, &value)
                        .ok_or_else(|| StoreError::Unavailable("a mark of the journal is damaged".into()))?,
                );
            }
            Ok(marks)
        })
    }

    fn flush(&self) -> Pending<'_, ()> {
        self.pending(|store| store.database.flush().map_err(unavailable))
    }

    fn month(&self, org: Option<u128>, month: Month) -> Pending<'_, Summary> {
        self.pending(move |store| {
            let mut summary = Summary::default();
            let range = start_of(org, month.first_day())..start_of(org, month.next().first_day());
            store.each(store.tree.range(range), |place, counts| summary.add(&place.pillar, &counts))?;
            Ok(summary)
        })
    }

    fn detail(&self, question: Detail) -> Pending<'_, Page> {
        self.pending(move |store| {
            let mut gathering = question.gather();
            let Some((first, last)) = gathering.days() else { return Ok(gathering.finish()) };
            // Rows of a day are in the order of their keys.
            let ranges: Vec<(Vec<u8>, Option<Vec<u8>>)> = match question.key {
                None => {
                    vec![(start_of(question.org, first), Some(start_of(question.org, Day(last.0.saturating_add(1)))))]
                }
                Some(key) => (first.0..=last.0)
                    .map(|day| {
                        let mut prefix = start_of(question.org, Day(day));
                        put_number(&mut prefix, Some(key));
                        (prefix, None)
                    })
                    .collect(),
            };
            for (start, end) in ranges {
                let rows = match end {
                    Some(end) => store.tree.range(start..end),
                    None => store.tree.scan_prefix(start),
                };
                let more = store.each_while(rows, |Place { caller, day, pillar, route }, counts| {
                    gathering.see(day, caller, &pillar, &route, &counts)
                })?;
                if !more {
                    break;
                }
            }
            Ok(gathering.finish())
        })
    }

    fn monthly_counts(&self, month: Month) -> Pending<'_, Vec<MonthlyCount>> {
        self.pending(move |store| {
            let (first, end) = (month.first_day(), month.next().first_day());
            let mut sums = BTreeMap::new();
            store.each(store.tree.range(..[MARKS]), |place, counts| {
                if (first..end).contains(&place.day) {
                    let sum = sums.entry((place.caller, place.pillar)).or_insert(0u64);
                    *sum = sum.saturating_add(counts.let_through());
                }
            })?;
            let count = |((caller, pillar), calls)| MonthlyCount { caller, pillar, calls };
            Ok(sums.into_iter().map(count).collect())
        })
    }

    fn forget_before(&self, day: Day) -> Pending<'_, u64> {
        self.pending(move |store| {
            let mut old: Vec<IVec> = Vec::new();
            let mut forgotten = 0;
            let mut forget = |old: &mut Vec<IVec>| {
                let mut batch = sled::Batch::default();
                forgotten += old.len();
                old.drain(..).for_each(|key| batch.remove(key));
                store.tree.apply_batch(batch).map_err(unavailable)
            };
            for key in store.tree.range(..[MARKS]).keys() {
                let key = key.map_err(unavailable)?;
                // What has no readable day is left to whoever reads the row.
                if place(&key).is_some_and(|place| place.day < day) {
                    old.push(key);
                }
                if old.len() >= SLICE {
                    forget(&mut old)?;
                }
            }
            forget(&mut old)?;
            Ok(u64::try_from(forgotten).unwrap_or(u64::MAX))
        })
    }
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::super::Statuses;
    use super::super::row::{FIRST, VERSION, put_text};
    use super::super::tests::{START, records};
    use super::*;

    impl SledUsage {
        /// In a database of its own.
        pub(in super::super) fn open_at(directory: &std::path::Path) -> Self {
            Self::open(&Database::open(directory).unwrap()).unwrap()
        }
    }

    /// As the version before wrote it: to the end of the row codes of denials, and no more.
    #[tokio::test]
    async fn rows_of_earlier_versions_are_read_and_added_to() {
        let directory = tempfile::tempdir().unwrap();
        let store = SledUsage::open_at(directory.path());
        store.add(records()).await.unwrap();
        let whole = store.month(Some(1), Month::of(START)).await.unwrap().total;
        let rows: Vec<_> = store.tree.range(..[MARKS]).collect::<Result<_, _>>().unwrap();
        for (key, value) in rows {
            let Counts { calls, statuses, bytes_in, bytes_out, gas, fuel, denied, .. } = counts(&value).unwrap();
            let Statuses { switched, succeeded, redirected, refused, failed } = statuses;
            let mut earlier = vec![FIRST];
            for number in [calls, switched, succeeded, redirected, refused, failed, bytes_in, bytes_out] {
                earlier.put_u64(number);
            }
            earlier.put_u64(gas.millionths());
            earlier.put_u64(fuel);
            for (code, times) in denied {
                put_text(&mut earlier, &code);
                earlier.put_u64(times);
            }
            store.tree.insert(key, earlier).unwrap();
        }
        let mut expected = Counts { units: 0, upstream_us: 0, fuel_by_policy: Vec::new(), ..whole.clone() };
        assert_eq!(store.month(Some(1), Month::of(START)).await.unwrap().total, expected);
        store.add(records()).await.unwrap();
        expected.merge(&whole);
        assert_eq!(store.month(Some(1), Month::of(START)).await.unwrap().total, expected);
        assert_eq!(store.aside.len(), 0);
        assert_eq!(expected.fuel_by_policy.len(), 2);
    }

    #[tokio::test]
    async fn a_damaged_row_is_kept_aside_and_holds_nothing_up() {
        let directory = tempfile::tempdir().unwrap();
        let store = SledUsage::open_at(directory.path());
        store.add(records()).await.unwrap();
        let whole = store.month(Some(1), Month::of(START)).await.unwrap().total.calls;
        let (key, value) = store.tree.iter().nth(1).unwrap().unwrap();
        let row = counts(&value).unwrap().calls;
        let damages = [value[..20].to_vec(), vec![VERSION + 1], value[..value.len() - 1].to_vec(), vec![]];
        for (times, damage) in damages.iter().enumerate() {
            // Found by a reader, and found by a writer.
            store.tree.insert(&key, damage.as_slice()).unwrap();
            assert_eq!(store.month(Some(1), Month::of(START)).await.unwrap().total.calls, whole - row);
            store.tree.insert(&key, damage.as_slice()).unwrap();
            store.add(records()).await.unwrap();
            assert_eq!(counts(&store.tree.get(&key).unwrap().unwrap()).unwrap().calls, row);
            assert_eq!(store.aside.len(), times + 1);
            assert!(store.aside.iter().values().any(|kept| kept.unwrap() == damage));
            // As it was before.
            store.tree.clear().unwrap();
            store.add(records()).await.unwrap();
        }
        store.tree.insert(b"\x01", value).unwrap();
        store.forget_before(Day(0)).await.unwrap();
        store.monthly_counts(Month::of(START)).await.unwrap();
        assert_eq!(store.tree.get(b"\x01").unwrap(), None);
    }
}
