//! Finished requests: each is told once, as figures, as a line, and as a row of the request log; and some of them span by span.
//!
//! Never decides anything, and no request waits for it: a worker writes into a place of its own, a thread takes out what is there
//! and hands it to those who write files and rows. Whoever of them is too slow loses records, and that is counted.

mod access;
mod calls;
mod export;
mod figures;
mod keeper;
mod lane;
mod line;
mod log;
pub mod otlp;
mod queue;
mod record;
mod redact;
mod rows;
mod sampling;
mod segments;
mod spans;
mod telling;
mod thread;
mod trace;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use self::calls::{Call, Calls, Phase, Verdict, burnt, time};
pub use self::export::{BadField, Export, Inlet, NoExport};
pub use self::figures::{BOUNDS, FINE_BOUNDS, Figures, Histogram, OfPhase, OfPillar, OfUpstream};
pub use self::lane::{Head, Recorder};
pub use self::line::{ended, micros};
pub use self::log::{
    Bounds, Entry, Filter, Kind, NoStatus, Page, Pending, RequestLog, Statuses, StoreError, Unwritten,
};
#[cfg(test)]
pub(crate) use self::record::tests::record;
pub use self::record::{Fields, Named, Record};
pub use self::rows::Rows;
pub use self::segments::{DIRECTORY, SegmentLog, is_segment};
pub use self::spans::Asked;
pub use self::trace::Trace;

use self::lane::Lane;
use crate::clock::Clock;
use crate::config::{Access, Telemetry};
use crate::usage::Names;

/// Bytes that wait for whoever writes lines, and for whoever writes rows. More are dropped.
const WAITING: u64 = 64 << 20;
/// How long the end waits for what was not written yet.
const PATIENCE: Duration = Duration::from_secs(2);

/// All workers' places, and the threads that empty them.
#[derive(Debug)]
pub struct Requests {
    lanes: Vec<Arc<Lane>>,
    lost: Arc<Lost>,
    log: Option<Arc<dyn RequestLog>>,
    spans: Option<Arc<export::Figures>>,
    stop: Mutex<Option<Sender<()>>>,
    ended: Mutex<std::sync::mpsc::Receiver<()>>,
}

/// Records that did not get to where they were to be written.
#[derive(Debug, Default)]
struct Lost {
    lines: AtomicU64,
    rows: AtomicU64,
}

/// Records that were dropped, by where there was no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// With a worker.
    pub queue: u64,
    /// On the way to the access line.
    pub access: u64,
    /// On the way to the request log.
    pub log: u64,
}

/// Spans, by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spans {
    /// Taken by the collector.
    pub exported: u64,
    /// Refused by it, or given up.
    pub failed: u64,
    /// Dropped, since a worker had no room for them.
    pub dropped_queue: u64,
    /// Dropped, since too many waited for the collector.
    pub dropped_export: u64,
}

impl Requests {
    /// Begins to tell: a place for each worker. Where the settings keep no records, those that are in the log are removed. Spans are told where
    /// there is an inlet for them.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn start(
        workers: usize,
        settings: &Telemetry,
        log: Option<Arc<dyn RequestLog>>,
        names: Arc<Names>,
        clock: Clock,
        spans: Option<Inlet>,
    ) -> io::Result<(Self, Vec<Recorder>)> {
        let lanes: Vec<Arc<Lane>> = (0..workers).map(|_| Arc::default()).collect();
        let shared = Arc::new(settings.clone());
        let sampling =
            spans.as_ref().map(|_| Arc::new(sampling::Sampling::new(settings.traces.clone(), clock.clone())));
        let recorders =
            lanes.iter().map(|lane| Recorder::new(lane.clone(), shared.clone(), sampling.clone())).collect();
        let lost = Arc::<Lost>::default();
        // Held by each thread: when the last of them has ended, nobody can send any more.
        let (alive, ended) = channel();
        let named = |name: &str| std::thread::Builder::new().name(name.into());
        let lines = match &settings.access {
            Access::Off => None,
            to => {
                let (send, batches) = queue::queue(WAITING);
                let (to, lost, alive) = (to.clone(), lost.clone(), alive.clone());
                named("portico-access").spawn(move || access::run(&to, &batches, &lost.lines, alive))?;
                Some(send)
            }
        };
        let rows = match &log {
            None => None,
            Some(log) => {
                let (send, batches) = queue::queue(WAITING);
                let (log, lost, alive) = (log.clone(), lost.clone(), alive.clone());
                let bounds = match settings.requests.keep {
                    true => Bounds { age: settings.requests.retention, bytes: settings.requests.size },
                    false => Bounds { age: Duration::ZERO, bytes: 0 },
                };
                let keeper = keeper::Keeper { log, bounds, clock };
                named("portico-log").spawn(move || keeper.run(&batches, &lost.rows, alive))?;
                Some(send)
            }
        };
        let (stop, stopped) = channel();
        let figures = spans.as_ref().map(|inlet| inlet.figures.clone());
        let teller = spans.map(|inlet| telling::Teller::new(names.clone(), inlet));
        let work = thread::Work::new(lanes.clone(), names, lines, rows, settings.requests.keep, teller, lost.clone());
        named("portico-requests").spawn(move || work.run(&stopped, alive))?;
        let (stop, ended) = (Mutex::new(Some(stop)), Mutex::new(ended));
        Ok((Self { lanes, lost, log, spans: figures, stop, ended }, recorders))
    }

    /// All figures of this moment.
    pub fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        self.lanes.iter().for_each(|lane| lane.add_to(&mut figures));
        figures
    }

    /// Requests that are under way.
    pub fn in_flight(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.in_flight()).sum()
    }

    /// Heads that were refused in this way.
    pub fn refused(&self, head: Head) -> u64 {
        self.lanes.iter().map(|lane| lane.refused(head)).sum()
    }

    /// What was dropped.
    pub fn dropped(&self) -> Dropped {
        Dropped {
            queue: self.lanes.iter().map(|lane| lane.dropped.load(Ordering::Relaxed)).sum(),
            access: self.lost.lines.load(Ordering::Relaxed),
            log: self.lost.rows.load(Ordering::Relaxed),
        }
    }

    /// What became of spans.
    pub fn spans(&self) -> Spans {
        let of = |figure: fn(&export::Figures) -> &AtomicU64| {
            self.spans.as_deref().map_or(0, |figures| figure(figures).load(Ordering::Relaxed))
        };
        Spans {
            exported: of(|figures| &figures.exported),
            failed: of(|figures| &figures.failed),
            dropped_queue: self.lanes.iter().map(|lane| lane.dropped_spans.load(Ordering::Relaxed)).sum(),
            dropped_export: of(|figures| &figures.dropped),
        }
    }

    /// Bytes of the request log; none where there is none.
    pub fn log_bytes(&self) -> Option<u64> {
        self.log.as_ref().map(|log| log.bytes())
    }

    /// Writes what is there, and ends the threads; one that waits for a reader of its output is left to its wait.
    pub fn end(&self) {
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        if stop.is_none() {
            return;
        }
        drop(stop);
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!(
                "what was told of the last requests is not written everywhere: its reader or its disk is slow"
            );
        }
    }
}
