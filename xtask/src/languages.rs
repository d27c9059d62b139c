//! Builds the example policies in other languages as components, each with the tools of its language.
//!
//! Tools and components are kept: a step whose inputs (sources, `wit/`, versions of tools) did not change is not done
//! again. Every version is pinned in the example itself, with its hashes, so authors build with what the tests build with.

mod imports;
mod stamp;
mod tools;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::components;
use crate::repository::Repository;
use crate::section::Section;
use stamp::Stamp;
use tools::Tools;

const WORLD: &str = "portico:policy/policy";
const WASI: &str = "wasm32-wasip2";

/// One example, and the component that it becomes.
struct Example {
    directory: &'static str,
    component: &'static str,
    /// Further inputs below the root, beside the example itself and `wit/`.
    needs: &'static [&'static str],
    build: fn(&Build<'_>) -> Result<()>,
}

const EXAMPLES: [Example; 3] = [
    Example {
        directory: "rust-wasi-policy",
        component: "rust-hello",
        needs: &["guest-sdk/src", "Cargo.toml"],
        build: rust,
    },
    Example { directory: "python-policy", component: "python-hello", needs: &[], build: python },
    Example { directory: "javascript-policy", component: "javascript-hello", needs: &[], build: javascript },
];

/// Where one example is built from, with what, and into what.
struct Build<'a> {
    repository: &'a Repository,
    source: PathBuf,
    wit: PathBuf,
    into: PathBuf,
    tools: Tools,
}

/// Builds all of them into `target/portico/guests`, beside the test guests; what is there already stays.
///
/// # Errors
/// When a tool is missing and cannot be had, in a sentence that says how to get it; or when a policy does not build.
pub fn run(repository: &Repository) -> Result<()> {
    let section = Section::open("guests in other languages");
    let guests = repository.join("target/portico/guests");
    let tools = repository.join("target/portico/tools");
    for directory in [&guests, &tools] {
        fs::create_dir_all(directory).with_context(|| format!("{} cannot be created", directory.display()))?;
    }
    for example in &EXAMPLES {
        let build = Build {
            repository,
            source: repository.join("examples").join(example.directory),
            wit: repository.join("wit"),
            into: guests.join(format!("{}.wasm", example.component)),
            tools: Tools::below(tools.clone()),
        };
        let inputs: Vec<PathBuf> = [build.source.clone(), build.wit.clone()]
            .into_iter()
            .chain(example.needs.iter().map(|input| repository.join(input)))
            .collect();
        let stamp = Stamp::over(tools.join(format!("{}.stamp", example.component)), &[], &inputs)?;
        let state = if stamp.holds() && build.into.is_file() {
            "unchanged"
        } else {
            eprintln!("{}: building", example.component);
            stamp.clear()?;
            (example.build)(&build)
                .with_context(|| format!("examples/{} did not become a component", example.directory))?;
            stamp.set()?;
            "built"
        };
        let bytes = fs::read(&build.into)?;
        let wasi = imports::wasi(&bytes).with_context(|| format!("{} cannot be used", build.into.display()))?;
        eprintln!("{}: {state}, {} KiB, {} interfaces of WASI", example.component, bytes.len() >> 10, wasi.len());
    }
    section.close();
    Ok(())
}

/// With cargo alone: the compiler makes a component for this target by itself.
fn rust(build: &Build<'_>) -> Result<()> {
    components::add_target(WASI)?;
    let target = build.tools.directory("rust");
    let mut cargo = build.repository.cargo();
    cargo.args(["build", "--release", "--locked", "--target", WASI, "--manifest-path"]);
    cargo.arg(build.source.join("Cargo.toml")).arg("--target-dir").arg(&target);
    tools::run(&mut cargo, "cargo")?;
    fs::copy(target.join(WASI).join("release/rust_wasi_hello.wasm"), &build.into)?;
    Ok(())
}

fn python(build: &Build<'_>) -> Result<()> {
    let python = build.tools.python("python", &build.source.join("requirements.txt"))?;
    let mut componentize = python.command("componentize-py");
    componentize.arg("--wit-path").arg(&build.wit).args(["--world", WORLD, "componentize", "policy"]);
    componentize.arg("--python-path").arg(&build.source).arg("--output").arg(&build.into);
    tools::run(&mut componentize, "componentize-py")
}

/// Node.js comes as a Python package: Debian's own is too old for the tool, and nothing has to be installed as root.
fn javascript(build: &Build<'_>) -> Result<()> {
    let node = build.tools.python("node", &build.source.join("requirements.txt"))?;
    let modules = build.tools.node("javascript", &node, &build.source)?;
    let mut componentize: Command = node.command("node");
    componentize.arg(modules.join("@bytecodealliance/componentize-js/src/cli.js"));
    componentize.arg(build.source.join("policy.js")).arg("--wit").arg(&build.wit).args(["--world-name", WORLD]);
    componentize.args(["--disable", "stdio", "random", "clocks", "http", "fetch-event", "--out"]).arg(&build.into);
    tools::run(&mut componentize, "componentize-js")
}
