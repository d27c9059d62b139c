//! What has to go: rows that are too old, and the oldest of whoever has most where there are too many bytes. Whole segments, a few at a
//! time.

use std::io;
use std::time::{Duration, Instant};

use super::super::log::{Bounds, Kind, monday};
use super::chain::Chain;
use super::segment::Name;
use super::writer::Open;
use super::{Inner, Kept, State};
use crate::clock::Millis;

/// Each of the bounded kinds has this part of the bytes at most.
const PART: u64 = 4;
/// Between two looks at what is too old.
pub(super) const LOOK: Duration = Duration::from_secs(30);
/// By so much the time of day may run away from time that passed between two of them, before it is not believed.
const RUNAWAY: Duration = Duration::from_secs(3600);
/// Segments that go at once.
const STEP: usize = 32;
/// Segments that are closed at once: each is made durable.
const CLOSED: usize = 8;

/// Whether all that is too old is removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removal {
    /// There is nothing to be looked for.
    #[default]
    Done,
    /// There may be more.
    Due,
}

impl Inner {
    pub(super) fn forget(&self, bounds: Bounds, now: Millis) -> io::Result<bool> {
        let mut writer = self.writer();
        if self.state().look(bounds, now) {
            // What is written no more has to go in time, too.
            let due = |open: &&Open| open.is_due(now, self.longest);
            let due = writer.open.iter().flatten().filter(due).map(|open| open.segment.name.chain);
            for chain in due.take(CLOSED).collect::<Vec<_>>() {
                self.close(&mut writer, chain)?;
            }
        }
        let gone = self.state().take_out(bounds);
        let mut failed = None;
        let count = gone.len();
        for kept in gone {
            let name = kept.segment.name;
            match std::fs::remove_file(name.path(&self.directory)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    // It still takes room, and is looked for again.
                    let mut state = self.state();
                    state.insert(kept);
                    state.removal = Removal::Due;
                    failed = Some(error);
                }
                _ => {
                    let open = &mut writer.open[name.chain.index()];
                    if open.as_ref().is_some_and(|open| open.segment.name == name) {
                        *open = None;
                    }
                }
            }
        }
        failed.map_or(Ok(count == STEP), Err)
    }
}

impl State {
    /// Looks at what is too old, if it is time to; whether it was.
    fn look(&mut self, bounds: Bounds, now: Millis) -> bool {
        if !self.is_time(now) {
            return false;
        }
        let age = u64::try_from(bounds.age.as_millis()).unwrap_or(u64::MAX);
        self.cut = [Millis(now.0.saturating_sub(age)); Kind::ALL.len()];
        let sandbox = &mut self.cut[Kind::Sandbox as usize];
        *sandbox = monday(now).max(*sandbox);
        self.removal = Removal::Due;
        true
    }

    /// Whether to look at what is too old now: from time to time, and only by a time of day that can be believed. One jump of the clock
    /// would take the whole log with it.
    fn is_time(&mut self, now: Millis) -> bool {
        let Some((at, then)) = self.looked else {
            self.looked = Some((Instant::now(), now));
            return true;
        };
        let passed = at.elapsed();
        if passed < LOOK {
            return false;
        }
        self.looked = Some((Instant::now(), now));
        let off = now.0.abs_diff(then.plus(passed).0);
        let is_off = u128::from(off) > RUNAWAY.as_millis();
        if is_off {
            tracing::warn!(
                "the clock was set: {now} is {} s from what it should be; nothing is too old for the request log until the next look",
                off / 1000
            );
        }
        !is_off
    }

    /// Takes out segments that have to go, the most that go at once.
    fn take_out(&mut self, bounds: Bounds) -> Vec<Kept> {
        let mut gone = Vec::new();
        if self.removal == Removal::Due {
            let cut = self.cut;
            let is_old = |kept: &&Kept| {
                let kind = kept.segment.name.chain.kind();
                kept.segment.index().newest() < cut[kind as usize].0
            };
            let all = self.chains.iter().flat_map(|chain| chain.values());
            let old: Vec<Name> = all.filter(is_old).map(|kept| kept.segment.name).take(STEP).collect();
            if old.len() < STEP {
                self.removal = Removal::Done;
            }
            gone.extend(old.into_iter().filter_map(|name| self.remove(name)));
        }
        while gone.len() < STEP {
            let Some(chain) = self.fullest(bounds) else { break };
            let oldest = self.chains[chain.index()].values().next().map(|kept| kept.segment.name);
            match oldest.and_then(|name| self.remove(name)) {
                Some(kept) => gone.push(kept),
                // Bytes of nothing would be looked for again and again.
                None => self.sums[chain.index()] = 0,
            }
        }
        gone
    }

    /// The chain that has to give something away, where there is too much: that with most, of a kind that has too much, else of that
    /// which has most.
    fn fullest(&self, bounds: Bounds) -> Option<Chain> {
        let of = |kind: Kind| -> u64 { Chain::all(kind).map(|chain| self.sums[chain.index()]).sum() };
        let beyond = Kind::BOUNDED.into_iter().find(|kind| of(*kind) > bounds.bytes / PART);
        let is_too_much = || self.sums.iter().sum::<u64>() > bounds.bytes;
        let kind = beyond.or_else(|| is_too_much().then(|| Kind::ALL.into_iter().max_by_key(|kind| of(*kind)))?)?;
        Chain::all(kind).max_by_key(|chain| self.sums[chain.index()])
    }

    fn remove(&mut self, name: Name) -> Option<Kept> {
        let kept = self.chains[name.chain.index()].remove(&name.number)?;
        let sum = &mut self.sums[name.chain.index()];
        *sum = sum.saturating_sub(kept.bytes);
        Some(kept)
    }
}
