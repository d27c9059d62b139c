//! The thread that writes rows of the request log, and removes those that have to go.
//!
//! In steps: what is to be removed never keeps what is to be written waiting for long. Where the disk is nearly full, rows are dropped:
//! none of them is worth a disk on which usage cannot be written any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::log::{Bounds, RequestLog, Row, StoreError};
use super::queue::Outlet;
use crate::clock::Clock;

/// How long it waits for rows before it looks at what is to be removed.
const LOOK: Duration = Duration::from_secs(1);
/// Rows that one step removes at least, where there are so many to remove.
const SLICE: usize = 2_000;
/// Rows that one step adds, about: it is one write, and what is to be removed has its turn after it.
const MOST_AT_ONCE: usize = 20_000;
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
    pub(super) fn run(self, batches: &Outlet<Vec<Row>>, lost: &AtomicU64, _alive: Sender<()>) {
        let (mut told, mut full, mut more) = (None, false, false);
        loop {
            let patience = if more { Duration::ZERO } else { LOOK };
            let mut rows = match batches.next_within(patience) {
                Ok(rows) => rows,
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // One write for what waits.
            for others in batches.rest() {
                rows.extend(others);
                if rows.len() >= MOST_AT_ONCE {
                    break;
                }
            }
            if !rows.is_empty() && !self.add(&rows, &mut told, &mut full) {
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
    fn add(&self, rows: &[Row], told: &mut Option<Instant>, full: &mut bool) -> bool {
        let is_full = !self.log.has_room();
        match (is_full, std::mem::replace(full, is_full)) {
            (true, false) => {
                tracing::warn!("the request log takes nothing: the disk of the data directory is nearly full");
            }
            (false, true) => tracing::info!("the request log goes on: there is room on the disk again"),
            _ => {}
        }
        if is_full {
            return false;
        }
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

#[cfg(test)]
mod tests {
    use super::super::log::{Filter, Kind, Page, Pending};
    use super::*;
    use crate::clock::Millis;
    use std::sync::atomic::AtomicBool;

    /// A log on a disk that is full when it is told so.
    #[derive(Debug, Default)]
    struct Counted {
        full: AtomicBool,
        rows: AtomicU64,
    }

    impl RequestLog for Counted {
        fn add(&self, rows: &[Row]) -> Result<(), StoreError> {
            self.rows.fetch_add(rows.len() as u64, Ordering::Relaxed);
            Ok(())
        }

        fn forget(&self, _: Bounds, _: Millis, _: usize) -> Result<bool, StoreError> {
            Ok(false)
        }

        fn bytes(&self) -> u64 {
            self.rows.load(Ordering::Relaxed) * 100
        }

        fn has_room(&self) -> bool {
            !self.full.load(Ordering::Relaxed)
        }

        fn page(&self, _: Filter, _: Option<u128>, _: usize) -> Pending<'_, Page> {
            Box::pin(async { Ok(Page::default()) })
        }
    }

    #[test]
    fn rows_are_dropped_where_the_disk_is_full_or_the_size_is_overrun() {
        let log = Arc::<Counted>::default();
        let bounds = Bounds { age: Duration::from_secs(3600), bytes: 1_000 };
        let keeper = Keeper { log: log.clone(), bounds, clock: Clock::system() };
        let row = Row { kind: Kind::Live, org: 1, request: 1, value: Vec::new() };
        let (mut told, mut full) = (None, false);
        let mut add = || keeper.add(std::slice::from_ref(&row), &mut told, &mut full);
        assert!(add());
        log.full.store(true, Ordering::Relaxed);
        assert!(!add());
        log.full.store(false, Ordering::Relaxed);
        assert_eq!((0..20).filter(|_| add()).count(), 11, "until it is a tenth beyond");
    }
}
