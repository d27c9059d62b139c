//! Who has to wait before a policy is asked again, since its calls burn their whole fuel or time.
//!
//! Knows no clock. One caller waits for what it does itself; a policy as a whole waits only when most callers of a kind are
//! hurt, and those with a key never wait for what happens to those without. A policy that has not overrun of late costs
//! each call one relaxed load; while one is watched, calls of callers that have nothing against them take no lock.

mod case;
mod group;
mod pass;
mod tally;
#[cfg(test)]
mod tests;
mod whole;

use self::case::{Admission, Case, Change, Outcome, WINDOW};
use self::group::Group;
pub use self::pass::{Pass, Voice};
pub use self::tally::Tallies;
use self::tally::Tally;
use crate::clock::Millis;
use crate::config::counted_address;
use crate::id::OrgId;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Who calls, as far as waiting goes: all keys of an org together, and all addresses of one IPv6 network (/64).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caller {
    /// The org of a valid key.
    Org(OrgId),
    /// The address of whoever has none.
    Address(IpAddr),
}

impl Caller {
    /// A caller without a valid key.
    pub fn without_key(address: IpAddr) -> Self {
        Self::Address(counted_address(address))
    }

    fn group(self) -> usize {
        match self {
            Self::Org(_) => 0,
            Self::Address(_) => 1,
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Org(org) => f.write_str(&org.text()),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// What operators see. Nobody is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quarantined {
    /// Callers that wait now, each for itself.
    pub callers: usize,
    /// All callers with a key wait, until then at least; then the next of them probes.
    pub with_key: Option<Millis>,
    /// All callers without a key wait, as before.
    pub without_key: Option<Millis>,
}

impl Quarantined {
    /// Whether the policy as a whole waits, for one kind of callers at least.
    pub fn is_whole(&self) -> bool {
        self.with_key.is_some() || self.without_key.is_some()
    }
}

/// The waits of one policy, for all workers.
#[derive(Debug)]
pub struct Quarantine {
    /// Whether anything overran of late: all that calls of a healthy policy read.
    watching: AtomicBool,
    cases: papaya::HashMap<Caller, Mutex<Case>, RandomState>,
    groups: [Group; 2],
    /// When what is over is looked for again.
    next_tidy: AtomicU64,
    jitter: AtomicU64,
    tally: Tally,
}

/// What a call was let through for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Probes {
    caller: bool,
    whole: bool,
}

impl Probes {
    fn any(self) -> bool {
        self.caller || self.whole
    }
}

/// What the end of one call changed, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Changes {
    caller: Change,
    whole: Change,
}

impl Changes {
    const NONE: Self = Self { caller: Change::Nothing, whole: Change::Nothing };
}

impl Quarantine {
    /// Nobody waits. The seed spreads the ends of waits, and who counts as who; it is no secret.
    pub fn new(seed: u64) -> Self {
        Self {
            watching: AtomicBool::new(false),
            cases: papaya::HashMap::builder().hasher(RandomState::new()).build(),
            groups: [Group::new(), Group::new()],
            next_tidy: AtomicU64::new(0),
            jitter: AtomicU64::new(seed),
            tally: Tally::default(),
        }
    }

    /// Who waits now.
    pub fn shown(&self, now: Millis) -> Quarantined {
        if !self.is_watching() {
            return Quarantined::default();
        }
        let waits = |case: &Mutex<Case>| {
            let case = lock(case);
            case.is_waiting() && !case.is_over(now)
        };
        let [with_key, without_key] = self.groups.each_ref().map(Group::until);
        Quarantined { callers: self.cases.pin().values().filter(|case| waits(case)).count(), with_key, without_key }
    }

    /// What there was of waits so far.
    pub fn tallies(&self) -> Tallies {
        self.tally.read()
    }

    fn is_watching(&self) -> bool {
        self.watching.load(Ordering::Relaxed)
    }

