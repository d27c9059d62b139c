//! What files and marks may be called, how files begin, and how long they get.

use super::Finding;
use super::source::{Source, words};

/// Above this many lines a file is reported: look for a seam.
const LONG: usize = 400;
/// Above this many it is refused.
const TOO_LONG: usize = 500;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 9] =
    ["util", "utils", "common", "manager", "managers", "helper", "helpers", "globals", "misc"];

/// Marks of unfinished work. Put together here, so that this file is not the first to be found.
const UNFINISHED: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("X", "XX"),
    concat!("to", "do!"),
    concat!("unimpl", "emented!"),
];

/// Directories that exist on somebody's machine and on no other.
const HOMES: [&str; 3] = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];

/// Rules for every text, Rust or not.
pub fn check_text(path: &str, text: &str, findings: &mut Vec<Finding>) {
    // Made by cargo, and nothing in it was named by us; the licence is as its authors published it.
    if path.ends_with("Cargo.lock") || path == "LICENSE" {
        return;
    }
    for (number, line) in text.lines().enumerate() {
        let place = || format!("{path}:{}", number + 1);
        for mark in UNFINISHED {
            let found = match mark.strip_suffix('!') {
                Some(macro_name) => words(line, macro_name).any(|at| line[at + macro_name.len()..].starts_with('!')),
                None => words(line, mark).next().is_some(),
            };
            if found {
                findings.push(Finding::error(place(), format!("`{mark}`: finish it, or file an issue")));
            }
        }
        for home in HOMES {
            if line.match_indices(home).any(|(at, _)| begins_a_path(line, at)) {
                findings
                    .push(Finding::error(place(), format!("`{home}…` exists on one machine only; name it relatively")));
            }
        }
    }
}

/// Whether the slash here begins a path, and does not stand in the middle of one, such as a route.
fn begins_a_path(line: &str, at: usize) -> bool {
    let before = line[..at].chars().next_back();
    before.is_none_or(|before| !(before.is_alphanumeric() || matches!(before, '_' | '-' | '.' | '/' | '}')))
}

/// Rules for Rust files.
pub fn check(source: &Source, findings: &mut Vec<Finding>) {
    let path = source.path.as_str();
    let mut parts = path.split('/').rev();
    let file = parts.next().unwrap_or(path);
    if file == "mod.rs" {
        findings.push(Finding::error(path, "a module is `foo.rs` beside `foo/`, never `mod.rs`"));
    }
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    for name in parts.chain([stem]).filter(|name| EMPTY_NAMES.contains(name)) {
        findings.push(Finding::error(path, format!("`{name}` says nothing about what is inside; name it after that")));
    }
    // `foo/tests.rs` says by its name what it is responsible for.
    if !source.text.starts_with("//! ") && file != "tests.rs" {
        findings.push(Finding::error(
            format!("{path}:1"),
            "the first line is `//! ` and one sentence on what it is responsible for",
        ));
    }
    let lines = source.text.lines().count();
    if lines > TOO_LONG {
        findings
            .push(Finding::error(path, format!("{lines} lines; over {TOO_LONG} nobody reads to the end: split it")));
    } else if lines > LONG {
        findings.push(Finding::warning(path, format!("{lines} lines; look for a seam near {LONG}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check_text(path, text, &mut findings);
        if path.ends_with(".rs") {
            check(&Source::new(path.into(), text.into()), &mut findings);
        }
        findings.into_iter().map(|finding| format!("{}: {}", finding.place, finding.rule)).collect()
    }

    #[test]
    fn a_good_file_passes() {
        assert!(rules("host/src/clock.rs", "//! Time.\nlet path = \"/v1/home/rooms\";\n").is_empty());
    }

    #[test]
    fn each_bad_name_is_found_at_its_place() {
        let unfinished = format!("a\n// {}: later\n", UNFINISHED[0]);
        let home = format!("open(\"{}me/x\")", HOMES[0]);
        let cases = [
            ("docs/a.md", unfinished.as_str(), "docs/a.md:2: "),
            ("config/a.toml", home.as_str(), "config/a.toml:1: "),
            ("host/src/plugin/mod.rs", "//! A.\n", "host/src/plugin/mod.rs: a module is"),
            ("host/src/utils.rs", "//! A.\n", "host/src/utils.rs: `utils` says"),
            ("host/src/common/a.rs", "//! A.\n", "host/src/common/a.rs: `common` says"),
            ("host/src/a.rs", "use b;\n", "host/src/a.rs:1: the first line"),
        ];
        for (path, text, begin) in cases {
            let rules = rules(path, text);
            assert!(rules.len() == 1 && rules[0].starts_with(begin), "{path}: {rules:?}");
        }
    }

    #[test]
    fn long_files_are_reported_and_longer_ones_refused() {
        for (lines, expected) in [(LONG, None), (LONG + 1, Some(true)), (TOO_LONG + 1, Some(false))] {
            let mut findings = Vec::new();
            check(&Source::new("a.rs".into(), "//! A.\n".repeat(lines)), &mut findings);
            assert_eq!(findings.first().map(|finding| finding.warning), expected);
        }
    }

    #[test]
    fn a_macro_name_alone_is_no_mark() {
        assert!(rules("a.md", &format!("a list of {} items", UNFINISHED[3].trim_end_matches('!'))).is_empty());
        assert_eq!(rules("a.md", &format!("{}()", UNFINISHED[3])).len(), 1);
    }
}
