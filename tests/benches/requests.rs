//! What it costs a worker to tell of a request, from its head to its end: the record, the figures, and the way to the thread; and what
//! traces cost beside that.
//!
//! Records go into a real request log and a real file meanwhile; the threads that write these are not in the figure, which counts
//! the processor time of this thread alone. Spans are made, and there is nobody who takes them. Fails when a request takes too much.

use http::{HeaderValue, Request};
use portico::body::End;
use portico::clock::{Clock, Millis};
use portico::config::{self, Telemetry};
use portico::gas::Gas;
use portico::head::Context;
use portico::id::RequestId;
use portico::outbound::Roots;
use portico::requests::{Asked, Call, Export, Phase, Requests, Trace, Verdict};
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
/// Microseconds that one may take, as the median of the rounds.
const MOST: f64 = 0.8;
/// Traces on, by how many of them are told.
const SOME: &str = "[telemetry.traces]\nendpoint = \"http://127.0.0.1:1\"\nqueue = 512\n";

fn settings(directory: &Path, traces: &str) -> Telemetry {
    let text = format!("[pillars.connect]\n[telemetry.access]\nto = \"file\"\n{traces}");
    config::parse(&text, &directory.join("gateway.toml")).expect("a configuration").telemetry
}

/// Processor time of this thread, in microseconds.
fn now() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

fn main() -> ExitCode {
    println!("{:62} {:>10} {:>8} {:>8}", "the request log", "median", "min", "max");
    let off = told("a request is told", "", CALLS);
    told("with traces, one that is not told span by span", &format!("{SOME}sample = 0\n"), CALLS);
    told("with traces, one that is: five spans", &format!("{SOME}sample = 1\n"), TOLD);
    told("as the first, in the trace of its client", "parent", CALLS);
    if off > MOST {
        eprintln!("missed: a request must take at most {MOST} µs");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The median of what one takes in each round, in microseconds.
fn told(what: &str, traces: &str, times: u32) -> f64 {
    let place = tempfile::tempdir().expect("a directory");
    let is_continued = traces == "parent";
    let settings = settings(place.path(), if is_continued { "" } else { traces });
    let data = portico::data::DataDirectory::open(&place.path().join("data")).expect("a data directory");
    let log = portico::requests::SledLog::open(&data).expect("a request log");
    let names = Arc::<Names>::default();
    let pillar = names.pillar("connect");
    let route = names.route(pillar, "rooms.show");
    let policies = ["rate-limit", "key-auth", "gas"].map(|policy| names.policy(policy));
    // Nobody takes the spans out: what is made is dropped, on another thread.
    let (spans, _export) = Export::open(&settings.traces, Roots::default()).expect("no fields").unzip();
    let begun = Requests::start(1, &settings, Some(Arc::new(log)), names, Clock::system(), spans);
    let (requests, mut recorders) = begun.expect("threads");
    let recorder = Rc::new(recorders.remove(0));
    let head = Request::builder().uri("/v1/connect/rooms/4711").header("host", "gateway.example:9099").body(());
    let mut head = head.expect("a head");
    if is_continued {
        let parent = HeaderValue::from_static("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        head.headers_mut().insert("traceparent", parent);
    }
    let at = Millis(1_800_000_000_000);
    let caller = Caller { org: Some(7), key: Some(8) };
    let usage = Usage {
        caller,
        pillar,
        route,
        at,
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
    let (mut request, mut random) = (u128::from(at.0) << 80, 0_u64);
    for round in &mut rounds {
        let begun = now();
        for _ in 0..times {
            request += 1;
            let context = Context::of(head.headers(), || {
                random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
                random
            });
            let id = RequestId::from_number(request);
            let mut trace = Trace::begin(&recorder, id, at, [127, 0, 0, 1].into(), &head, context);
            trace.found((caller, false), pillar, route);
            trace.policies(Duration::from_micros(9));
            let (begun, took, outcome) = (calls[2].ended, Duration::from_micros(300), Ok(200));
            trace.upstream(Asked { upstream: "connect", server: "10.0.0.7:8080", begun, took, outcome });
            trace.finish(&usage, &calls, End::Complete);
        }
        *round = (now() - begun) / f64::from(times);
        // Until it is taken out: a round has room as a whole.
        std::thread::sleep(Duration::from_millis(150));
    }
    requests.end();
    assert_eq!(requests.dropped(), portico::requests::Dropped::default());
    assert_eq!(requests.spans().dropped_queue, 0);
    rounds.sort_by(f64::total_cmp);
    let median = rounds[ROUNDS / 2];
    println!("{what:62} {median:>7.2} µs {:>8.2} {:>8.2}", rounds[0], rounds[ROUNDS - 1]);
    median
}
