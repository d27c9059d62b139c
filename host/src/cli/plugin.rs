//! `portico plugin`: what serves, what happened to it, and what operators want of it.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::client::Client;
use super::{Exit, Failure, Target, aligned, encoded, given_token, on_one_line, text, write_table};

/// Digits of a digest that are shown: enough to tell versions apart, and to name one to go back to.
const DIGITS: usize = 12;

/// List, reload, disable, enable and roll back the plugins of a running gateway
#[derive(Debug, Args)]
pub struct PluginArgs {
    /// Which gateway, and how the answer is shown.
    #[command(flatten)]
    pub target: Target,
    /// What to do.
    #[command(subcommand)]
    pub command: PluginCommand,
}

/// What can be done with plugins.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// List policies with the versions that serve, and what was refused since
    List,
    /// Show what happened to the plugin of a policy, newest first
    History {
        /// The name of the policy
        policy: String,
    },
    /// Look at the plugin directory again and take what is there, also in place of what was rolled back to
    Reload {
        /// The name of the policy
        policy: String,
    },
    /// Take a policy out of its chains; the gateway's own guard on `auth` stays, but the policy's limits
    /// and charges do not
    Disable {
        /// The name of the policy
        policy: String,
    },
    /// Put a policy back into its chains
    Enable {
        /// The name of the policy
        policy: String,
    },
    /// Go back to a version that served before, until something new comes into the plugin directory
    Rollback {
        /// The name of the policy
        policy: String,
        /// The version to go back to: at least 8 hex digits of its digest [default: the one that served before]
        #[arg(long, value_name = "DIGEST")]
        to: Option<String>,
    },
}

/// Runs the command and tells how it ended, on the standard streams.
pub fn run(args: &PluginArgs) -> Exit {
    run_with(args, given_token(), &mut io::stdout().lock(), &mut io::stderr().lock())
}

fn run_with(args: &PluginArgs, token: Option<String>, out: &mut dyn Write, errors: &mut dyn Write) -> Exit {
    let target = &args.target;
    let outcome = target.client(token).and_then(|client| match &args.command {
        PluginCommand::List => list(&client, target.json, out),
        PluginCommand::History { policy } => history(&client, policy, target.json, out),
        PluginCommand::Reload { policy } => act(&client, policy, "reload", None, target.json, out),
        PluginCommand::Disable { policy } => act(&client, policy, "disable", None, target.json, out),
        PluginCommand::Enable { policy } => act(&client, policy, "enable", None, target.json, out),
        PluginCommand::Rollback { policy, to } => {
            let version = to.as_ref().map(|digest| json!({ "digest": digest }));
            act(&client, policy, "rollback", version.as_ref(), target.json, out)
        }
    });
    target.tell(outcome, errors)
}

fn list(client: &Client, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let answer = client.call(Method::GET, "/v1/plugins", None)?;
    if json {
        writeln!(out, "{answer}")?;
        return Ok(());
    }
    let policies = || answer["policies"].as_array().into_iter().flatten();
    let head =
        ["POLICY", "STATE", "VERSION", "DIGEST", "INSTANCES", "CALLS", "FAILURES", "QUARANTINE"].map(str::to_owned);
    let rows = policies().map(|policy| {
        [
            text(&policy["policy"]),
            text(&policy["state"]),
            text(&policy["version"]),
            digest(policy),
            instances(policy),
            calls(policy),
            failures(policy),
            quarantine(policy),
        ]
    });
    write_table(&[head].into_iter().chain(rows).collect::<Vec<_>>(), out)?;
    for policy in policies() {
        write_namesakes(policy, out)?;
        write_refusal(policy, out)?;
    }
    Ok(())
}

fn history(client: &Client, policy: &str, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let answer = client.call(Method::GET, &format!("/v1/plugins/{}/history", encoded(policy)), None)?;
    if json {
        writeln!(out, "{answer}")?;
        return Ok(());
    }
    let events = || answer["events"].as_array().into_iter().flatten();
    let head = ["TIME", "WHAT", "VERSION", "DIGEST"].map(str::to_owned);
    let rows = events().map(|event| {
        [text(&event["at"]), text(&event["what"]).replace('_', " "), text(&event["version"]), digest(event)]
    });
    let lines = aligned(&[head].into_iter().chain(rows).collect::<Vec<_>>());
    let head_without_reason = [&Value::Null];
    for (line, event) in lines.iter().zip(head_without_reason.into_iter().chain(events())) {
        writeln!(out, "{line}")?;
        write_reason(event, out)?;
    }
    Ok(())
}

