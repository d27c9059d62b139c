//! Live instances of one worker: made when needed, dropped on any failure.
//!
//! Belongs to one thread. Calls into guests that cannot wait are synchronous, so a worker needs at most one instance of such a
//! policy at a time. The others are in [`super::waiting`].

use super::bindings_0_1::policy_world::Policy as Exports;
use super::bindings_0_1::response_world::Response as ResponseExports;
use super::contract::{After, Descriptor, Diagnostic, Request, Response, Verdict};
use super::engine::{Engine, refuel, start_clock};
use super::failure::Failure;
use super::guest::Guest;
use super::linked::{Linked, Runs};
use super::plan::{self, Plan};
use super::policy::{Policy, SlotUse};
use super::room::Rooms;
use super::waiting::{self, Queued};
use crate::config::Instance as Mode;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use wasmtime::Store;

/// A usable answer, and what it cost.
#[derive(Debug)]
pub struct Answer<T> {
    /// What the guest returned.
    pub value: T,
    /// Fuel that the call used.
    pub fuel: u64,
}

/// One instance.
pub(super) struct Live {
    pub(super) store: Store<Guest>,
    /// What its exports are found by.
    pub(super) made: wasmtime::component::Instance,
    /// What it was made from: exports are found by this only.
    pub(super) linked: Arc<Linked>,
    exports: Exports,
    response: Option<ResponseExports>,
    /// Slots that are still to be configured in it, by number; what is not named here is done.
    open: Vec<bool>,
    /// Whether its clock runs already: a call that has to make or configure it first has one deadline for all of that.
    ticking: bool,
    pub(super) calls: u64,
}

/// The warm instances of one worker.
#[derive(Default)]
pub struct Instances {
    warm: HashMap<u64, (Weak<Policy>, Live), rustc_hash::FxBuildHasher>,
    pub(super) waiting: waiting::Pool,
}

impl Instances {
    /// Asks a policy about a request.
    ///
    /// # Errors
    /// When there is no usable verdict. The instance is gone then.
    pub fn on_request(&mut self, policy: &Arc<Policy>, request: Request<'_>) -> Result<Answer<Verdict>, Failure> {
        let slot = request.slot;
        self.call(policy, slot, |live| live.exports.call_on_request(&mut live.store, request))
    }

    /// Asks a policy about a response; `None` where it does not take part in that phase.
    ///
    /// # Errors
    /// As [`Self::on_request`].
    pub fn on_response(
        &mut self,
        policy: &Arc<Policy>,
        response: Response<'_>,
    ) -> Result<Option<Answer<After>>, Failure> {
        if !policy.component.has_response_phase() {
            return Ok(None);
        }
        let slot = response.slot;
        self.call(policy, slot, |live| match &live.response {
            Some(exports) => exports.call_on_response(&mut live.store, response).map(Some),
            None => Ok(None),
        })
        .map(|answer| answer.value.map(|value| Answer { value, fuel: answer.fuel }))
    }

    /// Asks a policy that waits about a request; what follows from the request's moment follows from this seed too. Time in
    /// line for its turns is told apart.
    ///
    /// # Errors
    /// As [`Self::on_request`].
    pub async fn on_request_waiting(
        instances: &RefCell<Self>,
        policy: &Arc<Policy>,
        request: Request<'_>,
        seed: u64,
        queued: &Queued,
    ) -> Result<Answer<Verdict>, Failure> {
        waiting::ask(instances, policy, request, seed, queued).await
    }

    /// Asks a policy that waits about a response; `None` where it does not take part in that phase.
    ///
    /// # Errors
    /// As [`Self::on_request`].
    pub async fn on_response_waiting(
        instances: &RefCell<Self>,
        policy: &Arc<Policy>,
        response: Response<'_>,
        seed: u64,
        queued: &Queued,
    ) -> Result<Option<Answer<After>>, Failure> {
        waiting::ask_after(instances, policy, response, seed, queued).await
    }

    /// Drops instances of policies that are not among these: also of those that some slow request still holds, which can be
    /// made again for its response phase. There is room for a bounded number, and many versions may be waiting. The places of
    /// calls that wait are divided between these.
    pub fn prune(&mut self, serving: &[Arc<Policy>], rooms: &Rooms) {
        self.warm.retain(|id, _| serving.iter().any(|policy| policy.id == *id));
        self.waiting.prune(serving, rooms);
    }

    /// Drops instances of policies that nobody holds any more.
    fn prune_unheld(&mut self) {
        self.warm.retain(|_, (policy, _)| policy.strong_count() > 0);
    }

    /// How many instances are warm.
    pub fn len(&self) -> usize {
        self.warm.len()
    }

    /// Whether none is warm.
    pub fn is_empty(&self) -> bool {
        self.warm.is_empty()
    }

    /// A new instance; where there is no room, those that nobody needs any more make some.
    fn make(&mut self, policy: &Policy) -> Result<Live, Failure> {
        match Live::make(policy) {
            Err(Failure::NoInstance(_)) => {
                self.prune_unheld();
                Live::make(policy)
            }
            made => made,
        }
    }

