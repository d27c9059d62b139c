//! Policies that follow a body: who of the chain does, in which order its bytes pass them, and what came of it.
//!
//! Nothing is held here but what a policy of the mode `buffered` asked for, within its bound; and nothing that such a policy
//! has not seen whole is passed on.

use super::{Chain, Head, Step};
use crate::body::Refused;
use crate::clock::Millis;
use crate::plugin::contract::{self, BodyMode};
use crate::plugin::{Answer, Decision, Direction, Failure, Lease, Leases};
use crate::requests::{Phase, Verdict};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Instant;

mod follower;
mod tab;

use follower::{Seat, failed};
use tab::Whose;

pub use follower::Followers;
pub use tab::{Refusal, Side, Tab};

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
            let begin = |lease: &mut Lease| {
                let (fields, others) = step.gather_response(head);
                lease.begin_response(step.response(head, &fields, &others, decision))
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

    /// Takes an instance and asks it whether it follows. Whatever comes after it is one call with this one.
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
        self.policy.record.calls.fetch_add(1, Ordering::Relaxed);
        let phase = match direction {
            Direction::Request => Phase::RequestBody,
            Direction::Response => Phase::ResponseBody,
        };
        let whose = Whose { position, policy: self.number, phase };
        let began = self.policy.admit_later(tab.caller, &tab.clock, tab.began, Some(&tab.voice)).and_then(|pass| {
            let begun = leases.take(&self.policy, self.slot, direction).and_then(|mut lease| {
                let begun = Instant::now();
                let answer = begin(&mut lease);
                tab.took(whose, begun);
                let follows = tab.used(whose, answer?);
                Ok((lease, follows))
            });
            pass.saw(begun)
        });
        match began {
            Ok((lease, true)) => {
                tab.begin(position, decision);
                Ok(Some(Seat::new(whose, self.policy.clone(), self.slot, direction, mode, lease)))
            }
            Ok((lease, false)) => {
                lease.give_back();
                Ok(None)
            }
            Err(failure) => {
                tab.said(whose, Verdict::Failed);
                failed(&self.policy, &failure, tab, direction)?;
                Ok(None)
            }
        }
    }
}
