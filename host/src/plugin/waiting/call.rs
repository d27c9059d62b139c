//! Calls on a worker: an instance is taken, asked, and given back, unless anything went wrong.

use super::Waiting;
use super::reach::Reach;
use super::run::{Queued, Turns};
use super::wasi::Real;
use crate::plugin::Answer;
use crate::plugin::bindings_0_1_waiting::policy_world::{WaitingPolicy, WaitingPolicyIndices};
use crate::plugin::bindings_0_1_waiting::response_world::{Response as ResponseExports, ResponseIndices};
use crate::plugin::component::Component;
use crate::plugin::contract::{self, After, Diagnostic, Request, Response, Verdict};
use crate::plugin::engine::{refuel, start_clock};
use crate::plugin::failure::Failure;
use crate::plugin::guest::Guest;
use crate::plugin::instance::Instances;
use crate::plugin::linked::Runs;
use crate::plugin::plan::{self, Plan};
use crate::plugin::policy::{Policy, SlotUse};
use crate::plugin::room::{Places, Rooms};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;
use wasmtime::Store;
use wasmtime::component::InstancePre;

/// Instances of one policy that stay warm on a worker: after a burst, memory goes back.
const MOST_IDLE: usize = 8;

/// What a component that waits exports.
pub struct Exports {
    pub(super) policy: WaitingPolicyIndices,
    pub(super) response: Option<ResponseIndices>,
}

impl Policy {
    fn reach(&self) -> Reach {
        Reach::new(self.outside.clone(), self.grant.clone(), self.record.reached.clone())
    }
}

impl Exports {
    pub(in crate::plugin) fn of(instance: &InstancePre<Guest>, has_response: bool) -> wasmtime::Result<Self> {
        let response = if has_response { Some(ResponseIndices::new(instance)?) } else { None };
        Ok(Self { policy: WaitingPolicyIndices::new(instance)?, response })
    }

    pub(in crate::plugin) fn has_response(&self) -> bool {
        self.response.is_some()
    }
}

/// One instance.
pub(super) struct Live {
    pub(super) store: Store<Guest>,
    exports: WaitingPolicy,
    response: Option<ResponseExports>,
    configured: Vec<bool>,
    calls: u64,
}

/// The instances of one worker that wait for calls, and how many calls wait in instances.
#[derive(Default)]
pub struct Pool {
    of: HashMap<u64, OfPolicy, rustc_hash::FxBuildHasher>,
    places: Rc<RefCell<Places>>,
    turns: Turns,
}

/// What there is of one policy on this worker.
struct OfPolicy {
    policy: Weak<Policy>,
    weight: usize,
    idle: Vec<Live>,
    calls: Rc<Cell<usize>>,
}

/// A call that is counted as long as this lives.
struct Counting {
    calls: Rc<Cell<usize>>,
    places: Rc<RefCell<Places>>,
    policy: Arc<str>,
    weight: usize,
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.calls.set(self.calls.get().saturating_sub(1));
        self.places.borrow_mut().give_back(&self.policy, self.weight);
    }
}

impl Pool {
    /// Begins a call, in an idle instance where there is one.
    fn begin(&mut self, policy: &Arc<Policy>) -> Result<(Counting, Option<Live>), Failure> {
        let weight = policy.component.weight;
        let new = || OfPolicy { policy: Arc::downgrade(policy), weight, idle: Vec::new(), calls: Rc::default() };
        let own = self.of.entry(policy.id).or_insert_with(new);
        if own.calls.get() >= policy.waits.calls {
            return Err(Failure::Busy);
        }
        // What is there is for all policies that wait, and each is sure of its part.
        if !self.places.borrow_mut().take(&policy.name, weight) {
            return Err(Failure::NoInstance("no place for it is left beside what other policies that wait are sure of; lower `waiting_calls` of those that need less".into()));
        }
        own.calls.set(own.calls.get() + 1);
        let (calls, places) = (own.calls.clone(), self.places.clone());
        let idle = own.idle.pop();
        if idle.is_none() {
            self.make_place();
        }
        Ok((Counting { calls, places, policy: policy.name.clone(), weight }, idle))
    }

    /// Drops idle instances that have no place beside the calls.
    fn make_place(&mut self) {
        let left = self.places.borrow().left();
        let mut idle: usize = self.of.values().map(|own| own.idle.len() * own.weight).sum();
        for own in self.of.values_mut() {
            while idle > left && own.idle.pop().is_some() {
                idle -= own.weight;
            }
        }
    }

