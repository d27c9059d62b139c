//! Windows below a minute: the generic cell rate algorithm.
//!
//! The state is one instant, in nanoseconds since 1970: when the bucket will be full again. Each taking moves it on by
//! `period / quota`, rounded up, and it may lie at most one period ahead. So a full bucket grants exactly the quota at
//! once, and in any time `t` at most `quota + quota * t / period` are granted. Being an instant, it does not depend on
//! the quota: a changed quota finds the bucket filled by the same fraction.

use super::rule::Step;

/// The largest quota. Beyond it, rounding an interval up to a whole nanosecond would cost more than 0.1 percent.
pub(super) const MAX_QUOTA: u64 = 1_000_000;

const NANOS_PER_MILLI: u64 = 1_000_000;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The rule of one window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gcra {
    /// Nanoseconds from one to the next.
    interval: u64,
    /// Nanoseconds for the whole quota.
    capacity: u64,
    quota: u64,
}

impl Gcra {
    /// `seconds` is 1 to 59, `quota` 1 to [`MAX_QUOTA`].
    pub(super) fn new(seconds: u32, quota: u64) -> Self {
        let interval = (u64::from(seconds) * NANOS_PER_SECOND).div_ceil(quota);
        Self { interval, capacity: interval * quota, quota }
    }

    /// What a taking of `cost` does to `state` at `now` (milliseconds).
    pub(super) fn step(&self, state: u64, cost: u32, now: u64) -> Step {
        let now = now * NANOS_PER_MILLI;
        let empty = now + self.capacity;
        if state > empty {
            return Step::Rebase(empty);
        }
        let cost = u64::from(cost);
        if cost > self.quota {
            return Step::Refuse;
        }
        let next = state.max(now) + cost * self.interval;
        if next > empty { Step::Refuse } else { Step::Grant(next) }
    }

    /// How many may be taken at `now`.
    pub(super) fn remaining(&self, state: u64, now: u64) -> u64 {
        let now = now * NANOS_PER_MILLI;
        (now + self.capacity).saturating_sub(state.max(now)) / self.interval
    }

    /// Seconds until the bucket is full.
    pub(super) fn reset(&self, state: u64, now: u64) -> u64 {
        state
            .min(now * NANOS_PER_MILLI + self.capacity)
            .saturating_sub(now * NANOS_PER_MILLI)
            .div_ceil(NANOS_PER_SECOND)
    }

    /// Milliseconds until `cost` can be taken; until the bucket is full where it never can.
    pub(super) fn wait(&self, state: u64, cost: u32, now: u64) -> u64 {
        let now = now * NANOS_PER_MILLI;
        let empty = now + self.capacity;
        let needed = u64::from(cost).min(self.quota) * self.interval;
        (state.clamp(now, empty) + needed).saturating_sub(empty).div_ceil(NANOS_PER_MILLI)
    }

    /// The state after giving `cost` back, `elapsed` milliseconds after it was taken.
    ///
    /// What time has given back meanwhile may already have been taken again, or lost because the bucket was full; so it
    /// is not given back twice. Without time between, this is exact.
    pub(super) fn back(&self, state: u64, cost: u32, elapsed: u64) -> u64 {
        let taken = u64::from(cost).saturating_mul(self.interval);
        state.saturating_sub(taken.saturating_sub(elapsed.saturating_mul(NANOS_PER_MILLI)))
    }

    /// A full bucket at `now`.
    pub(super) fn full(now: u64) -> u64 {
        now * NANOS_PER_MILLI
    }

    /// Whether the bucket is full at `now`.
    pub(super) fn idle(state: u64, now: u64) -> bool {
        state <= now * NANOS_PER_MILLI
    }
}
