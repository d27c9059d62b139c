//! Where the repository is, and how `cargo` is asked to do things in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The root of the work tree.
pub struct Repository {
    root: PathBuf,
}

impl Repository {
    /// Finds the root from where `cargo run` says that this package is, else upwards from the current directory.
    pub fn find() -> Result<Self> {
        let start = match std::env::var_os("CARGO_MANIFEST_DIR") {
            Some(package) => PathBuf::from(package),
            None => std::env::current_dir().context("the current directory is not readable")?,
        };
        let root = start.ancestors().find(|directory| directory.join("xtask/Cargo.toml").is_file());
        match root {
            Some(root) => Ok(Self { root: root.to_owned() }),
            None => bail!("{} is not inside the repository; change into it first", start.display()),
        }
    }

    /// The root, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path below the root.
    pub fn join(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A path as a person would write it: relative to the root where it is below it.
    pub fn shown<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }

    /// `cargo`, at the root.
    ///
    /// What `cargo run` says about this package is taken out: build scripts that watch those variables would run again
    /// each time.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
                command.env_remove(name);
            }
        }
        command
    }

    /// Where cargo puts what it builds.
    pub fn target(&self) -> PathBuf {
        match std::env::var_os("CARGO_TARGET_DIR") {
            Some(directory) => self.root.join(directory),
            None => self.join("target"),
        }
    }
}

/// Runs a command to its end, its output shown as it comes; an error unless it succeeds.
pub fn run_through(command: &mut Command, what: &str) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("`{program}` could not be started"))?;
    if !status.success() {
        bail!("{what} failed ({status}); the reason is above");
    }
    Ok(())
}