    fn give_back(&mut self, policy: &Policy, live: Live) {
        // A policy that was replaced meanwhile has no place any more.
        if let Some(own) = self.of.get_mut(&policy.id)
            && own.idle.len() < MOST_IDLE
        {
            own.idle.push(live);
        }
    }

    /// Drops idle instances of policies that are not among these, and divides the places between these.
    pub(in crate::plugin) fn prune(&mut self, serving: &[Arc<Policy>], rooms: &Rooms) {
        self.places.borrow_mut().divide(&rooms.waiting);
        self.of.retain(|id, own| {
            let serves = serving.iter().any(|policy| policy.id == *id);
            if !serves {
                own.idle.clear();
            }
            serves || own.calls.get() > 0
        });
    }

    /// Drops idle instances of policies that nobody holds any more, and of all others but one each.
    fn make_room(&mut self) {
        for own in self.of.values_mut() {
            let held = own.policy.strong_count() > 0;
            own.idle.truncate(usize::from(held));
        }
    }
}

/// Asks a policy about a request, at a moment.
///
/// # Errors
/// When there is no usable verdict. The instance is gone then.
pub(in crate::plugin) async fn ask(
    instances: &RefCell<Instances>,
    policy: &Arc<Policy>,
    request: Request<'_>,
    seed: u64,
    queued: &Queued,
) -> Result<Answer<Verdict>, Failure> {
    let (slot, now) = (request.slot, request.now);
    call(instances, policy, slot, (now, seed), queued, async |live: &mut Live| {
        live.exports.call_on_request(&mut live.store, request).await
    })
    .await
}

/// Asks a policy about a response; `None` where it does not take part in that phase.
///
/// # Errors
/// As [`ask`].
pub(in crate::plugin) async fn ask_after(
    instances: &RefCell<Instances>,
    policy: &Arc<Policy>,
    response: Response<'_>,
    seed: u64,
    queued: &Queued,
) -> Result<Option<Answer<After>>, Failure> {
    if !policy.component.has_response_phase() {
        return Ok(None);
    }
    let (slot, now) = (response.slot, response.now);
    let answer = call(instances, policy, slot, (now, seed), queued, async |live: &mut Live| match &live.response {
        Some(exports) => exports.call_on_response(&mut live.store, response).await.map(Some),
        None => Ok(None),
    });
    let answer = answer.await?;
    Ok(answer.value.map(|value| Answer { value, fuel: answer.fuel }))
}

async fn call<T>(
    instances: &RefCell<Instances>,
    policy: &Arc<Policy>,
    slot: u32,
    (now, seed): (u64, u64),
    queued: &Queued,
    ask: impl AsyncFnOnce(&mut Live) -> wasmtime::Result<T>,
) -> Result<Answer<T>, Failure> {
    let (_counting, idle) = instances.borrow_mut().waiting.begin(policy)?;
    let turns = instances.borrow().waiting.turns.clone();
    let most = policy.bounds.deadline + policy.waits.time;
    let asked = async {
        let mut live = match idle {
            Some(live) => live,
            None => make(instances, policy, (now, seed), &turns, queued).await?,
        };
        live.at(now, seed);
        let run = live.store.data().waiting.as_ref().map(|waiting| waiting.run.clone()).unwrap_or_default();
        start_clock(&mut live.store);
        let answer = turns.drive(run, queued, live.ask(policy, slot, ask)).await?;
        Ok((live, answer))
    };
    let (live, answer) = tokio::time::timeout(most, asked).await.unwrap_or_else(|_| Err(late(most, queued)))?;
    if policy.keeps(live.store.data(), live.calls) {
        instances.borrow_mut().waiting.give_back(policy, live);
    }
    Ok(answer)
}

/// Why a call has no answer at its end: whoever stood in line for most of the time did not make anybody wait.
fn late(most: Duration, queued: &Queued) -> Failure {
    if queued.so_far() * 2 > most { Failure::NoTurn } else { Failure::WaitedTooLong }
}

/// A new instance; where there is no room, those that idle make some.
async fn make(
    instances: &RefCell<Instances>,
    policy: &Policy,
    at: (u64, u64),
    turns: &Turns,
    queued: &Queued,
) -> Result<Live, Failure> {
    match Live::of(policy, at, turns, queued).await {
        Err(Failure::NoInstance(_)) => {
            instances.borrow_mut().waiting.make_room();
            Live::of(policy, at, turns, queued).await
        }
        made => made,
    }
}

