use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::problem::Place;

const NOW: Millis = Millis(1_795_305_600_000);

fn read(body: Value) -> Order {
    let known = ["connect", "pay", "knowledge"].map(str::to_owned);
    Order::read(body.as_object().unwrap(), &known, NOW)
}

fn faults(body: Value) -> Vec<(String, String)> {
    let place = |fault: Fault| match fault.place {
        Place::Pointer(pointer) => (pointer, fault.detail),
        Place::Parameter(name) => panic!("a body has no parameter {name}"),
    };
    read(body).terms.unwrap_err().into_iter().map(place).collect()
}

#[test]
fn the_least_order_is_a_live_key_of_the_default_org() {
    let order = read(json!({"name": "demo", "all_scopes": true, "mode": null}));
    assert_eq!(order.org, "default");
    let terms = order.terms.unwrap();
    assert_eq!((&*terms.name, terms.mode, terms.expires), ("demo", Mode::Live, None));
    assert_eq!(terms.scopes.as_str(), "connect knowledge pay");
    assert!(terms.networks.is_empty());
}

#[test]
fn a_full_order_is_taken_over_field_by_field() {
    let order = read(json!({
        "name": "Ünï 1", "org": "acme", "mode": "sandbox", "scopes": ["pay", "connect", "pay"],
        "expires_at": "2027-01-01T00:00:00Z",
        "networks": ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::ffff:198.51.100.0/120"],
    }));
    assert_eq!(order.org, "acme");
    let terms = order.terms.unwrap();
    assert_eq!(terms.mode, Mode::Sandbox);
    assert_eq!(terms.scopes.as_str(), "connect pay");
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
    let none: [String; 0] = [];
    let body = json!({"name": "demo", "all_scopes": true});
    assert!(Order::read(body.as_object().unwrap(), &none, NOW).terms.is_err());
}

proptest! {
    #[test]
    fn any_text_as_a_network_is_refused_or_is_one(text in "[0-9a-f:./]{0,24}|\\PC{0,12}") {
        if let Ok(network) = network(&text) {
            prop_assert_eq!(network.addr(), network.network());
        }
    }
}
