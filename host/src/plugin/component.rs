//! From bytes to a checked, linked component that has said what it is.
//!
//! All or nothing, and all reasons at once: what cannot be run is refused here, before any operator's grant is looked at.

use super::cache::CodeCache;
use super::compiler::Order;
use super::contract::Descriptor;
use super::declared::Declared;
use super::engine::{Engine, Engines};
use super::failure::Failure;
use super::guest::{Counter, Guest};
use super::linked::{Linked, REQUEST_BODY, RESPONSE_BODY, Runs, exports_any};
use super::waiting;
use crate::config::Bounds;
use std::sync::Arc;
use wasmtime::component::Component as Compiled;
use wasmtime::component::types::ComponentItem;

/// The version of the contract that this gateway runs.
const CONTRACT: &str = "portico:policy@0.1.0";
const REQUIRED: [&str; 3] = ["describe", "configure", "on-request"];
const LATER_PHASES: [&str; 1] = ["on-finish"];

/// A component that can be instantiated, and what it says of itself.
pub struct Component {
    pub(super) engine: Engine,
    pub(super) linked: Arc<Linked>,
    /// How many places of its engine an instance takes.
    pub(super) weight: usize,
    /// What it declares.
    pub declared: Declared,
    /// What it wants to reach.
    pub wants: Wants,
    /// SHA-256 of its bytes, in hexadecimal.
    pub digest: String,
    /// Whether its code was compiled for this process, and not found in the cache.
    pub compiled: bool,
}

/// Capabilities that a component imports.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wants {
    /// The key-value store.
    pub store: bool,
    /// Requests of its own.
    pub outbound: bool,
}

impl Wants {
    /// Whether it wants any.
    pub fn any(self) -> bool {
        self.store || self.outbound
    }
}

impl Component {
    /// Checks, compiles, links and asks it what it is; what was made from the same bytes already, and code that the cache has, is
    /// not compiled again. What is compiled is not in the cache before [`Self::keep_code`], unless it is refused. Takes a
    /// while: never called on a worker.
    ///
    /// # Errors
    /// Every reason why it cannot be run, each a sentence that begins with "it" or "its".
    pub fn load(
        engines: &Engines,
        bytes: &[u8],
        bounds: Bounds,
        alike: Option<&Self>,
        cache: Option<&CodeCache>,
        order: &Order<'_>,
    ) -> Result<Self, Vec<String>> {
        shape(bytes).map_err(|reason| vec![reason])?;
        let digest = digest(bytes);
        let engine = &engines.for_component(bytes).map_err(|reason| vec![reason])?;
        let in_memory = alike.map(|alike| (alike.linked.instance.component().clone(), alike.compiled));
        let in_cache = || cache.and_then(|cache| cache.find(engine, &digest)).map(|code| (code, false));
        let (compiled, is_new) = match in_memory.or_else(in_cache) {
            Some(known) => known,
            None => {
                let compiled = engine.compile(bytes, order).map_err(|error| vec![error.to_string()])?;
                if let Some(cache) = cache {
                    // What was found there was of no use.
                    cache.forget(engine, &digest);
                }
                (compiled, true)
            }
        };
        let checked = Self::checked(engine, &compiled, &digest, is_new, bounds);
        if let Some(cache) = cache.filter(|_| checked.is_err()) {
            // It will be looked at again, and is refused without being compiled then.
            cache.keep(engine, &digest, &compiled);
        }
        checked
    }

    fn checked(
        engine: &Engine,
        compiled: &Compiled,
        digest: &str,
        is_new: bool,
        bounds: Bounds,
    ) -> Result<Self, Vec<String>> {
        let wants = border(engine, compiled)?;
        let one = |error: wasmtime::Error| vec![format!("it does not fit {CONTRACT}: {error:#}")];
        let [on_requests, on_responses] = [REQUEST_BODY, RESPONSE_BODY].map(|names| exports_any(compiled, &names));
        if engine.waits() && (on_requests || on_responses) {
            return Err(vec![
                "it follows bodies and imports what can make it wait; a policy that follows bodies can import log and metrics alone"
                    .into(),
            ]);
        }
        let linked = Linked::of(engine, compiled).map_err(one)?;
        let mut component = Self {
            engine: engine.clone(),
            linked: Arc::new(linked),
            weight: engine.weight(compiled),
            declared: Declared::default(),
            wants,
            digest: digest.to_owned(),
            compiled: is_new,
        };
        let [descriptor, again] = component.describe_twice(bounds)?;
        let mut problems = Vec::new();
        if format!("{descriptor:?}") != format!("{again:?}") {
            problems.push("it describes itself differently each time".to_owned());
        }
        match Declared::check(&descriptor) {
            Ok(declared) if problems.is_empty() => {
                if !component.has_response_phase() && !on_responses && !declared.response_reads.is_empty() {
                    return Err(vec!["it declares response-reads and has no on-response".into()]);
                }
                for (direction, mode, first, exported) in [
                    ("request", declared.request_body, REQUEST_BODY[0], on_requests),
                    ("response", declared.response_body, RESPONSE_BODY[0], on_responses),
                ] {
                    if mode.is_some() && !exported {
                        problems.push(format!("it declares a mode for the {direction} body and has no {first}"));
                    }
                }
                if !problems.is_empty() {
                    return Err(problems);
                }
                component.declared = declared;
                Ok(component)
            }
            Ok(_) => Err(problems),
            Err(more) => {
                problems.extend(more);
                Err(problems)
            }
        }
    }

