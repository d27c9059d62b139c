//! The outbox in the embedded database: events by id, which is in the order of time, and marks of what was told already.
//!
//! Stores of the same database append within their own transactions, so that a change and its event are there together or not
//! at all.

use std::fmt;
use std::sync::Arc;

use sled::Transactional;
use sled::transaction::{ConflictableTransactionError, TransactionError, TransactionalTree};
use tokio::sync::Notify;

use super::Event;
use crate::data::{Database, Failure};
use crate::id::{EventId, OrgId};

/// The outbox in the embedded database; clones are the same one.
#[derive(Clone)]
pub struct SledOutbox {
    events: sled::Tree,
    marks: sled::Tree,
    news: Arc<Notify>,
}

impl SledOutbox {
    /// The outbox of this database. To be opened once, and cloned: whoever waits for news waits for those of one handle.
    pub fn open(database: &Database) -> Result<Self, Failure> {
        let (events, marks) = (database.tree("outbox")?, database.tree("outbox_marks")?);
        Ok(Self { events, marks, news: Arc::default() })
    }

    /// The tree to put into a transaction, for [`Self::append_in`].
    pub(crate) fn tree(&self) -> &sled::Tree {
        &self.events
    }

    /// Appends an event within a transaction over [`Self::tree`]. Whoever commits it calls [`Self::nudge`].
    pub(crate) fn append_in<E>(
        &self,
        tree: &TransactionalTree,
        event: &Event,
    ) -> Result<(), ConflictableTransactionError<E>> {
        let row = serde_json::to_vec(event).expect("an event is strings and numbers");
        tree.insert(&event.id.number().to_be_bytes(), row)?;
        Ok(())
    }

    /// Appends events, and is durable when it returns; blocks.
    pub fn append(&self, events: &[Event]) -> Result<(), Failure> {
        let outcome = self.events.transaction(|tree| events.iter().try_for_each(|event| self.append_in(tree, event)));
        self.settled(outcome)
    }

    /// Appends events together with the mark that they were told; durable when it returns; blocks.
    pub fn append_marked(&self, name: &str, value: &[u8], events: &[Event]) -> Result<(), Failure> {
        let outcome = (&self.events, &self.marks).transaction(|(tree, marks)| {
            events.iter().try_for_each(|event| self.append_in(tree, event))?;
            marks.insert(name.as_bytes(), value)?;
            Ok(())
        });
        self.settled(outcome)
    }

    /// The mark of this name; blocks.
    pub fn mark(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        Ok(self.marks.get(name)?.map(|value| value.to_vec()))
    }

    /// The marks that begin so, with their values; blocks.
    pub fn marks(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, Failure> {
        let mark = |found: sled::Result<(sled::IVec, sled::IVec)>| {
            let (name, value) = found?;
            Ok((String::from_utf8_lossy(&name).into_owned(), value.to_vec()))
        };
        self.marks.scan_prefix(prefix).map(mark).collect()
    }

    /// Forgets the marks that begin so and have a value that is not to be kept; blocks.
    pub fn forget_marks(&self, prefix: &str, kept: impl Fn(&[u8]) -> bool) -> Result<(), Failure> {
        for found in self.marks.scan_prefix(prefix) {
            let (name, value) = found?;
            if !kept(&value) {
                self.marks.remove(name)?;
            }
        }
        Ok(())
    }

    /// Says that there is something new.
    pub fn nudge(&self) {
        self.news.notify_one();
    }

    /// What is told when there is something new; one waits for it.
    pub fn news(&self) -> Arc<Notify> {
        self.news.clone()
    }

    /// The oldest events; blocks. What cannot be read is removed, and told.
    pub(crate) fn oldest(&self, most: usize) -> Result<Vec<Event>, Failure> {
        let mut events = Vec::new();
        for found in self.events.iter().take(most) {
            let (place, row) = found?;
            match serde_json::from_slice(&row) {
                Ok(event) => events.push(event),
                Err(error) => {
                    tracing::error!("an event in the outbox cannot be read, and is removed: {error}");
                    self.events.remove(place)?;
                }
            }
        }
        Ok(events)
    }

    /// Removes the events of an org; how many there were. Blocks.
    pub(crate) fn erase(&self, org: OrgId) -> Result<u64, Failure> {
        let mut erased = 0;
        for found in &self.events {
            let (place, row) = found?;
            if serde_json::from_slice::<Event>(&row).is_ok_and(|event| event.org == Some(org)) {
                self.events.remove(place)?;
                erased += 1;
            }
        }
        self.events.flush()?;
        Ok(erased)
    }

    /// Where an event is, in [`Self::tree`].
    pub(crate) fn place(event: EventId) -> [u8; 16] {
        event.number().to_be_bytes()
    }

    fn settled(&self, outcome: Result<(), TransactionError<()>>) -> Result<(), Failure> {
        match outcome {
            // Nobody aborts.
            Ok(()) | Err(TransactionError::Abort(())) => {}
            Err(TransactionError::Storage(error)) => return Err(error.into()),
        }
        self.events.flush()?;
        self.nudge();
        Ok(())
    }
}

impl fmt::Debug for SledOutbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SledOutbox")
    }
}
