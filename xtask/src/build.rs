//! Builds the gateway itself.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::repository::{Repository, run_through};
use crate::section::Section;

/// Builds the gateway in release; the path of the binary.
pub fn gateway(repository: &Repository) -> Result<PathBuf> {
    let binary = repository.target().join("release/portico");
    let first = if binary.exists() { "" } else { " (the first time takes several minutes)" };
    let section = Section::open(format!("gateway, release{first}"));
    let mut cargo = repository.cargo();
    cargo.args(["build", "--release", "--package", "portico-gateway", "--bin", "portico"]);
    run_through(&mut cargo, "building the gateway")?;
    section.close();
    Ok(binary)
}

/// Says which tool is missing before a long build finds out in the middle.
pub fn prerequisites() -> Result<()> {
    let linker = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    if Command::new(&linker).arg("--version").output().is_err() {
        bail!(
            "there is no C compiler (`{}`), which some dependencies and the linker need; on Debian: `apt-get install gcc libc6-dev`",
            linker.to_string_lossy()
        );
    }
    Ok(())
}
