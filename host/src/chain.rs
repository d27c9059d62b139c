//! Ordered policies: facts in, verdicts out, in the order of the chain.
//!
//! Carries nothing out; what follows bodies is in [`body`]. Facts show the client's request as it was normalised: what an earlier policy
//! wants changed is invisible to the later ones, what it noted is visible.

use crate::clock::{Clock, Millis};
use crate::config;
use crate::credential::Credential;
use crate::id::Text;
use crate::key::{Key, Mode};
use crate::limit::Limit;
use crate::plugin::contract::{
    self, Address, Facts as Wanted, FieldValue, Method as WitMethod, Note, OtherFieldParam as OtherField, Request,
    Scheme, Standing,
};
use crate::plugin::{Action, Caller, Decision, Failure, Fields, Instances, Pass, Policy, Slot};
use crate::requests::{Call, Calls, Phase, Verdict};
use crate::upstream::{Health, Upstream};
use crate::usage;
use http::request::Parts;
use http::{HeaderMap, Method};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

mod after;
mod body;

pub use after::Head;
pub use body::{Announced, Followers, Following, Refusal, Side, Tab};

/// The policies of one pillar, in order.
#[derive(Default)]
pub struct Chain {
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// One use of a policy in a chain, with what its verdicts refer to by position.
#[derive(Clone)]
pub struct Step {
    /// The policy.
    pub policy: Arc<Policy>,
    /// Its number in usage.
    pub number: usage::Policy,
    /// Which use of it.
    pub slot: u32,
    /// Limits, as in its plan.
    pub limits: Vec<Arc<Limit>>,
    /// Upstreams, as in its plan.
    pub targets: Vec<Arc<Upstream>>,
}

/// What policies can get to know about a request.
pub struct Facts<'a> {
    /// Method and fields, as the client sent them.
    pub head: &'a Parts,
    /// The normalised path.
    pub path: &'a str,
    /// The query.
    pub query: Option<&'a str>,
    /// The authority.
    pub authority: &'a str,
    /// Position of the rule in the pillar.
    pub route: u32,
    /// The request's id.
    pub request_id: &'a str,
    /// The time.
    pub now: Millis,
    /// Where the client is.
    pub address: IpAddr,
    /// What its credential came to.
    pub credential: &'a Credential,
    /// Random bits.
    pub seed: u64,
    /// What time it is after a call: `now` is when the request came.
    pub clock: &'a Clock,
}

/// What came of a chain.
pub struct Passed {
    /// The decisions of the policies that ran, with their positions in the chain.
    pub decisions: Vec<(usize, Decision)>,
    /// How it ended.
    pub end: End,
    /// The calls, save those about bodies.
    pub calls: Calls,
    /// What comes of the bodies, where any policy follows them.
    pub bodies: Option<Rc<Tab>>,
    /// Whose calls these are, for quarantine.
    pub caller: Caller,
}

/// How a chain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All policies let it pass.
    Through,
    /// The last of the decisions refused or answered.
    Early,
    /// The policy at this position failed, and it fails closed; so many seconds until it may be asked again, at least 1.
    Failed(usize, u32),
}

impl Chain {
    /// Asks each policy in turn, until one refuses or answers. Only a policy that waits makes the request wait.
    pub async fn run(&self, instances: &RefCell<Instances>, facts: &Facts<'_>) -> Passed {
        let caller = facts.caller();
        let bodies = self.follows_bodies().then(|| Rc::new(Tab::new(facts.request_id, caller, facts.clock, facts.now)));
        let decisions = Vec::with_capacity(self.steps.len());
        let mut passed = Passed { decisions, end: End::Through, calls: Calls::new(), bodies, caller };
        // One look at the clock for each policy: its end is the beginning of the next one.
        let mut begun = Instant::now();
        for (position, step) in self.steps.iter().enumerate() {
            let asked = match step.policy.component.waits() {
                false => step.ask(instances, facts, self, &passed.decisions),
                // In a box, so that requests which nobody makes wait carry no room for it.
                true => Box::pin(step.ask_and_wait(instances, facts, self, &passed.decisions)).await,
            };
            let now = Instant::now();
            let span = (std::mem::replace(&mut begun, now), now);
            match asked {
                Ok((decision, fuel)) => {
                    passed.calls.push(step.call(Phase::Request, verdict(&decision.action), span, fuel));
                    let early = matches!(decision.action, Action::Deny(_) | Action::Respond(_));
                    passed.decisions.push((position, decision));
                    if early {
                        passed.end = End::Early;
                        break;
                    }
                }
                Err(failure) => {
                    // Its fuel is lost to the count: the store went with the instance.
                    step.failed(&failure, facts.request_id);
                    if failure.did_run() {
                        passed.calls.push(step.call(Phase::Request, Verdict::Failed, span, 0));
                    }
                    if step.policy.failure == config::Failure::Closed {
                        passed.end = End::Failed(position, failure.retry_after(facts.clock.now()));
                        break;
                    }
                }
            }
        }
        passed
    }
}

