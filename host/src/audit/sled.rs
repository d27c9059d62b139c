//! The audit log in the embedded database: one tree, entries by sequence, the end of the chain beside them, and behind that what
//! entries hold beside the chain, by org and sequence.
//!
//! Stores of the same database append within their own transactions, so that a change and its entry are there together or
//! not at all.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sled::transaction::{ConflictableTransactionError, TransactionError, TransactionalTree};

use super::chain::{self, Content, Seal};
use super::held;
use super::{Answer, AuditStore, Count, Entry, Fault, Filter, Head, Note, ORG_ERASED, Page, StoreError, Verdict, Who};
use crate::clock::Millis;
use crate::data::{Database, Failure};
use crate::id::{OrgId, random};
use crate::seal::Vault;

/// Where the end of the chain is: no sequence, by its length.
const END: &[u8] = b"end";
/// What is sealed under this name says that there was a log here.
const BEGUN: &str = "audit/begun";
/// At most so many entries are looked at for one page.
const MOST_LOOKED_AT: usize = 20_000;
/// What places of values begin with: they are behind the end, and of another length than any sequence.
const VALUES: u8 = b'v';
/// Values that are erased at once.
const ERASED_AT_ONCE: usize = 500;

/// The audit log in the embedded database.
#[derive(Clone)]
pub struct SledAudit {
    database: Database,
    tree: sled::Tree,
    seal: Arc<Seal>,
    /// A log was begun here: an empty tree is one that somebody emptied.
    begun: bool,
    /// Entries that were to be appended on their own, and could not be.
    unwritten: Arc<AtomicU64>,
}

