//! Chains of policies, and configuration that is laid over theirs.

use std::collections::BTreeMap;

use crate::config::form::shown;
use crate::config::read::Table;
use crate::config::resolve::{Names, reference};
use crate::config::suggest::{did_you_mean, listed, nearest};
use crate::config::value::Value;
use crate::config::{Overlays, Rule};

/// Policies in one chain, at most.
pub(super) const LONGEST: usize = 32;

/// The policies that a list names, in order, none twice.
pub(super) fn chain(items: &[Value<'_>], names: &Names<'_>) -> Option<Vec<String>> {
    let mut found: Vec<String> = Vec::with_capacity(items.len());
    let mut whole = true;
    for item in items {
        match reference(item, "policy", &names.policies) {
            Some(policy) if found.contains(&policy) => {
                let _: Option<()> = item.wrong(format!("`{policy}` stands in the chain twice; remove one"));
            }
            Some(policy) => found.push(policy),
            None => whole = false,
        }
    }
    whole.then_some(found)
}

/// The policies of a pillar's chain and of those of its rules, each once.
pub(super) fn anywhere(chain: &[String], rules: &[Rule]) -> Vec<String> {
    let mut found = chain.to_vec();
    for policy in rules.iter().filter_map(|rule| rule.chain.as_ref()).flatten() {
        if !found.contains(policy) {
            found.push(policy.clone());
        }
    }
    found
}

/// Configuration by policy, each of which must be in the chain.
pub(super) fn config(table: Table<'_>, chain: Option<&[String]>, whose: &str, names: &Names<'_>) -> Option<Overlays> {
    let mut found = BTreeMap::new();
    let mut whole = true;
    for policy in table.keys() {
        let place = table.place_of(policy);
        if let Some(chain) = chain.filter(|chain| !chain.iter().any(|it| it == policy)) {
            let in_chain = || chain.iter().map(String::as_str);
            let meant = nearest(policy, in_chain());
            let message = match meant {
                None if names.policies.binary_search(&policy).is_ok() => {
                    format!("the policy `{policy}` is not in this {whose}'s chain, which is: {}", listed(in_chain()))
                }
                _ => format!(
                    "there is no policy `{}` in this {whose}'s chain, which is: {}",
                    shown(policy),
                    listed(in_chain())
                ),
            };
            table.report().add(&place, message, meant.map(did_you_mean));
        }
        match table.within(policy).and_then(|overlay| overlay.json()) {
            Some(overlay) => {
                found.insert(policy.to_owned(), overlay);
            }
            None => whole = false,
        }
    }
    whole.then_some(found)
}
