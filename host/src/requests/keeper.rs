//! The thread that writes rows of the request log, and removes those that have to go.
//!
//! In steps: what is to be removed, or made durable, never keeps what is to be written waiting for long. Where the disk is nearly full,
//! rows are dropped: none of them is worth a disk on which usage cannot be written any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::log::{Bounds, RequestLog, StoreError};
use super::queue::Outlet;
use super::rows::Rows;
use crate::clock::Clock;

/// How long it waits for rows before it looks at what is to be removed.
const LOOK: Duration = Duration::from_secs(1);
/// For so long rows are gathered before they are written: each write costs the same, however many rows are in it.
const GATHER: Duration = Duration::from_millis(150);
/// Rows that one step adds, about: what is to be removed has its turn after it.
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
    pub(super) fn run(self, batches: &Outlet<Rows>, lost: &AtomicU64, _alive: Sender<()>) {
        // At once what went by while no gateway ran.
        let (mut told, mut full, mut more) = (None, false, true);
        loop {
            let (rows, ends) = gathered(batches, if more { Duration::ZERO } else { LOOK });
            if !rows.is_empty() {
                let dropped = self.add(&rows, &mut told, &mut full);
                lost.fetch_add(dropped, Ordering::Relaxed);
            }
            if ends {
                return;
            }
            more = self.log.forget(self.bounds, self.clock.now()).unwrap_or_else(|error| {
                tell(&mut told, &error);
                false
            });
            let _ = self.log.settle().inspect_err(|error| tell(&mut told, error));
        }
    }

    /// How many of these are not in the log now.
    fn add(&self, rows: &Rows, told: &mut Option<Instant>, full: &mut bool) -> u64 {
        let is_full = !self.log.has_room();
        match (is_full, std::mem::replace(full, is_full)) {
            (true, false) => {
                tracing::warn!("the request log takes nothing: the disk of the data directory is nearly full");
            }
            (false, true) => tracing::info!("the request log goes on: there is room on the disk again"),
            _ => {}
        }
        if is_full || self.bounds.are_overrun_by(self.log.bytes()) {
            return rows.len() as u64;
        }
        match self.log.add(rows, self.clock.now()) {
            Ok(()) => 0,
            Err(unwritten) => {
                tell(told, &unwritten.error);
                unwritten.rows
            }
        }
    }
}

/// The next rows, if there are some in time, with those that come right behind them; and whether nobody sends any more.
fn gathered(batches: &Outlet<Rows>, patience: Duration) -> (Rows, bool) {
    let mut rows = match batches.next_within(patience) {
        Ok(rows) => rows,
        Err(error) => return (Rows::default(), error == RecvTimeoutError::Disconnected),
    };
    let until = Instant::now() + GATHER;
    while rows.len() < MOST_AT_ONCE {
        match batches.next_within(until.saturating_duration_since(Instant::now())) {
            Ok(others) => rows.append(&others),
            Err(error) => return (rows, error == RecvTimeoutError::Disconnected),
        }
    }
    (rows, false)
}

fn tell(told: &mut Option<Instant>, error: &StoreError) {
    if told.is_none_or(|told: Instant| told.elapsed() >= QUIET) {
        *told = Some(Instant::now());
        tracing::error!(cause = ?std::error::Error::source(error).map(ToString::to_string), "{error}");
    }
}

#[cfg(test)]
mod tests {
    use super::super::log::{Entry, Filter, Page, Pending, Unwritten};
    use super::super::queue::queue;
    use super::super::record::tests::record;
    use super::*;
    use crate::clock::Millis;
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::channel;

    /// A log on a disk that is full when it is told so.
    #[derive(Debug, Default)]
    struct Counted {
        full: AtomicBool,
        rows: AtomicU64,
        writes: AtomicU64,
    }

    impl RequestLog for Counted {
        fn add(&self, rows: &Rows, _: Millis) -> Result<(), Unwritten> {
            self.writes.fetch_add(1, Ordering::Relaxed);
            self.rows.fetch_add(rows.len() as u64, Ordering::Relaxed);
            Ok(())
        }

        fn forget(&self, _: Bounds, _: Millis) -> Result<bool, StoreError> {
            Ok(false)
        }

        fn settle(&self) -> Result<(), StoreError> {
            Ok(())
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

        fn find(&self, _: Filter, _: u128) -> Pending<'_, Option<Vec<u8>>> {
            Box::pin(async { Ok(None) })
        }

        fn erase(&self, _: u128, _: Millis) -> Pending<'_, u64> {
            Box::pin(async { Ok(0) })
        }
    }

    fn one() -> Rows {
        let mut rows = Rows::default();
        rows.push(&Entry { pillar: "connect", route: "x", record: record(1, "/x") });
        rows
    }

    fn keeper(log: &Arc<Counted>) -> Keeper {
        let bounds = Bounds { age: Duration::from_secs(3600), bytes: 1_000 };
        Keeper { log: log.clone(), bounds, clock: Clock::system() }
    }

    #[test]
    fn rows_are_dropped_where_the_disk_is_full_or_the_size_is_overrun() {
        let log = Arc::<Counted>::default();
        let (keeper, rows) = (keeper(&log), one());
        let (mut told, mut full) = (None, false);
        let mut add = || keeper.add(&rows, &mut told, &mut full) == 0;
        assert!(add());
        log.full.store(true, Ordering::Relaxed);
        assert!(!add());
        log.full.store(false, Ordering::Relaxed);
        assert_eq!((0..20).filter(|_| add()).count(), 11, "until it is a tenth beyond");
    }

    #[test]
    fn what_comes_at_once_is_one_write_and_the_end_loses_nothing() {
        let log = Arc::<Counted>::default();
        let (inlet, outlet) = queue(1 << 20);
        assert!((0..10).all(|_| inlet.put(one())));
        drop(inlet);
        let (lost, (alive, ended)) = (AtomicU64::new(0), channel());
        keeper(&log).run(&outlet, &lost, alive);
        assert_eq!((log.rows.load(Ordering::Relaxed), log.writes.load(Ordering::Relaxed)), (10, 1));
        assert_eq!((lost.into_inner(), ended.try_recv().is_err()), (0, true));
    }
}
