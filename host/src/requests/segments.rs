//! The request log in files of its own: segments, each with an index, in chains by kind of caller and by org.
//!
//! Rows are only added, and whole segments removed, so that a row costs next to nothing and no database carries it. Whatever a
//! crash, a full disk or somebody else left in the directory: each whole row in it is read, and nothing else is believed.

pub(super) mod chain;
pub(super) mod frame;

mod bounds;
mod erase;
mod index;
mod page;
mod recover;
mod segment;
mod writer;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::bounds::Removal;
use self::chain::CHAINS;
use self::page::Span;
use self::segment::{Name, Segment};
use self::writer::Writer;
use super::log::{Bounds, Filter, Kind, Page, Pending, RequestLog, StoreError, Unwritten, begun};
use super::record::Brief;
use super::rows::Rows;
use crate::clock::Millis;
use crate::config;
use crate::data::{DataDirectory, Room};

/// Where segments are, in a data directory.
pub const DIRECTORY: &str = "requests";
/// Of what may be kept a segment holds about this part: many, so that bounds hold closely.
const PART: u64 = 1024;
/// Bytes of a segment, within these.
const SIZES: (u64, u64) = (64 << 10, 4 << 20);
/// Of the time that rows stay, a segment is written for this part at most: so much longer may a row stay on the disk.
const SPANS: u32 = 32;

/// The request log in segments. Clones are the same one.
#[derive(Clone)]
pub struct SegmentLog(Arc<Inner>);

struct Inner {
    directory: PathBuf,
    room: Room,
    /// Bytes of a segment, about.
    size: u32,
    /// For how long one is written at most.
    longest: Duration,
    /// Held while files change; always taken before the state.
    writer: Mutex<Writer>,
    /// What there is; never held while somebody waits for a disk.
    state: Mutex<State>,
}

/// What there is.
#[derive(Debug)]
struct State {
    /// By chain, segments in the order in which they were begun.
    chains: Vec<BTreeMap<u64, Kept>>,
    /// Bytes by chain.
    sums: [u64; CHAINS],
    /// By kind: what began before is not shown any more.
    cut: [Millis; Kind::ALL.len()],
    removal: Removal,
    /// Orgs that were erased: rows of theirs that began until then are neither shown nor added.
    erased: Erased,
    /// The last look at what is too old: by time that passed, and by the time of day.
    looked: Option<(Instant, Millis)>,
}

type Erased = Arc<HashMap<u128, Millis>>;

/// A segment, and the bytes of its file.
#[derive(Debug)]
struct Kept {
    segment: Arc<Segment>,
    bytes: u64,
}

/// Whether a row is one of those that were erased.
fn is_erased(erased: &HashMap<u128, Millis>, row: &Brief) -> bool {
    row.org.and_then(|org| erased.get(&org)).is_some_and(|until| begun(row.request) <= *until)
}

/// Whether a file of this name is one of the log's.
pub fn is_segment(name: &str) -> bool {
    Name::of(name).is_some()
}

impl fmt::Debug for SegmentLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SegmentLog")
    }
}

impl SegmentLog {
    /// In its own directory of a data directory. Where that cannot be read or written, it says so, and has what could be read.
    pub fn open(data: &DataDirectory, settings: &config::RequestLog) -> Self {
        Self::open_in(data.path(), settings)
    }

    fn open_in(data: &Path, settings: &config::RequestLog) -> Self {
        let size = (settings.size / PART).clamp(SIZES.0, SIZES.1);
        Self::sized(data, u32::try_from(size).unwrap_or(u32::MAX), settings.retention / SPANS)
    }

    /// With segments of about so many bytes, each written for so long at most.
    fn sized(data: &Path, size: u32, longest: Duration) -> Self {
        let directory = data.join(DIRECTORY);
        let found = recover::read(&directory, size);
        let mut state = State {
            chains: std::iter::repeat_with(BTreeMap::new).take(CHAINS).collect(),
            sums: [0; CHAINS],
            cut: Default::default(),
            removal: Removal::default(),
            erased: Arc::default(),
            looked: None,
        };
        found.segments.into_iter().for_each(|kept| state.insert(kept));
        let (writer, state) = (Mutex::new(Writer::new(found.next)), Mutex::new(state));
        let room = Room::of(data.to_owned());
        Self(Arc::new(Inner { directory, room, size, longest, writer, state }))
    }

    /// Does something that waits for the disk, elsewhere.
    fn elsewhere<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> std::io::Result<T> + Send + 'static,
    ) -> Pending<'_, T> {
        let inner = self.0.clone();
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || work(&inner)).await;
            done.map_err(|error| StoreError(error.into()))?.map_err(|error| StoreError(error.into()))
        })
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // Its parts are whole after each change, whatever their holder was interrupted in.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        // At worst a segment is open that is written no further.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A segment is there now; in the place of one with its number, if there is one.
    fn insert(&mut self, kept: Kept) {
        let Name { chain, number, .. } = kept.segment.name;
        let bytes = kept.bytes;
        let before = self.chains[chain.index()].insert(number, kept).map_or(0, |kept| kept.bytes);
        let sum = &mut self.sums[chain.index()];
        *sum = sum.saturating_sub(before).saturating_add(bytes);
    }

    /// A segment has so many bytes more.
    fn grow(&mut self, name: Name, more: u64) {
        if let Some(kept) = self.chains[name.chain.index()].get_mut(&name.number) {
            kept.bytes = kept.bytes.saturating_add(more);
            self.sums[name.chain.index()] = self.sums[name.chain.index()].saturating_add(more);
        }
    }
}

impl RequestLog for SegmentLog {
    fn add(&self, rows: &Rows, now: Millis) -> Result<(), Unwritten> {
        self.0.add(rows, now)
    }

    fn forget(&self, bounds: Bounds, now: Millis) -> Result<bool, StoreError> {
        self.0.forget(bounds, now).map_err(|error| StoreError(error.into()))
    }

    fn settle(&self) -> Result<(), StoreError> {
        self.0.settle().map_err(|error| StoreError(error.into()))
    }

    fn bytes(&self) -> u64 {
        self.0.state().sums.iter().sum()
    }

    fn has_room(&self) -> bool {
        self.0.room.is_there()
    }

    fn page(&self, filter: Filter, before: Option<u128>, limit: usize) -> Pending<'_, Page> {
        let (first, end) = filter.span(before);
        self.elsewhere(move |log| log.page(&filter, &Span { first, end }, limit))
    }

    fn find(&self, filter: Filter, request: u128) -> Pending<'_, Option<Vec<u8>>> {
        let span = Span { first: request, end: request.saturating_add(1) };
        self.elsewhere(move |log| log.page(&filter, &span, 1).map(|page| page.rows.into_iter().next()))
    }

    fn erase(&self, org: u128, until: Millis) -> Pending<'_, u64> {
        self.elsewhere(move |log| log.erase(org, until))
    }
}

#[cfg(test)]
mod tests;
