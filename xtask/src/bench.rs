//! What one request costs: CPU time that the gateway spends on it, without and with policies, beside nginx if it is there.
//!
//! Figures drift on a shared machine, from one second to the next; ratios do not, as long as both sides are measured in the
//! same moment. So all subjects share CPU 0 and are loaded at the same time, from CPU 1, where the origin is too; only rates
//! and latencies come from a turn that each has alone. Then what guests that mean harm cost everyone else. Some figures have
//! bounds; a run that misses one fails.

mod hostile;
mod keys;
mod load;
mod must;
mod neighbours;
mod origin;
mod report;
mod start;
mod subject;
mod usage;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::interrupt::Interrupted;
use crate::repository::{Repository, run_through};
use crate::section::Section;
use crate::{build, components};
pub use must::Musts;
pub use report::median;
use report::{Alone, Measured, Round};
use subject::Subject;
pub use usage::resident;

/// How long and how hard to measure.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Rounds with all subjects at the same time.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of a round, and of the turn that each subject has alone.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Connections kept open by the load.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1000))]
    connections: u32,
    /// Leave out the calls into one policy, pooled and fresh.
    #[arg(long)]
    without_calls: bool,
    /// Measure only what hostile guests cost.
    #[arg(long, conflicts_with = "without_calls")]
    hostile_only: bool,
    /// Measure only how long a start takes.
    #[arg(long, conflicts_with_all = ["without_calls", "hostile_only"])]
    start_only: bool,
    /// Measure only forged and revoked keys.
    #[arg(long, conflicts_with_all = ["without_calls", "hostile_only", "start_only"])]
    keys_only: bool,
    /// Everything is built: measure. Set by the command itself, which measures with an optimised build of its own.
    #[arg(long, hide = true)]
    measure: bool,
}

/// Builds everything, measures, prints.
pub fn run(repository: &Repository, options: &Options) -> Result<()> {
    if options.measure {
        return measure(repository, options);
    }
    build::prerequisites()?;
    components::plugins(repository)?;
    components::guests(repository)?;
    build::gateway(repository)?;
    let section = Section::open("origin and load, release");
    run_through(repository.cargo().args(["build", "--release", "--package", "xtask"]), "building the load generator")?;
    section.close();

    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut measuring = Command::new(repository.target().join("release/xtask"));
    let measured = run_through(measuring.args(arguments).arg("--measure").current_dir(repository.root()), "measuring");
    if !options.without_calls && !options.hostile_only && !options.start_only && !options.keys_only {
        let section = Section::open("calls into one policy, the journal, the request log, keys");
        let mut cargo = repository.cargo();
        let benches = ["policy", "journal", "requests", "keys"].map(|bench| ["--bench", bench]);
        cargo.args(["bench", "--package", "portico-gateway"]).args(benches.as_flattened());
        run_through(&mut cargo, "measuring the parts of a request")?;
        section.close();
    }
    // Only now, so that a figure that was missed does not keep the rest from being measured.
    measured
}

fn measure(repository: &Repository, options: &Options) -> Result<()> {
    let directory = tempfile::Builder::new().prefix("portico-bench-").tempdir().context("no temporary directory")?;
    let place = Place {
        binary: repository.target().join("release/portico"),
        components: repository.join("target/portico"),
        directory: directory.path().to_owned(),
        origin: origin::start(usage::LOAD_CPU)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupted = Interrupted::listen()?;
        let mut subjects = Vec::new();
        let measured = tokio::select! {
            measured = all(&mut subjects, &place, options) => measured,
            () = interrupted.wait() => Err(anyhow::anyhow!("interrupted; nothing was measured to the end")),
        };
        for subject in &mut subjects {
            subject.stop().await;
        }
        measured?.held()
    })
}

/// What all subjects are made from, and where.
struct Place {
    binary: PathBuf,
    /// With `plugins` and `guests`.
    components: PathBuf,
    directory: PathBuf,
    origin: SocketAddr,
}

