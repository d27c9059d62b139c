//! Counts and ends of keys in the embedded database.
//!
//! Three trees: how many keys of an org count; ends that are to come, by instant and id; and ends that were taken note of. A key
//! counts until it is in the third, and is never in two of them.

use std::collections::HashMap;
use std::ops::Bound;

use sled::transaction::{ConflictableTransactionError, TransactionError, TransactionalTree};
use sled::{IVec, Transactional};

use crate::clock::Millis;
use crate::data::{Database, Failure};
use crate::id::{KeyId, OrgId};
use crate::key::{Key, StoreError};

/// Where it is written that the trees are whole: no org, by its length.
const BUILT: &[u8] = b"built";
/// Ends that are taken note of in one transaction.
const STEP: usize = 1_000;

/// Counts and ends. Clones are the same trees.
#[derive(Clone)]
pub(in crate::key) struct SledEnds {
    pub(in crate::key) counts: sled::Tree,
    pub(in crate::key) due: sled::Tree,
    pub(in crate::key) ended: sled::Tree,
}

/// A key that has ended.
#[derive(Debug, Clone)]
pub(in crate::key) struct Ended {
    /// Its place in the tree of ends.
    pub(in crate::key) place: IVec,
    /// Which key.
    pub(in crate::key) id: KeyId,
    /// Whose.
    pub(in crate::key) org: OrgId,
}

/// Some keys, and where to go on; nowhere where these were all.
type Between = (Vec<KeyId>, Option<Box<[u8]>>);

type Step<T> = Result<T, ConflictableTransactionError<StoreError>>;

impl SledEnds {
    /// The trees in this database; made from these keys where they are not there as a whole.
    pub(in crate::key) fn open(
        database: &Database,
        keys: impl Iterator<Item = Result<Key, Failure>>,
    ) -> Result<Self, Failure> {
        let ends = Self {
            counts: database.tree("key_counts")?,
            due: database.tree("key_due")?,
            ended: database.tree("key_ended")?,
        };
        if ends.counts.get(BUILT)?.is_none() {
            ends.build(keys)?;
        }
        Ok(ends)
    }

    fn build(&self, keys: impl Iterator<Item = Result<Key, Failure>>) -> Result<(), Failure> {
        for tree in [&self.counts, &self.due, &self.ended] {
            // Left by a start that was cut off.
            tree.clear()?;
        }
        let mut counts: HashMap<OrgId, u64> = HashMap::new();
        for key in keys {
            let key = key?;
            let whose = key.org.number().to_be_bytes();
            match (key.revoked(), key.end()) {
                (Some(_), Some(end)) => drop(self.ended.insert(place(end, key.id), &whose)?),
                (_, end) => {
                    *counts.entry(key.org).or_default() += 1;
                    end.map(|end| self.due.insert(place(end, key.id), &whose)).transpose()?;
                }
            }
        }
        for (org, count) in counts {
            self.counts.insert(org.number().to_be_bytes(), &count.to_be_bytes())?;
        }
        self.counts.flush()?;
        self.counts.insert(BUILT, &[])?;
        self.counts.flush()?;
        Ok(())
    }

    /// One key more in a transaction, where its org has fewer than so many.
    pub(in crate::key) fn begin(counts: &TransactionalTree, due: &TransactionalTree, key: &Key, most: u64) -> Step<()> {
        let whose = key.org.number().to_be_bytes();
        let count = counts.get(whose)?.map_or(0, |count| number(&count));
        if count >= most {
            return Err(ConflictableTransactionError::Abort(StoreError::TooMany { org: key.org, most }));
        }
        counts.insert(&whose, &(count + 1).to_be_bytes())?;
        if let Some(end) = key.expires() {
            due.insert(&place(end, key.id)[..], &whose)?;
        }
        Ok(())
    }

    /// This key was revoked, in a transaction. One that has ended by itself before stays as it was.
    pub(in crate::key) fn end(
        counts: &TransactionalTree,
        due: &TransactionalTree,
        ended: &TransactionalTree,
        key: &Key,
    ) -> Step<()> {
        let Some(end) = key.end() else { return Ok(()) };
        let counted = match key.expires() {
            Some(expires) => due.remove(&place(expires, key.id)[..])?.is_some(),
            None => true,
        };
        if counted {
            let whose = key.org.number().to_be_bytes();
            lower(counts, &whose)?;
            ended.insert(&place(end, key.id)[..], &whose)?;
        }
        Ok(())
    }

