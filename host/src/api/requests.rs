//! The request log over HTTP, on both listeners: by time, key, pillar and status, page by page; and one request by its id.
//!
//! A key or a token of an org sees that org's; a sandbox key only what was called with sandbox keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{Action, Actor, By, Paging, Refusal};
use crate::clock::Millis;
use crate::head::TraceId;
use crate::id::{KeyId, OrgId, RequestId};
use crate::key;
use crate::problem::Fault;
use crate::requests::{Entry, Filter, RequestLog, Statuses, ended, micros};

const TIME: &str = "This is no time of RFC 3339; write for example 2030-01-31T12:00:00Z.";
const NO_SUCH_ORG: &str = "There is no such org; give the id of one.";
/// The parameters beyond those of every list.
const FILTERS: [&str; 6] = ["org", "since", "until", "key", "pillar", "status"];

/// Where records are read; none where none are kept.
#[derive(Clone)]
pub(super) struct Log(pub(super) Option<Arc<dyn RequestLog>>);

/// Some requests, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RequestList {
    requests: Vec<RequestShown>,
    /// To be given as `cursor` for the requests before these; null where there are none. A page can be short, or empty, and have one.
    next_cursor: Option<String>,
}

/// A finished request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Request)]
pub(super) struct RequestShown {
    /// Its id, as in `x-request-id`.
    #[schema(example = "req_01m5k3v0q8f7c2d9x4e6t1r5yc")]
    id: String,
    /// When it began.
    #[schema(format = DateTime)]
    at: String,
    /// The org of its key; null where it came without one.
    #[schema(example = "org_01m5k3v0q8f7c2d9x4e6t1r5ya")]
    org_id: Option<String>,
    /// The key that it came with, also one that was refused.
    #[schema(example = "key_01m5k3v0q8f7c2d9x4e6t1r5yb")]
    key_id: Option<String>,
    /// `live` or `sandbox`; null without a key.
    #[schema(example = "live")]
    mode: Option<String>,
    /// The id of its trace (W3C Trace Context), that of a valid `traceparent` which came with it; null in what an earlier version logged.
    #[schema(example = "0af7651916cd43dd8448eb211c80319c", pattern = "^[0-9a-f]{32}$")]
    trace_id: Option<String>,
    /// The API; null where there was none at the path, which only operators are told: such requests are of no org.
    #[schema(example = "connect")]
    pillar: Option<String>,
    /// The rule of the API.
    #[schema(example = "rooms.show")]
    route: Option<String>,
    #[schema(example = "GET")]
    method: String,
    host: String,
    /// The path, without what looks like a secret.
    path: String,
    /// Null unless the operator keeps queries; without what looks like a secret.
    query: Option<String>,
    /// Request fields that the operator keeps.
    headers: BTreeMap<String, String>,
    /// Null unless the operator keeps addresses.
    client_address: Option<String>,
    /// Null where the client left before there was one.
    status: Option<u16>,
    /// The code of the gateway's refusal; `by_policy` for codes of policies.
    #[schema(example = "rate_limited")]
    error: Option<String>,
    /// `complete`; `broken` by the API's service; `left` by the client; or `cut` by the gateway, which ended or had a policy refuse the rest.
    #[schema(example = "complete")]
    ended: String,
    /// Bytes of the request body.
    bytes_in: u64,
    /// Bytes of the response body.
    bytes_out: u64,
    /// Microseconds, from the head of the request to the end of the answer.
    duration_us: u64,
    /// Of these, until the service had begun its answer.
    upstream_us: u64,
    /// Of these, in policies.
    policies_us: u64,
    /// What was charged, in tokens.
    #[schema(example = "12.5", pattern = "^[0-9]+(\\.[0-9]+)?$")]
    gas: String,
    /// Units that the service reported.
    units: u64,
    /// Units of work that policies did.
    fuel: u64,
}

