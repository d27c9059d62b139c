//! Keys over HTTP: issued, listed, shown, revoked. The secret is in one answer only.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderName, StatusCode, Uri};
use serde_json::{Value, json};

use super::AdminState;
use super::order::Order;
use crate::api::{Refusal, json_object};
use crate::clock::Millis;
use crate::id::KeyId;
use crate::key::Key;
use crate::org::Org;
use crate::problem::Fault;

const DEFAULT_LIMIT: usize = 50;
const LARGEST_LIMIT: usize = 200;

/// `POST /v1/keys`
pub(super) async fn issue(
    State(state): State<AdminState>,
    request: Request,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Value>), Refusal> {
    let body = json_object(request).await?;
    let now = state.clock.now();
    let order = Order::read(&body, &(state.scopes)(), now);
    let org = state.orgs.find(&order.org).await.map_err(|error| Refusal::failed(&error))?;
    let (terms, org) = match (order.terms, org) {
        (Ok(terms), Some(org)) => (terms, org),
        (terms, org) => {
            let mut faults = terms.err().unwrap_or_default();
            if org.is_none() {
                faults.push(Fault::at("/org", "There is no such org; give the slug or the id of one."));
            }
            return Err(Refusal::invalid(faults));
        }
    };
    let issued = state.issuer.issue(org.id, terms).await.map_err(|error| Refusal::failed(&error))?;
    let mut document = document(&issued.key, std::slice::from_ref(&org), now);
    document["secret"] = issued.secret.reveal().into();
    let place = [(LOCATION, format!("/v1/keys/{}", issued.key.id))];
    Ok((StatusCode::CREATED, place, Json(document)))
}

/// `GET /v1/keys?org=&cursor=&limit=`
pub(super) async fn list(State(state): State<AdminState>, uri: Uri) -> Result<Json<Value>, Refusal> {
    let mut faults = Vec::new();
    let (mut org, mut after, mut limit) = (None, None, DEFAULT_LIMIT);
    let orgs = state.orgs.all().await.map_err(|error| Refusal::failed(&error))?;
    let Query(parameters) = Query::<Vec<(String, String)>>::try_from_uri(&uri).unwrap_or_default();
    for (name, value) in parameters {
        match name.as_str() {
            "org" => match orgs.iter().find(|org| org.slug == value || *org.id.text() == *value) {
                Some(found) => org = Some(found.id),
                None => faults.push(Fault::of(name, "There is no such org; give the slug or the id of one.")),
            },
            "cursor" => match value.parse::<KeyId>() {
                Ok(id) => after = Some(id),
                Err(_) => faults.push(Fault::of(name, "Give the `next_cursor` of the page before.")),
            },
            "limit" => match value.parse() {
                Ok(wanted @ 1..=LARGEST_LIMIT) => limit = wanted,
                _ => faults.push(Fault::of(name, "Give a number from 1 to 200.")),
            },
            _ => faults.push(Fault::of(name, "There is no such parameter; there are org, cursor and limit.")),
        }
    }
    if !faults.is_empty() {
        return Err(Refusal::invalid(faults));
    }
    let (keys, more) = state.issuer.page(org, after, limit).await.map_err(|error| Refusal::failed(&error))?;
    let now = state.clock.now();
    let next = keys.last().filter(|_| more).map(|key| key.id);
    let documents: Vec<Value> = keys.iter().map(|key| document(key, &orgs, now)).collect();
    Ok(Json(json!({"keys": documents, "next_cursor": next})))
}

/// `GET /v1/keys/{id}`
pub(super) async fn show(
    State(state): State<AdminState>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Refusal> {
    let key = state.issuer.find(key_id(id)?).await.map_err(|error| Refusal::failed(&error))?;
    let key = key.ok_or_else(no_such_key)?;
    described(&state, &key).await
}

/// `DELETE /v1/keys/{id}`: revokes; again is the same answer.
pub(super) async fn revoke(
    State(state): State<AdminState>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Refusal> {
    let key = state.issuer.revoke(key_id(id)?).await.map_err(|error| Refusal::failed(&error))?;
    let key = key.ok_or_else(no_such_key)?;
    described(&state, &key).await
}

fn key_id(id: Result<Path<String>, PathRejection>) -> Result<KeyId, Refusal> {
    id.ok().and_then(|Path(text)| text.parse().ok()).ok_or_else(no_such_key)
}

fn no_such_key() -> Refusal {
    Refusal::new(404, "not_found", "Not found", "There is no key with this id.")
}

async fn described(state: &AdminState, key: &Key) -> Result<Json<Value>, Refusal> {
    let orgs = state.orgs.all().await.map_err(|error| Refusal::failed(&error))?;
    Ok(Json(document(key, &orgs, state.clock.now())))
}

/// All of a key but its secret.
fn document(key: &Key, orgs: &[Org], now: Millis) -> Value {
    let slug = orgs.iter().find(|org| org.id == key.org).map(|org| org.slug.as_str());
    let status = match key.revoked() {
        Some(_) => "revoked",
        None if key.is_expired(now) => "expired",
        None => "active",
    };
    json!({
        "id": key.id,
        "name": key.terms.name,
        "org": {"id": key.org, "slug": slug},
        "mode": key.terms.mode,
        "scopes": key.terms.scopes.iter().collect::<Vec<_>>(),
        "networks": key.terms.networks.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "status": status,
        "prefix": key.terms.mode.prefix(),
        "last_four": String::from_utf8_lossy(&key.last_four),
        "created_at": key.created,
        "expires_at": key.terms.expires,
        "last_used_at": key.last_used(),
        "revoked_at": key.revoked(),
    })
}
