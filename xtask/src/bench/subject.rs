//! The gateways that are measured: each a process of its own, with its own configuration and data in one temporary directory.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::load::Target;
use super::usage;
use crate::child::Child;
use crate::{http, port, up};

/// The subject beside which the others are measured.
pub const BASE: &str = "portico, no policies";

/// The subject whose ratio has a bound.
pub const THREE_POLICIES: &str = "portico, three policies";

/// What it serves in front of the origin: a public rule without a chain is the gateway itself and nothing else.
const VARIANTS: [(&str, &str); 3] = [
    (BASE, "chain = []\nassertion = false\nroutes = [{ path = \"/rooms\", auth = \"none\" }]"),
    (THREE_POLICIES, THREE),
    ("portico, three + assertion", "chain = [\"rate-limit\", \"key-auth\", \"gas\"]\nassertion = true"),
];

const THREE: &str = "chain = [\"rate-limit\", \"key-auth\", \"gas\"]\nassertion = false";

/// The configuration of [`THREE_POLICIES`].
pub fn three_policies() -> String {
    include_str!("gateway.toml").replace("{pillar}", THREE)
}

/// One measured gateway.
pub struct Subject {
    /// As in the table.
    pub name: &'static str,
    process: Child,
    target: Target,
}

impl Subject {
    /// What the load asks it.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Its process id.
    pub fn id(&self) -> Result<u32> {
        self.process.id().with_context(|| format!("{} has ended; its reason is above", self.name))
    }

    /// Stops it.
    pub async fn stop(&mut self) {
        self.process.stop(Duration::from_secs(5)).await;
    }
}

/// Starts all of them into `subjects`, so that the caller can stop what stands when a later one fails.
pub async fn start_all(
    subjects: &mut Vec<Subject>,
    binary: &Path,
    plugins: &Path,
    directory: &Path,
    origin: SocketAddr,
) -> Result<()> {
    if let Some(nginx) = on_path("nginx") {
        subjects.push(nginx_pass(&nginx, &directory.join("nginx"), origin).await?);
    } else {
        eprintln!("nginx is not on the PATH, so it is left out; on Debian: `apt-get install nginx-light`");
    }
    for (number, (name, pillar)) in VARIANTS.into_iter().enumerate() {
        let directory = directory.join(format!("portico-{number}"));
        let config = include_str!("gateway.toml").replace("{pillar}", pillar);
        subjects.push(portico(name, &config, binary, plugins, &directory, origin).await?);
    }
    Ok(())
}

/// Starts a gateway on this configuration, with its places filled in.
pub async fn portico(
    name: &'static str,
    config: &str,
    binary: &Path,
    plugins: &Path,
    directory: &Path,
    origin: SocketAddr,
) -> Result<Subject> {
    let [public, admin] = port::free()?;
    fs::create_dir_all(directory)?;
    let text = config
        .replace("{public}", &public.to_string())
        .replace("{admin}", &admin.to_string())
        .replace("{plugins}", &plugins.display().to_string())
        .replace("{origin}", &origin.to_string());
    let config = directory.join("gateway.toml");
    fs::write(&config, text)?;
    let command = |arguments: &[&str]| {
        let mut command = Command::new(binary);
        command.args(arguments).arg("--config").arg(&config).stdin(Stdio::null());
        command
    };
    let log = fs::File::create(directory.join("log"))?;
    let mut serve = command(&["serve"]);
    serve.stderr(log.try_clone()?).stdout(log);
    let mut process = usage::on_cpu(usage::GATEWAY_CPU, || Child::start(name, serve))??;
    tokio::select! {
        ready = up::ready(public, Duration::from_secs(60)) => ready?,
        status = process.ended() => bail!("{name} ended before it was ready ({}): {}", status?, last_lines(directory)),
    }
    let issued = command(&["key", "issue", "--name", "bench", "--all-scopes", "--json"]).output()?;
    if !issued.status.success() {
        bail!("`portico key issue` failed: {}", String::from_utf8_lossy(&issued.stderr).trim());
    }
    let key = up::secret(&issued.stdout)?;
    Ok(Subject { name, process, target: target(public, &key) })
}

async fn nginx_pass(nginx: &Path, directory: &Path, origin: SocketAddr) -> Result<Subject> {
    let [listen] = port::free()?;
    fs::create_dir_all(directory)?;
    let config = directory.join("nginx.conf");
    let text = include_str!("nginx.conf")
        .replace("{directory}", &directory.display().to_string())
        .replace("{listen}", &listen.to_string())
        .replace("{origin}", &origin.to_string());
    fs::write(&config, text)?;
    let mut command = Command::new(nginx);
    let log = fs::File::create(directory.join("log"))?;
    command.arg("-p").arg(directory).arg("-c").arg(&config).stdin(Stdio::null());
    command.stdout(log.try_clone()?).stderr(log);
    let mut process = usage::on_cpu(usage::GATEWAY_CPU, || Child::start("nginx", command))??;
    for _ in 0..100 {
        if matches!(http::get(listen, "/v1/bench/rooms", Duration::from_secs(1)).await, Ok((200, _))) {
            // As long as a key of ours, so that both read as many bytes.
            let key = format!("sk_live_{}", "0".repeat(49));
            return Ok(Subject { name: "nginx, pass-through", process, target: target(listen, &key) });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    process.stop(Duration::ZERO).await;
    bail!("nginx does not pass requests through: {}", last_lines(directory))
}

/// What is asked with this key.
pub fn target(address: SocketAddr, key: &str) -> Target {
    let request = format!("GET /v1/bench/rooms HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\n\r\n");
    Target { address, request: request.into_bytes() }
}

fn last_lines(directory: &Path) -> String {
    let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
}

fn on_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}
