//! The one command: everything built, two demo pillars and the gateway running, and three requests to try.
//!
//! What it started it also stops: at Ctrl-C, when any part of it ends by itself, and after a check.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::child::Child;
use crate::interrupt::Interrupted;
use crate::pillar::{self, Name};
use crate::repository::Repository;
use crate::section::{Section, in_words};
use crate::{build, components, http, port};

mod trial;

const CONFIG: &str = "config/gateway.toml";
/// How long a gateway may take until it is ready: it compiles the components the first time.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long it may drain before it is killed; its own limit may be longer, but here somebody waits for the prompt.
const STOPPED_WITHIN: Duration = Duration::from_secs(5);
/// How long a checked request may take; a busy machine is no reason to fail.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// The addresses that the configuration names, so that both sides agree.
struct Addresses {
    public: SocketAddr,
    admin: SocketAddr,
    connect: SocketAddr,
    knowledge: SocketAddr,
}

/// Builds, starts, prints, and waits for the end. Or checks: sends what it would print, and ends.
pub fn run(repository: &Repository, check: bool) -> Result<()> {
    build::prerequisites()?;
    let addresses = Addresses::read(&repository.join(CONFIG))?;
    // Before the long build, so that a newcomer learns of it now; and again just before the start, by the listeners.
    addresses.check_free()?;
    components::plugins(repository)?;
    let binary = build::gateway(repository)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(start_and_watch(repository, &binary, &addresses, check))
}

async fn start_and_watch(repository: &Repository, binary: &Path, addresses: &Addresses, check: bool) -> Result<()> {
    addresses.check_free()?;
    let mut interrupted = Interrupted::listen()?;
    let started = Instant::now();
    let section = Section::open("two demo pillars and the gateway");
    let mut pillars = JoinSet::new();
    pillars.spawn(pillar::serve(Name::Connect, addresses.connect, addresses.public));
    pillars.spawn(pillar::serve(Name::Knowledge, addresses.knowledge, addresses.public));

    let mut command = gateway(repository, binary, &["serve"]);
    command.stdin(std::process::Stdio::null());
    let mut gateway = Child::start("the gateway", command)?;
    let checked = check.then_some(started);
    let ended = tokio::select! {
        ended = watch(repository, binary, addresses, &mut gateway, section, checked) => ended,
        Some(pillar) = pillars.join_next() => pillar.context("a demo pillar panicked").flatten(),
        () = interrupted.wait() => {
            eprintln!("\nstopping; open requests have {} s, Ctrl-C again ends them at once", STOPPED_WITHIN.as_secs());
            if check { Err(anyhow!("the check was interrupted")) } else { Ok(()) }
        }
    };
    // A second Ctrl-C does not wait for open requests.
    tokio::select! {
        () = gateway.stop(STOPPED_WITHIN) => {}
        () = interrupted.wait() => {}
    }
    gateway.stop(Duration::ZERO).await;
    ended?;
    // Killed or failing at its end is no good end of a check.
    if check {
        let status = gateway.ended().await?;
        if !status.success() {
            bail!("the gateway did not stop in order ({status})");
        }
    }
    Ok(())
}

/// Waits until the gateway is ready, prints what to try, and then waits for the gateway's end, which is an error. A check,
/// which tells the times since the start, is done when all of it was tried.
async fn watch(
    repository: &Repository,
    binary: &Path,
    addresses: &Addresses,
    gateway: &mut Child,
    section: Section,
    checked: Option<Instant>,
) -> Result<()> {
    tokio::select! {
        ready = ready(addresses.public, READY_WITHIN) => ready?,
        status = gateway.ended() => bail!("the gateway ended before it was ready ({}); its reason is above", status?),
    }
    section.close();
    let key = issue_key(repository, binary).await?;
    if let Some(started) = checked {
        return tokio::select! {
            tried = try_all(addresses.public, &key, started, |line| println!("{line}")) => tried,
            status = gateway.ended() => bail!("the gateway ended while it was asked ({}); its reason is above", status?),
        };
    }
    print!("{}", welcome(addresses, &key));
    let status = gateway.ended().await?;
    bail!("the gateway ended ({status}); its reason is above")
}

