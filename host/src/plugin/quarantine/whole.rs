//! A policy as a whole, for one kind of callers: what speaks against it, and whether it has to wait.
//!
//! Pure, as the case of one caller. What decides is how many callers are hurt, and not only how many calls: whoever calls
//! often has one voice.

use super::Caller;
use super::case::{Admission, Outcome, WINDOW, lasts, wait};
use crate::clock::Millis;
use std::time::Duration;

/// So many callers must be hurt, and more than are well.
const CALLERS: usize = 4;

/// So many calls must have overrun, and more than did not.
const OVERRUNS: u64 = 20;

/// For so long calls must have been watched: before the first overrun nobody counts who is well.
const WATCHED: Duration = Duration::from_secs(2);

/// So many callers may probe in one round; one who comes back ends the quarantine.
const PROBES: usize = 3;

/// What was seen of late.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence {
    /// How long calls were watched.
    pub(super) watched: Duration,
    /// Calls that overran.
    pub(super) overruns: u64,
    /// Calls that did not.
    pub(super) kept: u64,
}

impl Evidence {
    /// Whether callers need to be counted at all.
    pub(super) fn may_suffice(&self) -> bool {
        self.watched >= WATCHED && self.overruns >= OVERRUNS && self.overruns > self.kept
    }

    /// Whether it is the policy, and not its callers.
    pub(super) fn suffices(&self, hurt: usize, well: usize) -> bool {
        self.may_suffice() && hurt >= CALLERS && hurt > well
    }
}

/// The state of the whole.
#[derive(Debug)]
pub(super) struct Whole {
    state: State,
    level: u32,
}

#[derive(Debug)]
enum State {
    Clear { since: Millis },
    Waiting { until: Millis, round: Option<Round> },
}

/// One round of probes, open to callers that have not probed in it.
#[derive(Debug)]
struct Round {
    opened: Millis,
    probes: Vec<Caller>,
    failed: usize,
}

impl Whole {
    /// Nothing speaks against it.
    pub(super) fn new() -> Self {
        Self { state: State::Clear { since: Millis(0) }, level: 0 }
    }

    /// Until when it waits at least, if it does.
    pub(super) fn until(&self) -> Option<Millis> {
        match self.state {
            State::Clear { .. } => None,
            State::Waiting { until, .. } => Some(until),
        }
    }

    /// Begins to wait: for longer where it has only just come back. Tells until when.
    pub(super) fn begin(&mut self, now: Millis, jitter: u64) -> Millis {
        if let State::Clear { since } = self.state {
            let just_back = now >= since && now.since(since) < WINDOW + wait(self.level, 0) * 2;
            self.level = if just_back { self.level.saturating_add(1) } else { 0 };
        }
        let until = now.plus(wait(self.level, jitter));
        self.state = State::Waiting { until, round: None };
        until
    }

    /// Lets a call through or not.
    pub(super) fn admit(&mut self, caller: Caller, now: Millis) -> Admission {
        let State::Waiting { until, round } = &mut self.state else { return Admission::Go };
        if lasts(*until, now) {
            return Admission::Wait(*until);
        }
        let span = wait(self.level, 0);
        let first = || Round { opened: now, probes: vec![caller], failed: 0 };
        match round {
            None => *round = Some(first()),
            // Too few came for a verdict: those who did may try again.
            Some(old) if now < old.opened || now.since(old.opened) >= span => {
                *old = first();
                self.level = self.level.saturating_add(1);
            }
            Some(open) if open.probes.len() < PROBES && !open.probes.contains(&caller) => open.probes.push(caller),
            Some(open) => return Admission::Wait(open.opened.plus(span)),
        }
        Admission::Probe
    }

    /// A probe has ended. Tells whether the quarantine ended with it.
    pub(super) fn probed(&mut self, caller: Caller, outcome: Outcome, now: Millis, jitter: u64) -> bool {
        let State::Waiting { until, round: slot @ Some(_) } = &mut self.state else { return false };
        let Some(round) = slot.as_mut().filter(|round| round.probes.contains(&caller)) else { return false };
        match outcome {
            Outcome::Kept => {
                self.state = State::Clear { since: now };
                return true;
            }
            Outcome::Unknown => round.probes.retain(|probe| *probe != caller),
            Outcome::Overran => {
                round.failed += 1;
                if round.failed >= PROBES {
                    self.level = self.level.saturating_add(1);
                    (*until, *slot) = (now.plus(wait(self.level, jitter)), None);
                }
            }
        }
        false
    }
}
