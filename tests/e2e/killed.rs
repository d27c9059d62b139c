//! Death at any moment, under load: every call that a client has seen the end of is counted once, and none that was not sent.

use crate::harness::{DEFAULT, request, until};
use crate::program::{Serving, Stand, output, told};
use crate::usage;
use serde_json::Value;
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often the gateway is killed; another number where the environment gives one.
const KILLS: usize = 5;
const CLIENTS: usize = 4;
/// What is sent with some of the requests.
const BODY: &str = "a body";
/// Sizes of segments, in turn: one in which a start has room for all of its calls, and one that is used again and again.
const SIZES: [&str; 2] = ["8MiB", "64KiB"];

/// What the clients of one start know.
#[derive(Default)]
struct Load {
    sent: AtomicUsize,
    /// Answers that there was no room for a record: these may have none.
    refused: AtomicUsize,
    /// Ids of the other answers that came whole.
    seen: Mutex<Vec<String>>,
    /// How many of those were a success, and how many had a body in their request.
    charged: AtomicUsize,
    bodies: AtomicUsize,
}

/// Asks, one request after the other, until nobody listens any more.
fn client(to: SocketAddr, key: &str, targets: &[&str], load: &Load) {
    while let Ok(stream) = TcpStream::connect(to) {
        connection(stream, key, targets, load);
    }
}

fn connection(mut stream: TcpStream, key: &str, targets: &[&str], load: &Load) -> Option<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    for target in targets.iter().cycle() {
        load.sent.fetch_add(1, Ordering::SeqCst);
        let body = if *target == "x" { BODY } else { "" };
        let method = if body.is_empty() { "GET" } else { "POST" };
        let fields = format!("host: gateway.test\r\nauthorization: Bearer {key}\r\ncontent-length: {}", body.len());
        stream
            .write_all(format!("{method} /v1/connect/{target} HTTP/1.1\r\n{fields}\r\n\r\n{body}").as_bytes())
            .ok()?;
        let (status, id) = answer(&mut reader)?;
        if status == 503 {
            load.refused.fetch_add(1, Ordering::SeqCst);
            continue;
        }
        assert!(status < 300 || *target == "status/404", "{target}: {status}");
        load.charged.fetch_add((status < 300).into(), Ordering::SeqCst);
        load.bodies.fetch_add((!body.is_empty()).into(), Ordering::SeqCst);
        load.seen.lock().unwrap().push(id);
    }
    None
}

/// Reads one answer to its end; its status and its id.
fn answer(reader: &mut impl BufRead) -> Option<(u16, String)> {
    let status = line(reader)?.split(' ').nth(1)?.parse().ok()?;
    let (mut id, mut length, mut chunked) = (None, 0, false);
    loop {
        let line = line(reader)?;
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(": ") else { continue };
        match name.to_ascii_lowercase().as_str() {
            "x-request-id" => id = Some(value.to_owned()),
            "content-length" => length = value.parse().ok()?,
            "transfer-encoding" => chunked = true,
            _ => {}
        }
    }
    while chunked {
        let size = usize::from_str_radix(&line(reader)?, 16).ok()?;
        reader.read_exact(&mut vec![0; size + 2]).ok()?;
        chunked = size > 0;
    }
    reader.read_exact(&mut vec![0; length]).ok()?;
    Some((status, id?))
}

fn line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    // What has no end was cut off.
    reader.read_line(&mut line).ok().filter(|_| line.ends_with('\n'))?;
    Some(line.trim_end().to_owned())
}

fn admin(stand: &Stand, serving: &Serving, method: &str, target: &str, body: &str) -> Value {
    let token = std::fs::read_to_string(stand.path().join("data/admin-token")).unwrap();
    let asked = request(serving.admin, method, target).key(token.trim()).field("content-type", "application/json");
    asked.body(body).send().json()
}

/// The sums of an org.
#[derive(Debug, Default, PartialEq)]
struct Sums {
    calls: usize,
    /// Of those, the ones that have a status below 500.
    whole: usize,
    gas: usize,
    bytes_in: usize,
}

impl Sums {
    fn of(stand: &Stand, serving: &Serving, org: &str) -> Self {
        let total = admin(stand, serving, "GET", &format!("/v1/usage?org={org}"), "")["total"].clone();
        // What replay adds is told apart as what was added at the time, and no part of it is lost.
        let rows = usage::all_rows(|path| admin(stand, serving, "GET", path, ""), &format!("org={org}&limit=1"));
        let whole = usage::numbers(&total);
        assert_eq!(usage::added_up(&rows), whole);
        let policies: u64 =
            whole.iter().filter(|(name, _)| name.starts_with("fuel_by_policy/")).map(|(_, fuel)| fuel).sum();
        assert_eq!(policies, whole["fuel"], "{total}");
        let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{total}")) as usize;
        Self {
            calls: number(&total["calls"]),
            whole: number(&total["statuses"]["2xx"]) + number(&total["statuses"]["4xx"]),
            gas: total["gas"].as_str().and_then(|gas| gas.parse().ok()).unwrap_or_else(|| panic!("{total}")),
            bytes_in: number(&total["bytes_in"]),
        }
    }
}

