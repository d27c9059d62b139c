//! The rule of one window: which algorithm counts over its period.
//!
//! Pure: a state goes in, a state comes out; the atomics are in [`super::bucket`]. A state of 0 is a bucket that was never used,
//! under every rule, and no rule ever makes a state with all bits set.

use super::calendar::Calendar;
use super::gcra::Gcra;
use super::sliding::Sliding;
use super::{Period, State, Window};

/// From so many seconds on, a window slides by two counters.
pub(super) const SLIDING_FROM: u32 = 60;

/// What taking does to a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// There is room; this is the state afterwards.
    Grant(u64),
    /// There is none.
    Refuse,
    /// The state lies ahead of `now`. Where that is not because the caller is late, the clock was set back: then put this
    /// one in its place, and look again.
    Rebase(u64),
}

/// How one window counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// Below a minute.
    Gcra(Gcra),
    /// From a minute to a day.
    Sliding(Sliding),
    /// A month.
    Calendar(Calendar),
}

impl Rule {
    /// The rule of a window that was found valid.
    pub(super) fn new(window: &Window) -> Self {
        match window.per {
            Period::Seconds(seconds) if seconds < SLIDING_FROM => Self::Gcra(Gcra::new(seconds, window.quota)),
            Period::Seconds(seconds) => Self::Sliding(Sliding::new(seconds, window.quota)),
            Period::Month => Self::Calendar(Calendar::new(window.quota)),
        }
    }

    /// What a taking of `cost` does to `state` at `now` (milliseconds).
    pub(super) fn step(&self, state: u64, cost: u32, now: u64) -> Step {
        match self {
            Self::Gcra(rule) => rule.step(state, cost, now),
            Self::Sliding(rule) => rule.step(state, cost, now),
            Self::Calendar(rule) => rule.step(state, cost, now),
        }
    }

    /// What clients are told about `state` at `now`.
    pub(super) fn report(&self, state: u64, now: u64) -> State {
        let (remaining, seconds) = match self {
            Self::Gcra(rule) => (rule.remaining(state, now), rule.reset(state, now)),
            Self::Sliding(rule) => (rule.remaining(state, now), rule.reset(state, now)),
            Self::Calendar(rule) => rule.report(state, now),
        };
        State { remaining, reset: u32::try_from(seconds).unwrap_or(u32::MAX) }
    }

    /// Milliseconds until `cost` can be taken.
    pub(super) fn wait(&self, state: u64, cost: u32, now: u64) -> u64 {
        match self {
            Self::Gcra(rule) => rule.wait(state, cost, now),
            Self::Sliding(rule) => rule.wait(state, cost, now),
            Self::Calendar(rule) => rule.wait(state, cost, now),
        }
    }

    /// The state after giving back `cost`, taken at `at`; by now `elapsed` milliseconds have passed.
    pub(super) fn back(&self, state: u64, cost: u32, at: u64, elapsed: u64) -> u64 {
        match self {
            Self::Gcra(rule) => rule.back(state, cost, elapsed),
            Self::Sliding(rule) => rule.back(state, cost, at),
            Self::Calendar(_) => Calendar::back(state, cost, at),
        }
    }

    /// A full bucket at `now`. Unlike 0, it is known to be full at no earlier time: a late caller cannot use it up twice.
    pub(super) fn full(&self, now: u64) -> u64 {
        match self {
            Self::Gcra(_) => Gcra::full(now),
            Self::Sliding(rule) => rule.full(now),
            Self::Calendar(_) => Calendar::full(now),
        }
    }

    /// Whether the bucket is full at `now`.
    pub(super) fn idle(&self, state: u64, now: u64) -> bool {
        match self {
            Self::Gcra(_) => Gcra::idle(state, now),
            Self::Sliding(rule) => rule.idle(state, now),
            Self::Calendar(_) => Calendar::idle(state, now),
        }
    }
}
