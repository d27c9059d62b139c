//! What a worker and the keeper of its segments tell each other: figures that one of them writes and the other reads, and
//! segments that go to and fro.
//!
//! No lock: neither of them ever waits for the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::files::Pages;

/// Figures of one lane.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Its number: that of the worker.
    pub(super) number: u32,
    /// Last record that was written. By the worker.
    pub(super) written: AtomicU64,
    /// Where that ends: see [`place`]. By the worker.
    pub(super) place: AtomicU64,
    /// Bytes that were written. By the worker.
    pub(super) bytes: AtomicU64,
    /// Calls whose end was not written down. By the worker.
    pub(super) unwritten: AtomicU64,
    /// Whether there is no room for another call. By the worker.
    pub(super) full: AtomicBool,
    /// Whether the last try to write failed. By the worker.
    pub(super) unwritable: AtomicBool,
    /// Last record that is durable. By the keeper.
    pub(super) synced: AtomicU64,
    /// Calls that began no later than this record are to be written down once more. By the keeper.
    pub(super) wanted: AtomicU64,
    /// Segments that hold something. By the keeper.
    pub(super) used: AtomicU64,
    /// Whether the disk does not make durable what is written. By the keeper.
    pub(super) failing: AtomicBool,
    /// The floor of the newest mark that is durable in the usage store. By whoever keeps usage.
    pub(super) kept: AtomicU64,
}

/// A place in the newest of so many segments that a worker was given, in one number: segments are far below 4 GiB, and
/// 2^32 of them are not written in the life of a process.
pub(super) fn place(turns: u64, at: usize) -> u64 {
    turns << 32 | (at as u64 & 0xffff_ffff)
}

/// How far the segment after so many others is written: all of it, where the worker has gone on to another one.
pub(super) fn upto(place: u64, others: u64, size: usize) -> usize {
    match (place >> 32).cmp(&(others + 1)) {
        std::cmp::Ordering::Equal => usize::try_from(place & 0xffff_ffff).unwrap_or(size).min(size),
        std::cmp::Ordering::Greater => size,
        std::cmp::Ordering::Less => 0,
    }
}

/// A segment to write into.
pub(super) struct Sheet {
    pub(super) pages: Box<dyn Pages>,
    pub(super) size: usize,
}

/// A segment that its worker is done with.
pub(super) struct Left {
    pub(super) sheet: Sheet,
    /// Number of the last record in it.
    pub(super) last: u64,
}

/// The worker's ends.
pub(super) struct WorkerEnds {
    pub(super) lane: Arc<Lane>,
    pub(super) supply: Receiver<Sheet>,
    pub(super) left: Sender<Left>,
}

/// The keeper's ends.
pub(super) struct KeeperEnds {
    pub(super) lane: Arc<Lane>,
    pub(super) supply: Sender<Sheet>,
    pub(super) left: Receiver<Left>,
}

/// A lane, with both ends of its channels.
pub(super) fn lane(number: u32) -> (WorkerEnds, KeeperEnds) {
    let lane = Arc::new(Lane { number, ..Lane::default() });
    let ((supply, supplied), (left, taken)) = (channel(), channel());
    let worker = WorkerEnds { lane: lane.clone(), supply: supplied, left };
    (worker, KeeperEnds { lane, supply, left: taken })
}

impl Lane {
    /// Whether new calls find no place.
    pub(super) fn is_stuck(&self) -> bool {
        [&self.full, &self.unwritable, &self.failing].iter().any(|cause| cause.load(Ordering::Relaxed))
    }
}
