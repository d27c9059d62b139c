//! A gateway in small: workers that begin and end calls, segments that are synced and used again, a usage store that takes what
//! was drained; every step taken by hand, and everything that happens recorded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::super::keeper::Shelf;
use super::super::{Call, Earlier, Full, Journal, Ticket, Writer, thread};
use super::recording::{Crashed, Op, Recording};
use crate::clock::Millis;
use crate::config::{Journal as Settings, WhenFull};
use crate::gas::Gas;
use crate::usage::{Caller, Counts, Mark, Names, Policy, Record, Tally, Usage};

pub(super) const SETTINGS: Settings = Settings {
    segment_size: 1160,
    segments: 4,
    commit_interval: Duration::from_millis(10),
    when_full: WhenFull::Refuse,
};
pub(super) const WORKERS: usize = 2;
pub(super) const PLACE: &str = "/journal";

/// Sums by call (each is of an org of its own), and marks by lane.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Store {
    pub(super) rows: BTreeMap<u128, Counts>,
    pub(super) marks: BTreeMap<u32, (u64, u64, u64)>,
}

/// What is known of a call.
#[derive(Debug, Clone, Default)]
pub(super) struct Fact {
    /// Place in the log of the record that it began.
    pub(super) begun: Option<usize>,
    /// The same of its end.
    pub(super) ended: Option<usize>,
}

pub(super) struct Machine {
    /// As the files were at its start.
    pub(super) before: Recording,
    pub(super) files: Recording,
    pub(super) start: Store,
    pub(super) store: Store,
    pub(super) facts: BTreeMap<u128, Fact>,
    journal: Journal,
    shelves: Vec<Shelf>,
    workers: Vec<Worker>,
    names: Arc<Names>,
    unkept: Vec<(Vec<Record>, Option<Mark>)>,
    unflushed: Vec<Mark>,
}

struct Worker {
    writer: Writer,
    tally: Tally,
    under_way: Vec<(u128, Ticket)>,
}

impl Store {
    pub(super) fn add(&mut self, records: &[Record], marks: &[Mark]) {
        for record in records {
            self.rows.entry(record.caller.org.unwrap()).or_default().merge(&record.counts);
        }
        for Mark { lane, epoch, sequence, floor } in marks {
            let earlier = self.marks.insert(*lane, (*epoch, *sequence, *floor));
            assert!(earlier <= Some((*epoch, *sequence, *floor)), "a mark went back");
        }
    }

    fn list(&self) -> Vec<Mark> {
        let mark =
            |(lane, of): (&u32, &(u64, u64, u64))| Mark { lane: *lane, epoch: of.0, sequence: of.1, floor: of.2 };
        self.marks.iter().map(mark).collect()
    }

    pub(super) fn with(&self, additions: &[(Vec<Record>, Vec<Mark>)]) -> Self {
        let mut store = self.clone();
        additions.iter().for_each(|(records, marks)| store.add(records, marks));
        store
    }
}

/// Reads what is there, and adds it.
pub(super) fn replay(files: &Recording, store: &mut Store) -> Earlier {
    let mut earlier = Earlier::read_from(Arc::new(files.clone()), Path::new(PLACE), &store.list()).unwrap();
    let (records, marks) = earlier.take();
    store.add(&records, &marks);
    earlier
}

/// What policies burn: also where records of a test are counted in bytes.
static FUEL: [(Policy, u64); 1] = [(Policy::NONE, 3)];

/// What a call consumed: told from all others by its bytes.
pub(super) fn usage(names: &Names, number: u128) -> (Call, Usage<'static>) {
    let pillar = names.pillar("connect");
    let route = names.route(pillar, ["rooms", "GET /rooms/{id}"][number as usize % 2]);
    let caller = Caller { org: Some(number), key: Some(number + 1) };
    let at = Millis(1_700_000_000_000 + number as u64);
    let call = Call { request: number << 64 | 7, caller, at };
    let denied = number.is_multiple_of(5).then_some("rate_limited");
    let (bytes_in, bytes_out) = (number as u64, number as u64 * 1000);
    let gas = Gas::from_millionths(number as u64);
    let (units, upstream_us) = (number as u64 * 2, number as u64 * 3);
    let fuel_by_policy = &FUEL;
    let usage = Usage {
        caller,
        pillar,
        route,
        at,
        status: 200,
        denied,
        bytes_in,
        bytes_out,
        gas,
        units,
        upstream_us,
        fuel: 3,
        fuel_by_policy,
    };
    (call, usage)
}

/// The sums of a call that ended.
pub(super) fn whole(names: &Names, number: u128) -> Counts {
    let mut counts = Counts::default();
    let (_, usage) = usage(names, number);
    counts.count(&usage);
    usage.fuel_by_policy.iter().for_each(|(policy, fuel)| counts.burn(&names.policy_name(*policy), *fuel));
    counts
}

impl Machine {
    pub(super) fn new() -> Self {
        Self::with(WhenFull::Refuse)
    }

    pub(super) fn with(when_full: WhenFull) -> Self {
        let nothing = Crashed { files: Recording::default(), store: Vec::new() };
        Self::build(nothing, Store::default(), WORKERS, &Settings { when_full, ..SETTINGS })
    }

    /// With segments of another size or number.
    pub(super) fn sized(segment_size: usize, segments: usize) -> Self {
        let nothing = Crashed { files: Recording::default(), store: Vec::new() };
        Self::build(nothing, Store::default(), WORKERS, &Settings { segment_size, segments, ..SETTINGS })
    }

    /// On what a crash has left; what is replayed is durable.
    pub(super) fn on(crashed: Crashed, start: Store, workers: usize) -> Self {
        Self::build(crashed, start, workers, &SETTINGS)
    }

