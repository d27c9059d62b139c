//! One caller of one policy: how its calls went of late, and whether it has to wait.
//!
//! Pure: knows no clock, no lock and no other caller. An instant that lies further back than one before it (the clock was
//! set) never makes a wait longer than the longest.

use crate::clock::Millis;
use std::time::Duration;

/// Over this time calls and overruns are counted together.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// So many overruns in one window are too many, where they are at least half of the caller's calls.
pub(super) const OVERRUNS: u32 = 5;

/// So many are too many, whatever else the caller does: at 20 ms each they are half a second of a worker.
pub(super) const BURST: u32 = 25;

/// The first wait; each further one is twice as long.
pub(super) const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait, before jitter adds up to a quarter.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The longest wait with all of its jitter.
pub(super) const LONGEST: Duration = Duration::from_secs(75);

/// A probe that was not heard of for so long is lost, and another one may go.
const PROBE_LEASE: Duration = Duration::from_secs(30);

/// Who stays away for so long after a wait is forgotten.
const KEPT: Duration = Duration::from_secs(60);

/// How a call ended, as far as this is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Within its bounds of fuel and time, whatever came of it.
    Kept,
    /// Beyond them.
    Overran,
    /// It did not get as far as that.
    Unknown,
}

/// Whether a call may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// As any other.
    Go,
    /// To find out whether things are well again.
    Probe,
    /// Not before this.
    Wait(Millis),
}

/// What the end of a call changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing that anybody needs to hear of.
    Nothing,
    /// A quarantine began, and lasts until then at least.
    Began(Millis),
    /// A probe failed: it goes on, until then at least.
    WentOn(Millis),
    /// A probe came back.
    Ended,
}

/// What is known of one caller.
#[derive(Debug)]
pub(super) struct Case {
    state: State,
    /// When the window began.
    since: Millis,
    calls: u32,
    overruns: u32,
    /// How often the wait has doubled.
    level: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Watched,
    Waiting {
        until: Millis,
    },
    Probing {
        since: Millis,
    },
    /// Back, and not yet forgotten: one overrun among few calls is enough.
    OnProbation {
        until: Millis,
    },
}

impl Case {
    /// A caller of whom nothing was known.
    pub(super) fn new(now: Millis) -> Self {
        Self { state: State::Watched, since: now, calls: 0, overruns: 0, level: 0 }
    }

    /// Until when a call that came now would have to wait.
    pub(super) fn refusal(&self, now: Millis) -> Option<Millis> {
        match self.state {
            State::Waiting { until } if lasts(until, now) => Some(until),
            State::Probing { since } if now >= since && now.since(since) < PROBE_LEASE => Some(now.plus(FIRST_WAIT)),
            _ => None,
        }
    }

    /// Lets a call through or not.
    pub(super) fn admit(&mut self, now: Millis) -> Admission {
        if let Some(until) = self.refusal(now) {
            return Admission::Wait(until);
        }
        match self.state {
            State::Watched | State::OnProbation { .. } => Admission::Go,
            State::Waiting { .. } | State::Probing { .. } => {
                self.state = State::Probing { since: now };
                Admission::Probe
            }
        }
    }

    /// A call that was let through has ended.
    pub(super) fn ended(&mut self, probe: bool, outcome: Outcome, now: Millis, jitter: u64) -> Change {
        match (self.state, probe) {
            (State::Probing { .. }, true) => self.probed(outcome, now, jitter),
            // It was let through before the wait began, or took longer than a probe may.
            (State::Waiting { .. } | State::Probing { .. }, _) => Change::Nothing,
            (State::Watched | State::OnProbation { .. }, _) => self.counted(outcome, now, jitter),
        }
    }

    /// A call that came since then was counted as one that kept its bounds, and is to be counted as another.
    pub(super) fn take_back(&mut self, began: Millis) {
        if began >= self.since {
            self.calls = self.calls.saturating_sub(1);
        }
    }

    /// Has it wait, whatever the counts say: it had the chance to show that all is well.
    pub(super) fn hold(&mut self, now: Millis, jitter: u64) -> Change {
        match self.state {
            State::Waiting { .. } | State::Probing { .. } => Change::Nothing,
            State::Watched => self.wait(0, now, jitter),
            State::OnProbation { .. } => self.wait(self.level.saturating_add(1), now, jitter),
        }
    }

