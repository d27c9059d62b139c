//! The response phase: policies in reverse order, each with what its own verdict carried.

use super::{Chain, Named, Others, Step, Tab, named, others};
use crate::clock::{Clock, Millis};
use crate::config;
use crate::plugin::contract::{After, Response, Source};
use crate::plugin::{Afterthought, Answer, Caller, Decision, Failure, Instances, Pass};
use crate::requests::{Calls, Phase, Verdict};
use http::HeaderMap;
use smallvec::SmallVec;
use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::time::Instant;

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
    /// When the request came.
    pub now: Millis,
    /// The request's id.
    pub request_id: &'a str,
    /// Random bits.
    pub seed: u64,
    /// Whose request it was, for quarantine.
    pub caller: Caller,
    /// What time it is: `now` is when the request came.
    pub clock: &'a Clock,
    /// What comes of the bodies, where any policy follows them.
    pub bodies: Option<&'a Tab>,
}

impl Chain {
    /// Whether any policy takes part in the response phase.
    pub fn has_response_phase(&self) -> bool {
        self.steps.iter().any(Step::has_response_phase)
    }

    /// Asks those of the policies that ran, and take part, in reverse order.
    ///
    /// # Errors
    /// The position of the policy that failed, where it fails closed, and the seconds until it may be asked again.
    pub async fn run_response(
        &self,
        instances: &RefCell<Instances>,
        head: &Head<'_>,
        decisions: &[(usize, Decision)],
        calls: &mut Calls,
    ) -> Result<SmallVec<[(usize, Afterthought); 4]>, (usize, u32)> {
        let mut after = SmallVec::new();
        let mut begun = Instant::now();
        for (position, decision) in decisions.iter().rev() {
            let step = &self.steps[*position];
            if !step.has_response_phase() {
                continue;
            }
            let asked = match step.policy.component.waits() {
                false => step.ask_response(instances, head, decision),
                true => Box::pin(step.ask_response_and_wait(instances, head, decision)).await,
            };
            let now = Instant::now();
            let span = (std::mem::replace(&mut begun, now), now);
            match asked {
                Ok(Some((thought, fuel))) => {
                    let verdict = if thought.reply.is_some() { Verdict::Respond } else { Verdict::Next };
                    calls.push(step.call(Phase::Response, verdict, span, fuel));
                    after.push((*position, thought));
                }
                Ok(None) => {}
                Err(failure) => {
                    step.failed(&failure, head.request_id);
                    if failure.did_run() {
                        calls.push(step.call(Phase::Response, Verdict::Failed, span, 0));
                    }
                    if step.policy.failure == config::Failure::Closed {
                        return Err((*position, failure.retry_after(head.clock.now())));
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
        instances: &RefCell<Instances>,
        head: &Head<'_>,
        decision: &Decision,
    ) -> Result<Option<(Afterthought, u64)>, Failure> {
        let pass = self.admit_response(head)?;
        let (fields, others) = self.gather_response(head);
        let response = self.response(head, &fields, &others, decision);
        let answer = pass.saw(instances.borrow_mut().on_response(&self.policy, response))?;
        self.thought(answer, decision)
    }

    async fn ask_response_and_wait(
        &self,
        instances: &RefCell<Instances>,
        head: &Head<'_>,
        decision: &Decision,
    ) -> Result<Option<(Afterthought, u64)>, Failure> {
        let pass = self.admit_response(head)?;
        let (fields, others) = self.gather_response(head);
        let response = self.response(head, &fields, &others, decision);
        let answer = Instances::on_response_waiting(instances, &self.policy, response, head.seed, pass.queued()).await;
        let answer = pass.saw(answer)?;
        self.thought(answer, decision)
    }

    fn thought(
        &self,
        answer: Option<Answer<After>>,
        decision: &Decision,
    ) -> Result<Option<(Afterthought, u64)>, Failure> {
        let Some(answer) = answer else { return Ok(None) };
        Ok(Some((self.policy.accept_after(self.slot, answer.value, decision)?, answer.fuel)))
    }

    fn admit_response<'a>(&'a self, head: &Head<'a>) -> Result<Pass<'a>, Failure> {
        self.policy.record.calls.fetch_add(1, Ordering::Relaxed);
        self.policy.admit_later(head.caller, head.clock, head.now, head.bodies.map(|bodies| &bodies.voice))
    }

    pub(super) fn gather_response<'a>(&self, head: &Head<'a>) -> (Named<'a>, Others<'a>) {
        let reads = &self.policy.component.declared.response_reads;
        (named(reads, head.headers), others(reads, head.headers))
    }

    pub(super) fn response<'a>(
        &self,
        head: &Head<'_>,
        fields: &'a Named<'_>,
        others: &'a Others<'_>,
        decision: &'a Decision,
    ) -> Response<'a> {
        let reads = &self.policy.component.declared.response_reads;
        Response {
            slot: self.slot,
            route: head.route,
            now: head.now.0,
            status: head.status,
            source: head.source,
            fields: (!reads.named.is_empty()).then_some(&fields[..]),
            other_fields: reads.others.then_some(&others[..]),
            carry: &decision.carry,
        }
    }
}
