//! The response phase: policies in reverse order, each with what its own verdict carried.

use super::{Chain, Step, named, others};
use crate::clock::{Clock, Millis};
use crate::config;
use crate::plugin::contract::{Response, Source};
use crate::plugin::{Afterthought, Caller, Decision, Failure, Instances};
use http::HeaderMap;
use smallvec::SmallVec;
use std::sync::atomic::Ordering;

/// The head of a response, before any edit.
pub struct Head<'a> {
    /// The status.
    pub status: u16,
    /// Who made it.
    pub source: Source,
    /// Its fields.
    pub headers: &'a HeaderMap,
    /// Position of the rule in the pillar.
    pub route: u32,
    /// The time.
    pub now: Millis,
    /// The request's id.
    pub request_id: &'a str,
    /// Whose request it was, for quarantine.
    pub caller: Caller,
    /// What time it is: `now` is when the request came.
    pub clock: &'a Clock,
}

impl Chain {
    /// Whether any policy takes part in the response phase.
    pub fn has_response_phase(&self) -> bool {
        self.steps.iter().any(Step::has_response_phase)
    }

    /// Asks those of the policies that ran, and take part, in reverse order.
    ///
    /// # Errors
    /// The position of the policy that failed, where it fails closed.
    pub fn run_response(
        &self,
        instances: &mut Instances,
        head: &Head<'_>,
        decisions: &[(usize, Decision)],
        fuel: &mut u64,
    ) -> Result<SmallVec<[(usize, Afterthought); 4]>, usize> {
        let mut after = SmallVec::new();
        for (position, decision) in decisions.iter().rev() {
            let step = &self.steps[*position];
            if !step.has_response_phase() {
                continue;
            }
            match step.ask_response(instances, head, decision) {
                Ok(Some((thought, used))) => {
                    *fuel = fuel.saturating_add(used);
                    after.push((*position, thought));
                }
                Ok(None) => {}
                Err(failure) => {
                    step.failed(&failure, head.request_id);
                    if step.policy.failure == config::Failure::Closed {
                        return Err(*position);
                    }
                }
            }
        }
        Ok(after)
    }
}

impl Step {
    fn has_response_phase(&self) -> bool {
        self.policy.component.has_response_phase()
    }

    fn ask_response(
        &self,
        instances: &mut Instances,
        head: &Head<'_>,
        decision: &Decision,
    ) -> Result<Option<(Afterthought, u64)>, Failure> {
        self.policy.record.calls.fetch_add(1, Ordering::Relaxed);
        let pass = self.policy.admit(head.caller, head.clock)?;
        let reads = &self.policy.component.declared.response_reads;
        let fields = named(reads, head.headers);
        let others = others(reads, head.headers);
        let response = Response {
            slot: self.slot,
            route: head.route,
            now: head.now.0,
            status: head.status,
            source: head.source,
            fields: (!reads.named.is_empty()).then_some(&fields[..]),
            other_fields: reads.others.then_some(&others[..]),
            carry: &decision.carry,
        };
        let Some(answer) = pass.saw(instances.on_response(&self.policy, response))? else { return Ok(None) };
        let thought = self.policy.accept_after(self.slot, answer.value, decision)?;
        Ok(Some((thought, answer.fuel)))
    }
}
