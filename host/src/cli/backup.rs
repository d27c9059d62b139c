//! `portico backup` and `portico restore`: takes a backup of a running gateway, checks one, puts one back.
//!
//! A backup has its name only once it is on the disk and was read back as a whole. Restoring asks no gateway.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use http::Method;
use serde_json::json;

use super::client::Client;
use super::{Exit, Failure, Target, given_token};
use crate::backup::{self, RestoreError, Signet, Summary};
use crate::clock::Clock;
use crate::config;
use crate::seal::MasterKey;

/// Between two words on how far it is.
const TELL: Duration = Duration::from_secs(1);

/// Take a backup of a running gateway: all of its state at one moment
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Which gateway, and how the answer is shown.
    #[command(flatten)]
    pub target: Target,
    /// The file that is made; or a directory, for a file in it that is named by the time
    #[arg(value_name = "FILE|DIR")]
    to: PathBuf,
}

/// Check a backup, or put it back into a data directory of its own
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["verify", "into"])))]
pub struct RestoreArgs {
    /// The backup
    file: PathBuf,
    /// Only check that it is whole; writes nothing
    #[arg(long)]
    verify: bool,
    /// The data directory to be: not there, or empty
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Also check that it was taken under the master key of this configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Takes a backup and tells how that ended, on the standard streams.
pub fn run(args: &BackupArgs) -> Exit {
    let (out, errors) = (&mut io::stdout().lock(), &mut io::stderr());
    let progress = errors.is_terminal();
    let outcome = args.target.client(given_token()).and_then(|client| take(&client, args, progress, out, errors));
    args.target.tell(outcome, errors)
}

fn take(
    client: &Client,
    args: &BackupArgs,
    progress: bool,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<(), Failure> {
    let to = place(&args.to);
    if fs::symlink_metadata(&to).is_ok() {
        return Err(Failure::Taken { path: to });
    }
    let fresh = beside(&to);
    let summary = fetch(client, &fresh, progress, errors).and_then(|()| {
        // What is on the disk counts, not what was sent.
        let summary = backup::verify(&fresh, None).map_err(Failure::NotTaken)?;
        named(&fresh, &to)?;
        Ok(summary)
    });
    let summary = summary.inspect_err(|_| drop(fs::remove_file(&fresh)))?;
    match args.target.json {
        true => writeln!(out, "{}", with_file(&summary, &to))?,
        false => writeln!(out, "{}: the state at {}, {}.", to.display(), summary.at, counted(&summary))?,
    }
    Ok(())
}

/// Writes what the gateway sends into a file of mode 0600, durable when it returns.
fn fetch(client: &Client, fresh: &Path, progress: bool, errors: &mut dyn Write) -> Result<(), Failure> {
    let unwritable = |source| Failure::Unwritable { path: fresh.to_owned(), source };
    // Left behind by one that was killed.
    match fs::remove_file(fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unwritable(error)),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(fresh).map_err(unwritable)?;
    let mut file = BufWriter::with_capacity(1 << 20, file);
    let (mut bytes, mut told) = (0_u64, Instant::now());
    let sent = client.stream(Method::POST, "/v1/backup", |piece| {
        file.write_all(piece)?;
        bytes += piece.len() as u64;
        if progress && told.elapsed() >= TELL {
            told = Instant::now();
            // Whoever looks at it has lost nothing where it cannot be shown.
            let _ = write!(errors, "\r{} MiB", bytes >> 20).and_then(|()| errors.flush());
        }
        io::Result::Ok(())
    });
    if progress {
        let _ = writeln!(errors, "\r{} MiB", bytes >> 20);
    }
    sent?.map_err(unwritable)?;
    file.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all()).map_err(unwritable)
}

/// Gives a file its name, durably.
fn named(fresh: &Path, to: &Path) -> Result<(), Failure> {
    let above = to.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let settled = fs::rename(fresh, to).and_then(|()| File::open(above)?.sync_all());
    settled.map_err(|source| Failure::Unwritable { path: to.to_owned(), source })
}

/// The file that is meant: in a directory it is named by the time.
fn place(to: &Path) -> PathBuf {
    if !to.is_dir() {
        return to.to_owned();
    }
    let now: String = Clock::system().now().to_string().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    to.join(format!("portico-{now}.backup"))
}

fn beside(to: &Path) -> PathBuf {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    to.with_file_name(name)
}

/// Checks a backup or puts it back, and tells how that ended, on the standard streams.
pub fn restore(args: &RestoreArgs) -> Exit {
    let (out, errors) = (&mut io::stdout().lock(), &mut io::stderr());
    let outcome = put(args, out);
    let target = Target { config: PathBuf::new(), admin: None, token_file: None, json: args.json };
    target.tell(outcome, errors)
}

fn put(args: &RestoreArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let signet = args.config.as_deref().map(signet).transpose()?;
    let summary = match &args.into {
        Some(into) => backup::restore(&args.file, into, signet.as_ref()),
        None => backup::verify(&args.file, signet.as_ref()),
    };
    let summary = summary.map_err(|error: RestoreError| Failure::Backup(error))?;
    if args.json {
        writeln!(out, "{}", with_file(&summary, &args.file))?;
        return Ok(());
    }
    let under = match summary.signed {
        Some(_) => ", taken under this master key",
        None => "; whether it was taken under your master key, --config would tell",
    };
    match &args.into {
        Some(into) => writeln!(
            out,
            "{} holds the state at {}, {}{under}. Start a gateway on it with the same master key.",
            into.display(),
            summary.at,
            counted(&summary)
        )?,
        None => writeln!(out, "The backup is whole: the state at {}, {}{under}.", summary.at, counted(&summary))?,
    }
    Ok(())
}

fn signet(path: &Path) -> Result<Signet, Failure> {
    let config = config::load(path).map_err(|problems| Failure::Config(problems.to_string()))?;
    Ok(Signet::new(&MasterKey::read(&config.secrets.master_key, false)?.derive(backup::PURPOSE)))
}

fn counted(summary: &Summary) -> String {
    let Summary { bytes, rows, records, components, .. } = summary;
    format!("{rows} rows, {records} records of the journal, {components} components in {bytes} bytes")
}

fn with_file(summary: &Summary, file: &Path) -> serde_json::Value {
    json!({ "file": file.display().to_string(), "backup": summary })
}
