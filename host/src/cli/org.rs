//! `portico org`: make, list, show and rename orgs.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use super::client::Client;
use super::{Exit, Failure, Target, encoded, given_token, text, write_table};

/// Make, list, show, rename and export orgs of a running gateway
#[derive(Debug, Args)]
pub struct OrgArgs {
    /// Which gateway, and how the answer is shown.
    #[command(flatten)]
    pub target: Target,
    /// What to do.
    #[command(subcommand)]
    pub command: OrgCommand,
}

/// What can be done with orgs.
#[derive(Debug, Subcommand)]
pub enum OrgCommand {
    /// Make an org
    Create {
        /// Its short name: lower-case letters, digits and hyphens
        slug: String,
        /// Its name for people [default: its slug]
        #[arg(long)]
        name: Option<String>,
    },
    /// List orgs, oldest first
    List,
    /// Show one org
    Show {
        /// Its slug or id
        org: String,
    },
    /// Print all that is kept of an org, as JSON lines
    Export {
        /// Its slug or id
        org: String,
    },
    /// Give an org another slug, another name, or both
    Rename {
        /// Its slug or id
        org: String,
        /// The new slug
        #[arg(long, required_unless_present = "name")]
        slug: Option<String>,
        /// The new name for people
        #[arg(long)]
        name: Option<String>,
    },
}

/// Runs the command and tells how it ended, on the standard streams.
pub fn run(args: &OrgArgs) -> Exit {
    run_with(args, given_token(), &mut io::stdout().lock(), &mut io::stderr().lock())
}

pub(super) fn run_with(args: &OrgArgs, token: Option<String>, out: &mut dyn Write, errors: &mut dyn Write) -> Exit {
    let target = &args.target;
    let outcome = target.client(token).and_then(|client| match &args.command {
        OrgCommand::Create { slug, name } => {
            one(&client, Method::POST, "/v1/orgs", named(Some(slug), name.as_ref()), target.json, out)
        }
        OrgCommand::List => list(&client, target.json, out),
        OrgCommand::Show { org } => one(&client, Method::GET, &place(org), None, target.json, out),
        OrgCommand::Export { org } => export(&client, org, out),
        OrgCommand::Rename { org, slug, name } => {
            one(&client, Method::PATCH, &place(org), named(slug.as_ref(), name.as_ref()), target.json, out)
        }
    });
    target.tell(outcome, errors)
}

fn place(org: &str) -> String {
    format!("/v1/orgs/{}", encoded(org))
}

fn named(slug: Option<&String>, name: Option<&String>) -> Option<Value> {
    let given = [("slug", slug), ("name", name)].into_iter();
    let given = given.filter_map(|(field, value)| Some((field.to_owned(), value?.as_str().into())));
    Some(given.collect::<Map<String, Value>>().into())
}

fn one(
    client: &Client,
    method: Method,
    path: &str,
    body: Option<Value>,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let org = client.call(method, path, body.as_ref())?;
    if json {
        writeln!(out, "{org}")?;
    } else {
        write_rows([&org], out)?;
    }
    Ok(())
}

fn list(client: &Client, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let orgs = client.all("/v1/orgs", "orgs", None)?;
    if json {
        writeln!(out, "{}", json!({ "orgs": orgs }))?;
    } else {
        write_rows(&orgs, out)?;
    }
    Ok(())
}

/// Passes on what comes, line by line; the last of a whole one says so.
fn export(client: &Client, org: &str, out: &mut dyn Write) -> Result<(), Failure> {
    const END: &[u8] = b"{\"kind\":\"end\"";
    let mut line = Vec::new();
    let mut last_begins = Vec::new();
    client.stream(Method::POST, &format!("{}/export", place(org)), |bytes| {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(part);
            if line.ends_with(b"\n") {
                out.write_all(&line)?;
                line.truncate(END.len());
                last_begins.clone_from(&line);
                line.clear();
            }
        }
        io::Result::Ok(())
    })??;
    out.flush()?;
    if last_begins == END { Ok(()) } else { Err(Failure::NotExported) }
}

fn write_rows<'a>(orgs: impl IntoIterator<Item = &'a Value>, out: &mut dyn Write) -> io::Result<()> {
    let head = ["ID", "SLUG", "NAME", "CREATED"].map(str::to_owned);
    let row = |org: &Value| [&org["id"], &org["slug"], &org["name"], &org["created_at"]].map(text);
    write_table(&[head].into_iter().chain(orgs.into_iter().map(row)).collect::<Vec<_>>(), out)
}
