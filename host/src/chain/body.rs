//! Policies that follow a body: who of the chain does, in which order its bytes pass them, and what came of it.
//!
//! Nothing is held here but what a policy of the mode `buffered` asked for, within its bound; and nothing that such a policy
//! has not seen whole is passed on.

use super::{Chain, Head, Passed, Step, named, others};
use crate::body::Refused;
use crate::clock::{Clock, Millis};
use crate::plugin::contract::{self, BodyMode, Charge, Response};
use crate::plugin::{Action, Afterthought, Answer, Caller, Decision, Direction, Failure, Lease, Leases, Reply};
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

mod follower;

use follower::{Seat, failed};

pub use follower::Followers;

/// What came of the bodies of one exchange; goes on to be written while they stream.
pub struct Tab {
    request_id: Box<str>,
    caller: Caller,
    clock: Clock,
    fuel: Cell<u64>,
    charges: RefCell<SmallVec<[Charge; 2]>>,
    /// The most that each policy charged so far, by position.
    charged: RefCell<SmallVec<[(usize, u64); 2]>>,
    refusal: RefCell<Option<Refusal>>,
    changed: Cell<bool>,
    decisions: RefCell<Vec<(usize, Decision)>>,
    thoughts: RefCell<Vec<(usize, Afterthought)>>,
}

/// Why a body does not go on.
#[derive(Debug)]
pub enum Refusal {
    /// This policy failed, and it fails closed.
    Failed(Arc<str>),
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
    pub(super) fn new(request_id: &str, caller: Caller, clock: &Clock) -> Self {
        Self {
            request_id: request_id.into(),
            caller,
            clock: clock.clone(),
            fuel: Cell::default(),
            charges: RefCell::default(),
            charged: RefCell::default(),
            refusal: RefCell::default(),
            changed: Cell::default(),
            decisions: RefCell::default(),
            thoughts: RefCell::default(),
        }
    }

    /// Fuel that all calls used so far.
    pub fn fuel(&self) -> u64 {
        self.fuel.get()
    }

    /// What was charged so far.
    pub fn charges(&self) -> SmallVec<[Charge; 2]> {
        self.charges.borrow().clone()
    }

