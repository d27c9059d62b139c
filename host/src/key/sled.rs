//! The store of keys in the embedded database.
//!
//! Four trees: records by id; ids by digest; ids by org; and when a key was last used, apart, because that changes all
//! the time and may be lost. Everything else is flushed before it is acknowledged.

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sled::Transactional;
use sled::transaction::{ConflictableTransactionError, TransactionError};

use super::{Answer, Digest, Kept, Key, KeyStore, Mode, Page, Scopes, StoreError, Terms};
use crate::clock::Millis;
use crate::data::{Database, Failure};
use crate::id::{KeyId, OrgId};

/// Keys in the embedded database.
#[derive(Clone)]
pub struct SledKeys {
    records: sled::Tree,
    digests: sled::Tree,
    orgs: sled::Tree,
    used: sled::Tree,
}

/// A key as it is written: JSON, so that a later version reads what this one wrote.
#[derive(Serialize, Deserialize)]
struct Record {
    org: OrgId,
    name: Box<str>,
    mode: Mode,
    scopes: Vec<String>,
    #[serde(default)]
    networks: Vec<String>,
    created: Millis,
    #[serde(default)]
    expires: Option<Millis>,
    #[serde(default)]
    revoked: Option<Millis>,
    last_four: String,
    pepper: u32,
    digest: Vec<u8>,
}

impl SledKeys {
    /// The keys in this database.
    pub fn open(database: &Database) -> Result<Self, Failure> {
        Ok(Self {
            records: database.tree("keys")?,
            digests: database.tree("key_digests")?,
            orgs: database.tree("key_orgs")?,
            used: database.tree("key_used")?,
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

    fn insert_now(&self, kept: &Kept) -> Result<(), StoreError> {
        let id = kept.key.id.number().to_be_bytes();
        let record = encoded(kept);
        let place = org_place(kept.key.org, kept.key.id);
        let outcome = (&self.records, &self.digests, &self.orgs).transaction(|(records, digests, orgs)| {
            if let Some(taken) = digests.insert(&kept.digest.as_bytes()[..], &id)? {
                return Err(ConflictableTransactionError::Abort(taken));
            }
            records.insert(&id, &record[..])?;
            orgs.insert(&place[..], &[])?;
            Ok(())
        });
        match outcome {
            Ok(()) => {}
            Err(TransactionError::Abort(taken)) => return Err(StoreError::Taken { id: decoded_id(&taken)? }),
            Err(TransactionError::Storage(error)) => return Err(Failure::from(error).into()),
        }
        self.records.flush().map_err(Failure::from)?;
        Ok(())
    }

    fn find_now(&self, id: KeyId) -> Result<Option<Kept>, StoreError> {
        let record = self.records.get(id.number().to_be_bytes()).map_err(Failure::from)?;
        record.map(|bytes| self.restored(id, &bytes)).transpose()
    }

    fn revoke_now(&self, id: KeyId, now: Millis) -> Result<Option<Kept>, StoreError> {
        let place = id.number().to_be_bytes();
        loop {
            let Some(old) = self.records.get(place).map_err(Failure::from)? else { return Ok(None) };
            let kept = self.restored(id, &old)?;
            if kept.key.revoked().is_none() {
                kept.key.revoke(now);
                let swapped =
                    self.records.compare_and_swap(place, Some(&old), Some(encoded(&kept))).map_err(Failure::from)?;
                if swapped.is_err() {
                    continue;
                }
            }
            // Also for one that was revoked before: it may be the answer that got lost, not the request.
            self.records.flush().map_err(Failure::from)?;
            return Ok(Some(kept));
        }
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
    fn insert(&self, kept: Kept) -> Answer<'_, ()> {
        self.work(move |trees| trees.insert_now(&kept))
    }

    fn find(&self, id: KeyId) -> Answer<'_, Option<Kept>> {
        self.work(move |trees| trees.find_now(id))
    }

    fn revoke(&self, id: KeyId, now: Millis) -> Answer<'_, Option<Kept>> {
        self.work(move |trees| trees.revoke_now(id, now))
    }

    fn page(&self, org: Option<OrgId>, after: Option<KeyId>, limit: usize) -> Answer<'_, Page> {
        self.work(move |trees| trees.page_now(org, after, limit))
    }

    fn note_used(&self, used: Vec<(KeyId, Millis)>) -> Answer<'_, ()> {
        self.work(move |trees| trees.note_used_now(&used))
    }
}

impl fmt::Debug for SledKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SledKeys")
    }
}

fn org_place(org: OrgId, id: KeyId) -> [u8; 32] {
    let mut place = [0; 32];
    place[..16].copy_from_slice(&org.number().to_be_bytes());
    place[16..].copy_from_slice(&id.number().to_be_bytes());
    place
}

fn decoded_id(bytes: &[u8]) -> Result<KeyId, StoreError> {
    let number = bytes.try_into().map_err(|_| StoreError::DamagedIndex)?;
    Ok(KeyId::from_number(u128::from_be_bytes(number)))
}

fn encoded(kept: &Kept) -> Vec<u8> {
    let key = &kept.key;
    let record = Record {
        org: key.org,
        name: key.terms.name.clone(),
        mode: key.terms.mode,
        scopes: key.terms.scopes.iter().map(str::to_owned).collect(),
        networks: key.terms.networks.iter().map(IpNet::to_string).collect(),
        created: key.created,
        expires: key.terms.expires,
        revoked: key.revoked(),
        last_four: String::from_utf8_lossy(&key.last_four).into_owned(),
        pepper: key.pepper,
        digest: kept.digest.as_bytes().to_vec(),
    };
    serde_json::to_vec(&record).expect("a record is strings and numbers")
}

/// Nothing where any part makes no sense: half a record could be a key without its bounds.
fn decoded(id: KeyId, bytes: &[u8]) -> Option<Kept> {
    let record: Record = serde_json::from_slice(bytes).ok()?;
    let networks: Result<Box<[IpNet]>, _> = record.networks.iter().map(|text| text.parse()).collect();
    let terms = Terms {
        name: record.name,
        mode: record.mode,
        scopes: Scopes::new(record.scopes.iter().map(String::as_str)),
        networks: networks.ok()?,
        expires: record.expires,
    };
    let last_four = record.last_four.as_bytes().try_into().ok()?;
    let key = Key::new(id, record.org, terms, record.created, last_four, record.pepper);
    if let Some(revoked) = record.revoked {
        key.revoke(revoked);
    }
    Some(Kept { digest: Digest::new(record.digest.try_into().ok()?), key: Arc::new(key) })
}

#[cfg(test)]
impl SledKeys {
    /// Damages the record of a key: one text in it becomes another.
    pub(super) fn spoil(&self, id: KeyId, from: &str, to: &str) {
        let place = id.number().to_be_bytes();
        let record = self.records.get(place).unwrap().unwrap();
        let text = String::from_utf8(record.to_vec()).unwrap();
        assert!(text.contains(from));
        self.records.insert(place, text.replace(from, to).as_bytes()).unwrap();
    }
}
