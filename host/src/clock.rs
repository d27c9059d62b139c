//! What time it is, in milliseconds since 1970, and how that is written.
//!
//! The only module that asks the operating system for the time of day: everything else gets a [`Clock`] or an instant,
//! so tests choose theirs.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An instant: milliseconds since 1970-01-01T00:00:00Z. Written as RFC 3339, UTC, with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub u64);

/// Text that is not an instant of RFC 3339, or lies before 1970.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a time of RFC 3339 since 1970; write for example 2030-01-31T12:00:00Z")]
pub struct NotATime;

impl Millis {
    /// Whole seconds since 1970.
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// This instant and so much more; the last instant that can be counted where that is too much.
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero where it is yet to come.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The calendar ends with the year 9999; an instant beyond it is written as that end.
        let instant = i64::try_from(self.0)
            .ok()
            .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
            .unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{instant:.3}")
    }
}

impl FromStr for Millis {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        let instant: jiff::Timestamp = text.parse().map_err(|_| NotATime)?;
        u64::try_from(instant.as_millisecond()).map(Self).map_err(|_| NotATime)
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// A source of the time. Clones show the same time.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The clock of the operating system.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until [`Clock::advance`] moves it: for tests.
    pub fn manual(start: Millis) -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(start.0))))
    }

    /// The time now.
    pub fn now(&self) -> Millis {
        match &self.0 {
            // A machine whose clock stands before 1970 is counted as being at its start.
            Source::System => Millis::default().plus(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            Source::Manual(millis) => Millis(millis.load(Ordering::Relaxed)),
        }
    }

    /// The time now, in nanoseconds since 1970.
    pub fn nanos(&self) -> u64 {
        match &self.0 {
            Source::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
            }
            Source::Manual(_) => self.now().0.saturating_mul(1_000_000),
        }
    }

    /// Moves a manual clock forward, for all its clones; the system's clock does not listen.
    pub fn advance(&self, span: Duration) {
        if let Source::Manual(millis) = &self.0 {
            millis.store(self.now().plus(span).0, Ordering::Relaxed);
        }
    }
}

/// Whether the time of day goes on as time passes. One jump of the clock must not delete what is only deleted by its age.
#[derive(Debug, Default)]
pub struct Steady {
    /// Since when it does, and the last look: by time that passed, and by the time of day.
    looked: Option<(Instant, Instant, Millis)>,
}

impl Steady {
    /// By so much the time of day may run away between two looks.
    const RUNAWAY: Duration = Duration::from_secs(60);

    /// For how long it has been steady, at this look.
    pub fn look(&mut self, passed: Instant, now: Millis) -> Duration {
        let since = match self.looked {
            Some((since, at, then)) => {
                let off = now.0.abs_diff(then.plus(passed.duration_since(at)).0);
                if u128::from(off) > Self::RUNAWAY.as_millis() { passed } else { since }
            }
            None => passed,
        };
        self.looked = Some((since, passed, now));
        passed.duration_since(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_is_steady_only_from_then_on() {
        let (begun, mut steady) = (Instant::now(), Steady::default());
        let mut look =
            |passed: u64, day: u64| steady.look(begun + Duration::from_secs(passed), Millis(day * 1000)).as_secs();
        assert_eq!([look(0, 1000), look(60, 1060), look(120, 1121)], [0, 60, 120]);
        assert_eq!([look(180, 90_000_000), look(240, 90_000_060)], [0, 60], "it was set forward");
        assert_eq!([look(300, 1300), look(360, 1360)], [0, 60], "and back");
    }

    #[test]
    fn an_instant_is_written_as_rfc_3339_and_read_back() {
        let instant = Millis(1_795_305_600_007);
        assert_eq!(instant.to_string(), "2026-11-22T00:00:00.007Z");
        assert_eq!("2026-11-22T00:00:00.007Z".parse(), Ok(instant));
        assert_eq!("2026-11-22T01:00:00.007+01:00".parse(), Ok(instant));
        assert_eq!(serde_json::to_string(&instant).unwrap(), "\"2026-11-22T00:00:00.007Z\"");
    }

    #[test]
    fn what_is_no_instant_is_refused_and_what_is_beyond_the_calendar_is_written_as_its_end() {
        for text in ["", "tomorrow", "2026-11-22", "1969-12-31T23:59:59Z", "2026-13-01T00:00:00Z"] {
            assert_eq!(text.parse::<Millis>(), Err(NotATime), "{text}");
        }
        assert!(Millis(u64::MAX).to_string().starts_with("9999-12-"));
        assert_eq!(Millis(u64::MAX).plus(Duration::MAX), Millis(u64::MAX));
    }

    #[test]
    fn a_manual_clock_moves_only_when_told_and_for_all_its_clones() {
        let clock = Clock::manual(Millis(1_000));
        let clone = clock.clone();
        assert_eq!(clone.now(), Millis(1_000));
        clock.advance(Duration::from_secs(2));
        assert_eq!(clone.now(), Millis(3_000));
        assert_eq!(clone.now().since(Millis(1_000)), Duration::from_secs(2));
        assert!(Clock::system().now() > Millis(1_700_000_000_000));
    }
}
