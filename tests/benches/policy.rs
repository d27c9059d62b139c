//! What one call into one policy costs, pooled and fresh: through the same path as a request's, with a verdict taken over.
//!
//! Once a guest that reads one field and lets pass, once the shipped `key-auth`. Fails when a call takes too long.

use portico::clock::Clock;
use portico::config::{self, Bounds, Failure, Grant, Instance, Waits};
use portico::plugin::contract::{Credential, FieldValue, Method, Mode, Request, Scheme, Standing};
use portico::plugin::{Beginning, Caller, Compiler, Component, Engines, Instances, Order, Policy, RouteUse, SlotUse};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(200);
/// Microseconds that a pooled call may take, as the median of the rounds.
const MOST_POOLED: f64 = 2.5;
/// The same for one in an instance of its own.
const MOST_FRESH: f64 = 20.0;

const ORDER: Order<'_> =
    Order { bounds: config::Compile { time: Duration::from_secs(60), memory: 1 << 30 }, given_up: &|| None };

fn main() -> ExitCode {
    let engine = Engines::start(64, Compiler::here()).expect("an engine");
    let bytes = |kind: &str, name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../target/portico/{kind}/{name}.wasm"));
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask components`", path.display()))
    };
    let reader = bytes("guests", "reader");
    let key_auth = bytes("plugins", "key-auth");
    println!("{:62} {:>10} {:>8} {:>8}", "one policy call", "median", "min", "max");
    let mut missed = false;
    let pooled = Instance::Pooled { recycle_after: u64::MAX };
    for (name, instance, primed, most) in [
        ("pooled", pooled, false, Some(MOST_POOLED)),
        ("fresh, configured for each call", Instance::Fresh, false, None),
        ("fresh", Instance::Fresh, true, Some(MOST_FRESH)),
    ] {
        let costs = [("reads one field and lets pass", &reader), ("key-auth", &key_auth)].map(|(what, bytes)| {
            let policy = policy(&engine, bytes, instance, "{}");
            if primed {
                policy.prime(bytes, None, &ORDER);
                assert_eq!(policy.beginning(), Beginning::Primed, "{what}");
            }
            report(&format!("{what}, {name}"), &policy)
        });
        if let Some(most) = most
            && costs.iter().any(|cost| *cost > most)
        {
            eprintln!("missed: {name}: a call must take at most {most} µs");
            missed = true;
        }
    }
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn policy(engine: &Engines, bytes: &[u8], instance: Instance, config: &str) -> Arc<Policy> {
    let bounds = Bounds {
        fuel: 2_000_000,
        fuel_per_kib: 1_000_000,
        deadline: Duration::from_millis(20),
        memory: 16 << 20,
        copied_out: 128 << 10,
    };
    let component =
        Component::load(engine, bytes, bounds, None, None, &ORDER).unwrap_or_else(|problems| panic!("{problems:?}"));
    let powers = portico::plugin::named_powers(component.declared.powers);
    let written = config::Policy {
        name: "bench".into(),
        plugin: "bench".into(),
        instance,
        failure: Failure::Closed,
        quarantine: true,
        bounds,
        waits: Waits { time: Duration::from_secs(5), calls: 64 },
        bodies: 64,
        grant: Grant { powers: powers.map(str::to_owned).collect(), ..Grant::default() },
        config: serde_json::Map::new(),
    };
    let slot = SlotUse {
        pillar: "connect".into(),
        scope: "connect".into(),
        routes: [RouteUse { name: "*".into(), path: "/v1/connect/*".into(), methods: Vec::new(), auth: true }].into(),
        config: config.into(),
        key: "policies.bench.config".into(),
    };
    let policy = Policy::prepare(Arc::new(component), &written, vec![slot], None, &Arc::default());
    Arc::new(policy.unwrap_or_else(|problems| panic!("{problems:?}")))
}

fn request<'a>(fields: &'a [FieldValue<'a>], wants_fields: bool) -> Request<'a> {
    Request {
        slot: 0,
        route: 0,
        now: 1_800_000_000_000,
        method: Method::Get,
        other_method: None,
        scheme: Scheme::Http,
        request_id: None,
        authority: None,
        path: None,
        query: None,
        upgrade: None,
        client_address: None,
        credential: (!wants_fields).then_some(Credential::Valid(Standing { mode: Mode::Live, scopes: 1 })),
        principal: None,
        upstream_health: None,
        seed: None,
        fields: wants_fields.then_some(fields),
        other_fields: None,
        notes: None,
    }
}

/// Prints what a call costs; the median in microseconds.
fn report(name: &str, policy: &Arc<Policy>) -> f64 {
    let mut instances = Instances::default();
    let (clock, caller) = (Clock::system(), Caller::without_key(Ipv4Addr::LOCALHOST.into()));
    let values = [FieldValue { field: 0, value: b"open sesame" }];
    let wants_fields = !policy.component.declared.reads.named.is_empty();
    let mut call = || {
        let pass = policy.admit(caller, &clock).unwrap_or_else(|failure| panic!("{failure}"));
        let answer = pass.saw(instances.on_request(policy, request(&values, wants_fields)));
        let answer = answer.unwrap_or_else(|failure| panic!("{failure}"));
        policy.accept(0, answer.value).unwrap_or_else(|failure| panic!("{failure}"));
    };
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            let mut calls = 0_u32;
            while begun.elapsed() < ROUND {
                for _ in 0..64 {
                    call();
                }
                calls += 64;
            }
            begun.elapsed().as_secs_f64() * 1e6 / f64::from(calls)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("{name:62} {:>7.2} µs {:>8.2} {:>8.2}", rounds[ROUNDS / 2], rounds[0], rounds[ROUNDS - 1]);
    rounds[ROUNDS / 2]
}
