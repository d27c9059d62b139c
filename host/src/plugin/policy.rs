//! A policy: a component with its grant, its bounds, and the slots in which it stands.
//!
//! Exists only if everything fits: grant, schema, `configure` of every slot, and every plan.

use super::cache::CodeCache;
use super::compiler::Order;
use super::component::Component;
use super::contract::{self, Auth};
use super::failure::Kind;
use super::grant;
use super::guest::{Counter, Guest};
use super::instance::plan_of;
use super::linked::Linked;
use super::plan::{self, Plan};
use super::primed::{self, Unprimed};
use super::quarantine::Quarantine;
use super::waiting::{Outside, Reached};
use crate::config::{self, Bounds, Failure, Grant, Instance, Problem, Waits};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

static NEXT: AtomicU64 = AtomicU64::new(1);

/// One configured policy.
pub struct Policy {
    /// Unique in this process: two loads of the same component are two policies.
    pub id: u64,
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The component behind it.
    pub component: Arc<Component>,
    /// What it is allowed.
    pub grant: Arc<Grant>,
    /// What its failure means.
    pub failure: Failure,
    /// Whether an instance serves one request or many.
    pub mode: Instance,
    /// Whether callers wait whose calls overrun.
    pub quarantine: bool,
    /// Bounds of one call.
    pub bounds: Bounds,
    /// The most bodies that it follows at once, for each worker.
    pub bodies: usize,
    /// Bounds of waiting.
    pub waits: Waits,
    /// What there is to reach, for those that may.
    pub outside: Arc<Outside>,
    /// Its uses, by number.
    pub slots: Vec<Slot>,
    /// What it did so far.
    pub record: Arc<Record>,
    /// What its fresh instances begin as, once there is such a thing.
    primed: OnceLock<Arc<Linked>>,
    /// Why there was none when that was tried last.
    unprimed: Mutex<Option<Unprimed>>,
}

/// What a policy did so far, over all workers. Outlives configurations for as long as the component stays the same.
#[derive(Debug)]
pub struct Record {
    /// Counters that it declared.
    pub counters: Arc<[Counter]>,
    /// Calls.
    pub calls: AtomicU64,
    /// Calls that brought no usable verdict, by [`Kind`].
    failures: [AtomicU64; Kind::ALL.len()],
    /// Pooled instances that were replaced since they had grown.
    pub renewals: AtomicU64,
    /// What it reached for beside its requests.
    pub reached: Arc<Reached>,
    /// Who has to wait.
    pub quarantine: Quarantine,
}

impl Record {
    fn new(counters: Arc<[Counter]>) -> Self {
        // Differs from process to process and from policy to policy.
        let quarantine = Quarantine::new(RandomState::new().hash_one(0_u8));
        let (failures, reached) = Default::default();
        Self { counters, calls: AtomicU64::new(0), failures, renewals: AtomicU64::new(0), reached, quarantine }
    }

    /// Counts a failure.
    pub fn failed(&self, failure: &super::Failure) {
        self.failures[failure.kind() as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often a failure of this kind was counted.
    pub fn failed_as(&self, kind: Kind) -> u64 {
        self.failures[kind as usize].load(Ordering::Relaxed)
    }

    /// Failures so far, by kind.
    pub fn failures(&self) -> impl Iterator<Item = (Kind, u64)> {
        Kind::ALL.into_iter().map(|kind| (kind, self.failed_as(kind)))
    }
}

/// How the instance of a policy comes to be configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// Once: it is kept.
    Kept,
    /// For each request.
    Written,
    /// It begins configured.
    Primed,
    /// For each request, as it cannot begin configured, for this reason.
    Refused(String),
}

/// Why a policy cannot be put to a use.
enum Unfit {
    /// All that is wrong with it.
    Said(Vec<Problem>),
    /// The guest failed.
    Failed(Problem),
}

/// One use of a policy, and what its verdicts may refer to there.
pub struct Slot {
    /// Where it stands.
    pub at: SlotUse,
    /// What its verdicts may refer to.
    pub plan: Plan,
}

/// Where a policy stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotUse {
    /// The pillar.
    pub pillar: String,
    /// The scope that the pillar asks for.
    pub scope: String,
    /// The rules of the pillar.
    pub routes: Arc<[RouteUse]>,
    /// The configuration, as JSON.
    pub config: String,
    /// Where in the operator's file the configuration stands.
    pub key: String,
}

/// One rule, as policies see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteUse {
    /// Its name.
    pub name: String,
    /// Its whole path pattern.
    pub path: String,
    /// Its methods; empty for all.
    pub methods: Vec<String>,
    /// Whether a principal is needed.
    pub auth: bool,
}

impl SlotUse {
    /// The methods of each rule, as they are lent to [`Self::contract`].
    pub(super) fn methods(&self) -> Vec<Vec<&str>> {
        self.routes.iter().map(|route| route.methods.iter().map(String::as_str).collect()).collect()
    }

    /// The rules as policies see them.
    pub(super) fn contract<'a>(&'a self, methods: &'a [Vec<&'a str>]) -> Vec<contract::Route<'a>> {
        self.routes.iter().zip(methods).map(|(route, methods)| route.contract(methods)).collect()
    }
}

impl RouteUse {
    fn contract<'a>(&'a self, methods: &'a [&'a str]) -> contract::Route<'a> {
        let auth = if self.auth { Auth::Required } else { Auth::None };
        contract::Route { name: &self.name, path: &self.path, methods, auth }
    }
}