impl RequestShown {
    pub(super) fn of(entry: &Entry<'_>) -> Self {
        let record = &entry.record;
        let named = |name: &str| Some(name.to_owned()).filter(|name| !name.is_empty());
        let field = |(name, value): (&str, &[u8])| (name.to_owned(), String::from_utf8_lossy(value).into_owned());
        let mode = if record.sandbox { "sandbox" } else { "live" };
        Self {
            id: RequestId::from_number(record.request).to_string(),
            at: record.at.to_string(),
            org_id: record.caller.org.map(|org| OrgId::from_number(org).to_string()),
            key_id: record.caller.key.map(|key| KeyId::from_number(key).to_string()),
            mode: record.caller.key.map(|_| mode.to_owned()),
            trace_id: record.trace.map(|(trace, _)| TraceId(trace).to_string()),
            pillar: named(entry.pillar),
            route: named(entry.route),
            method: record.method.name().to_owned(),
            host: record.host.to_owned(),
            path: record.path.to_owned(),
            query: record.query.map(str::to_owned),
            headers: record.fields.iter().map(field).collect(),
            client_address: record.address.map(|address| address.to_string()),
            status: Some(record.status).filter(|status| *status != 0),
            error: record.denied.map(str::to_owned),
            ended: ended(record.end).to_owned(),
            bytes_in: record.bytes_in,
            bytes_out: record.bytes_out,
            duration_us: micros(record.total),
            upstream_us: micros(record.upstream),
            policies_us: micros(record.policies),
            gas: record.gas.to_string(),
            units: record.units,
            fuel: record.fuel,
        }
    }
}

impl RequestShown {
    /// One for documentation.
    fn example() -> Value {
        json!({
            "id": "req_01m5k3v0q8f7c2d9x4e6t1r5yc", "at": "2026-11-22T10:00:00.000Z",
            "org_id": "org_01m5k3v0q8f7c2d9x4e6t1r5ya", "key_id": "key_01m5k3v0q8f7c2d9x4e6t1r5yb", "mode": "live",
            "trace_id": "0af7651916cd43dd8448eb211c80319c", "pillar": "connect", "route": "rooms.show", "method": "GET",
            "host": "gateway.example",
            "path": "/v1/connect/rooms/7", "query": null, "headers": {"user-agent": "curl/8.5.0"}, "client_address": null,
            "status": 200, "error": null, "ended": "complete", "bytes_in": 0, "bytes_out": 320,
            "duration_us": 1840, "upstream_us": 1790, "policies_us": 9, "gas": "1", "units": 0, "fuel": 24000
        })
    }
}

impl RequestList {
    /// One for documentation.
    fn example() -> Value {
        json!({"requests": [RequestShown::example()], "next_cursor": null})
    }
}

/// `GET /v1/requests` and `GET /v1/usage/requests/{id}` of the admin listener; whoever asks is among the extensions.
pub fn routes(log: Option<Arc<dyn RequestLog>>) -> Router {
    Router::new().route("/v1/requests", get(list)).route("/v1/usage/requests/{id}", get(show)).with_state(Log(log))
}

/// Whose requests somebody sees who names no org.
fn seen_by(actor: &Actor) -> Filter {
    Filter {
        org: actor.org().map(OrgId::number),
        sandbox: matches!(&actor.by, By::Key(bearer) if bearer.key.mode == key::Mode::Sandbox),
        ..Filter::default()
    }
}