/// Measures and prints, one table after the other.
async fn all(subjects: &mut Vec<Subject>, place: &Place, options: &Options) -> Result<Musts> {
    let mut musts = Musts::default();
    if !options.hostile_only && !options.start_only {
        print!("{}", keys(place, &mut musts).await?);
    }
    if options.keys_only {
        return Ok(musts);
    }
    if !options.hostile_only {
        let table = start(place, &mut musts).await?;
        print!("{table}");
    }
    if options.start_only {
        return Ok(musts);
    }
    if !options.hostile_only {
        let rounds = all_rounds(subjects, place, options).await?;
        print!("{}{}", report::table(&rounds, options.connections), report::three_policies(&rounds, &mut musts));
    }
    let section = Section::open("hostile guests");
    let directory = place.directory.join("hostile");
    let guests = place.components.join("guests");
    let name = "portico, hostile guests";
    let gateway = subject::portico(name, hostile::CONFIG, &place.binary, &guests, &directory, place.origin).await?;
    subjects.push(gateway);
    let outcome = hostile::measure(&subjects[subjects.len() - 1]).await?;
    section.close();
    print!("{}", hostile::table(&outcome, &mut musts));
    let section = Section::open("guests that wait");
    let directory = place.directory.join("neighbours");
    let (_listening, late) = neighbours::late()?;
    let config = neighbours::CONFIG.replace("{late}", &late.to_string());
    let name = "portico, guests that wait";
    subjects.push(subject::portico(name, &config, &place.binary, &guests, &directory, place.origin).await?);
    let table = neighbours::measure(&subjects[subjects.len() - 1], late, &mut musts).await?;
    section.close();
    print!("{table}");
    Ok(musts)
}

/// First, as what runs beside it would be in its way.
async fn start(place: &Place, musts: &mut Musts) -> Result<String> {
    let section = Section::open("starts");
    let (directory, plugins) = (place.directory.join("start"), place.components.join("plugins"));
    let config = start::config();
    let mut gateway =
        subject::portico("portico, four policies", &config, &place.binary, &plugins, &directory, place.origin).await?;
    let took = start::measure(&mut gateway, &place.binary, &directory).await;
    gateway.stop().await;
    section.close();
    Ok(start::line(&took?, musts))
}

/// With the three policies, and on a worker of its own.
async fn keys(place: &Place, musts: &mut Musts) -> Result<String> {
    let section = Section::open("forged and revoked keys");
    let (directory, plugins) = (place.directory.join("keys"), place.components.join("plugins"));
    let config = subject::three_policies();
    let name = "portico, keys";
    let mut gateway = subject::portico(name, &config, &place.binary, &plugins, &directory, place.origin).await?;
    let outcome = keys::measure(&gateway, &place.binary, &directory.join("gateway.toml")).await;
    gateway.stop().await;
    section.close();
    Ok(keys::table(&outcome?, musts))
}

async fn all_rounds(subjects: &mut Vec<Subject>, place: &Place, options: &Options) -> Result<Vec<Measured>> {
    let section = Section::open("gateways");
    if usage::cpus() < 2 {
        eprintln!("only one CPU: load and gateways share it, so compare nothing but ratios");
    }
    let plugins = place.components.join("plugins");
    subject::start_all(subjects, &place.binary, &plugins, &place.directory, place.origin).await?;
    section.close();

    let time = Duration::from_secs(options.seconds.into());
    for subject in subjects.iter() {
        // Connections, pools and caches fill; a subject that does not answer is told now and not after minutes.
        let warm = load::run(subject.target(), options.connections, Duration::from_millis(500)).await?;
        if warm.good() == 0 {
            bail!("{} answers no request with a success{}", subject.name, warm.complaint());
        }
    }
    let section = Section::open(format!("{} rounds of {} s, all at the same time", options.rounds, options.seconds));
    let mut rounds: Vec<Vec<Round>> = subjects.iter().map(|_| Vec::new()).collect();
    for number in 1..=options.rounds {
        eprintln!("round {number} of {}", options.rounds);
        for (rounds, round) in rounds.iter_mut().zip(together(subjects, options.connections, time).await?) {
            rounds.push(round);
        }
    }
    section.close();

    let section = Section::open(format!("{} s for each alone", options.seconds));
    let mut measured = Vec::new();
    for (subject, rounds) in subjects.iter().zip(rounds) {
        let outcome = load::run(subject.target(), options.connections, time).await?;
        measured.push(Measured { name: subject.name, rounds, alone: Alone::new(time, &outcome) });
    }
    section.close();
    Ok(measured)
}

/// One round: the same moment for all subjects.
async fn together(subjects: &[Subject], connections: u32, time: Duration) -> Result<Vec<Round>> {
    let ids = subjects.iter().map(Subject::id).collect::<Result<Vec<u32>>>()?;
    let before = ids.iter().map(|id| usage::CpuTime::of(*id)).collect::<Result<Vec<_>>>()?;
    let load = |subject: &Subject| {
        let target = subject.target().clone();
        tokio::spawn(async move { load::run(&target, connections, time).await })
    };
    let loads: Vec<_> = subjects.iter().map(load).collect();
    let mut outcomes = Vec::new();
    for load in loads {
        outcomes.push(load.await??);
    }
    let round = |((id, before), outcome): ((&u32, &usage::CpuTime), &load::Outcome)| {
        Ok(Round::new(usage::CpuTime::of(*id)?.since(before), outcome, usage::resident(*id)?))
    };
    ids.iter().zip(&before).zip(&outcomes).map(round).collect()
}
