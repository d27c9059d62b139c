//! How many may be taken, by whom and in which time: the limits whose buckets the gateway keeps in memory.
//!
//! Never grants more than a window allows, whatever the workers do at the same time: each bucket is a few atomics, and
//! nothing here locks, waits or allocates on the way of a request whose subject was seen before. Deliberately absent:
//! any store (a restart begins with full buckets, except for months that are seeded from the usage) and any idea of
//! what a limit is for. What each period counts exactly is told in `limit/{gcra,sliding,calendar}.rs`.
//!
//! Time is given by the caller. A caller that is late sees the time of the others; a clock that is set back is followed after
//! a second, and empties the buckets that it finds ahead of it. So nobody gains by it, and nobody waits for longer than a
//! period, the step to the next one and that second.
//!
//! Which way it fails: closed. Beyond the cap on buckets, subjects that have none yet share one per limit.

mod bucket;
mod calendar;
mod field;
mod gcra;
mod house;
mod local;
mod rule;
mod sliding;
mod taking;
#[cfg(test)]
mod tests;
mod timeline;

use std::fmt;
use std::net::IpAddr;

pub use field::{policy_field, retry_after_field, state_field};
pub use local::{Local, Swept};
pub use taking::{Limit, Refused, Taken};

use rule::Rule;

/// The most windows that one limit has.
pub const MAX_WINDOWS: usize = 4;

/// The longest sliding window, in seconds.
pub const MAX_SECONDS: u32 = 86_400;

/// Over which time a window counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// A sliding window of this many seconds, 1 to 86,400.
    Seconds(u32),
    /// A calendar month, UTC.
    Month,
}

/// So many, over such a time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Window {
    /// The name that clients see, 1 to 32 characters of `[a-z0-9_-]`.
    pub name: String,
    /// How many may be taken in one period; at least 1, at most [`Period::max_quota`].
    pub quota: u64,
    /// The period.
    pub per: Period,
}

/// For whom a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SubjectKind {
    /// For each key.
    Key,
    /// For each org.
    Org,
    /// For each client address (IPv6: for each /64).
    Address,
    /// For each value that a policy names.
    Custom,
    /// One count for everyone.
    Everyone,
}

/// A limit as configured.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Definition {
    /// The policy whose plan it is from.
    pub policy: String,
    /// Its name, unique in the policy: lower case with hyphens.
    pub limit: String,
    /// The pillar, or none for one count over all of them.
    pub pillar: Option<String>,
    /// For whom it counts.
    pub subject: SubjectKind,
    /// The windows, all of which must have room; 1 to [`MAX_WINDOWS`], each with another period.
    pub windows: Vec<Window>,
}

/// One thing that is wrong with a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Position in `windows`; none for the limit as a whole.
    pub window: Option<usize>,
    /// One sentence: what is wrong, and what to write instead.
    pub message: String,
}

/// A definition that cannot be kept: all that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The limit.
    pub limit: String,
    /// At least one.
    pub problems: Vec<Problem>,
}

/// Who takes. What it is about follows from the [`SubjectKind`] of the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subject(u128);

/// How one window stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// How many may be taken now.
    pub remaining: u64,
    /// Whole seconds, rounded up, until the window is full again (below a minute), its step ends (sliding) or the month does;
    /// 0 when nothing was taken.
    pub reset: u32,
}

impl Period {
    /// The largest quota that can be counted exactly over this period.
    pub fn max_quota(self) -> u64 {
        match self {
            Self::Seconds(seconds) if seconds < rule::SLIDING_FROM => gcra::MAX_QUOTA,
            Self::Seconds(seconds) => sliding::max_quota(seconds),
            Self::Month => calendar::MAX_QUOTA,
        }
    }
}

impl Definition {
    /// All that is wrong with it; empty when it can be kept.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.windows.is_empty() || self.windows.len() > MAX_WINDOWS {
            let message = format!("has {} windows; give it 1 to {MAX_WINDOWS}", self.windows.len());
            problems.push(Problem { window: None, message });
        }
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if self.limit.is_empty() || self.limit.len() > 64 || !self.limit.bytes().all(fits) {
            let message = "its name does not fit; write 1 to 64 characters of a-z, 0-9 and `-`".to_owned();
            problems.push(Problem { window: None, message });
        }
        for (position, window) in self.windows.iter().enumerate() {
            let earlier = self.windows.get(..position).unwrap_or_default();
            let mut wrong = |message: String| problems.push(Problem { window: Some(position), message });
            let fits = |byte: u8| fits(byte) || byte == b'_';
            if window.name.is_empty() || window.name.len() > 32 || !window.name.bytes().all(fits) {
                wrong("its name does not fit; write 1 to 32 characters of a-z, 0-9, `_` and `-`".to_owned());
            }
            if earlier.iter().any(|other| other.name == window.name) {
                wrong(format!("its name `{}` is taken by an earlier window; choose another", window.name));
            }
            if earlier.iter().any(|other| other.per == window.per) {
                wrong("an earlier window has the same period; keep the one with the lower quota".to_owned());
            }
            match window.per {
                Period::Seconds(seconds) if seconds == 0 || seconds > MAX_SECONDS => {
                    wrong(format!("counts over {seconds} seconds; choose 1 to {MAX_SECONDS}, or a month"));
                }
                per if window.quota == 0 || window.quota > per.max_quota() => {
                    let most = per.max_quota();
                    wrong(format!("its quota is {}; over this period it can be 1 to {most}", window.quota));
                }
                Period::Seconds(_) | Period::Month => {}
            }
        }
        problems
    }

    /// The windows in the order in which they are kept, shortest period first, with their rules.
    fn resolve(mut self) -> Result<(Self, Vec<Rule>), Invalid> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(Invalid { limit: self.limit, problems });
        }
        self.windows.sort_by_key(|window| window.per);
        let rules = self.windows.iter().map(Rule::new).collect();
        Ok((self, rules))
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "limit `{}` cannot be kept: ", self.limit)?;
        for (count, problem) in self.problems.iter().enumerate() {
            let comma = if count == 0 { "" } else { "; " };
            match problem.window {
                Some(window) => write!(f, "{comma}window {window}: {}", problem.message)?,
                None => write!(f, "{comma}{}", problem.message)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

impl Subject {
    /// The one subject of a limit for everyone.
    pub const EVERYONE: Self = Self(0);

    /// The number of a key or of an org.
    pub fn id(number: u128) -> Self {
        Self(number)
    }

    /// A client address: IPv4 whole, IPv6 by its /64, since one customer has at least that. IPv4 in IPv6 counts as IPv4.
    pub fn address(address: IpAddr) -> Self {
        match address.to_canonical() {
            // No /64 has bits below its 64th, so the two families cannot meet.
            IpAddr::V4(address) => Self(1 << 32 | u128::from(address.to_bits())),
            IpAddr::V6(address) => Self(address.to_bits() >> 64 << 64),
        }
    }
}
