//! Orgs over HTTP: made, listed, shown, renamed. One that was erased is shown as what is left of it.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderName, StatusCode, Uri};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::{AdminState, Paging};
use crate::api::fields::Fields;
use crate::api::{Action, Actor, Refusal, json_object};
use crate::audit::Note;
use crate::id::OrgId;
use crate::org::{self, Org, StoreError, is_slug};

const SLUG: &str =
    "A slug has 1 to 64 lower-case letters, digits and hyphens, and begins and ends with a letter or a digit.";

/// `POST /v1/orgs`
pub(super) async fn create(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    request: Request,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Value>), Refusal> {
    actor.may(Action::CreateOrgs)?;
    let body = json_object(request).await?;
    let mut fields = Fields::of(&body, &["slug", "name"]);
    if fields.value("slug").is_none() {
        fields.fault("/slug", SLUG);
    }
    let slug = slug(&mut fields);
    // Few orgs have another name for people.
    let name = fields.optional_name().or(slug);
    let (Some(slug), Some(name), true) = (slug, name, fields.faults.is_empty()) else {
        return Err(Refusal::invalid(fields.faults));
    };
    let now = state.clock.now();
    let org = Org::new(slug, name, now).map_err(|error| Refusal::failed(&error))?;
    let note = Note::new(actor.who(), "org.created", now);
    let created = state.desks.orgs.create(org.clone(), note).await;
    created.map_err(refused)?;
    tracing::info!(org = %org.id, slug, "made an org");
    let place = [(LOCATION, format!("/v1/orgs/{}", org.id))];
    Ok((StatusCode::CREATED, place, Json(document(&org))))
}

/// `GET /v1/orgs?cursor=&limit=`
pub(super) async fn list(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    uri: Uri,
) -> Result<Json<Value>, Refusal> {
    actor.may(Action::ReadOrgs)?;
    let mut paging = Paging::of(&uri, &[]);
    let after: Option<OrgId> = paging.after();
    let limit = paging.checked()?;
    let all = state.orgs(&actor).await?;
    let mut seen = all.iter().filter(|org| actor.sees(org.id) && after.is_none_or(|after| org.id > after));
    let page: Vec<&Org> = seen.by_ref().take(limit).collect();
    let next = seen.next().and(page.last()).map(|org| org.id);
    let documents: Vec<Value> = page.into_iter().map(document).collect();
    Ok(Json(json!({"orgs": documents, "next_cursor": next})))
}

/// `GET /v1/orgs/{slug or id}`
pub(super) async fn show(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    org: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Refusal> {
    actor.may(Action::ReadOrgs)?;
    Ok(Json(document(&find(&state, &actor, org).await?)))
}

/// `PATCH /v1/orgs/{slug or id}`
pub(super) async fn rename(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    org: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    actor.may(Action::RenameOrgs)?;
    let org = find(&state, &actor, org).await?;
    let body = json_object(request).await?;
    let mut fields = Fields::of(&body, &["slug", "name"]);
    let (slug, name) = (slug(&mut fields), fields.optional_name());
    if slug.is_none() && name.is_none() && fields.faults.is_empty() {
        fields.fault("", "Give a `slug`, a `name`, or both.");
    }
    if org.slug == org::DEFAULT && slug.is_some_and(|slug| slug != org::DEFAULT) {
        fields.fault("/slug", "The org `default` keeps its slug: what names no org means this one.");
    }
    if !fields.faults.is_empty() {
        return Err(Refusal::invalid(fields.faults));
    }
    let note = Note::new(actor.who(), "org.renamed", state.clock.now());
    let (slug, name) = (slug.map(str::to_owned), name.map(str::to_owned));
    let renamed = state.desks.orgs.rename(org.id, slug, name, note).await;
    Ok(Json(document(&renamed.map_err(refused)?.ok_or_else(unknown)?)))
}

/// The org with this slug or id, where it is there for whoever asks.
pub(super) async fn find(
    state: &AdminState,
    actor: &Actor,
    org: Result<Path<String>, PathRejection>,
) -> Result<Org, Refusal> {
    let Ok(Path(named)) = org else { return Err(unknown()) };
    state.org(actor, &named).await?.ok_or_else(unknown)
}

fn slug<'a>(fields: &mut Fields<'a>) -> Option<&'a str> {
    let slug = fields.text("slug")?;
    if !is_slug(slug) {
        fields.fault("/slug", SLUG);
    }
    Some(slug).filter(|slug| is_slug(slug))
}

fn refused(error: StoreError) -> Refusal {
    match error {
        StoreError::Taken { slug } => {
            let detail = format!("There is an org `{slug}` already; choose another slug.");
            Refusal::new(409, "slug_taken", "The slug is taken", detail)
        }
        StoreError::Erased { .. } => org_erased(),
        error => Refusal::failed(&error),
    }
}

/// 409: nothing is made or changed in an org that is being erased, or was.
pub(in crate::api) fn org_erased() -> Refusal {
    let detail = "The org is being erased, or was: nothing is made or changed in it any more.";
    Refusal::new(409, "org_erased", "The org is erased", detail)
}

pub(super) fn unknown() -> Refusal {
    Refusal::new(404, "not_found", "Not found", "There is no such org; `GET /v1/orgs` lists all.")
}

/// All of an org; what is left of one that was erased, or is being erased.
pub(super) fn document(org: &Org) -> Value {
    let Some(ending) = &org.ending else {
        return json!({"id": org.id, "slug": org.slug, "name": org.name, "created_at": org.created, "status": "active"});
    };
    // Its names are there until the log says that they are gone.
    let (slug, name) = match ending.entry {
        None => (Some(&org.slug), Some(&org.name)),
        Some(_) => (None, None),
    };
    json!({
        "id": org.id,
        "slug": slug,
        "name": name,
        "created_at": org.created,
        "status": if ending.done.is_some() { "erased" } else { "erasing" },
        "erasing_since": ending.since,
        "erased_at": ending.done,
        "erased": ending.erased,
    })
}
