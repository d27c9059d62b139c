//! The store of keys in the embedded database.
//!
//! Four trees: records by id; ids by digest; ids by org; and when a key was last used, apart, because that changes all
//! the time and may be lost; those that say who counts and who has ended; and what is known of all digests without reading them.
//! Everything else is flushed before it is acknowledged, and changes together with the audit log.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use serde_json::{Value, json};
use sled::Transactional;
use sled::transaction::{ConflictableTransactionError, TransactionError};

use super::all::SledAll;
use super::ends::SledEnds;
use super::record::{decoded, encoded};
use super::told;
use super::{Answer, Change, Changed, Digest, Ended, Forgotten, Kept, Key, KeyStore, Move, Page, StoreError};
use crate::audit::{Note, SledAudit};
use crate::clock::Millis;
use crate::data::{Database, Failure};
use crate::id::{KeyId, OrgId};
use crate::outbox::{Kind, SledOutbox};

/// Keys that are forgotten in one transaction.
const FORGOTTEN: usize = 256;

/// Keys in the embedded database.
#[derive(Clone)]
pub struct SledKeys {
    pub(super) records: sled::Tree,
    pub(super) digests: sled::Tree,
    pub(super) orgs: sled::Tree,
    pub(super) used: sled::Tree,
    pub(super) ends: SledEnds,
    pub(super) all: SledAll,
    audit: SledAudit,
    outbox: SledOutbox,
}

type Step<T> = Result<T, ConflictableTransactionError<StoreError>>;

impl SledKeys {
    /// The keys in this database, whose changes are noted in this log of the same one, and told through this outbox of it.
    pub fn open(database: &Database, audit: SledAudit, outbox: SledOutbox) -> Result<Self, Failure> {
        let records = database.tree("keys")?;
        let ends = SledEnds::open(database, all(&records))?;
        let has_none = records.is_empty();
        Ok(Self {
            records,
            ends,
            all: SledAll::open(database, has_none)?,
            digests: database.tree("key_digests")?,
            orgs: database.tree("key_orgs")?,
            used: database.tree("key_used")?,
            audit,
            outbox,
        })
    }

