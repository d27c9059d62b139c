//! What calm requests notice of guests that wait, loop in WASI, or ask elsewhere: their p99 beside such a guest, and without.
//!
//! With bounds and quarantine as they are by default, and for each kind of guest by a caller of its own, so that what one did is
//! not held against the next. Calm and beside are measured in short turns, one after the other, and compared by the medians of
//! their turns: a machine that gets slower or quicker meanwhile does so for both. The storm is paced, so that it is the gateway
//! that is busy and not the load generator; and it comes from a thread that gives way to the one of the calm requests, so that
//! these do not wait for the generator's own work. The first rows have no bound: they tell how much of the others is the
//! traffic itself.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::task::JoinSet;

use super::load::{self, Target};
use super::must::Musts;
use super::subject::Subject;

/// Its configuration, with places to fill in.
pub const CONFIG: &str = include_str!("neighbours.toml");

/// What is measured: its name in the table, the pillar that meets it, the guest's own word for it, and how many calls at least.
const KINDS: [(&str, &str, &str, usize); 11] = [
    ("no policy (to compare)", "calm", "-", 0),
    ("no harm (to compare)", "waits", "nothing", 0),
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

/// Of the kinds, those that only show what traffic alone does.
const COMPARED: usize = 2;

/// Callers at once, and how long each pauses between two calls: from half of it to half as much again, so that they do not
/// march in step.
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
                    number: u64::from(number),
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
#[derive(Clone)]
struct Storm {
    /// From which its pauses follow.
    number: u64,
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
    let done = Arc::new(AtomicBool::new(false));
    let (storm, ended) = (storm.clone(), done.clone());
    let storm = load::apart_behind(async move || rage(&storm, &ended).await);
    let calm = async {
        tokio::time::sleep(SHOWS).await;
        let figure = p99(calm, CALM).await;
        done.store(true, Ordering::Relaxed);
        figure
    };
    let (sum, figure) = tokio::join!(storm, calm);
    Ok((figure?, sum??))
}

/// All callers, until it is done.
async fn rage(storm: &Storm, done: &Arc<AtomicBool>) -> Result<Sum> {
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (storm, done) = (storm.clone(), done.clone());
        callers.spawn(async move {
            let (mut sum, mut pauses) = (Sum::default(), Pauses::new(storm.number, caller));
            tokio::time::sleep(pauses.next()).await;
            while !done.load(Ordering::Relaxed) || sum.calls * CALLERS + caller < storm.least {
                let (status, _) = load::once_from(storm.caller, &storm.target).await?;
                sum.calls += 1;
                sum.refused += usize::from(status == 503);
                tokio::time::sleep(pauses.next()).await;
            }
            Ok::<_, anyhow::Error>(sum)
        });
    }
    let mut sum = Sum::default();
    while let Some(ended) = callers.join_next().await {
        let more = ended??;
        sum.calls += more.calls;
        sum.refused += more.refused;
    }
    Ok(sum)
}

/// The pauses of one caller: the same in each run, and of no two callers the same.
struct Pauses(u64);

impl Pauses {
    fn new(storm: u64, caller: usize) -> Self {
        Self(storm << 32 | caller as u64)
    }

    fn next(&mut self) -> Duration {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        PAUSE / 2 + PAUSE.mul_f64(((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64)
    }
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
        let ratio = match KINDS[..COMPARED].iter().any(|kind| kind.0 == row.name) {
            true => format!("{:.2}", beside / alone),
            false => musts.at_most(&format!("{}: neighbours' p99", row.name), beside / alone, MOST_RATIO, 2),
        };
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
    fn pauses_are_spread_and_make_as_many_calls_as_equal_ones() {
        let pauses: Vec<_> = (0..CALLERS)
            .flat_map(|caller| {
                let mut pauses = Pauses::new(1, caller);
                (0..100).map(move |_| pauses.next()).collect::<Vec<_>>()
            })
            .collect();
        assert!(pauses.iter().all(|pause| (PAUSE / 2..PAUSE * 3 / 2).contains(pause)));
        let mean = pauses.iter().sum::<Duration>() / u32::try_from(pauses.len()).unwrap();
        assert!(mean.abs_diff(PAUSE) < PAUSE / 20, "{mean:?}");
        assert_ne!(Pauses::new(1, 0).next(), Pauses::new(1, 1).next());
        assert_ne!(Pauses::new(1, 0).next(), Pauses::new(2, 0).next());
    }

    #[test]
    fn what_only_compares_cannot_be_missed() {
        let (alone, beside) = (Duration::from_millis(1), Duration::from_millis(9));
        let rows = KINDS.map(|(name, ..)| Row { name, alone, beside, calls: 9, refused: 0 });
        let mut musts = Musts::default();
        assert!(table(&rows[..COMPARED], &mut musts).contains(" 9.00 "));
        assert!(musts.held().is_ok());
        for row in &rows[COMPARED..] {
            let mut musts = Musts::default();
            table(std::slice::from_ref(row), &mut musts);
            assert!(musts.held().is_err(), "{}", row.name);
        }
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
