//! Bodies on their way past the policies that follow them, in both directions.
//!
//! Where nobody follows a body it streams past as it comes. Where somebody has it held, the head waits here; a refusal
//! that comes before the head has gone becomes an answer.

use super::finish::Course;
use super::{Answer, Exchange, Routed, guard, reply_response};
use crate::body::{Body, Error, Filter, Filtered, Flow, Progress, Source as From, Upload};
use crate::chain::{Announced, Following, Head, Passed, Refusal, Side, Tab};
use crate::denial::Denial;
use crate::effect::{self, Told};
use crate::head;
use crate::meter::Meter;
use crate::plugin::contract::Source;
use crate::plugin::{Direction, Reply};
use crate::respond;
use crate::snapshot::Pillar;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use std::rc::Rc;
use std::time::Duration;

/// A filter that refuses has told the tab why; nobody else takes that from it before the head has gone.
const SAYS_WHY: &str = "whoever refuses a body says why";

/// A request body, as it goes on.
pub(super) struct Uploaded {
    /// The body.
    pub(super) body: Upload,
    /// Whether a policy has seen it whole, and may have changed the head.
    pub(super) was_held: bool,
    reframed: bool,
}

impl Uploaded {
    /// Makes the head fit the body.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        if self.reframed {
            head::forget_bytes(headers);
        }
        let unknown = self.body.size_hint().exact().is_none() && !self.body.is_end_stream();
        if unknown && !headers.contains_key(CONTENT_LENGTH) {
            // Said here, since a body of unknown length is not sent at all with methods that seldom have one.
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}

/// A request that does not go on.
pub(super) enum Ended {
    /// A policy answered.
    Answered(Reply),
    /// It is refused.
    Denied(Denial),
}

impl Ended {
    pub(super) fn answer(self, told: Option<Told>) -> Result<Answer, Denial> {
        match self {
            Self::Answered(reply) => Ok(Answer::whole(reply_response(reply), Source::Policy, told)),
            Self::Denied(denial) => Err(denial),
        }
    }
}

/// The body of an upstream's answer, and what is to be known of it.
pub(super) struct Origin {
    /// The body.
    pub(super) source: From,
    /// Whether the request was a HEAD.
    pub(super) to_head: bool,
    /// How long the upstream may be silent where its body is held.
    pub(super) patience: Duration,
}

impl Origin {
    /// Whether the answer cannot have a body (RFC 9110, section 6.4.1).
    fn is_bodiless(&self, status: StatusCode) -> bool {
        self.to_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    }

    /// The body, past nobody.
    fn plain(self) -> Flow {
        match self.source {
            From::Incoming(incoming) => Flow::Plain(incoming),
            source => flow(source, None, &Rc::default()),
        }
    }

    /// Its length, where that is known.
    fn length(&self) -> Option<u64> {
        match &self.source {
            From::Incoming(incoming) => incoming.size_hint().exact(),
            From::Held(held) => Some(held.length()),
            #[cfg(test)]
            From::Script(_) => None,
        }
    }
}

