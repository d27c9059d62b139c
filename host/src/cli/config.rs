//! `portico config`: what a running gateway is configured with, and another configuration checked, compared and applied.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

use super::client::Client;
use super::{Exit, Failure, Target, encoded, given_token, on_one_line, text, words, write_table};

/// Digits of a digest that tables show.
const DIGITS: usize = 12;

/// Show the configuration of a running gateway; check, compare and apply another one
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Which gateway, and how the answer is shown.
    #[command(flatten)]
    pub target: Target,
    /// What to do.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What can be done with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show what runs, key by key with defaults, and what was refused since; secrets are not shown
    Show {
        /// Only what is at or under this key path, such as pillars.connect
        key: Option<String>,
    },
    /// Have the running gateway check another configuration, against the plugins that it has; exit code 2 where it does not fit
    Check {
        /// The other configuration
        file: PathBuf,
    },
    /// Show in what another configuration differs from what runs, and which of that needs a restart
    Diff {
        /// The other configuration
        file: PathBuf,
    },
    /// Have another configuration run at once, and written into the gateway's own file; all or nothing
    Apply {
        /// The other configuration
        file: PathBuf,
        /// The digest of the configuration that it was made from [default: the one that runs]
        #[arg(long, value_name = "DIGEST")]
        based_on: Option<String>,
    },
}

/// Runs the command and tells how it ended, on the standard streams.
pub fn run(args: &ConfigArgs) -> Exit {
    run_with(args, given_token(), &mut io::stdout().lock(), &mut io::stderr().lock())
}

fn run_with(args: &ConfigArgs, token: Option<String>, out: &mut dyn Write, errors: &mut dyn Write) -> Exit {
    let target = &args.target;
    let outcome = target.client(token).and_then(|client| match &args.command {
        ConfigCommand::Show { key } => show(&client, key.as_deref().unwrap_or_default(), target.json, out),
        ConfigCommand::Check { file } => check(&client, file, target.json, out),
        ConfigCommand::Diff { file } => diff(&client, file, target.json, out),
        ConfigCommand::Apply { file, based_on } => apply(&client, file, based_on.as_deref(), target.json, out),
    });
    target.tell(outcome, errors)
}

fn read(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(|source| Failure::File { path: file.to_owned(), source })
}

fn show(client: &Client, key: &str, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let answer = client.call(Method::GET, &format!("/v1/config?key={}", encoded(key)), None)?;
    if json {
        writeln!(out, "{answer}")?;
        return Ok(());
    }
    let cell = |member: &str| text(&answer[member]);
    let (file, digest) = (cell("file"), cell("digest"));
    writeln!(
        out,
        "# {file}, generation {}, applied by {} at {}",
        answer["generation"],
        cell("applied_by"),
        cell("applied_at")
    )?;
    writeln!(out, "# digest {digest}")?;
    if answer["file_digest"] != answer["digest"] {
        writeln!(out, "# the file says something else now")?;
    }
    if let restart @ Value::Array(keys) = &answer["waits_for_restart"]
        && !keys.is_empty()
    {
        writeln!(out, "# takes effect after a restart: {}", words(restart))?;
    }
    write_refusal(&answer["refused"], out)?;
    let defaults: Vec<&str> = answer["defaults"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut lines = Vec::new();
    flatten(key, &answer["configuration"], &mut lines);
    for (key, value) in lines {
        let default = if defaults.contains(&&*key) { "  # default" } else { "" };
        writeln!(out, "{key} = {}{default}", on_one_line(&value.to_string()))?;
    }
    Ok(())
}

/// Every value with its key path. Lists are values, unless tables are in them.
fn flatten<'a>(key: &str, value: &'a Value, lines: &mut Vec<(String, &'a Value)>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (member, value) in members {
                let dot = if key.is_empty() { "" } else { "." };
                flatten(&format!("{key}{dot}{}", quoted(member)), value, lines);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, item) in items.iter().enumerate() {
                flatten(&format!("{key}[{index}]"), item, lines);
            }
        }
        value => lines.push((key.to_owned(), value)),
    }
}

fn quoted(key: &str) -> String {
    let is_bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_bare { key.to_owned() } else { format!("{key:?}") }
}

fn write_refusal(refused: &Value, out: &mut dyn Write) -> io::Result<()> {
    if refused.is_null() {
        return Ok(());
    }
    writeln!(out, "# what was saved was refused at {}:", text(&refused["at"]))?;
    problems(refused, &text(&refused["file"])).iter().try_for_each(|line| writeln!(out, "#   {line}"))
}

