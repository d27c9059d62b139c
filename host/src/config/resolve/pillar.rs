//! `[pillars.<name>]`: public APIs, each a path prefix with its chain, upstreams and rules.
//!
//! A request belongs to the pillar with the longest prefix that ends where a segment of its path ends; the gateway's
//! own paths come before all pillars. So prefixes may lie within one another, but no two are equal.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use crate::config::form::{Fault, duration, name, shown, words};
use crate::config::problem::Place;
use crate::config::read::{Entry, Table};
use crate::config::resolve::{Names, chain, path_from, policy, reference, route};
use crate::config::{Assertion, OWN, OpenApi, Pillar};
use crate::path::normalised;

/// Paths that the gateway answers itself; no pillar may lie at or below one of them.
const OWN_PATHS: [&str; 15] = [
    "/healthz",
    "/readyz",
    "/.well-known",
    "/openapi.json",
    "/openapi.yaml",
    "/v1/health",
    "/v1/me",
    "/v1/usage",
    "/v1/requests",
    "/v1/prices",
    "/v1/billing",
    "/v1/invoices",
    "/v1/keys",
    "/v1/webhooks",
    "/v1/scopes",
];

/// How often an upstream may be asked for its document.
const EVERY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
/// How often it is, where nothing is said.
const USUALLY: Duration = Duration::from_secs(60);

/// Reads all pillars.
pub(super) fn pillars(
    entries: Vec<Entry<'_>>,
    names: &Names<'_>,
    chain: &[String],
    base: &Path,
) -> Option<BTreeMap<String, Pillar>> {
    let mut prefixes = HashMap::new();
    let read: Vec<_> = entries.into_iter().map(|entry| pillar(entry, names, (chain, base), &mut prefixes)).collect();
    read.into_iter().map(|pillar| pillar.map(|it| (it.name.clone(), it))).collect()
}

fn pillar(
    entry: Entry<'_>,
    names: &Names<'_>,
    (default_chain, base): (&[String], &Path),
    prefixes: &mut HashMap<String, (String, Place)>,
) -> Option<Pillar> {
    let Entry { name: pillar, mut table } = entry;
    let valid_name = name(pillar).ok();
    if pillar == OWN {
        table.problem("is the gateway's own API, whose policies stand in [api]; choose another name");
    }
    let prefix = table.text("prefix", &format!("/v1/{pillar}"), self::prefix);
    if let Some(prefix) = &prefix {
        claim(&table, pillar, prefix, prefixes);
    }
    let scope = table.text("scope", pillar, scope);
    let chain = match table.list("chain", chain::LONGEST) {
        Some(items) if table.has("chain") => chain::chain(&items, names),
        Some(_) => Some(default_chain.to_vec()),
        None => None,
    };
    let upstream = target(&mut table, "upstream", names);
    let sandbox = target(&mut table, "sandbox", names);
    let strip_prefix = table.boolean("strip_prefix", true);
    let has_upstream = table.has("upstream") || table.has("sandbox");
    let assertion = assertion(&mut table, pillar, has_upstream);
    let openapi = openapi(&mut table, base, matches!(upstream, Some(None)));
    let rules = route::rules(table.rows("routes", route::MOST), chain.as_deref(), names);
    let anywhere = chain.as_ref().zip(rules.as_ref()).map(|(chain, rules)| chain::anywhere(chain, rules));
    let config = chain::config(table.table("config"), anywhere.as_deref(), "pillar", names);
    table.finish();
    Some(Pillar {
        name: valid_name?,
        prefix: prefix?,
        scope: scope?,
        chain: chain?,
        config: config?,
        upstream: upstream?,
        sandbox: sandbox?,
        strip_prefix: strip_prefix?,
        assertion: assertion?,
        openapi: openapi?,
        rules: rules?,
    })
}

fn target(table: &mut Table<'_>, key: &'static str, names: &Names<'_>) -> Option<Option<String>> {
    match table.value(key, None) {
        Some(value) => reference(&value, "upstream", &names.upstreams).map(Some),
        None => Some(None),
    }
}

