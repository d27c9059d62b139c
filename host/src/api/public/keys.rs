//! Keys of the caller's own org: listed, shown, made and revoked by a key that may.
//!
//! A sandbox key sees sandbox keys only: what it could do to live ones would not be for trying out.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Query, Request, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderName, StatusCode, Uri};

use super::shapes::{KeyIssued, KeyList, KeyOrder, KeyShown};
use super::{ByKey, PublicState, within};
use crate::api::admin::order::Order;
use crate::api::{Refusal, json_object};
use crate::id::KeyId;
use crate::key::{Key, Mode};
use crate::org::Org;
use crate::problem::Fault;

const DEFAULT_LIMIT: usize = 50;
const LARGEST_LIMIT: usize = 200;

/// Keys of your org
///
/// Oldest first. A sandbox key sees sandbox keys only.
#[utoipa::path(
    get,
    path = "/v1/keys",
    operation_id = "keys.list",
    tag = "keys",
    params(
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before.", example = "key_01m5k3v0q8f7c2d9x4e6t1r5yb"),
        ("limit" = Option<u8>, Query, minimum = 1, maximum = 200, description = "The most keys of one page; 50 is the default.", example = 50),
    ),
    responses((status = 200, description = "Some keys.", body = KeyList, example = json!({
        "keys": [{
            "id": "key_01m5k3v0q8f7c2d9x4e6t1r5yb", "name": "ci", "org": {"id": "org_01m5k3v0q8f7c2d9x4e6t1r5ya", "slug": "acme"},
            "mode": "live", "scopes": ["connect"], "networks": [], "status": "active", "prefix": "sk_live_",
            "last_four": "h1Zq", "created_at": "2026-11-22T09:00:00Z", "expires_at": null, "last_used_at": null,
            "revoked_at": null
        }],
        "next_cursor": null
    }))),
)]
pub(super) async fn list(
    State(state): State<PublicState>,
    ByKey(own): ByKey,
    uri: Uri,
) -> Result<Json<KeyList>, Refusal> {
    let mut faults = Vec::new();
    let (mut after, mut limit) = (None, DEFAULT_LIMIT);
    let Query(parameters) = Query::<Vec<(String, String)>>::try_from_uri(&uri).unwrap_or_default();
    for (name, value) in parameters {
        match name.as_str() {
            "cursor" => match value.parse::<KeyId>() {
                Ok(id) => after = Some(id),
                Err(_) => faults.push(Fault::of(name, "Give the `next_cursor` of the page before.")),
            },
            "limit" => match value.parse() {
                Ok(wanted @ 1..=LARGEST_LIMIT) => limit = wanted,
                _ => faults.push(Fault::of(name, "Give a number from 1 to 200.")),
            },
            _ => faults.push(Fault::of(name, "There is no such parameter; there are cursor and limit.")),
        }
    }
    if !faults.is_empty() {
        return Err(Refusal::invalid(faults));
    }
    let page = state.issuer.page(Some(own.org), after, limit).await;
    let (keys, more) = page.map_err(|error| Refusal::failed(&error))?;
    let next_cursor = keys.last().filter(|_| more).map(|key| key.id.to_string());
    let (orgs, now) = (orgs(&state).await?, state.clock.now());
    let seen = keys.iter().filter(|key| is_seen(key, &own));
    Ok(Json(KeyList { keys: seen.map(|key| KeyShown::of(key, &orgs, now)).collect(), next_cursor }))
}

/// Make a key
///
/// It belongs to your org, and can be nothing beyond the key that you ask with: in scopes, mode, networks and end. What you leave out
/// is that of your key. The secret is in this answer, and never again.
#[utoipa::path(
    post,
    path = "/v1/keys",
    operation_id = "keys.issue",
    tag = "keys",
    request_body(content = KeyOrder, example = json!({"name": "ci", "scopes": ["connect"], "networks": ["203.0.113.0/24"]})),
    responses((status = 201, description = "The key, with its secret.", body = KeyIssued, headers(
        ("location" = String, description = "Where the key is shown, without its secret."),
    ), example = json!({
        "id": "key_01m5k3v0q8f7c2d9x4e6t1r5yb", "name": "ci", "org": {"id": "org_01m5k3v0q8f7c2d9x4e6t1r5ya", "slug": "acme"},
        "mode": "live", "scopes": ["connect"], "networks": ["203.0.113.0/24"], "status": "active", "prefix": "sk_live_",
        "last_four": "h1Zq", "created_at": "2026-11-22T09:00:00Z", "expires_at": null, "last_used_at": null,
        "revoked_at": null, "secret": "sk_live_…"
    }))),
)]
pub(super) async fn issue(
    State(state): State<PublicState>,
    request: Request,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<KeyIssued>), Refusal> {
    let (mut parts, body) = request.into_parts();
    let ByKey(own) = ByKey::from_request_parts(&mut parts, &state).await?;
    let mut body = json_object(Request::from_parts(parts, body)).await?;
    let mut faults = Vec::new();
    if body.remove("org").is_some() {
        faults.push(Fault::at("/org", "There is no such field; the key is one of your org."));
    }
    within::complete(&mut body, &own.terms);
    let now = state.clock.now();
    let asked = Order::read(&body, &(state.scopes)(), now).terms;
    let terms = match asked.and_then(|terms| within::bounded(terms, &body, &own.terms)) {
        Ok(terms) if faults.is_empty() => terms,
        other => {
            faults.extend(other.err().unwrap_or_default());
            return Err(Refusal::invalid(faults));
        }
    };
    let issued = state.issuer.issue(own.org, terms).await.map_err(|error| Refusal::failed(&error))?;
    let key = KeyShown::of(&issued.key, &orgs(&state).await?, now);
    let place = [(LOCATION, format!("/v1/keys/{}", issued.key.id))];
    let secret = issued.secret.reveal().to_owned();
    Ok((StatusCode::CREATED, place, Json(KeyIssued { key, secret })))
}

