//! `[journal]`: how much is written down, and what happens where it cannot be.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::form::{duration, size};
use crate::config::read::Table;
use crate::config::{Journal, WhenFull};

/// Bytes of a segment.
const SEGMENT: RangeInclusive<u64> = 64 << 10..=1 << 30;
/// Time until what was written is durable.
const COMMIT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(1);

/// Reads `[journal]`.
pub(super) fn journal(mut table: Table<'_>) -> Option<Journal> {
    let segment_size = table.text("segment_size", "16MiB", size(SEGMENT));
    let segments = table.integer("segments", 8, 3..=1024);
    let commit_interval = table.text("commit_interval", "10ms", duration(COMMIT));
    let rules = [("refuse", WhenFull::Refuse), ("unmetered", WhenFull::Unmetered)];
    let when_full = table.choice("when_full", "refuse", &rules);
    table.finish();
    Some(Journal {
        segment_size: segment_size?,
        segments: usize::try_from(segments?).ok()?,
        commit_interval: commit_interval?,
        when_full: when_full?,
    })
}
