//! Days and months of usage, UTC.

use std::fmt;
use std::str::FromStr;

use crate::clock::Millis;

/// A day: days since 1970-01-01, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Day(pub u32);

/// A calendar month, UTC. Written as `2026-11`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    year: i16,
    month: i8,
}

/// A text that is not a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a month; write year and month, for example 2026-11")]
pub struct NotAMonth;

impl Day {
    /// The day that an instant lies in.
    pub fn of(at: Millis) -> Self {
        Self(u32::try_from(at.seconds() / 86_400).unwrap_or(u32::MAX))
    }
}

/// A text that is not a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a day; write year, month and day, for example 2026-11-22")]
pub struct NotADay;

impl FromStr for Day {
    type Err = NotADay;

    fn from_str(text: &str) -> Result<Self, NotADay> {
        let (month, day) = text.split_at_checked(7).ok_or(NotADay)?;
        let month: Month = month.parse().map_err(|_| NotADay)?;
        let digits =
            day.strip_prefix('-').filter(|day| day.len() == 2 && day.bytes().all(|byte| byte.is_ascii_digit()));
        let day: u32 = digits.ok_or(NotADay)?.parse().map_err(|_| NotADay)?;
        let first = month.first_day().0;
        let day = Self(first.checked_add(day).and_then(|next| next.checked_sub(1)).ok_or(NotADay)?);
        (month.first_day()..month.next().first_day()).contains(&day).then_some(day).ok_or(NotADay)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = jiff::Timestamp::from_second(i64::from(self.0) * 86_400).unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{}", jiff::tz::TimeZone::UTC.to_datetime(instant).date())
    }
}

impl Month {
    /// The month that an instant lies in.
    pub fn of(at: Millis) -> Self {
        let instant = i64::try_from(at.0).ok().and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
        let date = jiff::tz::TimeZone::UTC.to_datetime(instant.unwrap_or(jiff::Timestamp::MAX)).date();
        Self { year: date.year(), month: date.month() }
    }

    /// Its first day.
    pub fn first_day(self) -> Day {
        let first = jiff::civil::date(self.year, self.month, 1).at(0, 0, 0, 0);
        let instant = jiff::tz::TimeZone::UTC.to_timestamp(first).unwrap_or(jiff::Timestamp::MAX);
        Day(u32::try_from(instant.as_second() / 86_400).unwrap_or(0))
    }

    /// The month after it.
    #[must_use]
    pub fn next(self) -> Self {
        match self.month {
            12 => Self { year: self.year.saturating_add(1).min(9_999), month: 1 },
            month => Self { month: month + 1, ..self },
        }
    }
}

impl FromStr for Month {
    type Err = NotAMonth;

    fn from_str(text: &str) -> Result<Self, NotAMonth> {
        let digits = |part: &str, width| part.len() == width && part.bytes().all(|byte| byte.is_ascii_digit());
        let (year, month) = text.split_once('-').ok_or(NotAMonth)?;
        if !digits(year, 4) || !digits(month, 2) {
            return Err(NotAMonth);
        }
        let (year, month) = (year.parse().map_err(|_| NotAMonth)?, month.parse().map_err(|_| NotAMonth)?);
        // The last month of the calendar has no first day of a next one.
        let fits = (1_970..9_999).contains(&year) && (1..=12).contains(&month);
        fits.then_some(Self { year, month }).ok_or(NotAMonth)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}
