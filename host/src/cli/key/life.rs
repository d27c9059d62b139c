//! What `portico key` does to a key after it was issued, and to the pepper.

use std::io::Write;

use http::Method;
use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::cli::{Failure, encoded, text, words, write_table};

pub(super) fn rotate(
    client: &Client,
    id: &str,
    overlap: u64,
    force: bool,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let body = json!({ "overlap": overlap, "force": force });
    let key = client.call(Method::POST, &format!("/v1/keys/{}/rotate", encoded(id)), Some(&body))?;
    if json {
        writeln!(out, "{key}")?;
        return Ok(());
    }
    writeln!(out, "Rotated {} ({}).\n", text(&key["id"]), text(&key["name"]))?;
    writeln!(out, "  {}\n", text(&key["secret"]))?;
    let end = match key["previous_secret"]["ends_at"].as_str() {
        Some(end) => format!("The one before works until {end}."),
        None => "The one before works no more.".to_owned(),
    };
    writeln!(out, "Keep it now: it is not shown again. {end}")?;
    Ok(())
}

pub(super) fn scope(
    client: &Client,
    id: &str,
    scopes: &[String],
    all: bool,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let body = if all { json!({ "all_scopes": true }) } else { json!({ "scopes": scopes }) };
    let key = client.call(Method::PATCH, &format!("/v1/keys/{}/scope", encoded(id)), Some(&body))?;
    if json {
        writeln!(out, "{key}")?;
    } else {
        writeln!(out, "{} ({}) has these scopes: {}.", text(&key["id"]), text(&key["name"]), words(&key["scopes"]))?;
    }
    Ok(())
}

pub(super) fn revoke(client: &Client, id: &str, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let key = client.call(Method::DELETE, &format!("/v1/keys/{}", encoded(id)), None)?;
    if json {
        writeln!(out, "{key}")?;
    } else {
        let (id, name) = (text(&key["id"]), text(&key["name"]));
        writeln!(out, "Revoked {id} ({name}) at {}.", text(&key["revoked_at"]))?;
    }
    Ok(())
}

/// Does something about peppers, and shows those that there are then.
pub(super) fn peppers(
    client: &Client,
    method: Method,
    path: &str,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let answer = client.call(method, path, None)?;
    if json {
        writeln!(out, "{answer}")?;
        return Ok(());
    }
    let head = ["VERSION", "SECRETS THAT NEED IT"].map(str::to_owned);
    let rows = answer["peppers"].as_array().into_iter().flatten();
    let rows = rows.map(|pepper: &Value| [pepper["version"].to_string(), pepper["secrets"].to_string()]);
    write_table(&[head].into_iter().chain(rows).collect::<Vec<_>>(), out)?;
    Ok(())
}
