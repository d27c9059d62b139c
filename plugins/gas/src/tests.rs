//! Checks who pays what.

use portico_sdk::{Basis, Plan, Slot, testing};

use super::*;

fn slot() -> Slot {
    testing::slot("connect")
        .route("rooms.list", Auth::Required)
        .route("rooms.create", Auth::Required)
        .route("lobby", Auth::None)
        .build()
}

fn configured(config: &str) -> (Gas, Plan) {
    testing::configure(&slot(), config).expect("a good configuration")
}

fn charged(policy: &Gas, route: u32, credential: Credential) -> Vec<Charge> {
    let request = testing::request().route(route).credential(credential);
    policy.on_request(&request.build()).charges
}

const PRICES: &str = r#"{"default":{"gas":"1"},"routes":{
    "rooms.create":{"price":"0.004","per":"unit","max_units":600}}}"#;

#[test]
fn a_route_has_its_own_price_or_the_default() {
    let (policy, plan) = configured(PRICES);
    let live = testing::valid(Mode::Live, 1);
    assert_eq!(charged(&policy, 0, live), [Charge::per_request(1_000_000)]);
    assert_eq!(charged(&policy, 1, live), [Charge::per_unit(400_000, 600)]);
    assert_eq!(plan.maximum_charge, 400_000 * 600);
}

#[test]
fn sandbox_keys_and_passers_by_are_not_charged() {
    let (policy, _) = configured(PRICES);
    assert_eq!(charged(&policy, 0, testing::valid(Mode::Sandbox, 1)), []);
    assert_eq!(charged(&policy, 2, Credential::Absent), []);
    assert_eq!(charged(&policy, 2, testing::valid(Mode::Sandbox, 0)), []);
    assert_eq!(charged(&policy, 2, testing::valid(Mode::Live, 0)).len(), 1);
}

#[test]
fn whom_another_policy_may_have_identified_is_charged() {
    let (policy, _) = configured(PRICES);
    assert_eq!(charged(&policy, 0, Credential::Absent).len(), 1);
}

#[test]
fn without_prices_all_is_free() {
    let (policy, plan) = configured("{}");
    assert_eq!(charged(&policy, 0, testing::valid(Mode::Live, 1)), []);
    assert_eq!(plan.maximum_charge, 0);
}

#[test]
fn a_price_of_nothing_makes_one_route_free() {
    let (policy, _) = configured(r#"{"default":{"gas":"1"},"routes":{"rooms.list":{"gas":"0"}}}"#);
    assert_eq!(charged(&policy, 0, testing::valid(Mode::Live, 1)), []);
}

#[test]
fn bytes_are_charged_by_the_kib() {
    let (policy, _) = configured(r#"{"default":{"gas":"0.000001","per":"kib","max_units":7}}"#);
    let charges = charged(&policy, 0, testing::valid(Mode::Live, 1));
    assert_eq!(charges, [Charge::per_kibibyte(1, 7)]);
    assert_eq!(charges[0].basis, Basis::Kibibyte);
}

#[test]
fn unknown_routes_are_named_with_a_suggestion() {
    let problems = testing::configure::<Gas>(&slot(), r#"{"routes":{"rooms.lst":{"gas":"1"},"a/b":{"gas":"x"}}}"#)
        .expect_err("unknown routes");
    let seen: Vec<(&str, &str)> =
        problems.iter().map(|problem| (problem.pointer.as_str(), problem.message.as_str())).collect();
    assert_eq!(
        seen[0],
        (
            "/routes/a~1b",
            "The pillar `connect` has no route `a/b`; its routes are `rooms.list`, `rooms.create`, `lobby`."
        )
    );
    assert_eq!(seen[1].0, "/routes/a~1b/gas");
    assert_eq!(
        seen[2],
        ("/routes/rooms.lst", "The pillar `connect` has no route `rooms.lst`; did you mean `rooms.list`?")
    );
}
