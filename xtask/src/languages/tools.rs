//! Gets the tools of other languages from their own registries, in the versions and with the hashes that an example pins.
//!
//! Nothing is installed outside of `target/`, and nothing here needs root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::stamp::Stamp;

/// How many of the last lines of a tool that failed are shown.
const LINES: usize = 40;

const NO_PYTHON: &str = "there is no `python3` of at least 3.10 with its `venv`, from which the tools for Python and \
    JavaScript come; on Debian: `apt-get install python3-venv`";

/// A directory with everything that was installed for building guests.
pub struct Tools {
    directory: PathBuf,
}

/// A Python environment of our own, with the programs in it.
pub struct Environment {
    programs: PathBuf,
    digest: String,
}

impl Tools {
    /// The tools in this directory.
    pub fn below(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// A place of its own for one tool.
    pub fn directory(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A Python environment with what this file of requirements names, each with a hash.
    pub fn python(&self, name: &str, requirements: &Path) -> Result<Environment> {
        let directory = self.directory(name);
        let version = python_version()?;
        // Programs in an environment name its place, so one that was moved is made again.
        let words = [version.as_str(), &directory.to_string_lossy()];
        let stamp = Stamp::over(directory.join("stamp"), &words, &[requirements.to_owned()])?;
        let environment = Environment { programs: directory.join("bin"), digest: stamp.digest().to_owned() };
        if stamp.holds() {
            return Ok(environment);
        }
        eprintln!("{name}: installing what {} pins", requirements.display());
        remove(&directory)?;
        let mut venv = Command::new("python3");
        run(venv.args(["-m", "venv"]).arg(&directory), "python3 -m venv").context(NO_PYTHON)?;
        let mut pip = environment.command("python3");
        pip.args(["-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet", "--require-hashes"]);
        pip.args(["--only-binary", ":all:", "--requirement"]).arg(requirements);
        run(&mut pip, "pip install")?;
        stamp.set()?;
        Ok(environment)
    }

    /// The `node_modules` that the lock file of this example pins.
    pub fn node(&self, name: &str, node: &Environment, example: &Path) -> Result<PathBuf> {
        let directory = self.directory(name);
        let pins = ["package.json", "package-lock.json"].map(|file| example.join(file));
        let modules = directory.join("node_modules");
        let stamp = Stamp::over(directory.join("stamp"), &[&node.digest], &pins)?;
        if stamp.holds() {
            return Ok(modules);
        }
        eprintln!("{name}: installing what {} pins, about half a minute", pins[1].display());
        remove(&directory)?;
        fs::create_dir_all(&directory)?;
        for (pin, file) in pins.iter().zip(["package.json", "package-lock.json"]) {
            fs::copy(pin, directory.join(file))?;
        }
        let mut npm = node.command("npm");
        // Not `npm ci`, which refuses this lock file over packages for other machines; the pins hold here too.
        npm.current_dir(&directory).args(["install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund"]);
        run(npm.arg("--loglevel=error"), "npm install")?;
        stamp.set()?;
        Ok(modules)
    }
}

impl Environment {
    /// A program of this environment, which finds the others of it first.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = std::iter::once(self.programs.clone()).chain(std::env::split_paths(&path));
        if let Ok(path) = std::env::join_paths(places) {
            command.env("PATH", path);
        }
        command.env_remove("PYTHONHOME").env_remove("PYTHONPATH").env_remove("VIRTUAL_ENV");
        command
    }
}

/// The version of `python3`, where it is one that the tools run on.
fn python_version() -> Result<String> {
    let mut python = Command::new("python3");
    python.args(["-c", "import sys, venv, ensurepip; assert sys.version_info >= (3, 10); print(sys.version)"]);
    let output = python.stdin(Stdio::null()).output().context(NO_PYTHON)?;
    if !output.status.success() {
        bail!(NO_PYTHON);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", directory.display()))
        }
        _ => Ok(()),
    }
}

/// Runs a tool in silence; where it fails, the last of its lines are in the error.
pub fn run(command: &mut Command, what: &str) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("`{what}` could not be started"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    bail!(
        "`{what}` failed ({}); the last that it said:\n{}",
        output.status,
        last_lines(&String::from_utf8_lossy(&said))
    );
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_fails_is_quoted_in_bounds() {
        let mut shell = Command::new("sh");
        let error = run(shell.args(["-c", "seq 1 1000; echo why >&2; exit 3"]), "counting").unwrap_err().to_string();
        assert!(error.starts_with("`counting` failed (exit status: 3)"), "{error}");
        assert!(error.ends_with("\n1000\nwhy"), "{error}");
        assert_eq!(error.lines().count(), 1 + LINES);
    }

    #[test]
    fn a_tool_that_is_not_there_is_named() {
        let error = run(&mut Command::new("no-such-tool-anywhere"), "no-such-tool").unwrap_err().to_string();
        assert_eq!(error, "`no-such-tool` could not be started");
    }
}
