//! `portico check`: everything that is wrong with a configuration, plugins included.

use super::Exit;
use crate::plugin::Compiler;
use crate::server;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;

/// Checks a configuration; prints every problem on standard error.
pub fn run(path: &Path) -> Exit {
    // Where nobody can be told what is wrong, the exit code still says it.
    let told = |what: fmt::Arguments<'_>| drop(writeln!(io::stderr(), "{what}"));
    match server::check(path, Compiler::own()) {
        Ok((config, warnings)) => {
            warnings.iter().for_each(|warning| told(format_args!("{}: note: {warning}", path.display())));
            let (pillars, policies) = (config.pillars.len(), config.policies.len());
            let (pillar, policy) = (counted(pillars, "pillar", "pillars"), counted(policies, "policy", "policies"));
            match writeln!(io::stdout(), "{}: fine, {pillar} behind {policy}", path.display()) {
                // Whoever closed the output has seen what he wanted; the exit code says the rest.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    told(format_args!("portico: {} is fine, and that cannot be printed: {error}", path.display()));
                    Exit::Refused
                }
                _ => Exit::Done,
            }
        }
        Err(error) => {
            told(format_args!("{error}"));
            Exit::Usage
        }
    }
}

fn counted(number: usize, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}
