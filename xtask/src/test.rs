//! Everything that must hold, in the order in which it fails fastest.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::repository::Repository;
use crate::section::{Section, in_words};
use crate::{build, components, languages, schemathesis, tidy};

/// Compiles the packages of this workspace by way of clippy, and all others as ever. `cargo clippy` would only check, for which all
/// dependencies are compiled once more: minutes, of the time that all tests may take.
const LINTS_WHAT_IS_OURS: [&str; 2] = ["--config", "build.rustc-workspace-wrapper=\"clippy-driver\""];

/// What `cargo clippy -- -D warnings` hands to clippy.
const ARGUMENTS_OF_LINTS: (&str, &str) = ("CLIPPY_ARGS", "-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__");

/// Runs all sections, stops at the first that fails and says which. `rest` goes to `cargo test`.
pub fn run(repository: &Repository, rest: &[String]) -> Result<ExitCode> {
    let started = std::time::Instant::now();
    build::prerequisites()?;
    components::plugins(repository)?;
    components::guests(repository)?;
    languages::run(repository)?;
    schemathesis::install(repository)?;
    let cargo = |arguments: &[&str]| {
        let mut cargo = repository.cargo();
        cargo.args(arguments);
        cargo
    };
    let linted = |arguments: &[&str]| {
        let mut cargo = repository.cargo();
        cargo.args(LINTS_WHAT_IS_OURS).env(ARGUMENTS_OF_LINTS.0, ARGUMENTS_OF_LINTS.1).args(arguments);
        cargo
    };
    let sections: [(&str, &mut dyn FnMut() -> Result<bool>); 6] = [
        ("format", &mut || succeeds(&mut cargo(&["fmt", "--all", "--check"]))),
        ("layering, names and lengths", &mut || tidy::holds(repository)),
        ("lints", &mut || succeeds(&mut linted(&["build", "--workspace", "--all-targets"]))),
        ("lints, policies for Wasm", &mut || succeeds(&mut components::lint(repository)?)),
        ("tests", &mut || succeeds(linted(&["test", "--workspace"]).args(rest))),
        ("both pages on plugins, followed", &mut || {
            succeeds(&mut linted(&[
                "test",
                "--workspace",
                "--test",
                "e2e",
                "--",
                "--ignored",
                "--test-threads=1",
                "pages::",
            ]))
        }),
    ];
    for (title, hold) in sections {
        let section = Section::open(title);
        if !hold()? {
            eprintln!("\nfailed: {}, after {}; the reason is above", section.title(), in_words(started.elapsed()));
            return Ok(ExitCode::FAILURE);
        }
        section.close();
    }
    eprintln!("\nall of it holds, after {}", in_words(started.elapsed()));
    Ok(ExitCode::SUCCESS)
}

fn succeeds(command: &mut Command) -> Result<bool> {
    Ok(command.status().context("`cargo` could not be started")?.success())
}