    /// This key is removed, in a transaction, whatever state it is in.
    pub(in crate::key) fn forget(
        counts: &TransactionalTree,
        due: &TransactionalTree,
        ended: &TransactionalTree,
        key: &Key,
    ) -> Step<()> {
        let counted = match key.expires() {
            Some(expires) => due.remove(&place(expires, key.id)[..])?.is_some(),
            None => key.revoked().is_none(),
        };
        if counted {
            lower(counts, &key.org.number().to_be_bytes())?;
        }
        // By itself, or because it was revoked: it is there under one of both, where it is.
        for end in key.expires().into_iter().chain(key.end()) {
            ended.remove(&place(end, key.id)[..])?;
        }
        Ok(())
    }

    /// Counts no more what has ended by itself until now.
    pub(in crate::key) fn settle(&self, now: Millis) -> Result<(), StoreError> {
        // What ends at an instant has ended then.
        let behind = place(Millis(now.0.saturating_add(1)), KeyId::from_number(0));
        loop {
            let batch: Result<Vec<_>, _> = self.due.range(..&behind[..]).take(STEP).collect();
            let batch = batch.map_err(Failure::from)?;
            if batch.is_empty() {
                return Ok(());
            }
            let trees = (&self.counts, &self.due, &self.ended);
            let outcome: Result<(), TransactionError<StoreError>> = trees.transaction(|(counts, due, ended)| {
                for (place, whose) in &batch {
                    // Revoked meanwhile, or settled by somebody else.
                    if due.remove(place)?.is_some() {
                        lower(counts, whose)?;
                        ended.insert(place, whose)?;
                    }
                }
                Ok(())
            });
            outcome.map_err(|error| match error {
                TransactionError::Abort(error) => error,
                TransactionError::Storage(error) => Failure::from(error).into(),
            })?;
        }
    }

    /// At most so many keys that ended or end after `since` and not after `until`, and where to go on. One whose end is taken note of
    /// meanwhile may come twice.
    pub(in crate::key) fn between(
        &self,
        since: Millis,
        until: Millis,
        from: Option<&[u8]>,
        most: usize,
    ) -> Result<Between, StoreError> {
        let after = |instant: Millis| place(Millis(instant.0.saturating_add(1)), KeyId::from_number(0));
        let (first, behind) = (after(since), after(until));
        if first > behind {
            return Ok((Vec::new(), None));
        }
        // Which tree, and the last place in it.
        let (begin, from) = match from.and_then(<[u8]>::split_first) {
            Some((tree, from)) => (usize::from(*tree), Bound::Excluded(from)),
            None => (0, Bound::Included(&first[..])),
        };
        let mut ids = Vec::new();
        for (number, tree) in [&self.due, &self.ended].into_iter().enumerate().skip(begin) {
            let first = if number == begin { from } else { Bound::Included(&first[..]) };
            for found in tree.range::<&[u8], _>((first, Bound::Excluded(&behind[..]))).keys() {
                let found = found.map_err(Failure::from)?;
                let id = found.last_chunk::<16>().ok_or(StoreError::DamagedIndex)?;
                ids.push(KeyId::from_number(u128::from_be_bytes(*id)));
                if ids.len() == most {
                    return Ok((ids, Some([&[number as u8], &found[..]].concat().into())));
                }
            }
        }
        Ok((ids, None))
    }

    /// At most so many keys that ended before this instant, those first that ended first.
    pub(in crate::key) fn before(&self, instant: Millis, most: usize) -> Result<Vec<Ended>, StoreError> {
        let found = self.ended.range(..&place(instant, KeyId::from_number(0))[..]).take(most);
        found
            .map(|found| {
                let (place, whose) = found.map_err(Failure::from)?;
                let id = place.last_chunk::<16>().ok_or(StoreError::DamagedIndex)?;
                let org = whose.first_chunk::<16>().ok_or(StoreError::DamagedIndex)?;
                let (id, org) = (u128::from_be_bytes(*id), u128::from_be_bytes(*org));
                Ok(Ended { place: place.clone(), id: KeyId::from_number(id), org: OrgId::from_number(org) })
            })
            .collect()
    }
}

fn lower(counts: &TransactionalTree, whose: &[u8]) -> Step<()> {
    let count = counts.get(whose)?.map_or(0, |count| number(&count));
    counts.insert(whose, &count.saturating_sub(1).to_be_bytes())?;
    Ok(())
}

/// By instant, and among those of one instant by id.
fn place(end: Millis, id: KeyId) -> [u8; 24] {
    let mut place = [0; 24];
    place[..8].copy_from_slice(&end.0.to_be_bytes());
    place[8..].copy_from_slice(&id.number().to_be_bytes());
    place
}

fn number(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