    /// Runs blocking work on a copy of the trees, off the runtime's own thread.
    fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Answer<'static, T> {
        let trees = self.clone();
        Box::pin(async move {
            // Cut off only when the runtime ends; a panic in there would be a defect of the database.
            tokio::task::spawn_blocking(move || work(&trees)).await.map_err(|_| StoreError::Closing)?
        })
    }

    fn insert_now(&self, all: &[Kept], most: u64, note: &Note) -> Result<(), StoreError> {
        match self.insert_once(all, most, note) {
            Err(StoreError::TooMany { .. }) => {
                // Some may have ended by themselves since it was looked for that.
                self.ends.settle(note.at)?;
                self.insert_once(all, most, note)
            }
            done => done,
        }
    }

    fn insert_once(&self, all: &[Kept], most: u64, note: &Note) -> Result<(), StoreError> {
        let (SledEnds { counts, due, .. }, SledAll { fresh, facts }) = (&self.ends, &self.all);
        let (audit, outbox) = (self.audit.tree(), self.outbox.tree());
        let trees = (&self.records, &self.digests, &self.orgs, audit, outbox, counts, due, fresh, facts);
        let outcome = trees.transaction(|(records, digests, orgs, audit, outbox, counts, due, fresh, facts)| {
            for kept in all {
                let id = kept.key.id;
                SledEnds::begin(counts, due, &kept.key, most)?;
                let place = id.number().to_be_bytes();
                if let Some(taken) = digests.insert(&kept.secret.digest.as_bytes()[..], &place)? {
                    return Err(aborted(StoreError::Taken { id: decoded_id(&taken).map_err(aborted)? }));
                }
                SledAll::begin(fresh, facts, &kept.secret.digest, kept.secret.pepper)?;
                records.insert(&place, encoded(kept))?;
                orgs.insert(&org_place(kept.key.org, id)[..], &[])?;
                let note = note.clone().org(Some(kept.key.org)).on(id).change(Default::default(), kept.facts());
                self.audit.append_in(audit, &note)?;
                self.outbox.append_in(outbox, &told::event(Kind::KeyCreated, kept, &note))?;
            }
            Ok(())
        });
        self.settled(outcome)
    }

    pub(super) fn find_now(&self, id: KeyId) -> Result<Option<Kept>, StoreError> {
        let record = self.records.get(id.number().to_be_bytes()).map_err(Failure::from)?;
        record.map(|bytes| self.restored(id, &bytes)).transpose()
    }

    fn change_now(&self, id: KeyId, change: &Change, note: &Note) -> Result<Option<Changed>, StoreError> {
        let place = id.number().to_be_bytes();
        let (SledEnds { counts, due, ended }, SledAll { fresh, facts }) = (&self.ends, &self.all);
        let (audit, outbox) = (self.audit.tree(), self.outbox.tree());
        let trees = (&self.records, &self.digests, audit, outbox, counts, due, ended, fresh, facts);
        let outcome = trees.transaction(|(records, digests, audit, outbox, counts, due, ended, fresh, facts)| {
            let Some(record) = records.get(place)? else { return Ok(None) };
            let (before, mut after) = (read(id, &record)?, read(id, &record)?);
            let different = after.apply(change).map_err(|error| aborted(error.into()))?;
            if different {
                records.insert(&place, encoded(&after))?;
                if after.secret.digest != before.secret.digest {
                    if let Some(ended) = before.previous {
                        digests.remove(&ended.secret.digest.as_bytes()[..])?;
                    }
                    digests.insert(&after.secret.digest.as_bytes()[..], &place)?;
                    SledAll::begin(fresh, facts, &after.secret.digest, after.secret.pepper)?;
                }
                if after.key.revoked() != before.key.revoked() {
                    SledEnds::end(counts, due, ended, &after.key)?;
                }
                let note = note.clone().org(Some(after.key.org)).on(id).change(before.facts(), after.facts());
                self.audit.append_in(audit, &note)?;
                self.outbox.append_in(outbox, &told::event(told::kind(change), &after, &note))?;
            }
            Ok(Some(Changed { before, after }))
        });
        // Flushed also where nothing changed: it may be the answer that got lost, not the request.
        self.settled(outcome)
    }

    fn redigest_now(&self, moves: Vec<Move>) -> Result<Vec<Move>, StoreError> {
        let mut done = Vec::new();
        for moved in moves {
            let place = moved.id.number().to_be_bytes();
            let trees = (&self.records, &self.digests, &self.all.fresh, &self.all.facts);
            let outcome = trees.transaction(|(records, digests, fresh, facts)| {
                let Some(record) = records.get(place)? else { return Ok(false) };
                let mut kept = read(moved.id, &record)?;
                let had = kept.redigest(&moved.from, &moved.to, moved.pepper);
                if had {
                    records.insert(&place, encoded(&kept))?;
                    digests.remove(&moved.from.as_bytes()[..])?;
                    digests.insert(&moved.to.as_bytes()[..], &place)?;
                    SledAll::begin(fresh, facts, &moved.to, moved.pepper)?;
                }
                Ok(had)
            });
            // One that cannot be moved keeps no other one back: what is done here must be done in memory too.
            match done_in(outcome) {
                Ok(true) => done.push(moved),
                Ok(false) => {}
                Err(error) => tracing::warn!(key = %moved.id, "a secret stays under its older pepper: {error}"),
            }
        }
        if let Err(error) = self.records.flush() {
            // Whoever retires a pepper flushes the same database first; a move that is lost before that is made again.
            tracing::warn!("secrets that were moved to the newest pepper may not be durable yet: {error}");
        }
        Ok(done)
    }

    fn settled<T>(&self, outcome: Result<T, TransactionError<StoreError>>) -> Result<T, StoreError> {
        let done = done_in(outcome)?;
        self.audit.flush()?;
        self.outbox.nudge();
        Ok(done)
    }

    fn page_now(&self, org: Option<OrgId>, after: Option<KeyId>, limit: usize) -> Result<Page, StoreError> {
        let ids: Vec<KeyId> = match org {
            Some(org) => {
                let first = after.map_or(Bound::Included(org_place(org, KeyId::from_number(0))), |after| {
                    Bound::Excluded(org_place(org, after))
                });
                let last = Bound::Included(org_place(org, KeyId::from_number(u128::MAX)));
                let found = self.orgs.range::<[u8; 32], _>((first, last)).keys().take(limit + 1);
                found.map(|place| decoded_id(&place.map_err(Failure::from)?[16..])).collect::<Result<_, _>>()?
            }
            None => {
                let first = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.number().to_be_bytes()));
                let found = self.records.range::<[u8; 16], _>((first, Bound::Unbounded)).keys().take(limit + 1);
                found.map(|id| decoded_id(&id.map_err(Failure::from)?)).collect::<Result<_, _>>()?
            }
        };
        let more = ids.len() > limit;
        let keys = ids
            .into_iter()
            .take(limit)
            .map(|id| self.find_now(id)?.ok_or(StoreError::DamagedIndex))
            .collect::<Result<_, _>>()?;
        Ok(Page { keys, more })
    }

    fn forget_now(&self, before: Millis, note: &Note) -> Result<Forgotten, StoreError> {
        self.ends.settle(note.at)?;
        let found = self.ends.before(before, FORGOTTEN)?;
        let more = found.len() == FORGOTTEN;
        let trees = (&self.records, &self.digests, &self.orgs, self.audit.tree(), &self.ends.ended, &self.all.fresh);
        let outcome = trees.transaction(|(records, digests, orgs, audit, ended, fresh)| {
            let (mut keys, mut notes) = (Vec::new(), BTreeMap::<OrgId, Note>::new());
            for found in &found {
                ended.remove(&found.place)?;
                let place = found.id.number().to_be_bytes();
                let Some(record) = records.get(place)? else { continue };
                // What cannot be read stays, for whoever mends it.
                let Some(kept) = decoded(found.id, &record) else { continue };
                records.remove(&place)?;
                orgs.remove(&org_place(found.org, found.id)[..])?;
                for secret in kept.secrets() {
                    digests.remove(&secret.digest.as_bytes()[..])?;
                    fresh.remove(&secret.digest.as_bytes()[..])?;
                }
                let about = notes.entry(found.org).or_insert_with(|| note.clone().org(Some(found.org)));
                about.on.push(found.id.to_string());
                keys.push(kept);
            }
            for (_, note) in notes {
                let count = json!({ "keys": note.on.len() });
                self.audit.append_in(audit, &note.change(count, Value::Null))?;
            }
            Ok(keys)
        });
        let keys = self.settled(outcome)?;
        for kept in &keys {
            self.used.remove(kept.key.id.number().to_be_bytes()).map_err(Failure::from)?;
        }
        Ok(Forgotten { keys, more })
    }

    fn erase_now(&self, org: OrgId, note: &Note) -> Result<Forgotten, StoreError> {
        let places = self.orgs.scan_prefix(org.number().to_be_bytes()).keys().take(FORGOTTEN);
        let ids = places.map(|place| decoded_id(place.map_err(Failure::from)?.get(16..).unwrap_or_default()));
        let ids: Vec<KeyId> = ids.collect::<Result<_, _>>()?;
        if ids.is_empty() {
            self.ends.counts.remove(org.number().to_be_bytes()).map_err(Failure::from)?;
            return Ok(Forgotten { keys: Vec::new(), more: false });
        }
        let SledEnds { counts, due, ended } = &self.ends;
        let trees = (&self.records, &self.digests, &self.orgs, self.audit.tree(), counts, due, ended, &self.all.fresh);
        let outcome = trees.transaction(|(records, digests, orgs, audit, counts, due, ended, fresh)| {
            let (mut keys, mut note) = (Vec::new(), note.clone().org(Some(org)));
            for id in ids.iter().copied() {
                orgs.remove(&org_place(org, id)[..])?;
                let Some(record) = records.remove(&id.number().to_be_bytes())? else { continue };
                note = note.on(id);
                // Of one that cannot be read, a digest stays that opens nothing.
                let Some(kept) = decoded(id, &record) else { continue };
                for secret in kept.secrets() {
                    digests.remove(&secret.digest.as_bytes()[..])?;
                    fresh.remove(&secret.digest.as_bytes()[..])?;
                }
                SledEnds::forget(counts, due, ended, &kept.key)?;
                keys.push(kept);
            }
            let count = json!({ "keys": note.on.len() });
            self.audit.append_in(audit, &note.change(count, Value::Null))?;
            Ok(keys)
        });
        let keys = self.settled(outcome)?;
        for id in ids {
            self.used.remove(id.number().to_be_bytes()).map_err(Failure::from)?;
        }
        Ok(Forgotten { keys, more: true })
    }

    fn note_used_now(&self, used: &[(KeyId, Millis)]) -> Result<(), StoreError> {
        for (id, at) in used {
            self.used.insert(id.number().to_be_bytes(), &at.0.to_be_bytes()).map_err(Failure::from)?;
        }
        self.used.flush().map_err(Failure::from)?;
        Ok(())
    }

    fn restored(&self, id: KeyId, bytes: &[u8]) -> Result<Kept, StoreError> {
        let mut kept = decoded(id, bytes).ok_or(StoreError::Damaged { id })?;
        let used = self.used.get(id.number().to_be_bytes()).map_err(Failure::from)?;
        if let (Some(used), Some(key)) =
            (used.and_then(|bytes| bytes.first_chunk().copied()), Arc::get_mut(&mut kept.key))
        {
            key.touch(Millis(u64::from_be_bytes(used)));
        }
        Ok(kept)
    }
}

