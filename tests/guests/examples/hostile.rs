//! Misbehaves in `on-request`, in the way that `behaviour` names: in the field `x-behaviour` of a request, else in the
//! slot's configuration. README.md lists all.
#![allow(
    unsafe_code,
    reason = "some lies can only be told with raw memory: text that is no UTF-8, strings that overlap"
)]

use std::cell::Cell;
use std::hint::black_box;

use portico_sdk::{
    About, Action, Change, Charge, Diagnostic, Edit, Limit, Period, Policy, Powers, Read, Reply, Request, Setup,
    Subject, Take, Verdict, Window, log,
};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Hostile {
    behaviour: String,
    #[serde(default)]
    targets: Vec<String>,
}

const X_BEHAVIOUR: Read = Hostile::ABOUT.read("x-behaviour");
const MEBIBYTE: usize = 1 << 20;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

impl Policy for Hostile {
    type Config = Self;
    const ABOUT: About = About::new("hostile", "1.0.0", "Misbehaves as told.")
        .may(Powers::DENY.union(Powers::RESPOND).union(Powers::FORWARD))
        .may(Powers::REWRITE_PATH.union(Powers::TAKE).union(Powers::CHARGE))
        .reads(&["x-behaviour"])
        .writes(&["x-hostile"])
        .response_writes(&["x-hostile"])
        .counters(&["calls"]);

    fn configure(config: Self, setup: &mut Setup<'_>) -> Result<Self, Diagnostic> {
        for target in &config.targets {
            setup.target(target);
        }
        setup.charges_at_most(1_000);
        setup.limit(Limit {
            name: "hostile".to_owned(),
            subject: Subject::Everyone,
            across_pillars: false,
            windows: vec![Window { name: "sec".to_owned(), quota: 1_000_000, per: Period::Seconds(1) }],
        });
        Ok(config)
    }

    fn on_request(&self, request: &Request) -> Verdict {
        let told = request.text(X_BEHAVIOUR);
        let behaviour = told.unwrap_or(&self.behaviour);
        if let Some(verdict) = memory(behaviour).or_else(|| positions(behaviour)) {
            return verdict;
        }
        content(behaviour).unwrap_or_else(Verdict::next)
    }
}

portico_sdk::export!(Hostile);

/// Takes more than it is given: time, stack, memory, log.
fn memory(behaviour: &str) -> Option<Verdict> {
    match behaviour {
        "loop" => loop {
            black_box(());
        },
        "panic" => panic!("as told"),
        "unreachable" => std::process::abort(),
        "stack-overflow" => {
            black_box(descend(black_box(1)));
        }
        "eat-memory" => loop {
            std::mem::forget(black_box(vec![1_u8; MEBIBYTE]));
        },
        // Within the limit of one instance, and never given back: two such calls are too many for a pooled one.
        "leak" => std::mem::forget(black_box(vec![1_u8; 6 * MEBIBYTE])),
        "log-flood" => {
            let line = "x".repeat(2_048);
            for _ in 0..100_000 {
                log::info(&line);
            }
        }
        "log-huge" => log::info(&"x".repeat(8 * MEBIBYTE)),
        "count-flood" => (0..1_000_000).for_each(|_| count(0)),
        "count-out-of-range" => count(99),
        "remember" => {
            let calls = CALLS.get() + 1;
            CALLS.set(calls);
            let mut verdict = Verdict::next();
            verdict.response_edits = vec![Edit::set(0, calls.to_string())];
            return Some(verdict);
        }
        _ => return None,
    }
    Some(Verdict::next())
}

/// Refers to what it did not declare, or beyond what it declared.
fn positions(behaviour: &str) -> Option<Verdict> {
    let mut verdict = Verdict::next();
    match behaviour {
        "edit-out-of-range" => verdict.request_edits = vec![Edit::set(99, "x")],
        "response-edit-out-of-range" => verdict.response_edits = vec![Edit::set(99, "x")],
        "take-out-of-range" => verdict.takes = vec![take(99)],
        "million-takes" => verdict.takes = vec![take(0); 1_000_000],
        "take-absurd-cost" => verdict.takes = vec![take(0).cost(u32::MAX)],
        "take-huge-subject" => verdict.takes = vec![take(0).subject("x".repeat(MEBIBYTE))],
        "forward-out-of-range" => verdict.action = Action::Forward(99),
        "charge-above-maximum" => verdict.charges = vec![Charge::per_request(1_001)],
        "charges-above-maximum" => verdict.charges = vec![Charge::per_request(600); 2],
        "charge-overflow" => verdict.charges = vec![Charge::per_unit(u64::MAX, u64::MAX)],
        "identify-without-power" => {
            verdict.identity = Some(portico_sdk::Claim {
                org: "org_evil".to_owned(),
                subject: "root".to_owned(),
                mode: portico_sdk::Mode::Live,
                scopes: vec!["*".to_owned()],
            });
        }
        "mint-without-power" => {
            verdict.token = Some(portico_sdk::TokenRequest {
                audience: Some("elsewhere".to_owned()),
                claims: vec![("sub".to_owned(), "root".to_owned())],
            });
        }
        _ => return None,
    }
    Some(verdict)
}