    /// Whether a call may run, and what for; else until when not.
    fn admit(&self, caller: Caller, now: Millis) -> Result<Probes, Millis> {
        if !self.is_watching() {
            return Ok(Probes::default());
        }
        self.tidy(now);
        let group = &self.groups[caller.group()];
        let cases = self.cases.pin();
        let case = cases.get(&caller);
        let mut probes = Probes::default();
        if group.is_held() {
            // First: who waits for what it did itself does not get to speak for all.
            if let Some(until) = case.and_then(|case| lock(case).refusal(now)) {
                return Err(until);
            }
            match group.book().whole.admit(caller, now) {
                Admission::Go => {}
                Admission::Probe => probes.whole = true,
                Admission::Wait(until) => return Err(until),
            }
        }
        match case.map_or(Admission::Go, |case| lock(case).admit(now)) {
            Admission::Go => {}
            Admission::Probe => probes.caller = true,
            Admission::Wait(until) => {
                if probes.whole {
                    group.book().whole.probed(caller, Outcome::Unknown, now, 0);
                }
                return Err(until);
            }
        }
        if probes.any() {
            self.tally.probe();
        }
        Ok(probes)
    }

    /// A call that was let through has ended.
    fn ended(&self, caller: Caller, probes: Probes, outcome: Outcome, now: Millis) -> Changes {
        let group = &self.groups[caller.group()];
        if outcome == Outcome::Overran {
            return self.overran(caller, probes, now);
        }
        let mut changes = Changes::NONE;
        if probes.whole && group.book().probed(group, caller, outcome, now) {
            changes.whole = Change::Ended;
        }
        match self.cases.pin().get(&caller) {
            Some(case) => changes.caller = lock(case).ended(probes.caller, outcome, now, 0),
            None if outcome == Outcome::Kept => group.well(caller),
            None => {}
        }
        if outcome == Outcome::Kept {
            group.kept();
        }
        changes
    }

    /// The first call about an exchange that began then was counted as one that kept its bounds, and a later one did not:
    /// it is to be counted in its place.
    fn take_back(&self, caller: Caller, began: Millis) {
        if !self.is_watching() {
            return;
        }
        let group = &self.groups[caller.group()];
        group.book().take_back(group, began);
        match self.cases.pin().get(&caller) {
            Some(case) => lock(case).take_back(began),
            None => group.unwell(caller),
        }
    }

    fn overran(&self, caller: Caller, probes: Probes, now: Millis) -> Changes {
        let group = &self.groups[caller.group()];
        let mut book = group.book();
        // Behind the lock, so that nobody stops watching at the same moment.
        self.watching.store(true, Ordering::Relaxed);
        book.overran(group, now);
        let mut changes = Changes::NONE;
        let cases = self.cases.pin();
        if cases.get(&caller).is_some() || book.make_room(&cases, caller.group(), now) {
            let mut case = lock(cases.get_or_insert_with(caller, || book.add(now)));
            changes.caller = case.ended(probes.caller, Outcome::Overran, now, self.jitter());
            if probes.whole && changes.caller == Change::Nothing {
                changes.caller = case.hold(now, self.jitter());
            }
        }
        if probes.whole {
            book.whole.probed(caller, Outcome::Overran, now, self.jitter());
        } else if book.whole.until().is_none() {
            let evidence = book.evidence(group, now);
            if evidence.may_suffice() {
                let of_group = cases.iter().filter(|(other, _)| other.group() == caller.group());
                let hurt = of_group.filter(|(_, case)| lock(case).is_bad(now)).count();
                if evidence.suffices(hurt, book.callers_well(group)) {
                    changes.whole = Change::Began(book.begin(group, now, self.jitter()));
                }
            }
        }
        self.tally.began(caller.group(), changes);
        changes
    }

    /// Now and then forgets what is over, and stops watching when nothing is left.
    fn tidy(&self, now: Millis) {
        let next = self.next_tidy.load(Ordering::Relaxed);
        let early = now.0 < next && Millis(next).since(now) <= WINDOW;
        let later = now.plus(WINDOW).0;
        if early || self.next_tidy.compare_exchange(next, later, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let [mut with_key, mut without_key] = self.groups.each_ref().map(Group::book);
        let cases = self.cases.pin();
        with_key.forget(&cases, 0, now);
        without_key.forget(&cases, 1, now);
        if with_key.is_quiet(now) && without_key.is_quiet(now) {
            self.watching.store(false, Ordering::Relaxed);
        }
    }

    /// SplitMix64, for no more than spreading.
    fn jitter(&self) -> u64 {
        let state = self.jitter.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 27)
    }
}

/// Counts are whole whatever their holder was interrupted in.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
