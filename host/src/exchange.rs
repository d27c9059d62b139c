//! One request's journey, start to end: the only module that joins the others.
//!
//! Always answers. Between the head of a request and the head of its response there is one way out, [`serve`], so that
//! no path can forget the request's id, the response phase or the meter.

use crate::body::{Body, Upload};
use crate::chain::{End, Facts, Passed};
use crate::clock::Millis;
use crate::credential::Credential;
use crate::denial::Denial;
use crate::effect::{self, Charges, Takes, Told};
use crate::head::{self, Context};
use crate::id::{RequestId, Text};
use crate::journal::Call;
use crate::key::Mode;
use crate::landing;
use crate::meter::{self, Meter};
use crate::plugin::contract::Source;
use crate::plugin::{Action, Reply};
use crate::principal::Principal;
use crate::requests::{self, Trace};
use crate::respond;
use crate::snapshot::{Pillar, Snapshot, Target};
use crate::upstream::{self, Upstream};
use crate::worker::Worker;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;

mod assertion;
mod bodies;
mod finish;
mod guard;
mod own;

/// Who is at the other end of a connection.
#[derive(Debug)]
pub struct Client {
    /// Its address.
    pub address: IpAddr,
    /// The address as the value of a field.
    pub forwarded_for: HeaderValue,
}

/// Carries one request from route to meter; always answers.
pub async fn serve(worker: &Worker, client: &Client, request: Request<Incoming>) -> Response<Body> {
    let now = worker.gateway.clock.now();
    let id = worker.request_ids.next(now);
    let text = id.text();
    let context = Context::of(request.headers(), || worker.random());
    let trace = Trace::begin(&worker.recorder, id, now, client.address, &request, context);
    let context = trace.context();
    let (seed, trace) = (worker.random(), Cell::new(Some(trace)));
    let exchange = Exchange { worker, client, request: id, id: &text, now, seed, context, trace };
    let (mut response, denied) = match exchange.route(request).await {
        Ok(response) => (response, None),
        Err(denial) => (respond::to(&denial, &text), Some(denial)),
    };
    // Still here where it did not get as far as a meter.
    if let Some(trace) = exchange.trace.take() {
        let bytes = response.body().size_hint().exact().unwrap_or(0);
        trace.answered(response.status().as_u16(), denied.as_ref().map(|denial| denial.code()), bytes);
    }
    if let Ok(id) = HeaderValue::from_str(&text) {
        response.headers_mut().insert(head::X_REQUEST_ID, id);
    }
    response
}

struct Exchange<'a> {
    worker: &'a Worker,
    client: &'a Client,
    request: RequestId,
    id: &'a Text,
    now: Millis,
    seed: u64,
    context: Context,
    trace: Cell<Option<Trace>>,
}

/// An answer, before the response phase. An upstream's body is kept apart until it is sure that it is wanted.
struct Answer {
    response: Response<Body>,
    incoming: Option<bodies::Origin>,
    source: Source,
    told: Option<Told>,
}

impl Answer {
    fn whole(response: Response<Body>, source: Source, told: Option<Told>) -> Self {
        Self { response, incoming: None, source, told }
    }
}

/// A request that has found its pillar.
struct Routed<'a> {
    parts: Parts,
    path: &'a str,
    authority: &'a str,
    pillar: &'a Pillar,
    target: Target,
    prefix: usize,
    credential: Credential,
}

