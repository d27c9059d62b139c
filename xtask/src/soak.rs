//! What takes too long for every test run: a component exchanged a thousand times under load, a body of a gibibyte, and
//! what that costs; then fifty deaths.
//!
//! Nobody may notice: no request fails, no response comes from two versions, event streams go on, memory stays.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::load::Load;
use crate::bench::{Musts, median, resident};
use crate::child::Child;
use crate::http::find;
use crate::pillar::{self, Name};
use crate::repository::{Repository, run_through};
use crate::section::Section;
use crate::{build, components, port, up};

mod body;
mod load;
mod sightings;

/// How long a saved component may take until it serves.
const PATIENCE: Duration = Duration::from_secs(30);
/// The first of the versions; the number in the guest that is replaced.
const FIRST: u32 = 100_000;
/// How often it is looked at whether a version serves; what is measured does not depend on it.
const LOOK: Duration = Duration::from_millis(1);

/// How often the gateway is killed under load.
const DEATHS: &str = "50";

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
    /// Swaps to versions that are in the cache.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    cached: u32,
    /// Connections that are busy all the while.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=500))]
    connections: u32,
    /// Milliseconds between a version that serves and the next save: until the compiler of the next one stands ready.
    #[arg(long, default_value_t = 200)]
    pause: u64,
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
    outcome?.held()?;
    deaths(repository)
}

/// The end-to-end test that kills the gateway, in its long form: every call that was seen counts once.
fn deaths(repository: &Repository) -> Result<()> {
    components::plugins(repository)?;
    let section = Section::open(format!("{DEATHS} deaths under load"));
    let mut cargo = repository.cargo();
    cargo.args(["test", "--workspace", "--test", "e2e", "--", "killed::"]).env("PORTICO_KILLS", DEATHS);
    run_through(&mut cargo, "killing the gateway")?;
    section.close();
    Ok(())
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
    let load = Load::start(gateway.public, options.connections, options.swaps + 1);
    let file = place.join("plugins/numbered.wasm");
    let pause = || std::thread::sleep(Duration::from_millis(options.pause));
    let mut settled = 0;

    let section = Section::open(format!("{} swaps to new versions", options.swaps));
    let mut compiled = Vec::new();
    for number in 1..=options.swaps {
        pause();
        compiled.push(swap(&load, &file, guest, FIRST + number)?);
        if number == 50 {
            settled = resident(id)?;
        }
        if number % 100 == 0 {
            eprintln!("{number} of {}, the last in {:.0} ms", options.swaps, compiled[compiled.len() - 1]);
        }
    }
    let after = resident(id)?;
    section.close();

    let section = Section::open(format!("{} swaps to versions in the cache", options.cached));
    let mut cached = Vec::new();
    for number in 0..options.cached {
        pause();
        // From the oldest on: none of them is in memory any more, or can still be on its way to someone.
        cached.push(swap(&load, &file, guest, FIRST + 1 + number % options.swaps)?);
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

/// Saves a version and waits until it serves; milliseconds from the rename to the end of the first answer that it had a hand in,
/// on any of the connections.
fn swap(load: &Load, file: &Path, guest: &[u8], number: u32) -> Result<f64> {
    let (old, new) = (format!("0.0.{FIRST}"), format!("0.0.{number}"));
    let at = find(guest, old.as_bytes()).context("the guest does not hold its version")?;
    let mut bytes = guest.to_vec();
    bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
    let fresh = file.with_extension("new");
    fs::write(&fresh, bytes)?;
    load.sightings().forget(number);
    let saved = Instant::now();
    fs::rename(&fresh, file)?;
    loop {
        if let Some(after) = load.sightings().after(saved, number) {
            return Ok(after.as_secs_f64() * 1e3);
        }
        if saved.elapsed() > PATIENCE {
            bail!("version {new} did not serve within {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(LOOK);
    }
}
