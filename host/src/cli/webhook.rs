//! `portico webhook`: make, list, change, test and delete webhooks, and see what came of their messages.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use super::client::Client;
use super::{Exit, Failure, Target, encoded, given_token, text, words, write_table};

/// Make, list, change, test and delete webhooks, and see what came of their messages
#[derive(Debug, Args)]
pub struct WebhookArgs {
    /// Which gateway, and how the answer is shown.
    #[command(flatten)]
    pub target: Target,
    /// What to do.
    #[command(subcommand)]
    pub command: WebhookCommand,
}

/// What can be done with webhooks.
#[derive(Debug, Subcommand)]
pub enum WebhookCommand {
    /// Make a webhook and print its secret, this once
    Create {
        /// Where messages go: an https URL
        #[arg(long)]
        url: String,
        /// An event that it is told of, such as key.revoked; several with commas, or again
        #[arg(long = "event", required = true, value_delimiter = ',', value_name = "EVENT")]
        events: Vec<String>,
        /// The org that it is for, slug or id
        #[arg(long)]
        org: Option<String>,
    },
    /// List webhooks, oldest first
    List {
        /// Only those of this org: slug or id
        #[arg(long)]
        org: Option<String>,
    },
    /// Show one webhook
    Show {
        /// The id of the webhook (whk_…)
        id: String,
    },
    /// Change a webhook; what is not given stays
    Change {
        /// The id of the webhook (whk_…)
        id: String,
        /// Where messages go: an https URL
        #[arg(long)]
        url: Option<String>,
        /// An event that it is told of: the whole new set, with commas, or again
        #[arg(long = "event", value_delimiter = ',', value_name = "EVENT")]
        events: Vec<String>,
        /// Tell it of events again
        #[arg(long, conflicts_with = "disable")]
        enable: bool,
        /// Tell it of nothing, and forget what waits
        #[arg(long)]
        disable: bool,
    },
    /// Give a webhook another secret and print it, this once
    Rotate {
        /// The id of the webhook (whk_…)
        id: String,
        /// Seconds for which messages are signed with the present secret too
        #[arg(long, default_value_t = 86_400, value_name = "SECONDS")]
        overlap: u64,
        /// Also while the secret before the present one still signs
        #[arg(long)]
        force: bool,
    },
    /// Send a test to a webhook
    Test {
        /// The id of the webhook (whk_…)
        id: String,
    },
    /// Show the last attempts to deliver messages, latest first
    Deliveries {
        /// The id of the webhook (whk_…)
        id: String,
    },
    /// Delete a webhook, with what waits for it
    Delete {
        /// The id of the webhook (whk_…)
        id: String,
    },
}

/// Runs the command and tells how it ended, on the standard streams.
pub fn run(args: &WebhookArgs) -> Exit {
    run_with(args, given_token(), &mut io::stdout().lock(), &mut io::stderr().lock())
}

pub(super) fn run_with(args: &WebhookArgs, token: Option<String>, out: &mut dyn Write, errors: &mut dyn Write) -> Exit {
    let target = &args.target;
    let outcome = target.client(token).and_then(|client| ask(&client, &args.command, target.json, out));
    target.tell(outcome, errors)
}

