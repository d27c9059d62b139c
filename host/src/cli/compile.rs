//! `portico compile-one`: the process in which the gateway has one component compiled. Not for people.

use super::Exit;
use crate::plugin;
use clap::Args;
use std::io;

/// Within what.
#[derive(Debug, Args)]
pub struct Bounds {
    /// Seconds of processor time.
    pub seconds: u64,
    /// Bytes of memory.
    pub memory: u64,
}

/// Compiles what comes on standard input to standard output.
pub fn run(bounds: &Bounds) -> Exit {
    match plugin::compile_one(bounds.seconds, bounds.memory, &mut io::stdin().lock(), &mut io::stdout().lock()) {
        Ok(()) => Exit::Done,
        Err(error) => {
            eprintln!("portico: the component cannot be compiled here: {error}");
            Exit::Refused
        }
    }
}