/// What a policy wants to see of a request, where it does not stand in the request itself.
struct Gathered<'a> {
    fields: Named<'a>,
    others: Others<'a>,
    health: SmallVec<[contract::Health; 4]>,
    notes: SmallVec<[Note<'a>; 4]>,
    /// On the stack, and only if somebody wants them.
    ids: Option<(Text, Text)>,
}

impl Facts<'_> {
    /// All keys of an org are one caller, so that none of them is a way around a wait of another.
    fn caller(&self) -> Caller {
        match self.credential.valid() {
            Some(key) => Caller::Org(key.org),
            None => Caller::without_key(self.address),
        }
    }
}

impl Step {
    fn slot(&self) -> &Slot {
        &self.policy.slots[self.slot as usize]
    }

    fn call(&self, phase: Phase, verdict: Verdict, (begun, ended): (Instant, Instant), fuel: u64) -> Call {
        Call { policy: self.number, phase, verdict, took: ended - begun, begun, ended, fuel }
    }

    fn failed(&self, failure: &Failure, request: &str) {
        self.policy.record.failed(failure);
        let (policy, kind) = (&*self.policy.name, failure.kind().code());
        match failure {
            // That it began was told; a flood of refusals is no flood of lines.
            Failure::Quarantined { .. } => tracing::debug!(policy, request, kind, "a policy was not asked: {failure}"),
            _ => tracing::warn!(policy, request, kind, "a policy failed: {failure}"),
        }
    }

    fn ask(
        &self,
        instances: &RefCell<Instances>,
        facts: &Facts<'_>,
        chain: &Chain,
        earlier: &[(usize, Decision)],
    ) -> Result<(Decision, u64), Failure> {
        let pass = self.admit(facts)?;
        let gathered = self.gather(facts, chain, earlier);
        let answer = pass.saw(instances.borrow_mut().on_request(&self.policy, self.request(facts, &gathered)))?;
        Ok((self.policy.accept(self.slot, answer.value)?, answer.fuel))
    }

    async fn ask_and_wait(
        &self,
        instances: &RefCell<Instances>,
        facts: &Facts<'_>,
        chain: &Chain,
        earlier: &[(usize, Decision)],
    ) -> Result<(Decision, u64), Failure> {
        let pass = self.admit(facts)?;
        let gathered = self.gather(facts, chain, earlier);
        let request = self.request(facts, &gathered);
        let answer = Instances::on_request_waiting(instances, &self.policy, request, facts.seed, pass.queued()).await;
        let answer = pass.saw(answer)?;
        Ok((self.policy.accept(self.slot, answer.value)?, answer.fuel))
    }

    fn admit<'a>(&'a self, facts: &Facts<'a>) -> Result<Pass<'a>, Failure> {
        self.policy.record.calls.fetch_add(1, Ordering::Relaxed);
        self.policy.admit(facts.caller(), facts.clock)
    }

    fn gather<'a>(&self, facts: &Facts<'a>, chain: &'a Chain, earlier: &'a [(usize, Decision)]) -> Gathered<'a> {
        let declared = &self.policy.component.declared;
        let wants = |fact: Wanted| declared.facts.contains(fact);
        let headers = &facts.head.headers;
        let key = facts.credential.valid();
        Gathered {
            fields: named(&declared.reads, headers),
            others: others(&declared.reads, headers),
            health: match wants(Wanted::UPSTREAM_HEALTH) {
                true => self.targets.iter().map(|upstream| health(upstream.health())).collect(),
                false => SmallVec::new(),
            },
            notes: if wants(Wanted::NOTES) { notes(chain, earlier) } else { SmallVec::new() },
            ids: if wants(Wanted::PRINCIPAL) { key.map(|key| (key.org.text(), key.id.text())) } else { None },
        }
    }

    fn request<'a>(&self, facts: &Facts<'a>, gathered: &'a Gathered<'_>) -> Request<'a> {
        let declared = &self.policy.component.declared;
        let wants = |fact: Wanted| declared.facts.contains(fact);
        let Gathered { fields, others, health, notes, ids } = gathered;
        let (method, other_method) = method(&facts.head.method);
        let upgrade = facts.head.headers.get(http::header::UPGRADE).and_then(|value| value.to_str().ok());
        Request {
            slot: self.slot,
            route: facts.route,
            now: facts.now.0,
            method,
            other_method,
            scheme: Scheme::Http,
            request_id: wants(Wanted::REQUEST_ID).then_some(facts.request_id),
            authority: wants(Wanted::AUTHORITY).then_some(facts.authority),
            path: wants(Wanted::PATH).then_some(facts.path),
            query: facts.query.filter(|_| wants(Wanted::QUERY)),
            upgrade,
            client_address: wants(Wanted::CLIENT_ADDRESS).then(|| address(facts.address)),
            credential: wants(Wanted::CREDENTIAL).then(|| credential(facts.credential, &self.slot().plan)),
            principal: ids.as_ref().map(|(org, key)| contract::Principal { org, key }),
            upstream_health: wants(Wanted::UPSTREAM_HEALTH).then_some(&health[..]),
            seed: wants(Wanted::SEED).then_some(facts.seed),
            fields: (!declared.reads.named.is_empty()).then_some(&fields[..]),
            other_fields: declared.reads.others.then_some(&others[..]),
            notes: wants(Wanted::NOTES).then_some(&notes[..]),
        }
    }
}