impl Policy {
    /// Puts a component to the uses that the configuration has for it. Runs `configure`: never called on a worker.
    ///
    /// # Errors
    /// Everything that does not fit, with key paths.
    pub fn prepare(
        component: Arc<Component>,
        written: &config::Policy,
        uses: Vec<SlotUse>,
        earlier: Option<&Policy>,
        outside: &Arc<Outside>,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = grant::check(written, &component);
        if component.wants.outbound {
            outside.open_outbound();
        }
        let same = earlier.filter(|earlier| earlier.component.digest == component.digest);
        let record =
            same.map(|earlier| earlier.record.clone()).unwrap_or_else(|| Arc::new(Record::new(component.counters())));
        let mut policy = Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            name: written.name.as_str().into(),
            component,
            grant: Arc::new(written.grant.clone()),
            failure: written.failure,
            quarantine: written.quarantine,
            mode: written.instance,
            bounds: written.bounds,
            bodies: written.bodies,
            waits: written.waits,
            outside: outside.clone(),
            slots: Vec::new(),
            record,
            primed: OnceLock::new(),
            unprimed: Mutex::default(),
        };
        for (number, at) in uses.into_iter().enumerate() {
            let number = u32::try_from(number).expect("uses are bounded by pillars");
            match policy.slot(number, at) {
                Ok(slot) => policy.slots.push(slot),
                // The same mistake in a policy's own configuration shows in each of its slots: say it once.
                Err(Unfit::Said(more)) => {
                    problems.extend(more.into_iter().filter(|new| !problems.contains(new)).collect::<Vec<_>>())
                }
                // One that hangs would hang in each of thousands of slots, while every other change waits.
                Err(Unfit::Failed(problem)) => {
                    problems.push(problem);
                    break;
                }
            }
        }
        if problems.is_empty() { Ok(policy) } else { Err(problems) }
    }

    /// Has its fresh instances begin configured from now on, if it has such. Compiles and runs `configure`: never called on
    /// a worker. `false` if it gave way to something else, and is to be tried again.
    pub fn prime(&self, bytes: &[u8], cache: Option<&CodeCache>, order: &Order<'_>) -> bool {
        if !self.wants_priming() {
            return true;
        }
        match primed::prime(self, bytes, cache, order) {
            // Nobody else primes it.
            Ok(linked) => drop(self.primed.set(linked)),
            Err(Unprimed::GaveWay) => return false,
            Err(reason) => *self.unprimed.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason),
        }
        true
    }

    /// Whether [`Self::prime`] has something to do.
    pub fn wants_priming(&self) -> bool {
        let can = self.mode == Instance::Fresh && !self.component.waits() && self.primed.get().is_none();
        can && !matches!(self.unprimed(), Some(Unprimed::Never(_)))
    }

    /// How its fresh instances begin.
    pub fn beginning(&self) -> Beginning {
        if self.mode != Instance::Fresh {
            return Beginning::Kept;
        }
        if self.component.waits() {
            return Beginning::Refused("it can wait, and what such a guest holds open cannot be written down".into());
        }
        match (self.primed.get(), self.unprimed()) {
            (Some(_), _) => Beginning::Primed,
            (None, Some(Unprimed::Never(reason) | Unprimed::Now(reason))) => Beginning::Refused(reason),
            (None, Some(Unprimed::GaveWay) | None) => Beginning::Written,
        }
    }

    fn unprimed(&self) -> Option<Unprimed> {
        self.unprimed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What fresh instances are made from, once that is more than the component.
    pub(super) fn primed(&self) -> Option<&Arc<Linked>> {
        self.primed.get()
    }

    /// Whether an instance that has had so many calls is kept for the next one. One that grows from call to call goes before a
    /// call fails for it; that is counted.
    pub(super) fn keeps(&self, guest: &Guest, calls: u64) -> bool {
        let Instance::Pooled { recycle_after } = self.mode else { return false };
        if guest.has_outgrown(calls) {
            self.record.renewals.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        calls < recycle_after
    }

    /// Whether it is already what it would be made into from these.
    pub fn is(&self, component: &Arc<Component>, written: &config::Policy, uses: &[SlotUse]) -> bool {
        Arc::ptr_eq(&self.component, component)
            && (&*self.grant, self.failure, self.quarantine, self.mode, self.bounds, self.waits, self.bodies)
                == (
                    &written.grant,
                    written.failure,
                    written.quarantine,
                    written.instance,
                    written.bounds,
                    written.waits,
                    written.bodies,
                )
            && self.slots.iter().map(|slot| &slot.at).eq(uses)
    }

    fn slot(&self, number: u32, at: SlotUse) -> Result<Slot, Unfit> {
        let against_schema = super::schema::check(&self.component.declared, &at);
        if !against_schema.is_empty() {
            return Err(Unfit::Said(against_schema));
        }
        let plan = match plan_of(self, number, &at) {
            Ok(Ok(plan)) => plan,
            Ok(Err(diagnostics)) => {
                let told = diagnostics.into_iter().take(64);
                let told = told.map(|d| {
                    Problem::at(super::schema::key_path(&at.key, &d.pointer), d.message.escape_debug().to_string())
                });
                let told: Vec<_> = told.collect();
                if told.is_empty() {
                    return Err(Unfit::Said(vec![Problem::at(at.key, "the policy refused it and gave no reason")]));
                }
                return Err(Unfit::Said(told));
            }
            Err(failure) => {
                return Err(Unfit::Failed(Problem::at(
                    at.key,
                    format!("the policy could not be configured: {failure}"),
                )));
            }
        };
        let problems = plan::check(&plan, &self.component.declared, &self.grant, &at.key);
        if problems.is_empty() { Ok(Slot { at, plan }) } else { Err(Unfit::Said(problems)) }
    }
}
