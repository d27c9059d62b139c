use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::problem::Place;

const NOW: Millis = Millis(1_795_305_600_000);

const SCOPES: fn() -> [String; 3] = || ["connect", "pay", "knowledge"].map(str::to_owned);

/// An order that was read, without what it was read from.
struct Read {
    org: Option<String>,
    terms: Result<(Terms, Scopes), Vec<Fault>>,
    beyond: Vec<Fault>,
}

fn read_within(body: Value, bounds: Option<&Bounds>) -> Read {
    let scopes = SCOPES();
    let order = Order::read(body.as_object().unwrap(), Known { scopes: &scopes, now: NOW, bounds });
    Read { org: order.org.map(str::to_owned), terms: order.terms, beyond: order.beyond }
}

fn read(body: Value) -> Read {
    read_within(body, None)
}

fn placed(faults: Vec<Fault>) -> Vec<(String, String)> {
    let place = |fault: Fault| match fault.place {
        Place::Pointer(pointer) => (pointer, fault.detail),
        Place::Parameter(name) => panic!("a body has no parameter {name}"),
    };
    faults.into_iter().map(place).collect()
}

fn faults(body: Value) -> Vec<(String, String)> {
    placed(read(body).terms.unwrap_err())
}

#[test]
fn the_least_order_is_a_live_key_of_the_default_org() {
    let order = read(json!({"name": "demo", "all_scopes": true, "mode": null}));
    assert_eq!(order.org, None);
    let (terms, scopes) = order.terms.unwrap();
    assert_eq!((&*terms.name, terms.mode, terms.expires), ("demo", Mode::Live, None));
    assert_eq!(scopes.as_str(), "connect knowledge pay");
    assert!(terms.networks.is_empty());
}

