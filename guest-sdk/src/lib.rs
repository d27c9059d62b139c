//! What the author of a Portico policy depends on: one trait, typed configuration by serde, a verdict builder.
//!
//! A policy is a function from facts to a verdict. Implement [`Policy`], name it in [`export!`], build for
//! `wasm32-unknown-unknown`. Nothing here needs Wasm to be tested: every type can be made natively, [`testing`] has
//! builders for requests and slots, and [`export!`] expands to nothing outside Wasm.
//!
//! Deliberately absent: a clock, a random source and any way to reach out. Time and a seed are facts of the request.

mod about;
mod after;
pub mod bindings;
mod body;
mod json;
pub mod log;
#[cfg(any(test, all(feature = "allocator", target_family = "wasm", not(target_feature = "atomics"))))]
mod memory;
mod mount;
mod policy;
mod reply;
mod request;
mod setup;
pub mod testing;
mod verdict;

pub use about::{About, Counter, Read, ResponseRead, ResponseWrite, Write};
pub use bindings::policy::portico::policy::types::{
    Action, Address, After, AfterAction, Auth, Basis, BodyMode, Change, Charge, Claim, Credential, CustomDenial,
    Denial, Descriptor, Diagnostic, Edit, Facts, FieldValue, Health, Limit, Method, Mode, Note, OtherField, Period,
    Plan, Powers, Principal, Reply, Request, RequestEnd, RequestPiece, Response, ResponseEnd, ResponsePiece, Route,
    Scheme, Slot, Source, StandardDenial, Standing, Subject, Take, TokenRequest, Upload, Verdict, Window,
};
pub use body::{RequestBody, ResponseBody};
pub use log::count;
pub use mount::{Exported, FollowsRequests, FollowsResponses, Mounted, Slots};
pub use policy::{NoConfig, Policy};
pub use setup::{LimitIndex, ScopeIndex, Setup, TargetIndex};

/// Compiles what the README shows.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
