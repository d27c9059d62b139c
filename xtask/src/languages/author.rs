//! Makes what the authors' page has its reader build in minutes, once, for the test that follows the page.
//!
//! Follows only what makes files from files: files of the page and its blocks `sh build` and `sh once`. What needs a gateway is the
//! test's. A component is used there only if this very text made it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};

use super::stamp::Stamp;
use super::tools;
use crate::page::{self, Kind};
use crate::repository::Repository;

const PAGE: &str = "docs/plugin-authors.md";
/// What else decides about what comes of it.
const NEEDS: [&str; 6] = [
    "wit",
    "guest-sdk/src",
    "guest-sdk/Cargo.toml",
    "examples/python-policy/requirements.txt",
    "examples/javascript-policy/requirements.txt",
    "examples/javascript-policy/package-lock.json",
];

/// Follows those sections of the page that changed, or all of it where what it needs did.
///
/// # Errors
/// When a block of it cannot be followed, with its line.
pub fn run(repository: &Repository) -> Result<()> {
    let root = repository.root();
    let text = fs::read_to_string(repository.join(PAGE)).with_context(|| format!("{PAGE} is not readable"))?;
    let blocks = page::blocks(&text).map_err(|why| anyhow!("{PAGE}: {why}"))?;
    let needs: Vec<_> = NEEDS.iter().map(|need| repository.join(need)).collect();
    fs::create_dir_all(page::cargo_keeps(root))?;
    let stamp = Stamp::over(page::cargo_keeps(root).with_file_name("stamp"), &[], &needs)?;
    let is_made = |at: usize| {
        let from = fs::read_to_string(page::made(root, &blocks, at).join(page::FOLLOWED));
        from.is_ok_and(|from| from == page::made_from(&blocks, at))
    };
    let unmade = |section: &str| {
        let mut once =
            blocks.iter().enumerate().filter(|(_, block)| block.kind == Kind::Once && block.section == section);
        once.any(|(at, _)| !is_made(at))
    };
    let all = !stamp.holds();
    let followed: Vec<bool> = blocks.iter().map(|block| all || unmade(&block.section)).collect();
    if !followed.contains(&true) {
        eprintln!("{PAGE}: unchanged");
        return Ok(());
    }
    eprintln!("{PAGE}: following what it builds, some minutes");
    stamp.clear()?;
    tools::python()?;
    let clone = page::clone(root, None)?;
    let directory = tempfile::tempdir()?;
    for (at, block) in blocks.iter().enumerate().filter(|(at, _)| followed[*at]) {
        match &block.kind {
            Kind::File { path } => {
                let path = directory.path().join(path);
                fs::create_dir_all(path.parent().unwrap_or(directory.path()))?;
                fs::write(path, &block.text)?;
            }
            Kind::Build | Kind::Once => {
                // Of what stands there after it, only what it made is kept.
                remove_components(directory.path())?;
                let mut shell = Command::new("sh");
                shell.args(["-e", "-c", &block.text]).current_dir(directory.path());
                shell.env("PORTICO", &clone).env("CARGO_BUILD_BUILD_DIR", page::cargo_keeps(root));
                super::as_in_a_terminal(&mut shell);
                tools::run(&mut shell, "sh").with_context(|| format!("{PAGE}:{}", block.line))?;
                if block.kind == Kind::Once {
                    keep(directory.path(), &page::made(root, &blocks, at), &page::made_from(&blocks, at))?;
                }
            }
            Kind::Run { .. } | Kind::Add { .. } | Kind::Shown => {}
        }
    }
    stamp.set()
}

fn remove_components(directory: &Path) -> Result<()> {
    components(directory)?.iter().try_for_each(|path| Ok(fs::remove_file(path)?))
}

fn components(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "wasm"));
    Ok(paths)
}

/// Keeps the components that stand in the directory, and what they were made from; that is written last.
fn keep(directory: &Path, made: &Path, from: &str) -> Result<()> {
    if made.exists() {
        fs::remove_dir_all(made)?;
    }
    fs::create_dir_all(made)?;
    for path in components(directory)? {
        fs::copy(&path, made.join(path.file_name().unwrap_or_default()))?;
    }
    fs::write(made.join(page::FOLLOWED), from)?;
    Ok(())
}
