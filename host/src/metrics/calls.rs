//! Calls of each policy by phase: how many took how long, how much fuel they used, and what the policy said.
//!
//! Counted by each worker for itself, and by the name of the policy: these go on with another component.

use super::family::Family;
use crate::requests::{OfPhase, Phase, Requests, Verdict};
use crate::usage::Names;
use crate::worker::Gateway;
use std::collections::BTreeMap;
use std::fmt;

pub(super) fn tell(family: &mut Family<'_>, requests: &Requests, names: &Names, gateway: &Gateway) -> fmt::Result {
    let figures = requests.figures();
    let snapshot = gateway.live.load_full();
    // Those that the configuration has, each in the phases in which it was called.
    let mut calls: BTreeMap<(&str, Phase), &OfPhase> = BTreeMap::new();
    for policy in &snapshot.policies {
        let number = names.policy(&policy.name);
        let of_policy = figures.policies.iter().filter(|((of, _), _)| *of == number);
        calls.extend(of_policy.map(|((_, phase), of)| ((&*policy.name, *phase), of)));
    }
    let label =
        |(policy, phase): &(&str, Phase)| [("policy", (*policy).to_owned()), ("phase", phase.name().to_owned())];
    family.fine_histogram(
        "portico_policy_duration_seconds",
        "How long calls of a policy took, waiting included; all that it did about one body is one call.",
        calls.iter().map(|(place, of)| (label(place), &of.durations)),
    )?;
    family.counter(
        "portico_policy_fuel",
        "Units of fuel that these calls used; what a failed one used is not known.",
        calls.iter().map(|(place, of)| (label(place), of.fuel)),
    )?;
    let verdicts = calls.iter().flat_map(|(place, of)| {
        let [policy, phase] = label(place);
        Verdict::ALL.into_iter().zip(of.verdicts).map(move |(verdict, times)| {
            ([policy.clone(), phase.clone(), ("verdict", verdict.name().to_owned())], times)
        })
    });
    family.counter("portico_policy_verdicts", "What came of these calls.", verdicts)
}
