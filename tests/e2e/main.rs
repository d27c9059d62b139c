//! Promises of the gateway, on real sockets with real components.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

#[path = "../harness/harness.rs"]
mod harness;

mod access;
mod backups;
mod bodies;
mod chain;
mod code_cache;
mod cold;
mod compiling;
mod configuration;
mod data_path;
mod disorder;
mod documents;
mod ending;
mod erasing;
mod exports;
mod hostile;
mod keys;
mod killed;
mod languages;
mod limits;
mod live;
mod load;
mod malformed;
mod metrics;
mod once;
mod own;
mod pages;
mod places;
mod powers;
mod priming;
mod program;
mod quarantine;
mod reaching;
mod reload;
mod requests;
mod room;
mod schema;
mod shipped;
mod traces;
mod trust;
mod uncounted;
mod unshown;
mod usage;
mod waiting;
mod walk;
mod webhooks;
