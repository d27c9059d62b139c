//! Compiled code, linked: what instances are made from, and how their exports are found.
//!
//! One component can have two of these: as it was written, and as it stands once it is configured (see [`super::primed`]).

use super::bindings_0_1::policy_world::{PolicyIndices, PolicyPre};
use super::bindings_0_1::request_body_world::RequestBodyIndices;
use super::bindings_0_1::response_body_world::ResponseBodyIndices;
use super::bindings_0_1::response_world::ResponseIndices;
use super::engine::Engine;
use super::guest::Guest;
use super::waiting;
use wasmtime::component::{Component as Compiled, InstancePre};

/// What a component that follows request bodies exports.
pub(super) const REQUEST_BODY: [&str; 3] = ["on-request-body", "on-request-chunk", "on-request-end"];
/// What a component that follows response bodies exports.
pub(super) const RESPONSE_BODY: [&str; 3] = ["on-response-body", "on-response-chunk", "on-response-end"];

/// Code that can be instantiated.
pub(super) struct Linked {
    pub(super) instance: InstancePre<Guest>,
    pub(super) runs: Runs,
    /// How it follows request bodies, where it does.
    pub(super) request_body: Option<RequestBodyIndices>,
    /// How it follows response bodies, where it does.
    pub(super) response_body: Option<ResponseBodyIndices>,
}

/// How it is called.
pub(super) enum Runs {
    /// At once, and to the end.
    Pure {
        /// What every policy exports.
        policy: PolicyIndices,
        /// The response phase, where it has one.
        response: Option<ResponseIndices>,
    },
    /// With pauses.
    Waiting(waiting::Exports),
}

impl Linked {
    /// Links compiled code with what its engine has for guests.
    ///
    /// # Errors
    /// When it asks for something else, or exports something else than the contract has.
    pub(super) fn of(engine: &Engine, compiled: &Compiled) -> wasmtime::Result<Self> {
        let instance = engine.linker().instantiate_pre(compiled)?;
        let has_response = exports_any(compiled, &["on-response"]);
        if engine.waits() {
            let runs = Runs::Waiting(waiting::Exports::of(&instance, has_response)?);
            return Ok(Self { instance, runs, request_body: None, response_body: None });
        }
        PolicyPre::new(instance.clone())?;
        let response = if has_response { Some(ResponseIndices::new(&instance)?) } else { None };
        let runs = Runs::Pure { policy: PolicyIndices::new(&instance)?, response };
        let [on_requests, on_responses] = [REQUEST_BODY, RESPONSE_BODY].map(|names| exports_any(compiled, &names));
        let request_body = if on_requests { Some(RequestBodyIndices::new(&instance)?) } else { None };
        let response_body = if on_responses { Some(ResponseBodyIndices::new(&instance)?) } else { None };
        Ok(Self { instance, runs, request_body, response_body })
    }

    /// Whether it takes part in the response phase.
    pub(super) fn has_response_phase(&self) -> bool {
        match &self.runs {
            Runs::Pure { response, .. } => response.is_some(),
            Runs::Waiting(exports) => exports.has_response(),
        }
    }
}

/// Whether a component exports one of these.
pub(super) fn exports_any(compiled: &Compiled, names: &[&str]) -> bool {
    names.iter().any(|name| compiled.get_export_index(None, name).is_some())
}
