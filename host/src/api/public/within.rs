//! That a key makes only keys within itself: its scopes, mode, networks and end. Pure; all that goes beyond comes at once.

use serde_json::{Map, Value};

use crate::key::Terms;
use crate::problem::Fault;

/// Writes what an order leaves out, as far as it follows from the key that asks: its mode, and all of its scopes.
pub(super) fn complete(body: &mut Map<String, Value>, own: &Terms) {
    let missing = |body: &Map<String, Value>, field: &str| body.get(field).is_none_or(Value::is_null);
    if missing(body, "mode") {
        body.insert("mode".to_owned(), own.mode.name().into());
    }
    if body.get("all_scopes") == Some(&Value::Bool(true)) && missing(body, "scopes") {
        body.remove("all_scopes");
        body.insert("scopes".to_owned(), own.scopes.iter().collect::<Vec<_>>().into());
    }
}

/// The terms within those of the key that asks, or all that goes beyond.
pub(super) fn bounded(mut asked: Terms, body: &Map<String, Value>, own: &Terms) -> Result<Terms, Vec<Fault>> {
    let mut faults = Vec::new();
    if asked.mode != own.mode {
        faults.push(Fault::at("/mode", format!("Your key is a {0} one, and makes only {0} ones.", own.mode.name())));
    }
    let named = body.get("scopes").and_then(Value::as_array).into_iter().flatten().enumerate();
    for (position, scope) in named {
        if scope.as_str().is_some_and(|scope| !own.scopes.contain(scope)) {
            faults.push(Fault::at(format!("/scopes/{position}"), "Your key does not hold this scope itself."));
        }
    }
    if asked.networks.is_empty() {
        asked.networks.clone_from(&own.networks);
    }
    let named = body.get("networks").and_then(Value::as_array).map_or(0, Vec::len);
    for (position, network) in asked.networks.iter().enumerate().take(named) {
        if !own.networks.is_empty() && !own.networks.iter().any(|within| within.contains(network)) {
            let detail = "Your key is bound to networks, and this is within none of them.";
            faults.push(Fault::at(format!("/networks/{position}"), detail));
        }
    }
    match (asked.expires, own.expires) {
        (None, end) => asked.expires = end,
        (Some(wanted), Some(end)) if wanted > end => {
            faults.push(Fault::at("/expires_at", format!("Your key ends at {end}; the new one cannot outlive it.")));
        }
        (Some(_), _) => {}
    }
    if faults.is_empty() { Ok(asked) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clock::Millis;
    use crate::key::{Mode, Scopes};

    fn terms(mode: Mode, scopes: &[&str], networks: &[&str], expires: Option<u64>) -> Terms {
        Terms {
            name: "a".into(),
            mode,
            scopes: Scopes::new(scopes.iter().copied()),
            networks: networks.iter().map(|network| network.parse().expect("a network")).collect(),
            expires: expires.map(Millis),
        }
    }

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn all_that_goes_beyond_is_told_at_once() {
        let own = terms(Mode::Live, &["connect", "keys:write"], &["10.0.0.0/8"], Some(1_000));
        let asked = terms(Mode::Sandbox, &["connect", "pay"], &["10.1.0.0/16", "11.0.0.0/8"], Some(1_001));
        let body = object(json!({"scopes": ["connect", "pay"], "networks": ["10.1.0.0/16", "11.0.0.0/8"]}));
        let faults = bounded(asked, &body, &own).expect_err("beyond");
        let places: Vec<_> = faults.into_iter().map(|fault| fault.place).collect();
        let at = |pointer: &str| crate::problem::Place::Pointer(pointer.to_owned());
        assert_eq!(places, [at("/mode"), at("/scopes/1"), at("/networks/1"), at("/expires_at")]);
    }

    #[test]
    fn what_is_left_out_is_that_of_the_key_that_asks() {
        let own = terms(Mode::Sandbox, &["connect", "pay"], &["10.0.0.0/8"], Some(1_000));
        let mut body = object(json!({"name": "b", "all_scopes": true, "mode": null}));
        complete(&mut body, &own);
        assert_eq!(Value::Object(body.clone()), json!({"name": "b", "mode": "sandbox", "scopes": ["connect", "pay"]}));
        let asked = terms(Mode::Sandbox, &["connect", "pay"], &[], None);
        let bounded = bounded(asked, &body, &own).expect("within");
        assert_eq!((bounded.networks.len(), bounded.expires), (1, Some(Millis(1_000))));
    }

    #[test]
    fn a_key_without_bounds_may_bind_another() {
        let own = terms(Mode::Live, &["connect"], &[], None);
        let asked = terms(Mode::Live, &["connect"], &["2001:db8::/32"], Some(5));
        let body = object(json!({"scopes": ["connect"], "networks": ["2001:db8::/32"]}));
        assert_eq!(bounded(asked.clone(), &body, &own), Ok(asked));
    }
}
