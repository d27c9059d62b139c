//! What calm requests notice of guests that wait, loop in WASI, or ask elsewhere: their p99 beside such a guest, and without.
//!
//! With bounds and quarantine as they are by default. The storm is paced, so that it is the gateway that is busy and not the
//! load generator, which calm requests come from too.

use std::fmt::Write;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::task::JoinSet;

use super::load::{self, Target};
use super::must::Musts;
use super::subject::Subject;

/// Its configuration, with places to fill in.
pub const CONFIG: &str = include_str!("neighbours.toml");

/// What is measured: its name in the table, the pillar that meets it, the guest's own word for it, and how many calls at least.
const KINDS: [(&str, &str, &str, usize); 9] = [
    ("sleeps an hour in WASI", "waits", "sleep-an-hour", 0),
    ("loops", "waits", "loop", 0),
    ("naps for ever", "waits", "nap-forever", 0),
    ("polls what is always ready", "waits", "poll-forever", 0),
    ("opens a socket", "waits", "tcp", 0),
    ("reads environment and files", "waits", "environment", 0),
    ("fills its store", "keeps", "fill k 1000", 0),
    ("asks whom it may not", "asks", "GET http://127.0.0.1:1/ 0", 0),
    ("10,000 late answers", "asks", "GET http://LATE/ 0", 10_000),
];

/// Callers at once, and how long each pauses between two calls.
const CALLERS: usize = 32;
const PAUSE: Duration = Duration::from_millis(20);
/// Calm requests, one after another, for each figure.
const CALM: usize = 2_000;
const MOST_RATIO: f64 = 2.0;

struct Row {
    name: &'static str,
    alone: Duration,
    beside: Duration,
    calls: usize,
    refused: usize,
}

/// An address that takes connections and never answers.
pub fn late() -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port for what is late")?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Sends everything from the CPU for load, and prints what came of it.
pub async fn measure(gateway: &Subject, late: SocketAddr, musts: &mut Musts) -> Result<String> {
    let address = gateway.target().address;
    let rows = load::apart(async move || {
        let mut rows = Vec::new();
        for (name, pillar, word, calls) in KINDS {
            let wild = target(address, pillar, &word.replace("LATE", &late.to_string()));
            rows.push(row(name, wild, &target(address, "calm", "-"), calls).await?);
        }
        Ok::<_, anyhow::Error>(rows)
    });
    Ok(table(&rows.await??, musts))
}

async fn row(name: &'static str, wild: Target, calm: &Target, least: usize) -> Result<Row> {
    let alone = p99(calm, CALM).await?;
    let done = std::rc::Rc::new(std::cell::Cell::new(false));
    let local = tokio::task::LocalSet::new();
    let beside = local.run_until(async {
        let mut storm = JoinSet::new();
        for caller in 0..CALLERS {
            let (wild, done) = (wild.clone(), done.clone());
            storm.spawn_local(async move {
                let (mut calls, mut refused) = (0, 0);
                while !done.get() || calls * CALLERS + caller < least {
                    let (status, _) = load::once(&wild).await?;
                    calls += 1;
                    refused += usize::from(status == 503);
                    tokio::time::sleep(PAUSE).await;
                }
                Ok::<_, anyhow::Error>((calls, refused))
            });
        }
        // Until what it does shows.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let beside = p99(calm, CALM).await;
        done.set(true);
        let mut sum = (0, 0);
        while let Some(ended) = storm.join_next().await {
            let (calls, refused) = ended??;
            sum = (sum.0 + calls, sum.1 + refused);
        }
        Ok::<_, anyhow::Error>((beside?, sum))
    });
    let (beside, (calls, refused)) = beside.await?;
    Ok(Row { name, alone, beside, calls, refused })
}

async fn p99(calm: &Target, count: usize) -> Result<Duration> {
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        let (status, time) = load::once(calm).await?;
        if status != 200 {
            bail!("a calm request was answered with {status}");
        }
        took.push(time);
    }
    took.sort();
    Ok(took[count * 99 / 100])
}

fn target(address: SocketAddr, pillar: &str, word: &str) -> Target {
    let request = format!(
        "GET /v1/{pillar}/rooms HTTP/1.1\r\nhost: {address}\r\nx-behaviour: {word}\r\nx-ask: {word}\r\nconnection: close\r\n\r\n"
    );
    Target { address, request: request.into_bytes() }
}

fn table(rows: &[Row], musts: &mut Musts) -> String {
    let heads = ["calm alone, p99 ms", "beside, p99 ms", "ratio", "its calls", "of them 503"];
    let mut text = format!(
        "\n{:28} {:>20} {:>16} {:>22} {:>10} {:>12}\n",
        "guest that waits", heads[0], heads[1], heads[2], heads[3], heads[4]
    );
    for row in rows {
        let [alone, beside] = [row.alone, row.beside].map(|time| time.as_secs_f64() * 1e3);
        let ratio = musts.at_most(&format!("{}: neighbours' p99", row.name), beside / alone, MOST_RATIO, 2);
        let Row { name, calls, refused, .. } = row;
        writeln!(text, "{name:28} {alone:>20.2} {beside:>16.2} {ratio:>22} {calls:>10} {refused:>12}").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_can_be_missed() {
        let row = |beside| {
            let (alone, beside) = (Duration::from_millis(1), Duration::from_millis(beside));
            Row { name: "loops", alone, beside, calls: 9, refused: 3 }
        };
        let mut musts = Musts::default();
        assert!(table(&[row(2)], &mut musts).contains("2.00 (must ≤ 2.00)"));
        assert!(musts.held().is_ok());
        let mut musts = Musts::default();
        table(&[row(3)], &mut musts);
        let error = musts.held().expect_err("missed").to_string();
        assert!(error.contains("loops: neighbours' p99: 3.00, must ≤ 2.00"), "{error}");
    }
}
