//! What takes too long for every test run: a component exchanged a thousand times under load, a body of a gibibyte, and
//! what that costs.
//!
//! Nobody may notice: no request fails, no response comes from two versions, event streams go on, memory stays.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::bench::{Musts, median, resident};
use crate::child::Child;
use crate::http::find;
use crate::pillar::{self, Name};
use crate::repository::Repository;
use crate::section::Section;
use crate::{build, components, port, up};

mod body;

/// How long a saved component may take until it serves.
const PATIENCE: Duration = Duration::from_secs(30);
/// The first of the versions; the number in the guest that is replaced.
const FIRST: u32 = 100_000;

/// Bounds, in milliseconds and MiB.
const MOST_COMPILED: f64 = 200.0;
const MOST_CACHED: f64 = 20.0;
const MOST_GROWTH: f64 = 16.0;

/// How long and how hard.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Swaps to versions that were never seen before.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(60..=100_000))]
    swaps: u32,
    /// Swaps between two versions that are in the cache.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    cached: u32,
    /// Connections that are busy all the while.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=500))]
    connections: u32,
    /// Take the release build that is there, however old it is.
    #[arg(long)]
    as_built: bool,
}

/// Builds, runs, prints; an error when a bound is missed.
pub fn run(repository: &Repository, options: &Options) -> Result<()> {
    let binary = if options.as_built {
        repository.target().join("release/portico")
    } else {
        build::prerequisites()?;
        components::guests(repository)?;
        build::gateway(repository)?
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let place = tempfile::Builder::new().prefix("portico-soak-").tempdir().context("no temporary directory")?;
    let guest = fs::read(repository.join("target/portico/guests/numbered.wasm"))?;
    let mask = fs::read(repository.join("target/portico/guests/mask.wasm"))?;
    let mut gateway = runtime.block_on(start(&binary, place.path(), &guest, &mask))?;
    let outcome = exchange(&gateway, place.path(), &guest, options).and_then(|mut musts| {
        let id = gateway.process.id().context("the gateway has ended")?;
        body::pass(gateway.public, id, &mut musts)?;
        Ok(musts)
    });
    runtime.block_on(gateway.process.stop(Duration::from_secs(5)));
    outcome?.held()
}

/// The gateway, and where it listens.
struct Gateway {
    process: Child,
    public: SocketAddr,
}

async fn start(binary: &Path, place: &Path, guest: &[u8], mask: &[u8]) -> Result<Gateway> {
    let section = Section::open("a demo pillar and the gateway");
    let [public, admin, connect, large] = port::free()?;
    body::serve(large)?;
    tokio::spawn(pillar::serve(Name::Connect, connect, public));
    fs::create_dir(place.join("plugins"))?;
    fs::write(place.join("plugins/numbered.wasm"), guest)?;
    fs::write(place.join("plugins/mask.wasm"), mask)?;
    let text = include_str!("soak.toml")
        .replace("{public}", &public.to_string())
        .replace("{admin}", &admin.to_string())
        .replace("{connect}", &connect.to_string())
        .replace("{large}", &large.to_string());
    fs::write(place.join("gateway.toml"), text)?;
    let mut serve = Command::new(binary);
    let log = fs::File::create(place.join("log"))?;
    serve.arg("serve").arg("--config").arg(place.join("gateway.toml"));
    serve.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let process = Child::start("the gateway", serve)?;
    up::ready(public, Duration::from_secs(60)).await?;
    section.close();
    Ok(Gateway { process, public })
}

fn exchange(gateway: &Gateway, place: &Path, guest: &[u8], options: &Options) -> Result<Musts> {
    let id = gateway.process.id().context("the gateway has ended")?;
    let load = Load::start(gateway.public, options.connections);
    let mut probe = Caller::new(gateway.public);
    let file = place.join("plugins/numbered.wasm");
    let mut settled = 0;

    let section = Section::open(format!("{} swaps to new versions", options.swaps));
    let mut compiled = Vec::new();
    for number in 1..=options.swaps {
        compiled.push(swap(&mut probe, &file, guest, FIRST + number)?);
        if number == 50 {
            settled = resident(id)?;
        }
        if number % 100 == 0 {
            eprintln!("{number} of {}, the last in {:.0} ms", options.swaps, compiled[compiled.len() - 1]);
        }
    }
    let after = resident(id)?;
    section.close();

    let section = Section::open(format!("{} swaps between two versions in the cache", options.cached));
    let mut cached = Vec::new();
    for number in 0..options.cached {
        cached.push(swap(&mut probe, &file, guest, FIRST + options.swaps - 1 + number % 2)?);
    }
    section.close();
    let (requests, failures, events) = load.end();

    let mut musts = Musts::default();
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let size = guest.len() >> 10;
    println!(
        "\n{} connections, {requests} requests, {} streams with {events} events",
        options.connections,
        Load::STREAMS
    );
    println!("failed requests and streams, mixed responses: {}", musts.exactly("failures", failures.len(), 0));
    failures.iter().take(5).for_each(|failure| println!("  {failure}"));
    let compiled = median(compiled.into_iter());
    let told = musts.at_most("save to serving, compiled", compiled, MOST_COMPILED, 1);
    println!("save to serving, median, ms: {told} for {size} KiB compiled");
    let told = musts.at_most("save to serving, cached", median(cached.into_iter()), MOST_CACHED, 1);
    println!("                             {told} from the cache");
    let growth = mebibytes(after) - mebibytes(settled);
    let told = musts.at_most("growth of memory", growth, MOST_GROWTH, 1);
    println!(
        "resident MiB: {:.1} after 50 swaps, {:.1} after all: grown by {told}",
        mebibytes(settled),
        mebibytes(after)
    );
    Ok(musts)
}

/// Saves a version and waits until it serves; milliseconds.
fn swap(probe: &mut Caller, file: &Path, guest: &[u8], number: u32) -> Result<f64> {
    let (old, new) = (format!("0.0.{FIRST}"), format!("0.0.{number}"));
    let at = find(guest, old.as_bytes()).context("the guest does not hold its version")?;
    let mut bytes = guest.to_vec();
    bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
    let fresh = file.with_extension("new");
    fs::write(&fresh, bytes)?;
    let saved = Instant::now();
    fs::rename(&fresh, file)?;
    loop {
        if probe.ask()? == new {
            return Ok(saved.elapsed().as_secs_f64() * 1e3);
        }
        if saved.elapsed() > PATIENCE {
            bail!("version {new} did not serve within {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Everything that must not notice.
struct Load {
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicU64>,
    events: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Load {
    /// Event streams that stay open all the while.
    const STREAMS: usize = 8;

    fn start(address: SocketAddr, connections: u32) -> Self {
        let (stop, requests, events) = <(Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let call = |_| {
            let (stop, requests) = (stop.clone(), requests.clone());
            std::thread::spawn(move || {
                let mut caller = Caller::new(address);
                while !stop.load(Ordering::Relaxed) {
                    caller.ask()?;
                    requests.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        };
        let listen = |_| {
            let (stop, events) = (stop.clone(), events.clone());
            std::thread::spawn(move || listen(address, &stop, &events))
        };
        let threads = (0..connections).map(call).chain((0..Self::STREAMS).map(listen)).collect();
        Self { stop, requests, events, threads }
    }

    /// Requests, failures, events.
    fn end(self) -> (u64, Vec<String>, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.threads.into_iter().map(JoinHandle::join);
        let failures = ended.filter_map(|ended| match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(_) => Some("a caller panicked".to_owned()),
        });
        let failures = failures.collect();
        (self.requests.load(Ordering::Relaxed), failures, self.events.load(Ordering::Relaxed))
    }
}

/// One connection that is kept open; a failure ends it, and is the caller's.
struct Caller {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

impl Caller {
    fn new(address: SocketAddr) -> Self {
        Self { address, stream: None }
    }

    /// The one version that had a hand in the response.
    fn ask(&mut self) -> Result<String> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(connect(self.address)?),
        };
        write!(stream, "GET /v1/connect/rooms HTTP/1.1\r\nhost: {}\r\n\r\n", self.address)?;
        let (head, mut body) = read_head(stream)?;
        let length = fields(&head, "content-length").next().and_then(|length| length.parse().ok());
        let length: usize = length.context("an answer without a length")?;
        let start = body.len();
        ensure!(start <= length, "an answer longer than it says");
        body.resize(length, 0);
        stream.read_exact(&mut body[start..])?;
        one_version(&head)
    }
}

fn listen(address: SocketAddr, stop: &AtomicBool, events: &AtomicU64) -> Result<()> {
    let mut stream = connect(address)?;
    write!(stream, "GET /v1/connect/rooms/lobby/events HTTP/1.1\r\nhost: {address}\r\n\r\n")?;
    let (head, _) = read_head(&mut stream)?;
    one_version(&head)?;
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        let read = stream.read(&mut buffer).context("an event stream broke")?;
        ensure!(read > 0, "an event stream ended");
        events.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The head of an answer that is a 200, and what came of its body already.
fn read_head(stream: &mut TcpStream) -> Result<(String, Vec<u8>)> {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).context("no answer")?;
        ensure!(read > 0, "the connection ended before the answer");
        seen.extend_from_slice(&buffer[..read]);
        if let Some(end) = find(&seen, b"\r\n\r\n") {
            let body = seen.split_off(end + 4);
            let head = String::from_utf8(seen)?;
            ensure!(head.starts_with("HTTP/1.1 200 "), "{}", head.lines().next().unwrap_or_default());
            return Ok((head, body));
        }
    }
}

fn fields<'a>(head: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn one_version(head: &str) -> Result<String> {
    let versions: Vec<&str> = fields(head, "x-version").collect();
    match versions.as_slice() {
        [before, after] if before == after => Ok((*before).to_owned()),
        others => bail!("a response of {others:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_of_two_versions_is_told() {
        assert_eq!(one_version("HTTP/1.1 200 OK\r\nX-Version: 1\r\nx-version: 1\r\n").unwrap(), "1");
        for odd in ["x-version: 1\r\nx-version: 2\r\n", "x-version: 1\r\n", ""] {
            assert!(one_version(&format!("HTTP/1.1 200 OK\r\n{odd}")).is_err(), "{odd:?}");
        }
    }
}
