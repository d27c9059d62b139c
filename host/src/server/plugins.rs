//! What operators see of components and do with them, on a running gateway.

use super::change::Changes;
use super::namesakes::Namesakes;
use super::noting::Cause;
use crate::api::{Act, ActError, PluginControl};
use crate::audit::Who;
use crate::kv::Kv;
use crate::plugin::shelf::{Card, ShelfError, What};
use crate::plugin::{Beginning, Catalog, Kind, Policy, named_powers};
use crate::snapshot::Snapshot;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl PluginControl for Changes {
    fn list(&self) -> Value {
        let snapshot = self.gateway.live.load_full();
        let namesakes = Namesakes::among(&snapshot);
        let shown = |policy| self.shown(policy, &snapshot, &namesakes);
        let mut policies: Vec<Value> = snapshot.policies.iter().map(shown).collect();
        policies.extend(snapshot.disabled.iter().map(|name| self.out_of_chains(name)));
        policies.sort_by(|a, b| a["policy"].as_str().cmp(&b["policy"].as_str()));
        json!({ "generation": snapshot.generation, "policies": policies })
    }

    fn history(&self, policy: &str) -> Option<Value> {
        let snapshot = self.gateway.live.load_full();
        snapshot.config.policies.get(policy)?;
        let card = self.card(policy);
        let mut events = card.events;
        events.reverse();
        Some(json!({ "policy": policy, "versions": card.versions, "events": events }))
    }

    fn act(&self, policy: &str, act: Act, who: Who) -> Result<Value, ActError> {
        let _one = self.one_at_a_time();
        let config = self.gateway.live.load().config.clone();
        let written = config.policies.get(policy).ok_or(ActError::Unknown)?;
        let before = self.card(policy);
        let (shelf, now) = (self.shelf(), self.gateway.clock.now());
        let reloading = act == Act::Reload;
        if reloading {
            self.kept.catalog.try_again();
        }
        let wished = match act {
            Act::Reload => shelf.set_hold(policy, None),
            Act::Disable => shelf.disable(policy, Some(&written.plugin), now),
            Act::Enable => shelf.disable(policy, None, now),
            Act::Rollback(wanted) => {
                let there = Catalog::digest_in(&config.plugins.directory, written);
                shelf.hold(policy, &written.plugin, wanted.as_deref(), there).map(|_| ())
            }
        };
        wished.map_err(|error| match error {
            ShelfError::NoVersion { .. } => ActError::NoVersion(error.to_string()),
            error => ActError::Failed(error.into()),
        })?;
        let refused = match self.look_again(&Cause::caller(who)) {
            Ok(applied) => applied.refused,
            Err(error) => {
                // Nothing of the new wish fits: the old one stands again.
                shelf.restore(policy, &before).map_err(|error| ActError::Failed(error.into()))?;
                return Err(ActError::Refused(error.reasons()));
            }
        };
        if let Some((_, problems)) = refused.into_iter().find(|(name, _)| name == policy).filter(|_| reloading) {
            shelf.set_hold(policy, before.held).map_err(|error| ActError::Failed(error.into()))?;
            return Err(ActError::Refused(problems.iter().map(ToString::to_string).collect()));
        }
        let snapshot = self.gateway.live.load_full();
        let serving = snapshot.policies.iter().find(|serving| *serving.name == *policy);
        let shown = |serving| self.shown(serving, &snapshot, &Namesakes::among(&snapshot));
        Ok(serving.map_or_else(|| self.out_of_chains(policy), shown))
    }
}

impl Changes {
    fn shown(&self, policy: &Arc<Policy>, snapshot: &Snapshot, namesakes: &Namesakes) -> Value {
        let declared = &policy.component.declared;
        let counters: Map<String, Value> =
            policy.record.counters.iter().map(|c| (c.name.clone(), c.value.load(Ordering::Relaxed).into())).collect();
        let failures = policy.record.failures().filter(|(_, times)| *times > 0);
        let failures: Map<String, Value> =
            failures.map(|(kind, times)| (kind.code().to_owned(), times.into())).collect();
        let reached = policy.record.reached.outcomes().filter(|(_, times)| *times > 0);
        let reached: Map<String, Value> = reached.map(|(name, times)| (name.to_owned(), times.into())).collect();
        let waits = policy.record.quarantine.shown(self.gateway.clock.now());
        let card = self.card(&policy.name);
        let plugin = snapshot.config.policies.get(&*policy.name).map_or("", |written| &*written.plugin);
        let (instances, not_primed) = match policy.beginning() {
            Beginning::Kept => ("pooled", None),
            Beginning::Primed => ("primed", None),
            Beginning::Written => ("fresh", None),
            Beginning::Refused(reason) => ("fresh", Some(reason)),
        };
        let held = card.held.as_ref().is_some_and(|held| held.digest == policy.component.digest);
        json!({
            "policy": &*policy.name,
            "state": if held { "held" } else { "serving" },
            "plugin": declared.name,
            "file": format!("{plugin}.wasm"),
            "namesakes": namesakes.beside(&declared.name, plugin),
            "version": declared.version,
            "summary": declared.summary,
            "digest": policy.component.digest,
            "code": if policy.component.compiled { "compiled" } else { "cached" },
            "instances": instances,
            "not_primed": not_primed,
            "powers": named_powers(declared.powers).collect::<Vec<_>>(),
            "calls": policy.record.calls.load(Ordering::Relaxed),
            "failures": failures,
            "renewals": policy.record.renewals.load(Ordering::Relaxed),
            "counters": counters,
            "reached": reached,
            "store": self.space_of(policy),
            "quarantine": {
                "callers": waits.callers,
                "with_key_until": waits.with_key,
                "without_key_until": waits.without_key,
                "answered": policy.record.failed_as(Kind::Quarantined),
            },
            "refused": last_refusal(&card),
        })
    }

    /// What the space of a policy holds, and what it may.
    fn space_of(&self, policy: &Policy) -> Value {
        let Some(grant) = &policy.grant.store else { return Value::Null };
        let spaces = self.kept.outside.store().map(Kv::spaces).unwrap_or_default();
        let held = spaces.into_iter().find(|space| *space.name == *grant.space);
        json!({
            "space": grant.space,
            "entries": held.as_ref().map_or(0, |space| space.held.entries),
            "most_entries": grant.entries,
            "bytes": held.as_ref().map_or(0, |space| space.held.bytes),
            "most_bytes": grant.bytes,
            "over_quota": held.as_ref().map_or(0, |space| space.over_quota),
            "turned_away": held.as_ref().map_or(0, |space| space.turned_away),
        })
    }

    fn out_of_chains(&self, policy: &str) -> Value {
        let card = self.card(policy);
        json!({ "policy": policy, "state": "disabled", "digest": card.serving, "refused": last_refusal(&card) })
    }

    fn card(&self, policy: &str) -> Card {
        self.shelf().card(policy)
    }
}

/// What was refused since something served last.
fn last_refusal(card: &Card) -> Value {
    let last = card.events.iter().rev().take_while(|event| !matches!(event.what, What::Shipped | What::RolledBack));
    last.filter(|event| event.what == What::Refused).map(|event| json!(event)).next().unwrap_or(Value::Null)
}