#[test]
fn a_full_order_is_taken_over_field_by_field() {
    let order = read(json!({
        "name": "Ünï 1", "org": "acme", "mode": "sandbox", "scopes": ["pay", "keys:write", "connect", "pay"],
        "expires_at": "2027-01-01T00:00:00Z",
        "networks": ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::ffff:198.51.100.0/120"],
    }));
    assert_eq!(order.org.as_deref(), Some("acme"));
    let (terms, scopes) = order.terms.unwrap();
    assert_eq!(terms.mode, Mode::Sandbox);
    assert_eq!(scopes.as_str(), "connect keys:write pay");
    assert_eq!(terms.expires.unwrap().to_string(), "2027-01-01T00:00:00.000Z");
    let networks: Vec<String> = terms.networks.iter().map(IpNet::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32", "198.51.100.0/24"]);
}

#[test]
fn everything_that_is_wrong_comes_at_once_with_its_pointer() {
    let found = faults(json!({
        "nmae": "demo", "a/b": 1, "mode": "test", "scopes": ["conect", 7, "pay"],
        "expires_at": "2020-01-01T00:00:00Z", "networks": ["10.0.0.1/8", "home", 1],
    }));
    let pointers: Vec<&str> = found.iter().map(|(pointer, _)| pointer.as_str()).collect();
    let expected = [
        "/a~1b",
        "/nmae",
        "/name",
        "/mode",
        "/scopes/1",
        "/scopes/0",
        "/expires_at",
        "/networks/2",
        "/networks/0",
        "/networks/1",
    ];
    assert_eq!(pointers, expected);
    let detail = |pointer: &str| &found.iter().find(|(at, _)| at == pointer).unwrap().1;
    assert!(detail("/nmae").contains("did you mean `name`?"));
    assert!(detail("/scopes/0").contains("did you mean `connect`?"));
    assert!(detail("/networks/0").contains("write 10.0.0.0/8"));
}

#[test]
fn a_field_of_the_wrong_type_or_size_is_one_fault() {
    let network = |count: usize| vec!["10.0.0.0/8"; count];
    for (pointer, field, value) in [
        ("/name", "name", json!(7)),
        ("/name", "name", json!("")),
        ("/name", "name", json!(" demo")),
        ("/name", "name", json!("de\u{1b}[2Jmo")),
        ("/name", "name", json!("x".repeat(101))),
        ("/org", "org", json!([])),
        ("/mode", "mode", json!(true)),
        ("/scopes", "scopes", json!("connect")),
        ("/scopes", "scopes", json!([])),
        ("/scopes", "scopes", json!(null)),
        ("/scopes", "scopes", json!(vec!["pay"; 65])),
        ("/all_scopes", "all_scopes", json!("yes")),
        ("/all_scopes", "all_scopes", json!(true)),
        ("/expires_at", "expires_at", json!("tomorrow")),
        ("/expires_at", "expires_at", json!(1_795_305_600)),
        ("/expires_at", "expires_at", json!("2026-11-22T00:00:00Z")),
        ("/expires_at", "expires_at", json!(-1)),
        ("/expires_at", "expires_at", json!("-2027-01-01T00:00:00Z")),
        ("/expires_at", "expires_at", json!("99999-01-01T00:00:00Z")),
        ("/networks", "networks", json!([])),
        ("/networks", "networks", json!({})),
        ("/networks", "networks", json!(network(33))),
    ] {
        let mut body = json!({"name": "demo", "scopes": ["pay"]});
        body[field] = value;
        let found = faults(body.clone());
        assert_eq!(found.len(), 1, "{body}: {found:?}");
        assert_eq!(found[0].0, pointer, "{body}");
    }
}

#[test]
fn a_key_without_any_scope_is_never_made() {
    for body in [json!({"name": "demo"}), json!({"name": "demo", "all_scopes": false})] {
        assert_eq!(faults(body)[0].0, "/scopes");
    }
    let body = json!({"name": "demo", "all_scopes": true});
    let known = Known { scopes: &[], now: NOW, bounds: None };
    assert!(Order::read(body.as_object().unwrap(), known).terms.is_err());
}

fn bounds() -> Bounds {
    Bounds {
        scopes: Scopes::new(["pay", "keys:write"]),
        mode: Mode::Sandbox,
        networks: ["10.0.0.0/8", "2001:db8::/32"].map(|network| network.parse().unwrap()).into(),
        expires: Some(Millis(NOW.0 + 1_000)),
    }
}

#[test]
fn what_a_key_leaves_out_is_as_its_own() {
    let order = read_within(json!({"name": "demo", "scopes": ["pay"]}), Some(&bounds()));
    let (terms, scopes) = order.terms.unwrap();
    assert!(order.beyond.is_empty() && bounds().hold(&terms, &scopes));
    assert_eq!((terms.mode, terms.expires), (Mode::Sandbox, bounds().expires));
    assert_eq!(terms.networks, bounds().networks);
    let order = read_within(json!({"name": "demo", "all_scopes": true}), Some(&bounds()));
    assert_eq!(order.terms.unwrap().1.as_str(), "keys:write pay");
    assert!(order.beyond.is_empty());
}

#[test]
fn what_a_key_orders_beyond_its_own_is_named() {
    let order = read_within(
        json!({
            "name": "demo", "mode": "live", "scopes": ["pay", "connect", "usage:read"],
            "networks": ["10.1.0.0/16", "11.0.0.0/8", "::ffff:10.2.0.0/112", "0.0.0.0/0", "2001:db8:7::/48"],
            "expires_at": "2030-01-01T00:00:00Z",
        }),
        Some(&bounds()),
    );
    assert!(order.terms.is_ok());
    let pointers: Vec<String> = placed(order.beyond).into_iter().map(|(pointer, _)| pointer).collect();
    assert_eq!(pointers, ["/mode", "/scopes/1", "/scopes/2", "/expires_at", "/networks/1", "/networks/3"]);
}

#[test]
fn an_imported_key_takes_its_mode_from_its_secret_and_never_shows_it() {
    let scopes = SCOPES();
    let known = Known { scopes: &scopes, now: NOW, bounds: None };
    let read = |secret: Value| {
        let body = json!({"name": "old", "scopes": ["pay"], "secret": secret});
        let (order, secret) = Order::read_import("/keys/4".into(), body.as_object().unwrap(), known);
        (order.terms, secret)
    };
    let (terms, secret) = read(json!("sk_sandbox_0123456789_0123456789_01"));
    assert_eq!((terms.unwrap().0.mode, secret.unwrap().mode()), (Mode::Sandbox, Mode::Sandbox));
    let typo = format!("sk_live_{}", "a".repeat(49));
    for wrong in [
        json!(null),
        json!(7),
        json!(""),
        json!("sk_live_short"),
        json!("sk_test_0123456789_0123456789_01"),
        json!(typo),
    ] {
        let (terms, secret) = read(wrong.clone());
        let found = placed(terms.unwrap_err());
        assert!(secret.is_none());
        assert_eq!((found.len(), found[0].0.as_str()), (1, "/keys/4/secret"), "{wrong}");
        assert!(wrong.as_str().is_none_or(|wrong| wrong.is_empty() || !found[0].1.contains(wrong)));
    }
}

#[test]
fn a_set_of_scopes_is_read_as_a_whole() {
    let scopes = SCOPES();
    let known = Known { scopes: &scopes, now: NOW, bounds: None };
    let read = |body: Value| read_scopes(body.as_object().unwrap(), known).0.map(|scopes| scopes.as_str().to_owned());
    assert_eq!(read(json!({"scopes": ["pay", "usage:read"]})).unwrap(), "pay usage:read");
    assert_eq!(read(json!({"all_scopes": true})).unwrap(), "connect knowledge pay");
    for (body, pointer) in [
        (json!({}), "/scopes"),
        (json!({"scopes": []}), "/scopes"),
        (json!({"scopes": ["keys:admin"]}), "/scopes/0"),
        (json!({"scopes": ["pay"], "name": "x"}), "/name"),
    ] {
        assert_eq!(placed(read(body.clone()).unwrap_err())[0].0, pointer, "{body}");
    }
}

proptest! {
    #[test]
    fn any_text_as_a_network_is_refused_or_is_one(text in "[0-9a-f:./]{0,24}|\\PC{0,12}") {
        if let Ok(network) = network(&text) {
            prop_assert_eq!(network.addr(), network.network());
        }
    }
}
