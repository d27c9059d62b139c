//! Guests that import WASI: it is empty, what they wait for holds up nobody else, and all of it is bounded.

use crate::harness::{Gateway, ONE_WORKER, Origin, request, until};
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn toml(origin: &Origin, more: &str) -> String {
    format!(
        "{ONE_WORKER}[policies.waits]\n{more}\n\
         [upstreams.origin]\nendpoints = [\"http://{0}\"]\n\
         [pillars.calm]\nupstream = \"origin\"\nchain = []\n[[pillars.calm.routes]]\npath = \"/x\"\nauth = \"none\"\n\
         [pillars.wild]\nupstream = \"origin\"\nchain = [\"waits\"]\n[[pillars.wild.routes]]\npath = \"/x\"\nauth = \"none\"\n",
        origin.address
    )
}

/// So that a busy machine is not taken for a guest that runs too long.
const TIME: &str = "deadline = \"1s\"\nquarantine = false\n";

fn ask(gateway: &Gateway, behaviour: &str) -> String {
    let answer = gateway.get("/v1/wild/x").field("x-behaviour", behaviour).send();
    assert_eq!(answer.status, 200, "{behaviour}: {answer:?}");
    answer.field("x-answer").expect("an answer").to_owned()
}

fn failures(gateway: &Gateway) -> Value {
    gateway.admin("GET", "/v1/plugins").send().json()["policies"][0]["failures"].clone()
}

#[test]
fn there_is_nothing_behind_wasi() {
    let origin = Origin::echo();
    for instance in ["fresh", "pooled"] {
        let gateway = Gateway::start(&toml(&origin, &format!("{TIME}instance = \"{instance}\"")));
        assert_eq!(ask(&gateway, "nothing"), "nothing");
        assert_eq!(ask(&gateway, "environment"), "[] [] None");
        assert_eq!(ask(&gateway, "files"), "0");
        assert_eq!(ask(&gateway, "input"), "Err(StreamError::Closed)");
        for socket in ["tcp", "udp"] {
            let answer = ask(&gateway, socket);
            assert!(answer.starts_with("Err(ErrorCode"), "{socket}: {answer}");
        }
        let names = ask(&gateway, "names");
        assert!(names.starts_with("Err(ErrorCode") && names.contains("ermanent"), "{names}");
        assert_eq!(ask(&gateway, "terminal"), "false");
        assert_eq!(failures(&gateway), json!({}));
    }
}

#[test]
fn clock_and_randomness_follow_from_the_request_unless_granted() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&toml(&origin, TIME));
    let at = |gateway: &Gateway| {
        let told = ask(gateway, "clock");
        let (wall, monotonic) = told.split_once(' ').expect("two clocks");
        (wall.parse::<u64>().expect("a number"), monotonic.parse::<u64>().expect("a number"))
    };
    let (wall, monotonic) = at(&gateway);
    assert_eq!(monotonic, wall * 1_000_000, "both stand at the moment of the request");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
    assert!(now.abs_diff(u128::from(wall)) < 60_000, "{now} {wall}");
    // Each request has a seed of its own.
    assert_ne!(ask(&gateway, "random"), ask(&gateway, "random"));
    assert!(ask(&gateway, "random").ends_with("(0, 0)"));

    let granted = Gateway::start(&toml(&origin, &format!("{TIME}grant.wasi = [\"clock\", \"random\"]")));
    let (wall, monotonic) = at(&granted);
    assert_ne!(monotonic, wall * 1_000_000, "one counts from when the process began");
    assert!(!ask(&granted, "random").ends_with("(0, 0)"));
}

#[test]
fn who_waits_holds_up_nobody() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&toml(&origin, &format!("{TIME}wait = \"2s\"")));
    let public = gateway.public;
    let begun = Instant::now();
    let sleeping: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn(move || {
                request(public, "GET", "/v1/wild/x").field("x-behaviour", "sleep-an-hour").send().status
            })
        })
        .collect();
    for _ in 0..50 {
        assert_eq!(gateway.get("/v1/calm/x").send().status, 200);
    }
    assert_eq!(ask(&gateway, "nap"), "woke");
    assert!(sleeping.iter().all(|call| !call.is_finished()), "all of that while they sleep");
    assert!(sleeping.into_iter().all(|call| call.join().expect("no panic") == 503));
    assert!(begun.elapsed() >= Duration::from_secs(2), "they had their time");
    assert_eq!(failures(&gateway), json!({ "waited_too_long": 8 }));
    assert_eq!(ask(&gateway, "naps"), "woke", "and the next one finds a healthy instance");
}

#[test]
fn a_response_waits_too() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&toml(&origin, TIME));
    assert_eq!(gateway.get("/v1/wild/x").send().field("x-after"), Some("waited"));
}

