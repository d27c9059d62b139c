//! The thread that takes records out of the workers' places, and hands them on without secrets.
//!
//! Never waits for a file or a store: what does not fit into the next queue is dropped there and counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender};
use std::time::Duration;

use super::lane::{Lane, frames};
use super::log::{Entry, Row};
use super::record::{Fields, Record};
use super::{Lost, line, redact};
use crate::usage::{Names, Pillar, Route};

/// How often it looks.
const LOOK: Duration = Duration::from_millis(50);
/// Names that it remembers before it asks for them again: they come with configurations, which come and go.
const MOST_NAMES: usize = 100_000;

/// Some lines.
pub(super) struct Lines {
    pub(super) text: Vec<u8>,
    pub(super) count: u64,
}

/// What the thread works with.
pub(super) struct Work {
    lanes: Vec<Arc<Lane>>,
    names: Arc<Names>,
    known: HashMap<(Pillar, Route), Known>,
    lines: Option<SyncSender<Lines>>,
    /// Held also where no rows are kept: whoever removes old ones ends with it.
    rows: Option<SyncSender<Vec<Row>>>,
    keeps: bool,
    lost: Arc<Lost>,
    told: u64,
}

#[derive(Clone)]
struct Known {
    pillar: Arc<str>,
    route: Arc<str>,
    template: Option<Arc<str>>,
}

impl Work {
    pub(super) fn new(
        lanes: Vec<Arc<Lane>>,
        names: Arc<Names>,
        lines: Option<SyncSender<Lines>>,
        rows: Option<SyncSender<Vec<Row>>>,
        keeps: bool,
        lost: Arc<Lost>,
    ) -> Self {
        let keeps = keeps && rows.is_some();
        Self { lanes, names, known: HashMap::new(), lines, rows, keeps, lost, told: 0 }
    }

    /// Until it is told to stop; what is there then goes on, too.
    pub(super) fn run(mut self, stopped: &Receiver<()>, _alive: Sender<()>) {
        let mut empty = Vec::new();
        loop {
            let ends = stopped.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout);
            for lane in 0..self.lanes.len() {
                let mut held = self.lanes[lane].take(empty);
                self.pass_on(&held);
                held.clear();
                // A burst's memory is not kept for ever.
                held.shrink_to(256 << 10);
                empty = held;
            }
            self.tell();
            if ends {
                return;
            }
        }
    }

    fn pass_on(&mut self, held: &[u8]) {
        if held.is_empty() || (self.lines.is_none() && !self.keeps) {
            return;
        }
        let (mut lines, mut rows) = (Lines { text: Vec::new(), count: 0 }, Vec::new());
        let mut fields = Vec::new();
        for (pillar, route, bytes) in frames(held) {
            let Some(record) = Record::read(bytes) else { continue };
            let known = self.named(pillar, route);
            let (host, path) = (redact::text(record.host), redact::text(record.path));
            let query = record.query.map(redact::query);
            fields.clear();
            for (name, value) in record.fields.iter() {
                Fields::write(&mut fields, name, redact::query(&String::from_utf8_lossy(value)).as_bytes());
            }
            let record =
                Record { host: &host, path: &path, query: query.as_deref(), fields: Fields(&fields), ..record };
            let entry = Entry { pillar: &known.pillar, route: &known.route, record };
            if self.lines.is_some() {
                line::write(&entry, known.template.as_deref(), &mut lines.text);
                lines.count += 1;
            }
            if self.keeps {
                rows.push(entry.row());
            }
        }
        let (count, number) = (lines.count, rows.len() as u64);
        hand_on(self.lines.as_ref(), lines, count, &self.lost.lines);
        hand_on(self.rows.as_ref(), rows, number, &self.lost.rows);
    }

    fn named(&mut self, pillar: Pillar, route: Route) -> Known {
        if let Some(known) = self.known.get(&(pillar, route)) {
            return known.clone();
        }
        let known = match pillar {
            Pillar::NONE => Known { pillar: "".into(), route: "".into(), template: None },
            pillar => {
                let (name, rule) = self.names.find(pillar, route);
                Known { pillar: name, route: rule, template: self.names.template(pillar, route) }
            }
        };
        if self.known.len() >= MOST_NAMES {
            self.known.clear();
        }
        self.known.insert((pillar, route), known.clone());
        known
    }

    /// Says that records were dropped, where there are more of them.
    fn tell(&mut self) {
        let queue: u64 = self.lanes.iter().map(|lane| lane.dropped.load(Ordering::Relaxed)).sum();
        let dropped = queue + self.lost.lines.load(Ordering::Relaxed) + self.lost.rows.load(Ordering::Relaxed);
        // Each time that it has doubled: a disk that stays full is no news.
        if dropped > self.told.saturating_mul(2) {
            tracing::warn!(
                dropped,
                "records of finished requests were dropped, since they are written too slowly; `portico_request_records_dropped_total` says where"
            );
            self.told = dropped;
        }
    }
}

fn hand_on<T>(to: Option<&SyncSender<T>>, batch: T, count: u64, lost: &AtomicU64) {
    let Some(to) = to.filter(|_| count > 0) else { return };
    if to.try_send(batch).is_err() {
        lost.fetch_add(count, Ordering::Relaxed);
    }
}
