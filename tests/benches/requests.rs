//! What it costs to tell of a request, from its head to its row in the request log: to the worker alone, and to all threads together.
//! And how long pages of a log of many rows take.
//!
//! Rows go into a real request log in a real directory. Costs are processor time: of this thread for the worker, of the process for
//! all. Of traces nobody takes the spans: they are made, and dropped. Fails when a request takes too much. `PORTICO_ROWS` says how many rows the pages are of.

use http::{HeaderValue, Method, Request};
use portico::body::End;
use portico::clock::{Clock, Millis};
use portico::config::{self, Telemetry};
use portico::data::DataDirectory;
use portico::gas::Gas;
use portico::head::Context;
use portico::id::RequestId;
use portico::outbound::Roots;
use portico::requests::{
    Asked, Call, Dropped, Entry, Export, Fields, Filter, Named, Phase, Record, RequestLog, Requests, Rows, SegmentLog,
    Trace, Verdict,
};
use portico::usage::{Caller, Names, Usage};
use rustix::time::{ClockId, clock_gettime};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROUNDS: usize = 15;
const CALLS: u32 = 5_000;
/// Of those that are told span by span: a round has room as a whole.
const TOLD: u32 = 1_000;
/// Traces on, by how many of them are told.
const SOME: &str = "[telemetry.traces]\nendpoint = \"http://127.0.0.1:1\"\nqueue = 512\n";
/// The client's own trace.
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// Microseconds that one may take, all threads together.
const MOST: f64 = 0.8;
/// Rows of the log that pages are read of.
const ROWS: u64 = 500_000;
const AT: Millis = Millis(1_800_000_000_000);

fn settings(directory: &Path, access: &str, traces: &str) -> Telemetry {
    let text = format!("[pillars.connect]\n[telemetry.access]\nto = \"{access}\"\n{traces}");
    config::parse(&text, &directory.join("gateway.toml")).expect("a configuration").telemetry
}

