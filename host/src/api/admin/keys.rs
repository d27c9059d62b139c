//! Keys over HTTP, on both listeners: issued, listed, shown. A secret is in one answer only.
//!
//! The words in front of the handlers are those of the public document, which is about keys that ask.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderName, StatusCode, Uri};
use axum::{Extension, Json};

use super::life::not_issued;
use super::order::{Known, Order};
use super::{AdminState, Paging};
use crate::api::shapes::{KeyIssued, KeyList, KeyOrder, KeyShown};
use crate::api::{Action, Actor, Refusal, json_object};
use crate::credential::NewKey;
use crate::id::{KeyId, OrgId};
use crate::inner::Confidential;
use crate::key::Kept;
use crate::org::{self, Org};
use crate::problem::Fault;

pub(in crate::api) const NO_SUCH_ORG: &str = "There is no such org; give the slug or the id of one.";

/// Make a key
///
/// It belongs to your org, and can be nothing beyond the key that you ask with: in scopes, mode, networks and end. What you leave out
/// is as it is there. The secret is in this answer, and never again. A request that is sent again makes another key, unless it has the same
/// `Idempotency-Key`: then it gets this answer.
#[utoipa::path(
    post,
    path = "/v1/keys",
    operation_id = "keys.issue",
    tag = "keys",
    request_body(content = KeyOrder, example = json!({"name": "ci", "scopes": ["connect"], "networks": ["203.0.113.0/24"]})),
    responses((status = 201, description = "The key, with its secret.", body = KeyIssued, headers(
        ("location" = String, description = "Where the key is shown, without its secret."),
    ), example = KeyIssued::example)),
)]
pub(in crate::api) async fn issue(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    request: Request,
) -> Result<(StatusCode, [(HeaderName, String); 1], Extension<Confidential>, Json<KeyIssued>), Refusal> {
    actor.may(Action::WriteKeys)?;
    actor.has_present_secret(state.clock.now())?;
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
    actor.may_give(&scopes)?;
    let new = NewKey { org: org.id, terms, scopes, maker: actor.id().map(Into::into), by: actor.leave(None).by };
    let issued = state.desks.issuer.issue(new, actor.who()).await.map_err(not_issued)?;
    let key = KeyShown::of(&issued.kept, std::slice::from_ref(&org), now);
    let place = [(LOCATION, format!("/v1/keys/{}", issued.kept.key.id))];
    let secret = issued.secret.reveal().to_owned();
    Ok((StatusCode::CREATED, place, Extension(Confidential), Json(KeyIssued { key, secret })))
}

/// Keys of your org
///
/// Oldest first. A sandbox key sees sandbox keys only: its pages may have few or none and still not be the last.
#[utoipa::path(
    get,
    path = "/v1/keys",
    operation_id = "keys.list",
    tag = "keys",
    params(
        ("org" = Option<String>, Query, description = "Slug or id of your org, which is the default.", example = "acme"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before.", example = "key_01m5k3v0q8f7c2d9x4e6t1r5yb"),
        ("limit" = Option<u8>, Query, minimum = 1, maximum = 200, description = "The most keys of one page; 50 is the default.", example = 50),
    ),
    responses((status = 200, description = "Some keys.", body = KeyList, example = KeyList::example)),
)]
pub(in crate::api) async fn list(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    uri: Uri,
) -> Result<Json<KeyList>, Refusal> {
    actor.may(Action::ReadKeys)?;
    let orgs = state.orgs(&actor).await?;
    let mut paging = Paging::of(&uri, &["org"]);
    let org = chosen_org(&mut paging, &actor, &orgs);
    let after = paging.after();
    let limit = paging.checked()?;
    let page = state.desks.issuer.page(org, after, limit).await;
    let (keys, more) = page.map_err(|error| Refusal::failed(&error))?;
    let now = state.clock.now();
    let next_cursor = keys.last().filter(|_| more).map(|kept| kept.key.id.to_string());
    let seen = keys.iter().filter(|kept| actor.sees_key(&kept.key));
    Ok(Json(KeyList { keys: seen.map(|kept| KeyShown::of(kept, &orgs, now)).collect(), next_cursor }))
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
    responses((status = 200, description = "The key.", body = KeyShown, example = KeyShown::example)),
)]
pub(in crate::api) async fn show(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<KeyShown>, Refusal> {
    actor.may(Action::ReadKeys)?;
    let kept = found(&state, &actor, read_id(id)?).await?;
    described(&state, &actor, &kept).await
}

/// The key with this id, where it is there for whoever asks.
pub(super) async fn found(state: &AdminState, actor: &Actor, id: KeyId) -> Result<Kept, Refusal> {
    let kept = state.desks.issuer.find(id).await.map_err(|error| Refusal::failed(&error))?;
    kept.filter(|kept| actor.sees_key(&kept.key)).ok_or_else(no_such_key)
}

/// The id in a path; there is no key with what is none.
pub(super) fn read_id(id: Result<Path<String>, PathRejection>) -> Result<KeyId, Refusal> {
    id.ok().and_then(|Path(text)| text.parse().ok()).ok_or_else(no_such_key)
}

pub(in crate::api) fn no_such_key() -> Refusal {
    Refusal::new(404, "not_found", "Not found", "There is no key with this id.")
}

/// 403: what a key would hand on is not its own.
pub(in crate::api) fn beyond(faults: Vec<Fault>) -> Refusal {
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

pub(super) async fn described(state: &AdminState, actor: &Actor, kept: &Kept) -> Result<Json<KeyShown>, Refusal> {
    let orgs = state.orgs(actor).await?;
    Ok(Json(KeyShown::of(kept, &orgs, state.clock.now())))
}
