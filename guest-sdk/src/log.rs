//! Words and numbers for the operator.
//!
//! Natively there is no operator: what is said is kept for the thread, for tests to look at
//! ([`testing::lines`](crate::testing::lines), [`testing::counted`](crate::testing::counted)).

use crate::Counter;
pub use crate::bindings::log::Level;

/// For whoever debugs the policy.
pub fn debug(message: &str) {
    write(Level::Debug, message);
}

/// Worth knowing.
pub fn info(message: &str) {
    write(Level::Info, message);
}

/// Worth a look.
pub fn warn(message: &str) {
    write(Level::Warn, message);
}

/// Wrong.
pub fn error(message: &str) {
    write(Level::Error, message);
}

/// Writes one line, at most 2,048 bytes. The gateway keeps 16 lines of a call, and counts what is beyond.
pub fn write(level: Level, message: &str) {
    #[cfg(target_family = "wasm")]
    crate::bindings::log::write(level, message);
    #[cfg(not(target_family = "wasm"))]
    native::LINES.with_borrow_mut(|lines| lines.push((level, message.to_owned())));
}

/// Adds to a counter.
pub fn count(counter: Counter, by: u64) {
    #[cfg(target_family = "wasm")]
    crate::bindings::metrics::count(counter.0, by);
    #[cfg(not(target_family = "wasm"))]
    native::COUNTS.with_borrow_mut(|counts| counts.push((counter, by)));
}

#[cfg(not(target_family = "wasm"))]
pub(crate) mod native {
    use std::cell::RefCell;

    use super::{Counter, Level};

    thread_local! {
        pub(crate) static LINES: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
        pub(crate) static COUNTS: RefCell<Vec<(Counter, u64)>> = const { RefCell::new(Vec::new()) };
    }
}
