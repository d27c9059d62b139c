//! What is known of all secrets, in the embedded database; and what has to be read of many keys, since it is not.
//!
//! Two trees: digests that came in since the filter was written, and a few facts: the name of that filter, and the versions of the pepper
//! under which there were ever secrets.

use std::collections::BTreeMap;
use std::ops::Bound;

use sled::transaction::{ConflictableTransactionError, TransactionalTree};

use crate::clock::Millis;
use crate::data::{Database, Failure};
use crate::id::OrgId;
use crate::key::record::{decoded, encoded};
use crate::key::sled::{SledKeys, decoded_id, org_place};
use crate::key::{Digest, Ended, Kept, StoreError};

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

impl SledKeys {
    /// Some keys whose time ended: see [`crate::key::KeyStore::ended`].
    pub(in crate::key) fn ended_now(
        &self,
        since: Millis,
        until: Millis,
        from: Option<&[u8]>,
        most: usize,
    ) -> Result<Ended, StoreError> {
        let (ids, next) = self.ends.between(since, until, from, most)?;
        let mut keys = Vec::with_capacity(ids.len());
        for id in ids {
            match self.find_now(id) {
                // One that was revoked stands where it was, and not where it would have ended.
                Ok(kept) => {
                    keys.extend(kept.filter(|kept| kept.key.expires().is_some_and(|end| end > since && end <= until)))
                }
                Err(StoreError::Damaged { id }) => {
                    tracing::error!(key = %id, "nobody is told of the end of a key with a damaged record");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Ended { keys, next })
    }

    /// How many secrets that work need each version of the pepper: reads all keys.
    pub(in crate::key) fn needs_now(&self, now: Millis) -> Result<Vec<(u32, u64)>, StoreError> {
        let mut counts = BTreeMap::<u32, u64>::new();
        for found in &self.records {
            let (place, record) = found.map_err(Failure::from)?;
            let id = decoded_id(&place)?;
            let kept = decoded(id, &record).ok_or(StoreError::Damaged { id })?;
            if kept.key.revoked().is_some() || kept.key.is_expired(now) {
                continue;
            }
            let previous = kept.previous.filter(|previous| previous.until > now);
            for secret in [Some(kept.secret), previous.map(|previous| previous.secret)].into_iter().flatten() {
                *counts.entry(secret.pepper).or_default() += 1;
            }
        }
        Ok(counts.into_iter().collect())
    }

    /// Some digests, in order: see [`crate::key::KeyStore::digests`].
    pub(in crate::key) fn digests_now(
        &self,
        after: Option<&Digest>,
        fresh: bool,
        most: usize,
    ) -> Result<Vec<Digest>, StoreError> {
        let tree = if fresh { &self.all.fresh } else { &self.digests };
        let first = after.map_or(Bound::Unbounded, |after| Bound::Excluded(&after.as_bytes()[..]));
        let found = tree.range::<&[u8], _>((first, Bound::Unbounded)).keys().take(most);
        found
            .map(|digest| {
                let digest = digest.map_err(Failure::from)?;
                Ok(Digest::new(digest.as_ref().try_into().map_err(|_| StoreError::DamagedIndex)?))
            })
            .collect()
    }

    /// Puts so many new keys in, in the order of their ids, past the bound of orgs, the audit log and events: for measurements on a store
    /// that nobody else has open yet. Blocks.
    ///
    /// # Errors
    /// Where the database fails.
    #[doc(hidden)]
    pub fn fill(&self, count: u64, kept: impl Fn(u64) -> Kept) -> Result<(), Failure> {
        let mut digests = Vec::new();
        let mut counts = BTreeMap::<OrgId, u64>::new();
        for number in 0..count {
            let kept = kept(number);
            let (id, org) = (kept.key.id, kept.key.org);
            self.records.insert(id.number().to_be_bytes(), encoded(&kept))?;
            self.orgs.insert(org_place(org, id), &[])?;
            *counts.entry(org).or_default() += 1;
            digests.push((*kept.secret.digest.as_bytes(), id));
            self.all.facts.insert(kept.secret.pepper.to_be_bytes(), &[])?;
        }
        digests.sort_unstable_by_key(|(digest, _)| *digest);
        for (digest, id) in digests {
            self.digests.insert(digest, &id.number().to_be_bytes())?;
        }
        for (org, count) in counts {
            self.ends.counts.insert(org.number().to_be_bytes(), &count.to_be_bytes())?;
        }
        self.records.flush()?;
        Ok(())
    }
}
