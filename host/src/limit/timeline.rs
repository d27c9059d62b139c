//! One time for all who take from a limit, although each brings its own.
//!
//! A worker may be interrupted between reading the clock and taking, and then be late; it must not turn back what others
//! saw. A clock that was set back looks the same at first, but stays behind: it is followed once it has been behind for
//! [`CONFIRM`] while nobody came with the later time.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Millis;

/// How far behind the latest time a caller may be, in milliseconds, without any doubt about the clock.
const LATE: u64 = 100;

/// For how long a clock must have been behind, in its own milliseconds, until it is followed.
pub(super) const CONFIRM: u64 = 1_000;

/// The last instant that is told apart, in milliseconds (year 2109): so no rule's sums overflow.
const LAST: u64 = (1 << 42) - 1;

const INSTANT_BITS: u32 = 48;

/// The latest time at which someone took, and how often the clock was set back.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    latest: AtomicU64,
    /// One more than the first time that was behind; 0 when nobody is.
    behind: AtomicU64,
}

/// An instant on a [`Timeline`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark(u64);

/// Milliseconds that every rule can count with.
pub(super) fn clamp(now: Millis) -> u64 {
    now.0.min(LAST)
}

impl Mark {
    /// Milliseconds since 1970.
    pub(super) fn millis(self) -> u64 {
        self.0 & ((1 << INSTANT_BITS) - 1)
    }

    fn setbacks(self) -> u64 {
        self.0 >> INSTANT_BITS
    }
}

impl Timeline {
    /// The time that holds for a taking at `now`: the latest that anyone came with, unless the clock was set back.
    pub(super) fn tick(&self, now: Millis) -> Mark {
        let now = clamp(now);
        let mut seen = Mark(self.latest.load(Ordering::Acquire));
        loop {
            let latest = seen.millis();
            let setback = now + LATE < latest;
            if setback && !self.behind_for_long(now) {
                return seen;
            }
            if !setback && self.behind.load(Ordering::Relaxed) != 0 {
                self.behind.store(0, Ordering::Relaxed);
            }
            if !setback && now <= latest {
                return seen;
            }
            let setbacks = seen.setbacks() + u64::from(setback);
            let next = setbacks << INSTANT_BITS | now;
            match self.latest.compare_exchange_weak(seen.0, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Mark(next),
                Err(other) => seen = Mark(other),
            }
        }
    }

    /// The latest time, in milliseconds.
    pub(super) fn latest(&self) -> u64 {
        Mark(self.latest.load(Ordering::Acquire)).millis()
    }

    /// Milliseconds that have passed since `mark`; none where the clock was set back since.
    pub(super) fn since(&self, mark: Mark) -> Option<u64> {
        let latest = Mark(self.latest.load(Ordering::Acquire));
        (latest.setbacks() == mark.setbacks()).then(|| latest.millis().saturating_sub(mark.millis()))
    }

    /// Whether a state that lies ahead of `now` means that the clock was set back, since nobody came with a later time.
    /// Then it is noted: what was taken before cannot be given back.
    pub(super) fn confirms(&self, now: u64) -> bool {
        let confirmed = self.latest() <= now;
        if confirmed {
            self.latest.fetch_add(1 << INSTANT_BITS, Ordering::AcqRel);
        }
        confirmed
    }

    /// Whether the clock has been behind for so long that it is followed.
    fn behind_for_long(&self, now: u64) -> bool {
        let first = self.behind.load(Ordering::Relaxed);
        if first == 0 || now + 1 < first {
            self.behind.store(now + 1, Ordering::Relaxed);
            return false;
        }
        now + 1 - first >= CONFIRM
    }
}