impl SledAudit {
    /// Makes everything durable that was written into the database until now: what others change goes with its entry.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn flush(&self) -> Result<(), Failure> {
        self.database.flush()
    }

    /// The log in this database; one that never was begins with an entry that says so.
    ///
    /// A log whose end does not verify opens too, since what serves must go on; but nothing is appended to it.
    pub fn open(database: &Database, vault: &Vault, now: Millis) -> Result<Self, StoreError> {
        let seal = Arc::new(Seal::new(&vault.derive("audit-log")));
        let begun = vault.find(BEGUN)?.is_some();
        let mut log =
            Self { database: database.clone(), tree: database.tree("audit")?, seal, begun, unwritten: Arc::default() };
        if log.tree.is_empty() && !begun {
            log.append_now(&Note::new(Who::gateway(), "audit.begun", now))?;
        } else if log.end()?.is_none() {
            tracing::error!("{}", StoreError::Broken);
        }
        if !begun {
            // After the first entry: cut off between the two, nothing is broken at the next start.
            vault.keep(BEGUN, &now.0.to_be_bytes())?;
            log.begun = true;
        }
        Ok(log)
    }

    /// How many entries could not be appended since the start; those of changes in the same database are not among them, since
    /// these were not made.
    pub fn unwritten(&self) -> Arc<AtomicU64> {
        self.unwritten.clone()
    }

    /// The tree to put into a transaction, for [`Self::append_in`].
    pub(crate) fn tree(&self) -> &sled::Tree {
        &self.tree
    }

    /// Appends an entry within a transaction over [`Self::tree`]; its sequence. Aborts where the end of the chain is not genuine.
    pub(crate) fn append_in<E: From<StoreError>>(
        &self,
        tree: &TransactionalTree,
        note: &Note,
    ) -> Result<u64, ConflictableTransactionError<E>> {
        let broken = || ConflictableTransactionError::Abort(StoreError::Broken.into());
        let end = match tree.get(END)? {
            Some(kept) => self.seal.open(&kept).ok_or_else(broken)?,
            // Whoever takes the end away cannot have the chain begin anew behind what is there.
            None if !self.begun && tree.get(1_u64.to_be_bytes())?.is_none() => Head::default(),
            None => return Err(broken()),
        };
        let salt = random().map_err(|error| ConflictableTransactionError::Abort(StoreError::from(error).into()))?;
        let (bare, values) = held::set_aside(note, salt);
        let (held, row) = values.unzip();
        let (kept, end) = self.seal.link(end, &Content::new(end.sequence + 1, bare, held).bytes());
        tree.insert(&end.sequence.to_be_bytes(), kept)?;
        if let Some(row) = row {
            tree.insert(&values_place(note.org, end.sequence)[..], row)?;
        }
        tree.insert(END, self.seal.seal(end))?;
        Ok(end.sequence)
    }

    fn append_now(&self, note: &Note) -> Result<u64, StoreError> {
        match self.tree.transaction(|tree| self.append_in::<StoreError>(tree, note)) {
            Ok(sequence) => {
                self.database.flush()?;
                Ok(sequence)
            }
            Err(TransactionError::Abort(error)) => Err(error),
            Err(TransactionError::Storage(error)) => Err(Failure::from(error).into()),
        }
    }

    fn end(&self) -> Result<Option<Head>, StoreError> {
        let kept = self.tree.get(END).map_err(Failure::from)?;
        Ok(kept.and_then(|kept| self.seal.open(&kept)))
    }

    fn page_now(&self, filter: &Filter, before: Option<u64>, limit: usize) -> Result<Page, StoreError> {
        let end = before.map(u64::to_be_bytes);
        let end = end.as_ref().map_or(END, |end| &end[..]);
        // What is held is looked for only where it may matter.
        let without_object = Filter { object: None, ..filter.clone() };
        let (mut entries, mut next) = (Vec::new(), None);
        for (looked_at, found) in self.tree.range::<&[u8], _>(..end).rev().enumerate() {
            let (place, kept) = found.map_err(Failure::from)?;
            let Some(sequence) = sequence(&place) else { continue };
            if entries.len() == limit || looked_at == MOST_LOOKED_AT {
                next = Some(sequence + 1);
                break;
            }
            let damaged = || StoreError::Damaged { sequence };
            let content = chain::content(&kept).ok_or_else(damaged)?;
            if !without_object.matches(&content.note) {
                continue;
            }
            let entry = self.whole(content)?.ok_or_else(damaged)?;
            if filter.matches(&entry.note) {
                entries.push(entry);
            }
        }
        Ok(Page { entries, next })
    }

    /// An entry with what is held beside it, or with the word that it was erased; none where that is not what was written.
    fn whole(&self, content: Content) -> Result<Option<Entry>, StoreError> {
        let Content { sequence, note, held, .. } = content;
        let Some(held) = held else { return Ok(Some(Entry { sequence, note, erased: Vec::new() })) };
        let row = self.values(note.org, sequence)?;
        if row.as_ref().is_some_and(|row| !held.is_of(row)) {
            return Ok(None);
        }
        let whole = held::put_back(note, held, row.as_deref());
        Ok(whole.map(|(note, erased)| Entry { sequence, note, erased }))
    }

    fn values(&self, org: Option<OrgId>, sequence: u64) -> Result<Option<sled::IVec>, StoreError> {
        Ok(self.tree.get(values_place(org, sequence)).map_err(Failure::from)?)
    }

    /// Entries that are appended meanwhile are looked at too: the end is read again until there is nothing new behind it.
    fn verify_now(&self) -> Result<Verdict, StoreError> {
        let broken = |sequence, fault| Ok(Verdict::Broken { sequence, fault });
        let (mut seen, mut missed) = (Head::default(), Missed::default());
        loop {
            let first = (seen.sequence + 1).to_be_bytes();
            for found in self.tree.range::<&[u8], _>(&first[..]..END) {
                let (place, kept) = found.map_err(Failure::from)?;
                let expected = seen.sequence + 1;
                let fault = match sequence(&place) {
                    Some(sequence) if sequence == expected => match self.seal.follow(seen, &kept) {
                        Some((head, content)) => {
                            seen = head;
                            if self.misses(&content, &mut missed)? {
                                return broken(expected, Fault::Values);
                            }
                            continue;
                        }
                        None => Fault::Edited,
                    },
                    _ => Fault::Missing,
                };
                // Behind the end no entry can be missing or edited: it never was one.
                let end = self.end()?;
                let fault = if end.is_some_and(|end| end.sequence < expected) { Fault::Unchained } else { fault };
                return broken(expected, fault);
            }
            match self.end()? {
                None => return broken(seen.sequence.max(1), Fault::End),
                Some(end) if end == seen => match missed.first() {
                    Some(sequence) => return broken(sequence, Fault::ValuesMissing),
                    None => return Ok(self.stray(seen)?.unwrap_or(Verdict::Whole(seen))),
                },
                Some(end) if end.sequence < seen.sequence => return broken(end.sequence + 1, Fault::Unchained),
                Some(end) if end.sequence == seen.sequence => return broken(end.sequence, Fault::Edited),
                Some(_) if self.has(seen.sequence + 1)? => {}
                Some(_) => return broken(seen.sequence + 1, Fault::Missing),
            }
        }
    }

    /// Looks at what is held beside an entry; whether it is not what was written. What is gone is noted.
    fn misses(&self, content: &Content, missed: &mut Missed) -> Result<bool, StoreError> {
        let Content { sequence, note, held, .. } = content;
        if note.action == ORG_ERASED {
            missed.were_erased(note.org);
        }
        let Some(held) = held else { return Ok(false) };
        let row = self.values(note.org, *sequence)?;
        if row.is_none() {
            missed.note(note.org, *sequence);
        }
        Ok(row.is_some_and(|row| !held.is_of(&row)))
    }

    /// Values that no entry holds, and whatever else is behind the end.
    fn stray(&self, seen: Head) -> Result<Option<Verdict>, StoreError> {
        for found in self.tree.range::<&[u8], _>((Bound::Excluded(END), Bound::Unbounded)).keys() {
            let place = found.map_err(Failure::from)?;
            let sequence = match whose_values(&place) {
                Some((org, sequence)) => {
                    let entry = self.tree.get(sequence.to_be_bytes()).map_err(Failure::from)?;
                    let content = entry.and_then(|kept| chain::content(&kept));
                    if content.is_some_and(|content| content.held.is_some() && content.note.org == org) {
                        continue;
                    }
                    sequence
                }
                None => seen.sequence + 1,
            };
            return Ok(Some(Verdict::Broken { sequence, fault: Fault::Unchained }));
        }
        Ok(None)
    }

    fn erase_now(&self, org: OrgId, before: u64) -> Result<u64, StoreError> {
        let (first, end) = (values_place(Some(org), 0), values_place(Some(org), before));
        let mut batch = sled::Batch::default();
        let mut erased = 0;
        for found in self.tree.range(&first[..]..&end[..]).keys().take(ERASED_AT_ONCE) {
            batch.remove(found.map_err(Failure::from)?);
            erased += 1;
        }
        if erased > 0 {
            self.tree.apply_batch(batch).map_err(Failure::from)?;
            self.database.flush()?;
        }
        Ok(erased)
    }

    fn count_now(&self, org: OrgId) -> Result<Count, StoreError> {
        let mut count = Count::default();
        for found in self.tree.range::<&[u8], _>(..END).values() {
            let Some(content) = chain::content(&found.map_err(Failure::from)?) else { continue };
            if content.note.org == Some(org) {
                count.entries += 1;
                count.in_chain += u64::from(content.is_former() && held::has_values(&content.note));
            }
        }
        Ok(count)
    }

    fn has(&self, sequence: u64) -> Result<bool, StoreError> {
        Ok(self.tree.contains_key(sequence.to_be_bytes()).map_err(Failure::from)?)
    }

    fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Answer<'static, T> {
        let log = self.clone();
        Box::pin(async move { tokio::task::spawn_blocking(move || work(&log)).await.map_err(|_| StoreError::Closing)? })
    }
}

