//! Spaces in one tree of sled.
//!
//! Writes are not flushed: the database does so every 500 ms. Damaged rows are kept in a tree beside it, up to a bound.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use sled::Tree;

use super::spaces::{Rows, Spaces};
use super::{Entry, Error, Failure, Held, KvStore, Pending, row};
use crate::clock::Millis;
use crate::config::StoreGrant;
use crate::data::{self, Database};

/// Damaged rows that are kept to be looked at; what is beyond is dropped.
const MAX_ASIDE: usize = 1_000;

/// Spaces in the embedded database.
#[derive(Debug, Clone)]
pub struct SledKv(Arc<Spaces<Trees>>);

/// The rows, and what of them turned out damaged.
#[derive(Clone)]
pub(super) struct Trees {
    tree: Tree,
    aside: Tree,
}

/// Why the spaces could not be counted at start.
#[derive(Debug, thiserror::Error)]
#[error("the key-value store could not be read")]
pub struct Unreadable(#[source] Failure);

impl SledKv {
    /// On the database of a data directory. Reads all of it once, to count what the spaces hold.
    ///
    /// # Errors
    /// Those of the database.
    pub fn open(database: &Database) -> Result<Self, Unreadable> {
        let trees = Trees::open(database).map_err(|failure| Unreadable(failure.into()))?;
        match trees.aside.len() {
            0 => {}
            rows => tracing::warn!(rows, "damaged rows of the key-value store are kept aside in the tree `kv-damaged`"),
        }
        Ok(Self(Arc::new(Spaces::open(trees).map_err(Unreadable)?)))
    }

    /// Does work that may wait for the disk, beside the control runtime.
    fn pending<T, F>(&self, work: F) -> Pending<'static, T>
    where
        T: Send + 'static,
        F: FnOnce(&Spaces<Trees>) -> Result<T, Error> + Send + 'static,
    {
        let spaces = self.0.clone();
        Box::pin(async move {
            let work = tokio::task::spawn_blocking(move || work(&spaces));
            work.await.map_err(|error| Error::Unavailable(error.into()))?
        })
    }
}

impl KvStore for SledKv {
    fn get(&self, space: &str, key: String, now: Millis) -> Pending<'_, Option<Vec<u8>>> {
        let space = space.to_owned();
        self.pending(move |spaces| spaces.get(&space, &key, now))
    }

    fn set(&self, grant: &StoreGrant, key: String, entry: Entry, now: Millis) -> Pending<'_, ()> {
        let grant = grant.clone();
        self.pending(move |spaces| spaces.set(&grant, &key, &entry, now))
    }

    fn remove(&self, space: &str, key: String) -> Pending<'_, ()> {
        let space = space.to_owned();
        self.pending(move |spaces| spaces.remove(&space, &key))
    }

    fn sweep(&self, now: Millis) -> Pending<'_, u64> {
        Box::pin(async move {
            let (mut swept, mut outcome) = (0, Ok(()));
            for space in self.0.held().into_keys() {
                loop {
                    let space = space.clone();
                    match self.pending(move |spaces| spaces.sweep(&space, now)).await {
                        Ok((removed, more)) => {
                            swept += removed;
                            if !more {
                                break;
                            }
                        }
                        // The other spaces still get their turn.
                        Err(error) => {
                            outcome = Err(error);
                            break;
                        }
                    }
                }
            }
            outcome.map(|()| swept)
        })
    }

    fn spaces(&self) -> BTreeMap<Arc<str>, Held> {
        self.0.held()
    }
}

impl Trees {
    pub(super) fn open(database: &Database) -> Result<Self, data::Failure> {
        Ok(Self { tree: database.tree("kv")?, aside: database.tree("kv-damaged")? })
    }

    /// Damaged rows that are kept.
    #[cfg(test)]
    pub(super) fn aside(&self) -> usize {
        self.aside.len()
    }
}

impl std::fmt::Debug for Trees {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its own output would show what policies keep.
        f.write_str("Trees")
    }
}

impl Rows for Trees {
    fn get(&self, key: &[u8]) -> Result<Option<impl AsRef<[u8]>>, Failure> {
        Ok(self.tree.get(key)?)
    }

    fn insert(&self, key: &[u8], row: Vec<u8>) -> Result<(), Failure> {
        self.tree.insert(key, row)?;
        Ok(())
    }

    fn remove(&self, key: &[u8]) -> Result<(), Failure> {
        self.tree.remove(key)?;
        Ok(())
    }

    fn scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        mut see: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Failure> {
        let rows = match to {
            Some(to) => self.tree.range(from..to),
            None => self.tree.range(from..),
        };
        for found in rows {
            let (key, row) = found?;
            if see(&key, &row).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn set_aside(&self, key: &[u8]) -> Result<(), Failure> {
        let Some(damaged) = self.tree.get(key)? else { return Ok(()) };
        let kept = self.aside.len() < MAX_ASIDE;
        if kept {
            // The same row may be damaged again, in another way. It is there twice before it is there once.
            let mut place = key.to_vec();
            place.extend(crc32fast::hash(&damaged).to_be_bytes());
            self.aside.insert(place, &damaged)?;
        }
        self.tree.remove(key)?;
        // Keys are a policy's own business, and may be secrets.
        tracing::error!(
            space = row::read_place(key).map(|(space, _)| space),
            bytes = damaged.len(),
            kept,
            "a row of the key-value store is damaged and counts no longer; where it was kept, it is in the tree `kv-damaged`"
        );
        Ok(())
    }
}
