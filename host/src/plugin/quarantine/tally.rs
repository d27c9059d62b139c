//! How often waits began and probes went, since the record of the policy began.
//!
//! Touched only where a wait begins or a probe goes, never by calls of callers that have nothing against them.

use super::{Change, Changes};
use std::sync::atomic::{AtomicU64, Ordering};

/// What there was of waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tallies {
    /// Waits of one caller that began; one that a failed probe prolongs is still the same.
    pub callers: u64,
    /// Waits of all callers with a key that began.
    pub with_key: u64,
    /// Waits of all callers without a key that began.
    pub without_key: u64,
    /// Calls that were let through to find out whether all is well again.
    pub probes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    callers: AtomicU64,
    wholes: [AtomicU64; 2],
    probes: AtomicU64,
}

impl Tally {
    /// The end of a call of such a caller changed this.
    pub(super) fn began(&self, group: usize, changes: Changes) {
        let began = |change| u64::from(matches!(change, Change::Began(_)));
        self.callers.fetch_add(began(changes.caller), Ordering::Relaxed);
        self.wholes[group].fetch_add(began(changes.whole), Ordering::Relaxed);
    }

    pub(super) fn probe(&self) {
        self.probes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Tallies {
        let [with_key, without_key] = self.wholes.each_ref().map(|times| times.load(Ordering::Relaxed));
        let [callers, probes] = [&self.callers, &self.probes].map(|times| times.load(Ordering::Relaxed));
        Tallies { callers, with_key, without_key, probes }
    }
}