    /// Has its code found in the cache the next time; whether that is so now.
    pub fn keep_code(&self, cache: &CodeCache) -> bool {
        cache.keep(&self.engine, &self.digest, self.linked.instance.component())
    }

    /// Whether it takes part in the response phase.
    pub fn has_response_phase(&self) -> bool {
        self.linked.has_response_phase()
    }

    /// How many of the places that are shared by requests an instance takes: none where its calls wait, which have their own.
    pub fn places(&self) -> usize {
        if self.waits() { 0 } else { self.weight }
    }

    /// Whether it follows bodies, in either direction.
    pub fn follows_bodies(&self) -> bool {
        self.linked.request_body.is_some() || self.linked.response_body.is_some()
    }

    /// Whether its calls can be suspended.
    pub fn waits(&self) -> bool {
        matches!(self.linked.runs, Runs::Waiting(_))
    }

    /// Asks one instance twice: only in one instance can a guest know that it was asked before.
    fn describe_twice(&self, bounds: Bounds) -> Result<[Descriptor; 2], Vec<String>> {
        let answer = || {
            let Runs::Pure { policy, .. } = &self.linked.runs else { return waiting::describe(self, bounds) };
            let mut store = self.engine.store(Guest::new("(loading)".into(), bounds, Arc::new([])).loading())?;
            let made = self.linked.instance.instantiate(&mut store).map_err(|error| Failure::of(&error))?;
            let exports = policy.load(&mut store, &made).map_err(|error| Failure::of(&error))?;
            let mut ask = || {
                super::engine::refuel(&mut store)?;
                super::engine::start_clock(&mut store);
                exports.call_describe(&mut store).map_err(|error| Failure::of(&error))
            };
            Ok([ask()?, ask()?])
        };
        answer().map_err(|failure: Failure| vec![format!("it could not be asked what it is: {failure}")])
    }

    pub(super) fn counters(&self) -> Arc<[Counter]> {
        self.declared.counters.iter().map(|name| Counter { name: name.clone(), value: 0.into() }).collect()
    }
}

/// SHA-256 of a component, in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the first bytes say, before a compiler is asked.
fn shape(bytes: &[u8]) -> Result<(), String> {
    match bytes {
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Err(
            "it is a core module, not a component; turn it into one with `cargo xtask components` or `wasm-tools component new`".into(),
        ),
        [0, b'a', b's', b'm', ..] => Err("it is WebAssembly of an encoding that this gateway does not know".into()),
        [] => Err("it is empty".into()),
        _ => Err("it is not WebAssembly: the first bytes are not \\0asm".into()),
    }
}

/// Every import and export that does not belong to the contract.
fn border(engine: &Engine, compiled: &Compiled) -> Result<Wants, Vec<String>> {
    let mut problems = Vec::new();
    let types = compiled.component_type();
    let mut wants = Wants::default();
    for (name, item) in types.imports(engine.wasm()) {
        wants.store |= name.starts_with("portico:policy/kv@");
        wants.outbound |= name.starts_with("portico:policy/http@");
        // Names of types stand among the imports too; a type gives a guest nothing that it could call.
        if !matches!(item.ty, ComponentItem::Type(_))
            && let Some(problem) = import_problem(name)
        {
            problems.push(problem);
        }
    }
    let exports: Vec<(String, bool)> = types
        .exports(engine.wasm())
        .map(|(name, item)| (name.to_owned(), matches!(item.ty, ComponentItem::ComponentFunc(_))))
        .collect();
    let missing: Vec<&str> =
        REQUIRED.into_iter().filter(|required| !exports.iter().any(|(name, func)| name == required && *func)).collect();
    if !missing.is_empty() {
        let has: Vec<&str> = exports.iter().map(|(name, _)| name.as_str()).take(8).collect();
        let has = if has.is_empty() { "nothing".to_owned() } else { has.join(", ") };
        problems.push(format!(
            "it is of another world: a policy exports describe, configure and on-request; it lacks {} and exports {has}",
            missing.join(", ")
        ));
    }
    for (name, _) in exports.iter().filter(|(name, _)| LATER_PHASES.contains(&name.as_str())) {
        problems.push(format!("it exports `{name}`, a phase that this gateway does not run yet"));
    }
    if problems.is_empty() { Ok(wants) } else { Err(problems) }
}

fn import_problem(name: &str) -> Option<String> {
    let Some(rest) = name.strip_prefix("portico:policy/") else {
        if name.starts_with("wasi:http/") {
            return Some(format!(
                "it imports `{name}`, which a policy cannot have; build it without, and ask through the capability `outbound`"
            ));
        }
        // What else of WASI there is, the linker knows.
        return (!name.starts_with("wasi:")).then(|| {
            format!("it imports `{name}`, which a policy cannot have; there are {CONTRACT} and WASI 0.2 without HTTP")
        });
    };
    match rest.split_once('@') {
        Some(("types" | "log" | "metrics" | "kv" | "http", "0.1.0")) => None,
        Some((_, version)) if version != "0.1.0" => {
            Some(format!("it was built for portico:policy@{version}; this gateway runs {CONTRACT}"))
        }
        _ => Some(format!("it imports `{name}`, which is not in {CONTRACT}")),
    }
}
