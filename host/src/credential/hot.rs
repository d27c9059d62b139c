//! How many keys are in memory: those that were used longest ago leave where there are too many.
//!
//! When they were last used is in the store before they go. A key that somebody holds stays the one that there is until they let it go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use papaya::Guard as _;

use super::{Issuer, Keyring, LookUps};
use crate::clock::Millis;
use crate::key::{Key, StoreError};

/// Keys that are looked at to know how long ago the others were used: more say hardly more.
const SAMPLE: usize = 8_192;

#[derive(Debug)]
pub(super) struct Tally {
    /// The most secrets in memory.
    most: AtomicU64,
    evicted: AtomicU64,
}

impl Default for Tally {
    fn default() -> Self {
        Self { most: AtomicU64::new(u64::MAX), evicted: AtomicU64::new(0) }
    }
}

/// What there is in memory, and how often the store was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Secrets that were used or made of late.
    pub hot: u64,
    /// The most of them.
    pub most: u64,
    /// Secrets that left memory since the start.
    pub evicted: u64,
    /// Digests that were added to the filter.
    pub filtered: u64,
    /// Bytes of the filter.
    pub filter_bytes: u64,
    /// Look-ups in the store.
    pub look_ups: LookUps,
}

impl Keyring {
    /// What there is in memory, and how often the store was asked.
    pub fn figures(&self) -> Figures {
        let filter = self.0.filter.load();
        Figures {
            hot: self.hot() as u64,
            most: self.0.tally.most.load(Ordering::Relaxed),
            evicted: self.0.tally.evicted.load(Ordering::Relaxed),
            filtered: filter.added(),
            filter_bytes: filter.bytes(),
            look_ups: self.0.way.figures(),
        }
    }

    /// How many secrets are in memory.
    pub fn hot(&self) -> usize {
        self.0.secrets.len()
    }

    /// What memory alone says of who calls.
    #[cfg(test)]
    pub(crate) fn known<'a>(
        &self,
        fields: impl IntoIterator<Item = &'a [u8]>,
        address: std::net::IpAddr,
        now: Millis,
    ) -> Option<super::Credential> {
        match self.look(fields, address, now) {
            super::Resolved::Now(credential) => Some(credential),
            super::Resolved::Later(_) => None,
        }
    }

    /// Keys that are in memory, in use or not.
    #[cfg(test)]
    pub(super) fn held_keys(&self) -> usize {
        self.live().len()
    }

    /// Takes secrets out of memory, where there are too many, and some more so that it need not be done at once again.
    fn evict(&self) {
        let (there, most) =
            (self.hot(), usize::try_from(self.0.tally.most.load(Ordering::Relaxed)).unwrap_or(usize::MAX));
        if there <= most {
            return;
        }
        let surplus = there - most + most / 16;
        let (secrets, guard) = (&self.0.secrets, self.0.secrets.guard());
        let used = |key: &Key| key.last_used().unwrap_or_default();
        // By digest, which is by chance.
        let mut sample: Vec<Millis> = secrets.values(&guard).take(SAMPLE).map(|held| used(&held.key)).collect();
        sample.sort_unstable();
        let place = (surplus * sample.len() / there).clamp(1, sample.len().max(1)) - 1;
        let Some(until) = sample.get(place).copied() else { return };
        let mut leaving = Vec::new();
        for (digest, held) in secrets.iter(&guard) {
            if leaving.len() >= surplus {
                break;
            }
            if used(&held.key) <= until {
                leaving.push(held.key.id);
                secrets.remove(digest, &guard);
            }
        }
        self.0.tally.evicted.fetch_add(leaving.len() as u64, Ordering::Relaxed);
        self.live().leave(leaving);
        // What was taken out lives on until nobody can be looking at it.
        guard.flush();
    }
}

impl Issuer {
    /// From now on no more secrets are in memory than so many, save for a moment.
    pub fn keep_hot(&self, most: u64) {
        self.ring.0.tally.most.store(most, Ordering::Relaxed);
    }

    /// Lets keys go that were used longest ago, where there are too many. To be called several times a second.
    pub async fn sweep(self: &Arc<Self>) -> Result<(), StoreError> {
        // Nobody saves an older use over a newer one.
        let _saving = self.saving.lock().await;
        self.ring.evict();
        let left = self.ring.live().left();
        if left.is_empty() {
            self.ring.live().let_go_of_scopes();
            return Ok(());
        }
        let used: Vec<_> = left.iter().filter_map(|(id, used)| used.map(|used| (*id, used))).collect();
        let noted = if used.is_empty() { Ok(()) } else { self.store.note_used(used).await };
        // Also where that failed: a time of last use is worth less than memory with a bound.
        self.ring.live().let_go(&left);
        noted
    }
}
