//! What policies reach beside their requests: only what was granted, within quota, budget and time, and named when not.

use crate::harness::{Gateway, ONE_WORKER, Origin, request, until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn toml(origin: &Origin, policies: &str) -> String {
    let pillar = |name: &str| {
        format!(
            "[pillars.{name}]\nupstream = \"origin\"\nchain = [\"{name}\"]\n[[pillars.{name}.routes]]\npath = \"/x\"\nauth = \"none\"\n"
        )
    };
    let named = policies.lines().filter_map(|line| line.strip_prefix("[policies.")?.strip_suffix(']'));
    let pillars: String = named.filter(|name| !name.contains('.')).map(pillar).collect();
    format!(
        "{ONE_WORKER}{policies}\n[upstreams.origin]\nendpoints = [\"http://{}\"]\n{pillars}\
         [pillars.calm]\nupstream = \"origin\"\nchain = []\n[[pillars.calm.routes]]\npath = \"/x\"\nauth = \"none\"\n",
        origin.address
    )
}

fn ask(gateway: &Gateway, pillar: &str, what: &str) -> String {
    let answer = gateway.get(&format!("/v1/{pillar}/x")).field("x-ask", what).send();
    assert_eq!(answer.status, 200, "{what}: {answer:?}");
    answer.field("x-answer").expect("an answer").to_owned()
}

fn shown(gateway: &Gateway, policy: &str) -> Value {
    let all = gateway.admin("GET", "/v1/plugins").send().json();
    let found = all["policies"].as_array().expect("a list").iter().find(|shown| shown["policy"] == policy);
    found.unwrap_or_else(|| panic!("no {policy} in {all}")).clone()
}

const TIME: &str = "deadline = \"1s\"\nwait = \"20s\"\nfuel = 1000000000\nquarantine = false";

#[test]
fn what_a_policy_keeps_is_there_for_all_its_instances_and_after_a_restart() {
    let origin = Origin::echo();
    let policies = format!(
        "[policies.one]\nplugin = \"keeps\"\n{TIME}\n[policies.one.grant.store]\nbytes = \"64KiB\"\nentries = 100\n\
         [policies.two]\nplugin = \"keeps\"\n{TIME}\ngrant.store = {{}}\n\
         [policies.three]\nplugin = \"keeps\"\n{TIME}\ngrant.store.space = \"one\"\n"
    );
    let gateway = Gateway::start(&toml(&origin, &policies));
    assert_eq!(ask(&gateway, "one", "get a"), "Ok(None)");
    assert_eq!(ask(&gateway, "one", "set a apple 0"), "Ok(())");
    assert_eq!(ask(&gateway, "one", "get a"), "5 \"apple\"");
    assert_eq!(ask(&gateway, "two", "get a"), "Ok(None)", "another policy has a space of its own");
    assert_eq!(ask(&gateway, "three", "get a"), "5 \"apple\"", "unless it is told to share one");
    assert_eq!(ask(&gateway, "one", "set b brief 1"), "Ok(())");
    until("it has expired", || ask(&gateway, "one", "get b") == "Ok(None)");
    assert_eq!(ask(&gateway, "one", "remove a"), "Ok(())");
    assert_eq!(ask(&gateway, "one", "get a"), "Ok(None)");
    assert_eq!([ask(&gateway, "one", "count c"), ask(&gateway, "one", "count c")], ["1 Ok(())", "2 Ok(())"]);
    let gateway = gateway.restart();
    assert_eq!(ask(&gateway, "one", "count c"), "3 Ok(())");
}

#[test]
fn a_full_space_is_told_and_harms_nobody() {
    let origin = Origin::echo();
    let policies = format!(
        "[policies.one]\nplugin = \"keeps\"\n{TIME}\n[policies.one.grant.store]\nbytes = \"64KiB\"\nentries = 20\n\
         [policies.two]\nplugin = \"keeps\"\n{TIME}\n[policies.two.grant.store]\nbytes = \"64KiB\"\n"
    );
    let gateway = Gateway::start(&toml(&origin, &policies));
    assert_eq!(ask(&gateway, "one", "fill k 10"), "Some((20, Err(Error::QuotaExceeded)))", "by entries");
    // 1,000 bytes and a key of two or three.
    assert_eq!(ask(&gateway, "two", "fill k 1000"), "Some((65, Err(Error::QuotaExceeded)))", "by bytes");
    assert_eq!(ask(&gateway, "one", "set k1 smaller 0"), "Ok(())", "what is there may change");
    assert_eq!(ask(&gateway, "one", "get k19"), "10 \"xxxxxxxxxx\"");
    assert_eq!(shown(&gateway, "one")["reached"], json!({ "store_quota_exceeded": 1 }));
    assert_eq!(gateway.get("/v1/calm/x").send().status, 200);
}

fn outbound(origin: &Origin, more: &str) -> String {
    format!(
        "[policies.asks]\n{TIME}\n[[policies.asks.grant.outbound]]\norigin = \"http://{}\"\nmethods = [\"GET\", \"POST\"]\n\
         paths = [\"/status/*\", \"/slow/*\", \"/big\", \"/endless\", \"/hang-up\"]\n{more}\n",
        origin.address
    )
}

#[test]
fn only_what_was_granted_is_asked() {
    let origin = Origin::echo();
    let asked = Origin::echo();
    let other = Origin::echo();
    let gateway = Gateway::start(&toml(&origin, &outbound(&asked, "private = true\ncalls = 3\ntimeout = \"500ms\"")));
    let at = asked.address;
    let ask = |what: &str| ask(&gateway, "asks", what);
    assert!(ask(&format!("GET http://{at}/status/200 0")).starts_with("200 "));
    assert!(ask(&format!("POST http://{at}/status/201?a=b 0")).starts_with("201 "));
    for refused in [
        format!("DELETE http://{at}/status/200 0"),
        format!("GET http://{at}/other 0"),
        format!("GET http://{at}/status/../other 0"),
        format!("GET https://{at}/status/200 0"),
        format!("GET http://{}/status/200 0", other.address),
        format!("GET http://localhost:{}/status/200 0", at.port()),
    ] {
        assert_eq!(ask(&refused), "Error::NotGranted", "{refused}");
    }
    let one = format!("GET http://{at}/status/204 0;");
    assert_eq!(
        ask(&one.repeat(4)),
        "204 0;204 0;204 0;Error::BudgetExceeded".replace("204 0", &ask(one.trim_end_matches(';')))
    );
    assert_eq!(ask(&format!("GET http://{at}/slow/60000 0")), "Error::TimedOut");
    assert_eq!(ask(&format!("GET http://{at}/slow/60000 20")), "Error::TimedOut");
    assert_eq!(ask(&format!("GET http://{at}/big 0")), "Error::TooLarge");
    assert_eq!(ask(&format!("GET http://{at}/hang-up 0")), "Error::Unreachable");
    assert_eq!(other.requests(), 0);
    let reached = &shown(&gateway, "asks")["reached"];
    assert_eq!(
        reached,
        &json!({
            "outbound_answered": 6, "outbound_not_granted": 6, "outbound_budget_exceeded": 1, "outbound_timed_out": 2,
            "outbound_too_large": 1, "outbound_unreachable": 1,
        })
    );
}

#[test]
fn private_addresses_are_closed_unless_granted() {
    let origin = Origin::echo();
    let asked = Origin::echo();
    let gateway = Gateway::start(&toml(&origin, &outbound(&asked, "")));
    assert_eq!(ask(&gateway, "asks", &format!("GET http://{}/status/200 0", asked.address)), "Error::Unreachable");
    assert_eq!((asked.requests(), asked.connections()), (0, 0));
}

/// Whoever waits for a slow origin holds up nobody; what is beyond the bound is refused at once.
#[test]
fn late_answers_are_bounded_and_neighbours_are_calm() {
    let origin = Origin::echo();
    let asked = Origin::echo();
    let more = "private = true\ntimeout = \"5s\"";
    let policies = outbound(&asked, more).replace(TIME, &format!("{TIME}\nwaiting_calls = 32\ninstance = \"pooled\""));
    let gateway = Gateway::start(&toml(&origin, &policies));
    let public = gateway.public;
    let ask = format!("GET http://{}/slow/500 0", asked.address);
    let calm = |times: usize| {
        let mut took: Vec<Duration> = (0..times)
            .map(|_| {
                let begun = Instant::now();
                assert_eq!(request(public, "GET", "/v1/calm/x").send().status, 200);
                begun.elapsed()
            })
            .collect();
        took.sort();
        took[times * 99 / 100]
    };
    calm(100);
    let storm: Vec<_> = (0..64)
        .map(|_| {
            let ask = ask.clone();
            std::thread::spawn(move || {
                let calls = (0..8).map(|_| request(public, "GET", "/v1/asks/x").field("x-ask", &ask).send().status);
                calls.fold((0, 0), |(good, busy), status| {
                    (good + usize::from(status == 200), busy + usize::from(status == 503))
                })
            })
        })
        .collect();
    until("the origin is asked", || asked.requests() > 0);
    // Ten times what a request beside nothing takes; the exact figure is measured by `cargo xtask bench`.
    assert!(calm(200) < Duration::from_millis(500));
    let (good, busy) = storm.into_iter().fold((0, 0), |(good, busy), thread| {
        let (more_good, more_busy) = thread.join().expect("no panic");
        (good + more_good, busy + more_busy)
    });
    assert_eq!(good + busy, 64 * 8);
    assert!(good >= 32 && busy > 0, "{good} {busy}");
    let shown = shown(&gateway, "asks");
    assert_eq!(shown["failures"], json!({ "busy": busy }));
    assert_eq!(shown["reached"], json!({ "outbound_answered": good }));
}

/// A client that leaves breaks off what was asked for it.
#[test]
fn who_leaves_frees_the_place() {
    let origin = Origin::echo();
    let asked = Origin::echo();
    let policies = outbound(&asked, "private = true\ntimeout = \"1m\"")
        .replace("wait = \"20s\"", "wait = \"1m\"\nwaiting_calls = 1");
    let gateway = Gateway::start(&toml(&origin, &policies));
    let ask = format!("GET http://{}/slow/60000 0", asked.address);
    let client = {
        use std::io::Write;
        let mut client = std::net::TcpStream::connect(gateway.public).expect("the gateway listens");
        let call = format!("GET /v1/asks/x HTTP/1.1\r\nhost: gateway.test\r\nx-ask: {ask}\r\n\r\n");
        client.write_all(call.as_bytes()).expect("it is read");
        client
    };
    until("it waits", || asked.requests() == 1);
    assert_eq!(gateway.get("/v1/asks/x").send().status, 503);
    drop(client);
    until("the place is free", || gateway.get("/v1/asks/x").send().status == 200);
}
