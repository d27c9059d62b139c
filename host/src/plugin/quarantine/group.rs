//! All callers of one kind, with a key or without: what was counted of them together, and the bound on how many are known.

use super::case::{Case, Outcome, WINDOW};
use super::whole::{Evidence, Whole};
use super::{Caller, lock};
use crate::clock::Millis;
use papaya::{HashMapRef, LocalGuard};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

/// So many callers of one kind are known at most; each takes some 150 bytes.
pub(super) const MOST_CALLERS: usize = 512;

/// Words of a set of callers, told apart by a hash of ten bits: enough to say whether they are more than a few hundred.
const WORDS: usize = 16;

pub(super) type Cases<'a> = HashMapRef<'a, Caller, Mutex<Case>, RandomState, LocalGuard<'a>>;

/// What calls of one kind of callers share.
#[derive(Debug)]
pub(super) struct Group {
    /// Whether the whole waits, or waits for a probe.
    held: AtomicBool,
    /// Calls that kept their bounds, since the generation began.
    kept: AtomicU64,
    /// Callers of such calls that have nothing against them.
    well: [AtomicU64; WORDS],
    hash: RandomState,
    book: Mutex<Book>,
}

/// What only overruns and probes write.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) whole: Whole,
    /// How many have a case.
    pub(super) callers: usize,
    /// Since when without a gap.
    watched: Millis,
    generation: Millis,
    latest: Millis,
    overruns: u64,
    before: Counts,
    told: (Millis, u32),
}

/// What the generation before counted.
#[derive(Debug, Default)]
struct Counts {
    overruns: u64,
    kept: u64,
    well: [u64; WORDS],
}

impl Group {
    pub(super) fn new() -> Self {
        let book = Book {
            whole: Whole::new(),
            callers: 0,
            watched: Millis(0),
            generation: Millis(0),
            latest: Millis(0),
            overruns: 0,
            before: Counts::default(),
            told: (Millis(0), 0),
        };
        Self {
            held: AtomicBool::new(false),
            kept: AtomicU64::new(0),
            well: Default::default(),
            hash: RandomState::new(),
            book: Mutex::new(book),
        }
    }

    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    /// Until when the whole waits at least.
    pub(super) fn until(&self) -> Option<Millis> {
        if self.is_held() { self.book().whole.until() } else { None }
    }

    /// A call kept its bounds.
    pub(super) fn kept(&self) {
        self.kept.fetch_add(1, Ordering::Relaxed);
    }