/// Whether there is a good document there, is looked at when it is read.
fn openapi(table: &mut Table<'_>, base: &Path, is_scaffold: bool) -> Option<Option<OpenApi>> {
    let is_there = table.is_table("openapi");
    let mut source = table.table("openapi");
    let (has_file, has_path) = (source.has("file"), source.has("path"));
    let file = source.optional_text("file", path_from(base));
    let path = source.optional_text("path", document_path);
    let every = source.optional_text("every", duration(EVERY));
    if is_there && !has_file && !has_path {
        source.problem("names no document; write { file = \"openapi/rooms.json\" }");
    } else if has_file && has_path {
        source.problem("names both a file and a path of the upstream; keep one of them");
    } else if has_path && is_scaffold {
        source.problem("is to be asked of the pillar's upstream, and it has none; name a file");
    }
    if has_file && source.has("every") {
        source.problem("says how often an upstream is asked, and names a file, which is looked at every 2 s anyway");
    }
    source.finish();
    let (file, path, every) = (file?, path?, every?.unwrap_or(USUALLY));
    Some(file.map(OpenApi::File).or(path.map(|path| OpenApi::Upstream { path, every })))
}

/// A path as the service has it, which needs no change on its way there.
fn document_path(text: &str) -> Result<String, Fault> {
    match normalised(text) {
        Ok(same) if same == text => Ok(text.to_owned()),
        _ => Err(Fault::from(format!(
            "`{}` is not a path of the upstream; write for example \"/openapi.json\"",
            shown(text)
        ))),
    }
}

fn assertion(table: &mut Table<'_>, pillar: &str, has_upstream: bool) -> Option<Assertion> {
    let default = if has_upstream { "true" } else { "false" };
    let on = |audience: String| Assertion::On { audience };
    match table.value("assertion", Some(default)) {
        None if has_upstream => Some(on(pillar.to_owned())),
        None => Some(Assertion::Off),
        Some(value) if value.is_table() => {
            let mut table = value.into_table()?;
            let audience = table.text("audience", pillar, words(256));
            table.finish();
            audience.map(on)
        }
        Some(value) if value.node.as_bool().is_none() => {
            value.wrong(format!("must be true, false or {{ audience = \"…\" }}, not {}", value.kind()))
        }
        Some(value) => value.boolean().map(|is_on| if is_on { on(pillar.to_owned()) } else { Assertion::Off }),
    }
}

/// Takes a prefix for a pillar, unless another pillar or the gateway itself has it.
fn claim(table: &Table<'_>, pillar: &str, prefix: &str, taken: &mut HashMap<String, (String, Place)>) {
    let place = table.place_of("prefix");
    let below = |own: &&&str| prefix.strip_prefix(**own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if let Some(own) = OWN_PATHS.iter().find(below) {
        let message = format!(
            "`{}` is at or below {own}, which the gateway answers itself; choose another prefix",
            shown(prefix)
        );
        table.report().add(&place, message, None);
    }
    match taken.get(prefix) {
        Some((other, first)) => {
            let line = table.report().line(first);
            let message = format!("the pillar `{other}` (line {line}) has the prefix `{}` already", shown(prefix));
            table.report().add(&place, message, None);
        }
        None => {
            taken.insert(prefix.to_owned(), (pillar.to_owned(), place));
        }
    }
}

/// A path of plain segments: `/v1/connect`.
fn prefix(text: &str) -> Result<String, Fault> {
    if text.is_empty() || text == "/" {
        return Err(Fault::from(
            "must not be the root, where the gateway itself answers; write for example \"/v1/connect\"",
        ));
    }
    let segment = |segment: &str| {
        !segment.is_empty()
            && segment != "."
            && segment != ".."
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    };
    if text.len() <= 256 && text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(segment)) {
        return Ok(text.to_owned());
    }
    let meant = format!("/{}", text.trim_matches('/'));
    let message = format!(
        "`{}` is not a prefix; write segments of letters, digits, `-`, `.`, `_` and `~`, each after a slash, without one at the end",
        shown(text)
    );
    Err(Fault {
        message,
        meant: (meant != text && text.len() <= 64).then_some(meant).filter(|meant| prefix(meant).is_ok()),
    })
}

/// A scope that a key can hold; `*` would be all of them.
fn scope(text: &str) -> Result<String, Fault> {
    match text {
        "*" => Err(Fault::from("must be one scope, not all of them; write for example \"connect\"")),
        managing if crate::config::MANAGEMENT_SCOPES.contains(&managing) => Err(Fault::from(format!(
            "`{managing}` is for managing the gateway and opens no pillar; write for example \"connect\""
        ))),
        OWN => Err(Fault::from("is held by every key, so it would open the pillar to all; choose another scope")),
        one => policy::scope(one),
    }
}
