//! The leave to run one call, and the log lines on waits that begin and end.

use super::group::Telling;
use super::{Caller, Change, Changes, Outcome, Probes};
use crate::clock::{Clock, Millis};
use crate::plugin::waiting::Queued;
use crate::plugin::{Failure, Policy};
use std::cell::RefCell;

/// What was said in one exchange of the policies that are called about its bodies: of each at most one overrun.
#[derive(Debug, Default)]
pub struct Voice {
    /// Those that overran, by their ids.
    overran: RefCell<Vec<u64>>,
}

impl Voice {
    /// Notes an overrun; `false` where one was noted before.
    fn speaks(&self, policy: u64) -> bool {
        let mut overran = self.overran.borrow_mut();
        let is_first = !overran.contains(&policy);
        if is_first {
            overran.push(policy);
        }
        is_first
    }
}

/// The leave to run one call. If it is dropped before the call was seen to end, it is given back.
pub struct Pass<'a> {
    policy: &'a Policy,
    caller: Caller,
    clock: &'a Clock,
    probes: Probes,
    /// Since when it runs, where it can hold a place by waiting.
    since: Option<Millis>,
    /// How much of that it stood in line.
    queued: Queued,
    /// When its exchange began, where this is not the first call about it.
    began: Option<Millis>,
    /// What was said in its exchange before.
    voice: Option<&'a Voice>,
}

impl Policy {
    /// Lets a call of this caller run, or says until when none may.
    ///
    /// # Errors
    /// [`Failure::Quarantined`].
    pub fn admit<'a>(&'a self, caller: Caller, clock: &'a Clock) -> Result<Pass<'a>, Failure> {
        let quarantine = &self.record.quarantine;
        let since = self.component.waits().then(|| clock.now());
        let (probes, queued) = (Probes::default(), Queued::default());
        let mut pass = Pass { policy: self, caller, clock, probes, since, queued, began: None, voice: None };
        if self.quarantine && quarantine.is_watching() {
            let now = clock.now();
            pass.probes = quarantine.admit(caller, now).map_err(|until| Failure::Quarantined { until })?;
        }
        Ok(pass)
    }

    /// As [`Self::admit`], for a later call about an exchange that began then. An exchange has one voice: that its first
    /// call kept its bounds was counted, and goes on to count until a later one overruns; those that overrun after that
    /// one are not counted. An exchange without a voice has one later call at most.
    ///
    /// # Errors
    /// [`Failure::Quarantined`].
    pub fn admit_later<'a>(
        &'a self,
        caller: Caller,
        clock: &'a Clock,
        began: Millis,
        voice: Option<&'a Voice>,
    ) -> Result<Pass<'a>, Failure> {
        let mut pass = self.admit(caller, clock)?;
        (pass.began, pass.voice) = (Some(began), voice);
        Ok(pass)
    }
}

impl Pass<'_> {
    /// Where the call notes how long it stood in line.
    pub fn queued(&self) -> &Queued {
        &self.queued
    }

    /// Takes note of how the call ended, and hands it on.
    ///
    /// # Errors
    /// What the call ended with.
    pub fn saw<T>(mut self, result: Result<T, Failure>) -> Result<T, Failure> {
        let outcome = match &result {
            Err(failure) if failure.is_overrun() => Outcome::Overran,
            // The guest did not get to run.
            Err(Failure::NoInstance(_) | Failure::NoTurn | Failure::Busy) => Outcome::Unknown,
            _ => Outcome::Kept,
        };
        let policy = self.policy;
        let says_nothing = self.began.is_some() && outcome != Outcome::Overran && !self.probes.any();
        if policy.quarantine && !says_nothing && (outcome == Outcome::Overran || policy.record.quarantine.is_watching())
        {
            self.ended(outcome);
        }
        self.probes = Probes::default();
        self.since = None;
        result
    }

    /// Whether whoever left made it wait for so long that it held its place from others.
    fn held_a_place(&self) -> bool {
        let long = self.policy.waits.time / 2;
        self.since
            .is_some_and(|since| self.policy.quarantine && self.clock.now().since(since) >= long + self.queued.so_far())
    }

    fn ended(&self, outcome: Outcome) {
        let is_new = outcome != Outcome::Overran || self.voice.is_none_or(|voice| voice.speaks(self.policy.id));
        // A probe has its own answer to give.
        if !is_new && !self.probes.any() {
            return;
        }
        let now = self.clock.now();
        if let Some(began) = self.began.filter(|_| outcome == Outcome::Overran && is_new) {
            self.policy.record.quarantine.take_back(self.caller, began);
        }
        let changes = self.policy.record.quarantine.ended(self.caller, self.probes, outcome, now);
        if changes != Changes::NONE {
            self.tell(changes, now);
        }
    }

    fn tell(&self, Changes { caller, whole }: Changes, now: Millis) {
        let (policy, who) = (&*self.policy.name, self.caller);
        let kind = match who {
            Caller::Org(_) => "with",
            Caller::Address(_) => "without",
        };
        match whole {
            Change::Began(until) => tracing::error!(
                policy,
                "most calls of several callers {kind} a key overran: the policy is in quarantine for all of them until {until} at least"
            ),
            Change::Ended => {
                tracing::info!(policy, "a probe came back: callers {kind} a key may call the policy again")
            }
            Change::Nothing | Change::WentOn(_) => {}
        }
        if let Change::WentOn(until) = caller {
            tracing::debug!(policy, caller = %who, "a probe overran: the caller waits until {until}");
        }
        if !matches!(caller, Change::Began(_) | Change::Ended) {
            return;
        }
        let telling = self.policy.record.quarantine.groups[who.group()].book().may_tell(now);
        let others = match telling {
            Telling::Line => "",
            Telling::LastLine => "; others of these seconds are not told",
            Telling::Nothing => return,
        };
        match caller {
            Change::Began(until) => tracing::warn!(
                policy,
                caller = %who,
                "too many calls overran: calls of this caller are in quarantine until {until} at least{others}"
            ),
            _ => tracing::info!(policy, caller = %who, "a probe came back: the caller is out of quarantine{others}"),
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.held_a_place() {
            self.ended(Outcome::Overran);
        } else if self.probes.any() {
            self.ended(Outcome::Unknown);
        }
    }
}
