//! What happens to a key after it was issued, over HTTP, on both listeners: rotated, scoped, revoked.
//!
//! The words in front of the handlers are those of the public document.

use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::{Extension, Json};

use super::AdminState;
use super::keys::{beyond, described, found, no_such_key, read_id};
use super::order::{Known, read_scopes};
use super::orgs::org_erased;
use crate::api::actor::{insufficient_role, lapsed, withheld};
use crate::api::fields::Fields;
use crate::api::shapes::{KeyIssued, KeyShown, RotationOrder, ScopeOrder};
use crate::api::{Action, Actor, By, Extent, Refusal, json_object, optional_json_object};
use crate::credential::{IssueError, Rotation};
use crate::id::{KeyId, OrgId};
use crate::inner::Confidential;
use crate::key::{Bounds, Kept, Key, StoreError, Unchangeable};

/// For how long the secret before works on, where nothing else is said.
pub(super) const OVERLAP: u64 = 86_400;
/// The longest that can be asked for: 30 days.
pub(super) const LONGEST_OVERLAP: u64 = 30 * 86_400;
/// The fields of an order for a rotation.
pub(in crate::api) const FIELDS: [&str; 2] = ["overlap", "force"];

/// Give a key another secret
///
/// It keeps its id, limits and usage. The present secret works on for `overlap` seconds, and both are one key meanwhile. Without a body
/// it is as if there were none of its fields. The new secret is in this answer, and never again. Sent again during
/// the overlap, it is refused unless `force` is set; with the same `Idempotency-Key` it gets this answer, for five minutes also by the
/// secret that was rotated away.
#[utoipa::path(
    post,
    path = "/v1/keys/{id}/rotate",
    operation_id = "keys.rotate",
    tag = "keys",
    params(("id" = String, Path, description = "The id of the key.", example = "key_01m5k3v0q8f7c2d9x4e6t1r5yb")),
    request_body(content = RotationOrder, example = json!({"overlap": 3600})),
    responses((status = 200, description = "The key, with its new secret.", body = KeyIssued, example = KeyIssued::rotated_example)),
)]
pub(in crate::api) async fn rotate(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<(Extension<Confidential>, Json<KeyIssued>), Refusal> {
    actor.has_present_secret(state.clock.now())?;
    let (kept, within) = changeable(&state, &actor, read_id(id)?).await?;
    let body = optional_json_object(request).await?;
    let mut fields = Fields::of(&body, &FIELDS);
    let overlap = fields.number("overlap", LONGEST_OVERLAP).unwrap_or(OVERLAP);
    let force = fields.flag("force");
    if !fields.faults.is_empty() {
        return Err(Refusal::invalid(fields.faults));
    }
    // Whoever has the new secret has all that the key may do.
    actor.may_give(&kept.key.scopes())?;
    let rotation = Rotation { overlap: Duration::from_secs(overlap), force, leave: actor.leave(within) };
    let rotated = state.desks.issuer.rotate(kept.key.id, rotation, actor.who()).await;
    let issued = rotated.map_err(not_issued)?.ok_or_else(no_such_key)?;
    let orgs = state.orgs(&actor).await?;
    let key = KeyShown::of(&issued.kept, &orgs, state.clock.now());
    let secret = issued.secret.reveal().to_owned();
    Ok((Extension(Confidential), Json(KeyIssued { key, secret })))
}

/// Give a key other scopes
///
/// The whole new set. A key can narrow itself, and give no other one what it does not hold.
#[utoipa::path(
    patch,
    path = "/v1/keys/{id}/scope",
    operation_id = "keys.scope",
    tag = "keys",
    params(("id" = String, Path, description = "The id of the key.", example = "key_01m5k3v0q8f7c2d9x4e6t1r5yb")),
    request_body(content = ScopeOrder, example = json!({"scopes": ["connect"]})),
    responses((status = 200, description = "The key, as it is now.", body = KeyShown, example = KeyShown::example)),
)]
pub(in crate::api) async fn scope(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<KeyShown>, Refusal> {
    actor.has_present_secret(state.clock.now())?;
    let (kept, within) = changeable(&state, &actor, read_id(id)?).await?;
    let body = json_object(request).await?;
    let (scopes, bounds) = ((state.scopes)(), actor.bounds());
    let known = Known { scopes: &scopes, now: state.clock.now(), bounds: bounds.as_ref() };
    let (scopes, too_much) = read_scopes(&body, known);
    let scopes = scopes.map_err(Refusal::invalid)?;
    if !too_much.is_empty() {
        return Err(beyond(too_much));
    }
    actor.may_give(&scopes)?;
    let scoped = state.desks.issuer.scope(kept.key.id, scopes, actor.leave(within), actor.who()).await;
    let kept = scoped.map_err(|error| refused(&error))?.ok_or_else(no_such_key)?;
    described(&state, &actor, &kept).await
}

/// Revoke a key
///
/// No call passes with it from then on. For good, and the same answer again. A key can revoke itself, and others that reach no further.
#[utoipa::path(
    delete,
    path = "/v1/keys/{id}",
    operation_id = "keys.revoke",
    tag = "keys",
    params(("id" = String, Path, description = "The id of the key.", example = "key_01m5k3v0q8f7c2d9x4e6t1r5yb")),
    responses((status = 200, description = "The key, as it is now.", body = KeyShown, example = revoked_example)),
)]
pub(in crate::api) async fn revoke(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<KeyShown>, Refusal> {
    let extent = actor.may(Action::WriteKeys)?;
    let id = read_id(id)?;
    // What memory knows is decided there, and refused before any store is asked: that may be slow, or down. Nor is it asked for whoever
    // may revoke every key.
    let any = extent == Extent::All && actor.org().is_none() && actor.bounds().is_none();
    match state.desks.issuer.held(id).filter(|_| extent == Extent::All) {
        Some(key) => drop(within(&actor, seen(&actor, &key)?)?),
        None if any => {}
        None => drop(changeable(&state, &actor, id).await?),
    }
    // Whoever has any secret of a key may end it, and with one that was rotated away nothing else.
    if actor.id() != Some(id.to_string()) {
        actor.has_present_secret(state.clock.now())?;
    }
    let revoked = state.desks.issuer.revoke(id, actor.who()).await;
    let kept = revoked.map_err(|error| refused(&error))?.ok_or_else(no_such_key)?;
    described(&state, &actor, &kept).await
}

/// The key with this id, where whoever asks may change it; and the bounds within which it must be for that also when it comes
/// to it.
async fn changeable(state: &AdminState, actor: &Actor, id: KeyId) -> Result<(Kept, Option<Bounds>), Refusal> {
    let extent = actor.may(Action::WriteKeys)?;
    let kept = found(state, actor, id).await?;
    if extent == Extent::Own && kept.maker.as_deref() != actor.id().as_deref() {
        let detail = "A member changes only the keys that its own token made.";
        return Err(insufficient_role(detail));
    }
    let within = within(actor, &kept.key)?;
    Ok((kept, within))
}

/// The bounds within which a key is for whoever asks. Any key may change itself, and no other one that reaches further.
fn within(actor: &Actor, key: &Key) -> Result<Option<Bounds>, Refusal> {
    let within = match &actor.by {
        By::Key(bearer) if bearer.key.id != key.id => actor.bounds(),
        _ => None,
    };
    if within.as_ref().is_some_and(|bounds| !bounds.hold_key(key)) {
        return Err(beyond(Vec::new()));
    }
    Ok(within)
}

/// This key, where it is there for whoever asks.
fn seen<'a>(actor: &Actor, key: &'a Key) -> Result<&'a Key, Refusal> {
    if actor.sees_key(key) { Ok(key) } else { Err(no_such_key()) }
}

