//! What a scraper reads of a running gateway: whole, parseable, and true.

mod exposition;

use crate::bodies::{self, Link};
use crate::harness::{Gateway, ONE_WORKER, Origin, patched, request, until};
use exposition::Sample;
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};

const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

fn toml(origin: &Origin, policies: &str, chain: &str) -> String {
    format!(
        "{ONE_WORKER}{policies}\n[upstreams.origin]\nendpoints = [\"http://{}\"]\n\
         [pillars.connect]\nupstream = \"origin\"\nchain = [{chain}]\n[[pillars.connect.routes]]\npath = \"/x\"\nauth = \"none\"\n",
        origin.address
    )
}

fn scrape(gateway: &Gateway) -> Vec<Sample> {
    let answer = gateway.admin("GET", "/metrics").send();
    assert_eq!((answer.status, answer.field("content-type")), (200, Some("text/plain; version=0.0.4; charset=utf-8")));
    exposition::read(&answer.text(), false)
}

/// The one value of a series, by some of its labels.
fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    let fits = |sample: &&Sample| {
        sample.name == name
            && labels.iter().all(|(name, value)| sample.labels.get(*name).is_some_and(|has| has == value))
    };
    let found: Vec<f64> = samples.iter().filter(fits).map(|sample| sample.value).collect();
    assert_eq!(found.len(), 1, "{name} {labels:?}: {found:?}");
    found[0]
}

const HOSTILE: &str = "[policies.hostile]\ninstance = \"pooled\"\ndeadline = \"10s\"\nconfig = { behaviour = \"none\" }\n\
    grant.powers = [\"deny\", \"respond\", \"forward\", \"rewrite-path\", \"take\", \"charge\"]\ngrant.maximum_charge = \"1000\"\n";

#[test]
fn a_policy_that_overruns_shows_up() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&toml(&origin, HOSTILE, "\"hostile\""));
    let ask = |caller: u8, behaviour: &str| {
        let call = request(gateway.public, "GET", "/v1/connect/x").from([127, 0, 0, caller]);
        call.field("x-behaviour", behaviour).send().status
    };
    let of = |samples: &[Sample], name: &str, labels: &[(&str, &str)]| {
        value(samples, name, &[&[("policy", "hostile")], labels].concat())
    };
    assert_eq!(ask(3, "none"), 200);
    let calm = scrape(&gateway);
    assert_eq!(of(&calm, "portico_policy_calls_total", &[]), 1.0);
    assert_eq!(of(&calm, "portico_policy_failures_total", &[("kind", "out_of_fuel")]), 0.0);
    assert_eq!(of(&calm, "portico_policy_quarantined_callers", &[]), 0.0);
    until("its caller waits", || {
        assert_eq!(ask(2, "loop"), 503);
        of(&scrape(&gateway), "portico_policy_quarantined_callers", &[]) == 1.0
    });
    let held = scrape(&gateway);
    assert!(of(&held, "portico_policy_failures_total", &[("kind", "out_of_fuel")]) >= 5.0);
    assert_eq!(of(&held, "portico_policy_quarantines_total", &[("of", "caller")]), 1.0);
    assert_eq!(of(&held, "portico_policy_quarantined", &[("callers", "without_key")]), 0.0);
    until("a probe brings it back", || ask(2, "none") == 200);
    let back = scrape(&gateway);
    assert_eq!(of(&back, "portico_policy_quarantined_callers", &[]), 0.0);
    assert!(of(&back, "portico_policy_quarantine_probes_total", &[]) >= 1.0);
    assert!(of(&back, "portico_policy_failures_total", &[("kind", "quarantined")]) >= 1.0);
    let mut last = 10;
    until("the whole waits", || {
        last = if last == 250 { 10 } else { last + 1 };
        assert_eq!(ask(last, "loop"), 503);
        of(&scrape(&gateway), "portico_policy_quarantined", &[("callers", "without_key")]) == 1.0
    });
    let whole = scrape(&gateway);
    assert_eq!(of(&whole, "portico_policy_quarantines_total", &[("of", "without_key")]), 1.0);
    assert_eq!(of(&whole, "portico_policy_quarantines_total", &[("of", "with_key")]), 0.0);
}

