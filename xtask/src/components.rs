//! Builds the shipped policies and the test guests as Wasm components.
//!
//! A component whose bytes did not change is not written again, so a running gateway does not reload what is the same.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use wit_component::ComponentEncoder;

use crate::repository::Repository;
use crate::section::Section;

/// The package of test guests: each example is one component.
const GUESTS: &str = "portico-guests";

const TARGET: &str = "wasm32-unknown-unknown";
const OTHER_COMPILER: &str = "PORTICO_WASM_RUSTC";

/// Builds the shipped policies into `target/portico/plugins`.
pub fn plugins(repository: &Repository) -> Result<()> {
    let section = Section::open("policies");
    add_target(TARGET)?;
    let plugins = packages_below(&repository.join("plugins"))?;
    let mut arguments: Vec<&str> = vec!["--lib"];
    for name in &plugins {
        arguments.extend(["--package", name]);
    }
    encode_all(repository, &arguments, "plugins")?;
    section.close();
    Ok(())
}

/// Builds the test guests into `target/portico/guests`. Apart from the policies, so that what guests need is never part
/// of what is shipped.
pub fn guests(repository: &Repository) -> Result<()> {
    let section = Section::open("test guests");
    add_target(TARGET)?;
    encode_all(repository, &["--package", GUESTS, "--examples"], "guests")?;
    section.close();
    Ok(())
}

/// Makes sure that the compiler can build for Wasm.
///
/// The explicit command is needed where rustup's automatic installs are switched off; it costs nothing where the target
/// is there already.
pub fn add_target(target: &str) -> Result<()> {
    if target == TARGET && other_compiler().is_some() || has_target(target)? {
        return Ok(());
    }
    eprintln!("adding the {target} target");
    let added = Command::new("rustup").args(["target", "add", target]).status();
    if matches!(added, Ok(status) if status.success()) && has_target(target)? {
        return Ok(());
    }
    let elsewhere = match target {
        TARGET => format!(
            "; where rustup's server is out of reach, run `apt-get install rustc-web rust-web-src` and then set \
             {OTHER_COMPILER}=/usr/bin/rustc"
        ),
        _ => String::new(),
    };
    bail!("this Rust has no {target} target and `rustup target add {target}` could not add it{elsewhere}")
}

/// A compiler that brings the sources of its own library, for the components only: Debian's, on a closed network.
fn other_compiler() -> Option<PathBuf> {
    std::env::var_os(OTHER_COMPILER).map(PathBuf::from)
}

fn has_target(target: &str) -> Result<bool> {
    let directory = rustc_says(&["--print", "target-libdir", "--target", target])?;
    Ok(fs::read_dir(directory).is_ok_and(|mut files| files.next().is_some()))
}

fn rustc_says(arguments: &[&str]) -> Result<PathBuf> {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(compiler).args(arguments).output();
    let output = output.context("`rustc` could not be started; install Rust with rustup first")?;
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// `cargo build` for Wasm. Another compiler than rustup's builds the standard library too, which it only does when told
/// that it may use unstable options, and links with the linker that rustup's brought along.
fn cargo_build(repository: &Repository) -> Result<Command> {
    let mut cargo = repository.cargo();
    cargo.args(["build", "--profile", "wasm", "--target", TARGET]);
    if let Some(compiler) = other_compiler() {
        let linker = rustc_says(&["--print", "target-libdir"])?.join("../bin/rust-lld");
        cargo.env("RUSTC", compiler).env("RUSTC_BOOTSTRAP", "1");
        cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker).arg("-Zbuild-std=std,panic_abort");
    }
    Ok(cargo)
}

/// `cargo clippy` over the policies and the guests as they are built for Wasm: what only stands there is not seen natively.
pub fn lint(repository: &Repository) -> Result<Command> {
    let mut cargo = repository.cargo();
    cargo.args(["clippy", "--profile", "wasm", "--target", TARGET]);
    for name in packages_below(&repository.join("plugins"))? {
        cargo.args(["--package", &name]);
    }
    cargo.args(["--package", GUESTS, "--lib", "--examples", "--", "-D", "warnings"]);
    Ok(cargo)
}

/// The package in each directory directly below this one, in the order of their names.
fn packages_below(directory: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let Ok(entries) = fs::read_dir(directory) else { return Ok(names) };
    for entry in entries {
        names.extend(package_name(&entry?.path())?);
    }
    Ok(names)
}

