//! `portico token`: make, list and revoke tokens of the admin API.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use super::client::Client;
use super::{Exit, Failure, Target, encoded, given_token, text, write_table};

/// Make, list and revoke tokens of the admin API, each with a role
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// Which gateway, and how the answer is shown.
    #[command(flatten)]
    pub target: Target,
    /// What to do.
    #[command(subcommand)]
    pub command: TokenCommand,
}

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, this once
    Create {
        /// What to call it
        #[arg(long)]
        name: String,
        /// super-admin, org-admin, member or auditor
        #[arg(long)]
        role: String,
        /// The org that it is for, slug or id; none for super-admins
        #[arg(long)]
        org: Option<String>,
        /// When it ends, for example 2030-01-31T12:00:00Z
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
    },
    /// List tokens, oldest first
    List {
        /// Only those for this org: slug or id
        #[arg(long)]
        org: Option<String>,
    },
    /// Revoke a token, effective at once
    Revoke {
        /// The id of the token (tok_…)
        id: String,
    },
}

/// Runs the command and tells how it ended, on the standard streams.
pub fn run(args: &TokenArgs) -> Exit {
    run_with(args, given_token(), &mut io::stdout().lock(), &mut io::stderr().lock())
}

pub(super) fn run_with(args: &TokenArgs, token: Option<String>, out: &mut dyn Write, errors: &mut dyn Write) -> Exit {
    let target = &args.target;
    let outcome = target.client(token).and_then(|client| match &args.command {
        TokenCommand::Create { name, role, org, expires_at } => {
            let given = [("name", Some(name)), ("role", Some(role)), ("org", org.as_ref())];
            let given = given.into_iter().chain([("expires_at", expires_at.as_ref())]);
            let given = given.filter_map(|(field, value)| Some((field.to_owned(), value?.as_str().into())));
            create(&client, given.collect(), target.json, out)
        }
        TokenCommand::List { org } => list(&client, org.as_deref(), target.json, out),
        TokenCommand::Revoke { id } => revoke(&client, id, target.json, out),
    });
    target.tell(outcome, errors)
}

fn create(client: &Client, body: Map<String, Value>, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let token = client.call(Method::POST, "/v1/tokens", Some(&body.into()))?;
    if json {
        writeln!(out, "{token}")?;
        return Ok(());
    }
    let place = token["org"]["slug"].as_str().map_or("all orgs".to_owned(), |slug| format!("the org {slug}"));
    writeln!(out, "Made {}: {} of {place}.\n", text(&token["id"]), text(&token["role"]))?;
    writeln!(out, "  {}\n", text(&token["secret"]))?;
    writeln!(out, "Keep it now: it is not shown again.")?;
    Ok(())
}

fn list(client: &Client, org: Option<&str>, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let org = org.map(|org| format!("?org={}", encoded(org))).unwrap_or_default();
    let tokens = client.all(&format!("/v1/tokens{org}"), "tokens", None)?;
    if json {
        writeln!(out, "{}", json!({ "tokens": tokens }))?;
        return Ok(());
    }
    let head = ["ID", "NAME", "ROLE", "ORG", "STATUS", "EXPIRES", "LAST USED"].map(str::to_owned);
    let row = |token: &Value| {
        let org = &token["org"]["slug"];
        let cells = ["id", "name", "role"].map(|member| &token[member]).into_iter().chain([org]);
        let cells = cells.chain(["status", "expires_at", "last_used_at"].map(|member| &token[member]));
        let cells: Vec<String> = cells.map(text).collect();
        std::array::from_fn(|at| cells[at].clone())
    };
    write_table(&[head].into_iter().chain(tokens.iter().map(row)).collect::<Vec<_>>(), out)?;
    Ok(())
}

fn revoke(client: &Client, id: &str, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let token = client.call(Method::DELETE, &format!("/v1/tokens/{}", encoded(id)), None)?;
    if json {
        writeln!(out, "{token}")?;
    } else {
        let (id, name) = (text(&token["id"]), text(&token["name"]));
        writeln!(out, "Revoked {id} ({name}) at {}.", text(&token["revoked_at"]))?;
    }
    Ok(())
}
