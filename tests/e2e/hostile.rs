//! Guests that mean harm: contained, answered by the failure policy, and nobody else notices.

use crate::harness::{Gateway, ONE_WORKER, Origin, request, until};
use crate::program::Stand;
use std::time::{Duration, Instant};

const POWERS: &str = r#"["deny", "respond", "forward", "rewrite-path", "take", "charge"]"#;

/// Without quarantine: each call is to run until one of its own bounds stops it.
fn toml(origin: &Origin, instance: &str) -> String {
    format!(
        "{ONE_WORKER}[policies.hostile]\nquarantine = false\ninstance = \"{instance}\"\ngrant.powers = {POWERS}\ngrant.maximum_charge = \"1000\"\nconfig = {{ behaviour = \"none\" }}\n\
         [upstreams.origin]\nendpoints = [\"http://{0}\"]\n\
         [pillars.calm]\nupstream = \"origin\"\nchain = []\n[[pillars.calm.routes]]\npath = \"/x\"\nauth = \"none\"\n\
         [pillars.wild]\nupstream = \"origin\"\nchain = [\"hostile\"]\n[[pillars.wild.routes]]\npath = \"/x\"\nauth = \"none\"\n",
        origin.address
    )
}

/// All of these must cost the request its answer, and nothing else.
const HARMFUL: &[&str] = &[
    "loop",
    "panic",
    "unreachable",
    "stack-overflow",
    "eat-memory",
    "edit-out-of-range",
    "response-edit-out-of-range",
    "take-out-of-range",
    "million-takes",
    "take-huge-subject",
    "forward-out-of-range",
    "charge-above-maximum",
    "charges-above-maximum",
    "charge-overflow",
    "identify-without-power",
    "mint-without-power",
    "million-edits",
    "thousand-edits",
    "million-notes",
    "huge-string",
    "large-string",
    "lying-length",
    "overlapping-strings",
    "bad-utf8",
    "bad-utf8-path",
    "value-crlf",
    "value-lf",
    "value-nul",
    "value-huge",
    "carry-huge",
    "path-relative",
    "path-crlf",
    "path-query",
    "path-dots",
    "path-authority",
    "path-huge",
    "deny-bad-status",
    "deny-bad-code",
    "deny-long-message",
    "respond-status-low",
    "respond-status-high",
    "respond-informational",
    "respond-length",
    "respond-chunked",
    "respond-connection",
    "respond-portico",
    "respond-bad-name",
    "respond-crlf",
    "respond-huge",
];

#[test]
fn each_kind_of_harm_is_contained() {
    for instance in ["pooled", "fresh"] {
        let origin = Origin::echo();
        let gateway = Gateway::start(&toml(&origin, instance));
        for behaviour in HARMFUL {
            let begun = Instant::now();
            let answer = gateway.get("/v1/wild/x").field("x-behaviour", behaviour).send();
            let took = begun.elapsed();
            assert_eq!(
                (answer.status, answer.error().as_str()),
                (503, "policy_unavailable"),
                "{behaviour}, {instance}"
            );
            // Ten times the deadline and 50 ms.
            assert!(took < Duration::from_millis(700), "{behaviour}, {instance}: {took:?}");
            let next = gateway.get("/v1/wild/x").field("x-behaviour", "none").send();
            assert_eq!(next.status, 200, "the call after {behaviour}, {instance}");
        }
        assert_eq!(origin.requests(), HARMFUL.len(), "only the good calls came through");
    }
}

/// A cost is a number like another: who asks for more than there ever is gets nothing, and takes nothing from others.
#[test]
fn an_absurd_cost_is_refused_and_nothing_is_taken() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&toml(&origin, "pooled"));
    for _ in 0..3 {
        let answer = gateway.get("/v1/wild/x").field("x-behaviour", "take-absurd-cost").send();
        assert_eq!((answer.status, answer.error().as_str()), (429, "rate_limited"));
        assert_eq!(answer.field("ratelimit"), Some("\"sec\";r=1000000;t=0"));
        assert!(answer.field("retry-after").is_some(), "{answer:?}");
    }
    assert_eq!(origin.requests(), 0);
}

