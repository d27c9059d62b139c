//! `portico requests`: the request log, newest first, and one request by its id.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::{Exit, Failure, Target, encoded, given_token, on_one_line, text, write_table};

/// List finished requests of a running gateway, newest first
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct RequestsArgs {
    /// Which gateway, and how the answer is shown.
    #[command(flatten)]
    pub target: Target,
    /// What to do but to list them.
    #[command(subcommand)]
    command: Option<RequestsCommand>,
    /// Of this org, by its id
    #[arg(long, value_name = "ID")]
    org: Option<String>,
    /// With this key, by its id
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// To this pillar
    #[arg(long)]
    pillar: Option<String>,
    /// With this status, such as 404, or of this class, such as 5xx
    #[arg(long)]
    status: Option<String>,
    /// Begun at this time or later, for example 2030-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Begun before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    limit: usize,
}

/// What can be done but to list requests.
#[derive(Debug, Subcommand)]
enum RequestsCommand {
    /// Show one request, and what it cost
    Show {
        /// The id of the request, as in `x-request-id`
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// Runs the command and tells how it ended, on the standard streams.
pub fn run(args: &RequestsArgs) -> Exit {
    run_with(args, given_token(), &mut io::stdout().lock(), &mut io::stderr().lock())
}

pub(super) fn run_with(
    args: &RequestsArgs,
    token: Option<String>,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Exit {
    let target = &args.target;
    let outcome = target.client(token).and_then(|client| match &args.command {
        Some(RequestsCommand::Show { id }) => show(&client, id, args.target.json, out),
        None => list(&client, args, out),
    });
    target.tell(outcome, errors)
}

fn list(client: &Client, args: &RequestsArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let given = [
        ("org", &args.org),
        ("key", &args.key),
        ("pillar", &args.pillar),
        ("status", &args.status),
        ("since", &args.since),
        ("until", &args.until),
    ];
    let given = given.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded(value.as_ref()?))));
    let query = given.collect::<Vec<_>>().join("&");
    let requests = client.all(&format!("/v1/requests?{query}"), "requests", Some(args.limit))?;
    if args.target.json {
        writeln!(out, "{}", json!({ "requests": requests }))?;
        return Ok(());
    }
    let head = ["AT", "REQUEST", "KEY", "STATUS", "ERROR", "MS", "METHOD", "PATH"].map(str::to_owned);
    let rows = [head].into_iter().chain(requests.iter().map(row)).collect::<Vec<_>>();
    write_table(&rows, out)?;
    Ok(())
}

fn show(client: &Client, id: &str, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let request = client.call(Method::GET, &format!("/v1/usage/requests/{}", encoded(id)), None)?;
    if json {
        writeln!(out, "{request}")?;
        return Ok(());
    }
    let lines: Vec<_> =
        request.as_object().into_iter().flatten().map(|(name, value)| [name.clone(), cell(value)]).collect();
    write_table(&lines, out)?;
    Ok(())
}

/// A value on one line, a dash for what is not there.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => on_one_line(text),
        other => on_one_line(&other.to_string()),
    }
}

fn row(request: &Value) -> [String; 8] {
    let cell = |member: &str| text(&request[member]);
    let status = request["status"].as_u64().map_or_else(|| "-".to_owned(), |status| status.to_string());
    let micros = request["duration_us"].as_u64().unwrap_or_default();
    let millis = format!("{}.{:03}", micros / 1000, micros % 1000);
    let path = on_one_line(request["path"].as_str().unwrap_or_default());
    [cell("at"), cell("id"), cell("key_id"), status, cell("error"), millis, cell("method"), path]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_steers_no_terminal_and_has_dashes_for_what_is_not_there() {
        let request = json!({
            "id": "req_1", "at": "2026-11-22T10:00:00.000Z", "key_id": null, "status": null, "error": null,
            "duration_us": 1_002_003, "method": "GET", "path": "/v1/\u{1b}[2J",
        });
        let expected = ["2026-11-22T10:00:00.000Z", "req_1", "-", "-", "-", "1002.003", "GET", "/v1/?[2J"];
        assert_eq!(row(&request), expected.map(str::to_owned));
        let cells = [json!(null), json!("/\u{1b}[2J"), json!(7), json!({"a": "b"})].map(|value| cell(&value));
        assert_eq!(cells, ["-", "/?[2J", "7", "{\"a\":\"b\"}"]);
    }
}