impl KeyStore for SledKeys {
    fn insert(&self, kept: Vec<Kept>, most: u64, note: Note) -> Answer<'_, ()> {
        self.work(move |trees| trees.insert_now(&kept, most, &note))
    }

    fn find(&self, id: KeyId) -> Answer<'_, Option<Kept>> {
        self.work(move |trees| trees.find_now(id))
    }

    fn find_by_digest(&self, digest: Digest) -> Answer<'_, Option<KeyId>> {
        self.work(move |trees| {
            let found = trees.digests.get(digest.as_bytes()).map_err(Failure::from)?;
            found.map(|id| decoded_id(&id)).transpose()
        })
    }

    fn change(&self, id: KeyId, change: Change, note: Note) -> Answer<'_, Option<Changed>> {
        self.work(move |trees| trees.change_now(id, &change, &note))
    }

    fn redigest(&self, moves: Vec<Move>) -> Answer<'_, Vec<Move>> {
        self.work(move |trees| trees.redigest_now(moves))
    }

    fn page(&self, org: Option<OrgId>, after: Option<KeyId>, limit: usize) -> Answer<'_, Page> {
        self.work(move |trees| trees.page_now(org, after, limit))
    }

    fn forget(&self, before: Millis, note: Note) -> Answer<'_, Forgotten> {
        self.work(move |trees| trees.forget_now(before, &note))
    }

    fn erase(&self, org: OrgId, note: Note) -> Answer<'_, Forgotten> {
        self.work(move |trees| trees.erase_now(org, &note))
    }

    fn note_used(&self, used: Vec<(KeyId, Millis)>) -> Answer<'_, ()> {
        self.work(move |trees| trees.note_used_now(&used))
    }

    fn ended(&self, since: Millis, until: Millis, from: Option<Box<[u8]>>, most: usize) -> Answer<'_, Ended> {
        self.work(move |trees| trees.ended_now(since, until, from.as_deref(), most))
    }

    fn needs(&self, now: Millis) -> Answer<'_, Vec<(u32, u64)>> {
        self.work(move |trees| trees.needs_now(now))
    }

    fn peppers(&self) -> Answer<'_, Option<Vec<u32>>> {
        self.work(|trees| Ok(trees.all.versions()?))
    }

    fn keep_peppers(&self, versions: Vec<u32>) -> Answer<'_, ()> {
        self.work(move |trees| Ok(trees.all.keep_versions(&versions)?))
    }

    fn digests(&self, after: Option<Digest>, fresh: bool, most: usize) -> Answer<'_, Vec<Digest>> {
        self.work(move |trees| trees.digests_now(after.as_ref(), fresh, most))
    }

    fn filter(&self) -> Answer<'_, Option<u128>> {
        self.work(|trees| Ok(trees.all.filter()?))
    }

    fn keep_filter(&self, name: u128, held: Vec<Digest>) -> Answer<'_, ()> {
        self.work(move |trees| Ok(trees.all.keep_filter(name, &held)?))
    }
}