/// With fuel and time for all of it: then only the bounds on words and numbers themselves are left.
#[test]
fn floods_of_words_are_bounded() {
    let origin = Origin::echo();
    let bounds = "instance = \"pooled\"\nfuel = 10000000000\ndeadline = \"10s\"\n";
    let gateway = Gateway::start(&toml(&origin, "pooled").replace("instance = \"pooled\"\n", bounds));
    let ask = |behaviour| gateway.get("/v1/wild/x").field("x-behaviour", behaviour).send().status;
    assert_eq!(ask("log-flood"), 200, "all but a few lines are dropped");
    assert_eq!(ask("log-huge"), 503, "a line is longer than what may be copied out");
    assert_eq!(ask("count-flood"), 200, "counting is cheap");
    assert_eq!(ask("count-out-of-range"), 200, "and counts nothing where there is no counter");
    let policies = gateway.admin("GET", "/v1/plugins").send().json();
    let hostile = &policies["policies"][0];
    assert_eq!(hostile["failures"], serde_json::json!({ "unreadable": 1 }));
    assert_eq!(hostile["counters"], serde_json::json!({ "calls": 1_000_000 }));
}

#[test]
fn sixty_four_at_once_harm_nobody_else() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&toml(&origin, "pooled"));
    let public = gateway.public;
    // Warm, so that it is the guests that are waited for.
    assert_eq!(gateway.get("/v1/wild/x").send().status, 200);
    for behaviour in ["loop", "eat-memory", "million-edits", "huge-string"] {
        let begun = Instant::now();
        let wild: Vec<_> = (0..64)
            .map(|_| {
                std::thread::spawn(move || {
                    request(public, "GET", "/v1/wild/x").field("x-behaviour", behaviour).send().status
                })
            })
            .collect();
        let calm: Vec<_> =
            (0..16).map(|_| std::thread::spawn(move || request(public, "GET", "/v1/calm/x").send().status)).collect();
        assert!(calm.into_iter().all(|call| call.join().expect("no panic") == 200), "{behaviour}");
        assert!(wild.into_iter().all(|call| call.join().expect("no panic") == 503), "{behaviour}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{behaviour}: {:?}", begun.elapsed());
        assert_eq!(gateway.get("/v1/wild/x").send().status, 200, "the call after {behaviour}");
    }
}

/// In a process of its own, where nobody else takes memory.
#[test]
fn memory_returns_to_where_it_was() {
    // With time enough, so that on a busy machine too it is memory that ends a call.
    let stand = Stand::with(&format!(
        "[defaults]\nchain = [\"hostile\"]\n[policies.hostile]\ninstance = \"pooled\"\ngrant.powers = {POWERS}\n\
         fuel = 10000000000\ndeadline = \"10s\"\ngrant.maximum_charge = \"1000\"\nconfig = {{ behaviour = \"none\" }}\n"
    ));
    stand.edit(|text| text + "[[pillars.connect.routes]]\npath = \"/x\"\nauth = \"none\"\n");
    let serving = stand.serve();
    let public = serving.public;
    let ask = move |behaviour| request(public, "GET", "/v1/connect/x").field("x-behaviour", behaviour).send().status;
    assert_eq!(ask("none"), 200);
    let before = serving.resident();
    let storm = (0..8).map(|_| {
        std::thread::spawn(move || {
            for _ in 0..10 {
                assert_eq!([ask("eat-memory"), ask("large-string")], [503; 2]);
                // Whether one of them is the second of its instance depends on the others.
                assert!([ask("leak"), ask("leak")].iter().all(|status| matches!(status, 200 | 503)));
            }
        })
    });
    storm.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().expect("no panic"));
    // Nearly three gigabytes were taken; what may stay is one instance's 16 MiB, and this is ten times as much.
    until("memory is where it was", || serving.resident() < before + 160 * 1024);
}

