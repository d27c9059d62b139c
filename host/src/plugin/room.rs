//! The places for instances on one worker: how they are divided between policies, and who has how many.
//!
//! Knows no instance and no thread. What is promised: `taken + owed <= most`, where `owed` is what policies have not yet
//! taken of their shares. So whoever is below its share gets a place, whatever all others do. Only another division can
//! break that, by what was taken before; then nobody gets more than its share until it holds again. Policies go by their
//! names, so that another version has the share of the one before, and its calls that are under way.

use super::policy::Policy;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// What one policy may take.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wish {
    policy: Arc<str>,
    /// How many instances its own bound allows.
    instances: usize,
    /// Places of one instance: several memories take more than one.
    weight: usize,
}

/// How the places of one worker are divided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Division {
    most: usize,
    /// What each policy is sure of.
    shares: Vec<(Arc<str>, usize)>,
    /// What all bounds together allow.
    wished: usize,
    /// The smallest share that is less than its bound allows, in instances.
    least: Option<usize>,
}

impl Division {
    /// Each is sure of what its bound allows, or else of an equal part; one such part, and what is left of the others, is for
    /// whoever comes first: a policy that was only just added may be among these.
    fn of(most: usize, wishes: &[Wish]) -> Self {
        let part = most / (wishes.len() + 1);
        let share = |wish: &Wish| {
            let instances = wish.instances.min(part / wish.weight.max(1));
            (wish.policy.clone(), instances * wish.weight)
        };
        let cut = wishes.iter().map(|wish| (wish, wish.instances.min(part / wish.weight.max(1))));
        let least = cut.filter(|(wish, share)| *share < wish.instances).map(|(_, share)| share).min();
        let wished =
            wishes.iter().map(|wish| wish.instances.saturating_mul(wish.weight)).fold(0, usize::saturating_add);
        Self { most, shares: wishes.iter().map(share).collect(), wished, least }
    }

    /// What to tell an operator who promised more than there is.
    fn overdrawn(&self, what: &'static str, bound: &'static str) -> Option<Overdrawn> {
        let (policies, wished, most) = (self.shares.len(), self.wished, self.most);
        (wished > most).then(|| Overdrawn { what, bound, policies, wished, most, least: self.least.unwrap_or(0) })
    }
}

/// All bounds together allow more than there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overdrawn {
    what: &'static str,
    bound: &'static str,
    policies: usize,
    wished: usize,
    most: usize,
    least: usize,
}

impl fmt::Display for Overdrawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, bound, policies, wished, most, least } = self;
        write!(
            f,
            "{policies} policies that {what} may take {wished} places on each worker by their `{bound}`, and there are {most}: each \
             is sure of {least} instances or of all that it may have, and the rest is for whoever comes first; lower `{bound}` \
             where less is enough"
        )
    }
}

/// The places of one worker, for all policies of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rooms {
    /// For calls that wait.
    pub(super) waiting: Division,
    /// For followed bodies.
    pub(super) bodies: Division,
}

impl Rooms {
    /// Divides what each of these workers has.
    pub(super) fn of(policies: &[Arc<Policy>], [waiting, bodies]: [usize; 2], workers: usize) -> Self {
        let wish = |policy: &Arc<Policy>, instances| Wish {
            policy: policy.name.clone(),
            instances,
            weight: policy.component.weight,
        };
        let of_worker = |all: usize| all / workers.max(1);
        let waits =
            policies.iter().filter(|policy| policy.component.waits()).map(|policy| wish(policy, policy.waits.calls));
        let follows = policies.iter().filter(|policy| policy.component.follows_bodies());
        let follows = follows.map(|policy| wish(policy, policy.bodies));
        Self {
            waiting: Division::of(of_worker(waiting), &waits.collect::<Vec<_>>()),
            bodies: Division::of(of_worker(bodies), &follows.collect::<Vec<_>>()),
        }
    }

    /// What to tell an operator who promised more than there is.
    pub fn overdrawn(&self) -> impl Iterator<Item = Overdrawn> {
        let waiting = self.waiting.overdrawn("wait", "waiting_calls");
        waiting.into_iter().chain(self.bodies.overdrawn("follow bodies", "bodies"))
    }
}

/// Who has which places of one worker.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    taken: usize,
    owed: usize,
    of: HashMap<Arc<str>, Held, rustc_hash::FxBuildHasher>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Held {
    share: usize,
    taken: usize,
}

impl Held {
    fn owed(self) -> usize {
        self.share.saturating_sub(self.taken)
    }
}

impl Default for Places {
    /// As many as anybody wants, until they are divided.
    fn default() -> Self {
        Self { most: usize::MAX, taken: 0, owed: 0, of: HashMap::default() }
    }
}

impl Places {
    /// From now on they are divided so. Whoever is not among these is sure of nothing, and keeps what it has.
    pub(super) fn divide(&mut self, division: &Division) {
        self.most = division.most;
        self.of.values_mut().for_each(|held| held.share = 0);
        for (policy, share) in &division.shares {
            self.of.entry(policy.clone()).or_default().share = *share;
        }
        self.of.retain(|_, held| held.share > 0 || held.taken > 0);
        self.owed = self.of.values().map(|held| held.owed()).sum();
    }

    /// Takes so many places for a policy, or none.
    pub(super) fn take(&mut self, policy: &Arc<str>, weight: usize) -> bool {
        let held = self.of.get(policy).copied().unwrap_or_default();
        let Some(taken) = self.taken.checked_add(weight).filter(|taken| *taken <= self.most) else { return false };
        let after = Held { taken: held.taken + weight, ..held };
        let owed = self.owed - held.owed() + after.owed();
        if after.taken > held.share && taken.saturating_add(owed) > self.most {
            return false;
        }
        self.of.insert(policy.clone(), after);
        (self.taken, self.owed) = (taken, owed);
        true
    }

    /// So many places of a policy are free again.
    pub(super) fn give_back(&mut self, policy: &Arc<str>, weight: usize) {
        let Some(held) = self.of.get_mut(policy) else { return };
        let before = held.owed();
        let weight = weight.min(held.taken);
        held.taken -= weight;
        self.owed = self.owed - before + held.owed();
        self.taken -= weight;
        if held.taken == 0 && held.share == 0 {
            self.of.remove(policy);
        }
    }

    /// How many more places idle instances may have than are taken.
    pub(super) fn left(&self) -> usize {
        self.most - self.taken.min(self.most)
    }
}

#[cfg(test)]
mod tests;
