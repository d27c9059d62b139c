//! All limits of this node: finds them by their definition, and forgets buckets that are full again.
//!
//! The same definition always finds the same buckets, so counters outlive the snapshots that refer to them. What
//! identifies a limit is its policy, name, pillar, subject and periods, not its quotas: with a changed quota, what was
//! used stays used. Changed periods begin with full buckets.
//!
//! Bounded: a bucket takes about 110 bytes, its share of the map included. Up to the cap each subject has its own; beyond
//! it, subjects without one share one for each limit, until that is full again. Subjects that a stranger can invent
//! (addresses, custom ones) get at most three quarters of the cap, so that they cannot push out keys and orgs. A subject that
//! changes from the shared bucket to its own while the sweep makes room may gain what is in flight on other workers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::house::{House, SHARDS, Track};
use super::taking::Limit;
use super::{Definition, Invalid, Period, SubjectKind};
use crate::clock::Millis;

/// The limits of this node and their buckets. Limits are found at snapshot time, and shared by all workers.
#[derive(Debug)]
pub struct Local {
    house: Arc<House>,
    known: Mutex<Known>,
}

/// What one slice of the sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Buckets that were full again, and are forgotten.
    pub forgotten: usize,
    /// Buckets that are kept, in all slices together.
    pub kept: usize,
}

/// What identifies the buckets of a limit.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Identity {
    policy: String,
    limit: String,
    pillar: Option<String>,
    subject: SubjectKind,
    periods: Vec<Period>,
}

#[derive(Debug, Default)]
struct Known {
    tracks: HashMap<Identity, Arc<Track>>,
    /// The shard that is swept next.
    cursor: usize,
}

impl Local {
    /// Without any limit yet; never holds more than `max_buckets` buckets.
    pub fn new(max_buckets: usize) -> Self {
        Self { house: Arc::new(House::new(max_buckets)), known: Mutex::default() }
    }

    /// The limit of this definition, with the buckets that it had before, if it was known. Locks: at snapshot time only.
    ///
    /// # Errors
    /// All that is wrong with the definition; see [`Definition::problems`].
    pub fn limit(&self, definition: Definition) -> Result<Arc<Limit>, Invalid> {
        let (definition, rules) = definition.resolve()?;
        let identity = Identity {
            policy: definition.policy.clone(),
            limit: definition.limit.clone(),
            pillar: definition.pillar.clone(),
            subject: definition.subject,
            periods: definition.windows.iter().map(|window| window.per).collect(),
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let track = Arc::clone(known.tracks.entry(identity).or_insert_with(|| Arc::new(Track::new())));
        track.rules().clone_from(&rules);
        Ok(Arc::new(Limit::new(definition, rules, track, Arc::clone(&self.house))))
    }

    /// Forgets the buckets of one slice (one 32nd of all) that are full again. Called by the control runtime, for example
    /// every 250 ms.
    pub fn sweep(&self, now: Millis) -> Swept {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let shard = self.house.shard_at(known.cursor);
        known.cursor = (known.cursor + 1) % SHARDS;
        let mut forgotten = 0;
        for (key, entry) in &shard {
            let (rules, timeline) = (entry.track.rules(), &entry.track.timeline);
            let now = timeline.tick(now).millis();
            entry.bucket.settle(&rules, now, timeline);
            // Nobody puts a new bucket in the place of a closed one before it is removed, and only this loop removes,
            // behind the lock above.
            if entry.bucket.idle(&rules, now) && entry.bucket.close(&rules, now) {
                self.house.remove(&shard, key);
                forgotten += 1;
            }
        }
        if known.cursor == 0 {
            known.tracks.retain(|_, track| {
                let now = track.timeline.tick(now).millis();
                track.shared.settle(&track.rules(), now, &track.timeline);
                // Known here alone: no snapshot refers to it, and it has no bucket of a subject left.
                Arc::strong_count(track) > 1 || !track.shared.idle(&track.rules(), now)
            });
        }
        Swept { forgotten, kept: self.house.len() }
    }
}
