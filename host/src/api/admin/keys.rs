//! Keys over HTTP: issued, listed, shown. A secret is in one answer only.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderName, StatusCode, Uri};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::order::{Known, Order};
use super::{AdminState, Paging};
use crate::api::{Action, Actor, Refusal, json_object};
use crate::clock::Millis;
use crate::credential::NewKey;
use crate::id::{KeyId, OrgId};
use crate::key::Kept;
use crate::org::{self, Org};
use crate::problem::Fault;

pub(super) const NO_SUCH_ORG: &str = "There is no such org; give the slug or the id of one.";

/// `POST /v1/keys`
pub(super) async fn issue(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    request: Request,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Value>), Refusal> {
    actor.may(Action::WriteKeys)?;
    let body = json_object(request).await?;
    let (now, bounds) = (state.clock.now(), actor.bounds());
    let scopes = (state.scopes)();
    let order = Order::read(&body, Known { scopes: &scopes, now, bounds: bounds.as_ref() });
    let org = ordered_org(&state, &actor, order.org).await?;
    let ((terms, scopes), org) = match (order.terms, org) {
        (Ok(terms), Some(org)) => (terms, org),
        (terms, org) => {
            let mut faults = terms.err().unwrap_or_default();
            if org.is_none() {
                faults.push(Fault::at("/org", NO_SUCH_ORG));
            }
            return Err(Refusal::invalid(faults));
        }
    };
    if !order.beyond.is_empty() {
        return Err(beyond(order.beyond));
    }
    let new = NewKey { org: org.id, terms, scopes, maker: actor.id().map(Into::into) };
    let issued = state.desks.issuer.issue(new, actor.who()).await.map_err(|error| Refusal::failed(&error))?;
    let mut document = document(&issued.kept, std::slice::from_ref(&org), now);
    document["secret"] = issued.secret.reveal().into();
    let place = [(LOCATION, format!("/v1/keys/{}", issued.kept.key.id))];
    Ok((StatusCode::CREATED, place, Json(document)))
}

/// `GET /v1/keys?org=&cursor=&limit=`
pub(super) async fn list(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    uri: Uri,
) -> Result<Json<Value>, Refusal> {
    actor.may(Action::ReadKeys)?;
    let orgs = state.desks.orgs.all().await.map_err(|error| Refusal::failed(&error))?;
    let mut paging = Paging::of(&uri, &["org"]);
    let org = chosen_org(&mut paging, &actor, &orgs);
    let after = paging.after();
    let limit = paging.checked()?;
    let page = state.desks.issuer.page(org, after, limit).await;
    let (keys, more) = page.map_err(|error| Refusal::failed(&error))?;
    let now = state.clock.now();
    let next = keys.last().filter(|_| more).map(|kept| kept.key.id);
    let documents: Vec<Value> = keys.iter().map(|kept| document(kept, &orgs, now)).collect();
    Ok(Json(json!({"keys": documents, "next_cursor": next})))
}

/// `GET /v1/keys/{id}`
pub(super) async fn show(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Refusal> {
    actor.may(Action::ReadKeys)?;
    let kept = find(&state, &actor, id).await?;
    described(&state, &kept).await
}

/// The key with this id, where it is there for whoever asks.
pub(super) async fn find(
    state: &AdminState,
    actor: &Actor,
    id: Result<Path<String>, PathRejection>,
) -> Result<Kept, Refusal> {
    let id: KeyId = id.ok().and_then(|Path(text)| text.parse().ok()).ok_or_else(no_such_key)?;
    let kept = state.desks.issuer.find(id).await.map_err(|error| Refusal::failed(&error))?;
    kept.filter(|kept| actor.sees(kept.key.org)).ok_or_else(no_such_key)
}

pub(super) fn no_such_key() -> Refusal {
    Refusal::new(404, "not_found", "Not found", "There is no key with this id.")
}

/// 403: what a key would hand on is not its own.
pub(super) fn beyond(faults: Vec<Fault>) -> Refusal {
    let detail = "A key makes and changes only keys within its own scopes, mode, networks and end.";
    Refusal::new(403, "beyond_own_bounds", "Beyond its own bounds", detail).faults(faults)
}

/// The org that an order names, or the one that whoever orders is confined to, or the default one.
pub(super) async fn ordered_org(
    state: &AdminState,
    actor: &Actor,
    named: Option<&str>,
) -> Result<Option<Org>, Refusal> {
    let own = actor.org().map(|org| org.to_string());
    state.org(actor, named.or(own.as_deref()).unwrap_or(org::DEFAULT)).await
}

/// The org that a list is about, where it is about one.
pub(super) fn chosen_org(paging: &mut Paging, actor: &Actor, orgs: &[Org]) -> Option<OrgId> {
    let Some(named) = paging.text("org") else { return actor.org() };
    let found = orgs.iter().find(|org| org.slug == named || *org.id.text() == *named);
    let found = found.filter(|org| actor.sees(org.id));
    if found.is_none() {
        paging.faults.push(Fault::of("org", NO_SUCH_ORG));
    }
    found.map(|org| org.id).or(actor.org())
}

pub(super) async fn described(state: &AdminState, kept: &Kept) -> Result<Json<Value>, Refusal> {
    let orgs = state.desks.orgs.all().await.map_err(|error| Refusal::failed(&error))?;
    Ok(Json(document(kept, &orgs, state.clock.now())))
}

/// All of a key but its secrets.
pub(super) fn document(kept: &Kept, orgs: &[Org], now: Millis) -> Value {
    let key = &kept.key;
    let slug = orgs.iter().find(|org| org.id == key.org).map(|org| org.slug.as_str());
    let status = match key.revoked() {
        Some(_) => "revoked",
        None if key.is_expired(now) => "expired",
        None => "active",
    };
    let four = |last_four: &[u8; 4]| String::from_utf8_lossy(last_four).into_owned();
    let previous = kept.previous.filter(|previous| previous.until > now);
    json!({
        "id": key.id,
        "name": key.terms.name,
        "org": {"id": key.org, "slug": slug},
        "mode": key.terms.mode,
        "scopes": key.scopes().iter().collect::<Vec<_>>(),
        "networks": key.terms.networks.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "status": status,
        "prefix": key.terms.mode.prefix(),
        "last_four": four(&kept.secret.last_four),
        "created_at": key.created,
        "created_by": kept.maker,
        "expires_at": key.terms.expires,
        "last_used_at": key.last_used(),
        "rotated_at": kept.rotated,
        "previous_secret": previous.map(|previous| {
            json!({ "last_four": four(&previous.secret.last_four), "ends_at": previous.until })
        }),
        "revoked_at": key.revoked(),
    })
}