/// The name of the package in a directory; `None` where there is none.
fn package_name(directory: &Path) -> Result<Option<String>> {
    let manifest = directory.join("Cargo.toml");
    let Ok(text) = fs::read_to_string(&manifest) else { return Ok(None) };
    let table: toml::Table = text.parse().with_context(|| format!("{} is not TOML", manifest.display()))?;
    let name = table.get("package").and_then(|package| package.get("name")).and_then(|name| name.as_str());
    Ok(name.map(str::to_owned))
}

/// Builds with cargo and turns each core module into a component `target/portico/<into>/<name>.wasm`.
fn encode_all(repository: &Repository, arguments: &[&str], into: &str) -> Result<()> {
    let modules = build(repository, arguments)?;
    let directory = repository.join("target/portico").join(into);
    fs::create_dir_all(&directory).with_context(|| format!("{} cannot be created", directory.display()))?;
    let mut written = 0;
    for module in &modules {
        let component = encode(&module.path).with_context(|| format!("{} did not become a component", module.name))?;
        written += usize::from(write_if_changed(&directory.join(format!("{}.wasm", module.name)), &component)?);
    }
    eprintln!("{} {into}, {written} of them new or changed, in {}", modules.len(), repository.shown(&directory));
    Ok(())
}

struct Module {
    name: String,
    path: PathBuf,
}

/// Asks cargo which files it made instead of guessing their names; its progress goes to the terminal as always.
fn build(repository: &Repository, arguments: &[&str]) -> Result<Vec<Module>> {
    let mut cargo = cargo_build(repository)?
        .args(["--message-format", "json-render-diagnostics"])
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .context("`cargo` could not be started")?;
    let output = cargo.stdout.take().context("cargo's output is not readable")?;
    let mut modules = Vec::new();
    for line in BufReader::new(output).lines() {
        let message: Value = serde_json::from_str(&line?).unwrap_or(Value::Null);
        modules.extend(module_in(&message));
    }
    if !cargo.wait()?.success() {
        bail!("the policies do not compile; the reason is above");
    }
    Ok(modules)
}

/// The core module that one of cargo's messages announces: an example goes by its own name, a plugin by its directory's.
fn module_in(message: &Value) -> Option<Module> {
    if message["reason"] != "compiler-artifact" {
        return None;
    }
    let files = message["filenames"].as_array()?;
    let path = files.iter().filter_map(Value::as_str).find(|file| file.ends_with(".wasm"))?;
    let example = message["target"]["kind"].as_array()?.iter().any(|kind| kind == "example");
    let manifest = Path::new(message["manifest_path"].as_str()?);
    let name = if example { message["target"]["name"].as_str()? } else { manifest.parent()?.file_name()?.to_str()? };
    Some(Module { name: name.replace('_', "-"), path: PathBuf::from(path) })
}

fn encode(path: &Path) -> Result<Vec<u8>> {
    let core = fs::read(path)?;
    ComponentEncoder::default().validate(true).module(&core)?.encode()
}

/// Writes by rename, so that nobody ever reads half a component; `false` where the file already held these bytes.
pub fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<bool> {
    if fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(false);
    }
    let part = path.with_extension(format!("part-{}", std::process::id()));
    fs::write(&part, bytes)
        .and_then(|()| fs::rename(&part, path))
        .with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_are_not_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gas.wasm");
        assert!(write_if_changed(&path, b"one").unwrap());
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        assert!(!write_if_changed(&path, b"one").unwrap());
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
        assert!(write_if_changed(&path, b"two").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn cargo_says_which_modules_it_made() {
        let said = |name: &str, kind: &str, files: &[&str]| {
            module_in(
                &serde_json::json!({"reason": "compiler-artifact", "manifest_path": "/r/plugins/key-auth/Cargo.toml",
                "target": {"name": name, "kind": [kind]}, "filenames": files}),
            )
        };
        let plugin = said("portico_key_auth", "cdylib", &["/t/libkey.rlib", "/t/key.wasm"]).unwrap();
        assert_eq!((plugin.name.as_str(), plugin.path), ("key-auth", PathBuf::from("/t/key.wasm")));
        let guest = said("endless_loop", "example", &["/t/endless_loop.wasm"]).unwrap();
        assert_eq!(guest.name, "endless-loop");
        assert!(said("portico_sdk", "lib", &["/t/libportico_sdk.rlib"]).is_none());
    }
}
