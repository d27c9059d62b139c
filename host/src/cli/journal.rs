//! `portico journal list`: what the journal in a data directory says, record by record, as JSON lines.
//!
//! Reads the files themselves, since they are of most interest where no gateway runs; changes nothing.

use super::Exit;
use crate::config;
use crate::journal;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Prints all records of the data directory of this configuration.
pub fn list(path: &Path) -> Exit {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return Exit::Usage;
        }
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut written = Ok(());
    let read = journal::list(&config.data.directory.join(journal::DIRECTORY), |listed| {
        if written.is_ok() {
            written = serde_json::to_writer(&mut out, listed).map_err(io::Error::from).and_then(|()| writeln!(out));
        }
    });
    if let Err(error) = &read {
        eprintln!("portico: {}", super::Chain(error));
    }
    // Whoever reads only the first lines has had enough.
    let printed = written.and_then(|()| out.flush()).or_else(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    });
    if let Err(error) = &printed {
        eprintln!("portico: cannot print the answer: {error}");
    }
    if read.is_ok() && printed.is_ok() { Exit::Done } else { Exit::Refused }
}
