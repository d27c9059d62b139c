//! Callers that make a policy burn its fuel wait, and nobody else; a policy that does it to most callers waits as a whole.

use crate::bodies::{accept, open, read_until};
use crate::harness::{Gateway, ONE_WORKER, Origin, raw, request, until};
use crate::program::{Stand, output};
use serde_json::Value;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};

const POLICY: &str = r#"
[policies.hostile]
instance = "pooled"
deadline = "10s"
grant.powers = ["deny", "respond", "forward", "rewrite-path", "take", "charge"]
grant.maximum_charge = "1000"
config = { behaviour = "none" }
"#;

fn toml(origin: &Origin) -> String {
    format!(
        "{ONE_WORKER}{POLICY}[upstreams.origin]\nendpoints = [\"http://{}\"]\n\
         [pillars.connect]\nupstream = \"origin\"\nchain = [\"hostile\"]\n[[pillars.connect.routes]]\npath = \"/x\"\nauth = \"none\"\n",
        origin.address
    )
}

fn ask(public: SocketAddr, caller: u8, behaviour: &str) -> u16 {
    let call = request(public, "GET", "/v1/connect/x").from([127, 0, 0, caller]).field("x-behaviour", behaviour);
    let answer = call.send();
    if answer.status == 503 {
        assert_eq!(answer.error(), "policy_unavailable");
        assert!(answer.field("retry-after").is_some(), "{answer:?}");
    }
    answer.status
}

fn policy(gateway: &Gateway) -> Value {
    gateway.admin("GET", "/v1/plugins").send().json()["policies"][0].clone()
}

fn answered(gateway: &Gateway) -> u64 {
    policy(gateway)["quarantine"]["answered"].as_u64().expect("a number")
}

fn health(gateway: &Gateway) -> (Value, Value) {
    let document = gateway.get("/v1/health").send().json();
    (document["status"].clone(), document["policy_status"].clone())
}

#[test]
fn who_loops_waits_and_nobody_else() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&toml(&origin));
    let key = gateway.key(&["connect"]);
    let with_key = || gateway.get("/v1/connect/x").key(&key).field("x-behaviour", "none").send().status;
    assert_eq!(health(&gateway), ("ok".into(), serde_json::json!({})));
    // If a second goes by in between, one more of these is a probe, and fails.
    let mut asked = 0;
    until("calls are answered without the guest", || {
        assert_eq!(ask(gateway.public, 2, "loop"), 503);
        asked += 1;
        answered(&gateway) >= 3
    });
    let shown = policy(&gateway);
    let ran = shown["failures"]["out_of_fuel"].as_u64().expect("a number");
    assert!(ran >= 5 && ran + answered(&gateway) == asked, "each either ran or was answered: {shown}");
    assert_eq!(shown["quarantine"]["callers"], 1, "{shown}");
    assert_eq!(health(&gateway), ("ok".into(), serde_json::json!({ "hostile": "quarantined_for_some" })));
    // Behind the same address, but with a key; and from another address.
    let with_key_from_there = || {
        let call = gateway.get("/v1/connect/x").from([127, 0, 0, 2]).key(&key);
        call.field("x-behaviour", "none").send().status
    };
    assert_eq!([with_key(), with_key_from_there(), ask(gateway.public, 3, "none")], [200; 3]);
    assert_eq!(policy(&gateway)["quarantine"]["callers"], 1, "no call of theirs changed that");
    until("the caller is back", || ask(gateway.public, 2, "none") == 200);
    assert_eq!(policy(&gateway)["quarantine"]["callers"], 0);
    assert_eq!(health(&gateway), ("ok".into(), serde_json::json!({})));
}

#[test]
fn keys_of_one_org_are_one_caller() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&toml(&origin));
    let keys: Vec<String> = (0..8).map(|_| gateway.key(&["connect"])).collect();
    let call = |key: &String, behaviour: &str| {
        gateway.get("/v1/connect/x").key(key).field("x-behaviour", behaviour).send().status
    };
    until("calls are answered without the guest", || {
        keys.iter().for_each(|key| assert_eq!(call(key, "loop"), 503));
        answered(&gateway) >= 3
    });
    let shown = &policy(&gateway)["quarantine"];
    assert_eq!((&shown["callers"], &shown["with_key_until"]), (&1.into(), &Value::Null), "{shown}");
    assert_eq!(ask(gateway.public, 2, "none"), 200, "callers without a key are not concerned");
}