/// Requests of your org
///
/// One by one, newest first; each shows within a second after its end. Those of sandbox keys go on Mondays at 00:00 UTC. A sandbox key
/// sees those of sandbox keys only.
#[utoipa::path(
    get,
    path = "/v1/requests",
    operation_id = "requests",
    tag = "usage",
    params(
        ("org" = Option<String>, Query, description = "Id of your org, which is the default.", example = "org_01m5k3v0q8f7c2d9x4e6t1r5ya"),
        ("since" = Option<String>, Query, format = DateTime, description = "Begun at this time or later.", example = "2026-11-22T10:00:00Z"),
        ("until" = Option<String>, Query, format = DateTime, description = "Begun before this time.", example = "2026-11-23T10:00:00Z"),
        ("key" = Option<String>, Query, description = "The id of the key that they came with.", example = "key_01m5k3v0q8f7c2d9x4e6t1r5yb"),
        ("pillar" = Option<String>, Query, description = "The API.", example = "connect"),
        ("status" = Option<String>, Query, description = "A status, or a class of them.", example = "5xx"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before.", example = "req_01m5k3v0q8f7c2d9x4e6t1r5yc"),
        ("limit" = Option<u8>, Query, minimum = 1, maximum = 200, description = "The most requests of one page; 50 is the default.", example = 50),
    ),
    responses((status = 200, description = "Some requests.", body = RequestList, example = RequestList::example)),
)]
pub(super) async fn list(
    State(Log(log)): State<Log>,
    Extension(actor): Extension<Actor>,
    uri: Uri,
) -> Result<Json<RequestList>, Refusal> {
    actor.may(Action::ReadUsage)?;
    let mut paging = Paging::of(&uri, &FILTERS);
    let org = paging.parsed::<OrgId>("org", NO_SUCH_ORG);
    if org.is_some_and(|org| !actor.sees(org)) {
        paging.faults.push(Fault::of("org", NO_SUCH_ORG));
    }
    let filter = Filter {
        org: org.or(actor.org()).map(OrgId::number),
        sandbox: seen_by(&actor).sandbox,
        since: paging.parsed::<Millis>("since", TIME),
        until: paging.parsed::<Millis>("until", TIME),
        key: paging.parsed::<KeyId>("key", "This is not the id of a key; write key_….").map(KeyId::number),
        pillar: paging.text("pillar"),
        status: paging.parsed::<Statuses>("status", "Give a status such as 404, or a class such as 4xx."),
    };
    let before = paging.after::<RequestId>().map(RequestId::number);
    let limit = paging.checked()?;
    let log = log.ok_or_else(not_kept)?;
    let page = log.page(filter, before, limit).await.map_err(|error| Refusal::failed(&error))?;
    // What cannot be read is not among them.
    let shown = page.rows.iter().filter_map(|row| Entry::read(row)).map(|entry| RequestShown::of(&entry));
    let next_cursor = page.next.map(|next| RequestId::from_number(next).to_string());
    Ok(Json(RequestList { requests: shown.collect(), next_cursor }))
}

/// One request, and what it cost
///
/// Of your org, by its id, which is the `x-request-id` of its answer. It shows within a second after its end, for as long as the request
/// log is kept. A sandbox key sees those of sandbox keys only.
#[utoipa::path(
    get,
    path = "/v1/usage/requests/{id}",
    operation_id = "requests.show",
    tag = "usage",
    params(("id" = String, Path, description = "The id of the request.", example = "req_01m5k3v0q8f7c2d9x4e6t1r5yc")),
    responses((status = 200, description = "The request.", body = RequestShown, example = RequestShown::example)),
)]
pub(super) async fn show(
    State(Log(log)): State<Log>,
    Extension(actor): Extension<Actor>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<RequestShown>, Refusal> {
    actor.may(Action::ReadUsage)?;
    let log = log.ok_or_else(not_kept)?;
    let id = id.ok().and_then(|Path(text)| text.parse::<RequestId>().ok()).ok_or_else(no_such_request)?;
    let row = log.find(seen_by(&actor), id.number()).await.map_err(|error| Refusal::failed(&error))?;
    let entry = row.as_ref().and_then(|row| Entry::read(row)).ok_or_else(no_such_request)?;
    Ok(Json(RequestShown::of(&entry)))
}

/// 404: there is none with this id, or it is not there any more, or not yet.
pub(super) fn no_such_request() -> Refusal {
    let detail = "There is no request with this id in the request log. One shows within a second after its end, and old ones are removed.";
    Refusal::new(404, "not_found", "Not found", detail)
}

/// 404: the operator keeps none.
pub(super) fn not_kept() -> Refusal {
    let detail = "This gateway keeps no log of single requests; `/v1/usage` has their sums.";
    Refusal::new(404, "no_request_log", "No request log", detail)
}
