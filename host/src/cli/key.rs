//! `portico key`: issue, list, show and revoke keys.

use std::io::{self, Write};

use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde_json::{Map, Value, json};

use super::client::Client;
use super::{Exit, Failure, Target, encoded, given_token, text, write_table};

const PAGE: usize = 200;

/// Issue, list, show and revoke keys of a running gateway
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
    /// Revoke a key, effective at once
    Revoke {
        /// The id of the key (key_…)
        id: String,
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
    /// A scope that it has; several with commas or by repeating
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',', required_unless_present = "all_scopes")]
    scopes: Vec<String>,
    /// Every scope that is configured now
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

fn run_with(args: &KeyArgs, token: Option<String>, out: &mut dyn Write, errors: &mut dyn Write) -> Exit {
    let target = &args.target;
    let outcome = target.client(token).and_then(|client| match &args.command {
        KeyCommand::Issue(order) => issue(&client, order, target.json, out),
        KeyCommand::List { org, limit } => list(&client, org.as_deref(), *limit, target.json, out),
        KeyCommand::Show { id } => show(&client, id, target.json, out),
        KeyCommand::Revoke { id } => revoke(&client, id, target.json, out),
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
    let limit = limit.unwrap_or(usize::MAX);
    let org = org.map(|org| format!("&org={}", encoded(org))).unwrap_or_default();
    let (mut keys, mut cursor) = (Vec::new(), String::new());
    while keys.len() < limit {
        let page = (limit - keys.len()).min(PAGE);
        let mut answer = client.call(Method::GET, &format!("/v1/keys?limit={page}{org}{cursor}"), None)?;
        if let Value::Array(found) = answer["keys"].take() {
            keys.extend(found);
        }
        match answer["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={}", encoded(next)),
            None => break,
        }
    }
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
        ["revoked".to_owned(), text(&key["revoked_at"])],
    ];
    write_table(&rows, out)?;
    Ok(())
}

fn revoke(client: &Client, id: &str, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let key = client.call(Method::DELETE, &format!("/v1/keys/{}", encoded(id)), None)?;
    if json {
        writeln!(out, "{key}")?;
    } else {
        let (id, name) = (text(&key["id"]), text(&key["name"]));
        writeln!(out, "Revoked {id} ({name}) at {}.", text(&key["revoked_at"]))?;
    }
    Ok(())
}

fn words(value: &Value) -> String {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}

fn masked(key: &Value) -> String {
    format!("{}…{}", text(&key["prefix"]), text(&key["last_four"]))
}

#[cfg(test)]
mod tests;