impl Exchange<'_> {
    async fn route(&self, request: Request<Incoming>) -> Result<Response<Body>, Denial> {
        let (parts, upload) = request.into_parts();
        if head::is_refused_method(&parts.method) {
            return Err(Denial::MethodNotAllowed { allow: "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS" });
        }
        // Owned, since the head moves on to the upstream.
        let authority =
            head::authority(&parts).map_err(|why| Denial::MalformedRequest(why.into()))?.to_ascii_lowercase();
        let path = head::normalised_path(&parts).map_err(|why| Denial::MalformedRequest(why.to_string().into()))?;
        let path = path.into_owned();
        let snapshot = self.worker.gateway.live.load_full();
        let gateway = &self.worker.gateway;
        let own = landing::Own {
            draining: gateway.is_draining(),
            refusing: gateway.journal.is_refusing(),
            jwks: &gateway.jwks,
            now: self.now,
        };
        if let Some(answer) = landing::answer(&path, &parts.method, &snapshot, &own) {
            return answer;
        }
        let Some(found) = snapshot.routes.find(&path, &parts.method) else { return Err(Denial::NotFound) };
        let pillar = &snapshot.pillars[usize::from(found.payload.pillar)];
        let authorization = parts.headers.get_all(http::header::AUTHORIZATION).iter().map(HeaderValue::as_bytes);
        let credential = self.worker.gateway.keyring.resolve(authorization, self.client.address, self.now);
        let credential = match credential.await {
            Ok(credential) => credential,
            // Where nobody needs a key, none is waited for.
            Err(_) if !pillar.rules[usize::from(found.payload.rule)].auth => Credential::Unknown,
            Err(_) => return Err(Denial::CredentialUnavailable),
        };
        let routed = Routed {
            path: &path,
            authority: &authority,
            pillar,
            target: found.payload,
            prefix: found.prefix,
            credential,
            parts,
        };
        Ok(self.pass(&snapshot, routed, upload).await)
    }

    /// Through the chain, to the upstream and back: whatever happens, the response phase follows, and the meter.
    async fn pass(&self, snapshot: &Arc<Snapshot>, routed: Routed<'_>, upload: Incoming) -> Response<Body> {
        let pillar = routed.pillar;
        let facts = Facts {
            head: &routed.parts,
            path: routed.path,
            query: routed.parts.uri.query(),
            authority: routed.authority,
            route: u32::from(routed.target.rule),
            request_id: self.id,
            now: self.now,
            address: self.client.address,
            credential: &routed.credential,
            seed: self.seed,
            clock: &self.worker.gateway.clock,
        };
        let (chain, rule) = (pillar.chain(routed.target), &pillar.rules[usize::from(routed.target.rule)]);
        let caller = meter::caller(&routed.credential);
        let mut trace = self.trace.take();
        trace.iter_mut().for_each(|trace| trace.found(caller, pillar.number, rule.number));
        let books = &self.worker.books;
        let call = Call { request: self.request.number(), caller: caller.0, at: self.now };
        // Before the chain: who leaves while a policy waits is counted as well.
        let mut meter = Meter::open(books, call, pillar, routed.target, trace);
        if routed.parts.method == http::Method::HEAD {
            meter.to_head();
        }
        let mut passed = chain.run(&self.worker.instances, &facts).await;
        meter.policies(requests::time(&passed.calls));
        meter.called(&mut passed.calls);
        let answer = match self.decide(snapshot, routed, &mut passed, upload, &mut meter).await {
            Ok(answer) => answer,
            Err(denial) => {
                meter.denied(&denial);
                Answer::whole(respond::to(&denial, self.id), Source::Gateway, None)
            }
        };
        self.finish(finish::Course { pillar, chain }, answer, &mut passed, meter).await
    }

    /// What the chain came to: an answer of its own, or the upstream's.
    async fn decide(
        &self,
        snapshot: &Arc<Snapshot>,
        mut routed: Routed<'_>,
        passed: &mut Passed,
        upload: Incoming,
        meter: &mut Meter,
    ) -> Result<Answer, Denial> {
        let pillar = routed.pillar;
        let chain = pillar.chain(routed.target);
        let credential = std::mem::replace(&mut routed.credential, Credential::Absent);
        let claim = passed.decisions.iter().rev().find_map(|(_, decision)| decision.identity.clone());
        let principal = guard::principal(&credential, claim.as_deref());
        let mode = guard::mode(&credential, principal);
        meter.caller(mode);
        let taker = effect::Taker { principal, address: self.client.address };
        let take = |which| effect::take(chain, &passed.decisions, which, taker, self.now);
        match passed.end {
            End::Through => {}
            End::Early => {
                // What a policy answers in the upstream's place needs a record as well; a refusal is given without one.
                if passed.decisions.last().is_some_and(|(_, decision)| matches!(decision.action, Action::Respond(_))) {
                    meter.admit()?;
                    meter.begin()?;
                }
                let told = take(Takes::Always)?;
                let Some((_, decision)) = passed.decisions.last_mut() else { return Err(Denial::NotFound) };
                return match std::mem::replace(&mut decision.action, Action::Next) {
                    Action::Deny(denial) => Err(guard::denial(*denial, pillar)),
                    Action::Respond(reply) => Ok(Answer::whole(reply_response(*reply), Source::Policy, told)),
                    Action::Next | Action::Forward(_) => Err(Denial::NotFound),
                };
            }
            End::Failed(position, again) => {
                take(Takes::Always)?;
                let policy = chain.steps[position].policy.name.to_string();
                return Err(Denial::PolicyUnavailable { policy, again });
            }
        }
        if let Err(denial) = guard::check(pillar, routed.target, &credential, principal) {
            take(Takes::Always)?;
            return Err(denial);
        }
        if pillar.is_own {
            meter.admit()?;
            let told = take(Takes::All)?;
            meter.begin()?;
            let asker = own::asker(principal, credential.bearer());
            return self.own(routed, passed, asker, upload, (told, meter)).await;
        }
        let upstream = match self.upstream(snapshot, &routed, mode, passed) {
            Ok(upstream) => upstream,
            Err(denial) => {
                take(Takes::Always)?;
                return Err(denial);
            }
        };
        meter.admit()?;
        let told = take(Takes::All)?;
        meter.begin()?;
        meter.charge(Charges::of(&passed.decisions));
        let uploaded = match self.upload(&routed, passed, upload, upstream.response_timeout, meter).await {
            Ok(uploaded) => uploaded,
            Err(ended) => return ended.answer(told),
        };
        // Whoever has seen the whole body may have chosen another one.
        let upstream = if uploaded.was_held { self.upstream(snapshot, &routed, mode, passed)? } else { upstream };
        let caller = principal.zip(mode);
        let to_head = routed.parts.method == http::Method::HEAD;
        let request = self.outbound(snapshot, routed, passed, caller, &upstream, uploaded)?;
        let asking = meter.ask(&upstream);
        let sent = self.worker.pools.send(&upstream, request).await.and_then(|(response, lease)| {
            // Nobody asked for another protocol, and what is beyond 599 is no status (RFC 9110, section 15).
            let is_status = response.status() != StatusCode::SWITCHING_PROTOCOLS && response.status().as_u16() <= 599;
            if is_status { Ok((response, lease)) } else { Err(upstream::Failure::Broke) }
        });
        match &sent {
            Ok((response, lease)) => asking.answered(response.status(), lease.authority()),
            Err(failure) => asking.failed(failure.code()),
        }
        let (response, lease) = match sent {
            Ok(sent) => sent,
            Err(failure) => match self.ended_by_policy(passed, pillar) {
                Some(ended) => return ended.answer(told),
                None => return Err(upstream_denial(failure, &upstream)),
            },
        };
        let (mut parts, incoming) = response.into_parts();
        meter.units(&parts.headers);
        meter.answered(parts.status, lease);
        head::clean_response(&mut parts.headers);
        parts.version = Version::HTTP_11;
        let response = Response::from_parts(parts, Body::empty());
        let source = crate::body::Source::Incoming(incoming);
        let incoming = Some(bodies::Origin { source, to_head, patience: upstream.response_timeout });
        Ok(Answer { response, incoming, source: Source::Upstream, told })
    }

    /// Where the request goes: never to a live upstream for a sandbox key, whatever policies say.
    fn upstream(
        &self,
        snapshot: &Snapshot,
        routed: &Routed<'_>,
        mode: Option<Mode>,
        passed: &Passed,
    ) -> Result<Arc<Upstream>, Denial> {
        let pillar = routed.pillar;
        let chain = pillar.chain(routed.target);
        if mode == Some(Mode::Sandbox) {
            return pillar.sandbox.clone().ok_or_else(|| match pillar.live {
                Some(_) => Denial::SandboxNotAvailable { pillar: pillar.name.to_string() },
                None => scaffold(snapshot, routed),
            });
        }
        let forwarded = passed.decisions.iter().rev().find_map(|(position, decision)| match decision.action {
            Action::Forward(target) => Some(chain.steps[*position].targets[target].clone()),
            _ => None,
        });
        forwarded.or_else(|| pillar.live.clone()).ok_or_else(|| scaffold(snapshot, routed))
    }

    /// The request as the upstream gets it.
    fn outbound(
        &self,
        snapshot: &Snapshot,
        routed: Routed<'_>,
        passed: &Passed,
        caller: Option<(Principal<'_>, Mode)>,
        upstream: &Upstream,
        uploaded: bodies::Uploaded,
    ) -> Result<Request<Upload>, Denial> {
        let other_bytes = routed.pillar.chain(routed.target).changes_responses();
        let Routed { mut parts, path, pillar, prefix, .. } = routed;
        let rewritten = passed.decisions.iter().rev().find_map(|(_, decision)| decision.path.as_deref());
        let below = if pillar.strip_prefix { &path[prefix..] } else { path };
        parts.uri = target(rewritten.unwrap_or(below), parts.uri.query())?;
        parts.version = Version::HTTP_11;
        let headers = &mut parts.headers;
        head::clean_request(headers);
        // Only HTTP/1.0 may come without one (RFC 9112, section 3.2); what goes on is HTTP/1.1.
        if !headers.contains_key(http::header::HOST)
            && let Some(Ok(host)) =
                upstream.endpoints.first().map(|endpoint| HeaderValue::from_str(&endpoint.authority))
        {
            headers.insert(http::header::HOST, host);
        }
        headers.insert(head::X_FORWARDED_FOR, self.client.forwarded_for.clone());
        headers.insert(head::X_FORWARDED_PROTO, HeaderValue::from_static("http"));
        self.context.write(headers);
        uploaded.write(headers);
        // A range of what the upstream has is none of what the client gets.
        if other_bytes {
            headers.remove(http::header::RANGE);
            headers.remove(http::header::IF_RANGE);
        }
        effect::edit_request(headers, &passed.decisions);
        // After the edits: what the gateway itself says cannot be edited.
        if let Ok(id) = HeaderValue::from_str(self.id) {
            headers.insert(head::X_REQUEST_ID, id);
        }
        let issuer = &snapshot.config.gateway.issuer;
        if let Some(value) =
            assertion::of(&self.worker.gateway.signer, issuer, pillar, passed, caller, self.id, self.now)
        {
            headers.insert(head::X_PORTICO_ASSERTION, value);
        }
        Ok(Request::from_parts(parts, uploaded.body))
    }
}

