//! Keys of an org that is erased: they open nothing at once, and go a few at a time, so that nobody waits for long.

use std::sync::Arc;

use super::Issuer;
use super::issue::to_the_end;
use crate::audit::{Note, Who};
use crate::id::OrgId;
use crate::key::StoreError;

impl Issuer {
    /// From now on this org gets no key, and none that it has opens anything, on all workers at once. Holds until the process ends.
    pub async fn close(&self, org: OrgId) {
        self.closed.close(org);
        // Whoever was about to make one has made it then.
        let _settled = self.ring.settled().await;
        self.ring.live().close(org, self.clock.now());
    }

    /// Removes all keys of an org that was closed; how many. Others may change keys between two steps of it.
    ///
    /// # Errors
    /// Where the store fails; what was removed until then stays so.
    pub async fn erase(self: &Arc<Self>, org: OrgId) -> Result<u64, StoreError> {
        let mut erased = 0;
        loop {
            let desk = self.clone();
            let step = to_the_end(async move {
                // No secret is moved to another digest meanwhile.
                let _settled = desk.ring.settled().await;
                let note = Note::new(Who::gateway(), "key.erased", desk.clock.now());
                let step = desk.store.erase(org, note).await?;
                step.keys.iter().for_each(|kept| desk.ring.forget(kept));
                desk.sieve.went(step.keys.iter().map(|kept| kept.secrets().count()).sum());
                Ok::<_, StoreError>(step)
            });
            let step = step.await?;
            erased += step.keys.len() as u64;
            if !step.more {
                return Ok(erased);
            }
        }
    }

    /// Whether an org may get keys.
    ///
    /// # Errors
    /// Where it is being erased, or was.
    pub(super) fn open_for(&self, org: OrgId) -> Result<(), StoreError> {
        if self.closed.has(org) { Err(StoreError::OrgErased { org }) } else { Ok(()) }
    }
}
