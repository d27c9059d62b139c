//! Records of idempotency keys in one tree of the embedded database, those of an org beside one another.
//!
//! What an org holds is counted in memory, under the lock that every change takes.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Begun, Fingerprint, IdempotencyStore, LENGTH, MOST, MOST_BYTES, Pending, Place, Record, StoreError};
use crate::clock::Millis;
use crate::data::{Database, Failure};
use crate::id::OrgId;

/// First byte of every row.
const VERSION: u8 = 1;
/// Version, state, time and fingerprint.
const HEAD: usize = 2 + 8 + LENGTH;
/// Rows that are looked at before others get their turn.
const SLICE: usize = 256;
/// Between two looks for what is over among the rows of an org that is full.
const LOOK: Duration = Duration::from_secs(1);

/// Records in the embedded database.
#[derive(Clone)]
pub struct SledIdempotency {
    tree: sled::Tree,
    held: Arc<Mutex<HashMap<[u8; 16], Held>>>,
}

/// What an org holds.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    records: u64,
    bytes: u64,
    /// When it was last looked which of them are over, since it was full.
    looked: Millis,
}

impl SledIdempotency {
    /// Those of this database. Reads them once, to count them.
    ///
    /// # Errors
    /// Those of the database.
    pub fn open(database: &Database) -> Result<Self, StoreError> {
        let store = Self { tree: database.tree("idempotency")?, held: Arc::default() };
        let mut held = store.held();
        for row in store.tree.iter() {
            let (place, value) = row.map_err(Failure::from)?;
            count(&mut held, &place, None, Some(value.len()));
        }
        drop(held);
        Ok(store)
    }

    fn find_now(&self, place: Place, now: Millis) -> Result<Option<Record>, StoreError> {
        let row = self.tree.get(place.bytes()).map_err(Failure::from)?;
        let record = row.map(|row| decoded(&row).ok_or(StoreError::Damaged)).transpose()?;
        Ok(record.filter(|record| !record.is_over(now)))
    }

    fn begin_now(&self, place: Place, fingerprint: Fingerprint, now: Millis) -> Result<Begun, StoreError> {
        let full = |held: &HashMap<[u8; 16], Held>| {
            held.get(whose(place.bytes())).is_some_and(|held| held.records >= MOST || held.bytes >= MOST_BYTES)
        };
        let is_due = || {
            let mut held = self.held();
            let due = full(&held);
            let of = held.get_mut(whose(place.bytes())).filter(|of| due && now.since(of.looked) >= LOOK);
            // All rows are read for it: not for each request of an org that stays full.
            of.map(|of| of.looked = now).is_some()
        };
        if is_due() {
            self.sweep_of(whose(place.bytes()), now)?;
        }
        {
            let mut held = self.held();
            let row = self.tree.get(place.bytes()).map_err(Failure::from)?;
            if let Some(row) = &row {
                let record = decoded(row).ok_or(StoreError::Damaged)?;
                if !record.is_over(now) {
                    return Ok(Begun::Known(record));
                }
            } else if full(&held) {
                return Ok(Begun::Full);
            }
            let record = Record { since: now, fingerprint, answer: None };
            self.put(&mut held, place, row.map(|row| row.len()), &record)?;
        }
        // What is not noted for sure is not carried out, and so may be asked for again.
        let taken_back = |_: &StoreError| drop(self.take(place.bytes(), &mut self.held()));
        self.flush().inspect_err(taken_back)?;
        Ok(Begun::Noted)
    }

    fn keep_now(&self, place: Place, record: &Record) -> Result<(), StoreError> {
        {
            let mut held = self.held();
            // Forgotten meanwhile, with its org: it does not come back.
            let Some(before) = self.tree.get(place.bytes()).map_err(Failure::from)? else { return Ok(()) };
            self.put(&mut held, place, Some(before.len()), record)?;
        }
        self.flush()
    }

    fn free_now(&self, place: Place) -> Result<(), StoreError> {
        self.take(place.bytes(), &mut self.held())?;
        self.flush()
    }

