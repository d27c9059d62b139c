//! `portico audit`: read the audit log, and verify that it is whole.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::{Exit, Failure, Target, encoded, given_token, text, words, write_table};

/// Read the audit log of a running gateway, and verify that it is whole
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Which gateway, and how the answer is shown.
    #[command(flatten)]
    pub target: Target,
    /// What to do.
    #[command(subcommand)]
    pub command: AuditCommand,
}

/// What can be done with the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List changes, newest first
    List(List),
    /// Look at every entry; exit code 1 where one is not as it was written
    Verify,
}

/// Which changes.
#[derive(Debug, Args)]
pub struct List {
    /// Not before this time, for example 2030-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// By this one: the id of a token or a key, or super_admin, token, key, gateway
    #[arg(long)]
    actor: Option<String>,
    /// With this action, such as key.rotated, or all of a kind, such as key
    #[arg(long)]
    action: Option<String>,
    /// On this: an id, or the name of a policy
    #[arg(long)]
    object: Option<String>,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: usize,
}

/// Runs the command and tells how it ended, on the standard streams.
pub fn run(args: &AuditArgs) -> Exit {
    run_with(args, given_token(), &mut io::stdout().lock(), &mut io::stderr().lock())
}

pub(super) fn run_with(args: &AuditArgs, token: Option<String>, out: &mut dyn Write, errors: &mut dyn Write) -> Exit {
    let target = &args.target;
    let outcome = target.client(token).and_then(|client| match &args.command {
        AuditCommand::List(wanted) => list(&client, wanted, target.json, out),
        AuditCommand::Verify => verify(&client, target.json, out),
    });
    target.tell(outcome, errors)
}

fn list(client: &Client, wanted: &List, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let given = [
        ("since", &wanted.since),
        ("until", &wanted.until),
        ("actor", &wanted.actor),
        ("action", &wanted.action),
        ("object", &wanted.object),
    ];
    let given = given.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded(value.as_ref()?))));
    let query = given.collect::<Vec<_>>().join("&");
    let entries = client.all(&format!("/v1/audit?{query}"), "entries", Some(wanted.limit))?;
    if json {
        writeln!(out, "{}", json!({ "entries": entries }))?;
        return Ok(());
    }
    let head = ["SEQUENCE", "AT", "ACTOR", "ACTION", "ON"].map(str::to_owned);
    let row = |entry: &Value| {
        let actor = entry["actor"]["id"].as_str().map_or_else(|| text(&entry["actor"]["kind"]), str::to_owned);
        let cell = |member: &str| text(&entry[member]);
        [entry["sequence"].to_string(), cell("at"), actor, cell("action"), super::on_one_line(&words(&entry["on"]))]
    };
    write_table(&[head].into_iter().chain(entries.iter().map(row)).collect::<Vec<_>>(), out)?;
    Ok(())
}

fn verify(client: &Client, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let verdict = client.call(Method::GET, "/v1/audit/verify", None)?;
    if json {
        writeln!(out, "{verdict}")?;
    }
    if verdict["whole"] != true {
        return Err(match verdict["broken_at"].as_u64() {
            Some(sequence) => Failure::Broken { sequence, detail: text(&verdict["detail"]) },
            None => Failure::NotWhole,
        });
    }
    if !json {
        match &verdict["head"] {
            // To whoever is confined to an org no more is told.
            Value::Null => writeln!(out, "The audit log is whole.")?,
            head => {
                let (entries, hash) = (&head["sequence"], text(&head["hash"]));
                writeln!(out, "The audit log is whole: {entries} entries, the last with {hash}.")?;
            }
        }
    }
    Ok(())
}