    fn call<T>(
        &mut self,
        policy: &Arc<Policy>,
        slot: u32,
        ask: impl FnOnce(&mut Live) -> wasmtime::Result<T>,
    ) -> Result<Answer<T>, Failure> {
        match policy.mode {
            Mode::Fresh => self.make(policy)?.ask(policy, slot, ask),
            Mode::Pooled { .. } => {
                if !self.warm.contains_key(&policy.id) {
                    let live = self.make(policy)?;
                    self.warm.insert(policy.id, (Arc::downgrade(policy), live));
                }
                let Some((_, live)) = self.warm.get_mut(&policy.id) else {
                    return Err(Failure::NoInstance("it was not kept".into()));
                };
                let answer = live.ask(policy, slot, ask);
                if answer.is_err() || !policy.keeps(live.store.data(), live.calls) {
                    self.warm.remove(&policy.id);
                }
                answer
            }
        }
    }
}

impl Live {
    /// An instance for a policy: one that is to serve a single request begins configured, if that could be had.
    pub(super) fn make(policy: &Policy) -> Result<Self, Failure> {
        let guest = Guest::new(policy.name.clone(), policy.bounds, policy.record.counters.clone());
        if let Some(primed) = policy.primed() {
            return Self::new(&policy.component.engine, primed, guest);
        }
        let mut live = Self::new(&policy.component.engine, &policy.component.linked, guest)?;
        live.open = policy.slots.iter().map(|_| true).collect();
        Ok(live)
    }

    /// An instance of what was linked, with nothing left to configure.
    pub(super) fn new(engine: &Engine, linked: &Arc<Linked>, guest: Guest) -> Result<Self, Failure> {
        let Runs::Pure { policy: exports, response } = &linked.runs else {
            return Err(Failure::NoInstance("it is of the other engine".into()));
        };
        let mut store = engine.store(guest)?;
        let made = linked.instance.instantiate(&mut store).map_err(|error| match error.is::<wasmtime::Trap>() {
            true => Failure::of(&error),
            false => Failure::NoInstance(error.root_cause().to_string()),
        })?;
        let exports = exports.load(&mut store, &made).map_err(|error| Failure::of(&error))?;
        let response = match response {
            Some(indices) => Some(indices.load(&mut store, &made).map_err(|error| Failure::of(&error))?),
            None => None,
        };
        let linked = linked.clone();
        Ok(Self { store, made, linked, exports, response, open: Vec::new(), ticking: true, calls: 0 })
    }

    /// Configures the slot if that is still to be done, and asks. After an error the instance must not be used again.
    pub(super) fn ask<T>(
        &mut self,
        policy: &Policy,
        slot: u32,
        ask: impl FnOnce(&mut Self) -> wasmtime::Result<T>,
    ) -> Result<Answer<T>, Failure> {
        if !std::mem::replace(&mut self.ticking, false) {
            start_clock(&mut self.store);
        }
        let number = slot as usize;
        let is_first = self.open.get(number).copied().unwrap_or(false);
        if is_first {
            self.configure_as_checked(policy, number)?;
            self.open[number] = false;
        }
        refuel(&mut self.store)?;
        let answer = ask(self);
        let left = self.store.get_fuel().unwrap_or(0);
        self.store.data_mut().call_ended();
        if is_first {
            self.store.data_mut().settled();
        }
        self.calls += 1;
        match answer {
            Ok(value) => Ok(Answer { value, fuel: policy.bounds.fuel.saturating_sub(left) }),
            Err(error) => Err(Failure::of(&error)),
        }
    }

    /// Configures a slot whose plan is known.
    pub(super) fn configure_as_checked(&mut self, policy: &Policy, number: usize) -> Result<(), Failure> {
        let slot = &policy.slots[number];
        let answer = self.configure(u32::try_from(number).unwrap_or(u32::MAX), &slot.at)?;
        plan::holds(answer, &slot.plan)
    }

    /// What it says that it is.
    pub(super) fn describe(&mut self) -> Result<Descriptor, Failure> {
        refuel(&mut self.store)?;
        let answer = self.exports.call_describe(&mut self.store);
        self.store.data_mut().call_ended();
        answer.map_err(|error| Failure::of(&error))
    }

    fn configure(&mut self, number: u32, at: &SlotUse) -> Result<Result<Plan, Vec<Diagnostic>>, Failure> {
        refuel(&mut self.store)?;
        let names = at.methods();
        let routes = at.contract(&names);
        let slot = super::contract::Slot { pillar: &at.pillar, scope: &at.scope, routes: &routes };
        let answer = self.exports.call_configure(&mut self.store, number, slot, &at.config);
        self.store.data_mut().call_ended();
        answer.map_err(|error| Failure::of(&error))
    }
}

/// Asks a new instance for the plan of one slot; used once for each slot when a policy is loaded.
pub(super) fn plan_of(policy: &Policy, number: u32, at: &SlotUse) -> Result<Result<Plan, Vec<Diagnostic>>, Failure> {
    if policy.component.waits() {
        return waiting::plan(policy, number, at);
    }
    let guest = Guest::new(policy.name.clone(), policy.bounds, policy.record.counters.clone()).loading();
    let mut live = Live::new(&policy.component.engine, &policy.component.linked, guest)?;
    start_clock(&mut live.store);
    live.configure(number, at)
}
