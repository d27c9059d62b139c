//! Follows bodies as its configuration says. See README.md.

use portico_guests::descriptor;
use portico_sdk::bindings::{policy, request_body, response, response_body};
use portico_sdk::{
    Action, After, AfterAction, Charge, CustomDenial, Descriptor, Diagnostic, Edit, Plan, Reply, Request, RequestEnd,
    RequestPiece, Response, ResponseEnd, ResponsePiece, Slot, Upload, Verdict,
};
use serde::Deserialize;
use std::cell::RefCell;

/// Tests replace its text in the component.
static BLOCK: [u8; descriptor::BLOCK] = descriptor::block("{}");

/// The guest that follows bodies.
pub struct Follower;

#[derive(Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    maximum_charge: u64,
    targets: Vec<String>,
    /// What the verdict carries.
    carry: String,
    /// What the verdict charges.
    charge: u64,
    /// Loops over the head of a response with this status.
    loop_at_status: Option<u16>,
    request: Way,
    response: Way,
}

/// What it does with a body in one direction.
#[derive(Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Way {
    /// Lets it pass by.
    skip: bool,
    /// `upper`, `double`, `drop`, or `same`: the same bytes, said to be others.
    replace: String,
    /// Puts these around each chunk.
    wrap: Option<(String, String)>,
    /// Refuses at a chunk that has this.
    refuse_at: Option<String>,
    /// Loops at a chunk that has this.
    loop_at: Option<String>,
    /// Keeps each chunk, also when its body is over.
    keep: bool,
    /// Burns fuel over every chunk: so many rounds for each byte.
    rounds: u32,
    /// Goes on after the last chunk.
    more: String,
    /// Sets the first field that may be written to what it counted.
    tell: bool,
    /// Takes part in the end.
    deny: bool,
    respond: bool,
    path: Option<String>,
    forward: Option<u32>,
    charge: u64,
}

#[derive(Default)]
struct Seen {
    bytes: u64,
    chunks: u64,
    largest: usize,
    length: Option<u64>,
    carry: String,
}