#[test]
fn policies_tell_how_long_they_took_and_what_they_said_by_phase() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&toml(&origin, HOSTILE, "\"hostile\""));
    for (behaviour, status) in [("none", 200), ("none", 200), ("unreachable", 503)] {
        assert_eq!(gateway.get("/v1/connect/x").field("x-behaviour", behaviour).send().status, status);
    }
    let of = |gateway: &Gateway, policy: &str, phase: &str, name: &str, labels: &[(&str, &str)]| {
        let labels = [&[("policy", policy), ("phase", phase)], labels].concat();
        value(&scrape(gateway), &format!("portico_policy_{name}"), &labels)
    };
    // Told when a request has ended, which its client knows before.
    let hostile = |name, labels: &[_]| of(&gateway, "hostile", "request", name, labels);
    until("all have ended", || hostile("duration_seconds_count", &[]) == 3.0);
    let said = |verdict| hostile("verdicts_total", &[("verdict", verdict)]);
    assert_eq!(["next", "deny", "failed"].map(said), [2.0, 0.0, 1.0]);
    assert!(hostile("fuel_total", &[]) > 0.0 && hostile("duration_seconds_sum", &[]) > 0.0);
    assert_eq!(hostile("duration_seconds_bucket", &[("le", "+Inf")]), 3.0);
    let bucket = |sample: &Sample| sample.name == "portico_policy_duration_seconds_bucket";
    let bounds =
        scrape(&gateway).into_iter().filter(bucket).map(|sample| sample.labels["le"].parse().expect("a bound"));
    let bounds: Vec<f64> = bounds.collect();
    assert_eq!((bounds.len(), bounds[0], bounds[11], bounds[13]), (15, 1e-6, 0.02, 1.0), "{bounds:?}");

    let link = Link::new("c", json!({ "request_body": "inspect" }), json!({ "request": { "keep": true } }));
    let gateway = bodies::gateway(origin.address, &[link], "");
    assert_eq!(bodies::post(&gateway, vec![b'x'; 256 << 10]).status, 200);
    until("it has ended", || {
        let told = scrape(&gateway).into_iter().any(|sample| sample.name == "portico_policy_duration_seconds_count");
        told && of(&gateway, "c", "request", "duration_seconds_count", &[]) == 1.0
    });
    // However many chunks it had.
    assert_eq!(of(&gateway, "c", "request_body", "duration_seconds_count", &[]), 1.0);
    assert_eq!(of(&gateway, "c", "request_body", "verdicts_total", &[("verdict", "next")]), 1.0);
    assert!(of(&gateway, "c", "request_body", "fuel_total", &[]) > 0.0);
}

/// In each of the three places where instances are kept: without a new one in time, calls would fail. Each call keeps 64 KiB more, of
/// which there are three megabytes or less.
#[test]
fn instances_that_grow_are_replaced_before_a_call_fails_and_counted() {
    const CALLS: u32 = 120;
    let origin = Origin::echo();
    let bounds = "instance = \"pooled\"\nmemory = \"4MiB\"\ndeadline = \"10s\"\nquarantine = false\n";
    let replaced = |gateway: &Gateway, policy: &str| {
        let samples = scrape(gateway);
        let failures = samples.iter().filter(|sample| sample.name == "portico_policy_failures_total");
        assert_eq!(failures.map(|sample| sample.value).sum::<f64>(), 0.0, "{policy}");
        value(&samples, "portico_policy_renewals_total", &[("policy", policy)])
    };
    for (policy, counted) in [("grows", "x-calls"), ("waits", "x-answer")] {
        let gateway =
            Gateway::start(&toml(&origin, &format!("[policies.{policy}]\n{bounds}"), &format!("\"{policy}\"")));
        let mut begun = 0.0;
        for _ in 0..CALLS {
            let answer = gateway.get("/v1/connect/x").field("x-behaviour", "grow").send();
            assert_eq!(answer.status, 200, "{policy}: {}", answer.text());
            begun += f64::from(u8::from(answer.field(counted) == Some("1")));
        }
        let replaced = replaced(&gateway, policy);
        assert!(replaced >= 2.0 && (replaced == begun || replaced + 1.0 == begun), "{policy}: {replaced} of {begun}");
    }
    let link = Link::new("keeps", json!({ "request_body": "inspect" }), json!({ "request": { "keep": true } }));
    let link = link.with("instance = \"pooled\"\nmemory = \"4MiB\"\nquarantine = false\n");
    let gateway = bodies::gateway(origin.address, &[link], "");
    for _ in 0..CALLS {
        assert_eq!(bodies::post(&gateway, vec![b'x'; 64 << 10]).status, 200);
    }
    assert!(replaced(&gateway, "keeps") >= 2.0);
}