/// Sends what [`welcome`] prints, and says of each that it works, and how long it took from the start until then.
async fn try_all(public: SocketAddr, key: &str, started: Instant, mut say: impl FnMut(String)) -> Result<()> {
    for trial in trial::all(public, key) {
        trial.ask(ANSWERED_WITHIN).await?;
        say(format!("200 after {}: {trial}", in_words(started.elapsed())));
    }
    say(format!("up after {}", in_words(started.elapsed())));
    Ok(())
}

/// Waits until the gateway says that it is ready.
pub async fn ready(public: SocketAddr, within: Duration) -> Result<()> {
    let deadline = Instant::now() + within;
    loop {
        let last = match http::get(public, "/readyz", Duration::from_secs(2)).await {
            Ok((200, _)) => return Ok(()),
            Ok((status, _)) => format!("/readyz answers {status}"),
            Err(error) => format!("{error:#}"),
        };
        if Instant::now() >= deadline {
            bail!("the gateway was not ready within {} s: {last}", within.as_secs());
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// A new key with every scope, by the command that an operator would use.
async fn issue_key(repository: &Repository, binary: &Path) -> Result<String> {
    let mut command = gateway(repository, binary, &["key", "issue"]);
    command.args(["--name", "demo", "--all-scopes", "--json"]);
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true).stderr(std::process::Stdio::inherit());
    let output = command.output().await.context("`portico key issue` could not be started")?;
    if !output.status.success() {
        bail!("`portico key issue` failed ({}); its reason is above", output.status);
    }
    secret(&output.stdout)
}

/// The secret in what `portico key issue --json` prints.
pub fn secret(printed: &[u8]) -> Result<String> {
    let printed: Value = serde_json::from_slice(printed).context("`portico key issue --json` did not print JSON")?;
    printed["secret"].as_str().map(str::to_owned).ok_or_else(|| anyhow!("`portico key issue --json` printed no secret"))
}

/// `portico <subcommand> --config config/gateway.toml`.
fn gateway(repository: &Repository, binary: &Path, subcommand: &[&str]) -> Command {
    let mut command = Command::new(binary);
    command.current_dir(repository.root()).args(subcommand).args(["--config", CONFIG]);
    command
}

fn welcome(addresses: &Addresses, key: &str) -> String {
    let Addresses { public, admin, .. } = addresses;
    let [rooms, events, certificate] = trial::all(*public, key).map(|trial| trial.line());
    format!(
        "
The gateway is up.

  gateway   http://{public}
  admin     http://{admin}
  key       {key}   (every scope; shown this once)

Try:

  {rooms}
  {events}
  {certificate}

Edit {CONFIG} and save: it applies at once. Ctrl-C stops everything.
"
    )
}

impl Addresses {
    fn read(path: &PathBuf) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("{CONFIG} is not readable"))?;
        Self::parse(&text)
    }

    /// Reads only what is needed to find free ports and print lines; the gateway itself validates the file.
    fn parse(text: &str) -> Result<Self> {
        let table: toml::Table = text.parse().with_context(|| format!("{CONFIG} is not TOML"))?;
        let listen = |section: &str, default: u16| -> Result<SocketAddr> {
            match table.get(section).and_then(|section| section.get("listen")).and_then(|listen| listen.as_str()) {
                Some(listen) => {
                    listen.parse().with_context(|| format!("{section}.listen in {CONFIG} is not an address"))
                }
                None => Ok(SocketAddr::from(([127, 0, 0, 1], default))),
            }
        };
        let endpoint = |name: Name| {
            let upstream = table.get("upstreams").and_then(|upstreams| upstreams.get(name.as_str()));
            let endpoint = upstream.and_then(|upstream| upstream.get("endpoints")?.get(0)?.as_str());
            endpoint.and_then(|url| url.strip_prefix("http://")?.parse().ok()).unwrap_or(name.address())
        };
        Ok(Self {
            public: listen("gateway", 9099)?,
            admin: listen("admin", 9100)?,
            connect: endpoint(Name::Connect),
            knowledge: endpoint(Name::Knowledge),
        })
    }

    fn check_free(&self) -> Result<()> {
        let places = [
            (self.public, "`gateway.listen`"),
            (self.admin, "`admin.listen`"),
            (self.connect, "`upstreams.connect.endpoints`"),
            (self.knowledge, "`upstreams.knowledge.endpoints`"),
        ];
        for (address, place) in places {
            port::check_free(address, &format!("{place} in {CONFIG}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