impl AuditStore for SledAudit {
    fn append(&self, note: Note) -> Answer<'_, u64> {
        self.work(move |log| {
            let appended = log.append_now(&note);
            log.unwritten.fetch_add(u64::from(appended.is_err()), Ordering::Relaxed);
            appended
        })
    }

    fn page(&self, filter: Filter, before: Option<u64>, limit: usize) -> Answer<'_, Page> {
        self.work(move |log| log.page_now(&filter, before, limit))
    }

    fn verify(&self) -> Answer<'_, Verdict> {
        self.work(Self::verify_now)
    }

    fn erase(&self, org: OrgId, before: u64) -> Answer<'_, u64> {
        self.work(move |log| log.erase_now(org, before))
    }

    fn count(&self, org: OrgId) -> Answer<'_, Count> {
        self.work(move |log| log.count_now(org))
    }
}

impl fmt::Debug for SledAudit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SledAudit")
    }
}

/// The first entries whose values are gone, by org, of those that no erasure came after so far.
#[derive(Default)]
struct Missed(BTreeMap<Option<OrgId>, u64>);

impl Missed {
    fn note(&mut self, org: Option<OrgId>, sequence: u64) {
        self.0.entry(org).or_insert(sequence);
    }

    fn were_erased(&mut self, org: Option<OrgId>) {
        // What is about no org is never erased.
        if org.is_some() {
            self.0.remove(&org);
        }
    }

