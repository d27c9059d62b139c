//! The gateway as a library.

pub mod api;
pub mod assertion;
pub mod cli;
pub mod clock;
pub mod config;
pub mod credential;
pub mod data;
pub mod id;
pub mod key;
pub mod limit;
pub mod org;
pub mod path;
pub mod plugin;
pub mod problem;
pub mod seal;
pub mod body;
pub mod chain;
pub mod denial;
pub mod respond;
pub mod route;
pub mod upstream;