/// What a plugin says of itself is text of somebody else's.
#[test]
fn what_a_guest_chose_is_escaped_and_makes_no_series_twice() {
    let origin = Origin::echo();
    let version = "1\"} 7 \\n # TYPE x counter {a=\"b";
    let descriptor = json!({ "name": "c", "version": version, "summary": "", "counters": ["seen", "other", "seen"] });
    let policy = "[policies.c]\nfuel = 20000000\ndeadline = \"10s\"\nconfig = { request = { count = [[0, 2], [1, 1], [2, 3]] } }\n";
    let gateway = Gateway::start_with(&toml(&origin, policy, "\"c\""), &[("c", patched("chameleon", &descriptor))]);
    assert_eq!(gateway.get("/v1/connect/x").send().status, 200);
    let samples = scrape(&gateway);
    assert_eq!(value(&samples, "portico_policy_info", &[("policy", "c"), ("plugin", "c"), ("version", version)]), 1.0);
    assert_eq!(value(&samples, "portico_policy_counted_total", &[("policy", "c"), ("counter", "seen")]), 5.0);
    assert_eq!(value(&samples, "portico_policy_counted_total", &[("policy", "c"), ("counter", "other")]), 1.0);
}

struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_scrape_under_load_is_whole_in_both_forms() {
    let origin = Origin::echo();
    let policies = format!(
        "{HOSTILE}[policies.keeps]\ndeadline = \"1s\"\nfuel = 1000000000\nquarantine = false\n\
        [policies.keeps.grant.store]\nspace = \"kept\"\nbytes = \"64KiB\"\nentries = 20\n"
    );
    let gateway = Gateway::start(&toml(&origin, &policies, "\"hostile\", \"keeps\""));
    let (public, done) = (gateway.public, AtomicBool::new(false));
    let calls = std::thread::scope(|scope| {
        // Also where something in here does not hold: the others would go on for ever.
        let ended = Ended(&done);
        let ask = |number: u8| {
            let done = &done;
            scope.spawn(move || {
                let mut calls = 0;
                while !done.load(Ordering::Relaxed) {
                    let call = request(public, "GET", "/v1/connect/x").from([127, 0, 0, number]);
                    let behaviour = if number.is_multiple_of(2) { "trap" } else { "none" };
                    call.field("x-behaviour", behaviour).field("x-ask", "fill k 10").send();
                    calls += 1;
                }
                calls
            })
        };
        let asking: Vec<_> = (1..=4).map(ask).collect();
        let mut before = 0.0;
        for round in 0..20 {
            let open = gateway.admin("GET", "/metrics").field("accept", OPEN_METRICS).send();
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            assert_eq!((open.status, open.field("content-type")), (200, Some(kind)));
            let samples = if round % 2 == 0 { exposition::read(&open.text(), true) } else { scrape(&gateway) };
            let calls = value(&samples, "portico_policy_calls_total", &[("policy", "hostile")]);
            assert!(calls >= before, "{calls} after {before}");
            before = calls;
        }
        // No space is told before something was asked of it.
        until("the space is full", || {
            let full = |sample: &Sample| sample.name == "portico_store_over_quota_total" && sample.value > 0.0;
            scrape(&gateway).iter().any(full)
        });
        drop(ended);
        asking.into_iter().map(|asking| asking.join().expect("no panic")).sum::<u32>()
    });
    let samples = scrape(&gateway);
    assert_eq!(value(&samples, "portico_policy_calls_total", &[("policy", "hostile")]), f64::from(calls));
    assert_eq!(value(&samples, "portico_store_entries", &[("space", "kept")]), 20.0);
    let over =
        value(&samples, "portico_policy_reached_total", &[("policy", "keeps"), ("outcome", "store_quota_exceeded")]);
    assert!(over > 0.0);
    assert_eq!(value(&samples, "portico_build_info", &[]), 1.0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let age = now - value(&samples, "process_start_time_seconds", &[]);
    assert!((0.0..120.0).contains(&age), "{age}");
    for held in
        ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "portico_database_bytes"]
    {
        assert!(value(&samples, held, &[]) > 0.0, "{held}");
    }
    let told: std::collections::BTreeSet<&str> = samples.iter().map(|sample| &*sample.name).collect();
    let page = include_str!("../../docs/operators.md");
    let rows = page.lines().filter(|line| line.starts_with("| `portico_") || line.starts_with("| `process_"));
    let names = rows.flat_map(|row| row.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2));
    assert_eq!(told, names.collect(), "the operators' page names what there is");
    for engine in ["pure", "waiting"] {
        let label = [("engine", engine)];
        let used = value(&samples, "portico_engine_instances", &label);
        assert!(used <= value(&samples, "portico_engine_instances_limit", &label), "{engine}: {used}");
    }
}

