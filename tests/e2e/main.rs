//! Promises of the gateway, on real sockets with real components.

#[path = "../harness/harness.rs"]
mod harness;

mod access;
mod data_path;
mod hostile;
mod limits;
mod live;
mod load;
mod malformed;
mod powers;
mod program;
