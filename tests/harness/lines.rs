//! What all gateways of this process write to their log, kept so that it can be looked through.

use std::io::{self, Write};
use std::sync::{Mutex, Once, PoisonError};
use tracing_subscriber::EnvFilter;

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Keeps what is written from now on; where the next line will begin.
pub fn begin() -> usize {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let subscriber = tracing_subscriber::fmt().with_env_filter(EnvFilter::new("portico=debug,warn"));
        subscriber.with_ansi(false).with_writer(|| Lines).init();
    });
    LINES.lock().unwrap_or_else(PoisonError::into_inner).len()
}

/// What was written from there on.
pub fn since(begin: usize) -> Vec<u8> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)[begin..].to_vec()
}

struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
