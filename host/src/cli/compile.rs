//! `portico compile-one`: the process in which the gateway has one component compiled. Not for people.

use super::Exit;
use crate::plugin;
use clap::Args;
use std::io;

/// Within what.
#[derive(Debug, Args)]
pub struct Bounds {
    /// Make ready, and wait for the component; none may come.
    #[arg(long)]
    pub ahead: bool,
    /// Seconds of processor time.
    pub seconds: u64,
    /// Bytes of memory.
    pub memory: u64,
}

/// Compiles what comes on standard input to standard output.
pub fn run(bounds: &Bounds) -> Exit {
    let Bounds { ahead, seconds, memory } = *bounds;
    match plugin::compile_one(seconds, memory, ahead, &mut io::stdin().lock(), &mut io::stdout().lock()) {
        Ok(()) => Exit::Done,
        Err(error) => {
            eprintln!("portico: the component cannot be compiled here: {error}");
            Exit::Refused
        }
    }
}