/// What the journal says of its newest epoch: ids of calls that began, and of those that ended.
fn journal(stand: &Stand) -> (HashSet<String>, HashSet<String>) {
    let listed = output(stand.path(), &["journal", "list", "--config", "gateway.toml"]);
    assert!(listed.status.success(), "{}", told(&listed));
    let lines: Vec<Value> =
        listed.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let newest = lines.iter().filter_map(|line| line["epoch"].as_u64()).max();
    let mut kinds = (HashSet::new(), HashSet::new());
    for line in lines.iter().filter(|line| line["epoch"].as_u64() == newest) {
        let id = line["request"].as_str().unwrap().to_owned();
        let ends = line["kind"] == "close";
        let fresh = if ends { kinds.1.insert(id.clone()) } else { kinds.0.insert(id.clone()) };
        assert!(fresh || !ends, "{id} ends twice");
    }
    kinds
}

/// What is counted in all must be what was seen in all, but for what was under way at each death.
fn assert_between(what: &str, counted: usize, seen: usize, unseen: usize) {
    assert!(
        (seen..=seen + unseen).contains(&counted),
        "{what}: {counted} counted, {seen} seen, {unseen} more possible"
    );
}

#[test]
fn what_was_seen_is_counted_once_and_what_was_not_sent_is_not() {
    let stand = Stand::with(DEFAULT);
    // With the longest name that a rule may have: so segments are soon full.
    stand.edit(|toml| {
        let toml = toml.replace("workers = 1", "workers = 2").replace("[journal]\n", "[journal]\nsegments = 4\n");
        format!("{toml}[[pillars.connect.routes]]\nname = \"{}\"\npath = \"/{{*rest}}\"\n", "r".repeat(64))
    });
    let mut before = "256KiB";
    let kills = std::env::var("PORTICO_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    let (mut key, mut org) = (String::new(), String::new());
    // Over all rounds: what was seen, what may be counted beside it, and what is counted.
    let (mut seen, mut unseen, mut refused) = (Sums::default(), 0, 0);
    let mut counted = Sums::default();
    for round in 0..kills {
        let size = SIZES[round % 2];
        stand.edit(|toml| toml.replace(&format!("segment_size = \"{before}\""), &format!("segment_size = \"{size}\"")));
        before = size;
        let has_room = size == SIZES[0];
        let serving = stand.serve();
        if round == 0 {
            let order = r#"{"name": "load", "mode": "live", "scopes": ["connect"]}"#;
            let issued = admin(&stand, &serving, "POST", "/v1/keys", order);
            let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{issued}")).to_owned();
            (key, org) = (text(&issued["secret"]), text(&issued["org"]["id"]));
        }
        stand.origin.take_ids();
        let load = Arc::new(Load::default());
        let targets: &[&str] = match has_room {
            true => &["x", "slow/3", "events", "status/404", "empty"],
            false => &["x", "status/404", "empty"],
        };
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (load, key, to) = (load.clone(), key.clone(), serving.public);
                std::thread::spawn(move || client(to, &key, targets, &load))
            })
            .collect();
        // Sometimes before the store took anything, sometimes after. Of 64 KiB there are at most four for each of two workers: no
        // more than 1500 calls have room in them.
        let enough = if has_room { 40 + round * 7919 % 600 } else { 1600 + round * 7919 % 300 };
        until("there was load", || load.seen.lock().unwrap().len() >= enough);
        drop(serving);
        for client in clients {
            client.join().unwrap();
        }

        let (begun, over) = journal(&stand);
        let whole: HashSet<String> = load.seen.lock().unwrap().iter().cloned().collect();
        let sent = load.sent.load(Ordering::SeqCst);
        let asked: HashSet<String> = stand.origin.take_ids().into_iter().collect();
        if has_room {
            let lost: Vec<_> = whole.difference(&over).collect();
            assert!(lost.is_empty(), "round {round}: seen to its end, and not counted so: {lost:?}");
            let lost: Vec<_> = asked.difference(&begun).collect();
            assert!(lost.is_empty(), "round {round}: the upstream was asked, and that is not written down: {lost:?}");
        } else {
            assert!(over.len() < whole.len(), "round {round}: no segment was used again");
        }
        seen.calls += whole.len();
        seen.gas += load.charged.load(Ordering::SeqCst);
        seen.bytes_in += load.bodies.load(Ordering::SeqCst) * BODY.len();
        unseen += CLIENTS;
        refused += load.refused.load(Ordering::SeqCst);

        // The next start counts what was not yet, and a start after a death counts nothing anew.
        let sums = Sums::of(&stand, &stand.serve(), &org);
        assert_eq!(Sums::of(&stand, &stand.serve(), &org), sums, "round {round}: another start changes the sums");
        let fresh = sums.calls - counted.calls;
        assert!(fresh <= sent, "round {round}: {fresh} counted, {sent} sent");
        if has_room && load.refused.load(Ordering::SeqCst) == 0 {
            assert_eq!(fresh, begun.union(&over).count(), "round {round}");
        }
        assert_between(&format!("round {round}: calls"), sums.calls, seen.calls, unseen + refused);
        assert_between(&format!("round {round}: calls with a status"), sums.whole, seen.calls, unseen);
        assert_between(&format!("round {round}: gas"), sums.gas, seen.gas, unseen);
        assert_between(&format!("round {round}: bytes"), sums.bytes_in, seen.bytes_in, (unseen + refused) * BODY.len());
        counted = sums;
    }
}
