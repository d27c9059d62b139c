//! Keys whose time is over, for whoever is to be told.

use super::Issuer;
use crate::clock::Millis;
use crate::key::{self, StoreError};
use crate::outbox::Event;

/// Keys that are read at once.
const BATCH: usize = 500;

impl Issuer {
    /// Calls back with events of keys whose time ended after `since`, and not after `until`: some at a time, each once.
    ///
    /// # Errors
    /// Where the store fails, or whoever is called back.
    pub async fn ended<E: From<StoreError>>(
        &self,
        since: Millis,
        until: Millis,
        mut tell: impl FnMut(Vec<Event>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut after = None;
        loop {
            let step = self.store.ended(since, until, after, BATCH).await?;
            // As they are in memory: one that was revoked before its end is told of as that.
            let kept = step.keys.into_iter().map(|kept| self.ring.shared(kept));
            let events: Vec<Event> = kept.filter_map(|kept| key::expired(&kept)).collect();
            if !events.is_empty() {
                tell(events)?;
            }
            match step.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }
}
