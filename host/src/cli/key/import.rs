//! `portico key import`: a file of keys that were made elsewhere, one JSON object a line.
//!
//! Read twice: first everything is checked, here and by the gateway, so that all problems come at once and nothing is
//! imported where there is one. What a line says is never printed: it holds a secret.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use http::Method;
use ring::digest::{SHA256, digest};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::cli::client::{CallError, Client};
use crate::cli::{Failure, on_one_line};

/// The longest line, in bytes.
const LONGEST_LINE: usize = 16 << 10;
/// The most keys, and about the most bytes, that are sent at once: below what the admin API takes.
const MOST_KEYS: usize = 200;
const MOST_BYTES: usize = 40 << 10;
/// After so many problems the rest of the file is not looked at.
const MOST_PROBLEMS: usize = 1_000;

/// Some lines of the file, as keys.
#[derive(Default)]
struct Batch {
    keys: Vec<Value>,
    lines: Vec<usize>,
    bytes: usize,
}

pub(super) fn import(
    client: &Client,
    file: &Path,
    skip: bool,
    json: bool,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<(), Failure> {
    let mut problems = Vec::new();
    let (mut all, mut known) = (0, 0);
    each_batch(file, skip, &mut problems, &mut |batch, problems| {
        all += batch.keys.len();
        match send(client, &batch, skip, true) {
            Ok(answer) => known += answer["skipped"].as_array().map_or(0, Vec::len),
            Err(CallError::Refused(refused)) if refused.document["errors"].is_array() => {
                problems.extend(placed(&refused.document["errors"], &batch.lines));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    })?;
    if !problems.is_empty() {
        return Err(Failure::Lines { path: file.to_owned(), problems });
    }
    let new = all - known;
    let (mut imported, mut passed_over) = (0, 0);
    each_batch(file, skip, &mut problems, &mut |batch, _| {
        let answer = send(client, &batch, skip, false).map_err(|source| Failure::Halfway { imported, source })?;
        imported += answer["keys"].as_array().map_or(0, Vec::len);
        passed_over += answer["skipped"].as_array().map_or(0, Vec::len);
        // Only said while it goes on: what came of it is said at the end.
        if !json && imported < new {
            writeln!(errors, "imported {imported} of {new}")?;
        }
        Ok(())
    })?;
    if json {
        writeln!(out, "{}", json!({ "imported": imported, "skipped": passed_over }))?;
    } else if passed_over == 0 {
        writeln!(out, "Imported {imported} keys.")?;
    } else {
        writeln!(out, "Imported {imported} keys; {passed_over} were there already.")?;
    }
    Ok(())
}

fn send(client: &Client, batch: &Batch, skip: bool, dry_run: bool) -> Result<Value, CallError> {
    let body = json!({ "keys": batch.keys, "skip_duplicates": skip, "dry_run": dry_run });
    client.call(Method::POST, "/v1/keys/import", Some(&body))
}

/// The gateway's faults, by the lines of the file instead of positions in a list.
fn placed<'a>(faults: &'a Value, lines: &'a [usize]) -> impl Iterator<Item = String> + 'a {
    faults.as_array().into_iter().flatten().map(|fault| {
        let pointer = fault["pointer"].as_str().unwrap_or_default();
        let detail = on_one_line(fault["detail"].as_str().unwrap_or_default());
        let within = pointer.strip_prefix("/keys/").map(|rest| rest.split_once('/').unwrap_or((rest, "")));
        let line = within.and_then(|(at, _)| lines.get(at.parse::<usize>().ok()?));
        match (line, within) {
            (Some(line), Some((_, ""))) => format!("line {line}: {detail}"),
            (Some(line), Some((_, field))) => format!("line {line}: {}: {detail}", on_one_line(field)),
            _ => format!("{pointer}: {detail}"),
        }
    })
}

/// What is done with each batch, and the problems that come of it.
type Take<'a> = dyn FnMut(Batch, &mut Vec<String>) -> Result<(), Failure> + 'a;

/// Calls back with the keys of the file, batch by batch; lines that are none are problems.
fn each_batch(path: &Path, skip: bool, problems: &mut Vec<String>, take: &mut Take<'_>) -> Result<(), Failure> {
    let unreadable = |source| Failure::File { path: path.to_owned(), source };
    let mut reader = BufReader::new(File::open(path).map_err(unreadable)?);
    let mut seen: HashMap<[u8; 32], usize> = HashMap::new();
    let mut batch = Batch::default();
    let mut line = Zeroizing::new(Vec::new());
    for number in 1.. {
        let Some(whole) = next_line(&mut reader, &mut line).map_err(unreadable)? else { break };
        if problems.len() >= MOST_PROBLEMS {
            problems.push(format!("line {number}: there are more problems; mend these first"));
            break;
        }
        let text = line.trim_ascii();
        if text.is_empty() && whole {
            continue;
        }
        if !whole {
            problems.push(format!("line {number}: it is longer than {LONGEST_LINE} bytes"));
            continue;
        }
        let Ok(key) = serde_json::from_slice::<Map<String, Value>>(text) else {
            problems.push(format!("line {number}: it is no JSON object"));
            continue;
        };
        if let Some(secret) = key.get("secret").and_then(Value::as_str) {
            // The gateway only sees what is sent at once. Digests, since a file may be long and secrets need not be kept.
            let digest = *digest(&SHA256, secret.as_bytes()).as_ref().first_chunk().expect("a SHA-256 has 32 bytes");
            match seen.get(&digest) {
                Some(_) if skip => continue,
                Some(first) => {
                    problems.push(format!("line {number}: secret: This secret is there already, in line {first}."));
                    continue;
                }
                None => drop(seen.insert(digest, number)),
            }
        }
        if batch.keys.len() == MOST_KEYS || batch.bytes + text.len() > MOST_BYTES && !batch.keys.is_empty() {
            take(std::mem::take(&mut batch), problems)?;
        }
        batch.bytes += text.len();
        batch.keys.push(key.into());
        batch.lines.push(number);
    }
    if batch.keys.is_empty() { Ok(()) } else { take(batch, problems) }
}

/// The next line, and whether that is all of it; none at the end of the file.
fn next_line(reader: &mut BufReader<File>, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    line.clear();
    let read = reader.by_ref().take(LONGEST_LINE as u64 + 1).read_until(b'\n', line)?;
    if read == 0 {
        return Ok(None);
    }
    if line.len() <= LONGEST_LINE || line.ends_with(b"\n") {
        return Ok(Some(true));
    }
    // The rest of it is passed over without being kept.
    loop {
        let part = reader.fill_buf()?;
        let end = part.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(part.len(), |end| end + 1);
        let over = end.is_some() || length == 0;
        reader.consume(length);
        if over {
            return Ok(Some(false));
        }
    }
}
