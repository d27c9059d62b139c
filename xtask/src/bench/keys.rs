//! What forged keys cost those who have one, and how soon a key that was revoked is refused, while many ask.
//!
//! The forged ones are new with each request and look as a key imported from elsewhere may, so that each costs all that a wrong
//! key can: its shape is right. Nothing limits failed logins here; as shipped, an address gets few. They are paced, so that it is the
//! gateway that is busy and not the load generator. That they are no worse than as many callers with a key has a bound; how both
//! compare with an honest caller alone is told, and is on two CPUs mostly what any traffic does to the load generator.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::load::{self, Target};
use super::must::Musts;
use super::report::median;
use super::subject::{self, Subject};

/// Turns of each kind.
const TURNS: usize = 7;
/// Requests of the honest caller in a turn, one after another on one connection.
const CALM: usize = 1_000;
/// Connections beside it, and how long each pauses between two requests.
const STORM: u64 = 32;
const PAUSE: Duration = Duration::from_millis(4);
/// Until what runs beside shows.
const SHOWS: Duration = Duration::from_millis(200);
/// Keys that are revoked, one after another, and connections that use each.
const REVOKED: usize = 7;
const USERS: u64 = 64;
const MOST_RATIO: f64 = 1.5;
const MOST_SECONDS: f64 = 1.0;
/// All of it together.
const MOST_TIME: Duration = Duration::from_secs(120);

/// Who asks beside the honest caller.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nobody,
    WithTheKey,
    WithForgedKeys,
}

/// What came of all of it.
pub struct Outcome {
    /// The honest caller's p99 in milliseconds: alone, beside callers with its key, beside forged keys.
    p99: [f64; 3],
    /// Requests with the key and with forged ones, in all turns.
    calls: [u64; 2],
    /// Seconds from before a revocation was asked for until the last request began that was still served, at the longest.
    served: f64,
}

/// Asks from the CPU for load; `config` is the gateway's file, for the command that issues and revokes.
pub async fn measure(gateway: &Subject, binary: &Path, config: &Path) -> Result<Outcome> {
    let (honest, command) = (gateway.target().clone(), Portico { binary: binary.into(), config: config.into() });
    let measured = async {
        let mut p99: [Vec<f64>; 3] = Default::default();
        let mut calls = [0; 2];
        for _ in 0..TURNS {
            for (kind, beside) in [Beside::Nobody, Beside::WithTheKey, Beside::WithForgedKeys].into_iter().enumerate() {
                let (figure, count) = turn(&honest, beside).await?;
                p99[kind].push(figure);
                if let Some(sum) = kind.checked_sub(1) {
                    calls[sum] += count;
                }
            }
        }
        let mut served = 0.0_f64;
        for _ in 0..REVOKED {
            served = served.max(revoked(&honest, &command).await?.as_secs_f64());
        }
        Ok(Outcome { p99: p99.map(|turns| median(turns.into_iter())), calls, served })
    };
    let measured = tokio::time::timeout(MOST_TIME, measured).await;
    measured.with_context(|| format!("keys were not measured within {} s", MOST_TIME.as_secs()))?
}

/// The honest caller's p99 in milliseconds, and how often the others asked.
async fn turn(honest: &Target, beside: Beside) -> Result<(f64, u64)> {
    let (done, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let storm = (beside != Beside::Nobody).then(|| {
        let (target, done, count) = (honest.clone(), done.clone(), count.clone());
        let expected = if beside == Beside::WithForgedKeys { 401 } else { 200 };
        load::apart_behind(async move || {
            let ask = move |caller| {
                let (target, done, count) = (target.clone(), done.clone(), count.clone());
                async move {
                    let mut connection = Connection::open(&target).await?;
                    while !done.load(Ordering::Relaxed) {
                        let number = count.fetch_add(1, Ordering::Relaxed);
                        let forged = (expected == 401).then(|| forged(&target, caller, number)).transpose()?;
                        let status = connection.ask(forged.as_ref().unwrap_or(&target)).await?;
                        if status != expected {
                            bail!("a request beside the honest ones was answered with {status} and not {expected}");
                        }
                        // Of no two the same, so that they do not march in step.
                        tokio::time::sleep(PAUSE.mul_f64((number * 37 % 100) as f64 / 50.0)).await;
                    }
                    Ok(())
                }
            };
            all(STORM, ask).await
        })
    });
    let honest = honest.clone();
    let calm = load::apart(async move || {
        tokio::time::sleep(SHOWS).await;
        let figure = p99(&honest).await;
        done.store(true, Ordering::Relaxed);
        figure
    });
    let figure = match storm {
        None => calm.await??,
        Some(storm) => {
            let (figure, storm) = tokio::join!(calm, storm);
            storm??;
            figure??
        }
    };
    Ok((figure, count.load(Ordering::Relaxed)))
}

async fn p99(honest: &Target) -> Result<f64> {
    let mut connection = Connection::open(honest).await?;
    let mut took = Vec::with_capacity(CALM);
    for _ in 0..CALM {
        let begin = Instant::now();
        match connection.ask(honest).await? {
            200 => took.push(begin.elapsed()),
            status => bail!("the honest caller was answered with {status}"),
        }
    }
    took.sort_unstable();
    Ok(took[CALM * 99 / 100].as_secs_f64() * 1e3)
}

/// One key, used by many at once until it is refused: how long after its revocation was asked for the last request began that was
/// served.
async fn revoked(honest: &Target, command: &Portico) -> Result<Duration> {
    let issued = command.run(&["key", "issue", "--name", "doomed", "--all-scopes", "--json"]).await?;
    let text =
        |field: &str| issued[field].as_str().map(str::to_owned).context("`portico key issue --json` left a field out");
    let (id, target) = (text("id")?, subject::target(honest.address, &text("secret")?));
    let begun = Instant::now();
    let last = Arc::new(AtomicU64::new(0));
    let latest = last.clone();
    let users = load::apart_behind(async move || {
        let ask = move |_| {
            let (target, last) = (target.clone(), latest.clone());
            async move {
                let mut connection = Connection::open(&target).await?;
                loop {
                    let at = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                    match connection.ask(&target).await? {
                        200 => drop(last.fetch_max(at, Ordering::Relaxed)),
                        401 => return Ok(()),
                        status => bail!("a key that is revoked was answered with {status}"),
                    }
                }
            }
        };
        all(USERS, ask).await
    });
    let revoke = async {
        tokio::time::sleep(SHOWS).await;
        let asked = begun.elapsed();
        command.run(&["key", "revoke", &id, "--json"]).await?;
        Ok::<_, anyhow::Error>(asked)
    };
    // Where it could not be revoked, the users would go on.
    let (asked, ()) = tokio::try_join!(revoke, async { users.await? })?;
    let last = Duration::from_micros(last.load(Ordering::Relaxed));
    if last.is_zero() {
        bail!("a key that was not revoked yet was served to nobody");
    }
    Ok(last.saturating_sub(asked))
}

/// So many at once, each with its number, until all have ended or one fails.
async fn all<F: Future<Output = Result<()>> + Send + 'static>(count: u64, ask: impl Fn(u64) -> F) -> Result<()> {
    let mut running: JoinSet<_> = (0..count).map(ask).collect();
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(())
}

