//! The store of orgs in the embedded database: one tree, by id.
//!
//! There are few orgs and only the admin API asks for them, so a slug is looked for one by one.

use std::fmt;

use super::{Answer, DEFAULT, Org, OrgStore, StoreError};
use crate::clock::Millis;
use crate::data::{Database, Failure};
use crate::id::OrgId;

const ADMIN: &[u8] = b"super";

/// Orgs in the embedded database.
#[derive(Clone)]
pub struct SledOrgs {
    orgs: sled::Tree,
}

impl SledOrgs {
    /// The orgs in this database; the org `default` is made where it is missing.
    pub fn open(database: &Database, now: Millis) -> Result<Self, StoreError> {
        let store = Self { orgs: database.tree("orgs")? };
        if store.find_now(DEFAULT)?.is_none() {
            store.keep(&Org {
                id: OrgId::fresh(now)?,
                slug: DEFAULT.to_owned(),
                name: "Default".to_owned(),
                created: now,
            })?;
        }
        Ok(store)
    }

    fn keep(&self, org: &Org) -> Result<(), StoreError> {
        let record = serde_json::to_vec(org).map_err(|_| StoreError::Damaged)?;
        self.orgs.insert(org.id.number().to_be_bytes(), record).map_err(Failure::from)?;
        self.orgs.flush().map_err(Failure::from)?;
        Ok(())
    }

    fn find_now(&self, slug_or_id: &str) -> Result<Option<Org>, StoreError> {
        if let Ok(id) = slug_or_id.parse::<OrgId>() {
            let record = self.orgs.get(id.number().to_be_bytes()).map_err(Failure::from)?;
            return record.map(|bytes| decoded(&bytes)).transpose();
        }
        Ok(self.all_now()?.into_iter().find(|org| org.slug == slug_or_id))
    }

    fn all_now(&self) -> Result<Vec<Org>, StoreError> {
        self.orgs.iter().values().map(|record| decoded(&record.map_err(Failure::from)?)).collect()
    }
}

impl OrgStore for SledOrgs {
    fn find(&self, slug_or_id: &str) -> Answer<'_, Option<Org>> {
        let (store, wanted) = (self.clone(), slug_or_id.to_owned());
        Box::pin(async move {
            tokio::task::spawn_blocking(move || store.find_now(&wanted)).await.map_err(|_| StoreError::Closing)?
        })
    }

    fn all(&self) -> Answer<'_, Vec<Org>> {
        let store = self.clone();
        Box::pin(
            async move { tokio::task::spawn_blocking(move || store.all_now()).await.map_err(|_| StoreError::Closing)? },
        )
    }
}

impl fmt::Debug for SledOrgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SledOrgs")
    }
}

fn decoded(record: &[u8]) -> Result<Org, StoreError> {
    serde_json::from_slice(record).map_err(|_| StoreError::Damaged)
}

/// The digest of the super-admin's token, where one was made.
pub(super) fn admin_digest(database: &Database) -> Result<Option<Vec<u8>>, Failure> {
    Ok(database.tree("admins")?.get(ADMIN)?.map(|bytes| bytes.to_vec()))
}

/// Keeps the digest of the super-admin's token; durable when it returns.
pub(super) fn keep_admin_digest(database: &Database, digest: &[u8]) -> Result<(), Failure> {
    let tree = database.tree("admins")?;
    tree.insert(ADMIN, digest)?;
    tree.flush()?;
    Ok(())
}
