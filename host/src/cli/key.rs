//! `portico key`: issue, list, show, rotate, scope, revoke and import keys; and their pepper.

mod import;
mod life;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde_json::{Map, Value, json};

use super::client::Client;
use super::{Exit, Failure, Target, encoded, given_token, text, words, write_table};

/// Issue, list, show, rotate, scope, revoke and import keys of a running gateway
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// Which gateway, and how the answer is shown.
    #[command(flatten)]
    pub target: Target,
    /// What to do.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key and print its secret, this once
    Issue(Issue),
    /// List keys, oldest first
    List {
        /// Only keys of this org: slug or id
        #[arg(long)]
        org: Option<String>,
        /// At most so many
        #[arg(long, value_name = "NUMBER")]
        limit: Option<usize>,
    },
    /// Show one key
    Show {
        /// The id of the key (key_…)
        id: String,
    },
    /// Give a key another secret and print it, this once; the present one works on for a while
    Rotate {
        /// The id of the key (key_…)
        id: String,
        /// How many seconds the present secret works on, 0 to 2592000, never beyond the end of the key
        #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
        overlap: u64,
        /// Also while a secret from an earlier rotation still works; that one ends at once
        #[arg(long)]
        force: bool,
    },
    /// Give a key another set of scopes
    Scope {
        /// The id of the key (key_…)
        id: String,
        /// A scope that it has from now on; several with commas or by repeating
        #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',', required_unless_present = "all_scopes")]
        scopes: Vec<String>,
        /// Every scope of a pillar that is configured now
        #[arg(long, conflicts_with = "scopes")]
        all_scopes: bool,
    },
    /// Revoke a key, effective at once
    Revoke {
        /// The id of the key (key_…)
        id: String,
    },
    /// Bring in keys that were made elsewhere, with their secrets
    Import {
        /// A file with one JSON object a line: secret, name, scopes or all_scopes, and if need be org, expires_at, networks
        file: PathBuf,
        /// Pass over secrets that are there already
        #[arg(long)]
        skip_duplicates: bool,
    },
    /// Show how many secrets that work need each version of the pepper
    Peppers,
    /// Make a new pepper: new secrets take it at once, others when they are next used
    RotatePepper,
    /// Forget a pepper that no secret needs which works
    RetirePepper {
        /// Its version
        version: u32,
    },
}

/// What the new key shall be.
#[derive(Debug, Args)]
pub struct Issue {
    /// What to call it
    #[arg(long)]
    name: String,
    /// Whose it is: slug or id [default: default]
    #[arg(long)]
    org: Option<String>,
    /// Real, or for trying out
    #[arg(long, value_enum, default_value = "live")]
    mode: ModeName,
    /// A scope that it has, of a pillar or for management; several with commas or by repeating
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',', required_unless_present = "all_scopes")]
    scopes: Vec<String>,
    /// Every scope of a pillar that is configured now
    #[arg(long, conflicts_with = "scopes")]
    all_scopes: bool,
    /// When it ends, for example 2030-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    /// A network that it may be used from; several with commas or by repeating
    #[arg(long = "network", value_name = "NETWORK", value_delimiter = ',')]
    networks: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ModeName {
    Live,
    Sandbox,
}

/// Runs the command and tells how it ended, on the standard streams.
pub fn run(args: &KeyArgs) -> Exit {
    run_with(args, given_token(), &mut io::stdout().lock(), &mut io::stderr().lock())
}

pub(super) fn run_with(args: &KeyArgs, token: Option<String>, out: &mut dyn Write, errors: &mut dyn Write) -> Exit {
    let target = &args.target;
    let outcome = target.client(token).and_then(|client| match &args.command {
        KeyCommand::Issue(order) => issue(&client, order, target.json, out),
        KeyCommand::List { org, limit } => list(&client, org.as_deref(), *limit, target.json, out),
        KeyCommand::Show { id } => show(&client, id, target.json, out),
        KeyCommand::Rotate { id, overlap, force } => life::rotate(&client, id, *overlap, *force, target.json, out),
        KeyCommand::Scope { id, scopes, all_scopes } => life::scope(&client, id, scopes, *all_scopes, target.json, out),
        KeyCommand::Revoke { id } => life::revoke(&client, id, target.json, out),
        KeyCommand::Import { file, skip_duplicates } => {
            import::import(&client, file, *skip_duplicates, target.json, out, errors)
        }
        KeyCommand::Peppers => life::peppers(&client, Method::GET, "/v1/peppers", target.json, out),
        KeyCommand::RotatePepper => life::peppers(&client, Method::POST, "/v1/peppers", target.json, out),
        KeyCommand::RetirePepper { version } => {
            life::peppers(&client, Method::DELETE, &format!("/v1/peppers/{version}"), target.json, out)
        }
    });
    target.tell(outcome, errors)
}