/// The same request with a key that nobody has, another for each number.
fn forged(target: &Target, caller: u64, number: u64) -> Result<Target> {
    let request = std::str::from_utf8(&target.request).context("the request is not text")?;
    let (before, rest) = request.split_once("Bearer ").context("the request has no key")?;
    let (_, after) = rest.split_once("\r\n").context("the request does not end")?;
    let request = format!("{before}Bearer sk_live_{caller:020}{number:020}\r\n{after}");
    Ok(Target { address: target.address, request: request.into_bytes() })
}

/// One connection that is kept.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(target: &Target) -> Result<Self> {
        let stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 * 1024) })
    }

    async fn ask(&mut self, target: &Target) -> Result<u16> {
        self.stream.write_all(&target.request).await?;
        load::status(&mut self.stream, &mut self.buffer).await
    }
}

/// The gateway's own command line.
struct Portico {
    binary: Box<Path>,
    config: Box<Path>,
}

impl Portico {
    async fn run(&self, arguments: &[&str]) -> Result<Value> {
        let mut command = Command::new(&*self.binary);
        command.args(arguments).arg("--config").arg(&*self.config);
        let ran = tokio::task::spawn_blocking(move || command.output()).await??;
        if !ran.status.success() {
            bail!("`portico {}` failed: {}", arguments[..2].join(" "), String::from_utf8_lossy(&ran.stderr).trim());
        }
        serde_json::from_slice(&ran.stdout)
            .with_context(|| format!("`portico {}` printed no JSON", arguments[..2].join(" ")))
    }
}

/// The figures with their bounds.
pub fn table(outcome: &Outcome, musts: &mut Musts) -> String {
    let [alone, with_key, with_forged] = outcome.p99;
    let ratio =
        musts.at_most("honest p99 beside forged keys, to as many with a key", with_forged / with_key, MOST_RATIO, 2);
    let served = musts.at_most("seconds that a revoked key was served", outcome.served, MOST_SECONDS, 3);
    let mut text = format!("\n{:56} {:>10} {:>12}\n", "an honest caller", "p99 ms", "calls beside");
    writeln!(text, "{:56} {alone:>10.3} {:>12}", "alone", 0).ok();
    writeln!(text, "{:56} {with_key:>10.3} {:>12}", format!("beside {STORM} that use a key"), outcome.calls[0]).ok();
    writeln!(
        text,
        "{:56} {with_forged:>10.3} {:>12}",
        format!("beside {STORM} that use forged keys"),
        outcome.calls[1]
    )
    .ok();
    writeln!(text, "{:56} {ratio}", "beside forged keys, to as many with a key").ok();
    let to_alone = [with_key / alone, with_forged / alone];
    writeln!(text, "{:56} {:.2}; {:.2}", "both to alone", to_alone[0], to_alone[1]).ok();
    writeln!(text, "{:56} {served} s", format!("a revoked key in {USERS} hands, served at the longest")).ok();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forged_keys_differ_and_stand_where_the_key_stood() {
        let target = subject::target("127.0.0.1:1".parse().unwrap(), "sk_live_true");
        let [one, other] = [1, 2].map(|number| forged(&target, 7, number).unwrap().request);
        assert_ne!(one, other);
        let text = String::from_utf8(one).unwrap();
        assert!(
            text.ends_with("\r\nauthorization: Bearer sk_live_0000000000000000000700000000000000000001\r\n\r\n"),
            "{text}"
        );
    }

    #[test]
    fn each_bound_can_be_missed() {
        let outcome = |with_forged, served| Outcome { p99: [0.1, 1.0, with_forged], calls: [1, 1], served };
        for (outcome, missed) in [(outcome(1.5, 1.0), 0), (outcome(1.6, 0.1), 1), (outcome(1.6, 1.1), 2)] {
            let mut musts = Musts::default();
            let table = table(&outcome, &mut musts);
            assert_eq!(table.matches("MISSED").count(), missed, "{table}");
            assert_eq!(musts.held().is_err(), missed > 0);
        }
    }
}
