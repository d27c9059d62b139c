//! `portico check`: everything that is wrong with a configuration, plugins included.

use super::Exit;
use crate::plugin::Compiler;
use crate::server;
use std::io::{self, Write};
use std::path::Path;

/// Checks a configuration; prints every problem on standard error.
pub fn run(path: &Path) -> Exit {
    match server::check(path, Compiler::own()) {
        Ok((config, warnings)) => {
            warnings.iter().for_each(|warning| eprintln!("{}: note: {warning}", path.display()));
            let (pillars, policies) = (config.pillars.len(), config.policies.len());
            let (pillar, policy) = (counted(pillars, "pillar", "pillars"), counted(policies, "policy", "policies"));
            // Whoever closed the output has seen what he wanted; the exit code says the rest.
            let _ = writeln!(io::stdout(), "{}: fine, {pillar} behind {policy}", path.display());
            Exit::Done
        }
        Err(error) => {
            eprintln!("{error}");
            Exit::Usage
        }
    }
}

fn counted(number: usize, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}
