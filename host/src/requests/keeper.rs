//! The thread that writes rows of the request log, and removes those that have to go.
//!
//! In steps: what is to be removed never keeps what is to be written waiting for long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::log::{Bounds, RequestLog, Row, StoreError};
use crate::clock::Clock;

/// How long it waits for rows before it looks at what is to be removed.
const LOOK: Duration = Duration::from_secs(1);
/// Rows that one step removes at least, where there are so many to remove.
const SLICE: usize = 2_000;
/// Between two words on a store that does not work.
const QUIET: Duration = Duration::from_secs(60);

/// What the thread works with.
pub(super) struct Keeper {
    pub(super) log: Arc<dyn RequestLog>,
    pub(super) bounds: Bounds,
    pub(super) clock: Clock,
}

impl Keeper {
    /// Until nobody sends any more.
    pub(super) fn run(self, batches: &Receiver<Vec<Row>>, lost: &AtomicU64, _alive: Sender<()>) {
        let mut told = None;
        let mut more = false;
        loop {
            let patience = if more { Duration::ZERO } else { LOOK };
            let mut rows = match batches.recv_timeout(patience) {
                Ok(rows) => rows,
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // One write for all that waits.
            batches.try_iter().for_each(|others| rows.extend(others));
            if !rows.is_empty() && !self.add(&rows, &mut told) {
                lost.fetch_add(rows.len() as u64, Ordering::Relaxed);
            }
            // More than were added: else the log would grow beyond its bound for as long as many come.
            let most = SLICE.max(rows.len().saturating_mul(2));
            more = self.log.forget(self.bounds, self.clock.now(), most).unwrap_or_else(|error| {
                tell(&mut told, &error);
                false
            });
        }
    }

    /// Whether these are in the log now.
    fn add(&self, rows: &[Row], told: &mut Option<Instant>) -> bool {
        if self.bounds.are_overrun_by(self.log.bytes()) {
            return false;
        }
        self.log.add(rows).inspect_err(|error| tell(told, error)).is_ok()
    }
}

fn tell(told: &mut Option<Instant>, error: &StoreError) {
    if told.is_none_or(|told: Instant| told.elapsed() >= QUIET) {
        *told = Some(Instant::now());
        tracing::error!(cause = ?std::error::Error::source(error).map(ToString::to_string), "{error}");
    }
}
