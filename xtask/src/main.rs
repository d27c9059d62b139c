//! The project's own commands: start it, build its policies, hold its rules, test it, measure it.
//!
//! Everything here serves the people who work on the gateway; nothing here is part of the gateway.

mod bench;
mod build;
mod child;
mod components;
mod http;
mod interrupt;
mod languages;
#[path = "../../tests/harness/page.rs"]
#[allow(dead_code, reason = "the tests follow the rest of a page")]
mod page;
mod pillar;
mod port;
mod repository;
mod schemathesis;
mod section;
mod soak;
mod test;
mod tidy;
mod up;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use repository::Repository;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build everything, start two demo pillars and the gateway, print a key and three curl lines.
    Up {
        /// Send the three requests too, say how long all of it took, and stop.
        #[arg(long)]
        check: bool,
    },
    /// Build the shipped policies and the test guests into target/portico.
    Components,
    /// Build the example policies in other languages into target/portico/guests, as their READMEs say,
    /// and what the authors' page builds; and fetch the tool that asks about the gateway's own API.
    Guests,
    /// Everything that must hold: format, lints, layering, unit and end-to-end tests.
    Test {
        /// Passed on to `cargo test`, for example a test's name.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        rest: Vec<String>,
    },
    /// What one request costs, without and with the three policies; what hostile guests cost others.
    Bench(bench::Options),
    /// What takes too long for every test run: a thousand swaps of a component under load, fifty deaths.
    Soak(soak::Options),
    /// Check layering, names and file lengths.
    Tidy,
    /// Run one demo pillar in the foreground.
    Pillar {
        /// Which one.
        name: pillar::Name,
        /// Where it listens.
        #[arg(long)]
        listen: Option<SocketAddr>,
        /// Where the gateway is, whose assertions it verifies.
        #[arg(long, default_value = "127.0.0.1:9099")]
        gateway: SocketAddr,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let repository = Repository::find()?;
    match command {
        Command::Up { check } => up::run(&repository, check)?,
        Command::Components => {
            components::plugins(&repository)?;
            components::guests(&repository)?;
        }
        Command::Guests => {
            languages::run(&repository)?;
            schemathesis::install(&repository)?;
        }
        Command::Test { rest } => return test::run(&repository, &rest),
        Command::Bench(options) => bench::run(&repository, &options)?,
        Command::Soak(options) => soak::run(&repository, &options)?,
        Command::Tidy => return tidy::run(&repository),
        Command::Pillar { name, listen, gateway } => pillar::run(name, listen, gateway)?,
    }
    Ok(ExitCode::SUCCESS)
}
