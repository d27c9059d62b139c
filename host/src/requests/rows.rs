//! Rows on their way to the log: framed as they will lie there, one after the other in one buffer.
//!
//! Beside each stands what a writer has to know of it, so that nobody reads it again on the way.

use super::log::{Entry, Kind, VERSION, begun};
use super::queue::Batch;
use super::record::{Brief, Record, put_text};
use super::segments::chain::{Chain, spread};
use super::segments::frame;

/// Some rows.
#[derive(Debug, Default)]
pub struct Rows {
    pub(super) bytes: Vec<u8>,
    pub(super) marks: Vec<Mark>,
}

/// What is known of one row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    /// Where it begins, with its frame.
    pub(super) start: u32,
    /// How long it is, with its frame.
    pub(super) length: u32,
    /// When the request began, in milliseconds since 1970.
    pub(super) begun: u64,
    /// Where it belongs.
    pub(super) chain: Chain,
    /// The org, spread.
    pub(super) org: u32,
    /// The key, spread.
    pub(super) key: u32,
    /// The first digit of the status; 0 where there was none.
    pub(super) class: u8,
}

impl Mark {
    /// Of a row that lies somewhere, so long with its frame.
    pub(super) fn of(row: &Brief, chain: Chain, length: usize) -> Self {
        Self {
            start: 0,
            length: u32::try_from(length).unwrap_or_default(),
            begun: begun(row.request).0,
            chain,
            org: row.org.map_or(0, spread),
            key: row.key.map_or(0, spread),
            class: class(row.status),
        }
    }
}

/// The first digit of a status.
fn class(status: u16) -> u8 {
    u8::try_from(status / 100).unwrap_or(u8::MAX)
}

impl Rows {
    /// Adds one.
    pub fn push(&mut self, entry: &Entry<'_>) {
        self.add(entry.pillar, entry.route, &entry.record, |into| entry.record.write(into));
    }

    /// Adds one whose record is in these bytes already.
    pub(super) fn push_written(&mut self, (pillar, route): (&str, &str), record: &Record<'_>, bytes: &[u8]) {
        self.add(pillar, route, record, |into| into.extend_from_slice(bytes));
    }

    fn add(&mut self, pillar: &str, route: &str, record: &Record<'_>, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        frame::begin(&mut self.bytes);
        self.bytes.push(VERSION);
        put_text(&mut self.bytes, pillar);
        put_text(&mut self.bytes, route);
        write(&mut self.bytes);
        let places = u32::try_from(start).ok().zip(frame::end(&mut self.bytes, start));
        // Texts of a record are bounded far below what a frame holds, and batches below what can be counted here.
        let Some((start, length)) = places else { return self.bytes.truncate(start) };
        let org = record.caller.org.map_or(0, spread);
        self.marks.push(Mark {
            start,
            length,
            begun: begun(record.request).0,
            chain: Chain::of(Kind::of(record), org),
            org,
            key: record.caller.key.map_or(0, spread),
            class: class(record.status),
        });
    }

    /// Takes memory at once for what records of so many bytes become.
    pub(super) fn reserve(&mut self, bytes: usize) {
        // Names come to each, and few records are shorter than this.
        self.bytes.reserve(bytes + bytes / 4);
        self.marks.reserve(bytes / 160);
    }

    /// Adds those of another batch.
    pub(super) fn append(&mut self, other: &Self) {
        let Ok(base) = u32::try_from(self.bytes.len()) else { return };
        self.bytes.extend_from_slice(&other.bytes);
        self.marks.extend(other.marks.iter().map(|mark| Mark { start: mark.start.saturating_add(base), ..*mark }));
    }

    /// One of them, with its frame.
    pub(super) fn framed(&self, mark: &Mark) -> &[u8] {
        let (start, length) = (mark.start as usize, mark.length as usize);
        self.bytes.get(start..start.saturating_add(length)).unwrap_or_default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }
}

impl Batch for Rows {
    fn bytes(&self) -> u64 {
        (self.bytes.len() + size_of::<Mark>() * self.marks.len()) as u64
    }

    fn count(&self) -> u64 {
        self.marks.len() as u64
    }
}
