//! Every refusal that the API can answer with, as it is really written: what its documentation shows.
//!
//! Which of them an operation can come to follows from what it needs, what it takes and where it lies.

use http::HeaderValue;
use serde_json::Value;

use super::key_needed;
use crate::api::actor::lapsed;
use crate::api::admin::{keys, life, webhooks};
use crate::api::usage as detail;
use crate::api::{Refusal, body, once, reads, requests};
use crate::body::Body;
use crate::clock::Millis;
use crate::config::Pillar;
use crate::denial::{Denial, Throttle};
use crate::inner::LARGEST_BODY;
use crate::key::{Lapsed, Management, StoreError, Unchangeable};
use crate::problem::Fault;
use crate::respond;
use crate::snapshot::own::{Endpoint, Needs};
use crate::webhook::{self, DeskError};

/// One refusal.
pub(super) struct Told {
    /// Its status.
    pub(super) status: u16,
    /// Its code.
    pub(super) code: String,
    /// The whole document.
    pub(super) document: Value,
}

/// The id that examples have.
const REQUEST: &str = "req_01m5k3v0q8f7c2d9x4e6t1r5yc";
/// The org that examples have.
const ORG: &str = "org_01m5k3v0q8f7c2d9x4e6t1r5ya";

/// All that an operation can be refused with, by status.
pub(super) fn of(endpoint: &Endpoint) -> Vec<Told> {
    let mut told: Vec<Told> = always().iter().map(denied).collect();
    if endpoint.needs != Needs::Nothing {
        told.extend(without_key().iter().map(denied));
        told.push(refused(&Refusal::store_unavailable()));
    }
    if let Some(scope) = endpoint.needs.management().first() {
        told.push(denied(&Denial::InsufficientScope { scope: scope.name().to_owned() }));
        told.push(refused(&key_needed()));
    }
    if endpoint.below.contains('{') {
        told.push(refused(&match endpoint.base {
            "/v1/webhooks" => webhooks::no_such_webhook(),
            "/v1/usage" => requests::no_such_request(),
            _ => keys::no_such_key(),
        }));
    }
    let pointer = |place: &str, detail: &str| Fault::at(place, detail);
    let unchangeable = |why| refused(&life::refused(&StoreError::Unchangeable(why)));
    let beyond = |place: &str| keys::beyond(vec![pointer(place, "Your key does not have the scope `pay`.")]);
    let changes = endpoint.needs.management() == [Management::WebhooksWrite] && endpoint.method != "GET";
    if endpoint.needs.management() == [Management::KeysWrite] || changes {
        told.push(refused(&lapsed(Lapsed::Replaced)));
    }
    match endpoint.name {
        "keys.issue" => {
            let faults = vec![
                pointer("/name", "Give a name of 1 to 100 characters, without control characters or spaces around it."),
                pointer("/scopes/1", "There is no such scope; did you mean `connect`?"),
                pointer("/org", keys::NO_SUCH_ORG),
            ];
            told.push(refused(&Refusal::invalid(faults)));
            told.push(refused(&beyond("/scopes/0")));
            told.push(refused(&life::refused(&StoreError::TooMany {
                org: ORG.parse().expect("the id of an org"),
                most: 10_000,
            })));
            told.push(org_erased());
            told.extend(body::refusals().iter().map(refused));
        }
        "keys.revoke" => told.push(refused(&keys::beyond(Vec::new()))),
        "keys.rotate" => {
            let fault = pointer("/overlap", "This must be a whole number from 0 to 2592000.");
            told.push(refused(&Refusal::invalid(vec![fault])));
            told.push(refused(&keys::beyond(Vec::new())));
            told.push(unchangeable(Unchangeable::Revoked));
            told.push(unchangeable(Unchangeable::RotationInProgress { until: Millis(1_795_392_000_000) }));
            told.push(org_erased());
            told.extend(body::refusals().iter().map(refused));
        }
        "keys.scope" => {
            let fault = pointer("/scopes/0", "There is no such scope; did you mean `connect`?");
            told.push(refused(&Refusal::invalid(vec![fault])));
            told.push(refused(&beyond("/scopes/0")));
            told.push(unchangeable(Unchangeable::Revoked));
            told.extend(body::refusals().iter().map(refused));
        }
        "webhooks.create" => {
            let faults = vec![
                pointer("/url", &webhook::Refused::Private.to_string()),
                pointer("/events/1", "There is no such event; did you mean `key.revoked`?"),
                pointer("/org", keys::NO_SUCH_ORG),
            ];
            told.push(refused(&Refusal::invalid(faults)));
            told.push(refused(&webhooks::refused(&DeskError::TooMany)));
            told.push(refused(&webhooks::refused(&DeskError::OrgErased)));
            told.push(refused(&webhooks::refused(&DeskError::SameUrl)));
            told.extend(body::refusals().iter().map(refused));
        }
        "webhooks.change" => {
            let fault = pointer("/url", &webhook::Refused::InTheClear.to_string());
            told.push(refused(&Refusal::invalid(vec![fault])));
            told.push(refused(&webhooks::refused(&DeskError::SameUrl)));
            told.extend(body::refusals().iter().map(refused));
        }
        "webhooks.rotate" => {
            let fault = pointer("/overlap", "This must be a whole number from 0 to 2592000.");
            let until = Millis(1_795_392_000_000);
            let rotating = webhook::StoreError::Unchangeable(webhook::Unchangeable::RotationInProgress { until });
            told.push(refused(&Refusal::invalid(vec![fault])));
            told.push(refused(&webhooks::refused(&DeskError::Store(rotating))));
            told.extend(body::refusals().iter().map(refused));
        }
        "webhooks.test" => told.push(refused(&webhooks::refused(&DeskError::Disabled))),
        "webhooks.list" => {
            told.push(refused(&Refusal::invalid(vec![Fault::of("limit", "Give a number from 1 to 200.")])));
        }
        "keys.list" => told.push(refused(&Refusal::invalid(vec![Fault::of("limit", "Give a number from 1 to 200.")]))),
        "requests" => {
            told.push(refused(&Refusal::invalid(vec![Fault::of("limit", "Give a number from 1 to 200.")])));
            told.push(refused(&requests::not_kept()));
        }
        "requests.show" => told.push(refused(&requests::not_kept())),
        "usage.detail" => {
            told.push(refused(&Refusal::invalid(vec![Fault::of("group_by", detail::NO_GROUP)])));
            told.push(refused(&reads::busy()));
        }
        "usage" => told.push(refused(&Refusal::invalid(vec![Fault::of("month", "Give a month such as 2026-11.")]))),
        _ => {}
    }
    if endpoint.is_done_once() {
        told.extend(once::refusals().iter().map(refused));
    }
    told.sort_by(|one, other| (one.status, &one.code).cmp(&(other.status, &other.code)));
    told
}

