//! What comes of the bodies of one exchange: what they cost, who refused them, and the last words on them.
//!
//! Decides nothing. What is counted is counted over both directions; what becomes of one body is kept apart from what
//! becomes of the other.

use crate::body::Refused;
use crate::chain::Passed;
use crate::clock::{Clock, Millis};
use crate::plugin::contract::{self, Charge};
use crate::plugin::{Action, Afterthought, Answer, Caller, Decision, Direction, Reply, Voice};
use crate::requests::{Call, Phase, Verdict};
use crate::usage::Policy;
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Instant;

/// What came of the bodies of one exchange; goes on to be written while they stream.
pub struct Tab {
    pub(super) request_id: Box<str>,
    pub(super) caller: Caller,
    pub(super) clock: Clock,
    /// When the request came.
    pub(super) began: Millis,
    /// What was said of policies, for quarantine.
    pub(in crate::chain) voice: Voice,
    /// What each policy did about each body, with its position.
    calls: RefCell<SmallVec<[(usize, Call); 2]>>,
    charges: RefCell<SmallVec<[Charge; 2]>>,
    /// The most that each policy charged so far, by position.
    charged: RefCell<SmallVec<[(usize, u64); 2]>>,
    request: Side,
    response: Side,
    pub(super) decisions: RefCell<Vec<(usize, Decision)>>,
    pub(super) thoughts: RefCell<Vec<(usize, Afterthought)>>,
}

/// Which policy is at which body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whose {
    /// Its position in the chain.
    pub(super) position: usize,
    /// Its number in usage.
    pub(super) policy: Policy,
    /// Which body.
    pub(super) phase: Phase,
}

/// What came of the body in one direction. Both can be on their way at once.
#[derive(Default)]
pub struct Side {
    refusal: RefCell<Option<Refusal>>,
    changed: Cell<bool>,
}

impl Side {
    /// Why the body was refused, the first time that somebody asks.
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal.borrow_mut().take()
    }

    /// Whether any byte was changed.
    pub fn is_changed(&self) -> bool {
        self.changed.get()
    }

    pub(super) fn changed(&self) {
        self.changed.set(true);
    }

    pub(super) fn refuse(&self, refusal: Refusal) -> Refused {
        self.refusal.borrow_mut().get_or_insert(refusal);
        Refused
    }
}

/// Why a body does not go on.
#[derive(Debug)]
pub enum Refusal {
    /// A policy failed, and it fails closed.
    Failed {
        /// Which.
        policy: Arc<str>,
        /// Seconds until it may be asked again, at least 1.
        again: u32,
    },
    /// A policy refused the request.
    Denied(contract::Denial),
    /// A policy answered the request.
    Answered(Reply),
    /// A policy broke the response off.
    Stopped(Arc<str>),
    /// It is larger than so many bytes, the bound of a policy that has it held.
    TooLarge(u32),
}

impl Tab {
    /// Nothing came of them yet.
    pub(in crate::chain) fn new(request_id: &str, caller: Caller, clock: &Clock, began: Millis) -> Self {
        Self {
            request_id: request_id.into(),
            caller,
            clock: clock.clone(),
            began,
            voice: Voice::default(),
            calls: RefCell::default(),
            charges: RefCell::default(),
            charged: RefCell::default(),
            request: Side::default(),
            response: Side::default(),
            decisions: RefCell::default(),
            thoughts: RefCell::default(),
        }
    }

    /// What policies did so far: all that one did about one body is one call.
    pub fn calls(&self) -> SmallVec<[Call; 2]> {
        self.calls.borrow().iter().map(|(_, call)| *call).collect()
    }

    /// What was charged so far.
    pub fn charges(&self) -> SmallVec<[Charge; 2]> {
        self.charges.borrow().clone()
    }

