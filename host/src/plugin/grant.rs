//! Holds what a policy declares against what the operator granted.
//!
//! Closed: what is not granted is refused at load, with the key that would grant it.

use super::component::Component;
use super::contract::BodyMode;
use super::declared;
use crate::config::{self, Failure, Problem};

/// All that a policy wants and was not given.
pub(super) fn check(policy: &config::Policy, component: &Component) -> Vec<Problem> {
    let Component { declared, wants, .. } = component;
    let mut problems = Vec::new();
    let key = format!("policies.{}", policy.name);
    let grant = &policy.grant;
    for power in declared::named_powers(declared.powers) {
        if !grant.powers.iter().any(|granted| granted == power) {
            problems.push(
                Problem::at(
                    format!("{key}.grant.powers"),
                    format!("the plugin `{}` wants the power `{power}`, which is not granted", policy.plugin),
                )
                .suggesting(format!("add \"{power}\" to the list if it may")),
            );
        }
        if policy.failure == Failure::Open && matches!(power, "deny" | "identify" | "take" | "charge") {
            problems.push(Problem::at(
                format!("{key}.failure"),
                format!("a policy with the power `{power}` must not fail open: its failure would let requests pass unchecked or uncounted"),
).suggesting("say failure = \"closed\"".into()));
        }
    }
    for (list, fields) in [("reads", &declared.reads), ("response-reads", &declared.response_reads)] {
        let sensitive = fields.named.iter().filter(|name| declared::is_sensitive(name)).map(|name| name.as_str());
        for name in sensitive.chain(fields.others.then_some("*")) {
            if !grant.reads.iter().any(|granted| granted == name) {
                problems.push(
                    Problem::at(
                        format!("{key}.grant.reads"),
                        format!("the plugin `{}` wants to read `{name}` ({list}), which is not granted", policy.plugin),
                    )
                    .suggesting(format!("add \"{name}\" to the list if it may")),
                );
            }
        }
    }
    for (direction, mode) in [("request", declared.request_body), ("response", declared.response_body)] {
        let Some(mode) = mode else { continue };
        if !grant.bodies.iter().any(|granted| granted == direction) {
            let wants = if matches!(mode, BodyMode::Inspect) { "see" } else { "change" };
            problems.push(
                Problem::at(
                    format!("{key}.grant.bodies"),
                    format!(
                        "the plugin `{}` wants to {wants} the {direction} body, which is not granted",
                        policy.plugin
                    ),
                )
                .suggesting(format!("add \"{direction}\" to the list if it may")),
            );
        }
        if policy.failure == Failure::Open && !matches!(mode, BodyMode::Inspect) {
            problems.push(
                Problem::at(
                    format!("{key}.failure"),
                    format!(
                        "a policy that changes the {direction} body must not fail open: what it did not change any more would pass raw"
                    ),
                )
                .suggesting("say failure = \"closed\"".into()),
            );
        }
    }
    for (what, wanted, granted, how) in [
        ("store", wants.store, grant.store.is_some(), "give it a table `grant.store`"),
        ("outbound", wants.outbound, !grant.outbound.is_empty(), "name an origin in a table `grant.outbound`"),
    ] {
        if wanted && !granted {
            let message = format!("the plugin `{}` wants the capability `{what}`, which is not granted", policy.plugin);
            problems.push(Problem::at(format!("{key}.grant.{what}"), message).suggesting(format!("{how} if it may")));
        }
    }
    problems
}
