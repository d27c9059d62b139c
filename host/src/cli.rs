//! The commands that talk to a running gateway: where it is, with what token, and how an end is told.
//!
//! Opens no data directory: that belongs to the gateway. What a command does is in the file of its noun.

pub mod audit;
pub mod backup;
pub mod check;
mod client;
pub mod compile;
pub mod completions;
pub mod config;
pub mod journal;
pub mod key;
pub mod limit;
pub mod org;
pub mod plugin;
pub mod requests;
pub mod serve;
pub mod token;
pub mod usage;
pub mod webhook;

use std::error::Error;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;
use zeroize::Zeroizing;

use self::client::{CallError, Client};
use crate::config as configuration;
use crate::org::{TOKEN_FILE, TOKEN_VARIABLE};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: it did what it should.
    Done,
    /// 1: the gateway refused, or could not be asked.
    Refused,
    /// 2: it was called wrongly, or its configuration or token makes no sense.
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Refused => Self::from(1),
            Exit::Usage => Self::from(2),
        }
    }
}

/// Which gateway is meant, and how the answer is shown: the same for all commands.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// The gateway's configuration; says where its admin listener and its data are
    #[arg(long, global = true, value_name = "FILE", default_value = "config/gateway.toml")]
    pub config: PathBuf,
    /// The address of the admin listener, instead of the configured one
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub admin: Option<SocketAddr>,
    /// File with the admin token, instead of PORTICO_ADMIN_TOKEN or the data directory's `admin-token`
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration makes no sense; its own report.
    #[error("{0}")]
    Config(String),
    /// The token's file cannot be read.
    #[error(
        "cannot read the admin token from {path}; start the gateway once, or give --token-file or {TOKEN_VARIABLE}"
    )]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What should be a token is none.
    #[error("the admin token from {place} is empty or has other characters than visible ones; put the right one there")]
    TokenForm {
        /// Where it came from.
        place: String,
    },
    /// The gateway refused, or could not be asked.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The audit log is not the one that was written.
    #[error(
        "the audit log is broken at entry {sequence}: {detail}; restore the data directory from a backup, and find out who wrote to it"
    )]
    Broken {
        /// The first entry that does not fit.
        sequence: u64,
        /// What is wrong there.
        detail: String,
    },
    /// The same, as whoever is confined to an org is told.
    #[error("the audit log is broken; whoever runs the gateway sees where")]
    NotWhole,
    /// A file that is to be read cannot be.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file was read, and not all of it can be used.
    #[error("nothing was imported, because of {} in {path}:\n  {}", counted(problems.len()), problems.join("\n  "))]
    Lines {
        /// The file.
        path: PathBuf,
        /// Each thing that is wrong, with its line.
        problems: Vec<String>,
    },
    /// The gateway refused, or could not be asked, in the middle of a file.
    #[error(
        "the first {imported} keys are imported and the rest is not; once that is mended, run it again with --skip-duplicates"
    )]
    Halfway {
        /// How many were imported before.
        imported: usize,
        /// Why it ended.
        source: CallError,
    },
    /// A file cannot be written.
    #[error("cannot write {path}; choose another place, or make room")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is there already.
    #[error("{path} is there already; choose another name, or a directory")]
    Taken {
        /// The file.
        path: PathBuf,
    },
    /// What came is no whole backup.
    #[error("the backup is not whole, and was removed; the log of the gateway says why: {0}")]
    NotTaken(#[source] crate::backup::RestoreError),
    /// What came of an org has no end.
    #[error("the export ended early, and is not all of it; the log of the gateway says why")]
    NotExported,
    /// Nobody said that the org that was named is meant.
    #[error("nothing is erased: say --yes, or write the org's slug where it is asked for")]
    Unconfirmed,
    /// A backup cannot be used.
    #[error(transparent)]
    Backup(#[from] crate::backup::RestoreError),
    /// The master key cannot be had.
    #[error(transparent)]
    MasterKey(#[from] crate::seal::Error),
    /// The answer cannot be printed.
    #[error("cannot print the answer")]
    Print(#[from] io::Error),
}

impl Failure {
    fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::Token { .. } | Self::TokenForm { .. } | Self::MasterKey(_) => Exit::Usage,
            Self::File { .. } | Self::Unconfirmed => Exit::Usage,
            Self::Unwritable { .. } | Self::Taken { .. } | Self::NotTaken(_) | Self::Backup(_) | Self::NotExported => {
                Exit::Refused
            }
            Self::Call(_) | Self::Print(_) | Self::Broken { .. } | Self::NotWhole => Exit::Refused,
            Self::Lines { .. } | Self::Halfway { .. } => Exit::Refused,
        }
    }
}

impl Target {
    /// A client for the gateway that is meant. `given` is the token of the environment, if there is one.
    fn client(&self, given: Option<String>) -> Result<Client, Failure> {
        // Read only where it is asked for something: the file of a gateway elsewhere is not here.
        let config = || configuration::load(&self.config).map_err(|problems| Failure::Config(problems.to_string()));
        let listen = match self.admin {
            Some(address) => address,
            None => config()?.admin.listen,
        };
        let token = match (&self.token_file, given) {
            (Some(path), _) => read_token(path)?,
            (None, Some(token)) => checked(Zeroizing::new(token), TOKEN_VARIABLE.to_owned())?,
            (None, None) => read_token(&config()?.data.directory.join(TOKEN_FILE))?,
        };
        Ok(Client::new(reachable(listen), token))
    }

    /// Tells how a command ended: failures to `errors`, as JSON where that was asked for and there is some.
    fn tell(&self, outcome: Result<(), Failure>, errors: &mut dyn Write) -> Exit {
        let failure = match outcome {
            // Whoever closed the output, as `head` does, has seen what he wanted.
            Ok(()) => return Exit::Done,
            Err(Failure::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Exit::Done,
            Err(failure) => failure,
        };
        let exit = failure.exit();
        // When not even the error can be printed, the exit code still says it.
        let _ = match &failure {
            Failure::Call(CallError::Refused(refused)) if self.json => writeln!(errors, "{}", refused.document),
            failure => writeln!(errors, "portico: {}", Chain(failure)),
        };
        exit
    }
}

/// The token that the environment gives.
fn given_token() -> Option<String> {
    std::env::var(TOKEN_VARIABLE).ok()
}

fn read_token(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = fs::read_to_string(path).map_err(|source| Failure::Token { path: path.to_owned(), source })?;
    checked(Zeroizing::new(text), path.display().to_string())
}

/// What is sent in a field must be visible characters; a file may end its line.
fn checked(text: Zeroizing<String>, place: String) -> Result<Zeroizing<String>, Failure> {
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::TokenForm { place });
    }
    Ok(Zeroizing::new(token.to_owned()))
}

/// A listener on all addresses is reached on the loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// A string for people, on one line; a dash for what is not there.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| "-".to_owned(), on_one_line)
}

/// Without control characters: what a component wrote of itself must not steer the terminal.
fn on_one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Percent-encodes whatever is not unreserved (RFC 3986, section 2.3).
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn counted(problems: usize) -> String {
    if problems == 1 { "a problem".to_owned() } else { format!("{problems} problems") }
}

fn words(value: &Value) -> String {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}

/// Columns as wide as their widest cell, two spaces between.
fn aligned<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect::<Vec<_>>();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn write_table<const N: usize>(rows: &[[String; N]], out: &mut dyn Write) -> io::Result<()> {
    aligned(rows).iter().try_for_each(|line| writeln!(out, "{line}"))
}

/// An error with its causes, one after the other.
struct Chain<'a>(&'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
