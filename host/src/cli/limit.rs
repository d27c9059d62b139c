//! `portico limit`: how limits stand for somebody, and filled anew.

use std::io::{self, Write};
use std::net::IpAddr;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value};

use super::client::Client;
use super::{Exit, Failure, Target, encoded, given_token, text, write_table};

/// Show how limits of a running gateway stand for somebody, and fill them anew
#[derive(Debug, Args)]
pub struct LimitArgs {
    /// Which gateway, and how the answer is shown.
    #[command(flatten)]
    pub target: Target,
    /// What to do.
    #[command(subcommand)]
    pub command: LimitCommand,
}

/// What can be done with limits.
#[derive(Debug, Subcommand)]
pub enum LimitCommand {
    /// Show each window of each limit: used, remaining, and when it begins anew
    Show(Wanted),
    /// Fill all windows, for every worker at once
    Reset(Wanted),
}

/// For whom, and which limits.
#[derive(Debug, Args)]
pub struct Wanted {
    #[command(flatten)]
    whose: Whose,
    /// Only those of this policy
    #[arg(long)]
    policy: Option<String>,
    /// Only this limit, by its name
    #[arg(long)]
    limit: Option<String>,
    /// Only those that count in this pillar
    #[arg(long)]
    pillar: Option<String>,
}

/// For whom.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Whose {
    /// For this key, by its id
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// For this org, by its id
    #[arg(long, value_name = "ID")]
    org: Option<String>,
    /// For callers from this address
    #[arg(long)]
    address: Option<IpAddr>,
    /// For a value that a policy counts by
    #[arg(long, value_name = "VALUE")]
    custom: Option<String>,
    /// Limits that count all callers together
    #[arg(long)]
    everyone: bool,
}

impl Wanted {
    fn members(&self) -> Map<String, Value> {
        let address = self.whose.address.map(|address| address.to_string());
        let given = [
            ("key", &self.whose.key),
            ("org", &self.whose.org),
            ("address", &address),
            ("custom", &self.whose.custom),
            ("policy", &self.policy),
            ("limit", &self.limit),
            ("pillar", &self.pillar),
        ];
        let given = given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?.into())));
        let everyone = self.whose.everyone.then(|| ("everyone".to_owned(), true.into()));
        given.chain(everyone).collect()
    }

    fn query(&self) -> String {
        let pair = |(name, value): (&String, &Value)| {
            format!("{name}={}", encoded(&value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        };
        self.members().iter().map(pair).collect::<Vec<_>>().join("&")
    }
}

/// Runs the command and tells how it ended, on the standard streams.
pub fn run(args: &LimitArgs) -> Exit {
    run_with(args, given_token(), &mut io::stdout().lock(), &mut io::stderr().lock())
}

fn run_with(args: &LimitArgs, token: Option<String>, out: &mut dyn Write, errors: &mut dyn Write) -> Exit {
    let target = &args.target;
    let outcome = target.client(token).and_then(|client| match &args.command {
        LimitCommand::Show(wanted) => show(&client, wanted, target.json, out),
        LimitCommand::Reset(wanted) => reset(&client, wanted, target.json, out),
    });
    target.tell(outcome, errors)
}

fn show(client: &Client, wanted: &Wanted, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let answer = client.call(Method::GET, &format!("/v1/limits?{}", wanted.query()), None)?;
    if json {
        writeln!(out, "{answer}")?;
        return Ok(());
    }
    write_limits(&answer, out)
}

fn reset(client: &Client, wanted: &Wanted, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let answer = client.call(Method::POST, "/v1/limits/reset", Some(&Value::Object(wanted.members())))?;
    if json {
        writeln!(out, "{answer}")?;
        return Ok(());
    }
    write_limits(&answer, out)?;
    let limits = answer["reset"].as_u64().unwrap_or_default();
    writeln!(out, "{limits} {} filled anew.", if limits == 1 { "limit was" } else { "limits were" })?;
    Ok(())
}

fn write_limits(answer: &Value, out: &mut dyn Write) -> Result<(), Failure> {
    let head = ["POLICY", "LIMIT", "PILLAR", "ROUTE", "WINDOW", "PERIOD", "QUOTA", "USED", "REMAINING", "RESET"];
    let mut rows = vec![head.map(str::to_owned)];
    for limit in answer["limits"].as_array().into_iter().flatten() {
        // One for all pillars counts for each of them.
        let pillar = limit["pillar"].as_str().map_or_else(|| "all".to_owned(), |_| text(&limit["pillar"]));
        for window in limit["windows"].as_array().into_iter().flatten() {
            let number = |member: &str| window[member].to_string();
            rows.push([
                text(&limit["policy"]),
                text(&limit["limit"]),
                pillar.clone(),
                text(&limit["route"]),
                text(&window["window"]),
                text(&window["period"]),
                number("quota"),
                number("used"),
                number("remaining"),
                format!("{}s", window["reset_seconds"]),
            ]);
        }
    }
    write_table(&rows, out)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        limit: LimitArgs,
    }

    fn query(line: &str) -> Result<String, clap::Error> {
        let parsed = Line::try_parse_from(std::iter::once("limit").chain(line.split_whitespace()))?;
        Ok(match parsed.limit.command {
            LimitCommand::Show(wanted) | LimitCommand::Reset(wanted) => wanted.query(),
        })
    }

    #[test]
    fn it_is_asked_for_one_at_a_time() {
        assert_eq!(query("show --everyone --limit a").ok().as_deref(), Some("everyone=true&limit=a"));
        assert_eq!(query("reset --address ::1 --pillar p").ok().as_deref(), Some("address=%3A%3A1&pillar=p"));
        assert!(query("show").is_err() && query("show --everyone --key key_1").is_err());
    }
}
