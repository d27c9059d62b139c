//! What end-to-end tests stand on: a real gateway, real components, a real origin, real sockets; all on port 0.

mod client;
mod collector;
mod gateway;
mod lines;
mod origin;
pub mod page;
mod receiver;
pub mod secrets;

pub use client::{Answer, raw, request};
pub use collector::{Collector, Told};
pub use gateway::{DEFAULT, Gateway, LONG_DRAIN, ONE_WORKER, cold_catalog, components, guest, patched};
pub use origin::Origin;
pub use receiver::{Message, Receiver};

use std::time::{Duration, Instant};

/// Waits until something holds, and says what was waited for when it never does.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