    /// What came of the body in this direction.
    pub fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Request => &self.request,
            Direction::Response => &self.response,
        }
    }

    /// Last words on the response body, in the order in which the policies spoke.
    pub fn take_thoughts(&self) -> Vec<(usize, Afterthought)> {
        self.thoughts.take()
    }

    /// Adds what the policies' last words on the request body say to their decisions.
    pub fn add_to(&self, passed: &mut Passed) {
        for (position, late) in self.decisions.take() {
            if let Some((_, decision)) = passed.decisions.iter_mut().find(|(of, _)| *of == position) {
                add(decision, late);
            }
        }
    }

    /// A policy charged more in the response phase, beyond what its decision says.
    pub fn charged_after(&self, position: usize, decision: &Decision, charges: &[Charge]) {
        self.begin(position, decision);
        self.charged(position, charges);
    }

    fn charged(&self, position: usize, charges: &[Charge]) {
        let mut charged = self.charged.borrow_mut();
        let more = most(charges);
        match charged.iter_mut().find(|(of, _)| *of == position) {
            Some((_, sum)) => *sum = sum.saturating_add(more),
            None => charged.push((position, more)),
        }
    }

    pub(super) fn begin(&self, position: usize, decision: &Decision) {
        if !self.charged.borrow().iter().any(|(of, _)| *of == position) {
            self.charged(position, &decision.charges);
        }
    }

    pub(super) fn charged_by(&self, position: usize) -> u64 {
        self.charged.borrow().iter().find(|(of, _)| *of == position).map_or(0, |(_, sum)| *sum)
    }

    pub(super) fn charge(&self, position: usize, charges: &[Charge]) {
        self.charged(position, charges);
        self.charges.borrow_mut().extend(charges.iter().copied());
    }

    /// A policy was asked at that moment, and came back now.
    pub(super) fn took(&self, whose: Whose, begun: Instant) {
        let ended = Instant::now();
        let took = ended - begun;
        let mut calls = self.calls.borrow_mut();
        let same = |(position, call): &&mut (usize, Call)| (*position, call.phase) == (whose.position, whose.phase);
        match calls.iter_mut().find(same) {
            Some((_, call)) => {
                call.took += took;
                call.ended = ended;
            }
            None => {
                let Whose { position, policy, phase } = whose;
                calls.push((position, Call { policy, phase, verdict: Verdict::Next, took, begun, ended, fuel: 0 }));
            }
        }
    }

    /// What it answered, and the fuel that this took.
    pub(super) fn used<T>(&self, whose: Whose, answer: Answer<T>) -> T {
        self.with(whose, |call| call.fuel = call.fuel.saturating_add(answer.fuel));
        answer.value
    }

    /// What came of it in the end.
    pub(super) fn said(&self, whose: Whose, verdict: Verdict) {
        self.with(whose, |call| call.verdict = verdict);
    }

    /// Nothing, where it did not get to run.
    fn with(&self, whose: Whose, change: impl FnOnce(&mut Call)) {
        let mut calls = self.calls.borrow_mut();
        let same = |(position, call): &&mut (usize, Call)| (*position, call.phase) == (whose.position, whose.phase);
        if let Some((_, call)) = calls.iter_mut().find(same) {
            change(call);
        }
    }
}

fn most(charges: &[Charge]) -> u64 {
    charges.iter().map(|charge| charge.gas.saturating_mul(charge.max_units)).fold(0, u64::saturating_add)
}

/// What was said last holds; edits and the like come on top.
fn add(decision: &mut Decision, late: Decision) {
    if let Action::Forward(_) = late.action {
        decision.action = late.action;
    }
    decision.path = late.path.or(decision.path.take());
    decision.token = late.token.or(decision.token.take());
    decision.request_edits.extend(late.request_edits);
    decision.response_edits.extend(late.response_edits);
    decision.charges.extend(late.charges);
    decision.notes.extend(late.notes);
    if !late.carry.is_empty() {
        decision.carry = late.carry;
    }
}
