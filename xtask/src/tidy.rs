//! Holds the lines that the compiler does not: who may import whom, what things are called, how long files are.

mod crates;
mod layers;
mod names;
mod source;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::repository::Repository;
use source::Source;

/// One line that does not hold.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// `path:line`, relative to the root.
    place: String,
    /// Which rule, and what to do.
    rule: String,
    /// A warning is shown and passes.
    warning: bool,
}

impl Finding {
    fn error(place: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { place: place.into(), rule: rule.into(), warning: false }
    }

    fn warning(place: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { place: place.into(), rule: rule.into(), warning: true }
    }
}

/// Prints what does not hold.
pub fn run(repository: &Repository) -> Result<ExitCode> {
    Ok(if holds(repository)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints what does not hold; whether all does.
pub fn holds(repository: &Repository) -> Result<bool> {
    let findings = check(repository.root())?;
    for finding in &findings {
        let kind = if finding.warning { "warning" } else { "error" };
        eprintln!("{kind}: {}: {}", finding.place, finding.rule);
    }
    let errors = findings.iter().filter(|finding| !finding.warning).count();
    if errors > 0 {
        eprintln!("{errors} line(s) of the house style do not hold");
    }
    Ok(errors == 0)
}

/// Everything that does not hold in the work tree at `root`.
fn check(root: &Path) -> Result<Vec<Finding>> {
    let mut findings = crates::check(root)?;
    for path in files(root)? {
        let shown = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        let bytes = fs::read(&path).with_context(|| format!("{shown} is not readable"))?;
        // What is not text (a frozen component, a picture) has no lines to hold.
        let Ok(text) = String::from_utf8(bytes) else { continue };
        names::check_text(&shown, &text, &mut findings);
        if shown.ends_with(".rs") {
            let source = Source::new(shown, text);
            names::check(&source, &mut findings);
            layers::check(&source, &mut findings);
        }
    }
    Ok(findings)
}

/// All files that are ours, in the order of their paths.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    const NOT_OURS: [&str; 5] = ["target", ".git", ".portico", "node_modules", ".venv"];
    let mut files = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).with_context(|| format!("{} is not readable", directory.display()))? {
            let entry = entry?;
            let ours = !NOT_OURS.iter().any(|name| entry.file_name() == *name);
            match entry.file_type()? {
                kind if kind.is_dir() && ours => open.push(entry.path()),
                kind if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The repository itself holds its lines: this is the test that keeps the house in order.
    #[test]
    fn the_repository_holds_its_lines() {
        let repository = Repository::find().unwrap();
        let errors: Vec<Finding> =
            check(repository.root()).unwrap().into_iter().filter(|finding| !finding.warning).collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }

    #[test]
    fn files_of_others_are_left_alone() {
        let root = tempfile::tempdir().unwrap();
        for directory in ["target/debug", ".git", "host/src"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
            fs::write(root.path().join(directory).join("a.rs"), "").unwrap();
        }
        assert_eq!(files(root.path()).unwrap(), [root.path().join("host/src/a.rs")]);
    }
}
