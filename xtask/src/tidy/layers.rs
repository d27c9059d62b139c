//! Who may import whom in the gateway: downwards only, and some crates only in the one place that is theirs.

use super::Finding;
use super::source::{Source, words};

/// The modules of `host/src`, highest layer first. A module imports from layers below its own; from its own layer only
/// what `BESIDE` lists. A new module is added here, as low as it can stand.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["lib"],
    &["server"],
    &["api", "metrics"],
    &["listener", "exchange"],
    &["worker"],
    &["meter"],
    &["snapshot", "respond", "effect", "landing", "erasure"],
    &["chain", "route", "upstream", "inner", "credential", "principal", "backup"],
    &[
        "plugin",
        "limit",
        "journal",
        "ledger",
        "key",
        "openapi",
        "org",
        "usage",
        "requests",
        "billing",
        "assertion",
        "webhook",
    ],
    &["audit", "idempotency", "kv", "outbound", "outbox"],
    &["config", "denial", "json", "problem", "data", "seal", "telemetry", "head", "body"],
    &["address", "clock", "id", "gas", "path"],
];

/// Imports within one layer that are meant: (who, whom). Never both ways.
const BESIDE: &[(&str, &str)] = &[
    ("chain", "credential"),
    ("chain", "upstream"),
    ("id", "clock"),
    ("journal", "usage"),
    ("json", "problem"),
    ("landing", "snapshot"),
    ("listener", "exchange"),
    ("org", "key"),
    ("requests", "usage"),
    ("seal", "config"),
    ("seal", "data"),
    ("webhook", "org"),
];

/// Crates that are named in one kind of place only, so that they can be exchanged there.
const CONFINED: &[(&str, Place, &str)] = &[
    ("wasmtime", |path| path == "plugin.rs" || path.starts_with("plugin/"), "under plugin/"),
    ("wasmtime_wasi", |path| path.starts_with("plugin/"), "under plugin/"),
    ("wasmtime_wizer", |path| path == "plugin/primed.rs", "in plugin/primed.rs"),
    ("sled", |path| path.ends_with("/sled.rs"), "in */sled.rs"),
    ("redis", |path| path.ends_with("/redis.rs"), "in */redis.rs"),
    ("notify", |path| path == "config/watch.rs", "in config/watch.rs"),
    ("memmap2", |path| path == "journal/files.rs", "in journal/files.rs"),
    ("prost", |path| path.starts_with("requests/otlp"), "in requests/otlp.rs"),
    ("prometheus_client", |path| path == "metrics.rs" || path.starts_with("metrics/"), "under metrics/"),
];

/// Whether a file, relative to `host/src`, is such a place.
type Place = fn(&str) -> bool;

const ROOT: &str = "host/src/";

/// Checks one file; only the gateway's have layers.
pub fn check(source: &Source, findings: &mut Vec<Finding>) {
    let Some(path) = source.path.strip_prefix(ROOT) else { return };
    let module = path.split(['/', '.']).next().unwrap_or(path);
    confined(source, path, findings);
    let Some(layer) = layer(module) else {
        let rule = format!(
            "the module `{module}` has no layer; add it to LAYERS in xtask/src/tidy/layers.rs, as low as it can stand"
        );
        findings.push(Finding::error(&source.path, rule));
        return;
    };
    for (at, imported) in imports(source, path) {
        // What is no module of its own is an item of lib.rs.
        let (name, below) = match self::layer(imported) {
            Some(below) => (imported, below),
            None => ("lib", self::layer("lib").unwrap_or_default()),
        };
        if name != module && below <= layer && !BESIDE.contains(&(module, name)) {
            let direction = if below == layer { "beside it" } else { "above it" };
            let rule = format!("`{module}` imports `crate::{imported}` from {direction}; imports go downwards only");
            findings.push(Finding::error(source.place(at), rule));
        }
    }
}

/// How far down a module stands; `None` for an unknown one.
fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// What a file imports from the crate's root, with the place where it says so.
fn imports<'a>(source: &'a Source, path: &str) -> Vec<(usize, &'a str)> {
    let code = source.code.as_str();
    let mut found = Vec::new();
    for at in source.words("crate") {
        let names = code[at + "crate".len()..].strip_prefix("::").map(first_names).unwrap_or_default();
        found.extend(names.into_iter().map(|name| (at, name)));
    }
    // `super::` as often as the file is deep is the crate's root too, if what follows is one of its modules.
    let depth = path.trim_end_matches(".rs").split('/').count();
    let up = format!("{}super::", "super::".repeat(depth - 1));
    for (at, _) in code.match_indices(&up) {
        let chain_before = code[..at].ends_with("super::");
        let names = if chain_before { Vec::new() } else { first_names(&code[at + up.len()..]) };
        let listed = names.into_iter().filter(|name| layer(name).is_some() && !declares(code, name));
        found.extend(listed.map(|name| (at, name)));
    }
    found
}