#[test]
fn what_becomes_of_components_is_counted() {
    let origin = Origin::echo();
    let version = |number: &str| patched("chameleon", &json!({ "name": "c", "version": number, "summary": "" }));
    let policy = "[policies.c]\nfuel = 20000000\ndeadline = \"10s\"\nconfig = {}\n";
    let gateway = Gateway::start_with(&toml(&origin, policy, "\"c\""), &[("c", version("1.0.0"))]);
    let counts = || {
        let samples = scrape(&gateway);
        let count = |name: &str, labels: &[(&str, &str)]| value(&samples, name, &[&[("policy", "c")], labels].concat());
        let loads = ["compiled", "cached"].map(|code| count("portico_plugin_loads_total", &[("code", code)]));
        [loads.iter().sum(), count("portico_plugin_swaps_total", &[]), count("portico_plugin_refusals_total", &[])]
    };
    assert_eq!(counts(), [1.0, 0.0, 0.0]);
    let save = |bytes: Vec<u8>| {
        let place = gateway.directory().join("plugins/c.wasm");
        std::fs::write(place.with_extension("new"), bytes).expect("written");
        std::fs::rename(place.with_extension("new"), place).expect("renamed");
    };
    save(version("2.0.0"));
    until("the other version serves", || counts() == [2.0, 1.0, 0.0]);
    save(b"\0asm nonsense".to_vec());
    until("it is refused", || counts() == [2.0, 1.0, 1.0]);
    // The same once more, and what serves already.
    assert_eq!(gateway.admin("POST", "/v1/plugins/c/reload").send().status, 422);
    assert_eq!(counts(), [2.0, 1.0, 1.0]);
}

#[test]
fn only_the_admin_may_ask() {
    let origin = Origin::echo();
    let gateway = Gateway::start(&toml(&origin, "", ""));
    let answer = request(gateway.admin, "GET", "/metrics").send();
    assert_eq!((answer.status, answer.error().as_str()), (401, "missing_authorization"));
    let answer = request(gateway.admin, "GET", "/metrics").key("guessed").send();
    assert_eq!((answer.status, answer.error().as_str()), (401, "invalid_admin_token"));
    assert_eq!(gateway.admin("POST", "/metrics").send().status, 405);
    assert_eq!(gateway.get("/metrics").send().status, 404, "not on the public listener");
    let answer = gateway.admin("GET", "/metrics").send();
    assert_eq!(answer.field("cache-control"), Some("no-store"));
}
