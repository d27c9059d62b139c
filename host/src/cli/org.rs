//! `portico org`: make, list, show, rename, export and erase orgs.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use super::client::Client;
use super::{Exit, Failure, Target, encoded, given_token, text, write_table};

/// Make, list, show, rename, export and erase orgs of a running gateway
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
    /// Erase an org: its names, keys, tokens, webhooks and requests, and what the audit log holds of it; for good
    Erase {
        /// Its slug or id
        org: String,
        /// Do not ask for its slug first
        #[arg(long)]
        yes: bool,
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

/// Between two questions whether an org is erased.
const AGAIN: Duration = Duration::from_millis(500);

/// Runs the command and tells how it ended, on the standard streams.
pub fn run(args: &OrgArgs) -> Exit {
    run_with(args, given_token(), &mut io::stdout().lock(), &mut io::stderr())
}

pub(super) fn run_with(args: &OrgArgs, token: Option<String>, out: &mut dyn Write, errors: &mut dyn Write) -> Exit {
    let target = &args.target;
    let outcome = target.client(token).and_then(|client| match &args.command {
        OrgCommand::Erase { org, yes } => erase(&client, org, *yes, target.json, out, errors),
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

/// Has an org erased, once whoever asks has said so twice, and waits until it is.
fn erase(
    client: &Client,
    org: &str,
    yes: bool,
    json: bool,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<(), Failure> {
    let found = client.call(Method::GET, &place(org), None)?;
    let (id, slug) = (text(&found["id"]), text(&found["slug"]));
    // One whose end has begun was confirmed then.
    if !yes && found["status"] == "active" {
        confirm(&id, &slug, errors)?;
    }
    let erased = loop {
        let answer = client.call(Method::POST, &format!("{}/erase", place(&id)), Some(&json!({ "confirm": id })))?;
        if answer["status"] != "erasing" {
            break answer;
        }
        std::thread::sleep(AGAIN);
    };
    if json {
        writeln!(out, "{erased}")?;
        return Ok(());
    }
    let count = |member: &str| erased["erased"][member].to_string();
    let stays = &erased["stays"];
    writeln!(out, "The org {id} is erased since {}, and its id is never used again.", text(&erased["erased_at"]))?;
    writeln!(
        out,
        "Gone: its names, {} keys, {} tokens, {} webhooks, {} events, {} requests, {} answers that were kept for an Idempotency-Key, and the names and addresses of {} audit entries.",
        count("keys"),
        count("tokens"),
        count("webhooks"),
        count("events"),
        count("requests"),
        count("repeats"),
        count("audit_values")
    )?;
    writeln!(out, "Stays: usage as sums by ids, and {} audit entries without them.", stays["audit_entries"])?;
    if let Some(entries) = stays["audit_entries_with_names"].as_u64().filter(|entries| *entries > 0) {
        writeln!(out, "{entries} of these were written by an earlier version, and have names that cannot be erased.")?;
    }
    writeln!(out, "Not reached:")?;
    for place in erased["not_reached"].as_array().into_iter().flatten() {
        writeln!(out, "  {}", text(place))?;
    }
    Ok(())
}

/// Asks whoever sits there for the org's slug.
fn confirm(id: &str, slug: &str, errors: &mut dyn Write) -> Result<(), Failure> {
    let input = io::stdin();
    if !input.is_terminal() {
        return Err(Failure::Unconfirmed);
    }
    write!(errors, "This erases the org {id}, for good. Write its slug, {slug}, to go on: ")?;
    errors.flush()?;
    let mut line = String::new();
    input.lock().read_line(&mut line)?;
    if line.trim() == slug { Ok(()) } else { Err(Failure::Unconfirmed) }
}

fn write_rows<'a>(orgs: impl IntoIterator<Item = &'a Value>, out: &mut dyn Write) -> io::Result<()> {
    let head = ["ID", "SLUG", "NAME", "STATUS", "CREATED"].map(str::to_owned);
    let row = |org: &Value| [&org["id"], &org["slug"], &org["name"], &org["status"], &org["created_at"]].map(text);
    write_table(&[head].into_iter().chain(orgs.into_iter().map(row)).collect::<Vec<_>>(), out)
}