#[test]
fn several_callers_bring_the_whole_down_and_one_probe_brings_it_back() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&toml(&origin));
    let key = gateway.key(&["connect"]);
    let whole = || policy(&gateway)["quarantine"]["without_key_until"].clone();
    let mut last = 1;
    until("the whole is in quarantine", || {
        // Ever new ones: those that come again wait each for itself.
        last = if last == 250 { 2 } else { last + 1 };
        assert_eq!(ask(gateway.public, last, "loop"), 503);
        !whole().is_null()
    });
    assert_eq!(health(&gateway), ("degraded".into(), serde_json::json!({ "hostile": "quarantined" })));
    let with_key = gateway.get("/v1/connect/x").key(&key).field("x-behaviour", "none").send();
    assert_eq!(with_key.status, 200, "what callers without a key do is not held against those with one");
    until("a caller that has done nothing is back", || ask(gateway.public, 254, "none") == 200);
    assert_eq!((whole(), ask(gateway.public, 253, "none")), (Value::Null, 200));
    assert_eq!(health(&gateway).0, "ok");
}

#[test]
fn another_configuration_forgives_nothing() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&toml(&origin));
    until("calls are answered without the guest", || {
        assert_eq!(ask(gateway.public, 2, "loop"), 503);
        answered(&gateway) >= 1
    });
    let (before, answers) = (gateway.generation(), answered(&gateway));
    gateway.save(&toml(&origin).replace("\"10s\"", "\"9s\""));
    until("the change is applied", || gateway.generation() > before);
    assert_eq!(policy(&gateway)["quarantine"]["callers"], 1);
    assert_eq!(answered(&gateway), answers);
}

/// A client that comes when it is told to meets a probe, and not another refusal.
#[test]
fn who_waits_is_told_for_how_long() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&toml(&origin));
    let seconds = || {
        let call = request(gateway.public, "GET", "/v1/connect/x").from([127, 0, 0, 2]);
        let answer = call.field("x-behaviour", "loop").send();
        assert_eq!((answer.status, answer.error().as_str()), (503, "policy_unavailable"));
        answer.field("retry-after").and_then(|seconds| seconds.parse::<u64>().ok()).expect("seconds")
    };
    // Each probe that overruns doubles the wait: 1 s, 2 s, 4 s, and up to a quarter more.
    until("it waits for its third time", || seconds() >= 4);
    assert!(seconds() <= 5);
}

/// The same where the wait began while the upstream was thinking: then it is the body that is refused.
#[test]
fn who_waits_over_a_body_is_told_for_how_long() {
    let (origin, slow) = (Origin::echo(), TcpListener::bind("127.0.0.1:0").expect("a port"));
    let pillar = |name: &str, address: SocketAddr| {
        format!(
            "[upstreams.{name}]\nendpoints = [\"http://{address}\"]\n[pillars.{name}]\nupstream = \"{name}\"\nchain = [\"mask\"]\n\
             [[pillars.{name}.routes]]\npath = \"/x\"\nauth = \"none\"\n"
        )
    };
    let slow_address = slow.local_addr().expect("an address");
    // It has fuel for a short text, and not for a long one.
    let toml = format!(
        "{ONE_WORKER}[policies.mask]\ninstance = \"pooled\"\nfuel = 200000\ndeadline = \"10s\"\ngrant.bodies = [\"response\"]\n{}{}",
        pillar("quick", origin.address),
        pillar("slow", slow_address)
    );
    let gateway = Gateway::start(&toml);
    let mut client = open(&gateway, "GET /v1/slow/x HTTP/1.1\r\nhost: g\r\n\r\n");
    let mut upstream = accept(&slow, "\r\n\r\n");
    let seconds = |answer: &str| {
        let value = answer.split("retry-after: ").nth(1).and_then(|rest| rest.lines().next());
        value.and_then(|seconds| seconds.parse::<u64>().ok())
    };
    let long = "x".repeat(60_000);
    let post = format!(
        "POST /v1/quick/x HTTP/1.1\r\nhost: g\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{long}",
        long.len()
    );
    until("it waits for its third time", || {
        let answer = raw(gateway.public, post.as_bytes());
        seconds(&String::from_utf8_lossy(&answer)) >= Some(4)
    });
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nshort")
        .expect("the gateway reads");
    let answer = read_until(&mut client, "policy_unavailable");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(seconds(&answer) >= Some(2), "{answer}");
}