fn scaffold(snapshot: &Snapshot, routed: &Routed<'_>) -> Denial {
    Denial::UpstreamNotYetImplemented {
        pillar: routed.pillar.name.to_string(),
        path: routed.path.to_owned(),
        method: routed.parts.method.to_string(),
        developer_docs: snapshot.config.gateway.developer_docs.clone(),
    }
}

fn upstream_denial(failure: upstream::Failure, upstream: &Upstream) -> Denial {
    tracing::warn!(upstream = upstream.name, "an upstream did not answer: {failure}");
    match failure {
        upstream::Failure::Unreachable => Denial::UpstreamUnreachable,
        upstream::Failure::Overloaded => Denial::UpstreamOverloaded,
        upstream::Failure::TimedOut => Denial::UpstreamTimedOut,
        upstream::Failure::Broke => Denial::UpstreamBroke,
        upstream::Failure::BrokenUpload => Denial::MalformedRequest("its body is malformed or ended early".into()),
    }
}

fn reply_response(reply: Reply) -> Response<Body> {
    let mut response = Response::new(Body::whole(reply.body.into()));
    *response.status_mut() = reply.status;
    let mut headers = HeaderMap::with_capacity(reply.fields.len());
    for (name, value) in reply.fields {
        headers.append(name, value);
    }
    *response.headers_mut() = headers;
    response
}

/// The target of the request to the upstream, in origin form.
fn target(path: &str, query: Option<&str>) -> Result<Uri, Denial> {
    let path = if path.is_empty() { "/" } else { path };
    let whole = match query {
        None => PathAndQuery::try_from(path),
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
    };
    // Each was checked on its own; together they can still be longer than a target may be.
    whole.map(Uri::from).map_err(|_| Denial::MalformedRequest("its target is too long".into()))
}
