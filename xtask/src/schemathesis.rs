//! Puts schemathesis into `target/`, with which the tests ask a gateway about its own OpenAPI document.
//!
//! In an environment of its own, every version pinned by a hash; what is there already stays.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::languages::{Stamp, tools};
use crate::repository::Repository;
use crate::section::Section;

const WANTED: &str = "tests/schemathesis/requirements.txt";

/// Makes sure that it is there.
///
/// # Errors
/// When there is no Python and none can be had, or the packages cannot be fetched.
pub fn install(repository: &Repository) -> Result<()> {
    let section = Section::open("schemathesis");
    let place = repository.join("target/portico/schemathesis");
    let wanted = repository.join(WANTED);
    let stamp = Stamp::over(place.with_extension("stamp"), &[], std::slice::from_ref(&wanted))?;
    if stamp.holds() && place.join("bin/schemathesis").exists() {
        eprintln!("schemathesis: unchanged");
        section.close();
        return Ok(());
    }
    eprintln!("schemathesis: fetching it, half a minute");
    stamp.clear()?;
    tools::python()?;
    if place.exists() {
        fs::remove_dir_all(&place).with_context(|| format!("{} cannot be removed", place.display()))?;
    }
    tools::run(Command::new("python3").args(["-m", "venv"]).arg(&place), "python3 -m venv")?;
    let mut pip = Command::new(place.join("bin/python3"));
    pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]);
    pip.args(["--require-hashes", "-r"]).arg(&wanted);
    tools::run(&mut pip, "pip install")?;
    stamp.set()?;
    section.close();
    Ok(())
}
