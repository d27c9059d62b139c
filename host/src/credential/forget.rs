//! Keys that ended long ago go: from memory and from the store, a few at a time, so that nobody waits for long.

use std::sync::Arc;

use super::Issuer;
use super::issue::to_the_end;
use crate::audit::{Note, Who};
use crate::clock::Millis;
use crate::key::StoreError;

impl Issuer {
    /// Forgets keys that ended before this instant; how many. Others may change keys between two steps of it.
    ///
    /// # Errors
    /// Where the store fails; what was forgotten until then stays so.
    pub async fn forget_ended(self: &Arc<Self>, before: Millis) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        loop {
            let desk = self.clone();
            let step = to_the_end(async move {
                // No secret is moved to another digest meanwhile.
                let _settled = desk.ring.settled().await;
                let note = Note::new(Who::gateway(), "key.forgotten", desk.clock.now());
                let step = desk.store.forget(before, note).await?;
                step.keys.iter().for_each(|kept| desk.ring.forget(kept));
                desk.sieve.went(step.keys.iter().map(|kept| kept.secrets().count()).sum());
                Ok::<_, StoreError>(step)
            });
            let step = step.await?;
            forgotten += step.keys.len() as u64;
            if !step.more {
                break;
            }
        }
        if forgotten > 0 {
            tracing::info!(keys = forgotten, "forgot keys that ended long ago");
        }
        Ok(forgotten)
    }
}
