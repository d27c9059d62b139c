//! A worker's end of the journal: writes down that a call began, and how it ended.
//!
//! Belongs to one thread; never waits, for a file, a lock or anybody. A call that was written down when it began has room for its
//! end, whatever happens meanwhile: that room is set apart with the beginning.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustc_hash::FxBuildHasher;

use super::calls::{Calls, Ticket};
use super::lane::{Left, Sheet, WorkerEnds};
use super::record::{self, Burnt, Call, Ended, Label};
use super::{lane, segment};
use crate::config::WhenFull;
use crate::usage::{Mark, Names, Pillar, Policy, Route, Usage};

/// Calls that are written down once more in one go, at most: it takes a tenth of a microsecond each.
const CARRIED: usize = 20_000;

/// There is no place to write down another call, and the configuration says that there have to be records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// One worker's journal.
pub struct Writer {
    ends: WorkerEnds,
    epoch: u64,
    sequence: u64,
    bytes: u64,
    when_full: WhenFull,
    sheet: Option<Sheet>,
    /// Where the next record goes in the sheet.
    at: usize,
    /// How many sheets there were.
    turns: u64,
    next: Option<Sheet>,
    calls: Calls,
    /// Bytes that are set apart for the ends of calls.
    owed: usize,
    /// Bytes that are set apart for writing the beginning of each of them down once more.
    again: usize,
    /// The largest record that was ever thought of: as much may be left over at the end of a segment.
    longest: usize,
    names: Arc<Names>,
    labels: Vec<Label>,
    numbers: HashMap<(Pillar, Route), u32, FxBuildHasher>,
    /// The names of policies, by their numbers.
    policies: Vec<Option<Arc<str>>>,
    buffer: Vec<u8>,
    /// What is said about policies, before it is part of a record.
    burnt: Vec<u8>,
    marked: (u64, u64),
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, sequence, .. } = self;
        f.debug_struct("Writer").field("epoch", epoch).field("sequence", sequence).finish_non_exhaustive()
    }
}

impl Writer {
    pub(super) fn new(ends: WorkerEnds, epoch: u64, when_full: WhenFull, names: Arc<Names>) -> Self {
        Self {
            ends,
            epoch,
            sequence: 0,
            bytes: 0,
            when_full,
            sheet: None,
            at: segment::HEAD,
            turns: 0,
            next: None,
            calls: Calls::default(),
            owed: 0,
            again: 0,
            longest: 0,
            names,
            labels: Vec::new(),
            numbers: HashMap::default(),
            policies: Vec::new(),
            buffer: Vec::with_capacity(512),
            burnt: Vec::with_capacity(256),
            marked: (0, 0),
        }
    }

    /// Whether a call that has passed these policies may go on to its upstream. What is written down next has room, if nothing else
    /// is between.
    ///
    /// # Errors
    /// When it must not, since it could not be written down.
    pub fn admit(&mut self, pillar: Pillar, route: Route, policies: &[(Policy, u64)]) -> Result<(), Full> {
        let label = self.label(pillar, route);
        let size = self.size_of(label, policies).1;
        let fits = self.fits(size);
        self.tell_full(!fits);
        let lane = &self.ends.lane;
        let fails = lane.failing.load(Ordering::Relaxed) || lane.unwritable.load(Ordering::Relaxed);
        self.unless_refused((fits && !fails).then_some(())).map(drop)
    }

    /// A call begins, which has passed these policies; its end names no others. `None` where that could not be written down, and
    /// need not be.
    ///
    /// # Errors
    /// When the call must not go on, since its beginning could not be written down.
    pub fn open(
        &mut self,
        call: &Call,
        pillar: Pillar,
        route: Route,
        policies: &[(Policy, u64)],
    ) -> Result<Option<Ticket>, Full> {
        let label = self.label(pillar, route);
        let (burnt, size) = self.size_of(label, policies);
        if !self.fits(size) || !self.put(call, label, None) {
            return self.unless_refused(None);
        }
        let names = &self.labels[label as usize];
        self.owed += names.close_size(burnt);
        self.again += names.open_size();
        // At most some hundreds.
        let burnt = u32::try_from(burnt).unwrap_or_default();
        Ok(Some(self.calls.begin(*call, label, burnt, self.sequence)))
    }

