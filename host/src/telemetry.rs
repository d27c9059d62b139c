//! Where the gateway's words go: one line each on standard error, as text for people or as JSON for programs.
//!
//! Secrets never come here: their types have no way to be shown.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// An error with its causes, as one sentence: none of them twice.
pub fn sentence(error: &dyn std::error::Error) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(because) = cause {
        let because_text = because.to_string();
        if !sentence.contains(&because_text) {
            sentence.push_str(": ");
            sentence.push_str(&because_text);
        }
        cause = because.source();
    }
    sentence
}

/// The variable that says how much is told, for example `portico=debug`.
pub const FILTER_VARIABLE: &str = "PORTICO_LOG";

/// Starts telling. Text where somebody looks at it, JSON elsewhere.
pub fn start() {
    let filter = EnvFilter::try_from_env(FILTER_VARIABLE).unwrap_or_else(|_| EnvFilter::new("portico=info,warn"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start in one process keeps the first.
    let _ = if std::io::stderr().is_terminal() {
        subscriber.with_target(false).compact().try_init()
    } else {
        subscriber.json().flatten_event(true).try_init()
    };
}
