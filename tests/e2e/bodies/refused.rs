//! What a body must not do, and what policies must not do with it: each is contained, and told.

use super::{Link, accept, gateway, open, post, read_until, toml};
use crate::harness::{Answer, Gateway, Origin, until};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;

fn code(answer: &Answer) -> (u16, String) {
    (answer.status, answer.error())
}

fn failures(gateway: &Gateway) -> Value {
    gateway.admin("GET", "/v1/plugins").send().json()["policies"][0]["failures"].clone()
}

/// A body in chunks, whose length nobody knows before its end.
fn chunked(gateway: &Gateway, body: &str) -> String {
    let head = "POST /v1/connect/x HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    let mut stream = open(gateway, format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len()));
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn a_body_beyond_the_bound_of_a_policy_is_refused_before_anything_is_sent() {
    let origin = Origin::echo();
    let both = json!({ "request_body": { "buffered": 10 }, "response_body": { "buffered": 50 } });
    let gateway = gateway(origin.address, &[Link::new("holds", both, json!({}))], "");
    assert_eq!(code(&post(&gateway, "12345678901")), (413, "request_body_too_large".into()));
    let answer = chunked(&gateway, "12345678901");
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("request_body_too_large"), "{answer}");
    assert_eq!(origin.requests(), 0);
    assert_eq!(post(&gateway, "1234567890").status, 502, "as much as it may be, and the echo is too large");
    for path in ["/v1/connect/big", "/v1/connect/endless"] {
        assert_eq!(code(&gateway.get(path).send()), (502, "response_body_too_large".into()), "{path}");
    }
}

#[test]
fn a_policy_refuses_at_a_chunk_or_at_the_end() {
    let origin = Origin::echo();
    // As long as one of them runs its component is not compiled again.
    let mut running = Vec::new();
    for mode in [json!("inspect"), json!("transform"), json!({ "buffered": 1000 })] {
        let descriptor = json!({ "request_body": mode, "powers": ["deny"] });
        for config in [json!({ "request": { "refuse_at": "bad" } }), json!({ "request": { "deny": true } })] {
            let gateway = gateway(origin.address, &[Link::new("guard", descriptor.clone(), config.clone())], "");
            assert_eq!(code(&post(&gateway, "some bad words")), (422, "bad_body".into()), "{mode} {config}");
            let answer = chunked(&gateway, "some bad words");
            assert!(answer.starts_with("HTTP/1.1 422 "), "{mode} {config}: {answer}");
            running.push(gateway);
        }
    }
}

/// The upstream sees a request that breaks off, never one that is short and looks whole.
#[test]
fn what_has_gone_to_the_upstream_breaks_off() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let descriptor = json!({ "request_body": "transform", "powers": ["deny"] });
    let config = json!({ "request": { "replace": "upper", "refuse_at": "bad" } });
    let gateway = gateway(address, &[Link::new("guard", descriptor, config)], "");
    let mut client = open(&gateway, "POST /v1/connect/x HTTP/1.1\r\nhost: g\r\ncontent-length: 7\r\n\r\ngood");
    let mut upstream = accept(&listener, "GOOD");
    client.write_all(b"bad").expect("it takes them");
    let refused = read_until(&mut client, "bad_body");
    assert!(refused.starts_with("HTTP/1.1 422 "), "{refused}");
    let mut rest = String::new();
    let _ = upstream.read_to_string(&mut rest);
    assert!(!rest.contains("0\r\n\r\n") && !rest.contains("BAD"), "{rest:?}");
}

#[test]
fn a_policy_that_fails_closed_ends_the_exchange() {
    let origin = Origin::echo();
    for mode in [json!("inspect"), json!("transform"), json!({ "buffered": 5_000_000 })] {
        let descriptor = json!({ "request_body": mode, "response_body": mode });
        let request = json!({ "request": { "loop_at": "bad" } });
        let gateway_of = |config| gateway(origin.address, &[Link::new("loops", descriptor.clone(), config)], "");
        let requests = gateway_of(request);
        assert_eq!(code(&post(&requests, "some bad words")), (503, "policy_unavailable".into()), "{mode}");
        assert_eq!(post(&requests, "good words").status, 200, "{mode}");
        assert_eq!(failures(&requests), json!({ "out_of_fuel": 1 }), "{mode}");

        let gateway = gateway_of(json!({ "response": { "loop_at": "data: 4" } }));
        let mut stream = open(&gateway, "GET /v1/connect/events HTTP/1.1\r\nhost: g\r\n\r\n");
        let mut seen = String::new();
        let _ = stream.read_to_string(&mut seen);
        let held = mode.is_object();
        assert!(!seen.contains("0\r\n\r\n") || held, "it is not ended, but broken off: {seen}");
        // Not the one right before: on a busy machine some come together.
        assert_eq!(seen.contains("data: 0"), !held, "{mode}: {seen}");
        assert_eq!(seen.starts_with("HTTP/1.1 503 "), held, "{mode}: {seen}");
    }
}