    fn first(&self) -> Option<u64> {
        self.0.values().copied().min()
    }
}

fn sequence(place: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(place.try_into().ok()?))
}

/// Where what an entry holds is: those of one org in a row, those about none first.
fn values_place(org: Option<OrgId>, sequence: u64) -> [u8; 25] {
    let mut place = [VALUES; 25];
    place[1..17].copy_from_slice(&org.map_or(0, OrgId::number).to_be_bytes());
    place[17..].copy_from_slice(&sequence.to_be_bytes());
    place
}

/// Which entry holds what is at this place.
fn whose_values(place: &[u8]) -> Option<(Option<OrgId>, u64)> {
    let (org, sequence) = place.strip_prefix(&[VALUES])?.split_first_chunk()?;
    let org = Some(u128::from_be_bytes(*org)).filter(|org| *org > 0).map(OrgId::from_number);
    Some((org, self::sequence(sequence)?))
}

/// What someone with access to the files of the store could do.
#[cfg(test)]
impl SledAudit {
    pub(super) fn kept(&self, sequence: u64) -> Vec<u8> {
        self.tree.get(sequence.to_be_bytes()).unwrap().unwrap().to_vec()
    }

    pub(super) fn put(&self, sequence: u64, kept: &[u8]) {
        self.tree.insert(sequence.to_be_bytes(), kept).unwrap();
    }

    pub(super) fn take(&self, sequence: u64) {
        self.tree.remove(sequence.to_be_bytes()).unwrap();
    }

    pub(super) fn kept_end(&self) -> Vec<u8> {
        self.tree.get(END).unwrap().unwrap().to_vec()
    }

    pub(super) fn kept_values(&self, org: Option<OrgId>, sequence: u64) -> Option<Vec<u8>> {
        self.tree.get(values_place(org, sequence)).unwrap().map(|row| row.to_vec())
    }

    pub(super) fn put_values(&self, org: Option<OrgId>, sequence: u64, row: Option<&[u8]>) {
        let place = values_place(org, sequence);
        match row {
            Some(row) => self.tree.insert(place, row).unwrap(),
            None => self.tree.remove(place).unwrap(),
        };
    }

    /// Appends an entry as the first form had it: all of it in the chain.
    pub(super) fn append_former(&self, note: &Note) {
        let end = self.end().unwrap().unwrap();
        let mut content = serde_json::to_value(note).unwrap();
        content["sequence"] = (end.sequence + 1).into();
        let (kept, end) = self.seal.link(end, content.to_string().as_bytes());
        self.put(end.sequence, &kept);
        self.put_end(Some(&self.seal.seal(end)));
    }

    /// As a forger leaves it.
    pub(crate) fn spoil_end(&self) {
        self.put_end(Some(b"forged"));
    }

    pub(super) fn put_end(&self, kept: Option<&[u8]>) {
        match kept {
            Some(kept) => self.tree.insert(END, kept).unwrap(),
            None => self.tree.remove(END).unwrap(),
        };
    }
}