/// One key
///
/// A key of another org is not found, and neither is a live one by a sandbox key.
#[utoipa::path(
    get,
    path = "/v1/keys/{id}",
    operation_id = "keys.show",
    tag = "keys",
    params(("id" = String, Path, description = "The id of the key.", example = "key_01m5k3v0q8f7c2d9x4e6t1r5yb")),
    responses((status = 200, description = "The key.", body = KeyShown, example = json!({
        "id": "key_01m5k3v0q8f7c2d9x4e6t1r5yb", "name": "ci", "org": {"id": "org_01m5k3v0q8f7c2d9x4e6t1r5ya", "slug": "acme"},
        "mode": "live", "scopes": ["connect"], "networks": [], "status": "active", "prefix": "sk_live_",
        "last_four": "h1Zq", "created_at": "2026-11-22T09:00:00Z", "expires_at": null,
        "last_used_at": "2026-11-22T09:30:00Z", "revoked_at": null
    }))),
)]
pub(super) async fn show(
    State(state): State<PublicState>,
    ByKey(own): ByKey,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<KeyShown>, Refusal> {
    let key = find(&state, &own, id).await?;
    Ok(Json(KeyShown::of(&key, &orgs(&state).await?, state.clock.now())))
}

/// Revoke a key
///
/// No call passes with it from then on. For good, and the same answer again. A key can revoke itself.
#[utoipa::path(
    delete,
    path = "/v1/keys/{id}",
    operation_id = "keys.revoke",
    tag = "keys",
    params(("id" = String, Path, description = "The id of the key.", example = "key_01m5k3v0q8f7c2d9x4e6t1r5yb")),
    responses((status = 200, description = "The key, as it is now.", body = KeyShown, example = json!({
        "id": "key_01m5k3v0q8f7c2d9x4e6t1r5yb", "name": "ci", "org": {"id": "org_01m5k3v0q8f7c2d9x4e6t1r5ya", "slug": "acme"},
        "mode": "live", "scopes": ["connect"], "networks": [], "status": "revoked", "prefix": "sk_live_",
        "last_four": "h1Zq", "created_at": "2026-11-22T09:00:00Z", "expires_at": null,
        "last_used_at": "2026-11-22T09:30:00Z", "revoked_at": "2026-11-22T10:00:00Z"
    }))),
)]
pub(super) async fn revoke(
    State(state): State<PublicState>,
    ByKey(own): ByKey,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<KeyShown>, Refusal> {
    let key = find(&state, &own, id).await?;
    let revoked = state.issuer.revoke(key.id).await.map_err(|error| Refusal::failed(&error))?;
    let key = revoked.ok_or_else(no_such_key)?;
    Ok(Json(KeyShown::of(&key, &orgs(&state).await?, state.clock.now())))
}

/// The key with this id, if the caller may know of it.
async fn find(state: &PublicState, own: &Key, id: Result<Path<String>, PathRejection>) -> Result<Arc<Key>, Refusal> {
    let id: KeyId = id.ok().and_then(|Path(text)| text.parse().ok()).ok_or_else(no_such_key)?;
    let key = state.issuer.find(id).await.map_err(|error| Refusal::failed(&error))?;
    key.filter(|key| key.org == own.org && is_seen(key, own)).ok_or_else(no_such_key)
}

fn is_seen(key: &Key, own: &Key) -> bool {
    own.terms.mode == Mode::Live || key.terms.mode == Mode::Sandbox
}

pub(super) fn no_such_key() -> Refusal {
    Refusal::new(404, "not_found", "Not found", "There is no key with this id.")
}

pub(super) async fn orgs(state: &PublicState) -> Result<Vec<Org>, Refusal> {
    state.orgs.all().await.map_err(|error| Refusal::failed(&error))
}