/// What was held against one component says nothing of the next.
#[test]
fn another_version_begins_clean() {
    let origin = Origin::echo();
    let mut component = crate::harness::guest("hostile");
    let gateway = Gateway::start_with(&toml(&origin), &[("hostile", component.clone())]);
    until("calls are answered without the guest", || {
        assert_eq!(ask(gateway.public, 2, "loop"), 503);
        answered(&gateway) >= 1
    });
    let before = policy(&gateway)["digest"].clone();
    // The same but for a custom section at its end, with one letter as its name.
    component.extend([0, 2, 1, b'v']);
    let place = gateway.directory().join("plugins/hostile.wasm");
    std::fs::write(place.with_extension("new"), component).unwrap();
    std::fs::rename(place.with_extension("new"), &place).unwrap();
    until("the other version serves", || policy(&gateway)["digest"] != before);
    let shown = policy(&gateway)["quarantine"].clone();
    assert_eq!((&shown["callers"], &shown["answered"]), (&0.into(), &0.into()), "{shown}");
    assert_eq!(ask(gateway.public, 2, "none"), 200);
}

#[test]
fn it_can_be_turned_off() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&toml(&origin).replace("config =", "quarantine = false\nconfig ="));
    (0..12).for_each(|_| assert_eq!(ask(gateway.public, 2, "loop"), 503));
    let shown = policy(&gateway);
    assert_eq!(shown["failures"], serde_json::json!({ "out_of_fuel": 12 }));
    assert_eq!(shown["quarantine"]["answered"], 0);
    assert_eq!(ask(gateway.public, 2, "none"), 200);
}

/// Skipped without being run, as after any other failure.
#[test]
fn what_fails_open_is_skipped() {
    let origin = Origin::echo();
    let component = crate::harness::patched(
        "chameleon",
        &serde_json::json!({ "name": "c", "version": "1.0.0", "summary": "", "reads": ["x-word"] }),
    );
    let toml = format!(
        "{ONE_WORKER}[policies.c]\nfailure = \"open\"\ninstance = \"pooled\"\nfuel = 200000\ndeadline = \"10s\"\n\
         config = {{ request = {{ echo = \"log\" }} }}\n[upstreams.origin]\nendpoints = [\"http://{}\"]\n\
         [pillars.connect]\nupstream = \"origin\"\nchain = [\"c\"]\n[[pillars.connect.routes]]\npath = \"/x\"\nauth = \"none\"\n",
        origin.address
    );
    let gateway = Gateway::start_with(&toml, &[("c", component)]);
    // It has fuel to tell a short word, and not a long one.
    let ask = |word: &str| gateway.get("/v1/connect/x").field("x-word", word).send().status;
    assert_eq!((ask("short"), &policy(&gateway)["failures"]), (200, &serde_json::json!({})));
    until("the policy is skipped without being asked", || {
        assert_eq!(ask(&"x".repeat(30_000)), 200);
        answered(&gateway) >= 3
    });
    assert!(policy(&gateway)["failures"]["out_of_fuel"].as_u64() >= Some(5));
}

#[test]
fn the_log_says_who_waits_and_the_list_how_many() {
    let stand = Stand::with(&format!("[defaults]\nchain = [\"hostile\"]\n{POLICY}"));
    stand.edit(|text| text + "[[pillars.connect.routes]]\npath = \"/x\"\nauth = \"none\"\n");
    let serving = stand.serve();
    let told = |sentence: &str| stand.log().lines().filter(|line| line.contains(sentence)).count();
    until("it is told", || {
        assert_eq!(ask(serving.public, 2, "loop"), 503);
        told("are in quarantine until") > 0
    });
    for _ in 0..20 {
        assert_eq!(ask(serving.public, 2, "loop"), 503);
    }
    let log = stand.log();
    let begun = log.lines().find(|line| line.contains("are in quarantine until")).expect("a line");
    assert!(begun.contains("127.0.0.2") && begun.contains("hostile"), "{begun}");
    until("the caller is back", || ask(serving.public, 2, "none") == 200);
    until("that is told too", || told("the caller is out of quarantine") == 1);
    assert_eq!(told("are in quarantine until"), 1, "once, however often it came: {log}");
    let listed = output(
        stand.path(),
        &["plugin", "list", "--admin", &serving.admin.to_string(), "--config", "gateway.toml", "--json"],
    );
    let known: Value = serde_json::from_slice(&listed.stdout).unwrap_or_else(|error| panic!("{error}: {listed:?}"));
    assert_eq!(known["policies"][0]["quarantine"]["callers"], 0, "{known}");
    assert!(known["policies"][0]["quarantine"]["answered"].as_u64() > Some(0), "{known}");
}
