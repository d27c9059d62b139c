//! Windows of a minute and more: two counters, of which the earlier fades out.
//!
//! Time is cut into steps of one period. What counts is the current step's counter plus the previous step's, weighted
//! by how much of it a window that ends now still covers, rounded up. So no step ever grants more than the quota, and no
//! span of one period more than twice of it. All of it sits in one atomic: the number of the step in the top bits, then
//! the current and the previous counter. The step number is wide enough to tell half a year ahead from half a year back.

use super::rule::Step;

/// How far back and ahead, in seconds, step numbers can be told apart.
const HORIZON: u64 = 180 * 86_400;

/// The rule of one window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sliding {
    /// Milliseconds.
    period: u64,
    quota: u64,
    /// Width of one counter.
    bits: u32,
}

/// A state as seen at some instant.
struct Seen {
    step: u64,
    current: u64,
    previous: u64,
    /// Milliseconds since the step began.
    elapsed: u64,
}

/// The largest quota over so many seconds.
pub(super) fn max_quota(seconds: u32) -> u64 {
    // One below the largest count, so that no state has all bits set: that one means that a bucket is gone.
    (1 << counter_bits(seconds)) - 2
}

fn counter_bits(seconds: u32) -> u32 {
    let steps = 2 * HORIZON.div_ceil(u64::from(seconds.max(1)));
    (64 - steps.next_power_of_two().trailing_zeros()) / 2
}

impl Sliding {
    /// `seconds` is 60 or more, `quota` 1 to [`max_quota`].
    pub(super) fn new(seconds: u32, quota: u64) -> Self {
        Self { period: u64::from(seconds) * 1_000, quota, bits: counter_bits(seconds) }
    }

    /// What a taking of `cost` does to `state` at `now` (milliseconds).
    pub(super) fn step(&self, state: u64, cost: u32, now: u64) -> Step {
        let seen = match self.see(state, now) {
            Ok(seen) => seen,
            Err(state) => return Step::Rebase(state),
        };
        if self.used(&seen) + u64::from(cost) > self.quota {
            return Step::Refuse;
        }
        Step::Grant(self.pack(seen.step, seen.current + u64::from(cost), seen.previous))
    }

    /// How many may be taken at `now`.
    pub(super) fn remaining(&self, state: u64, now: u64) -> u64 {
        self.see(state, now).map_or(0, |seen| self.quota.saturating_sub(self.used(&seen)))
    }

    /// Seconds until the step ends; 0 when nothing was taken.
    pub(super) fn reset(&self, state: u64, now: u64) -> u64 {
        match self.see(state, now) {
            Ok(Seen { current: 0, previous: 0, .. }) => 0,
            Ok(seen) => (self.period - seen.elapsed).div_ceil(1_000),
            Err(_) => self.period / 1_000,
        }
    }

    /// Milliseconds until `cost` can be taken; until nothing is counted any more where it never can.
    pub(super) fn wait(&self, state: u64, cost: u32, now: u64) -> u64 {
        let Ok(seen) = self.see(state, now) else { return self.period };
        let room = self.quota.saturating_sub(u64::from(cost));
        // When `counted` has faded to `room`, in milliseconds since its fading began.
        let faded = |counted: u64, room: u64| {
            if counted <= room { 0 } else { self.period - room * self.period / counted }
        };
        if seen.current <= room && u64::from(cost) <= self.quota {
            faded(seen.previous, room - seen.current).saturating_sub(seen.elapsed)
        } else {
            self.period - seen.elapsed + faded(seen.current, room)
        }
    }

    /// The state after giving back `cost`, taken at `at` (milliseconds).
    pub(super) fn back(&self, state: u64, cost: u32, at: u64) -> u64 {
        let (step, current, previous) = self.unpack(state);
        let (taken, cost) = (self.wrap(at / self.period), u64::from(cost));
        if step == taken {
            self.pack(step, current.saturating_sub(cost), previous)
        } else if step == self.wrap(taken + 1) {
            self.pack(step, current, previous.saturating_sub(cost))
        } else {
            state
        }
    }

    /// A full bucket at `now`.
    pub(super) fn full(&self, now: u64) -> u64 {
        self.pack(now / self.period, 0, 0)
    }

    /// Whether the bucket is full at `now`.
    pub(super) fn idle(&self, state: u64, now: u64) -> bool {
        matches!(self.see(state, now), Ok(Seen { current: 0, previous: 0, .. }))
    }

    /// The state at `now`, or the state to put in its place where it lies ahead, because the clock was set back.
    fn see(&self, state: u64, now: u64) -> Result<Seen, u64> {
        let (now_step, elapsed) = (now / self.period, now % self.period);
        let (step, current, previous) = self.unpack(state);
        let fresh = Seen { step: self.wrap(now_step), current: 0, previous: 0, elapsed };
        if state == 0 {
            return Ok(fresh);
        }
        let ahead = self.wrap(step.wrapping_sub(now_step));
        let behind = self.wrap(now_step.wrapping_sub(step));
        match behind {
            0 => Ok(Seen { current, previous, ..fresh }),
            1 => Ok(Seen { previous: current, ..fresh }),
            _ if behind <= ahead => Ok(fresh),
            // No more than the quota was ever counted at one time, and no less is counted now.
            _ => Err(self.pack(fresh.step, (current + previous).min(self.quota), 0)),
        }
    }

    /// How many count now.
    fn used(&self, seen: &Seen) -> u64 {
        seen.current + (seen.previous * (self.period - seen.elapsed)).div_ceil(self.period)
    }

    fn wrap(&self, step: u64) -> u64 {
        step & (u64::MAX >> (2 * self.bits))
    }

    fn pack(&self, step: u64, current: u64, previous: u64) -> u64 {
        step << (2 * self.bits) | current << self.bits | previous
    }

    fn unpack(&self, state: u64) -> (u64, u64, u64) {
        let mask = (1 << self.bits) - 1;
        (state >> (2 * self.bits), state >> self.bits & mask, state & mask)
    }
}