/// What an instance of a policy has, from a moment of a request on.
pub(super) fn guest_of(policy: &Policy, (now, seed): (u64, u64)) -> Guest {
    let granted = |what: &str| policy.grant.wasi.iter().any(|granted| granted == what);
    let real = Real { clock: granted("clock"), random: granted("random") };
    let waiting = Waiting::new(&policy.name, real, policy.reach());
    waiting.at(now, seed);
    Guest::new(policy.name.clone(), policy.bounds, policy.record.counters.clone()).waiting(waiting)
}

impl Live {
    /// An instance of a policy, which begins at a moment of a request.
    pub(super) async fn of(
        policy: &Policy,
        moment: (u64, u64),
        turns: &Turns,
        queued: &Queued,
    ) -> Result<Self, Failure> {
        let mut live = Self::new(&policy.component, guest_of(policy, moment), turns, queued).await?;
        live.configured = vec![false; policy.slots.len()];
        Ok(live)
    }

    /// An instance of a component; it has the time of one call for its beginning.
    pub(super) async fn new(
        component: &Component,
        guest: Guest,
        turns: &Turns,
        queued: &Queued,
    ) -> Result<Self, Failure> {
        let Runs::Waiting(exports) = &component.linked.runs else {
            return Err(Failure::NoInstance("it is of the other engine".into()));
        };
        let mut store = component.engine.store(guest)?;
        let run = store.data().waiting.as_ref().map(|waiting| waiting.run.clone()).unwrap_or_default();
        let made = turns.drive(run, queued, component.linked.instance.instantiate_async(&mut store)).await;
        let made = made.map_err(|error| match error.is::<wasmtime::Trap>() {
            true => Failure::of(&error),
            false => Failure::NoInstance(error.root_cause().to_string()),
        })?;
        let failed = |error: wasmtime::Error| Failure::of(&error);
        let policy = exports.policy.load(&mut store, &made).map_err(failed)?;
        let response = match &exports.response {
            Some(indices) => Some(indices.load(&mut store, &made).map_err(failed)?),
            None => None,
        };
        Ok(Self { store, exports: policy, response, configured: Vec::new(), calls: 0 })
    }

    fn at(&self, now: u64, seed: u64) {
        if let Some(waiting) = &self.store.data().waiting {
            waiting.at(now, seed);
        }
    }

    /// Configures the slot if that is still to be done, and asks. After an error the instance must not be used again.
    async fn ask<T>(
        &mut self,
        policy: &Policy,
        slot: u32,
        ask: impl AsyncFnOnce(&mut Self) -> wasmtime::Result<T>,
    ) -> Result<Answer<T>, Failure> {
        let number = slot as usize;
        let is_first = !self.configured.get(number).copied().unwrap_or(true);
        if is_first {
            let answer = self.configure(slot, &policy.slots[number].at).await?;
            plan::holds(answer, &policy.slots[number].plan)?;
            self.configured[number] = true;
            // That was a step; the call is another one.
            tokio::task::yield_now().await;
        }
        refuel(&mut self.store)?;
        if let Some(waiting) = &mut self.store.data_mut().waiting {
            waiting.open();
        }
        let answer = ask(self).await;
        let left = self.store.get_fuel().unwrap_or(0);
        self.store.data_mut().call_ended();
        if is_first {
            self.store.data_mut().settled();
        }
        self.calls += 1;
        let value = answer.map_err(|error| Failure::of(&error))?;
        Ok(Answer { value, fuel: policy.bounds.fuel.saturating_sub(left) })
    }

    pub(super) async fn configure(
        &mut self,
        number: u32,
        at: &SlotUse,
    ) -> Result<Result<Plan, Vec<Diagnostic>>, Failure> {
        refuel(&mut self.store)?;
        let names = at.methods();
        let routes = at.contract(&names);
        let slot = contract::Slot { pillar: &at.pillar, scope: &at.scope, routes: &routes };
        let answer = self.exports.call_configure(&mut self.store, number, slot, &at.config).await;
        self.store.data_mut().call_ended();
        answer.map_err(|error| Failure::of(&error))
    }

    pub(super) async fn describe(&mut self) -> Result<contract::Descriptor, Failure> {
        refuel(&mut self.store)?;
        let answer = self.exports.call_describe(&mut self.store).await;
        self.store.data_mut().call_ended();
        answer.map_err(|error| Failure::of(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stood_in_line_for_most_of_the_time_made_nobody_wait() {
        let most = Duration::from_millis(20);
        for (queued, failure) in [(0, Failure::WaitedTooLong), (10, Failure::WaitedTooLong), (11, Failure::NoTurn)] {
            assert_eq!(late(most, &Queued::of(Duration::from_millis(queued))), failure, "{queued}");
        }
    }
}