fn ask(client: &Client, command: &WebhookCommand, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let place = |id: &str, below: &str| format!("/v1/webhooks/{}{below}", encoded(id));
    let (answer, done) = match command {
        WebhookCommand::List { org } => return list(client, org.as_deref(), json, out),
        WebhookCommand::Deliveries { id } => return deliveries(client, &place(id, "/deliveries"), json, out),
        WebhookCommand::Create { url, events, org } => {
            let mut body = Map::from_iter([("url".to_owned(), json!(url)), ("events".to_owned(), json!(events))]);
            body.extend(org.as_ref().map(|org| ("org".to_owned(), json!(org))));
            (client.call(Method::POST, "/v1/webhooks", Some(&body.into()))?, "Made")
        }
        WebhookCommand::Rotate { id, overlap, force } => {
            let body = json!({ "overlap": overlap, "force": force });
            (client.call(Method::POST, &place(id, "/rotate"), Some(&body))?, "Rotated")
        }
        WebhookCommand::Change { id, url, events, enable, disable } => {
            let mut body = Map::new();
            body.extend(url.as_ref().map(|url| ("url".to_owned(), json!(url))));
            body.extend((!events.is_empty()).then(|| ("events".to_owned(), json!(events))));
            body.extend((*enable || *disable).then(|| ("enabled".to_owned(), json!(enable))));
            (client.call(Method::PATCH, &place(id, ""), Some(&body.into()))?, "Changed")
        }
        WebhookCommand::Show { id } => (client.call(Method::GET, &place(id, ""), None)?, "This is"),
        WebhookCommand::Delete { id } => (client.call(Method::DELETE, &place(id, ""), None)?, "Deleted"),
        WebhookCommand::Test { id } => {
            let sent = client.call(Method::POST, &place(id, "/test"), None)?;
            match json {
                true => writeln!(out, "{sent}")?,
                false => {
                    let hint = format!("`portico webhook deliveries {id}` shows what comes of it");
                    writeln!(out, "The test {} is on its way; {hint}.", text(&sent["event"]))?;
                }
            }
            return Ok(());
        }
    };
    if json {
        writeln!(out, "{answer}")?;
        return Ok(());
    }
    told(&answer, done, out)
}

fn told(webhook: &Value, done: &str, out: &mut dyn Write) -> Result<(), Failure> {
    let [id, url, status] = ["id", "url", "status"].map(|member| text(&webhook[member]));
    writeln!(out, "{done} {id}, which is {status}: {} to {url}.", words(&webhook["events"]))?;
    if webhook["secret"].is_string() {
        writeln!(out, "\n  {}\n", text(&webhook["secret"]))?;
        writeln!(out, "Keep it now: it is not shown again.")?;
    }
    if let Some(end) = webhook["previous_secret_ends_at"].as_str() {
        writeln!(out, "Messages are signed with the secret before too, until {end}.")?;
    }
    Ok(())
}

fn list(client: &Client, org: Option<&str>, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let org = org.map(|org| format!("?org={}", encoded(org))).unwrap_or_default();
    let webhooks = client.all(&format!("/v1/webhooks{org}"), "webhooks", None)?;
    if json {
        writeln!(out, "{}", json!({ "webhooks": webhooks }))?;
        return Ok(());
    }
    let head = ["ID", "ORG", "STATUS", "MODE", "EVENTS", "URL"].map(str::to_owned);
    let row = |webhook: &Value| {
        let [id, status, mode, url] = ["id", "status", "mode", "url"].map(|member| text(&webhook[member]));
        [id, text(&webhook["org"]["slug"]), status, mode, words(&webhook["events"]), url]
    };
    write_table(&[head].into_iter().chain(webhooks.iter().map(row)).collect::<Vec<_>>(), out)?;
    Ok(())
}

fn deliveries(client: &Client, path: &str, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let answer = client.call(Method::GET, path, None)?;
    if json {
        writeln!(out, "{answer}")?;
        return Ok(());
    }
    let head = ["AT", "EVENT", "TYPE", "ATTEMPT", "OUTCOME", "MS", "NEXT"].map(str::to_owned);
    let row = |delivery: &Value| {
        let [at, event, kind, next] = ["at", "event", "type", "next_attempt_at"].map(|member| text(&delivery[member]));
        let outcome = delivery["status"].as_u64().map_or_else(|| text(&delivery["error"]), |status| status.to_string());
        [at, event, kind, delivery["attempt"].to_string(), outcome, delivery["duration_ms"].to_string(), next]
    };
    let rows = answer["deliveries"].as_array().into_iter().flatten().map(row);
    write_table(&[head].into_iter().chain(rows).collect::<Vec<_>>(), out)?;
    writeln!(out, "{} more wait for an attempt.", answer["waiting"])?;
    Ok(())
}