pub(super) fn not_issued(error: IssueError) -> Refusal {
    match error {
        IssueError::Store(error) => refused(&error),
        error => Refusal::failed(&error),
    }
}

/// Why a key was not changed.
pub(in crate::api) fn refused(error: &StoreError) -> Refusal {
    let why = match error {
        StoreError::Unchangeable(why) => why,
        StoreError::TooMany { org, most } => return too_many(*org, *most),
        StoreError::OrgErased { .. } => return org_erased(),
        error => return Refusal::failed(error),
    };
    match why {
        Unchangeable::Revoked => {
            Refusal::new(409, "key_not_active", "The key is not active", "The key is revoked, and stays so.")
        }
        Unchangeable::Expired => {
            Refusal::new(409, "key_not_active", "The key is not active", "The key has expired; issue another one.")
        }
        Unchangeable::RotationInProgress { until } => Refusal::new(
            409,
            "rotation_in_progress",
            "A rotation is in progress",
            format!("The secret before the present one works until {until}; `force` ends it at once."),
        )
        .with("until", until.to_string()),
        Unchangeable::BeyondBounds => beyond(Vec::new()),
        Unchangeable::Withheld(scope) => withheld(*scope),
        Unchangeable::Lapsed(why) => lapsed(*why),
    }
}

/// 409: an org has as many keys as it may.
fn too_many(org: OrgId, most: u64) -> Refusal {
    let detail = format!("An org may have {most} keys that are neither revoked nor expired; revoke some first.");
    Refusal::new(409, "too_many_keys", "Too many keys", detail).with("org", org.to_string()).with("most", most)
}

fn revoked_example() -> serde_json::Value {
    let mut revoked = KeyShown::example();
    revoked["status"] = "revoked".into();
    revoked["revoked_at"] = "2026-11-22T10:00:00.000Z".into();
    revoked
}
