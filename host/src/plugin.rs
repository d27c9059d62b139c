//! Policies as components: compiled, checked, granted, configured, and called.
//!
//! The only place that knows wasmtime. Nothing here knows HTTP exchanges, chains or limits: a policy goes in as bytes,
//! and comes out as a function from facts to a verdict.

mod bindings_0_1;
mod bindings_0_1_waiting;
mod cache;
mod catalog;
mod compiler;
mod component;
mod declared;
mod engine;
mod failure;
mod grant;
mod guest;
mod instance;
mod lease;
mod linked;
mod plan;
mod policy;
mod primed;
mod quarantine;
mod room;
mod schema;
pub mod shelf;
mod verdict;
mod waiting;

pub use cache::CodeCache;
pub use catalog::{Catalog, Offer};
pub use compiler::{Compiler, Order, compile_one};
pub use component::{Component, Wants, digest};
pub use declared::{Declared, Fields, is_reserved, is_sensitive, named_powers};
pub use engine::{EngineError, EngineRoom, Engines, LARGEST_COMPONENT, LARGEST_MEMORY, TICK};
pub use failure::{Failure, Kind};
pub use guest::Counter;
pub use instance::{Answer, Instances};
pub use lease::{Direction, Lease, Leases, Piece};
pub use plan::Plan;
pub use policy::{Beginning, Policy, Record, RouteUse, Slot, SlotUse};
pub use quarantine::{Caller, Pass, Quarantine, Quarantined, Tallies, Voice};
pub use room::{Overdrawn, Rooms};
pub use verdict::{Action, Afterthought, Claim, Decision, Edit, FieldChange, LastWord, Reply};
pub use waiting::{Outside, Reached};

/// The shapes of the contract, version 0.1.
pub mod contract {
    pub use super::bindings_0_1::portico::policy::types::*;
}