    /// Its caller has nothing against it.
    pub(super) fn well(&self, caller: Caller) {
        let (word, bit) = self.place(caller);
        // Most callers are in it already: then nothing is written that other workers read.
        if self.well[word].load(Ordering::Relaxed) & bit == 0 {
            self.well[word].fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// A caller that was well is not, as it turns out. Others may be taken for it, until they come again.
    pub(super) fn unwell(&self, caller: Caller) {
        let (word, bit) = self.place(caller);
        self.well[word].fetch_and(!bit, Ordering::Relaxed);
    }

    fn place(&self, caller: Caller) -> (usize, u64) {
        let place = self.hash.hash_one(caller);
        ((place >> 6) as usize % WORDS, 1 << (place % 64))
    }
}

impl Book {
    /// A call that came at that time was counted as one that kept its bounds, and is to be counted as another. What is too
    /// long ago counts no more.
    pub(super) fn take_back(&mut self, group: &Group, began: Millis) {
        if began >= self.generation {
            let less = |kept: u64| kept.checked_sub(1);
            let _ = group.kept.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        } else if self.generation.since(began) < WINDOW {
            self.before.kept = self.before.kept.saturating_sub(1);
        }
    }

    /// Counts an overrun.
    pub(super) fn overran(&mut self, group: &Group, now: Millis) {
        let age = now.since(self.generation);
        if now < self.generation || age >= WINDOW * 2 {
            self.start_over(group, now);
        } else if age >= WINDOW {
            self.before = Counts {
                overruns: std::mem::take(&mut self.overruns),
                kept: group.kept.swap(0, Ordering::Relaxed),
                well: group.well.each_ref().map(|word| word.swap(0, Ordering::Relaxed)),
            };
            self.generation = now;
        }
        self.overruns += 1;
        self.latest = now;
    }

    fn start_over(&mut self, group: &Group, now: Millis) {
        (self.watched, self.generation, self.overruns, self.before) = (now, now, 0, Counts::default());
        group.kept.store(0, Ordering::Relaxed);
        group.well.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    /// What was counted of late: for one window at least, two at most, save where watching has only begun.
    pub(super) fn evidence(&self, group: &Group, now: Millis) -> Evidence {
        Evidence {
            watched: now.since(self.watched),
            overruns: self.overruns + self.before.overruns,
            kept: group.kept.load(Ordering::Relaxed) + self.before.kept,
        }
    }

    /// How many different callers were well, at least.
    pub(super) fn callers_well(&self, group: &Group) -> usize {
        let both = group.well.iter().zip(&self.before.well).map(|(now, before)| now.load(Ordering::Relaxed) | before);
        both.map(|word| word.count_ones() as usize).sum()
    }

    /// The whole begins to wait.
    pub(super) fn begin(&mut self, group: &Group, now: Millis, jitter: u64) -> Millis {
        group.held.store(true, Ordering::Relaxed);
        self.whole.begin(now, jitter)
    }

    /// A probe of the whole has ended well, or nobody knows how. Tells whether all may come again.
    pub(super) fn probed(&mut self, group: &Group, caller: Caller, outcome: Outcome, now: Millis) -> bool {
        let ended = self.whole.probed(caller, outcome, now, 0);
        if ended {
            group.held.store(false, Ordering::Relaxed);
            // What was held against it is served.
            self.start_over(group, now);
        }
        ended
    }

    /// Makes room for one caller more: whoever is over goes, else who has the least against it, and no more than the new
    /// one. So a flood of callers with one overrun each pushes out one another, and nobody who comes again.
    pub(super) fn make_room(&mut self, cases: &Cases<'_>, group: usize, now: Millis) -> bool {
        if self.callers < MOST_CALLERS {
            return true;
        }
        self.forget(cases, group, now);
        if self.callers < MOST_CALLERS {
            return true;
        }
        let of_group = cases.iter().filter(|(caller, _)| caller.group() == group);
        let weighed = of_group.map(|(caller, case)| {
            let case = lock(case);
            (case.weight(), case.since(), *caller)
        });
        let least = weighed.min_by_key(|(weight, since, _)| (*weight, *since));
        match least {
            Some((weight, _, caller)) if weight <= 1 => {
                cases.remove(&caller);
                self.callers -= 1;
                true
            }
            _ => false,
        }
    }

    /// A new case, counted.
    pub(super) fn add(&mut self, now: Millis) -> Mutex<Case> {
        self.callers += 1;
        Mutex::new(Case::new(now))
    }

    /// Forgets callers whose case is over.
    pub(super) fn forget(&mut self, cases: &Cases<'_>, group: usize, now: Millis) {
        let over = cases.iter().filter(|(caller, case)| caller.group() == group && lock(case).is_over(now));
        let over: Vec<Caller> = over.map(|(caller, _)| *caller).collect();
        self.callers -= over.iter().filter(|caller| cases.remove(*caller).is_some()).count();
    }

    /// Whether there is nothing to watch.
    pub(super) fn is_quiet(&self, now: Millis) -> bool {
        let long_ago = now < self.latest || now.since(self.latest) >= WINDOW * 2;
        self.callers == 0 && self.whole.until().is_none() && long_ago
    }

    /// Whether one line more may be logged now; the last one of a window says that others are left out.
    pub(super) fn may_tell(&mut self, now: Millis) -> Telling {
        const LINES: u32 = 16;
        let (since, lines) = &mut self.told;
        if now < *since || now.since(*since) >= WINDOW {
            (*since, *lines) = (now, 0);
        }
        *lines = lines.saturating_add(1);
        match *lines {
            ..LINES => Telling::Line,
            LINES => Telling::LastLine,
            _ => Telling::Nothing,
        }
    }
}

/// How much may be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Telling {
    Line,
    LastLine,
    Nothing,
}
