//! Months: one counter for each calendar month, UTC.
//!
//! The state is the number of the month since January 1970 in the top 16 bits, and the count below. A month never
//! grants more than the quota; the next one starts at zero.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::rule::Step;

const COUNT_BITS: u32 = 48;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const DAY: u64 = 86_400_000;

/// The largest quota. One below the largest count: the state with all bits set means that a bucket is gone.
pub(super) const MAX_QUOTA: u64 = COUNT_MASK - 1;

/// A month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Month {
    /// Months since January 1970.
    number: u64,
    /// The first millisecond of the next one.
    end: u64,
    /// 28 to 31.
    pub(super) days: u64,
}

/// The month that `now` (milliseconds, before the year 2200) lies in.
pub(super) fn month(now: u64) -> Month {
    let instant = i64::try_from(now).ok().and_then(|now| Timestamp::from_millisecond(now).ok());
    let date = TimeZone::UTC.to_datetime(instant.unwrap_or(Timestamp::MAX)).date();
    let since = |value: i16, first: i16| u64::try_from(value - first).unwrap_or(0);
    let days = since(date.days_in_month().into(), 0);
    Month {
        number: since(date.year(), 1970) * 12 + since(date.month().into(), 1),
        end: (now / DAY + days + 1 - since(date.day().into(), 0)) * DAY,
        days,
    }
}

/// The rule of one window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calendar {
    quota: u64,
}

impl Calendar {
    /// `quota` is 1 to [`MAX_QUOTA`].
    pub(super) fn new(quota: u64) -> Self {
        Self { quota }
    }

    /// What a taking of `cost` does to `state` at `now` (milliseconds).
    pub(super) fn step(&self, state: u64, cost: u32, now: u64) -> Step {
        match see(state, &month(now)) {
            Err(state) => Step::Rebase(state),
            Ok((_, count)) if count + u64::from(cost) > self.quota => Step::Refuse,
            Ok((number, count)) => Step::Grant(pack(number, count + u64::from(cost))),
        }
    }

    /// How many may be taken at `now`, and seconds until the month ends (0 when nothing was taken).
    pub(super) fn report(&self, state: u64, now: u64) -> (u64, u64) {
        let month = month(now);
        match see(state, &month) {
            Ok((_, 0)) => (self.quota, 0),
            Ok((_, count)) => (self.quota.saturating_sub(count), (month.end - now).div_ceil(1_000)),
            Err(_) => (0, (month.end - now).div_ceil(1_000)),
        }
    }

    /// Milliseconds until `cost` can be taken.
    pub(super) fn wait(&self, state: u64, cost: u32, now: u64) -> u64 {
        match self.step(state, cost, now) {
            Step::Grant(_) => 0,
            Step::Refuse | Step::Rebase(_) => month(now).end - now,
        }
    }

    /// The state after giving back `cost`, taken at `at` (milliseconds).
    pub(super) fn back(state: u64, cost: u32, at: u64) -> u64 {
        let (number, count) = unpack(state);
        if number == month(at).number { pack(number, count.saturating_sub(cost.into())) } else { state }
    }

    /// The state in which at least `count` are counted for the month of `now`.
    pub(super) fn seed(state: u64, count: u64, now: u64) -> u64 {
        match see(state, &month(now)) {
            Ok((number, counted)) => pack(number, counted.max(count.min(MAX_QUOTA))),
            Err(rebased) => Self::seed(rebased, count, now),
        }
    }

    /// A full bucket at `now`.
    pub(super) fn full(now: u64) -> u64 {
        pack(month(now).number, 0)
    }

    /// Whether the bucket is full at `now`.
    pub(super) fn idle(state: u64, now: u64) -> bool {
        matches!(see(state, &month(now)), Ok((_, 0)))
    }
}

/// Month and count at `now`, or the state to put in place of one that lies ahead, because the clock was set back.
fn see(state: u64, month: &Month) -> Result<(u64, u64), u64> {
    let (number, count) = unpack(state);
    if state == 0 || number < month.number {
        Ok((month.number, 0))
    } else if number == month.number {
        Ok((number, count))
    } else {
        Err(pack(month.number, count))
    }
}

fn pack(number: u64, count: u64) -> u64 {
    number << COUNT_BITS | count
}

fn unpack(state: u64) -> (u64, u64) {
    (state >> COUNT_BITS, state & COUNT_MASK)
}
