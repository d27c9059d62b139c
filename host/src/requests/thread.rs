//! The thread that takes records out of the workers' places, and hands them on without secrets.
//!
//! Never waits for a file or a store: what does not fit into the next queue is dropped there and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::lane::{Lane, frames};
use super::log::Entry;
use super::queue::{Batch, Inlet, Lines};
use super::record::{Fields, Record};
use super::rows::Rows;
use super::telling::Teller;
use super::{Lost, line, redact};
use crate::usage::{Names, Pillar, Route};

/// How often it looks.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes of records that go on together at least, where there are so many: the queues are bounded by bytes, and all of many workers at
/// once might not fit.
const PART: usize = 4 << 20;
/// Names that it remembers before it asks for them again: they come with configurations, which come and go.
const MOST_NAMES: usize = 100_000;

/// What the thread works with.
pub(super) struct Work {
    lanes: Vec<Arc<Lane>>,
    names: Remembered,
    lines: Option<Inlet<Lines>>,
    /// Held also where no rows are kept: whoever removes old ones ends with it.
    rows: Option<Inlet<Rows>>,
    keeps: bool,
    /// Where spans go, if they go anywhere.
    teller: Option<Teller>,
    lost: Arc<Lost>,
    told: u64,
}

/// Names, without a lock for those that were asked for before.
struct Remembered {
    names: Arc<Names>,
    known: FxHashMap<(Pillar, Route), Known>,
}

struct Known {
    pillar: Arc<str>,
    route: Arc<str>,
    template: Option<Arc<str>>,
}

impl Remembered {
    fn find(&mut self, pillar: Pillar, route: Route) -> &Known {
        if self.known.len() >= MOST_NAMES {
            self.known.clear();
        }
        self.known.entry((pillar, route)).or_insert_with(|| match pillar {
            Pillar::NONE => Known { pillar: "".into(), route: "".into(), template: None },
            pillar => {
                let (name, rule) = self.names.find(pillar, route);
                Known { pillar: name, route: rule, template: self.names.template(pillar, route) }
            }
        })
    }
}

impl Work {
    pub(super) fn new(
        lanes: Vec<Arc<Lane>>,
        names: Arc<Names>,
        lines: Option<Inlet<Lines>>,
        rows: Option<Inlet<Rows>>,
        keeps: bool,
        teller: Option<Teller>,
        lost: Arc<Lost>,
    ) -> Self {
        let keeps = keeps && rows.is_some();
        let names = Remembered { names, known: FxHashMap::default() };
        Self { lanes, names, lines, rows, keeps, teller, lost, told: 0 }
    }

    /// Until it is told to stop; what is there then goes on, too.
    pub(super) fn run(mut self, stopped: &Receiver<()>, _alive: Sender<()>) {
        let mut empty = Vec::new();
        loop {
            let ends = stopped.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout);
            let (mut lines, mut rows, mut bytes) = (Lines::default(), Rows::default(), 0);
            for lane in 0..self.lanes.len() {
                let mut held = self.lanes[lane].take(empty);
                bytes += held.len();
                self.read(&held, &mut lines, &mut rows);
                self.teller.iter().for_each(|teller| teller.tell(&self.lanes[lane].take_spans()));
                held.clear();
                // A burst's memory is not kept for ever.
                held.shrink_to(256 << 10);
                empty = held;
                if bytes >= PART {
                    self.pass_on(std::mem::take(&mut lines), std::mem::take(&mut rows));
                    bytes = 0;
                }
            }
            self.pass_on(lines, rows);
            self.tell();
            if ends {
                return;
            }
        }
    }

    /// Adds what a place held, as lines and as rows.
    fn read(&mut self, held: &[u8], lines: &mut Lines, rows: &mut Rows) {
        if held.is_empty() || (self.lines.is_none() && !self.keeps) {
            return;
        }
        if self.keeps {
            rows.reserve(held.len());
        }
        let mut fields = Vec::new();
        for (pillar, route, bytes) in frames(held) {
            let Some(record) = Record::read(bytes) else { continue };
            let known = self.names.find(pillar, route);
            // Most are told as they were sent.
            let is_plain = redact::is_plain(record.host) && redact::is_plain(record.path);
            if self.lines.is_none() && is_plain && record.query.is_none() && record.fields.is_empty() {
                rows.push_written((&known.pillar, &known.route), &record, bytes);
                continue;
            }
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
                rows.push(&entry);
            }
        }
    }

    fn pass_on(&self, lines: Lines, rows: Rows) {
        hand_on(self.lines.as_ref(), lines, &self.lost.lines);
        hand_on(self.rows.as_ref(), rows, &self.lost.rows);
    }

    /// Says that records were dropped, where there are more of them.
    fn tell(&mut self) {
        let queue: u64 = self.lanes.iter().map(|lane| lane.dropped.load(Ordering::Relaxed)).sum();
        let dropped = queue + self.lost.lines.load(Ordering::Relaxed) + self.lost.rows.load(Ordering::Relaxed);
        // Each time that it has doubled: a disk that stays full is no news.
        if dropped > self.told.saturating_mul(2) {
            tracing::warn!(
                dropped,
                "records of finished requests were dropped: they are written too slowly, or there is no room for them; `portico_request_records_dropped_total` says where"
            );
            self.told = dropped;
        }
    }
}

fn hand_on<T: Batch>(to: Option<&Inlet<T>>, batch: T, lost: &AtomicU64) {
    let count = batch.count();
    let Some(to) = to.filter(|_| count > 0) else { return };
    if !to.put(batch) {
        lost.fetch_add(count, Ordering::Relaxed);
    }
}