/// Has one of the routes under `/v1/plugins/{policy}/` carried out, and says what serves then.
fn act(
    client: &Client,
    policy: &str,
    route: &str,
    body: Option<&Value>,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let answer = client.call(Method::POST, &format!("/v1/plugins/{}/{route}", encoded(policy)), body)?;
    if json {
        writeln!(out, "{answer}")?;
        return Ok(());
    }
    let (name, version, digest) = (text(&answer["policy"]), text(&answer["version"]), digest(&answer));
    match answer["state"].as_str() {
        Some("disabled") => writeln!(out, "`{name}` is out of its chains.")?,
        Some("held") => writeln!(out, "`{name}` serves version {version} ({digest}) and is held to it.")?,
        _ => writeln!(out, "`{name}` serves version {version} ({digest}).")?,
    }
    // What was wanted may have been refused while something else serves on: then that is half of the answer.
    write_refusal(&answer, out)?;
    Ok(())
}

/// The other files whose components call themselves as that of a policy does: nothing is wrong, and one may be there by mistake.
fn write_namesakes(policy: &Value, out: &mut dyn Write) -> io::Result<()> {
    let others: Vec<String> = policy["namesakes"].as_array().into_iter().flatten().map(text).collect();
    if others.is_empty() {
        return Ok(());
    }
    let [name, file, plugin] = ["policy", "file", "plugin"].map(|member| text(&policy[member]));
    let others = others.join(" and ");
    writeln!(
        out,
        "{name}: its component calls itself `{plugin}`, as what serves for {others} does; its own file is {file}"
    )
}

/// What of a policy was refused since something served last, if there is such a thing.
fn write_refusal(policy: &Value, out: &mut dyn Write) -> io::Result<()> {
    let refused = &policy["refused"];
    if refused.is_null() {
        return Ok(());
    }
    // What could not be read has no digest.
    let what = if refused["digest"].is_null() { "its component".to_owned() } else { digest(refused) };
    writeln!(out, "{}: {what} was refused at {}:", text(&policy["policy"]), text(&refused["at"]))?;
    write_reason(refused, out)
}

fn write_reason(event: &Value, out: &mut dyn Write) -> io::Result<()> {
    let mut lines = event["reason"].as_str().unwrap_or_default().lines();
    lines.try_for_each(|line| writeln!(out, "  {}", on_one_line(line)))
}

fn digest(of: &Value) -> String {
    text(&of["digest"]).chars().take(DIGITS).collect()
}

/// Kept, made for each call, or made for each call and configured already; a dash for a policy that has none.
fn instances(policy: &Value) -> String {
    policy["instances"].as_str().map_or_else(|| "-".to_owned(), on_one_line)
}

fn calls(policy: &Value) -> String {
    policy["calls"].as_u64().map_or_else(|| "-".to_owned(), |calls| calls.to_string())
}

/// Of all kinds together; a dash for a policy that is not called.
fn failures(policy: &Value) -> String {
    let Some(kinds) = policy["failures"].as_object() else { return "-".to_owned() };
    kinds.values().filter_map(Value::as_u64).sum::<u64>().to_string()
}

/// Who is answered without asking the policy; a dash for nobody.
fn quarantine(policy: &Value) -> String {
    let of = &policy["quarantine"];
    let all = |kind: &str| !of[format!("{kind}_until")].is_null();
    match (all("with_key"), all("without_key"), of["callers"].as_u64().unwrap_or(0)) {
        (true, true, _) => "all".to_owned(),
        (true, false, _) => "all with a key".to_owned(),
        (false, true, _) => "all without a key".to_owned(),
        (false, false, 0) => "-".to_owned(),
        (false, false, 1) => "1 caller".to_owned(),
        (false, false, callers) => format!("{callers} callers"),
    }
}

#[cfg(test)]
mod tests;
