//! Tools of other languages: whether they are there, and running them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// How many of the last lines of a tool that failed are shown.
const LINES: usize = 40;

/// What the tools for Python and JavaScript come from must have.
const WANTED: &str = "import sys, venv, ensurepip; assert sys.version_info >= (3, 11)";

/// Makes sure that there is a Python with its `venv`. On a bare Debian it is installed, where that is possible.
///
/// # Errors
/// When it is not there and cannot be had, in a sentence that says how to get it.
pub fn python() -> Result<()> {
    if has_python() {
        return Ok(());
    }
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if is_root && Command::new("apt-get").arg("--version").stdout(Stdio::null()).status().is_ok() {
        eprintln!("installing python3-venv with apt-get");
        run(Command::new("apt-get").args(["update", "-qq"]), "apt-get update")?;
        let mut install = Command::new("apt-get");
        install.env("DEBIAN_FRONTEND", "noninteractive");
        run(
            install.args(["install", "-y", "-qq", "--no-install-recommends", "python3", "python3-venv"]),
            "apt-get install",
        )?;
    }
    if has_python() {
        return Ok(());
    }
    bail!(
        "there is no `python3` of at least 3.11 with its `venv`, from which the tools for Python and JavaScript come; on \
         Debian: `apt-get install python3-venv`"
    )
}

fn has_python() -> bool {
    let mut python = Command::new("python3");
    python.args(["-c", WANTED]).stdin(Stdio::null()).stderr(Stdio::null());
    python.status().is_ok_and(|status| status.success())
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