    /// Whether it waits, or most of what it does overruns. Who stayed away after its wait has no say in how things are now.
    pub(super) fn is_bad(&self, now: Millis) -> bool {
        match self.state {
            State::Waiting { until } => lasts(until, now) || (now >= until && now.since(until) < WINDOW),
            State::Probing { .. } => true,
            State::Watched | State::OnProbation { .. } => self.overruns > 0 && self.overruns >= self.calls.div_ceil(2),
        }
    }

    /// Whether it is in quarantine: also when its wait is over, and no probe has come back yet.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting { .. } | State::Probing { .. })
    }

    /// Overruns in its window; those who wait come after all others.
    pub(super) fn weight(&self) -> u32 {
        if self.is_waiting() { u32::MAX } else { self.overruns }
    }

    /// When its window began.
    pub(super) fn since(&self) -> Millis {
        self.since
    }

    /// Whether nothing would be lost if it were forgotten.
    pub(super) fn is_over(&self, now: Millis) -> bool {
        let passed = |at: Millis, span| now < at || now.since(at) >= span;
        match self.state {
            State::Watched => passed(self.since, WINDOW),
            State::OnProbation { until } => !lasts_at_most(until, now, LONGEST * 2),
            State::Waiting { until } => !lasts(until, now) && passed(until, KEPT),
            State::Probing { since } => passed(since, PROBE_LEASE + KEPT),
        }
    }

    fn probed(&mut self, outcome: Outcome, now: Millis, jitter: u64) -> Change {
        match outcome {
            Outcome::Kept => {
                self.state = State::OnProbation { until: now.plus(WINDOW.max(wait(self.level, 0) * 2)) };
                (self.since, self.calls, self.overruns) = (now, 0, 0);
                Change::Ended
            }
            Outcome::Overran => match self.wait(self.level.saturating_add(1), now, jitter) {
                Change::Began(until) => Change::WentOn(until),
                other => other,
            },
            Outcome::Unknown => {
                self.state = State::Waiting { until: now };
                Change::Nothing
            }
        }
    }

    fn counted(&mut self, outcome: Outcome, now: Millis, jitter: u64) -> Change {
        if outcome == Outcome::Unknown {
            return Change::Nothing;
        }
        if now < self.since || now.since(self.since) >= WINDOW {
            (self.since, self.calls, self.overruns) = (now, 0, 0);
        }
        if let State::OnProbation { until } = self.state
            && !lasts_at_most(until, now, LONGEST * 2)
        {
            (self.state, self.level) = (State::Watched, 0);
        }
        self.calls = self.calls.saturating_add(1);
        if outcome == Outcome::Kept {
            return Change::Nothing;
        }
        self.overruns = self.overruns.saturating_add(1);
        let (enough, level) = match self.state {
            State::OnProbation { .. } => (1, self.level.saturating_add(1)),
            _ => (OVERRUNS, 0),
        };
        let most = self.overruns >= enough && self.overruns >= self.calls.div_ceil(2);
        if most || self.overruns >= BURST { self.wait(level, now, jitter) } else { Change::Nothing }
    }

    fn wait(&mut self, level: u32, now: Millis, jitter: u64) -> Change {
        let until = now.plus(wait(level, jitter));
        (self.state, self.level) = (State::Waiting { until }, level);
        Change::Began(until)
    }
}

/// How long to wait after so many doublings: up to a quarter longer by jitter, so that those who began together do not
/// come back together.
pub(super) fn wait(level: u32, jitter: u64) -> Duration {
    let base = FIRST_WAIT.saturating_mul(1 << level.min(6)).min(LONGEST_WAIT);
    base + base * u32::try_from(jitter % 256).unwrap_or(0) / 1024
}

/// Whether a wait until then still lasts. One that is longer than any is none: the clock was set back.
pub(super) fn lasts(until: Millis, now: Millis) -> bool {
    lasts_at_most(until, now, LONGEST)
}

fn lasts_at_most(until: Millis, now: Millis, longest: Duration) -> bool {
    now < until && until.since(now) <= longest
}
