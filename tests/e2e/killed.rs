//! Death at any moment, under load: every call that a client has seen the end of is counted once, and none that was not sent.

use crate::harness::{request, until};
use crate::program::{Serving, Stand, output, told};
use serde_json::Value;
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often the gateway is killed; another number where the environment gives one.
const KILLS: usize = 3;
const CLIENTS: usize = 4;

/// What the clients of one start know.
#[derive(Default)]
struct Load {
    sent: AtomicUsize,
    /// Ids of answers that came whole.
    seen: Mutex<Vec<String>>,
}

/// Asks, one request after the other on one connection, until that breaks.
fn client(to: SocketAddr, load: &Load) -> Option<()> {
    let mut stream = TcpStream::connect(to).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    for target in ["x", "slow/3", "events", "status/404", "empty"].into_iter().cycle() {
        load.sent.fetch_add(1, Ordering::SeqCst);
        let head = format!("GET /v1/connect/{target} HTTP/1.1\r\nhost: gateway.test\r\n\r\n");
        stream.write_all(head.as_bytes()).ok()?;
        let id = answer(&mut reader)?;
        load.seen.lock().unwrap().push(id);
    }
    None
}

/// Reads one answer to its end; its id.
fn answer(reader: &mut impl BufRead) -> Option<String> {
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
    id
}

fn line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    // What has no end was cut off.
    reader.read_line(&mut line).ok().filter(|_| line.ends_with('\n'))?;
    Some(line.trim_end().to_owned())
}

/// The sums of callers without a key.
fn usage(stand: &Stand, serving: &Serving) -> Value {
    let token = std::fs::read_to_string(stand.path().join("data/admin-token")).unwrap();
    let asked = request(serving.admin, "GET", "/v1/usage").field("authorization", format!("Bearer {}", token.trim()));
    asked.send().json()["total"].clone()
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

#[test]
fn what_was_seen_is_counted_once_and_what_was_not_sent_is_not() {
    let stand = Stand::with("");
    stand.edit(|toml| {
        let toml =
            toml.replace("segment_size = \"256KiB\"", "segment_size = \"8MiB\"").replace("workers = 1", "workers = 2");
        format!("{toml}[[pillars.connect.routes]]\npath = \"/{{*rest}}\"\nauth = \"none\"\n")
    });
    let kills = std::env::var("PORTICO_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS);
    let (mut calls, mut ended) = (0, 0);
    for round in 0..kills {
        let serving = stand.serve();
        stand.origin.take_ids();
        let load = Arc::new(Load::default());
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (load, to) = (load.clone(), serving.public);
                std::thread::spawn(move || client(to, &load))
            })
            .collect();
        // Sometimes before the store took anything, sometimes after.
        let enough = 40 + round * 7919 % 600;
        until("there was load", || load.seen.lock().unwrap().len() >= enough);
        drop(serving);
        for client in clients {
            let _ = client.join().unwrap();
        }

        let (begun, over) = journal(&stand);
        let seen: HashSet<String> = load.seen.lock().unwrap().iter().cloned().collect();
        let asked: HashSet<String> = stand.origin.take_ids().into_iter().collect();
        let lost: Vec<_> = seen.difference(&over).collect();
        assert!(lost.is_empty(), "round {round}: seen to its end, and not counted so: {lost:?}");
        let lost: Vec<_> = asked.difference(&begun).collect();
        assert!(lost.is_empty(), "round {round}: the upstream was asked, and that is not written down: {lost:?}");
        let counted = begun.union(&over).count();
        let sent = load.sent.load(Ordering::SeqCst);
        assert!(counted <= sent, "round {round}: {counted} counted, {sent} sent");
        assert!(counted - seen.len() <= CLIENTS, "round {round}: more than what was under way is counted unseen");
        calls += counted;
        ended += over.len();

        // The next start counts what was not yet, and a start after a death counts nothing anew.
        for start in ["after the death", "once more"] {
            let sums = usage(&stand, &stand.serve());
            assert_eq!(sums["calls"], calls, "round {round}, {start}");
            let by_status = &sums["statuses"];
            let whole = by_status["2xx"].as_u64().unwrap() + by_status["4xx"].as_u64().unwrap();
            // Those that ended without a status are calls whose client had left.
            assert!(whole <= ended as u64 && whole >= seen.len() as u64, "round {round}, {start}: {sums}");
        }
    }
}