/// Processor time, in microseconds.
fn now(of: ClockId) -> f64 {
    let time = clock_gettime(of);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

/// Tells of many requests: what one costs the worker, as the median of the rounds, and all threads, as the mean.
fn told(access: &str, traces: &str, parent: Option<&'static str>, times: u32) -> (f64, f64) {
    let place = tempfile::tempdir().expect("a directory");
    let data = DataDirectory::open(&place.path().join("data")).expect("a data directory");
    let settings = settings(place.path(), access, traces);
    let log = SegmentLog::open(&data, &settings.requests);
    let names = Arc::<Names>::default();
    let pillar = names.pillar("connect");
    let route = names.route(pillar, "rooms.show");
    let policies = ["rate-limit", "key-auth", "gas"].map(|policy| names.policy(policy));
    let (spans, _export) = Export::open(&settings.traces, Roots::default()).expect("no fields").unzip();
    let begun = Requests::start(1, &settings, Some(Arc::new(log)), names, Clock::system(), spans);
    let (requests, mut recorders) = begun.expect("threads");
    let recorder = Rc::new(recorders.remove(0));
    let head = Request::builder().uri("/v1/connect/rooms/4711").header("host", "gateway.example:9099").body(());
    let mut head = head.expect("a head");
    if let Some(parent) = parent {
        head.headers_mut().insert("traceparent", HeaderValue::from_static(parent));
    }
    let caller = Caller { org: Some(7), key: Some(8) };
    let usage = Usage {
        caller,
        pillar,
        route,
        at: AT,
        status: 200,
        denied: None,
        bytes_in: 10,
        bytes_out: 1000,
        gas: Gas::ZERO,
        units: 3,
        upstream_us: 300,
        fuel: 900,
        fuel_by_policy: &[],
    };
    let begun = Instant::now();
    let calls = policies.map(|policy| Call {
        policy,
        phase: Phase::Request,
        verdict: Verdict::Next,
        took: Duration::from_micros(2),
        begun,
        ended: begun + Duration::from_micros(2),
        fuel: 300,
    });
    let mut rounds = [0.0; ROUNDS];
    let (mut request, mut random) = (u128::from(AT.0) << 80, 0_u64);
    let whole = now(ClockId::ProcessCPUTime);
    for round in &mut rounds {
        let begun = now(ClockId::ThreadCPUTime);
        for _ in 0..times {
            request += 1;
            let context = Context::of(head.headers(), || {
                random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
                random
            });
            let id = RequestId::from_number(request);
            let mut trace = Trace::begin(&recorder, id, AT, [127, 0, 0, 1].into(), &head, context);
            trace.found((caller, false), pillar, route);
            trace.policies(Duration::from_micros(9));
            let (begun, took, outcome) = (calls[2].ended, Duration::from_micros(300), Ok(200));
            trace.upstream(Asked { upstream: "connect", server: "10.0.0.7:8080", begun, took, outcome });
            trace.finish(&usage, &calls, End::Complete);
        }
        *round = (now(ClockId::ThreadCPUTime) - begun) / f64::from(times);
        // Until it is taken out: a round has room as a whole.
        std::thread::sleep(Duration::from_millis(150));
    }
    requests.end();
    let all = (now(ClockId::ProcessCPUTime) - whole) / (f64::from(times) * ROUNDS as f64);
    assert_eq!(requests.dropped(), Dropped::default());
    assert_eq!(requests.spans().dropped_queue, 0);
    rounds.sort_by(f64::total_cmp);
    (rounds[ROUNDS / 2], all)
}

/// Pages of a log with one org that has most rows, a thousand others, and callers without a key.
fn pages() {
    let rows = std::env::var("PORTICO_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(ROWS);
    let place = tempfile::tempdir().expect("a directory");
    let data = DataDirectory::open(&place.path().join("data")).expect("a data directory");
    let log = SegmentLog::open(&data, &settings(place.path(), "off", "").requests);
    let number = |nth: u64| (u128::from(AT.0 + nth / 10) << 80) + u128::from(nth);
    let (mut batch, mut took) = (Rows::default(), 0.0);
    for nth in 0..rows {
        let org = match nth % 10 {
            0 => None,
            1 => Some(u128::from(100 + nth / 10 % 1000)),
            _ => Some(7),
        };
        let key = org.map(|org| org + u128::from(nth % 5) * 1_000_000);
        let record = Record {
            request: number(nth),
            at: AT,
            caller: Caller { org, key },
            sandbox: false,
            trace: None,
            status: if nth % 1000 == 2 { 503 } else { 200 },
            end: End::Complete,
            denied: None,
            method: Named::from(&Method::GET),
            minor: 1,
            bytes_in: 1,
            bytes_out: 2,
            gas: Gas::ZERO,
            units: 0,
            fuel: 4,
            total: Duration::from_micros(5),
            upstream: Duration::from_micros(6),
            policies: Duration::from_micros(7),
            address: None,
            host: "gateway.example:9099",
            path: "/v1/connect/rooms/4711",
            query: None,
            fields: Fields::default(),
        };
        batch.push(&Entry { pillar: "connect", route: "rooms.show", record });
        if batch.len() == 2_000 {
            let begun = now(ClockId::ThreadCPUTime);
            log.add(&batch, AT).expect("written");
            took += now(ClockId::ThreadCPUTime) - begun;
            batch = Rows::default();
        }
    }
    log.add(&batch, AT).expect("written");
    println!(
        "{:62} {:>7.2} µs",
        format!("a row is written into {} chains, in batches of 2,000", 65),
        took / rows as f64
    );
    println!("{:62} {:>7.1} MiB", format!("{rows} rows of 1,001 orgs take"), log.bytes() as f64 / f64::from(1 << 20));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let of = |org: u128| Filter { org: Some(org), ..Filter::default() };
    let middle = Some(number(rows / 2));
    let asked: [(&str, Filter, Option<u128>); 8] = [
        ("of all orgs, newest", Filter::default(), None),
        ("of all orgs, from the middle", Filter::default(), middle),
        ("of the large org, newest", of(7), None),
        ("of the large org, from the middle", of(7), middle),
        ("of the large org, 5xx", Filter { status: "5xx".parse().ok(), ..of(7) }, None),
        ("of the large org, to another pillar: none", Filter { pillar: Some("pay".into()), ..of(7) }, None),
        ("of a small org, newest", of(500), None),
        ("of a small org, one key", Filter { key: Some(500 + 1_000_000), ..of(500) }, None),
    ];
    for (what, filter, before) in asked {
        let mut times: Vec<f64> = Vec::new();
        let mut found = 0;
        for _ in 0..11 {
            let begun = Instant::now();
            found = runtime.block_on(log.page(filter.clone(), before, 100)).expect("a page").rows.len();
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        println!("{:62} {:>7.2} ms", format!("a page {what} ({found})"), times[5]);
    }
    for (what, filter) in [("by its org", of(7)), ("by an operator", Filter::default())] {
        let begun = Instant::now();
        for nth in (0..100).map(|step| step * (rows / 1000) * 10 + 5) {
            let row = runtime.block_on(log.find(filter.clone(), number(nth))).expect("an answer");
            assert!(row.is_some(), "{nth}");
        }
        println!("{:62} {:>7.2} ms", format!("one request, by its id, {what}"), begun.elapsed().as_secs_f64() * 10.0);
    }
    drop(log);
    let begun = Instant::now();
    let log = SegmentLog::open(&data, &settings(place.path(), "off", "").requests);
    println!("{:62} {:>7.2} ms", "it is opened", begun.elapsed().as_secs_f64() * 1e3);
    assert!(runtime.block_on(log.find(of(7), number(5))).expect("an answer").is_some());
}

fn main() -> ExitCode {
    println!("{:62} {:>10} {:>12}", "a request is told", "the worker", "all threads");
    let (unsampled, sampled) = (format!("{SOME}sample = 0\n"), format!("{SOME}sample = 1\n"));
    let mut missed = false;
    for (what, access, traces, parent, times) in [
        ("in the request log", "off", "", None, CALLS),
        ("in the request log and a line in a file", "file", "", None, CALLS),
        ("in the request log, in the trace of its client", "off", "", Some(PARENT), CALLS),
        ("in the request log, not span by span, with traces", "off", &*unsampled, None, CALLS),
        ("in the request log and five spans", "off", &sampled, None, TOLD),
    ] {
        let (worker, all) = told(access, traces, parent, times);
        println!("{what:62} {worker:>7.2} µs {all:>9.2} µs");
        missed |= access == "off" && traces.is_empty() && parent.is_none() && all > MOST;
    }
    pages();
    if missed {
        eprintln!("missed: a request must take at most {MOST} µs, all threads together");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
