//! The end of a journey: response phases in reverse, the body towards the client, the last entries of the meter.
//!
//! Whatever happened before, every exchange that found its pillar comes through here.

use super::{Answer, Exchange, reply_response};
use crate::body::Body;
use crate::chain::{Chain, Head, Passed};
use crate::denial::Denial;
use crate::effect;
use crate::meter::Meter;
use crate::plugin::contract::Source;
use crate::respond;
use crate::snapshot::Pillar;
use http::Response;
use std::time::Instant;

/// Where an exchange runs along.
#[derive(Clone, Copy)]
pub(super) struct Course<'a> {
    /// Its pillar.
    pub(super) pillar: &'a Pillar,
    /// Its policies.
    pub(super) chain: &'a Chain,
}

impl Exchange<'_> {
    /// The response phase, in reverse order, and the last entries of the meter.
    pub(super) async fn finish(
        &self,
        course: Course<'_>,
        answer: Answer,
        passed: &mut Passed,
        mut meter: Meter,
    ) -> Response<Body> {
        let chain = course.chain;
        let Answer { mut response, incoming, mut source, told } = answer;
        if let Some(told) = told {
            told.write(response.headers_mut());
        }
        if let Some(bodies) = passed.bodies.clone() {
            bodies.add_to(passed);
        }
        if chain.has_response_phase() {
            let begun = Instant::now();
            self.after(chain, &mut response, &mut source, passed, &mut meter).await;
            meter.policies(begun.elapsed());
        } else {
            for (_, decision) in passed.decisions.iter().rev() {
                effect::edit(response.headers_mut(), &decision.response_edits);
            }
        }
        meter.called(&mut passed.calls);
        let flow = match incoming {
            Some(origin) if source == Source::Upstream => {
                self.download(course, &mut response, &mut source, origin, passed, &mut meter).await
            }
            _ => None,
        };
        match flow {
            Some(flow) => {
                if let Some(ending) = meter.into_ending() {
                    *response.body_mut() = Body::stream(flow, ending);
                }
            }
            None => meter.whole(response.status(), response.body()),
        }
        response
    }

    async fn after(
        &self,
        chain: &Chain,
        response: &mut Response<Body>,
        source: &mut Source,
        passed: &mut Passed,
        meter: &mut Meter,
    ) {
        let Passed { decisions, calls, bodies, caller, .. } = passed;
        let head = Head {
            status: response.status().as_u16(),
            source: *source,
            headers: response.headers(),
            route: meter.route(),
            now: self.now,
            request_id: self.id,
            seed: self.seed,
            caller: *caller,
            clock: &self.worker.gateway.clock,
            bodies: bodies.as_deref(),
        };
        match chain.run_response(&self.worker.instances, &head, decisions, calls).await {
            Ok(mut thoughts) => {
                // The first policy of the chain speaks last, and so has the last word on the whole answer.
                let reply = thoughts.iter_mut().rev().find_map(|(_, thought)| thought.reply.take());
                if let Some(reply) = reply {
                    *response = reply_response(reply);
                    *source = Source::Policy;
                }
                for (position, decision) in decisions.iter().rev() {
                    effect::edit(response.headers_mut(), &decision.response_edits);
                    let thought = thoughts.iter().find(|(of, _)| of == position);
                    if let Some((_, thought)) = thought {
                        effect::edit(response.headers_mut(), &thought.edits);
                        meter.charge_more(&thought.charges);
                        if let Some(bodies) = bodies {
                            bodies.charged_after(*position, decision, &thought.charges);
                        }
                    }
                }
            }
            Err((position, again)) => {
                let policy = chain.steps[position].policy.name.to_string();
                let denial = Denial::PolicyUnavailable { policy, again };
                meter.denied(&denial);
                *response = respond::to(&denial, self.id);
                *source = Source::Gateway;
            }
        }
    }
}
