//! Keys that are not in memory: with room for a few, many are used in turn, changed and revoked, on real workers.

use crate::harness::{Answer, DEFAULT, Gateway, Origin, request, until};
use crate::program::Stand;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const FEW: &str = "[keys]\nhot = 4\n";

fn tell(gateway: &Gateway, method: &str, path: &str, body: Value) -> Answer {
    gateway.admin(method, path).field("content-type", "application/json").body(body.to_string()).send()
}

fn status(gateway: &Gateway, secret: &str) -> (u16, String) {
    let answer = gateway.get("/v1/connect/x").key(secret).send();
    let error = if answer.status == 200 { String::new() } else { answer.error() };
    (answer.status, error)
}

fn figure(gateway: &Gateway, name: &str) -> u64 {
    let text = gateway.admin("GET", "/metrics").send().text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse::<f64>().expect("a number") as u64
}

fn looked_up(gateway: &Gateway, outcome: &str) -> u64 {
    figure(gateway, &format!("portico_key_look_ups_total{{outcome=\"{outcome}\"}}"))
}

fn forged(number: usize) -> String {
    format!("sk_live_nobody_has_this_key_{number:012}")
}

#[test]
fn many_keys_take_turns_in_few_places_and_what_happens_to_them_holds() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, &format!("{DEFAULT}{FEW}"));
    let issue = |number: usize| gateway.issue(json!({ "name": format!("k{number}"), "scopes": ["connect"] }));
    let keys: Vec<(String, String)> = (0..40).map(issue).collect();
    let settled = || until("few are in memory", || figure(&gateway, "portico_keys_hot") <= 4);
    for _ in 0..2 {
        settled();
        for (_, secret) in &keys {
            assert_eq!(status(&gateway, secret), (200, String::new()));
        }
    }
    settled();
    assert!(looked_up(&gateway, "found") >= 36 && figure(&gateway, "portico_keys_evicted_total") >= 72);
    assert_eq!(["nobody", "failed", "timed_out", "refused"].map(|outcome| looked_up(&gateway, outcome)), [0; 4]);

    // Forged keys do not reach the store.
    let before = looked_up(&gateway, "found");
    for number in 0..300 {
        assert_eq!(status(&gateway, &forged(number)), (401, "invalid_api_key".into()));
    }
    assert_eq!((looked_up(&gateway, "found"), looked_up(&gateway, "nobody")), (before, 0));

    // Most are not in memory now.
    for (id, secret) in &keys[..8] {
        assert_eq!(gateway.revoke(id).status, 200);
        assert_eq!(status(&gateway, secret), (401, "key_revoked".into()));
    }
    let mut rotated = Vec::new();
    for (id, secret) in &keys[8..16] {
        let answer = tell(&gateway, "POST", &format!("/v1/keys/{id}/rotate"), json!({ "overlap": 3600 }));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let young = answer.json()["secret"].as_str().expect("a secret").to_owned();
        assert_eq!((status(&gateway, secret).0, status(&gateway, &young).0), (200, 200));
        rotated.push(young);
    }
    for (id, secret) in &keys[16..24] {
        let scoped = tell(&gateway, "PATCH", &format!("/v1/keys/{id}/scope"), json!({ "scopes": ["keys:read"] }));
        assert_eq!(scoped.status, 200);
        assert_eq!(status(&gateway, secret), (403, "insufficient_scope".into()));
    }
    // The pepper is exchanged, and those that were used since are moved to the next one.
    assert_eq!(gateway.admin("POST", "/v1/peppers").send().status, 201);
    let check = |gateway: &Gateway| {
        for (at, (_, secret)) in keys.iter().enumerate() {
            let expected = match at {
                0..8 => (401, "key_revoked"),
                16..24 => (403, "insufficient_scope"),
                _ => (200, ""),
            };
            assert_eq!(status(gateway, secret), (expected.0, expected.1.to_owned()), "key {at}");
        }
        for young in &rotated {
            assert_eq!(status(gateway, young).0, 200);
        }
    };
    check(&gateway);
    // What a name and a last use are is in the store, and said of it.
    let (id, secret) = &keys[30];
    let me = gateway.get("/v1/me").key(secret).send().json();
    assert_eq!((me["name"].as_str(), me["key_id"].as_str()), (Some("k30"), Some(&**id)));
    settled();
    let shown = gateway.admin("GET", &format!("/v1/keys/{id}")).send().json();
    assert!(shown["last_used_at"].is_string(), "{shown}");

    let gateway = gateway.restart();
    assert_eq!(figure(&gateway, "portico_keys_hot"), 0, "none is read at the start");
    check(&gateway);
    assert_eq!(status(&gateway, &forged(1)), (401, "invalid_api_key".into()));
    assert_eq!(looked_up(&gateway, "nobody"), 0);
}

#[test]
fn a_store_that_does_not_answer_is_no_reason_to_call_a_key_nobodys() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, &format!("{DEFAULT}{FEW}"));
    let (_, hot) = gateway.issue(json!({ "name": "hot", "scopes": ["connect"] }));
    let (_, cold) = gateway.issue(json!({ "name": "cold", "scopes": ["connect"] }));
    let gateway = gateway.restart();
    assert_eq!(status(&gateway, &hot).0, 200);
    let held = gateway.hold_up_stores();
    let begun = Instant::now();
    let answer = gateway.get("/v1/connect/x").key(&cold).send();
    assert_eq!((answer.status, answer.error()), (503, "credential_unavailable".to_owned()));
    assert_eq!(answer.field("retry-after"), Some("1"));
    assert!(begun.elapsed() < Duration::from_secs(10));
    // Nobody else waits: neither a key in memory, nor one that is nobody's.
    assert_eq!(status(&gateway, &hot).0, 200);
    assert_eq!(status(&gateway, &forged(1)), (401, "invalid_api_key".into()));
    drop(held);
    until("the store answers again", || status(&gateway, &cold).0 == 200);
}

#[test]
fn a_key_that_was_just_issued_is_good_after_a_death() {
    let stand = Stand::new();
    let mut keys: Vec<String> = Vec::new();
    for round in 0..4 {
        let serving = stand.serve();
        let token = std::fs::read_to_string(stand.path().join("data/admin-token")).unwrap();
        for secret in &keys {
            let status = request(serving.public, "GET", "/v1/connect/x").key(secret).send().status;
            assert_eq!(status, 200, "round {round}");
        }
        for number in 0..round + 1 {
            let order = json!({ "name": format!("k{round}.{number}"), "scopes": ["connect"] }).to_string();
            let asked = request(serving.admin, "POST", "/v1/keys").key(token.trim());
            let issued = asked.field("content-type", "application/json").body(order).send();
            assert_eq!(issued.status, 201, "{}", issued.text());
            keys.push(issued.json()["secret"].as_str().unwrap().to_owned());
        }
        // Killed, at once.
        drop(serving);
    }
    let serving = stand.serve();
    for secret in &keys {
        assert_eq!(request(serving.public, "GET", "/v1/connect/x").key(secret).send().status, 200);
    }
}