/// Each problem on a line, as `portico check` writes them.
fn problems(answer: &Value, file: &str) -> Vec<String> {
    let listed = answer["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    let line = |problem: &Value| {
        let place = match (problem["line"].as_u64(), problem["column"].as_u64()) {
            (Some(line @ 1..), Some(column)) => format!("{file}:{line}:{column}:"),
            _ => format!("{file}:"),
        };
        let path = problem["path"].as_str().filter(|path| !path.is_empty());
        let path = path.map(|path| format!(" {path}:")).unwrap_or_default();
        let suggestion = problem["suggestion"].as_str().map(|meant| format!("; {meant}")).unwrap_or_default();
        on_one_line(&format!("{place}{path} {}{suggestion}", problem["message"].as_str().unwrap_or_default()))
    };
    let mut lines: Vec<String> = listed.iter().map(line).collect();
    let untold = answer["count"].as_u64().unwrap_or_default().saturating_sub(listed.len() as u64);
    if untold > 0 {
        lines.push(format!("{file}: and {untold} more problems"));
    }
    lines
}

fn check(client: &Client, file: &Path, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let answer = client.send_toml("/v1/config/check", read(file)?, None)?;
    if json {
        writeln!(out, "{answer}")?;
    }
    if answer["fits"] != true {
        return Err(Failure::Config(problems(&answer, &file.display().to_string()).join("\n")));
    }
    if !json {
        write_notes(&answer, out)?;
        writeln!(out, "{}: fits the running gateway", file.display())?;
    }
    Ok(())
}

fn write_notes(answer: &Value, out: &mut dyn Write) -> io::Result<()> {
    let notes = answer["notes"].as_array().into_iter().flatten();
    notes.map(text).try_for_each(|note| writeln!(out, "note: {note}"))?;
    match &answer["needs_restart"] {
        Value::Array(keys) if keys.is_empty() => Ok(()),
        keys => writeln!(out, "takes effect only after a restart: {}", words(keys)),
    }
}

fn diff(client: &Client, file: &Path, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let answer = client.send_toml("/v1/config/diff", read(file)?, None)?;
    if json {
        writeln!(out, "{answer}")?;
        return Ok(());
    }
    let changes = answer["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if changes.is_empty() {
        writeln!(out, "It means the same as what runs.")?;
        return Ok(());
    }
    let value = |value: &Value| if value.is_null() { "-".to_owned() } else { on_one_line(&value.to_string()) };
    let row = |change: &Value| {
        let restart = if change["needs_restart"] == true { "yes" } else { "" };
        [text(&change["key"]), value(&change["old"]), value(&change["new"]), restart.to_owned()]
    };
    let head = ["KEY", "OLD", "NEW", "RESTART"].map(str::to_owned);
    write_table(&[head].into_iter().chain(changes.iter().map(row)).collect::<Vec<_>>(), out)?;
    let untold = answer["changed_keys"].as_u64().unwrap_or_default().saturating_sub(changes.len() as u64);
    if untold > 0 {
        writeln!(out, "and {untold} more")?;
    }
    Ok(())
}

fn apply(client: &Client, file: &Path, based_on: Option<&str>, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let body = read(file)?;
    let based_on = match based_on {
        Some(digest) => digest.to_owned(),
        // A small part of it: only the digest is of interest.
        None => text(&client.call(Method::GET, "/v1/config?key=admin", None)?["digest"]),
    };
    let answer = client.send_toml("/v1/config/apply", body, Some(&based_on))?;
    if json {
        writeln!(out, "{answer}")?;
        return Ok(());
    }
    write_notes(&answer, out)?;
    let digest: String = text(&answer["digest"]).chars().take(DIGITS).collect();
    writeln!(
        out,
        "Runs as generation {} with the digest {digest}, and is in {}.",
        answer["generation"],
        text(&answer["file"])
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn problems_are_written_as_check_writes_them() {
        let answer = json!({ "count": 4, "problems": [
            { "line": 3, "column": 5, "path": "gateway.listen", "message": "is odd", "suggestion": "did you mean `x`?" },
            { "line": 0, "column": 0, "path": "", "message": "as a \u{1b}whole", "suggestion": null },
        ]});
        let expected = [
            "a.toml:3:5: gateway.listen: is odd; did you mean `x`?",
            "a.toml: as a ?whole",
            "a.toml: and 2 more problems",
        ];
        assert_eq!(problems(&answer, "a.toml"), expected);
    }

    #[test]
    fn values_stand_at_their_key_paths() {
        let value = json!({ "a": { "b c": [1, 2] }, "r": [{ "p": "/x" }, {}] });
        let mut lines = Vec::new();
        flatten("", &value, &mut lines);
        let told: Vec<String> = lines.into_iter().map(|(key, value)| format!("{key} = {value}")).collect();
        assert_eq!(told, ["a.\"b c\" = [1,2]", "r[0].p = \"/x\"", "r[1] = {}"]);
    }
}