impl Exchange<'_> {
    /// Past the policies that follow the request body; waits for those that want to see it whole.
    pub(super) async fn upload(
        &self,
        routed: &Routed<'_>,
        passed: &mut Passed,
        incoming: Incoming,
        patience: Duration,
        meter: &mut Meter,
    ) -> Result<Uploaded, Ended> {
        let progress = Rc::<Progress>::default();
        meter.count_upload(progress.clone());
        let plain = |incoming| {
            let body = Upload::new(Flow::Plain(incoming), progress.clone());
            Uploaded { body, was_held: false, reframed: false }
        };
        let Some(tab) = passed.bodies.clone() else { return Ok(plain(incoming)) };
        meter.follow(tab.clone());
        let side = tab.side(Direction::Request);
        let length = incoming.size_hint().exact();
        let announced = Announced { route: u32::from(routed.target.rule), now: self.now, length };
        let chain = routed.pillar.chain(routed.target);
        let following = chain.follow_request(&self.worker.leases, &passed.decisions, announced, &tab);
        let following = following.map_err(|_| ended(side.refusal().expect(SAYS_WHY), routed.pillar))?;
        if following.is_nobody() {
            return Ok(plain(incoming));
        }
        let Following { holding, flowing, transformed } = following;
        let was_held = !holding.is_empty();
        if let (Some(first), Some(length)) = (holding.first(), length)
            && let Some(limit) = first.is_too_large(length)
        {
            return Err(Ended::Denied(Denial::RequestBodyTooLarge { limit }));
        }
        let mut source = From::Incoming(incoming);
        for followers in holding {
            let filtered = Filtered::new(source, Some(Box::new(followers)), progress.clone());
            source = From::Held(match filtered.hold(patience).await {
                Ok(held) => held,
                Err(Some(Error::Refused)) => return Err(ended(side.refusal().expect(SAYS_WHY), routed.pillar)),
                Err(Some(Error::Transport(_))) => {
                    return Err(Ended::Denied(Denial::MalformedRequest("its body is malformed or ended early".into())));
                }
                Err(None) => return Err(Ended::Denied(Denial::RequestBodyStalled)),
            });
        }
        let changed = side.is_changed();
        tab.add_to(passed);
        let flow = flow(source, flowing, &progress);
        if flow.is_refused() {
            return Err(ended(side.refusal().expect(SAYS_WHY), routed.pillar));
        }
        Ok(Uploaded { body: Upload::new(flow, progress), was_held, reframed: transformed || changed })
    }

    /// What the client gets instead, where a policy refused the request over its body; `None` where none did.
    pub(super) fn ended_by_policy(&self, passed: &Passed, pillar: &Pillar) -> Option<Ended> {
        passed.bodies.as_ref()?.side(Direction::Request).refusal().map(|refusal| ended(refusal, pillar))
    }

    /// Past the policies that follow the response body. `None` where the answer was replaced by a whole one.
    pub(super) async fn download(
        &self,
        course: Course<'_>,
        response: &mut Response<Body>,
        source: &mut Source,
        origin: Origin,
        passed: &mut Passed,
        meter: &mut Meter,
    ) -> Option<Flow> {
        let Some(tab) = passed.bodies.clone() else { return Some(origin.plain()) };
        match self.follow(course, response, origin, passed, &tab, meter.route()).await {
            Ok(flow) => {
                let reply = self.apply_thoughts(&tab, response);
                let Some(reply) = reply else { return Some(flow) };
                *response = reply_response(reply);
                *source = Source::Policy;
            }
            Err(Ended::Answered(reply)) => {
                *response = reply_response(reply);
                *source = Source::Policy;
            }
            Err(Ended::Denied(denial)) => {
                meter.denied(&denial);
                *response = respond::to(&denial, self.id);
                *source = Source::Gateway;
            }
        }
        None
    }

    async fn follow(
        &self,
        course: Course<'_>,
        response: &mut Response<Body>,
        origin: Origin,
        passed: &Passed,
        tab: &Rc<Tab>,
        route: u32,
    ) -> Result<Flow, Ended> {
        let side = tab.side(Direction::Response);
        let bodiless = origin.is_bodiless(response.status());
        let head = Head {
            status: response.status().as_u16(),
            source: Source::Upstream,
            headers: response.headers(),
            route,
            now: self.now,
            request_id: self.id,
            seed: self.seed,
            caller: passed.caller,
            clock: &self.worker.gateway.clock,
            bodies: Some(tab),
        };
        let following = course.chain.follow_response(&self.worker.leases, &passed.decisions, &head, bodiless, tab);
        let following = following.map_err(|_| refused(side))?;
        if following.is_nobody() {
            return Ok(origin.plain());
        }
        let Following { holding, flowing, transformed } = following;
        if let (Some(first), Some(length)) = (holding.first(), origin.length())
            && let Some(limit) = first.is_too_large(length)
        {
            return Err(Ended::Denied(Denial::ResponseBodyTooLarge { limit }));
        }
        let progress = Rc::<Progress>::default();
        let Origin { mut source, patience, .. } = origin;
        for followers in holding {
            let filtered = Filtered::new(source, Some(Box::new(followers)), progress.clone());
            source = From::Held(match filtered.hold(patience).await {
                Ok(held) => held,
                Err(Some(Error::Refused)) => return Err(refused(side)),
                Err(Some(Error::Transport(_))) => {
                    // Where the upload was broken off, so was this, and it is no fault of the upstream.
                    let refusal = tab.side(Direction::Request).refusal();
                    return Err(refusal.map_or(Ended::Denied(Denial::UpstreamBroke), |why| ended(why, course.pillar)));
                }
                Err(None) => return Err(Ended::Denied(Denial::UpstreamTimedOut)),
            });
        }
        if transformed || side.is_changed() {
            head::forget_bytes(response.headers_mut());
        }
        let flow = flow(source, flowing, &progress);
        if flow.is_refused() {
            return Err(refused(side));
        }
        Ok(flow)
    }

    /// What policies that saw the whole body still change of the head; the reply of the one that spoke last, if any.
    fn apply_thoughts(&self, tab: &Tab, response: &mut Response<Body>) -> Option<Reply> {
        let mut reply = None;
        for (_, thought) in tab.take_thoughts() {
            effect::edit(response.headers_mut(), &thought.edits);
            reply = thought.reply.or(reply);
        }
        reply
    }
}

fn flow(source: From, flowing: Option<crate::chain::Followers>, progress: &Rc<Progress>) -> Flow {
    let filter = flowing.map(|followers| Box::new(followers) as Box<dyn Filter>);
    match (source, filter) {
        (From::Held(held), None) => Flow::from(held),
        (source, filter) => Flow::Filtered(Box::new(Filtered::new(source, filter, progress.clone()))),
    }
}

/// What a client gets instead of going on, over the body of its request.
fn ended(refusal: Refusal, pillar: &Pillar) -> Ended {
    match refusal {
        Refusal::Answered(reply) => Ended::Answered(reply),
        Refusal::Denied(denial) => Ended::Denied(guard::denial(denial, pillar)),
        Refusal::TooLarge(limit) => Ended::Denied(Denial::RequestBodyTooLarge { limit }),
        Refusal::Failed { policy, again } => {
            Ended::Denied(Denial::PolicyUnavailable { policy: policy.to_string(), again })
        }
        // Responses are stopped, not requests.
        Refusal::Stopped(policy) => Ended::Denied(Denial::PolicyUnavailable { policy: policy.to_string(), again: 1 }),
    }
}

/// What a client gets instead of a response, over its body.
fn refused(side: &Side) -> Ended {
    Ended::Denied(match side.refusal() {
        Some(Refusal::TooLarge(limit)) => Denial::ResponseBodyTooLarge { limit },
        Some(Refusal::Stopped(policy)) => Denial::ResponseRefused { policy: policy.to_string() },
        Some(Refusal::Failed { policy, again }) => Denial::PolicyUnavailable { policy: policy.to_string(), again },
        // Requests are refused so, not responses; and whoever refuses says why.
        Some(Refusal::Denied(_) | Refusal::Answered(_)) | None => Denial::UpstreamBroke,
    })
}
