//! Keeps the segments of all lanes, beside the workers: makes room ahead of need, makes durable what was written, and uses
//! again what the usage store has taken.
//!
//! Nothing in here is waited for by a worker.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::files::{Files, Pages};
use super::lane::{self, KeeperEnds, Left, Sheet};
use super::segment::{self, Segment};

/// Segments that a worker has at hand: one to write into, and the next.
const AT_HAND: usize = 2;

/// The segments of one lane.
pub(super) struct Shelf {
    ends: KeeperEnds,
    directory: PathBuf,
    size: usize,
    most: usize,
    /// Handed to the worker, in order; the first is the one that it writes into, or will.
    out: VecDeque<Segment>,
    /// How many were there before that one.
    others: u64,
    /// Left by the worker and not yet synced.
    left: VecDeque<Left>,
    /// Written to their end and synced; each with its last record.
    full: VecDeque<(Segment, Box<dyn Pages>, u64)>,
    free: Vec<Made>,
    /// The number of the next one that is made.
    number: u64,
    /// Whether one is being made.
    making: bool,
}

/// A segment that has to be made.
#[derive(Debug)]
pub(super) struct Order {
    /// Position of the shelf.
    pub(super) shelf: usize,
    path: PathBuf,
    size: usize,
    lane: u32,
}

/// A segment that can be written into.
pub(super) type Made = (Segment, Box<dyn Pages>);

impl Order {
    /// Makes it; takes as long as the disk does. What cannot be written into is not there afterwards.
    pub(super) fn carry_out(&self, files: &dyn Files) -> std::io::Result<Made> {
        let segment = Segment::make(files, &self.path, self.size, self.lane)?;
        match segment.file.clone().pages() {
            Ok(pages) => Ok((segment, pages)),
            Err(error) => {
                let _ = files.remove(&self.path);
                Err(error)
            }
        }
    }
}

impl Shelf {
    /// Around segments that are there already and hold nothing that is still needed.
    pub(super) fn new(ends: KeeperEnds, directory: PathBuf, (size, most): (usize, usize), number: u64) -> Self {
        Self {
            ends,
            directory,
            size,
            most,
            out: VecDeque::new(),
            others: 0,
            left: VecDeque::new(),
            full: VecDeque::new(),
            free: Vec::new(),
            number,
            making: false,
        }
    }

    /// Takes a segment that holds nothing that is still needed.
    pub(super) fn add(&mut self, segment: Segment) -> std::io::Result<()> {
        let pages = segment.file.clone().pages()?;
        self.free.push((segment, pages));
        self.supply();
        Ok(())
    }

    /// Makes durable what was written until now. Whether there was anything.
    pub(super) fn sync(&mut self) -> std::io::Result<bool> {
        let lane = self.ends.lane.clone();
        // First of all: what is known to be written is in a segment that is known here.
        let written = lane.written.load(Ordering::Acquire);
        self.left.extend(self.ends.left.try_iter());
        if written == lane.synced.load(Ordering::Relaxed) && self.left.is_empty() {
            return Ok(false);
        }
        while !self.left.is_empty() {
            if let Some(segment) = self.out.front_mut() {
                segment.make_durable(self.size)?;
            }
            self.others += 1;
            let (Some(segment), Some(left)) = (self.out.pop_front(), self.left.pop_front()) else { break };
            self.full.push_back((segment, left.sheet.pages, left.last));
        }
        if let Some(segment) = self.out.front_mut() {
            // Looked at after `written`: so it is as far or farther.
            let place = lane.place.load(Ordering::Acquire);
            segment.make_durable(lane::upto(place, self.others, self.size))?;
        }
        lane.synced.store(written, Ordering::Release);
        Ok(true)
    }

    /// Uses again what is no longer needed, and hands the worker what it will need. What has to be made for that is told.
    pub(super) fn tidy(&mut self, shelf: usize) -> Option<Order> {
        let lane = self.ends.lane.clone();
        let kept = lane.kept.load(Ordering::Acquire);
        while let Some((segment, pages, _)) = self.full.pop_front_if(|(.., last)| *last <= kept) {
            self.free.push((segment, pages));
        }
        self.supply();
        lane.used.store((self.full.len() + self.out.len()) as u64, Ordering::Relaxed);
        // Long calls must not hold on to old segments until there is no room.
        if self.full.len() >= self.most / 3 {
            let half = self.full.get(self.full.len() / 2).map_or(0, |(.., last)| *last);
            lane.wanted.store(half, Ordering::Relaxed);
        }
        let there = self.out.len() + self.full.len() + self.free.len();
        if self.out.len() >= AT_HAND || self.making || there >= self.most {
            return None;
        }
        self.making = true;
        let path = self.directory.join(segment::name(self.number));
        self.number += 1;
        Some(Order { shelf, path, size: self.size, lane: lane.number })
    }

    /// Takes what was made; what could not be is ordered again later.
    pub(super) fn made(&mut self, made: std::io::Result<Made>) -> std::io::Result<()> {
        self.making = false;
        self.free.push(made?);
        self.supply();
        Ok(())
    }

    /// Notes whether the disk does what it should; whether that is news.
    pub(super) fn note_failing(&self, failing: bool) -> bool {
        self.ends.lane.failing.swap(failing, Ordering::Relaxed) != failing
    }

    /// Where its segments are.
    pub(super) fn directory(&self) -> &std::path::Path {
        &self.directory
    }

    fn supply(&mut self) {
        while self.out.len() < AT_HAND
            && let Some((segment, pages)) = self.free.pop()
        {
            self.out.push_back(segment);
            // Nobody takes it only when the worker has ended.
            let _ = self.ends.supply.send(Sheet { pages, size: self.size });
        }
    }
}
