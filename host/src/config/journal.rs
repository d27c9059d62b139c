//! What is configured of the journal.

use std::time::Duration;

/// Where calls are written down before anybody can have seen that they ended. Changing any of it needs a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// Bytes of one segment.
    pub segment_size: usize,
    /// The most segments of one worker.
    pub segments: usize,
    /// The longest time in which a loss of power loses what was written.
    pub commit_interval: Duration,
    /// What becomes of calls that cannot be written down.
    pub when_full: WhenFull,
}

/// What becomes of calls that cannot be written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// They are refused.
    Refuse,
    /// They go on, and count only as long as the process lives.
    Unmetered,
}
