//! Keys that were made elsewhere: their secrets come in, and go on working here.

use std::sync::Arc;

use super::issue::to_the_end;
use super::{IssueError, Issuer, NewKey};
use crate::audit::{Note, Who};
use crate::id::KeyId;
use crate::key::{Kept, Secret, StoreError};

impl Issuer {
    /// The key that has this secret already.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn owner_of(&self, secret: &Secret) -> Result<Option<KeyId>, StoreError> {
        // The oldest first: a secret is moved to a newer pepper only.
        for digest in self.ring.digests_of(secret.reveal().as_bytes()).into_iter().rev() {
            if let Some(id) = self.store.find_by_digest(digest).await? {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Takes keys in with the secrets that they have: all of them, or none. When it returns, they are durable and every
    /// worker knows them.
    pub async fn import(self: &Arc<Self>, keys: Vec<(NewKey, Secret)>, who: Who) -> Result<Vec<Kept>, IssueError> {
        let desk = self.clone();
        to_the_end(async move {
            let now = desk.clock.now();
            let _settled = desk.ring.settled().await;
            keys.iter().try_for_each(|(new, _)| desk.open_for(new.org))?;
            let digested = keys.into_iter().map(|(new, secret)| desk.digested(new, &secret, now));
            let kept: Vec<Kept> = digested.collect::<Result<_, _>>()?;
            desk.store.insert(kept.clone(), desk.most(), Note::new(who, "key.imported", now)).await?;
            tracing::info!(keys = kept.len(), "imported keys");
            let shared = |kept: Kept| Kept { key: desk.ring.add(&kept), ..kept };
            Ok(kept.into_iter().map(shared).collect())
        })
        .await
    }
}
