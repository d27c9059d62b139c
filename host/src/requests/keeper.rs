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
            match batches.recv_timeout(patience) {
                Ok(mut rows) => {
                    // One write for all that waits.
                    batches.try_iter().for_each(|others| rows.extend(others));
                    if let Err(error) = self.log.add(&rows) {
                        lost.fetch_add(rows.len() as u64, Ordering::Relaxed);
                        tell(&mut told, &error);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            more = self.log.forget(self.bounds, self.clock.now()).unwrap_or_else(|error| {
                tell(&mut told, &error);
                false
            });
        }
    }
}

fn tell(told: &mut Option<Instant>, error: &StoreError) {
    if told.is_none_or(|told: Instant| told.elapsed() >= QUIET) {
        *told = Some(Instant::now());
        tracing::error!(cause = ?std::error::Error::source(error).map(ToString::to_string), "{error}");
    }
}