fn verdict(action: &Action) -> Verdict {
    match action {
        Action::Next => Verdict::Next,
        Action::Forward(_) => Verdict::Forward,
        Action::Deny(_) => Verdict::Deny,
        Action::Respond(_) => Verdict::Respond,
    }
}

/// Values of the fields that were declared by name.
type Named<'a> = SmallVec<[FieldValue<'a>; 4]>;

/// All other fields.
type Others<'a> = SmallVec<[OtherField<'a>; 0]>;

fn named<'a>(fields: &Fields, headers: &'a HeaderMap) -> Named<'a> {
    let mut values = SmallVec::new();
    for (position, name) in fields.named.iter().enumerate() {
        let field = u32::try_from(position).unwrap_or(u32::MAX);
        values.extend(headers.get_all(name).iter().map(|value| FieldValue { field, value: value.as_bytes() }));
    }
    values
}

/// All other fields, save those that carry credentials: these are read by name only, under a grant of their own.
fn others<'a>(fields: &Fields, headers: &'a HeaderMap) -> Others<'a> {
    if !fields.others {
        return SmallVec::new();
    }
    let open = headers.iter().filter(|(name, _)| !crate::plugin::is_sensitive(name) && !fields.named.contains(name));
    open.map(|(name, value)| OtherField { name: name.as_str(), value: value.as_bytes() }).collect()
}

fn notes<'a>(chain: &'a Chain, earlier: &'a [(usize, Decision)]) -> SmallVec<[Note<'a>; 4]> {
    let signed = |(position, decision): &'a (usize, Decision)| {
        let author: &'a str = &chain.steps[*position].policy.name;
        decision.notes.iter().map(move |(name, value)| Note { author, name, value })
    };
    earlier.iter().flat_map(signed).collect()
}

fn method(method: &Method) -> (WitMethod, Option<&str>) {
    let known = match *method {
        Method::GET => WitMethod::Get,
        Method::HEAD => WitMethod::Head,
        Method::POST => WitMethod::Post,
        Method::PUT => WitMethod::Put,
        Method::DELETE => WitMethod::Delete,
        Method::PATCH => WitMethod::Patch,
        Method::OPTIONS => WitMethod::Options,
        _ => return (WitMethod::Other, Some(method.as_str())),
    };
    (known, None)
}

fn address(address: IpAddr) -> Address {
    match address.to_canonical() {
        IpAddr::V4(v4) => Address::V4(v4.to_bits()),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            Address::V6(((bits >> 64) as u64, bits as u64))
        }
    }
}

fn credential(credential: &Credential, plan: &crate::plugin::Plan) -> contract::Credential {
    match credential {
        Credential::Absent => contract::Credential::Absent,
        Credential::Malformed => contract::Credential::Malformed,
        Credential::Unknown => contract::Credential::Unknown,
        Credential::Revoked(_) => contract::Credential::Revoked,
        Credential::Expired(_) => contract::Credential::Expired,
        Credential::AddressNotAllowed(_) => contract::Credential::AddressNotAllowed,
        Credential::Valid(bearer) => contract::Credential::Valid(standing(&bearer.key, plan)),
    }
}

fn standing(key: &Key, plan: &crate::plugin::Plan) -> Standing {
    // Whoever is known holds the scope of the gateway's own API; what a rule of it asks for beyond that, the guard sees to.
    let holds = |scope: &str| scope == config::OWN || key.holds(scope);
    let held = |(position, scope): (usize, &String)| u64::from(holds(scope)) << position;
    let scopes = plan.scopes.iter().enumerate().map(held).fold(0, |all, bit| all | bit);
    let mode = match key.mode {
        Mode::Live => contract::Mode::Live,
        Mode::Sandbox => contract::Mode::Sandbox,
    };
    Standing { mode, scopes }
}

fn health(health: Health) -> contract::Health {
    match health {
        Health::Live => contract::Health::Live,
        Health::Degraded => contract::Health::Degraded,
        Health::Down => contract::Health::Down,
    }
}