#[test]
fn calls_that_wait_are_counted_and_bounded() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&toml(&origin, &format!("{TIME}wait = \"1m\"\nwaiting_calls = 4")));
    let asleep = || {
        let mut client = TcpStream::connect(gateway.public).expect("the gateway listens");
        let call = b"GET /v1/wild/x HTTP/1.1\r\nhost: gateway.test\r\nx-behaviour: sleep-an-hour\r\n\r\n";
        client.write_all(call).expect("it is read");
        client
    };
    let clients = [(); 4].map(|()| asleep());
    until("four calls wait", || gateway.get("/v1/wild/x").send().status == 503);
    let answer = gateway.get("/v1/wild/x").send();
    assert_eq!((answer.status, answer.error().as_str()), (503, "policy_unavailable"));
    assert_eq!(gateway.get("/v1/calm/x").send().status, 200, "others have nothing to do with that");
    // Clients that leave give their places back.
    drop(clients);
    until("the places are free", || gateway.get("/v1/wild/x").send().status == 200);
}

#[test]
fn who_leaves_meanwhile_is_in_usage_as_in_the_log() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&toml(&origin, &format!("{TIME}wait = \"1m\"")));
    let mut client = TcpStream::connect(gateway.public).expect("the gateway listens");
    let call = b"GET /v1/wild/x HTTP/1.1\r\nhost: gateway.test\r\nx-behaviour: sleep-an-hour\r\n\r\n";
    client.write_all(call).expect("it is read");
    let figures = || gateway.admin("GET", "/metrics").send().text();
    until("the policy waits", || figures().contains("\nportico_requests_in_flight 1"));
    drop(client);
    let logged = || gateway.admin("GET", "/v1/requests").send().json()["requests"].clone();
    until("it is in the log", || logged().as_array().is_some_and(|requests| !requests.is_empty()));
    let told = &logged()[0];
    assert_eq!((&told["ended"], &told["pillar"], &told["status"]), (&json!("left"), &json!("wild"), &Value::Null));
    let counted = || gateway.admin("GET", "/v1/usage").send().json()["by_pillar"]["wild"]["calls"].clone();
    until("it is in usage", || counted() == 1);
}

#[test]
fn harm_is_contained() {
    let origin = Origin::echo();
    for instance in ["pooled", "fresh"] {
        let gateway =
            Gateway::start(&toml(&origin, &format!("quarantine = false\nwait = \"300ms\"\ninstance = \"{instance}\"")));
        for (behaviour, kinds) in [
            ("loop", ["out_of_fuel", "past_deadline"]),
            ("panic", ["trapped", ""]),
            ("exit", ["trapped", ""]),
            ("exit-well", ["trapped", ""]),
            ("nap-forever", ["waited_too_long", "past_deadline"]),
            ("poll-forever", ["out_of_fuel", "past_deadline"]),
            ("hoard", ["unreadable", "trapped"]),
            ("words-without-end", ["out_of_fuel", "past_deadline"]),
            ("much-random", ["unreadable", "trapped"]),
            ("eat-memory", ["trapped", "out_of_fuel"]),
            ("sleep-an-hour", ["waited_too_long", ""]),
        ] {
            let before = failures(&gateway);
            let begun = Instant::now();
            let answer = gateway.get("/v1/wild/x").field("x-behaviour", behaviour).send();
            assert_eq!((answer.status, answer.error().as_str()), (503, "policy_unavailable"), "{behaviour}");
            // Ten times as long as it may take.
            assert!(begun.elapsed() < Duration::from_secs(4), "{behaviour}: {:?}", begun.elapsed());
            let after = failures(&gateway);
            let rose = |kind: &&str| after[kind].as_u64().unwrap_or(0) > before[kind].as_u64().unwrap_or(0);
            assert!(kinds.iter().any(rose), "{behaviour}: {after}");
            assert_eq!(gateway.get("/v1/calm/x").send().status, 200);
            assert_eq!(gateway.get("/v1/wild/x").send().status, 200, "the call after {behaviour}, {instance}");
        }
        assert_eq!(ask(&gateway, "words"), "done", "what is too much is dropped");
    }
}

#[test]
fn fresh_ones_remember_nothing_and_pooled_ones_do() {
    let origin = Origin::echo();
    let three = |gateway: &Gateway| [(); 3].map(|()| ask(gateway, "remember"));
    assert_eq!(three(&Gateway::start(&toml(&origin, TIME))), ["1", "1", "1"]);
    // A response is a call too.
    let pooled = format!("{TIME}instance = \"pooled\"\n");
    assert_eq!(three(&Gateway::start(&toml(&origin, &pooled))), ["1", "2", "3"]);
    assert_eq!(three(&Gateway::start(&toml(&origin, &format!("{pooled}recycle_after = 4")))), ["1", "2", "1"]);
}
