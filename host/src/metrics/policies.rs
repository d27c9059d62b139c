//! Each policy that serves: what it is, its calls and how they failed, what it counted, what it reached, who waits.
//!
//! These outlive configurations for as long as the component stays the same; with another component they begin anew, which
//! `rate()` takes for what it is.

use super::family::Family;
use crate::plugin::{Outside, Policy};
use crate::worker::Gateway;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub(super) fn tell(family: &mut Family<'_>, gateway: &Gateway, outside: &Outside) -> fmt::Result {
    let snapshot = gateway.live.load_full();
    let policies = &snapshot.policies;
    what_it_is(family, policies)?;
    calls(family, policies)?;
    quarantine(family, policies, gateway)?;
    reached(family, policies)?;
    spaces(family, outside)
}

fn what_it_is(family: &mut Family<'_>, policies: &[Arc<Policy>]) -> fmt::Result {
    let infos = policies.iter().map(|policy| {
        let component = &policy.component;
        let labels = [
            ("policy", &*policy.name),
            ("plugin", &*component.declared.name),
            ("version", &*component.declared.version),
            ("digest", &*component.digest),
        ];
        (labels, 1.0)
    });
    family.gauge("portico_policy_info", "The component that serves a policy; always 1.", infos)
}

fn calls(family: &mut Family<'_>, policies: &[Arc<Policy>]) -> fmt::Result {
    let calls =
        policies.iter().map(|policy| ([("policy", &*policy.name)], policy.record.calls.load(Ordering::Relaxed)));
    family.counter("portico_policy_calls", "Calls of a policy.", calls)?;
    let failures = policies.iter().flat_map(|policy| {
        let labels = |code| [("policy", &*policy.name), ("kind", code)];
        policy.record.failures().map(move |(kind, times)| (labels(kind.code()), times))
    });
    family.counter(
        "portico_policy_failures",
        "Calls that brought no usable verdict, by kind; `quarantined` are those that were answered without asking.",
        failures,
    )?;
    let renewals =
        policies.iter().map(|policy| ([("policy", &*policy.name)], policy.record.renewals.load(Ordering::Relaxed)));
    family.counter(
        "portico_policy_renewals",
        "Pooled instances that were replaced since they had grown from call to call.",
        renewals,
    )?;
    let counted = policies.iter().flat_map(|policy| {
        // What a plugin declares twice is one series: two of them make the whole exposition unreadable.
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for counter in policy.record.counters.iter() {
            let sum = sums.entry(&counter.name).or_default();
            *sum = sum.wrapping_add(counter.value.load(Ordering::Relaxed));
        }
        sums.into_iter().map(|(name, sum)| ([("policy", &*policy.name), ("counter", name)], sum))
    });
    family.counter("portico_policy_counted", "What a policy counted itself, by the counters that it declares.", counted)
}

fn quarantine(family: &mut Family<'_>, policies: &[Arc<Policy>], gateway: &Gateway) -> fmt::Result {
    let now = gateway.clock.now();
    let waits: Vec<_> = policies.iter().map(|policy| (&*policy.name, policy.record.quarantine.shown(now))).collect();
    let callers = waits.iter().map(|(policy, waits)| ([("policy", *policy)], waits.callers as f64));
    family.gauge(
        "portico_policy_quarantined_callers",
        "Callers that wait now, each for what it did itself.",
        callers,
    )?;
    let whole = waits.iter().flat_map(|(policy, waits)| {
        [("with_key", waits.with_key), ("without_key", waits.without_key)]
            .map(|(kind, until)| ([("policy", *policy), ("callers", kind)], f64::from(u8::from(until.is_some()))))
    });
    family.gauge("portico_policy_quarantined", "Whether all callers of a kind wait: 1 or 0.", whole)?;
    let tallies: Vec<_> = policies.iter().map(|policy| (&*policy.name, policy.record.quarantine.tallies())).collect();
    let begun = tallies.iter().flat_map(|(policy, tallies)| {
        [("caller", tallies.callers), ("with_key", tallies.with_key), ("without_key", tallies.without_key)]
            .map(|(of, times)| ([("policy", *policy), ("of", of)], times))
    });
    family.counter(
        "portico_policy_quarantines",
        "Quarantines that began: of one caller, or of all with or without a key.",
        begun,
    )?;
    let probes = tallies.iter().map(|(policy, tallies)| ([("policy", *policy)], tallies.probes));
    family.counter(
        "portico_policy_quarantine_probes",
        "Calls that were let through to find out whether all is well again.",
        probes,
    )
}

fn reached(family: &mut Family<'_>, policies: &[Arc<Policy>]) -> fmt::Result {
    let reached = policies.iter().filter(|policy| policy.component.wants.any()).flat_map(|policy| {
        let labels = |outcome| [("policy", &*policy.name), ("outcome", outcome)];
        policy.record.reached.outcomes().map(move |(outcome, times)| (labels(outcome), times))
    });
    family.counter(
        "portico_policy_reached",
        "Requests that policies sent, and store operations that failed, by outcome.",
        reached,
    )
}

fn spaces(family: &mut Family<'_>, outside: &Outside) -> fmt::Result {
    let spaces = outside.store().map(|store| store.spaces()).unwrap_or_default();
    let label = |name| [("space", name)];
    let bytes = spaces.iter().map(|space| (label(&*space.name), space.held.bytes as f64));
    family.gauge("portico_store_bytes", "Bytes of keys and values in a space.", bytes)?;
    let entries = spaces.iter().map(|space| (label(&*space.name), space.held.entries as f64));
    family.gauge("portico_store_entries", "Keys in a space.", entries)?;
    let over = spaces.iter().map(|space| (label(&*space.name), space.over_quota));
    family.counter("portico_store_over_quota", "Entries that did not fit into a space.", over)?;
    let away = spaces.iter().map(|space| (label(&*space.name), space.turned_away));
    family.counter("portico_store_turned_away", "Operations that a space had no room to wait for.", away)
}