#[test]
fn fresh_instances_remember_nothing_and_pooled_ones_do() {
    let origin = Origin::echo();
    let ask = |gateway: &Gateway| {
        let calls = (0..5).map(|_| gateway.get("/v1/wild/x").field("x-behaviour", "remember").send());
        calls.map(|answer| answer.field("x-hostile").expect("a count").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ask(&Gateway::start(&toml(&origin, "fresh"))), ["1"; 5]);
    assert_eq!(ask(&Gateway::start(&toml(&origin, "pooled"))), ["1", "2", "3", "4", "5"]);
    let recycled =
        toml(&origin, "pooled").replace("instance = \"pooled\"\n", "instance = \"pooled\"\nrecycle_after = 2\n");
    assert_eq!(ask(&Gateway::start(&recycled)), ["1", "2", "1", "2", "1"]);
}

/// As the heap of an interpreter does: without a new instance in time, one call of each hundred or so would fail.
#[test]
fn an_instance_that_grows_is_replaced_before_a_call_fails() {
    let origin = Origin::echo();
    let toml = format!(
        "{ONE_WORKER}[policies.grows]\ninstance = \"pooled\"\nmemory = \"4MiB\"\ndeadline = \"10s\"\n\
         [upstreams.origin]\nendpoints = [\"http://{}\"]\n[pillars.connect]\nupstream = \"origin\"\nchain = [\"grows\"]\n\
         [[pillars.connect.routes]]\npath = \"/x\"\nauth = \"none\"\n",
        origin.address
    );
    let gateway = Gateway::start(&toml);
    let mut longest = 0;
    let mut begun = 0_u64;
    for call in 0..150 {
        let answer = gateway.get("/v1/connect/x").send();
        assert_eq!(answer.status, 200, "call {call}, the instance's {longest}: {}", answer.text());
        let calls: u32 = answer.field("x-calls").and_then(|calls| calls.parse().ok()).expect("a number");
        longest = longest.max(calls);
        begun += u64::from(calls == 1);
    }
    // It begins with a megabyte or so: three quarters of the other three are 36 calls.
    assert!((25..48).contains(&longest), "{longest} calls of one instance");
    let policies = gateway.admin("GET", "/v1/plugins").send().json();
    let shown = &policies["policies"][0];
    assert_eq!((&shown["failures"], &shown["calls"]), (&serde_json::json!({}), &serde_json::json!(150)), "{shown}");
    let renewals = shown["renewals"].as_u64().expect("a number");
    assert!(renewals == begun || renewals + 1 == begun, "{renewals} of {begun}");
}

#[test]
fn open_policies_are_skipped_and_the_guard_stays() {
    let origin = Origin::echo();
    let component = crate::harness::patched(
        "chameleon",
        &serde_json::json!({ "name": "c", "version": "1.0.0", "summary": "", "request_writes": ["x-word"] }),
    );
    let config = serde_json::json!({ "request": { "edits": [{ "set": [99, "x"] }] } });
    let toml = format!(
        "[policies.c]\nfailure = \"open\"\nconfig = {}\n[upstreams.origin]\nendpoints = [\"http://{}\"]\n\
         [pillars.connect]\nupstream = \"origin\"\nchain = [\"c\"]\n[[pillars.connect.routes]]\npath = \"/open\"\nauth = \"none\"\n",
        crate::powers::inline(&config),
        origin.address
    );
    let gateway = Gateway::start_with(&toml, &[("c", component)]);
    assert_eq!(gateway.get("/v1/connect/open").send().status, 200);
    assert_eq!(gateway.get("/v1/connect/closed").send().status, 401);
    let policies = gateway.admin("GET", "/v1/plugins").send().json();
    assert_eq!(policies["policies"][0]["failures"]["not_allowed"], 2, "skipped, and counted: {policies}");
}

/// Each bound is what stops the guest when the others are far away.
#[test]
fn every_bound_binds_by_itself() {
    let origin = Origin::echo();
    for (bounds, behaviour, kind) in [
        ("fuel = 10000000000\ndeadline = \"20ms\"", "loop", "past_deadline"),
        ("deadline = \"10s\"", "loop", "out_of_fuel"),
        ("fuel = 10000000000\ndeadline = \"10s\"\nmemory = \"4MiB\"", "eat-memory", "trapped"),
        ("fuel = 10000000000\ndeadline = \"10s\"\ncopied_out = \"64KiB\"", "large-string", "unreadable"),
        ("fuel = 10000000000\ndeadline = \"10s\"", "edit-out-of-range", "not_allowed"),
    ] {
        let toml =
            toml(&origin, "pooled").replace("instance = \"pooled\"", &format!("instance = \"pooled\"\n{bounds}"));
        let gateway = Gateway::start(&toml);
        assert_eq!(gateway.get("/v1/wild/x").field("x-behaviour", behaviour).send().status, 503);
        let policies = gateway.admin("GET", "/v1/plugins").send().json();
        assert_eq!(policies["policies"][0]["failures"], serde_json::json!({ kind: 1 }), "{behaviour} under {bounds}");
    }
}
