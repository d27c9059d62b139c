//! What can go wrong in a call into a guest, by kind.

use crate::clock::Millis;
use std::fmt;
use wasmtime::Trap;

/// A call that did not bring a usable verdict. The instance is gone; the next call gets a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It used up its fuel.
    OutOfFuel,
    /// All calls about one body used up what they may use together.
    OutOfBodyFuel,
    /// It ran longer than its deadline.
    PastDeadline,
    /// It trapped: unreachable code, a bad memory access, a stack that overflowed, memory that was not given.
    Trapped(String),
    /// What it returned could not be taken over: too large, not UTF-8, outside its memory.
    Unreadable(String),
    /// What it returned is against its own declaration or its grant.
    NotAllowed(String),
    /// No instance could be made.
    NoInstance(String),
    /// It waited longer than it may: for the store, for somebody outside, or in WASI.
    WaitedTooLong,
    /// It waited for its turns beside other guests for most of its time.
    NoTurn,
    /// As many of its calls as may are waiting or running already, or it follows as many bodies as it may.
    Busy,
    /// It was not asked: calls of this caller overran too often, or those of most callers.
    Quarantined {
        /// Until when at least.
        until: Millis,
    },
}

impl Failure {
    /// Sorts an error of the engine.
    pub(super) fn of(error: &wasmtime::Error) -> Self {
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => Self::OutOfFuel,
            Some(Trap::Interrupt) => Self::PastDeadline,
            Some(trap) => Self::Trapped(trap.to_string()),
            None if error.is::<wasmtime_wasi::I32Exit>() => Self::Trapped("it ended itself".into()),
            None => Self::Unreadable(error.root_cause().to_string()),
        }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::OutOfFuel | Self::OutOfBodyFuel => Kind::OutOfFuel,
            Self::PastDeadline => Kind::PastDeadline,
            Self::Trapped(_) => Kind::Trapped,
            Self::Unreadable(_) => Kind::Unreadable,
            Self::NotAllowed(_) => Kind::NotAllowed,
            Self::NoInstance(_) => Kind::NoInstance,
            Self::WaitedTooLong => Kind::WaitedTooLong,
            Self::NoTurn => Kind::NoTurn,
            Self::Busy => Kind::Busy,
            Self::Quarantined { .. } => Kind::Quarantined,
        }
    }

    /// Seconds after which another call may do better: those until a probe, where the caller has to wait for one.
    pub fn retry_after(&self, now: Millis) -> u32 {
        let Self::Quarantined { until } = self else { return 1 };
        let seconds = until.since(now).as_millis().div_ceil(1000);
        u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
    }

    /// Whether the guest got to run.
    pub fn did_run(&self) -> bool {
        !matches!(self, Self::NoInstance(_) | Self::NoTurn | Self::Busy | Self::Quarantined { .. })
    }

    /// Whether it took a worker's time, or a place to wait, until a bound stopped it: what leads to quarantine.
    pub fn is_overrun(&self) -> bool {
        matches!(self, Self::OutOfFuel | Self::OutOfBodyFuel | Self::PastDeadline | Self::WaitedTooLong)
    }
}

/// The kinds of [`Failure`], as in logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`Failure::OutOfFuel`] and [`Failure::OutOfBodyFuel`]
    OutOfFuel,
    /// [`Failure::PastDeadline`]
    PastDeadline,
    /// [`Failure::Trapped`]
    Trapped,
    /// [`Failure::Unreadable`]
    Unreadable,
    /// [`Failure::NotAllowed`]
    NotAllowed,
    /// [`Failure::NoInstance`]
    NoInstance,
    /// [`Failure::WaitedTooLong`]
    WaitedTooLong,
    /// [`Failure::NoTurn`]
    NoTurn,
    /// [`Failure::Busy`]
    Busy,
    /// [`Failure::Quarantined`]
    Quarantined,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::OutOfFuel,
        Self::PastDeadline,
        Self::Trapped,
        Self::Unreadable,
        Self::NotAllowed,
        Self::NoInstance,
        Self::WaitedTooLong,
        Self::NoTurn,
        Self::Busy,
        Self::Quarantined,
    ];

    /// The stable name.
    pub fn code(self) -> &'static str {
        match self {
            Self::OutOfFuel => "out_of_fuel",
            Self::PastDeadline => "past_deadline",
            Self::Trapped => "trapped",
            Self::Unreadable => "unreadable",
            Self::NotAllowed => "not_allowed",
            Self::NoInstance => "no_instance",
            Self::WaitedTooLong => "waited_too_long",
            Self::NoTurn => "no_turn",
            Self::Busy => "busy",
            Self::Quarantined => "quarantined",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfFuel => f.write_str("it used up its fuel"),
            Self::OutOfBodyFuel => f.write_str("it used up the fuel for all of a body (`fuel`, `fuel_per_kib`)"),
            Self::PastDeadline => f.write_str("it ran past its deadline"),
            Self::Trapped(trap) => write!(f, "it trapped: {trap}"),
            Self::Unreadable(why) => write!(f, "its answer could not be read: {why}"),
            Self::NotAllowed(why) => write!(f, "its answer is not allowed: {why}"),
            Self::NoInstance(why) => write!(f, "no instance could be made: {why}"),
            Self::WaitedTooLong => f.write_str("it waited longer than `wait` allows"),
            Self::NoTurn => f.write_str("other plugins that wait had this worker for most of the time that it had (`wait`)"),
            Self::Busy => f.write_str("it waits in as many calls (`waiting_calls`), or follows as many bodies (`bodies`), as it may on this worker"),
            Self::Quarantined { until } => {
                write!(f, "it was not asked, since it is in quarantine until {until} at least")
            }
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_for_a_probe_is_told_the_seconds() {
        let quarantined = Failure::Quarantined { until: Millis(100_000) };
        for (now, seconds) in [(37_500, 63), (98_999, 2), (99_000, 1), (100_000, 1), (200_000, 1)] {
            assert_eq!(quarantined.retry_after(Millis(now)), seconds, "{now}");
        }
        assert_eq!(Failure::OutOfFuel.retry_after(Millis(0)), 1);
    }
}