/// All that the gateway itself can refuse a request of a pillar with, by status. Policies may have codes of their own.
pub(super) fn of_pillar(pillar: &Pillar, auth: bool) -> Vec<Told> {
    let mut denials = always();
    denials.retain(|denial| !matches!(denial, Denial::GatewayBusy | Denial::GatewayTimedOut));
    if auth {
        denials.extend(without_key());
        denials.push(Denial::InsufficientScope { scope: pillar.scope.clone() });
    }
    match &pillar.upstream {
        Some(_) => denials.extend([
            Denial::UpstreamUnreachable,
            Denial::UpstreamOverloaded,
            Denial::UpstreamBroke,
            Denial::UpstreamTimedOut,
        ]),
        None => denials.push(Denial::UpstreamNotYetImplemented {
            pillar: pillar.name.clone(),
            path: pillar.prefix.clone(),
            method: "GET".to_owned(),
            developer_docs: "/".to_owned(),
        }),
    }
    if pillar.sandbox.is_none() {
        denials.push(Denial::SandboxNotAvailable { pillar: pillar.name.clone() });
    }
    let mut told: Vec<Told> = denials.iter().map(denied).collect();
    told.sort_by(|one, other| (one.status, &one.code).cmp(&(other.status, &other.code)));
    told
}

/// An org that is being erased while one of its keys asks.
fn org_erased() -> Told {
    refused(&life::refused(&StoreError::OrgErased { org: ORG.parse().expect("the id of an org") }))
}

/// Whoever asks, whatever for.
fn always() -> Vec<Denial> {
    vec![
        Denial::MalformedRequest("its Host is not a host".into()),
        Denial::RequestBodyStalled,
        Denial::RequestBodyTooLarge { limit: LARGEST_BODY as u32 },
        Denial::RateLimited(throttle(1)),
        Denial::QuotaExceeded(throttle(777_600)),
        Denial::ResponseRefused { policy: "redact".to_owned() },
        Denial::ResponseBodyTooLarge { limit: 1 << 20 },
        Denial::PolicyUnavailable { policy: "key-auth".to_owned(), again: 1 },
        Denial::CredentialUnavailable,
        Denial::MeteringUnavailable,
        Denial::GatewayBusy,
        Denial::GatewayTimedOut,
    ]
}

fn without_key() -> Vec<Denial> {
    vec![
        Denial::MissingAuthorization,
        Denial::InvalidTokenShape,
        Denial::InvalidApiKey,
        Denial::KeyRevoked,
        Denial::KeyExpired,
        Denial::AddressNotAllowed,
    ]
}

fn throttle(retry_after: u32) -> Throttle {
    Throttle {
        retry_after,
        policy: HeaderValue::from_static("\"sec\";q=100;w=1"),
        state: HeaderValue::from_static("\"sec\";r=0;t=1"),
    }
}

fn denied(denial: &Denial) -> Told {
    let response = respond::to(denial, REQUEST);
    let status = response.status().as_u16();
    let Body::Whole(Some(bytes)) = response.into_body() else { unreachable!("refusals are whole documents") };
    let document = serde_json::from_slice(&bytes).expect("refusals are JSON");
    Told { status, code: denial.code().to_owned(), document }
}

fn refused(refusal: &Refusal) -> Told {
    let problem = refusal.problem().clone().instance(REQUEST);
    let document =
        serde_json::to_value(&problem).expect("a document of strings, numbers and JSON values can be written");
    Told { status: problem.status, code: problem.code.into_owned(), document }
}
