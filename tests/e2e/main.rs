//! Promises of the gateway, on real sockets with real components.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

#[path = "../harness/harness.rs"]
mod harness;

mod access;
mod bodies;
mod chain;
mod data_path;
mod ending;
mod hostile;
mod languages;
mod limits;
mod live;
mod load;
mod malformed;
mod pages;
mod places;
mod powers;
mod program;
mod quarantine;
mod reaching;
mod reload;
mod shipped;
mod waiting;
mod walk;