/// Says what must not be said: too much of it, or not in this form.
fn content(behaviour: &str) -> Option<Verdict> {
    let next = Verdict::next();
    let set = |value: &[u8]| {
        let mut verdict = Verdict::next();
        verdict.request_edits = vec![Edit::set(0, value)];
        verdict.response_edits = vec![Edit::set(0, value)];
        verdict
    };
    let note = |value: String| Verdict::next().note("note", value);
    let respond = |name: &str, value: &str| Verdict::respond(Reply::new(200).field(name, value));
    Some(match behaviour {
        "million-edits" => edits(1_000_000),
        "thousand-edits" => edits(1_000),
        "million-notes" => Verdict { notes: vec![("n".to_owned(), String::new()); 1_000_000], ..next },
        "huge-string" => note("x".repeat(100 * MEBIBYTE)),
        "large-string" => note("x".repeat(8 * MEBIBYTE)),
        "lying-length" => note(lying(1, 100 * MEBIBYTE)),
        // A thousand strings over the same eight mebibytes: small in here, eight gibibytes once copied.
        "overlapping-strings" => Verdict { notes: overlapping(8 * MEBIBYTE, 1_000), ..next },
        "bad-utf8" => note(not_utf8()),
        "bad-utf8-path" => next.rewrite_path(not_utf8()),
        "value-crlf" => set(b"a\r\nx-evil: 1"),
        "value-lf" => set(b"a\nb"),
        "value-nul" => set(b"a\0b"),
        "value-huge" => set(&vec![b'x'; MEBIBYTE]),
        "carry-huge" => next.carry(vec![0; MEBIBYTE]),
        "path-relative" => next.rewrite_path("rooms"),
        "path-crlf" => next.rewrite_path("/rooms HTTP/1.1\r\nhost: evil\r\n"),
        "path-query" => next.rewrite_path("/rooms?admin=1#x"),
        "path-dots" => next.rewrite_path("/../../admin"),
        "path-authority" => next.rewrite_path("//evil.example/rooms"),
        "path-huge" => next.rewrite_path(format!("/{}", "x".repeat(MEBIBYTE))),
        "deny-bad-status" => Verdict::refuse(200, "fine", "All is well."),
        "deny-bad-code" => Verdict::refuse(403, "Not A Code!\r\n", "No."),
        "deny-long-message" => Verdict::refuse(403, "no", "x".repeat(MEBIBYTE)),
        "respond-status-low" => Verdict::respond(Reply::new(99)),
        "respond-status-high" => Verdict::respond(Reply::new(1_000)),
        "respond-informational" => Verdict::respond(Reply::new(101).field("upgrade", "evil")),
        "respond-length" => respond("content-length", "1000000"),
        "respond-chunked" => respond("transfer-encoding", "chunked"),
        "respond-connection" => respond("connection", "keep-alive, x-portico-cost"),
        "respond-portico" => respond("x-portico-cost", "0"),
        "respond-bad-name" => respond("x-a: 1\r\nx-b", "1"),
        "respond-crlf" => respond("x-a", "1\r\nx-b: 2"),
        "respond-huge" => Verdict::respond(Reply::new(200).body(vec![b'x'; 8 * MEBIBYTE])),
        _ => return None,
    })
}

fn count(position: u32) {
    #[cfg(target_family = "wasm")]
    portico_sdk::bindings::policy::portico::policy::metrics::count(position, 1);
    black_box(position);
}

/// Positions that were never declared have no handle, so this goes around the builder.
fn take(limit: u32) -> Take {
    Take { limit, cost: 1, subject: None, always: false }
}

fn edits(count: usize) -> Verdict {
    let edit = Edit { field: 0, change: Change::Remove };
    Verdict { request_edits: vec![edit; count], ..Verdict::next() }
}

#[allow(unconditional_recursion, reason = "the stack is meant to overflow")]
fn descend(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    descend(frame[0] + 1) + frame[63]
}

/// A string that says it is longer than what is there. Nobody may read or free it in here; it is only returned.
fn lying(real: usize, claimed: usize) -> String {
    let memory = Vec::<u8>::leak(vec![b'x'; real]);
    // SAFETY: there is none, and that is the test: the guest only endangers itself, the gateway must notice.
    unsafe { String::from_raw_parts(memory.as_mut_ptr(), claimed, claimed) }
}

fn overlapping(length: usize, count: usize) -> Vec<(String, String)> {
    let memory = Vec::<u8>::leak(vec![b'x'; length]).as_mut_ptr();
    // SAFETY: none, as in `lying`: all of them own the same memory, and the last word is the gateway's.
    let alias = || unsafe { String::from_raw_parts(memory, length, length) };
    (0..count).map(|_| (String::new(), alias())).collect()
}

fn not_utf8() -> String {
    // SAFETY: none, as in `lying`: the bytes are deliberately no UTF-8.
    unsafe { String::from_utf8_unchecked(vec![b'a', 0xff, 0xc0, 0x80]) }
}
