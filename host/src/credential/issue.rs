//! Issues, shows and revokes keys: the store and the memory of the workers, kept as one.
//!
//! A new key is durable before anyone gets its secret; a revoked one is refused before the store is asked to remember.

use std::sync::{Arc, Mutex, PoisonError};

use super::Keyring;
use crate::clock::{Clock, Millis};
use crate::id::{KeyId, NoRandomness, OrgId};
use crate::key::{Kept, Key, KeyStore, Page, Secret, StoreError, Terms};

/// How many keys are read at once.
const BATCH: usize = 1_000;

/// The desk where keys are made and ended. Called on the control runtime only.
#[derive(Debug)]
pub struct Issuer {
    store: Arc<dyn KeyStore>,
    ring: Keyring,
    clock: Clock,
    /// Uses up to here are in the store.
    saved: Mutex<Millis>,
}

/// A key that has just been made, with its secret: shown this once.
#[derive(Debug)]
pub struct Issued {
    /// The key.
    pub key: Arc<Key>,
    /// Its secret.
    pub secret: Secret,
}

/// Why no key was made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The store failed.
    #[error("the new key cannot be stored")]
    Store(#[from] StoreError),
    /// No chance to be had.
    #[error("no secret can be made")]
    Randomness(#[from] NoRandomness),
    /// The ring was made without a pepper.
    #[error("there is no pepper to store a key under")]
    NoPepper,
}

impl Issuer {
    /// Brings all keys of the store into the ring.
    pub async fn open(store: Arc<dyn KeyStore>, ring: Keyring, clock: Clock) -> Result<Self, StoreError> {
        let mut after = None;
        loop {
            let page = store.page(None, after, BATCH).await?;
            after = page.keys.last().map(|kept| kept.key.id);
            for kept in page.keys {
                ring.add(kept);
            }
            if !page.more {
                break;
            }
        }
        let saved = Mutex::new(clock.now());
        Ok(Self { store, ring, clock, saved })
    }

    /// Makes a key. When it returns, the key is durable and every worker knows it.
    pub async fn issue(&self, org: OrgId, terms: Terms) -> Result<Issued, IssueError> {
        let pepper = self.ring.newest().ok_or(IssueError::NoPepper)?;
        let now = self.clock.now();
        let secret = Secret::mint(terms.mode)?;
        let digest = pepper.digest(secret.reveal().as_bytes());
        let key = Key::new(KeyId::fresh(now)?, org, terms, now, secret.last_four(), pepper.version());
        let kept = Kept { digest, key: Arc::new(key) };
        self.store.insert(kept.clone()).await?;
        let key = self.ring.add(kept);
        tracing::info!(key = %key.id, org = %key.org, mode = key.terms.mode.name(), "issued a key");
        Ok(Issued { key, secret })
    }

    /// Revokes a key, on all workers at once; a revoked one stays as it is. None where there is no such key.
    ///
    /// An error says that the store does not know: the key is refused from now on, but would be valid after a restart.
    pub async fn revoke(&self, id: KeyId) -> Result<Option<Arc<Key>>, StoreError> {
        let key = match self.store.find(id).await {
            Ok(Some(kept)) => self.ring.add(kept),
            Ok(None) => return Ok(None),
            Err(error) => {
                // The store says nothing, but memory can refuse; slow, and only while the store is down.
                self.ring.each(|key| {
                    if key.id == id {
                        key.revoke(self.clock.now());
                    }
                });
                return Err(error);
            }
        };
        key.revoke(self.clock.now());
        self.store.revoke(id, key.revoked().unwrap_or_default()).await?;
        tracing::info!(key = %key.id, org = %key.org, "revoked a key");
        Ok(Some(key))
    }

    /// The key with this id, as the workers see it.
    pub async fn find(&self, id: KeyId) -> Result<Option<Arc<Key>>, StoreError> {
        Ok(self.store.find(id).await?.map(|kept| self.ring.add(kept)))
    }

    /// At most `limit` keys after the key `after`, of one org or of all, oldest first; and whether there are more.
    pub async fn page(
        &self,
        org: Option<OrgId>,
        after: Option<KeyId>,
        limit: usize,
    ) -> Result<(Vec<Arc<Key>>, bool), StoreError> {
        let Page { keys, more } = self.store.page(org, after, limit).await?;
        Ok((keys.into_iter().map(|kept| self.ring.add(kept)).collect(), more))
    }

    /// Writes down when keys were last used, for those used since the last time. To be called every minute or so.
    pub async fn save_used(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let since = *self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let mut used = Vec::new();
        self.ring.each(|key| used.extend(key.last_used().filter(|at| *at >= since).map(|at| (key.id, at))));
        if !used.is_empty() {
            self.store.note_used(used).await?;
        }
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = now;
        Ok(())
    }
}
