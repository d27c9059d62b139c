//! The request log: what is kept of finished requests, and how it is asked for.
//!
//! A store behind a small trait. Written by one thread, which may wait for a disk; read on the control runtime.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use super::record::{Brief, Record, text};
use super::rows::Rows;
use crate::clock::Millis;

/// How values are written. Another one needs another number, and a way to read this one.
pub(super) const VERSION: u8 = 2;
/// Bits of a request's number below its time.
const CHANCE_BITS: u32 = 80;
const DAY: u64 = 86_400_000;

/// Whose requests, by how long they stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Of callers without a key.
    Nobody,
    /// With live keys.
    Live,
    /// With sandbox keys.
    Sandbox,
    /// With live keys, also those that are no longer valid, and refused or left before anybody was asked: whoever has ever had a key
    /// can have as many of these as they like.
    Refused,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Nobody, Self::Live, Self::Sandbox, Self::Refused];
    /// Those that have a part of the log only, so that they do not push out what live keys have done.
    pub const BOUNDED: [Self; 3] = [Self::Nobody, Self::Sandbox, Self::Refused];

    pub(super) fn of(record: &Record<'_>) -> Self {
        let is_refused = (record.denied.is_some() || record.status == 0) && record.upstream.is_zero();
        match (record.caller.org, record.sandbox) {
            (None, _) => Self::Nobody,
            (Some(_), true) => Self::Sandbox,
            (Some(_), false) if is_refused => Self::Refused,
            (Some(_), false) => Self::Live,
        }
    }
}

/// A record with the names of its pillar and its rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The pillar; empty where none was found.
    pub pillar: &'a str,
    /// The rule.
    pub route: &'a str,
    /// The rest.
    pub record: Record<'a>,
}

impl<'a> Entry<'a> {
    /// What a row says; none where it cannot be read.
    pub fn read(value: &'a [u8]) -> Option<Self> {
        let (version, mut rest) = value.split_first()?;
        if *version != VERSION {
            return None;
        }
        Some(Self { pillar: text(&mut rest)?, route: text(&mut rest)?, record: Record::read(rest)? })
    }
}

/// What a row is looked for by; none where it cannot be read, or was erased.
pub(super) fn brief(value: &[u8]) -> Option<Brief> {
    let (version, mut rest) = value.split_first()?;
    for _ in 0..2 {
        let (length, after) = rest.split_first_chunk()?;
        rest = after.get(usize::from(u16::from_be_bytes(*length))..)?;
    }
    if *version == VERSION { Brief::read(rest) } else { None }
}

/// Which records are asked for.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this org; without one, of all.
    pub org: Option<u128>,
    /// With sandbox keys only.
    pub sandbox: bool,
    /// Begun at this time or later.
    pub since: Option<Millis>,
    /// Begun before this time.
    pub until: Option<Millis>,
    /// With this key.
    pub key: Option<u128>,
    /// To this pillar.
    pub pillar: Option<String>,
    /// With a status of these.
    pub status: Option<Statuses>,
}

/// One status, or a class of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statuses {
    first: u16,
    last: u16,
}

/// A text that is neither a status nor a class of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither a status nor a class of them")]
pub struct NoStatus;

impl std::str::FromStr for Statuses {
    type Err = NoStatus;

    fn from_str(text: &str) -> Result<Self, NoStatus> {
        let digits = |text: &str| text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        let (first, last) = match text.strip_suffix("xx") {
            Some(class) => (format!("{class}00"), format!("{class}99")),
            None => (text.to_owned(), text.to_owned()),
        };
        let read = |text: String| text.parse::<u16>().ok().filter(|code| digits(&text) && (100..=599).contains(code));
        read(first).zip(read(last)).map(|(first, last)| Self { first, last }).ok_or(NoStatus)
    }
}

impl Statuses {
    /// The first digits that they can have.
    pub(super) fn classes(self) -> impl Iterator<Item = usize> {
        usize::from(self.first / 100)..=usize::from(self.last / 100)
    }
}

impl Filter {
    /// Whether a row can be among what is asked for, by what is quickly known of it.
    pub(super) fn may_fit(&self, brief: &Brief) -> bool {
        self.org.is_none_or(|org| brief.org == Some(org))
            && self.key.is_none_or(|key| brief.key == Some(key))
            && self.status.is_none_or(|wanted| (wanted.first..=wanted.last).contains(&brief.status))
    }

    /// Whether one that may be is.
    pub(super) fn fits(&self, entry: &Entry<'_>) -> bool {
        self.pillar.as_ref().is_none_or(|pillar| *pillar == *entry.pillar)
    }

