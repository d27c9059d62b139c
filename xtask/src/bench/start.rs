//! How long it takes from starting the program to the first request that went through four policies, with their code cached.
//!
//! As after an update: on data that is there, and on one CPU. What is measured is all that a client would notice: attempts to
//! connect begin with the process.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::load;
use super::must::Musts;
use super::report::median;
use super::subject::Subject;
use super::usage;
use crate::child::Child;

/// Beside the three shipped policies of the other gateways.
const FOURTH: &str = "
[policies.canary]
instance = \"pooled\"
grant = { powers = [\"forward\", \"rewrite-path\"] }
config = { upstreams = [{ name = \"origin\", weight = 1 }] }
";

/// Starts, of which the median counts.
const STARTS: usize = 15;
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(1);
/// One start, and one end.
const PATIENCE: Duration = Duration::from_secs(30);
const MOST: Duration = Duration::from_millis(150);

/// Its configuration, with places to fill in.
pub fn config() -> String {
    let pillar = "chain = [\"rate-limit\", \"key-auth\", \"gas\", \"canary\"]\nassertion = false";
    include_str!("gateway.toml").replace("{pillar}", pillar) + FOURTH
}

/// Starts the gateway again and again on the data of one that has served; that one is stopped for it.
pub async fn measure(gateway: &mut Subject, binary: &Path, directory: &Path) -> Result<Vec<Duration>> {
    // What it wants is there, its code is in the cache, and its key is known.
    let target = gateway.target().clone();
    let (status, _) = load::once(&target).await?;
    if status != 200 {
        bail!("{} answers {status}", gateway.name);
    }
    gateway.stop().await;
    let mut took = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let mut serve = Command::new(binary);
        let log = std::fs::File::create(directory.join("log"))?;
        serve.arg("serve").arg("--config").arg(directory.join("gateway.toml")).stdin(Stdio::null());
        serve.stderr(log.try_clone()?).stdout(log);
        let begin = Instant::now();
        let mut process = usage::on_cpu(usage::GATEWAY_CPU, || Child::start("portico, started again", serve))??;
        let answered = async {
            loop {
                match load::once(&target).await {
                    Ok((200, _)) => return Ok(()),
                    Ok((status, _)) => bail!("its first answer was {status}"),
                    // Nobody listens yet.
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        };
        tokio::select! {
            answered = tokio::time::timeout(PATIENCE, answered) => answered.context("no answer after a start")??,
            status = process.ended() => bail!("it ended before it answered ({}): {}", status?, directory.join("log").display()),
        }
        took.push(begin.elapsed());
        process.stop(PATIENCE).await;
    }
    Ok(took)
}

/// One line, with what the figure must be.
pub fn line(took: &[Duration], musts: &mut Musts) -> String {
    let millis = || took.iter().map(|time| time.as_secs_f64() * 1e3);
    let (least, most) = (millis().fold(f64::INFINITY, f64::min), millis().fold(0.0, f64::max));
    let middle = musts.at_most("start to first request, ms", median(millis()), MOST.as_secs_f64() * 1e3, 0);
    format!(
        "\nstart to first request, four policies from the cache, ms: {middle}, {least:.0} to {most:.0} in {} starts\n",
        took.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_median_that_must_hold() {
        let at = |millis: [u64; 3]| millis.map(Duration::from_millis);
        let mut musts = Musts::default();
        let told = line(&at([150, 90, 900]), &mut musts);
        assert!(told.contains("150 (must ≤ 150), 90 to 900 in 3 starts"), "{told}");
        assert!(musts.held().is_ok());
        let mut musts = Musts::default();
        line(&at([151, 152, 90]), &mut musts);
        let error = musts.held().expect_err("missed").to_string();
        assert!(error.contains("start to first request, ms: 151, must ≤ 150"), "{error}");
    }
}
