//! One limit: takes from a subject's bucket, gives back, and tells how it stands.

use std::sync::Arc;

use super::bucket::{Blocked, Bucket};
use super::calendar::Calendar;
use super::field::Policy;
use super::house::{Entry, House, Shard, Track};
use super::rule::Rule;
use super::timeline::Mark;
use super::{Definition, MAX_WINDOWS, Period, State, Subject, SubjectKind, Window};
use crate::clock::Millis;

/// How often a taking looks again for a bucket that is just being closed, before it takes from the shared one.
const ATTEMPTS: u32 = 64;

/// One limit, shared by all workers; made by [`super::Local::limit`].
#[derive(Debug)]
pub struct Limit {
    definition: Definition,
    rules: Vec<Rule>,
    policy: Policy,
    track: Arc<Track>,
    house: Arc<House>,
}

/// What was taken; needed to give it back to the same limit.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what is not given back stays taken"]
pub struct Taken {
    report: Report,
    key: u128,
    mark: Mark,
    cost: u32,
    shared: bool,
}

/// Nothing was taken: at least one window has no room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    report: Report,
    /// Milliseconds.
    wait: u64,
    slowest: Period,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Report {
    states: [State; MAX_WINDOWS],
    windows: usize,
}

impl Limit {
    pub(super) fn new(definition: Definition, rules: Vec<Rule>, track: Arc<Track>, house: Arc<House>) -> Self {
        let policy = Policy::new(&definition.windows);
        Self { definition, rules, policy, track, house }
    }

    /// Takes `cost` for `subject` from every window, or nothing at all. A cost of 0 only looks: it changes nothing, and
    /// is refused where 1 would be.
    ///
    /// # Errors
    /// How the windows stand, and when to come again. A cost beyond a window's quota is always refused.
    pub fn take(&self, subject: Subject, cost: u32, now: Millis) -> Result<Taken, Refused> {
        let mut mark = self.track.timeline.tick(now);
        let key = self.track.key(subject);
        let shard = self.house.shard(key);
        if cost == 0 {
            let bucket = shard.get(&key).map_or(&self.track.shared, |entry| &entry.bucket);
            return match self.look(bucket, 1, mark) {
                refused if refused.wait > 0 => Err(refused),
                Refused { report, .. } => Ok(Taken { report, key, mark, cost, shared: false }),
            };
        }
        for _ in 0..ATTEMPTS {
            let found = shard.get(&key).or_else(|| {
                mark = self.track.timeline.tick(now);
                self.add(&shard, key, mark)
            });
            let Some(entry) = found else { break };
            match self.take_from(&entry.bucket, cost, mark) {
                Ok(report) => return Ok(Taken { report, key, mark, cost, shared: false }),
                Err(Blocked::Refused) => return Err(self.look(&entry.bucket, cost, mark)),
                // The sweep is about to remove it; should it have been interrupted, let it run.
                Err(Blocked::Gone) => std::thread::yield_now(),
            }
        }
        match self.take_from(&self.track.shared, cost, mark) {
            Ok(report) => Ok(Taken { report, key, mark, cost, shared: true }),
            Err(_) => Err(self.look(&self.track.shared, cost, mark)),
        }
    }

    /// Gives back what was taken from this limit. Exact while no time has passed; later, less what time itself has given
    /// back since, and nothing where the clock was set back in between: so never more than was taken.
    pub fn undo(&self, taken: Taken) {
        if taken.cost == 0 {
            return;
        }
        let shard = self.house.shard(taken.key);
        let bucket = match shard.get(&taken.key) {
            _ if taken.shared => &self.track.shared,
            Some(entry) => &entry.bucket,
            // Forgotten, because it was full.
            None => return,
        };
        bucket.give_back(&self.rules, taken.cost, taken.mark, &self.track.timeline);
    }

