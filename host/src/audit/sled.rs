//! The audit log in the embedded database: one tree, entries by sequence and the end of the chain beside them.
//!
//! Stores of the same database append within their own transactions, so that a change and its entry are there together or
//! not at all.

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sled::transaction::{ConflictableTransactionError, TransactionError, TransactionalTree};

use super::chain::{self, Seal};
use super::{Answer, AuditStore, Entry, Fault, Filter, Head, Note, Page, StoreError, Verdict, Who};
use crate::clock::Millis;
use crate::data::{Database, Failure};
use crate::seal::Vault;

/// Where the end of the chain is: no sequence, by its length.
const END: &[u8] = b"end";
/// What is sealed under this name says that there was a log here.
const BEGUN: &str = "audit/begun";
/// At most so many entries are looked at for one page.
const MOST_LOOKED_AT: usize = 20_000;

/// The audit log in the embedded database.
#[derive(Clone)]
pub struct SledAudit {
    tree: sled::Tree,
    seal: Arc<Seal>,
    /// A log was begun here: an empty tree is one that somebody emptied.
    begun: bool,
    /// Entries that were to be appended on their own, and could not be.
    unwritten: Arc<AtomicU64>,
}

impl SledAudit {
    /// The log in this database; one that never was begins with an entry that says so.
    ///
    /// A log whose end does not verify opens too, since what serves must go on; but nothing is appended to it.
    pub fn open(database: &Database, vault: &Vault, now: Millis) -> Result<Self, StoreError> {
        let seal = Arc::new(Seal::new(&vault.derive("audit-log")));
        let begun = vault.find(BEGUN)?.is_some();
        let mut log = Self { tree: database.tree("audit")?, seal, begun, unwritten: Arc::default() };
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
        let entry = Entry { sequence: end.sequence + 1, note: note.clone() };
        let content = serde_json::to_vec(&entry).expect("an entry is strings, numbers and JSON values");
        let (kept, end) = self.seal.link(end, &content);
        tree.insert(&end.sequence.to_be_bytes(), kept)?;
        tree.insert(END, self.seal.seal(end))?;
        Ok(end.sequence)
    }

    fn append_now(&self, note: &Note) -> Result<u64, StoreError> {
        match self.tree.transaction(|tree| self.append_in::<StoreError>(tree, note)) {
            Ok(sequence) => {
                self.tree.flush().map_err(Failure::from)?;
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
        let end = before.unwrap_or(u64::MAX).to_be_bytes();
        let (mut entries, mut next) = (Vec::new(), None);
        for (looked_at, found) in self.tree.range(..end).rev().enumerate() {
            let (place, kept) = found.map_err(Failure::from)?;
            let Some(sequence) = sequence(&place) else { continue };
            if entries.len() == limit || looked_at == MOST_LOOKED_AT {
                next = Some(sequence + 1);
                break;
            }
            let entry = chain::entry(&kept).ok_or(StoreError::Damaged { sequence })?;
            if filter.matches(&entry.note) {
                entries.push(entry);
            }
        }
        Ok(Page { entries, next })
    }

    /// Entries that are appended meanwhile are looked at too: the end is read again until there is nothing new behind it.
    fn verify_now(&self) -> Result<Verdict, StoreError> {
        let mut seen = Head::default();
        loop {
            let first = Bound::Included((seen.sequence + 1).to_be_bytes());
            for found in self.tree.range((first, Bound::Unbounded)) {
                let (place, kept) = found.map_err(Failure::from)?;
                if &*place == END {
                    continue;
                }
                let expected = seen.sequence + 1;
                let fault = match sequence(&place) {
                    Some(sequence) if sequence == expected => match self.seal.follow(seen, &kept) {
                        Some(head) => {
                            seen = head;
                            continue;
                        }
                        None => Fault::Edited,
                    },
                    _ => Fault::Missing,
                };
                // Behind the end no entry can be missing or edited: it never was one.
                let end = self.end()?;
                let fault = if end.is_some_and(|end| end.sequence < expected) { Fault::Unchained } else { fault };
                return Ok(Verdict::Broken { sequence: expected, fault });
            }
            let broken = |sequence, fault| Ok(Verdict::Broken { sequence, fault });
            match self.end()? {
                None => return broken(seen.sequence.max(1), Fault::End),
                Some(end) if end == seen => return Ok(Verdict::Whole(seen)),
                Some(end) if end.sequence < seen.sequence => return broken(end.sequence + 1, Fault::Unchained),
                Some(end) if end.sequence == seen.sequence => return broken(end.sequence, Fault::Edited),
                Some(_) if self.has(seen.sequence + 1)? => {}
                Some(_) => return broken(seen.sequence + 1, Fault::Missing),
            }
        }
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
}

impl fmt::Debug for SledAudit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SledAudit")
    }
}

fn sequence(place: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(place.try_into().ok()?))
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