    /// Why a body was refused, the first time that somebody asks.
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal.borrow_mut().take()
    }

    /// Whether any byte was changed since the last question.
    pub fn take_changed(&self) -> bool {
        self.changed.take()
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

    fn begin(&self, position: usize, decision: &Decision) {
        if !self.charged.borrow().iter().any(|(of, _)| *of == position) {
            self.charged(position, &decision.charges);
        }
    }

    fn charged_by(&self, position: usize) -> u64 {
        self.charged.borrow().iter().find(|(of, _)| *of == position).map_or(0, |(_, sum)| *sum)
    }

    fn charge(&self, position: usize, charges: &[Charge]) {
        self.charged(position, charges);
        self.charges.borrow_mut().extend(charges.iter().copied());
    }

    fn refuse(&self, refusal: Refusal) -> Refused {
        self.refusal.borrow_mut().get_or_insert(refusal);
        Refused
    }

    fn used<T>(&self, answer: Answer<T>) -> T {
        self.fuel.set(self.fuel.get().saturating_add(answer.fuel));
        answer.value
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

/// The policies that follow one body.
pub struct Following {
    /// Each of these has the body held: it passes one after the other, whole, before the head goes on.
    pub holding: Vec<Followers>,
    /// These see the body as it goes on.
    pub flowing: Option<Followers>,
    /// Whether one of those changes it.
    pub transformed: bool,
}

impl Following {
    /// Whether nobody does.
    pub fn is_nobody(&self) -> bool {
        self.holding.is_empty() && self.flowing.is_none()
    }
}

/// What the policies of a chain learn before the first chunk of a request body.
#[derive(Clone, Copy)]
pub struct Announced {
    /// Position of the rule in the pillar.
    pub route: u32,
    /// The time.
    pub now: Millis,
    /// How many bytes were announced.
    pub length: Option<u64>,
}

impl Chain {
    /// Whether any policy follows bodies in some direction.
    pub fn follows_bodies(&self) -> bool {
        let follows =
            |step: &Step| [Direction::Request, Direction::Response].iter().any(|way| step.mode(*way).is_some());
        self.steps.iter().any(follows)
    }

    /// Those of the policies that ran, and follow this body, in chain order.
    ///
    /// # Errors
    /// When one fails that fails closed; the tab knows which.
    pub fn follow_request(
        &self,
        leases: &Rc<Leases>,
        decisions: &[(usize, Decision)],
        announced: Announced,
        tab: &Rc<Tab>,
    ) -> Result<Following, Refused> {
        let mut seats = Vec::new();
        for (position, decision) in decisions {
            let Announced { route, now, length } = announced;
            let step = &self.steps[*position];
            let upload = contract::Upload { slot: step.slot, route, now: now.0, length, carry: &decision.carry };
            let begin = |lease: &mut Lease| lease.begin_request(upload);
            seats.extend(step.sit(*position, Direction::Request, leases, decision, tab, begin)?);
        }
        Ok(following(seats, tab, false))
    }

    /// Those of the policies that ran, and follow this body, in reverse order.
    ///
    /// # Errors
    /// As [`Self::follow_request`].
    pub fn follow_response(
        &self,
        leases: &Rc<Leases>,
        decisions: &[(usize, Decision)],
        head: &Head<'_>,
        bodiless: bool,
        tab: &Rc<Tab>,
    ) -> Result<Following, Refused> {
        let mut seats = Vec::new();
        for (position, decision) in decisions.iter().rev() {
            let step = &self.steps[*position];
            let reads = &step.policy.component.declared.response_reads;
            let begin = |lease: &mut Lease| {
                let fields = named(reads, head.headers);
                let others = others(reads, head.headers);
                lease.begin_response(Response {
                    slot: step.slot,
                    route: head.route,
                    now: head.now.0,
                    status: head.status,
                    source: head.source,
                    fields: (!reads.named.is_empty()).then_some(&fields[..]),
                    other_fields: reads.others.then_some(&others[..]),
                    carry: &decision.carry,
                })
            };
            seats.extend(step.sit(*position, Direction::Response, leases, decision, tab, begin)?);
        }
        Ok(following(seats, tab, bodiless))
    }
}

/// Cuts the line after each policy that has the body held.
fn following(seats: Vec<Seat>, tab: &Rc<Tab>, bodiless: bool) -> Following {
    let followers = |seats| Followers::new(seats, tab.clone(), bodiless);
    let mut holding = Vec::new();
    let mut line = Vec::new();
    for seat in seats {
        let last = seat.bound().is_some();
        line.push(seat);
        if last {
            holding.push(followers(std::mem::take(&mut line)));
        }
    }
    let transformed = line.iter().any(Seat::transforms);
    Following { holding, flowing: (!line.is_empty()).then(|| followers(line)), transformed }
}

impl Chain {
    /// Whether a policy may put other bytes in the place of a response's: then no range of them can be asked for.
    pub fn changes_responses(&self) -> bool {
        let changes = |mode| !matches!(mode, None | Some(BodyMode::Inspect));
        self.steps.iter().any(|step| changes(step.mode(Direction::Response)))
    }
}

impl Step {
    fn mode(&self, direction: Direction) -> Option<BodyMode> {
        let declared = &self.policy.component.declared;
        match direction {
            Direction::Request => declared.request_body,
            Direction::Response => declared.response_body,
        }
    }

    /// Takes an instance and asks it whether it follows.
    fn sit(
        &self,
        position: usize,
        direction: Direction,
        leases: &Rc<Leases>,
        decision: &Decision,
        tab: &Rc<Tab>,
        begin: impl FnOnce(&mut Lease) -> Result<Answer<bool>, Failure>,
    ) -> Result<Option<Seat>, Refused> {
        let Some(mode) = self.mode(direction) else { return Ok(None) };
        let began = self.policy.admit(tab.caller, &tab.clock).and_then(|pass| {
            let begun = leases.take(&self.policy, self.slot, direction).and_then(|mut lease| {
                let follows = tab.used(begin(&mut lease)?);
                Ok((lease, follows))
            });
            pass.saw_a_part(begun)
        });
        match began {
            Ok((lease, true)) => {
                tab.begin(position, decision);
                Ok(Some(Seat::new(position, self.policy.clone(), self.slot, direction, mode, lease)))
            }
            Ok((lease, false)) => {
                lease.give_back();
                Ok(None)
            }
            Err(failure) => {
                failed(&self.policy, &failure, tab)?;
                Ok(None)
            }
        }
    }
}