    fn build(crashed: Crashed, start: Store, workers: usize, settings: &Settings) -> Self {
        let mut store = start.with(&crashed.store);
        let earlier = replay(&crashed.files, &mut store);
        let names = Arc::<Names>::default();
        // As after the replay, before anything is written.
        let files = crashed.files.settled();
        let before = files.settled();
        let earlier = Earlier { files: Arc::new(files.clone()), ..earlier };
        let (journal, (_, shelves), writers) = earlier.open(workers, settings, &names).unwrap();
        let worker = |writer| Worker { writer, tally: Tally::new(1000), under_way: Vec::new() };
        let workers = writers.into_iter().map(worker).collect();
        let (facts, unkept, unflushed) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut machine = Self {
            before,
            files,
            start: store.clone(),
            store,
            facts,
            journal,
            shelves,
            workers,
            names,
            unkept,
            unflushed,
        };
        machine.tidy();
        machine
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// A call begins, if there is room; whether there was.
    pub(super) fn begin(&mut self, worker: usize, number: u128) -> bool {
        let (call, usage) = usage(&self.names, number);
        let Worker { writer, under_way, .. } = &mut self.workers[worker];
        if writer.admit(usage.pillar, usage.route, usage.fuel_by_policy).is_err() {
            return false;
        }
        let Ok(Some(ticket)) = writer.open(&call, usage.pillar, usage.route, usage.fuel_by_policy) else {
            return false;
        };
        under_way.push((number, ticket));
        self.facts.insert(number, Fact { begun: Some(self.files.length() - 1), ended: None });
        true
    }

    /// A call ends, one of those that are under way or, if there is none, one that did not say that it began.
    pub(super) fn end(&mut self, worker: usize, which: usize, other: u128) {
        let length = self.files.length();
        let Worker { writer, tally, under_way } = &mut self.workers[worker];
        let (number, ticket) = match under_way.len() {
            0 => (other, None),
            there => {
                // The first one is a long one.
                let position = if there > 1 && which > 5 { 1 + which % (there - 1) } else { which % there };
                let (number, ticket) = under_way.swap_remove(position);
                (number, Some(ticket))
            }
        };
        let had_room = ticket.is_some();
        let (call, usage) = usage(&self.names, number);
        tally.add(&usage);
        writer.close(ticket, &call, &usage);
        let written = self.files.length() > length;
        assert!(
            written || !had_room || self.files.fail(|faults| faults.overwrites),
            "a call that was written down had no room for its end"
        );
        self.facts.entry(number).or_default().ended = written.then(|| self.files.length() - 1);
    }

    /// The call that began last ends.
    pub(super) fn end_newest(&mut self, worker: usize) {
        let Worker { writer, tally, under_way } = &mut self.workers[worker];
        let (number, ticket) = under_way.pop().unwrap();
        let (call, usage) = usage(&self.names, number);
        tally.add(&usage);
        writer.close(Some(ticket), &call, &usage);
        self.facts.entry(number).or_default().ended = Some(self.files.length() - 1);
    }

    pub(super) fn admit(&mut self, worker: usize, usage: &Usage<'_>) -> Result<(), Full> {
        self.workers[worker].writer.admit(usage.pillar, usage.route, usage.fuel_by_policy)
    }

    pub(super) fn under_way(&self) -> usize {
        self.workers.iter().map(|worker| worker.under_way.len()).sum()
    }

    pub(super) fn sync(&mut self) -> bool {
        thread::sync(&mut self.shelves, &Default::default())
    }

    /// Segments are made and used again.
    pub(super) fn tidy(&mut self) {
        loop {
            let orders = thread::tidy(&mut self.shelves);
            if orders.is_empty() {
                return;
            }
            for order in orders {
                let made = order.carry_out(&self.files);
                if self.shelves[order.shelf].made(made).is_err() {
                    return;
                }
            }
        }
    }

    pub(super) fn drain(&mut self, worker: usize) {
        let Worker { writer, tally, .. } = &mut self.workers[worker];
        let mark = writer.mark();
        self.unkept.push((tally.drain().resolve(&self.names), mark));
    }

    /// What was drained goes to the store, once the journal has it.
    pub(super) fn keep(&mut self) {
        if self.unkept.iter().any(|(_, mark)| mark.is_some_and(|mark| !self.journal.has(&mark))) && !self.sync() {
            return;
        }
        let mut all: BTreeMap<u32, Mark> = BTreeMap::new();
        let mut records = Vec::new();
        for (more, mark) in self.unkept.drain(..) {
            records.extend(more);
            all.extend(mark.map(|mark| (mark.lane, mark)));
        }
        let marks: Vec<Mark> = all.into_values().collect();
        self.store.add(&records, &marks);
        self.unflushed.extend(&marks);
        self.files.note(Op::Add(records, marks));
    }

    pub(super) fn flush(&mut self) {
        self.files.note(Op::Flush);
        self.unflushed.drain(..).for_each(|mark| self.journal.kept(&mark));
    }

    /// Everything of the first worker goes to the store, and what it has taken is free.
    pub(super) fn settle(&mut self) {
        self.drain(0);
        self.keep();
        self.flush();
        self.tidy();
    }

    pub(super) fn figures(&self) -> super::super::Figures {
        self.journal.figures()
    }

    pub(super) fn is_refusing(&self) -> bool {
        self.journal.is_refusing()
    }

    /// Where its segments are.
    pub(super) fn segments(&self) -> Vec<PathBuf> {
        self.files.paths().into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "seg")).collect()
    }
}