    /// A call ended; without a ticket, one whose beginning was not written down.
    pub fn close(&mut self, ticket: Option<Ticket>, call: &Call, usage: &Usage<'_>) {
        let label = self.label(usage.pillar, usage.route);
        let mut burnt = std::mem::take(&mut self.burnt);
        burnt.clear();
        for (policy, fuel) in usage.fuel_by_policy {
            Burnt::write(&mut burnt, self.policy(*policy), *fuel);
        }
        let has_room = match ticket {
            Some(ticket) => {
                let begun = self.calls.end(ticket);
                let label = &self.labels[begun.label as usize];
                self.owed -= label.close_size(begun.burnt as usize);
                self.again -= label.open_size();
                // No other policies than those that it began with.
                debug_assert!(burnt.len() <= begun.burnt as usize);
                true
            }
            None => {
                let size = self.labels[label as usize].close_size(burnt.len());
                self.longest = self.longest.max(size);
                self.fits(size)
            }
        };
        let end = Ended::of(usage, Burnt::of(usage.fuel_by_policy.len(), &burnt));
        if !has_room || !self.put(call, label, Some(&end)) {
            self.ends.lane.unwritten.fetch_add(1, Ordering::Relaxed);
        }
        self.burnt = burnt;
    }

    /// How far it has come; `None` where that is as before. Belongs to the sums that were drained at this moment.
    pub fn mark(&mut self) -> Option<Mark> {
        // Whoever is refused may not come again to find that there is room, or that the disk writes again.
        if self.ends.lane.unwritable.load(Ordering::Relaxed) {
            self.try_again();
        }
        self.carry();
        if self.ends.lane.full.load(Ordering::Relaxed) {
            let fits = self.fits(self.longest * 3);
            self.tell_full(!fits);
        }
        let floor = self.calls.oldest().map_or(self.sequence, |oldest| oldest.sequence - 1);
        if self.marked == (self.sequence, floor) {
            return None;
        }
        self.marked = (self.sequence, floor);
        Some(Mark { lane: self.ends.lane.number, epoch: self.epoch, sequence: self.sequence, floor })
    }

    /// Calls that are under way and written down.
    pub fn pending(&self) -> usize {
        self.calls.len()
    }

    /// Writes old calls that are still under way down once more, so that their segments become free.
    fn carry(&mut self) {
        let wanted = self.ends.lane.wanted.load(Ordering::Relaxed);
        for _ in 0..CARRIED {
            let Some(oldest) = self.calls.oldest().copied().filter(|oldest| oldest.sequence <= wanted) else { return };
            // Out of what is set apart for it, where there is nothing else: new calls wait until there is as much again.
            let size = self.labels[oldest.label as usize].open_size();
            if self.room() < self.owed + size || !self.put(&oldest.call, oldest.label, None) {
                return;
            }
            self.calls.renew_oldest(self.sequence);
        }
    }

    /// Whether so many bytes have room beside all that is set apart.
    fn fits(&mut self, bytes: usize) -> bool {
        self.owed + self.again + bytes <= self.room()
    }

    /// Bytes that can be written.
    fn room(&mut self) -> usize {
        if self.next.is_none() {
            self.next = self.ends.supply.try_recv().ok();
        }
        let here = self.sheet.as_ref().map_or(0, |sheet| sheet.size - self.at);
        let there = self.next.as_ref().map_or(0, |next| next.size - segment::HEAD);
        // No record lies in two segments: what is left over at the end of the first is no room.
        let lost = if self.next.is_some() { self.longest } else { 0 };
        (here + there).saturating_sub(lost)
    }