#[test]
fn one_that_only_inspects_can_fail_open() {
    let origin = Origin::echo();
    let descriptor = json!({ "request_body": "inspect", "response_body": "inspect" });
    let config = json!({ "request": { "loop_at": "bad" }, "response": { "loop_at": "data: 3" } });
    let gateway = gateway(origin.address, &[Link::new("eye", descriptor, config).with("failure = \"open\"")], "");
    assert_eq!(post(&gateway, "some bad words").json()["body"], "some bad words");
    let events = gateway.get("/v1/connect/events").send().text();
    assert!(events.contains("data: 4"), "{events}");
    assert_eq!(failures(&gateway), json!({ "out_of_fuel": 2 }));
}

#[test]
fn what_the_mode_does_not_allow_is_a_failure() {
    let origin = Origin::echo();
    let powers = json!(["rewrite-path"]);
    let mut running = Vec::new();
    for (mode, way) in [
        (json!("inspect"), json!({ "replace": "same" })),
        (json!("inspect"), json!({ "more": "x" })),
        (json!("inspect"), json!({ "refuse_at": "hello" })),
        (json!("inspect"), json!({ "deny": true })),
        (json!("transform"), json!({ "tell": true })),
        (json!("transform"), json!({ "path": "/x" })),
        (json!("transform"), json!({ "respond": true })),
        (json!({ "buffered": 8 }), json!({ "replace": "double" })),
        (json!({ "buffered": 8 }), json!({ "charge": 1 })),
    ] {
        let descriptor = json!({ "request_body": mode, "request_writes": ["x-told"], "powers": powers });
        let gateway = gateway(origin.address, &[Link::new("odd", descriptor, json!({ "request": way }))], "");
        assert_eq!(code(&post(&gateway, "hello")), (503, "policy_unavailable".into()), "{mode} {way}");
        assert_eq!(failures(&gateway), json!({ "not_allowed": 1 }), "{mode} {way}");
        running.push(gateway);
    }
}

/// An upload that stops half-way, while a policy has it held.
#[test]
fn a_held_upload_that_stalls_is_answered() {
    let origin = Origin::echo();
    let link = Link::new("holds", json!({ "request_body": { "buffered": 100 } }), json!({})).with("bodies = 1");
    let toml = toml(origin.address, std::slice::from_ref(&link), "");
    let toml = toml.replace("[pillars.connect]", "response_timeout = \"100ms\"\n[pillars.connect]");
    let gateway = Gateway::start_with(&toml, &[link.component()]);
    let mut client = open(&gateway, "POST /v1/connect/x HTTP/1.1\r\nhost: g\r\ncontent-length: 10\r\n\r\nhalf");
    let answer = read_until(&mut client, "request_body_stalled");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(origin.requests(), 0);
    until("the instance is free", || post(&gateway, "hello").status == 200);
}

#[test]
fn a_held_response_can_be_stopped() {
    let origin = Origin::echo();
    let descriptor = json!({ "response_body": { "buffered": 10_000 }, "powers": ["deny"] });
    let config = json!({ "response": { "refuse_at": "some bad words" } });
    let gateway = gateway(origin.address, &[Link::new("guard", descriptor, config)], "");
    assert_eq!(code(&post(&gateway, "some bad words")), (502, "response_refused".into()));
    assert_eq!(post(&gateway, "good words").status, 200);
    assert_eq!(failures(&gateway), json!({}), "that is no failure of the policy");
}

#[test]
fn what_comes_back_for_one_chunk_is_bounded() {
    let origin = Origin::echo();
    let descriptor = json!({ "request_body": "transform" });
    for (length, status) in [(1000, 200), (9000, 503)] {
        let config = json!({ "request": { "wrap": ["x".repeat(length), ""] } });
        let link = Link::new("wraps", descriptor.clone(), config).with("copied_out = \"8KiB\"");
        let gateway = gateway(origin.address, &[link], "");
        assert_eq!(post(&gateway, "hello").status, status);
        let wanted = if status == 200 { json!({}) } else { json!({ "unreadable": 1 }) };
        assert_eq!(failures(&gateway), wanted);
    }
}

#[test]
fn what_does_not_fit_is_refused_at_load() {
    let origin = Origin::echo();
    let refused = |link: Link, change: &dyn Fn(String) -> String| {
        let component = link.component();
        let toml = change(toml(origin.address, &[link], ""));
        Gateway::try_start(&toml, &[component]).err().expect("it is refused").to_string()
    };
    let same = |toml: String| toml;
    let link = |mode: Value| Link::new("odd", json!({ "request_body": mode }), json!({}));
    let ungranted = |toml: String| toml.replace("grant.bodies = [\"request\"]", "grant.bodies = []");
    for (error, reason) in [
        (refused(link(json!("inspect")), &ungranted), "wants to see the request body, which is not granted"),
        (refused(link(json!("transform")), &ungranted), "policies.odd.grant.bodies"),
        (refused(link(json!("transform")).with("failure = \"open\""), &same), "must not fail open"),
        (refused(link(json!({ "buffered": 9 })).with("failure = \"open\""), &same), "policies.odd.failure"),
        (refused(link(json!({ "buffered": 0 })), &same), "1 to 16777216 are possible"),
        (refused(link(json!({ "buffered": 16_777_217 })), &same), "1 to 16777216 are possible"),
    ] {
        assert!(error.contains(reason), "wanted {reason:?}: {error}");
    }
}