fn issue(client: &Client, order: &Issue, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let mut body = Map::new();
    body.insert("name".into(), order.name.as_str().into());
    let mode = match order.mode {
        ModeName::Live => "live",
        ModeName::Sandbox => "sandbox",
    };
    body.insert("mode".into(), mode.into());
    if order.all_scopes {
        body.insert("all_scopes".into(), true.into());
    } else {
        body.insert("scopes".into(), json!(order.scopes));
    }
    let optional = [("org", &order.org), ("expires_at", &order.expires_at)];
    for (field, value) in optional.into_iter().filter_map(|(field, value)| Some((field, value.as_ref()?))) {
        body.insert(field.into(), value.as_str().into());
    }
    if !order.networks.is_empty() {
        body.insert("networks".into(), json!(order.networks));
    }
    let key = client.call(Method::POST, "/v1/keys", Some(&body.into()))?;
    if json {
        writeln!(out, "{key}")?;
    } else {
        writeln!(out, "Issued {} for the org {}.\n", text(&key["id"]), text(&key["org"]["slug"]))?;
        writeln!(out, "  {}\n", text(&key["secret"]))?;
        writeln!(out, "Keep it now: it is not shown again. It may call: {}.", words(&key["scopes"]))?;
    }
    Ok(())
}

fn list(
    client: &Client,
    org: Option<&str>,
    limit: Option<usize>,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let org = org.map(|org| format!("?org={}", encoded(org))).unwrap_or_default();
    let keys = client.all(&format!("/v1/keys{org}"), "keys", limit)?;
    if json {
        writeln!(out, "{}", json!({"keys": keys}))?;
        return Ok(());
    }
    let head = ["ID", "NAME", "ORG", "KEY", "STATUS", "SCOPES", "LAST USED"].map(str::to_owned);
    let rows = keys.iter().map(|key| {
        [
            text(&key["id"]),
            text(&key["name"]),
            text(&key["org"]["slug"]),
            masked(key),
            text(&key["status"]),
            words(&key["scopes"]),
            text(&key["last_used_at"]),
        ]
    });
    write_table(&[head].into_iter().chain(rows).collect::<Vec<_>>(), out)?;
    Ok(())
}

fn show(client: &Client, id: &str, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let key = client.call(Method::GET, &format!("/v1/keys/{}", encoded(id)), None)?;
    if json {
        writeln!(out, "{key}")?;
        return Ok(());
    }
    let networks = Some(words(&key["networks"])).filter(|networks| !networks.is_empty());
    let rows = [
        ["id".to_owned(), text(&key["id"])],
        ["name".to_owned(), text(&key["name"])],
        ["org".to_owned(), text(&key["org"]["slug"])],
        ["key".to_owned(), masked(&key)],
        ["status".to_owned(), text(&key["status"])],
        ["scopes".to_owned(), words(&key["scopes"])],
        ["networks".to_owned(), networks.unwrap_or_else(|| "all".to_owned())],
        ["created".to_owned(), text(&key["created_at"])],
        ["expires".to_owned(), text(&key["expires_at"])],
        ["last used".to_owned(), text(&key["last_used_at"])],
        ["rotated".to_owned(), text(&key["rotated_at"])],
        ["old until".to_owned(), text(&key["previous_secret"]["ends_at"])],
        ["revoked".to_owned(), text(&key["revoked_at"])],
    ];
    write_table(&rows, out)?;
    Ok(())
}

fn masked(key: &Value) -> String {
    format!("{}…{}", text(&key["prefix"]), text(&key["last_four"]))
}

#[cfg(test)]
mod tests;
