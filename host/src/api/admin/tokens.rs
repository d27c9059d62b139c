//! Tokens of the admin API, over HTTP: made, listed, shown, revoked. A secret is in one answer only.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderName, StatusCode, Uri};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::keys::{NO_SUCH_ORG, chosen_org, ordered_org};
use super::orgs::org_erased;
use super::{AdminState, Paging};
use crate::api::fields::Fields;
use crate::api::{Action, Actor, Refusal, json_object};
use crate::id::TokenId;
use crate::org::{NewToken, Org, Role, Token, TokenError};

/// `POST /v1/tokens`
pub(super) async fn issue(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    request: Request,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Value>), Refusal> {
    actor.may(Action::WriteTokens)?;
    let body = json_object(request).await?;
    let mut fields = Fields::of(&body, &["name", "role", "org", "expires_at"]);
    let name = fields.name().to_owned();
    let role = role(&mut fields, &actor);
    let named = fields.text("org");
    let expires = fields.instant_to_come("expires_at", state.clock.now());
    let org = match role {
        Some(Role::SuperAdmin) => {
            if named.is_some() {
                fields.fault("/org", "A super-admin is for all orgs; leave the org out.");
            }
            None
        }
        _ if named.is_none() && actor.org().is_none() => {
            fields.fault("/org", "Give the slug or the id of the org that the token is for.");
            None
        }
        _ => {
            let org = ordered_org(&state, &actor, named).await?;
            if org.is_none() {
                fields.fault("/org", NO_SUCH_ORG);
            }
            org
        }
    };
    let (Some(role), true) = (role, fields.faults.is_empty()) else {
        return Err(Refusal::invalid(fields.faults));
    };
    let terms = NewToken { name, role, org: org.as_ref().map(|org| org.id), expires, maker: actor.id() };
    let issued = state.desks.tokens.issue(terms, actor.who()).await;
    let (token, secret) = issued.map_err(|error| match error {
        TokenError::TooMany { .. } => Refusal::new(409, "too_many_tokens", "Too many tokens", format!("{error}.")),
        TokenError::OrgErased { .. } => org_erased(),
        error => Refusal::failed(&error),
    })?;
    tracing::info!(token = %token.id, role = role.name(), "made an admin token");
    let mut document = document(&token, org.as_slice(), &state);
    document["secret"] = secret.as_str().into();
    let place = [(LOCATION, format!("/v1/tokens/{}", token.id))];
    Ok((StatusCode::CREATED, place, Json(document)))
}

/// `GET /v1/tokens?org=&cursor=&limit=`
pub(super) async fn list(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    uri: Uri,
) -> Result<Json<Value>, Refusal> {
    actor.may(Action::ReadTokens)?;
    let orgs = state.orgs(&actor).await?;
    let mut paging = Paging::of(&uri, &["org"]);
    let org = chosen_org(&mut paging, &actor, &orgs);
    let after: Option<TokenId> = paging.after();
    let limit = paging.checked()?;
    let all = state.desks.tokens.list();
    let meant = |token: &&Arc<Token>| {
        org.is_none_or(|org| token.terms.org == Some(org)) && after.is_none_or(|after| token.id > after)
    };
    let mut meant = all.iter().filter(meant);
    let page: Vec<_> = meant.by_ref().take(limit).collect();
    let next = meant.next().and(page.last()).map(|token| token.id);
    let documents: Vec<Value> = page.iter().map(|token| document(token, &orgs, &state)).collect();
    Ok(Json(json!({"tokens": documents, "next_cursor": next})))
}

/// `GET /v1/tokens/{id}`
pub(super) async fn show(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Refusal> {
    actor.may(Action::ReadTokens)?;
    described(&state, &actor, &*find(&state, &actor, id)?).await
}

/// `DELETE /v1/tokens/{id}`: revokes; again is the same answer.
pub(super) async fn revoke(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Refusal> {
    actor.may(Action::WriteTokens)?;
    let token = find(&state, &actor, id)?;
    state.desks.tokens.revoke(token.clone(), actor.who()).await.map_err(|error| Refusal::failed(&error))?;
    tracing::info!(token = %token.id, "revoked an admin token");
    described(&state, &actor, &token).await
}

/// The token with this id, where it is there for whoever asks: super-admins' are not there for one org.
fn find(state: &AdminState, actor: &Actor, id: Result<Path<String>, PathRejection>) -> Result<Arc<Token>, Refusal> {
    let id = id.ok().and_then(|Path(text)| text.parse::<TokenId>().ok());
    let token = id.and_then(|id| state.desks.tokens.find(id));
    let seen = |token: &Arc<Token>| actor.org().is_none() || token.terms.org == actor.org();
    token.filter(seen).ok_or_else(|| Refusal::new(404, "not_found", "Not found", "There is no token with this id."))
}

fn role(fields: &mut Fields<'_>, actor: &Actor) -> Option<Role> {
    // Whoever is confined to an org makes nobody who is not.
    let mine: Vec<Role> =
        Role::ALL.into_iter().filter(|role| *role != Role::SuperAdmin || actor.org().is_none()).collect();
    let names = mine.iter().map(|role| format!("`{}`", role.name())).collect::<Vec<_>>().join(", ");
    let missing = fields.value("role").is_none();
    let text = fields.text("role");
    let role = text.and_then(|text| text.parse().ok()).filter(|role| mine.contains(role));
    if role.is_none() && (missing || text.is_some()) {
        fields.fault("/role", format!("Give one of the roles {names}."));
    }
    role
}

async fn described(state: &AdminState, actor: &Actor, token: &Token) -> Result<Json<Value>, Refusal> {
    let orgs = state.orgs(actor).await?;
    Ok(Json(document(token, &orgs, state)))
}

/// All of a token but its secret.
pub(super) fn document(token: &Token, orgs: &[Org], state: &AdminState) -> Value {
    let slug = |id| orgs.iter().find(|org| org.id == id).map(|org| org.slug.as_str());
    let status = match token.revoked() {
        Some(_) => "revoked",
        None if token.is_expired(state.clock.now()) => "expired",
        None => "active",
    };
    json!({
        "id": token.id,
        "name": token.terms.name,
        "role": token.terms.role,
        "org": token.terms.org.map(|id| json!({"id": id, "slug": slug(id)})),
        "status": status,
        "last_four": token.last_four,
        "created_at": token.created,
        "created_by": token.terms.maker,
        "expires_at": token.terms.expires,
        "last_used_at": token.last_used(),
        "revoked_at": token.revoked(),
    })
}
