//! What is known of all secrets, in the embedded database.
//!
//! Two trees: digests that came in since the filter was written, and a few facts: the name of that filter, and the versions of the pepper
//! under which there were ever secrets.

use sled::transaction::{ConflictableTransactionError, TransactionalTree};

use crate::data::{Database, Failure};
use crate::key::{Digest, StoreError};

/// The name of the filter: no version of a pepper, by its length.
const FILTER: &[u8] = b"filter";
/// Where it is written that all versions are there.
const BUILT: &[u8] = b"peppers";

/// What is known of all secrets. Clones are the same trees.
#[derive(Clone)]
pub(in crate::key) struct SledAll {
    pub(in crate::key) fresh: sled::Tree,
    pub(in crate::key) facts: sled::Tree,
}

impl SledAll {
    /// The trees in this database, which has no key yet or some.
    pub(in crate::key) fn open(database: &Database, has_none: bool) -> Result<Self, Failure> {
        let all = Self { fresh: database.tree("key_fresh")?, facts: database.tree("key_facts")? };
        if has_none {
            all.facts.insert(BUILT, &[])?;
        }
        Ok(all)
    }

    /// One secret more, in a transaction.
    pub(in crate::key) fn begin(
        fresh: &TransactionalTree,
        facts: &TransactionalTree,
        digest: &Digest,
        pepper: u32,
    ) -> Result<(), ConflictableTransactionError<StoreError>> {
        fresh.insert(&digest.as_bytes()[..], &[])?;
        let version = pepper.to_be_bytes();
        if facts.get(version)?.is_none() {
            facts.insert(&version, &[])?;
        }
        Ok(())
    }

    /// The versions of the pepper under which there may be secrets; none where that is not known.
    pub(in crate::key) fn versions(&self) -> Result<Option<Vec<u32>>, Failure> {
        if self.facts.get(BUILT)?.is_none() {
            return Ok(None);
        }
        let mut versions = Vec::new();
        for name in self.facts.iter().keys() {
            versions.extend(<[u8; 4]>::try_from(name?.as_ref()).map(u32::from_be_bytes));
        }
        Ok(Some(versions))
    }

    /// There are secrets under these versions, and under no other one before the last of them.
    pub(in crate::key) fn keep_versions(&self, versions: &[u32]) -> Result<(), Failure> {
        for version in self.versions()?.into_iter().flatten() {
            // Later ones came in meanwhile.
            if !versions.contains(&version) && versions.iter().any(|known| *known > version) {
                self.facts.remove(version.to_be_bytes())?;
            }
        }
        for version in versions {
            self.facts.insert(version.to_be_bytes(), &[])?;
        }
        self.facts.insert(BUILT, &[])?;
        self.facts.flush()?;
        Ok(())
    }

    /// The name of the filter that holds all digests but the fresh ones.
    pub(in crate::key) fn filter(&self) -> Result<Option<u128>, Failure> {
        let name = self.facts.get(FILTER)?;
        Ok(name.and_then(|name| name.as_ref().try_into().ok()).map(u128::from_be_bytes))
    }

    /// This filter is durable, and holds these digests as well.
    pub(in crate::key) fn keep_filter(&self, name: u128, held: &[Digest]) -> Result<(), Failure> {
        self.facts.insert(FILTER, &name.to_be_bytes())?;
        // Before a digest is fresh no more: whoever dies in between reads it twice.
        self.facts.flush()?;
        for digest in held {
            self.fresh.remove(digest.as_bytes())?;
        }
        Ok(())
    }
}
