//! Builds the example policies in other languages as components, by following their READMEs word for word; and what the
//! authors' page builds.
//!
//! In the examples' own directories, as an author would; what comes of it is not under version control. An example whose inputs
//! (its files, `wit/`, the SDK) did not change is not built again. Every version of a tool is pinned in the example itself.

mod author;
mod imports;
mod readme;
mod stamp;
pub mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::components;
use crate::repository::Repository;
use crate::section::Section;
pub use stamp::Stamp;

const WASI: &str = "wasm32-wasip2";

/// One example, and what it needs beside its own directory and `wit/`.
struct Example {
    directory: &'static str,
    needs: &'static [&'static str],
}

const EXAMPLES: [Example; 3] = [
    Example {
        directory: "rust-wasi-policy",
        needs: &["guest-sdk/src", "guest-sdk/Cargo.toml", "Cargo.toml", "rust-toolchain.toml"],
    },
    Example { directory: "python-policy", needs: &[] },
    Example { directory: "javascript-policy", needs: &[] },
];

/// Builds all of them into `target/portico/guests`, beside the test guests; what is there already stays.
///
/// # Errors
/// When a tool is missing and cannot be had, in a sentence that says how to get it; or when a policy does not build.
pub fn run(repository: &Repository) -> Result<()> {
    let section = Section::open("guests in other languages");
    let guests = repository.join("target/portico/guests");
    fs::create_dir_all(&guests).with_context(|| format!("{} cannot be created", guests.display()))?;
    components::add_target(WASI)?;
    for example in &EXAMPLES {
        let source = repository.join("examples").join(example.directory);
        let further = example.needs.iter().map(|input| repository.join(input));
        let inputs: Vec<PathBuf> = [source.clone(), repository.join("wit")].into_iter().chain(further).collect();
        let stamp = Stamp::over(guests.join(format!("{}.stamp", example.directory)), &[], &inputs)?;
        let made = || component_in(&source.join("plugins"));
        let state = match made() {
            Ok(_) if stamp.holds() => "unchanged",
            _ => {
                eprintln!("examples/{}: following its README, a minute or two", example.directory);
                stamp.clear()?;
                follow(&source)
                    .with_context(|| format!("examples/{} did not become a component", example.directory))?;
                stamp.set()?;
                "built"
            }
        };
        let (name, bytes) = made()?;
        let wasi = imports::wasi(&bytes).with_context(|| format!("{name} cannot be used"))?;
        components::write_if_changed(&guests.join(&name), &bytes)?;
        eprintln!("{name}: {state}, {} KiB, {} interfaces of WASI", bytes.len() >> 10, wasi.len());
    }
    author::run(repository)?;
    section.close();
    Ok(())
}

/// Does what stands under "Build it", as one script.
fn follow(example: &Path) -> Result<()> {
    let text = fs::read_to_string(example.join("README.md"))?;
    let script = readme::steps(&text).context("its README has no shell commands under \"Build it\"")?;
    if script.contains("python3") {
        tools::python()?;
    }
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", &script]).current_dir(example);
    as_in_a_terminal(&mut shell);
    tools::run(&mut shell, "sh")
}

/// And not as within another build.
fn as_in_a_terminal(shell: &mut Command) {
    shell.env_remove("CARGO_TARGET_DIR").env_remove("PYTHONPATH").env_remove("VIRTUAL_ENV");
}

/// The one component in a directory of plugins, with its name.
fn component_in(plugins: &Path) -> Result<(String, Vec<u8>)> {
    let entries = fs::read_dir(plugins).with_context(|| format!("there is no directory {}", plugins.display()))?;
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "wasm"));
    let [component] = &found[..] else {
        bail!("{} holds {} components; one is expected", plugins.display(), found.len());
    };
    let name = component.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok((name, fs::read(component)?))
}
