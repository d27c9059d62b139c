//! What became of components since the start: loaded, exchanged, refused.
//!
//! Written when components change, one at a time; holds the policies of the configuration and no others.

use super::family::Family;
use crate::plugin::Policy;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts for each policy.
#[derive(Debug, Default)]
pub struct Components {
    by_policy: Mutex<BTreeMap<String, Counts>>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    compiled: u64,
    cached: u64,
    swapped: u64,
    refused: u64,
}

impl Components {
    /// Takes note of what serves now in the place of what served before.
    pub fn serve(&self, before: &[Arc<Policy>], now: &[Arc<Policy>]) {
        let mut by_policy = self.lock();
        for policy in now {
            let earlier = before.iter().find(|earlier| earlier.name == policy.name);
            if earlier.is_some_and(|earlier| Arc::ptr_eq(&earlier.component, &policy.component)) {
                continue;
            }
            let counts = by_policy.entry(policy.name.to_string()).or_default();
            let loaded = if policy.component.compiled { &mut counts.compiled } else { &mut counts.cached };
            *loaded += 1;
            counts.swapped +=
                u64::from(earlier.is_some_and(|earlier| earlier.component.digest != policy.component.digest));
        }
    }

    /// Takes note of a component that was refused.
    pub fn refuse(&self, policy: &str) {
        self.lock().entry(policy.to_owned()).or_default().refused += 1;
    }

    /// Forgets policies that the configuration does not have any more.
    pub fn forget_others(&self, is_known: impl Fn(&str) -> bool) {
        self.lock().retain(|policy, _| is_known(policy));
    }

    pub(super) fn tell(&self, family: &mut Family<'_>) -> fmt::Result {
        let by_policy = self.lock().clone();
        let loaded = by_policy.iter().flat_map(|(policy, counts)| {
            [("compiled", counts.compiled), ("cached", counts.cached)]
                .map(|(code, count)| ([("policy", policy.as_str()), ("code", code)], count))
        });
        family.counter(
            "portico_plugin_loads",
            "Components that began to serve a policy, the start included, by where their code came from.",
            loaded,
        )?;
        let each = |count: fn(&Counts) -> u64| {
            by_policy.iter().map(move |(policy, counts)| ([("policy", policy.as_str())], count(counts)))
        };
        family.counter(
            "portico_plugin_swaps",
            "Components that took the place of another one while the gateway ran.",
            each(|counts| counts.swapped),
        )?;
        family.counter(
            "portico_plugin_refusals",
            "Components that were refused; the log and the history say why.",
            each(|counts| counts.refused),
        )
    }

    /// Counts are whole whatever their holder was interrupted in.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Counts>> {
        self.by_policy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