    fn forget_now(&self, org: OrgId) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        for row in self.tree.scan_prefix(org.number().to_be_bytes()).keys() {
            let place = row.map_err(Failure::from)?;
            self.take(&place, &mut self.held())?;
            forgotten += 1;
        }
        self.flush()?;
        Ok(forgotten)
    }

    /// Forgets what is over among some rows from this place on; where to go on, and how many went.
    fn sweep_slice(&self, from: &[u8], now: Millis) -> Result<(Option<Vec<u8>>, u64), StoreError> {
        let (mut swept, mut last) = (0, None);
        for (seen, row) in self.tree.range(from..).enumerate() {
            let (place, value) = row.map_err(Failure::from)?;
            if seen == SLICE {
                last = Some(place.to_vec());
                break;
            }
            swept += u64::from(self.take_if_over(&place, &value, now)?);
        }
        Ok((last, swept))
    }

    fn sweep_of(&self, org: &[u8; 16], now: Millis) -> Result<(), StoreError> {
        for row in self.tree.scan_prefix(org) {
            let (place, value) = row.map_err(Failure::from)?;
            self.take_if_over(&place, &value, now)?;
        }
        Ok(())
    }

    fn take_if_over(&self, place: &[u8], value: &[u8], now: Millis) -> Result<bool, StoreError> {
        // What cannot be read says no time; it goes when somebody looks for what is over, and is told.
        let is_over = decoded(value).is_none_or(|record| record.is_over(now));
        if !is_over {
            return Ok(false);
        }
        let mut held = self.held();
        // Somebody may have begun anew with it meanwhile.
        let is_same = self.tree.get(place).map_err(Failure::from)?.is_some_and(|row| row == value);
        if is_same {
            if decoded(value).is_none() {
                tracing::error!("the record of an idempotency key cannot be read, and is removed");
            }
            self.take(place, &mut held)?;
        }
        Ok(is_same)
    }

    fn put(
        &self,
        held: &mut HashMap<[u8; 16], Held>,
        place: Place,
        before: Option<usize>,
        record: &Record,
    ) -> Result<(), StoreError> {
        let row = encoded(record);
        let size = row.len();
        self.tree.insert(place.bytes(), row).map_err(Failure::from)?;
        count(held, place.bytes(), before, Some(size));
        Ok(())
    }

    fn take(&self, place: &[u8], held: &mut HashMap<[u8; 16], Held>) -> Result<(), StoreError> {
        let before = self.tree.remove(place).map_err(Failure::from)?;
        count(held, place, before.map(|row| row.len()), None);
        Ok(())
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.tree.flush().map_err(Failure::from)?;
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, HashMap<[u8; 16], Held>> {
        // Counts are no more than a bound: what a panic left behind is at most one record off.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Pending<'static, T> {
        let store = self.clone();
        Box::pin(
            async move { tokio::task::spawn_blocking(move || work(&store)).await.map_err(|_| StoreError::Closing)? },
        )
    }
}

impl IdempotencyStore for SledIdempotency {
    fn find(&self, place: Place, now: Millis) -> Pending<'_, Option<Record>> {
        self.work(move |store| store.find_now(place, now))
    }

    fn begin(&self, place: Place, fingerprint: Fingerprint, now: Millis) -> Pending<'_, Begun> {
        self.work(move |store| store.begin_now(place, fingerprint, now))
    }

    fn keep(&self, place: Place, record: Record) -> Pending<'_, ()> {
        self.work(move |store| store.keep_now(place, &record))
    }

    fn free(&self, place: Place) -> Pending<'_, ()> {
        self.work(move |store| store.free_now(place))
    }

    fn forget(&self, org: OrgId) -> Pending<'_, u64> {
        self.work(move |store| store.forget_now(org))
    }

    fn sweep(&self, now: Millis) -> Pending<'_, u64> {
        Box::pin(async move {
            let (mut from, mut swept) = (Vec::new(), 0);
            loop {
                let (next, went) = self.work(move |store| store.sweep_slice(&from, now)).await?;
                swept += went;
                match next {
                    Some(next) => from = next,
                    None => return Ok(swept),
                }
            }
        })
    }
}

impl fmt::Debug for SledIdempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SledIdempotency")
    }
}

/// Whose a record is.
fn whose(place: &[u8]) -> &[u8; 16] {
    place.first_chunk().unwrap_or(&[0; 16])
}

fn count(held: &mut HashMap<[u8; 16], Held>, place: &[u8], before: Option<usize>, after: Option<usize>) {
    let of = held.entry(*whose(place)).or_default();
    let number = |size: Option<usize>| size.map_or(0, |size| size as u64);
    of.records = (of.records + u64::from(after.is_some())).saturating_sub(u64::from(before.is_some()));
    of.bytes = (of.bytes + number(after)).saturating_sub(number(before));
    if of.records == 0 {
        held.remove(whose(place));
    }
}

fn encoded(record: &Record) -> Vec<u8> {
    let sealed = record.answer.as_deref();
    let mut row = Vec::with_capacity(HEAD + sealed.map_or(0, <[u8]>::len));
    row.extend_from_slice(&[VERSION, u8::from(sealed.is_some())]);
    row.extend_from_slice(&record.since.0.to_be_bytes());
    row.extend_from_slice(&record.fingerprint.0);
    row.extend_from_slice(sealed.unwrap_or_default());
    row
}

fn decoded(row: &[u8]) -> Option<Record> {
    let (head, sealed) = row.split_first_chunk::<HEAD>()?;
    let ([VERSION, state], rest) = head.split_first_chunk::<2>()? else { return None };
    let (since, fingerprint) = rest.split_first_chunk::<8>()?;
    let answer = match state {
        0 if sealed.is_empty() => None,
        1 => Some(sealed.to_vec()),
        _ => return None,
    };
    let (since, fingerprint) = (Millis(u64::from_be_bytes(*since)), Fingerprint(fingerprint.try_into().ok()?));
    Some(Record { since, fingerprint, answer })
}

/// What tests write as it is.
#[cfg(test)]
impl SledIdempotency {
    pub(super) fn put_unflushed(&self, place: Place, record: &Record) {
        self.put_raw(place, &encoded(record));
    }

    pub(super) fn put_raw(&self, place: Place, row: &[u8]) {
        self.tree.insert(place.bytes(), row).unwrap();
        count(&mut self.held(), place.bytes(), None, Some(row.len()));
    }
}