/// The first names of a use tree: `a::b` has `a`, `{a::{b, c}, d as e}` has `a` and `d`.
fn first_names(tree: &str) -> Vec<&str> {
    let Some(group) = tree.trim_start().strip_prefix('{') else { return name_at(tree).into_iter().collect() };
    let mut names: Vec<&str> = name_at(group).into_iter().collect();
    let mut depth = 1_usize;
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => names.extend(name_at(&group[at + 1..])),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// The name that a text begins with; `self` and `*` are none.
fn name_at(text: &str) -> Option<&str> {
    let text = text.trim_start();
    let end = text.find(|character: char| !(character.is_alphanumeric() || character == '_')).unwrap_or(text.len());
    Some(&text[..end]).filter(|name| !name.is_empty() && *name != "self" && *name != "super")
}

/// Whether a file declares a module of this name, which a path may then mean.
fn declares(code: &str, name: &str) -> bool {
    words(code, name).any(|at| code[..at].trim_end().ends_with("mod"))
}

/// Finds crates that are named where they must not be.
fn confined(source: &Source, path: &str, findings: &mut Vec<Finding>) {
    for (name, allowed, where_allowed) in CONFINED {
        if allowed(path) {
            continue;
        }
        let own = declares(&source.code, name);
        for at in source.words(name) {
            let (before, after) = (source.code[..at].trim_end(), source.code[at + name.len()..].trim_start());
            // `key::sled::Keys` is our own module; a leading `::sled` is the crate for sure.
            let leading = before.ends_with("::");
            let ours = match leading {
                true => before.trim_end_matches("::").ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '>'),
                false => own,
            };
            let named = leading || after.starts_with("::") || ends_with_word(before, "use");
            if named && !ours {
                let rule = format!("the crate `{name}` is named only {where_allowed}");
                findings.push(Finding::error(source.place(at), rule));
            }
        }
    }
}

fn ends_with_word(text: &str, word: &str) -> bool {
    words(text, word).last().is_some_and(|at| at + word.len() == text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(path: &str, text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check(&Source::new(format!("{ROOT}{path}"), text.into()), &mut findings);
        findings.into_iter().map(|finding| finding.place.trim_start_matches(ROOT).to_owned()).collect()
    }

    #[test]
    fn imports_go_downwards_only() {
        let cases = [
            ("exchange.rs", "use crate::route::Route;", vec![]),
            ("route.rs", "\nuse crate::exchange::Exchange;", vec!["route.rs:2"]),
            ("route.rs", "fn f() { crate::exchange::go() }", vec!["route.rs:1"]),
            ("route.rs", "use crate::{clock, id::{Id, of}, exchange::X};", vec!["route.rs:1"]),
            (
                "route.rs",
                "use crate::{\n    snapshot::{A, B},\n    lib_function,\n};",
                vec!["route.rs:1", "route.rs:1"],
            ),
            ("route.rs", "use crate::chain::Chain;", vec!["route.rs:1"]),
            ("route.rs", "use crate::Gateway;", vec!["route.rs:1"]),
            ("route/find.rs", "use crate::route::Route; pub(crate) fn f() {}", vec![]),
            ("route/find.rs", "use super::super::exchange::X;", vec!["route/find.rs:1"]),
            ("route/find.rs", "use super::exchange::X;", vec![]),
            ("route.rs", "use super::exchange::X;", vec!["route.rs:1"]),
            ("route.rs", "// use crate::exchange;\n", vec![]),
            ("clock.rs", "use crate::config::Config;", vec!["clock.rs:1"]),
        ];
        for (path, text, expected) in cases {
            assert_eq!(places(path, text), expected, "{path}: {text}");
        }
    }

    #[test]
    fn a_module_without_a_layer_is_refused() {
        assert_eq!(places("surprise.rs", ""), ["surprise.rs"]);
        assert_eq!(places("surprise/part.rs", ""), ["surprise/part.rs"]);
    }

    #[test]
    fn crates_stay_in_their_place() {
        let cases = [
            ("plugin/engine.rs", "use wasmtime::Engine;", 0),
            ("plugin.rs", "use wasmtime::Engine;", 0),
            ("chain.rs", "use wasmtime::Engine;", 1),
            ("chain.rs", "/// Runs in `wasmtime::Engine`.\nlet a = \"wasmtime::\";", 0),
            ("key/sled.rs", "use sled::Db;", 0),
            ("key.rs", "mod sled;\npub use sled::Keys;", 0),
            ("key.rs", "mod sled;\nuse ::sled::Db;", 1),
            ("key.rs", "use sled as store;", 1),
            ("lib.rs", "let keys = key::sled::Keys::open();", 0),
            ("config/watch.rs", "use notify::Watcher;", 0),
            ("config/file.rs", "fn f() { notify::recommended_watcher() }", 1),
            ("worker.rs", "self.changed.notify.notify_one()", 0),
        ];
        for (path, text, count) in cases {
            assert_eq!(places(path, text).len(), count, "{path}: {text}");
        }
    }

    #[test]
    fn each_module_stands_in_one_layer_and_no_two_import_each_other() {
        let all: Vec<&str> = LAYERS.iter().flat_map(|layer| layer.iter().copied()).collect();
        for module in &all {
            assert_eq!(all.iter().filter(|other| *other == module).count(), 1, "{module}");
        }
        for (who, whom) in BESIDE {
            assert_eq!(layer(who), layer(whom), "{who}, {whom}: not beside each other");
            assert!(!BESIDE.contains(&(whom, who)), "{who} and {whom} import each other");
        }
    }
}