impl fmt::Debug for SledKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SledKeys")
    }
}

/// All keys that can be read.
fn all(records: &sled::Tree) -> impl Iterator<Item = Result<Key, Failure>> {
    records.iter().filter_map(|found| match found {
        Ok((place, record)) => {
            let kept = decoded(decoded_id(&place).ok()?, &record)?;
            Arc::into_inner(kept.key).map(Ok)
        }
        Err(error) => Some(Err(error.into())),
    })
}

pub(super) fn org_place(org: OrgId, id: KeyId) -> [u8; 32] {
    let mut place = [0; 32];
    place[..16].copy_from_slice(&org.number().to_be_bytes());
    place[16..].copy_from_slice(&id.number().to_be_bytes());
    place
}

pub(super) fn decoded_id(bytes: &[u8]) -> Result<KeyId, StoreError> {
    let number = bytes.try_into().map_err(|_| StoreError::DamagedIndex)?;
    Ok(KeyId::from_number(u128::from_be_bytes(number)))
}

fn read(id: KeyId, record: &[u8]) -> Step<Kept> {
    decoded(id, record).ok_or(StoreError::Damaged { id }).map_err(aborted)
}

fn aborted(error: StoreError) -> ConflictableTransactionError<StoreError> {
    ConflictableTransactionError::Abort(error)
}

fn done_in<T>(outcome: Result<T, TransactionError<StoreError>>) -> Result<T, StoreError> {
    outcome.map_err(|error| match error {
        TransactionError::Abort(error) => error,
        TransactionError::Storage(error) => Failure::from(error).into(),
    })
}

#[cfg(test)]
impl SledKeys {
    /// As a version left it that did not count.
    pub(crate) fn forget_counts(&self) {
        for tree in [&self.ends.counts, &self.ends.due, &self.ends.ended] {
            tree.clear().unwrap();
        }
    }

    /// Damages the record of a key: some bytes in it become others.
    pub(crate) fn spoil(&self, id: KeyId, from: &[u8], to: &[u8]) {
        let place = id.number().to_be_bytes();
        let record = self.records.get(place).unwrap().unwrap();
        let at = record.windows(from.len()).position(|part| part == from).unwrap();
        let spoilt = [&record[..at], to, &record[at + from.len()..]].concat();
        self.records.insert(place, spoilt).unwrap();
    }
}
