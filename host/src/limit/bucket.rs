//! One subject's bucket: the states of a limit's windows, as atomics that all workers share.
//!
//! Each state moves by compare-and-swap from what a pure [`Rule`] saw to what it made of it, so a taking is exact under
//! any interleaving. A limit's windows are taken one after the other and given back when a later one refuses; a
//! neighbour may be refused because of a taking that is then given back, but never granted too much.

use std::sync::atomic::{AtomicU64, Ordering};

use super::rule::{Rule, Step};
use super::timeline::{Mark, Timeline};
use super::{MAX_WINDOWS, State};

/// A bucket that the sweep has closed: whoever still holds it looks for the new one. No rule makes this state.
const GONE: u64 = u64::MAX;

/// The states, in the order of the limit's rules. All zero: never used.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    states: [AtomicU64; MAX_WINDOWS],
}

/// Why nothing was taken.
pub(super) enum Blocked {
    /// A window has no room.
    Refused,
    /// The sweep has closed this bucket.
    Gone,
}

impl Bucket {
    /// A bucket that is full at `now`.
    pub(super) fn full(rules: &[Rule], now: u64) -> Self {
        let bucket = Self::default();
        for (rule, state) in rules.iter().zip(&bucket.states) {
            state.store(rule.full(now), Ordering::Relaxed);
        }
        bucket
    }

    /// Takes `cost` (at least 1) from all windows or from none, and reports how they stand afterwards.
    pub(super) fn take(
        &self,
        rules: &[Rule],
        cost: u32,
        mark: Mark,
        timeline: &Timeline,
        report: &mut [State; MAX_WINDOWS],
    ) -> Result<(), Blocked> {
        for (position, ((rule, state), report)) in rules.iter().zip(&self.states).zip(report).enumerate() {
            match take(rule, state, cost, mark, timeline) {
                Ok(after) => *report = rule.report(after, mark.millis()),
                Err(blocked) => {
                    self.give_back(rules.get(..position).unwrap_or_default(), cost, mark, timeline);
                    return Err(blocked);
                }
            }
        }
        Ok(())
    }

    /// Gives `cost` back to all windows of `rules`: what was taken at `mark`, less what time has given back since.
    pub(super) fn give_back(&self, rules: &[Rule], cost: u32, mark: Mark, timeline: &Timeline) {
        for (rule, state) in rules.iter().zip(&self.states) {
            let mut seen = state.load(Ordering::Acquire);
            // A closed bucket was full again: nothing is left to give back. After a clock was set back, what is left is
            // not known, and nothing is given back. The time is read after the state: so it is no earlier than the
            // time of any taking that the state contains.
            while seen != GONE
                && let Some(elapsed) = timeline.since(mark)
            {
                let next = rule.back(seen, cost, mark.millis(), elapsed);
                match state.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => break,
                    Err(other) => seen = other,
                }
            }
        }
    }

    /// How the windows stand, and the longest time, in milliseconds, that one of them needs until `cost` can be taken,
    /// with its position.
    pub(super) fn look(&self, rules: &[Rule], cost: u32, now: u64) -> ([State; MAX_WINDOWS], u64, usize) {
        let mut report = [State::default(); MAX_WINDOWS];
        let (mut longest, mut slowest) = (0, 0);
        for (position, ((rule, state), report)) in rules.iter().zip(&self.states).zip(&mut report).enumerate() {
            let seen = Some(state.load(Ordering::Acquire)).filter(|seen| *seen != GONE).unwrap_or_default();
            *report = rule.report(seen, now);
            let wait = rule.wait(seen, cost, now);
            if wait > longest {
                (longest, slowest) = (wait, position);
            }
        }
        (report, longest, slowest)
    }

    /// Replaces the state of one window; false where the bucket is gone.
    pub(super) fn amend(&self, position: usize, change: impl Fn(u64) -> u64) -> bool {
        let update = |seen| (seen != GONE).then(|| change(seen));
        self.states
            .get(position)
            .is_some_and(|state| state.fetch_update(Ordering::AcqRel, Ordering::Acquire, update).is_ok())
    }

    /// Fills every window; false where the bucket is gone.
    pub(super) fn refill(&self, rules: &[Rule], now: u64) -> bool {
        rules.iter().enumerate().all(|(position, rule)| self.amend(position, |_| rule.full(now)))
    }

    /// Whether every window is full.
    pub(super) fn idle(&self, rules: &[Rule], now: u64) -> bool {
        rules.iter().zip(&self.states).all(|(rule, state)| rule.idle(state.load(Ordering::Acquire), now))
    }

    /// Closes the bucket if every window is full: no taking gets into it any more.
    pub(super) fn close(&self, rules: &[Rule], now: u64) -> bool {
        let mut closed = [0; MAX_WINDOWS];
        for (position, (rule, state)) in rules.iter().zip(&self.states).enumerate() {
            let seen = state.load(Ordering::Acquire);
            let idle = seen != GONE && rule.idle(seen, now);
            if idle && state.compare_exchange(seen, GONE, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                if let Some(before) = closed.get_mut(position) {
                    *before = seen;
                }
                continue;
            }
            // Someone came in between: reopen. Nobody else moves a closed state.
            for (state, before) in self.states.iter().zip(closed).take(position) {
                state.store(before, Ordering::Release);
            }
            return false;
        }
        true
    }

    /// Moves states that lie ahead of the clock back to it, so that they end, and full ones along with it, so that they
    /// never age.
    pub(super) fn settle(&self, rules: &[Rule], now: u64, timeline: &Timeline) {
        for (rule, state) in rules.iter().zip(&self.states) {
            let seen = state.load(Ordering::Acquire);
            let next = match rule.step(seen, 1, now) {
                _ if seen == GONE => continue,
                Step::Rebase(next) if timeline.confirms(now) => next,
                Step::Grant(_) if rule.idle(seen, now) => rule.full(now),
                Step::Grant(_) | Step::Refuse | Step::Rebase(_) => continue,
            };
            // Whoever was quicker knows better.
            let _ = state.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Acquire);
        }
    }
}

/// Takes from one window, and tells its state afterwards.
fn take(rule: &Rule, state: &AtomicU64, cost: u32, mark: Mark, timeline: &Timeline) -> Result<u64, Blocked> {
    let mut now = mark.millis();
    let mut seen = state.load(Ordering::Acquire);
    loop {
        if seen == GONE {
            return Err(Blocked::Gone);
        }
        let (next, granted) = match rule.step(seen, cost, now) {
            Step::Grant(next) => (next, true),
            Step::Refuse => return Err(Blocked::Refused),
            Step::Rebase(next) if timeline.confirms(now) => (next, false),
            // Others were quicker, and time has moved on meanwhile.
            Step::Rebase(_) => {
                now = timeline.latest();
                continue;
            }
        };
        match state.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) if granted => return Ok(next),
            Ok(_) => seen = next,
            Err(other) => seen = other,
        }
    }
}