thread_local! {
    static CONFIG: RefCell<Config> = RefCell::default();
    static SEEN: RefCell<Seen> = RefCell::default();
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

fn config() -> Config {
    CONFIG.with_borrow(Clone::clone)
}

/// What becomes of a chunk.
enum Piece {
    Keep,
    Replace(Vec<u8>),
    Refuse,
}

fn has(chunk: &[u8], word: &Option<String>) -> bool {
    word.as_ref().is_some_and(|word| chunk.windows(word.len().max(1)).any(|window| window == word.as_bytes()))
}

fn spin() -> ! {
    loop {
        std::hint::black_box(0);
    }
}

fn pass(way: &Way, chunk: Vec<u8>) -> Piece {
    SEEN.with_borrow_mut(|seen| {
        seen.bytes += chunk.len() as u64;
        seen.chunks += 1;
        seen.largest = seen.largest.max(chunk.len());
    });
    if way.keep {
        KEPT.with_borrow_mut(|kept| kept.push(std::hint::black_box(chunk.clone())));
    }
    if has(&chunk, &way.loop_at) {
        spin();
    }
    for round in 0..way.rounds {
        chunk.iter().for_each(|byte| {
            std::hint::black_box(u32::from(*byte) + round);
        });
    }
    if has(&chunk, &way.refuse_at) {
        return Piece::Refuse;
    }
    if let Some((before, after)) = &way.wrap {
        return Piece::Replace([before.as_bytes(), &chunk, after.as_bytes()].concat());
    }
    match way.replace.as_str() {
        "upper" => Piece::Replace(chunk.to_ascii_uppercase()),
        "double" => Piece::Replace([chunk.as_slice(), &chunk].concat()),
        "drop" => Piece::Replace(Vec::new()),
        "same" => Piece::Replace(chunk),
        _ => Piece::Keep,
    }
}

fn told() -> String {
    SEEN.with_borrow(|seen| {
        let length = seen.length.map_or("unknown".to_owned(), |length| length.to_string());
        format!(
            "bytes={} chunks={} largest={} length={length} carry={}",
            seen.bytes, seen.chunks, seen.largest, seen.carry
        )
    })
}

fn denial() -> CustomDenial {
    CustomDenial { status: 422, code: "bad_body".to_owned(), message: "The body is bad.".to_owned() }
}

fn charges(way: &Way) -> Vec<Charge> {
    if way.charge > 0 { vec![Charge::per_request(way.charge)] } else { Vec::new() }
}

fn edits(way: &Way) -> Vec<Edit> {
    if way.tell { vec![Edit::set(0, told())] } else { Vec::new() }
}

impl policy::Guest for Follower {
    fn describe() -> Descriptor {
        descriptor::read(std::hint::black_box(&BLOCK))
    }

    fn configure(_number: u32, _slot: Slot, config: String) -> Result<Plan, Vec<Diagnostic>> {
        let config: Config =
            serde_json::from_str(&config).map_err(|error| vec![Diagnostic::new("", error.to_string())])?;
        let targets = config.targets.clone();
        let maximum_charge = config.maximum_charge;
        CONFIG.set(config);
        Ok(Plan { scopes: Vec::new(), limits: Vec::new(), targets, maximum_charge })
    }

    fn on_request(_request: Request) -> Verdict {
        let Config { carry, charge, .. } = config();
        let charges = if charge > 0 { vec![Charge::per_request(charge)] } else { Vec::new() };
        Verdict { carry: carry.into_bytes(), charges, ..Verdict::next() }
    }
}

impl response::Guest for Follower {
    fn on_response(response: Response) -> After {
        if config().loop_at_status == Some(response.status) {
            spin();
        }
        After::next()
    }
}

fn begin(way: &Way, length: Option<u64>, carry: &[u8]) -> bool {
    SEEN.set(Seen { length, carry: String::from_utf8_lossy(carry).into_owned(), ..Seen::default() });
    !way.skip
}

impl request_body::Guest for Follower {
    fn on_request_body(upload: Upload) -> bool {
        begin(&config().request, upload.length, &upload.carry)
    }

    fn on_request_chunk(_slot: u32, chunk: Vec<u8>) -> RequestPiece {
        match CONFIG.with_borrow(|config| pass(&config.request, chunk)) {
            Piece::Keep => RequestPiece::Keep,
            Piece::Replace(bytes) => RequestPiece::Replace(bytes),
            Piece::Refuse => RequestPiece::deny(denial()),
        }
    }

    fn on_request_end(_slot: u32) -> RequestEnd {
        let way = config().request;
        let action = match way.forward {
            _ if way.deny => Action::Deny(denial().into()),
            _ if way.respond => Action::Respond(Reply { status: 200, fields: Vec::new(), body: told().into_bytes() }),
            Some(target) => Action::Forward(target),
            None => Action::Next,
        };
        let charges = charges(&way);
        let verdict =
            Verdict { action, path: way.path.clone(), request_edits: edits(&way), charges, ..Verdict::next() };
        RequestEnd { more: way.more.into_bytes(), verdict }
    }
}

impl response_body::Guest for Follower {
    fn on_response_body(head: Response) -> bool {
        begin(&config().response, None, &head.carry)
    }

    fn on_response_chunk(_slot: u32, chunk: Vec<u8>) -> ResponsePiece {
        match CONFIG.with_borrow(|config| pass(&config.response, chunk)) {
            Piece::Keep => ResponsePiece::Keep,
            Piece::Replace(bytes) => ResponsePiece::Replace(bytes),
            Piece::Refuse => ResponsePiece::Stop,
        }
    }

    fn on_response_end(_slot: u32) -> ResponseEnd {
        let way = config().response;
        let action = match way.respond {
            true => AfterAction::Respond(Reply { status: 200, fields: Vec::new(), body: told().into_bytes() }),
            false => AfterAction::Next,
        };
        let after = After { action, edits: edits(&way), charges: charges(&way), notes: Vec::new() };
        ResponseEnd { more: way.more.into_bytes(), after }
    }
}

#[cfg(target_family = "wasm")]
policy::export_policy!(Follower with_types_in policy);
#[cfg(target_family = "wasm")]
response::export_response!(Follower with_types_in response);
#[cfg(target_family = "wasm")]
request_body::export_request_body!(Follower with_types_in request_body);
#[cfg(target_family = "wasm")]
response_body::export_response_body!(Follower with_types_in response_body);