    /// Counts at least `count` in the window of a month, for the month of `now`: at start, from the usage that was kept. Other
    /// windows stay as they are. Calling it again changes nothing. False where the house is full, and nothing could be
    /// noted.
    pub fn seed(&self, subject: Subject, count: u64, now: Millis) -> bool {
        let month = self.definition.windows.iter().position(|window| window.per == Period::Month);
        let (Some(position), 1..) = (month, count) else { return true };
        let mark = self.track.timeline.tick(now);
        let key = self.track.key(subject);
        let shard = self.house.shard(key);
        (0..ATTEMPTS).any(|_| {
            let entry = shard.get(&key).or_else(|| self.add(&shard, key, mark));
            entry.is_some_and(|entry| entry.bucket.amend(position, |state| Calendar::seed(state, count, mark.millis())))
        })
    }

    /// How the windows stand for a subject, in the order of [`Limit::windows`]. Changes nothing.
    pub fn states(&self, subject: Subject, now: Millis) -> Vec<State> {
        // A cost of 0 only looks.
        let looked = self.take(subject, 0, now);
        looked.as_ref().map_or_else(Refused::states, Taken::states).to_vec()
    }

    /// Fills every window of a subject; every worker sees it at once. What is given back afterwards of what was taken before may
    /// be counted as room, too. False where the house is full, and the subject shares a bucket with others.
    pub fn reset(&self, subject: Subject, now: Millis) -> bool {
        let mark = self.track.timeline.tick(now);
        let key = self.track.key(subject);
        let shard = self.house.shard(key);
        let mut attempts = 0..ATTEMPTS;
        attempts.any(|_| match shard.get(&key) {
            Some(entry) => {
                let refilled = entry.bucket.refill(&self.rules, mark.millis());
                if !refilled {
                    // The sweep is about to remove it.
                    std::thread::yield_now();
                }
                refilled
            }
            None if self.track.shared.idle(&self.rules, mark.millis()) => true,
            // One that shares a bucket gets its own: that is what is wanted here.
            None => self.house.add(&shard, key, (&self.track, &self.rules, self.definition.subject)).is_some(),
        })
    }

    /// The subject for a value that a policy named. Keyed at random: nobody can choose two values that meet.
    pub fn custom(&self, value: &str) -> Subject {
        Subject(self.house.digest(value))
    }

    /// What it is.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// Its windows, shortest period first: the order of [`Taken::states`].
    pub fn windows(&self) -> &[Window] {
        &self.definition.windows
    }

    /// For whom it counts.
    pub fn kind(&self) -> SubjectKind {
        self.definition.subject
    }

    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// A bucket of its own for a subject that has none; none where it must take from the shared one.
    fn add<'g>(&self, shard: &'g Shard<'_>, key: u128, mark: Mark) -> Option<&'g Entry> {
        // The subject may have taken from the shared bucket: a new one would give it the quota a second time.
        if !self.track.shared.idle(&self.rules, mark.millis()) {
            return None;
        }
        self.house.add(shard, key, (&self.track, &self.rules, self.definition.subject))
    }

    fn take_from(&self, bucket: &Bucket, cost: u32, mark: Mark) -> Result<Report, Blocked> {
        let mut report = Report { states: Default::default(), windows: self.rules.len() };
        bucket.take(&self.rules, cost, mark, &self.track.timeline, &mut report.states)?;
        Ok(report)
    }

    fn look(&self, bucket: &Bucket, cost: u32, mark: Mark) -> Refused {
        let (states, wait, slowest) = bucket.look(&self.rules, cost, mark.millis());
        let slowest = self.definition.windows.get(slowest).map_or(Period::Month, |window| window.per);
        Refused { report: Report { states, windows: self.rules.len() }, wait, slowest }
    }
}

impl Taken {
    /// How each window stands afterwards, in the order of [`Limit::windows`].
    pub fn states(&self) -> &[State] {
        self.report.states()
    }
}

impl Refused {
    /// How each window stands, in the order of [`Limit::windows`].
    pub fn states(&self) -> &[State] {
        self.report.states()
    }

    /// Whole seconds, rounded up and at least 1, until all windows have room again, if nobody else takes.
    pub fn retry_after(&self) -> u32 {
        u32::try_from(self.wait.div_ceil(1_000)).unwrap_or(u32::MAX).max(1)
    }

    /// The period of the window that takes the longest to have room again: a month means that a quota is used up.
    pub fn period(&self) -> Period {
        self.slowest
    }
}

impl Report {
    fn states(&self) -> &[State] {
        self.states.get(..self.windows).unwrap_or_default()
    }
}
