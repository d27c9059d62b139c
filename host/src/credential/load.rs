//! Answers workers that ask what a secret opens: reads its key from the store, and brings it into memory.
//!
//! One digest is looked up once, however many ask for it at the same time. What was changed while it was read is read again.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use super::cold::{Ask, Digests, Told};
use super::{Held, Issuer, Keyring, Unavailable};
use crate::id::KeyId;
use crate::key::{Digest, Kept, StoreError};

/// Look-ups in the store at once.
const AT_ONCE: usize = 32;
/// How often one is begun anew, since the key changed meanwhile.
const ATTEMPTS: u32 = 32;
/// Before it is begun anew for the first time; then after twice that, three times, and so on.
const PAUSE: Duration = Duration::from_millis(2);
/// Between two lines about look-ups that fail.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

impl Issuer {
    /// Answers workers until they are gone. To be called once.
    pub async fn answer(self: Arc<Self>) {
        let Some(mut asked) = self.ring.asked() else { return };
        let mut waiting: HashMap<Digest, Vec<tokio::sync::oneshot::Sender<Told>>> = HashMap::new();
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                ask = asked.recv(), if running.len() < AT_ONCE => {
                    let Some(Ask { digests, answer }) = ask else { return };
                    let Some(newest) = digests.first().copied() else { continue };
                    if answer.is_closed() {
                        continue;
                    }
                    let others = waiting.entry(newest).or_default();
                    others.push(answer);
                    if others.len() == 1 {
                        let desk = self.clone();
                        running.spawn(async move {
                            // One that panicked says nothing of the key.
                            let told = tokio::spawn(async move { desk.look_up(&digests).await }).await;
                            (newest, told.unwrap_or(Err(Unavailable)))
                        });
                    }
                }
                Some(done) = running.join_next() => {
                    let Ok((newest, told)) = done else { continue };
                    for answer in waiting.remove(&newest).into_iter().flatten() {
                        // Whoever asked may have left meanwhile.
                        let _ = answer.send(told.clone());
                    }
                }
            }
        }
    }

    async fn look_up(&self, digests: &Digests) -> Told {
        let counts = &self.ring.0.way.counts;
        let loaded = self.load(digests).await;
        match &loaded {
            Ok(Some(_)) => counts.found.fetch_add(1, Ordering::Relaxed),
            Ok(None) => counts.nobody.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                self.tell(error);
                counts.failed.fetch_add(1, Ordering::Relaxed)
            }
        };
        loaded.map_err(|_| Unavailable)
    }

    /// Says that a look-up failed, once in a while: there may be many.
    fn tell(&self, error: &StoreError) {
        let now = self.clock.now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| now.since(told) >= TOLD_AGAIN) {
            *told = Some(now);
            tracing::error!(
                "keys cannot be looked up, and whoever comes with one that was not used of late gets 503: {error}"
            );
        }
    }

    /// What one of these digests opens, from the store; in memory since.
    pub(super) async fn load(&self, digests: &[Digest]) -> Result<Option<(Held, Digest)>, StoreError> {
        let mut missed = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(PAUSE * attempt).await;
            }
            if let Some(found) = self.ring.hot_of(digests) {
                return Ok(Some(found));
            }
            let additions = self.ring.live().additions;
            let Some((id, digest)) = self.first_of(digests).await? else {
                self.ring.note_strangers(digests, additions);
                return Ok(None);
            };
            let loading = Loading::begin(&self.ring, id);
            let Some(kept) = self.store.find(id).await? else {
                drop(loading);
                // Twice, so it was not forgotten in between: what is left of a key that could not be read opens nothing.
                if missed.replace(digest) == Some(digest) {
                    self.ring.note_strangers(digests, additions);
                    return Ok(None);
                }
                continue;
            };
            if let Some(held) = loading.end(kept, digest) {
                return Ok(Some((held, digest)));
            }
        }
        // Its record says otherwise than the index, or it is changed all the time.
        Err(StoreError::Unsettled)
    }

    async fn first_of(&self, digests: &[Digest]) -> Result<Option<(KeyId, Digest)>, StoreError> {
        // The oldest first: a secret is moved to a newer one only.
        for digest in digests.iter().rev() {
            if let Some(id) = self.store.find_by_digest(*digest).await? {
                return Ok(Some((id, *digest)));
            }
        }
        Ok(None)
    }
}

/// A key is being read; whoever changes it sees that.
struct Loading<'a> {
    ring: &'a Keyring,
    id: KeyId,
    is_over: bool,
}

impl<'a> Loading<'a> {
    fn begin(ring: &'a Keyring, id: KeyId) -> Self {
        ring.live().begin_loading(id);
        Self { ring, id, is_over: false }
    }

    /// Takes the key in, where nobody changed it meanwhile; and what this digest of it opens.
    fn end(mut self, kept: Kept, digest: Digest) -> Option<Held> {
        self.is_over = true;
        let mut live = self.ring.live();
        let holds = live.end_loading(self.id);
        // One that was moved or rotated away before it was read is looked for anew.
        if !holds || !kept.secrets().any(|secret| secret.digest == digest) {
            return None;
        }
        let key = self.ring.take_in(&mut live, &kept);
        let present = key.generation();
        let generation = if kept.secret.digest == digest { present } else { present.saturating_sub(1) };
        Some(Held { key, generation })
    }
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.ring.live().end_loading(self.id);
        }
    }
}
