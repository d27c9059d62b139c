//! What calm requests notice of guests that wait, loop in WASI, or ask elsewhere: their p99 beside such a guest, and without.
//!
//! With bounds and quarantine as they are by default, and for each kind of guest by a caller of its own, so that what one did is
//! not held against the next. Calm and beside are measured in short turns, one after the other, and compared by the medians of
//! their turns: a machine that gets slower or quicker meanwhile does so for both. The storm is paced, so that it is the gateway
//! that is busy and not the load generator, which calm requests come from too.

use std::cell::Cell;
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::rc::Rc;
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
/// Turns without the guest and as many beside it, for each kind.
const TURNS: usize = 5;
/// Calm requests, one after another, in each turn.
const CALM: usize = 400;
/// Until what a storm does shows.
const SHOWS: Duration = Duration::from_millis(300);
/// All of it together.
const MOST_TIME: Duration = Duration::from_secs(180);
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
        let measured = async {
            let calm = target(address, "calm", "-");
            let mut rows = Vec::new();
            for (number, (name, pillar, word, calls)) in (1..).zip(KINDS) {
                let storm = Storm {
                    caller: Ipv4Addr::new(127, 0, 1, number),
                    target: target(address, pillar, &word.replace("LATE", &late.to_string())),
                    least: calls / TURNS,
                };
                rows.push(row(name, &storm, &calm).await?);
            }
            Ok::<_, anyhow::Error>(rows)
        };
        let measured = tokio::time::timeout(MOST_TIME, measured).await;
        measured.with_context(|| format!("guests that wait were not measured within {} s", MOST_TIME.as_secs()))?
    });
    Ok(table(&rows.await??, musts))
}

/// One kind of guest, and who calls it.
struct Storm {
    caller: Ipv4Addr,
    target: Target,
    /// So many calls at least, in each turn.
    least: usize,
}

/// Calls that were made, and those among them that were refused.
#[derive(Default)]
struct Sum {
    calls: usize,
    refused: usize,
}

async fn row(name: &'static str, storm: &Storm, calm: &Target) -> Result<Row> {
    let (mut alone, mut beside, mut sum) = (Vec::new(), Vec::new(), Sum::default());
    for _ in 0..TURNS {
        alone.push(p99(calm, CALM).await?);
        let (figure, of_turn) = turn(storm, calm).await?;
        beside.push(figure);
        sum.calls += of_turn.calls;
        sum.refused += of_turn.refused;
    }
    Ok(Row { name, alone: middle(alone), beside: middle(beside), calls: sum.calls, refused: sum.refused })
}

/// One turn beside the storm; it has ended when this does.
async fn turn(storm: &Storm, calm: &Target) -> Result<(Duration, Sum)> {
    let done = Rc::new(Cell::new(false));
    let local = tokio::task::LocalSet::new();
    let turn = local.run_until(async {
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let (target, from, least, done) = (storm.target.clone(), storm.caller, storm.least, done.clone());
            callers.spawn_local(async move {
                let mut sum = Sum::default();
                while !done.get() || sum.calls * CALLERS + caller < least {
                    let (status, _) = load::once_from(from, &target).await?;
                    sum.calls += 1;
                    sum.refused += usize::from(status == 503);
                    tokio::time::sleep(PAUSE).await;
                }
                Ok::<_, anyhow::Error>(sum)
            });
        }
        tokio::time::sleep(SHOWS).await;
        let figure = p99(calm, CALM).await;
        done.set(true);
        let mut sum = Sum::default();
        while let Some(ended) = callers.join_next().await {
            let more = ended??;
            sum.calls += more.calls;
            sum.refused += more.refused;
        }
        Ok((figure?, sum))
    });
    turn.await
}

/// The one in the middle; there is an odd number of turns.
fn middle(mut figures: Vec<Duration>) -> Duration {
    figures.sort();
    figures[figures.len() / 2]
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
    fn one_slow_turn_of_several_moves_nothing() {
        let at = Duration::from_millis;
        assert_eq!(middle(vec![at(900), at(2), at(1), at(3), at(2)]), at(2));
        assert_eq!(TURNS % 2, 1);
    }

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