    /// Writes one record; whether that was done.
    fn put(&mut self, call: &Call, label: u32, end: Option<&Ended<'_>>) -> bool {
        let label = &self.labels[label as usize];
        record::encode(&mut self.buffer, (self.epoch, self.sequence + 1), call, label, end);
        let length = self.buffer.len();
        if self.sheet.as_ref().is_none_or(|sheet| sheet.size - self.at < length) && !self.turn() {
            return false;
        }
        let Some(sheet) = &mut self.sheet else { return false };
        let written = sheet.pages.write(&self.buffer, self.at);
        if !self.is_written(written) {
            return false;
        }
        self.at += length;
        self.sequence += 1;
        self.bytes += length as u64;
        self.ends.lane.bytes.store(self.bytes, Ordering::Relaxed);
        self.ends.lane.place.store(lane::place(self.turns, self.at), Ordering::Release);
        // After the bytes: whoever reads this number syncs them.
        self.ends.lane.written.store(self.sequence, Ordering::Release);
        true
    }

    /// Writes nothing of worth where the next record will be: what is there counts for nothing, as it is before the mark.
    fn try_again(&mut self) {
        if let Some(sheet) = &mut self.sheet {
            let length = self.longest.min(sheet.size - self.at);
            self.buffer.clear();
            self.buffer.resize(length, 0);
            let written = sheet.pages.write(&self.buffer, self.at);
            self.is_written(written);
        }
    }

    /// Notes whether the disk took what was written, and says so where that is news.
    fn is_written(&self, written: io::Result<()>) -> bool {
        let (lane, failed) = (&self.ends.lane, written.is_err());
        if lane.unwritable.load(Ordering::Relaxed) != failed {
            lane.unwritable.store(failed, Ordering::Relaxed);
            match written {
                Ok(()) => tracing::info!(worker = lane.number, "the journal can be written again"),
                Err(error) => tracing::error!(
                    worker = lane.number,
                    "the journal cannot be written; look at the disk of the data directory: {error}"
                ),
            }
        }
        !failed
    }

    /// Goes on in the next segment; whether there is one.
    fn turn(&mut self) -> bool {
        let Some(next) = self.next.take().or_else(|| self.ends.supply.try_recv().ok()) else { return false };
        if let Some(sheet) = self.sheet.replace(next) {
            // Nobody takes it back only when the process is ending.
            let _ = self.ends.left.send(Left { sheet, last: self.sequence });
        }
        self.at = segment::HEAD;
        self.turns += 1;
        true
    }

    /// The most bytes of what is said about policies when a call ends, and of all of the call, whose beginning may be written twice.
    fn size_of(&mut self, label: u32, policies: &[(Policy, u64)]) -> (usize, usize) {
        let burnt = policies.iter().map(|(policy, _)| Burnt::size(self.policy(*policy))).sum();
        let label = &self.labels[label as usize];
        let close = label.close_size(burnt);
        self.longest = self.longest.max(close);
        (burnt, 2 * label.open_size() + close)
    }

    /// The name of a policy; asked for once.
    fn policy(&mut self, policy: Policy) -> &str {
        let number = usize::from(policy.number());
        if number >= self.policies.len() {
            self.policies.resize(number + 1, None);
        }
        self.policies[number].get_or_insert_with(|| self.names.policy_name(policy))
    }

    fn label(&mut self, pillar: Pillar, route: Route) -> u32 {
        if let Some(number) = self.numbers.get(&(pillar, route)) {
            return *number;
        }
        let (pillar_name, route_name) = self.names.find(pillar, route);
        let label = Label::new(&pillar_name, &route_name);
        self.longest = self.longest.max(label.close_size(0));
        self.labels.push(label);
        // Two numbers of 16 bits each name them.
        let number = u32::try_from(self.labels.len() - 1).expect("there are at most 2^32 pairs of names");
        self.numbers.insert((pillar, route), number);
        number
    }

    /// Nothing may go on without a record, where the configuration says so.
    fn unless_refused<T>(&self, record: Option<T>) -> Result<Option<T>, Full> {
        if record.is_none() && self.when_full == WhenFull::Refuse { Err(Full) } else { Ok(record) }
    }

    fn tell_full(&self, full: bool) {
        if self.ends.lane.full.load(Ordering::Relaxed) != full {
            self.ends.lane.full.store(full, Ordering::Relaxed);
        }
    }
}
