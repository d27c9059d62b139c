//! What guests that mean harm cost: each kind alone, many at once, what calm requests beside them notice, and memory.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::task::JoinSet;

use super::load::{self, Target};
use super::must::Musts;
use super::report::median;
use super::subject::Subject;
use super::usage;

/// Its configuration, with places to fill in.
pub const CONFIG: &str = include_str!("hostile.toml");

/// What is measured: its name in the table, the pillar that meets it, and the guest's own word for it.
const KINDS: [(&str, &str, &str); 6] = [
    ("endless loop, out of fuel", "hostile", "loop"),
    ("endless loop, past deadline", "tireless", "loop"),
    ("trap", "hostile", "unreachable"),
    ("memory eater", "hostile", "eat-memory"),
    ("a million edits", "hostile", "million-edits"),
    ("a string of 100 MiB", "hostile", "huge-string"),
];

/// Requests one after another.
const SINGLE: usize = 20;
/// Hostile requests at once.
const STORM: usize = 64;
/// Calm requests beside them.
const CALM: usize = 16;

/// The deadline of a call, 20 ms, and 50 ms.
const MOST_ALONE: Duration = Duration::from_millis(70);
const MOST_STORM: Duration = Duration::from_secs(2);
/// Bytes that may be held after all storms beyond what was held before: what one instance may have.
const MOST_KEPT: u64 = 16 << 20;

/// What came of one kind of harm.
struct Row {
    name: &'static str,
    alone: Vec<Duration>,
    storm: Duration,
    /// Calm requests that got a 200.
    calm: usize,
}

/// What came of all of them.
pub struct Outcome {
    rows: Vec<Row>,
    /// Bytes of the gateway's memory before the first storm and after the last.
    resident: (u64, u64),
}

/// Sends everything from the CPU for load.
pub async fn measure(gateway: &Subject) -> Result<Outcome> {
    let address = gateway.target().address;
    let id = gateway.id()?;
    load::apart(async move || {
        // A gateway that does not answer is told now; and instances and connections are there.
        for pillar in ["hostile", "tireless", "calm"] {
            expect(200, load::once(&target(address, pillar, "none")).await?.0, pillar)?;
        }
        let before = usage::resident(id)?;
        let mut rows = Vec::new();
        for (name, pillar, behaviour) in KINDS {
            rows.push(row(name, &target(address, pillar, behaviour), &target(address, "calm", "none")).await?);
        }
        Ok(Outcome { rows, resident: (before, usage::resident(id)?) })
    })
    .await?
}

async fn row(name: &'static str, wild: &Target, calm: &Target) -> Result<Row> {
    let mut alone = Vec::with_capacity(SINGLE);
    for _ in 0..SINGLE {
        let (status, took) = load::once(wild).await?;
        expect(503, status, name)?;
        alone.push(took);
    }
    let begin = Instant::now();
    let mut storm = at_once(STORM, wild);
    let mut beside = at_once(CALM, calm);
    while let Some(answered) = storm.join_next().await {
        expect(503, answered??.0, name)?;
    }
    let took = begin.elapsed();
    let mut good = 0;
    while let Some(answered) = beside.join_next().await {
        good += usize::from(matches!(answered?, Ok((200, _))));
    }
    Ok(Row { name, alone, storm: took, calm: good })
}

fn at_once(count: usize, target: &Target) -> JoinSet<Result<(u16, Duration)>> {
    (0..count)
        .map(|_| {
            let target = target.clone();
            async move { load::once(&target).await }
        })
        .collect()
}

fn target(address: SocketAddr, pillar: &str, behaviour: &str) -> Target {
    let request = format!(
        "GET /v1/{pillar}/rooms HTTP/1.1\r\nhost: {address}\r\nx-behaviour: {behaviour}\r\nconnection: close\r\n\r\n"
    );
    Target { address, request: request.into_bytes() }
}

/// Another answer means that something else was measured.
fn expect(expected: u16, status: u16, name: &str) -> Result<()> {
    if status != expected {
        bail!("hostile guests, {name}: answered with {status} instead of {expected}");
    }
    Ok(())
}

/// The table, with what each figure must be; what is beyond that goes to `musts`.
pub fn table(outcome: &Outcome, musts: &mut Musts) -> String {
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let heads = ["alone, ms", "alone, max ms", "64 at once, ms", "calm beside with 200"];
    let mut text =
        format!("\n{:28} {:>10} {:>24} {:>24} {:>24}\n", "hostile guest", heads[0], heads[1], heads[2], heads[3]);
    for row in &outcome.rows {
        let most = row.alone.iter().copied().max().unwrap_or_default();
        let middle = median(row.alone.iter().copied().map(millis));
        let most = musts.at_most(&format!("{}: alone, max ms", row.name), millis(most), millis(MOST_ALONE), 1);
        let storm =
            musts.at_most(&format!("{}: {STORM} at once, ms", row.name), millis(row.storm), millis(MOST_STORM), 0);
        let calm = musts.exactly(&format!("{}: calm requests with 200", row.name), row.calm, CALM);
        writeln!(text, "{:28} {middle:>10.1} {most:>24} {storm:>24} {calm:>24}", row.name).ok();
    }
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let (before, after) = outcome.resident;
    let most = mebibytes(before + MOST_KEPT);
    let after = musts.at_most("resident MiB after all storms", mebibytes(after), most, 1);
    writeln!(text, "\nresident MiB: {:.1} before the first storm, {after} after the last", mebibytes(before)).ok();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(alone: u64, storm: u64, calm: usize, after: u64) -> Outcome {
        let alone = vec![Duration::from_millis(1), Duration::from_millis(alone)];
        let row = Row { name: "trap", alone, storm: Duration::from_millis(storm), calm };
        Outcome { rows: vec![row], resident: (30 << 20, after << 20) }
    }

    #[test]
    fn what_is_within_its_bounds_is_not_missed() {
        let mut musts = Musts::default();
        let table = table(&outcome(70, 2000, CALM, 46), &mut musts);
        assert!(musts.held().is_ok(), "{table}");
        for shown in ["70.0 (must ≤ 70.0)", "2000 (must ≤ 2000)", "16 (must = 16)", "46.0 (must ≤ 46.0)"] {
            assert!(table.contains(shown), "wanted {shown}: {table}");
        }
    }

    #[test]
    fn each_figure_can_be_missed() {
        for (outcome, told) in [
            (outcome(71, 9, CALM, 30), "trap: alone, max ms: 71.0, must ≤ 70.0"),
            (outcome(9, 2001, CALM, 30), "trap: 64 at once, ms: 2001, must ≤ 2000"),
            (outcome(9, 9, CALM - 1, 30), "trap: calm requests with 200: 15, must = 16"),
            (outcome(9, 9, CALM, 47), "resident MiB after all storms: 47.0, must ≤ 46.0"),
        ] {
            let mut musts = Musts::default();
            table(&outcome, &mut musts);
            let error = musts.held().expect_err(told).to_string();
            assert!(error.contains(told) && error.starts_with("1 figure"), "{error}");
        }
    }
}