    /// Whose.
    pub(super) fn kinds(&self) -> &'static [Kind] {
        match (self.org, self.sandbox) {
            (_, true) => &[Kind::Sandbox],
            (Some(_), false) => &[Kind::Live, Kind::Sandbox, Kind::Refused],
            (None, false) => &Kind::ALL,
        }
    }

    /// The numbers of requests that it is about: from the first to before the second.
    pub(super) fn span(&self, before: Option<u128>) -> (u128, u128) {
        let until = self.until.map_or(u128::MAX, first_at);
        (self.since.map_or(0, first_at), before.unwrap_or(u128::MAX).min(until))
    }
}

/// The smallest number that a request of this time can have.
pub(super) fn first_at(at: Millis) -> u128 {
    u128::from(at.0.min((1 << 48) - 1)) << CHANCE_BITS
}

/// When a request with this number began.
pub(super) fn begun(request: u128) -> Millis {
    Millis(u64::try_from(request >> CHANCE_BITS).unwrap_or(u64::MAX))
}

/// The last Monday's beginning (UTC), by which logs of sandbox keys go.
pub(super) fn monday(now: Millis) -> Millis {
    let day = now.0 / DAY;
    // The first day of all was a Thursday.
    Millis((day - (day + 3) % 7) * DAY)
}

/// Some rows, newest first.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// What they say; each is read with [`Entry::read`].
    pub rows: Vec<Vec<u8>>,
    /// The number before which the next page begins, where there is one.
    pub next: Option<u128>,
}

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// For how long.
    pub age: Duration,
    /// The most bytes.
    pub bytes: u64,
}

impl Bounds {
    /// Whether so many bytes are so far beyond, a tenth, that no row is to be added before others are removed.
    pub fn are_overrun_by(&self, bytes: u64) -> bool {
        bytes > self.bytes.saturating_add(self.bytes / 10)
    }
}

/// The store does not work now.
#[derive(Debug, thiserror::Error)]
#[error("the request log does not work; look at the disk of the data directory")]
pub struct StoreError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Rows that did not get into the log.
#[derive(Debug)]
pub struct Unwritten {
    /// How many.
    pub rows: u64,
    /// Why.
    pub error: StoreError,
}

/// What a store is still doing.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Keeps records. One thread writes.
pub trait RequestLog: Send + Sync + fmt::Debug {
    /// Adds these; may wait for the disk. What was added outlives the process, and after some seconds a loss of power, too.
    ///
    /// # Errors
    /// Where not all of them could be written.
    fn add(&self, rows: &Rows, now: Millis) -> Result<(), Unwritten>;

    /// Removes of what is beyond the bounds as much as is done quickly; whether there is more to remove.
    ///
    /// # Errors
    /// When the store does not work.
    fn forget(&self, bounds: Bounds, now: Millis) -> Result<bool, StoreError>;

    /// Makes durable some of what was added a while ago. May wait for the disk.
    ///
    /// # Errors
    /// When that did not work.
    fn settle(&self) -> Result<(), StoreError>;

    /// Bytes on the disk.
    fn bytes(&self) -> u64;

    /// Whether its disk has more room than others need. Asks the operating system.
    fn has_room(&self) -> bool;

    /// So many at most, newest first, of those that began before that one. A page can be short and have a next one.
    fn page(&self, filter: Filter, before: Option<u128>, limit: usize) -> Pending<'_, Page>;

    /// The one with this number, of those that the filter is about. It is read with [`Entry::read`].
    fn find(&self, filter: Filter, request: u128) -> Pending<'_, Option<Vec<u8>>>;

    /// Erases all rows of an org whose requests began until then, also those that come later. Nobody is shown one from now on; when this
    /// ends, their bytes are overwritten, durably. How many there were. To be called again where it did not end.
    fn erase(&self, org: u128, until: Millis) -> Pending<'_, u64>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_one_or_a_class() {
        for (text, fits, not) in [("404", 404, 405), ("4xx", 499, 500), ("2xx", 200, 199)] {
            let statuses: Statuses = text.parse().unwrap();
            assert!((statuses.first..=statuses.last).contains(&fits), "{text}");
            assert!(!(statuses.first..=statuses.last).contains(&not), "{text}");
        }
        for text in ["", "4", "4x", "xx", "600", "6xx", "099", "+99", "+4xx", "4xxx", "０００"] {
            assert_eq!(text.parse::<Statuses>(), Err(NoStatus), "{text}");
        }
    }

    #[test]
    fn weeks_begin_on_monday() {
        for (now, begin) in [
            ("2026-11-22T23:59:59.999Z", "2026-11-16T00:00:00.000Z"),
            ("2026-11-23T00:00:00Z", "2026-11-23T00:00:00.000Z"),
            ("1970-01-05T00:00:00Z", "1970-01-05T00:00:00.000Z"),
        ] {
            assert_eq!(monday(now.parse().unwrap()).to_string(), begin);
        }
    }
}
