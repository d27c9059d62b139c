//! Webhooks over HTTP, on both listeners: made, listed, shown, changed, deleted. A secret is in one answer only.
//!
//! The words in front of the handlers are those of the public document, which is about keys that ask.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderName, StatusCode, Uri};
use axum::{Extension, Json};

use super::keys::{NO_SUCH_ORG, chosen_org, ordered_org};
use super::orgs::org_erased;
use super::{AdminState, Paging};
use crate::api::fields::{Fields, nearest};
use crate::api::shapes::webhook::{WebhookEdit, WebhookIssued, WebhookList, WebhookOrder, WebhookShown};
use crate::api::{Action, Actor, By, Refusal, json_object};
use crate::config;
use crate::id::WebhookId;
use crate::inner::Confidential;
use crate::key::Mode;
use crate::outbox::Kind;
use crate::webhook::{DeskError, Edit, MOST_OF_ORG, NewWebhook, StoreError, Unchangeable, Webhook, check};

/// The fields of an order.
pub(in crate::api) const FIELDS: [&str; 4] = ["url", "events", "enabled", "org"];
/// The fields of a change.
pub(in crate::api) const EDIT_FIELDS: [&str; 3] = ["url", "events", "enabled"];

/// Make a webhook
///
/// From then on your org's events of these kinds are sent to the address, each as a signed message, until it is taken. The secret for
/// the signatures is in this answer, and never again. What a sandbox key makes hears of sandbox keys only. A request that is
/// sent again is refused, as the org has a webhook with that URL; with the same `Idempotency-Key` it gets this answer.
#[utoipa::path(
    post,
    path = "/v1/webhooks",
    operation_id = "webhooks.create",
    tag = "webhooks",
    request_body(content = WebhookOrder, example = json!({"url": "https://hooks.example.com/portico", "events": ["key.revoked", "quota.reached"]})),
    responses((status = 201, description = "The webhook, with its secret.", body = WebhookIssued, headers(
        ("location" = String, description = "Where the webhook is shown, without its secret."),
    ), example = WebhookIssued::example)),
)]
pub(in crate::api) async fn create(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    request: Request,
) -> Result<(StatusCode, [(HeaderName, String); 1], Extension<Confidential>, Json<WebhookIssued>), Refusal> {
    actor.may(Action::WriteWebhooks)?;
    let body = json_object(request).await?;
    actor.has_present_secret(state.clock.now())?;
    let mut fields = Fields::of(&body, &FIELDS);
    let edit = read(&mut fields, &actor, &state.desks.webhooks.now().settings);
    for (field, how) in [("url", "Give the https URL of the receiver."), ("events", "Name at least one event.")] {
        if fields.value(field).is_none() {
            fields.fault(&format!("/{field}"), how);
        }
    }
    let named = fields.text("org");
    let org = ordered_org(&state, &actor, named).await?;
    if org.is_none() {
        fields.fault("/org", NO_SUCH_ORG);
    }
    let (Some(org), Edit { url: Some(url), events: Some(events), enabled }, true) =
        (org, edit, fields.faults.is_empty())
    else {
        return Err(Refusal::invalid(fields.faults));
    };
    let sandbox = is_sandbox(&actor);
    let new = NewWebhook { org: org.id, url, events, enabled: enabled.unwrap_or(true), sandbox, maker: actor.id() };
    let issued = state.desks.webhooks.create(new, actor.who()).await.map_err(|error| refused(&error))?;
    let webhook = WebhookShown::of(&issued.webhook, std::slice::from_ref(&org), state.clock.now());
    let place = [(LOCATION, format!("/v1/webhooks/{}", issued.webhook.id))];
    let secret = issued.secret.reveal().to_string();
    Ok((StatusCode::CREATED, place, Extension(Confidential), Json(WebhookIssued { webhook, secret })))
}

/// Webhooks of your org
///
/// Oldest first, never with a secret. A sandbox key sees what sandbox keys made.
#[utoipa::path(
    get,
    path = "/v1/webhooks",
    operation_id = "webhooks.list",
    tag = "webhooks",
    params(
        ("org" = Option<String>, Query, description = "Slug or id of your org, which is the default.", example = "acme"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before.", example = "whk_01m5k3v0q8f7c2d9x4e6t1r5yd"),
        ("limit" = Option<u8>, Query, minimum = 1, maximum = 200, description = "The most webhooks of one page; 50 is the default.", example = 50),
    ),
    responses((status = 200, description = "Some webhooks.", body = WebhookList, example = WebhookList::example)),
)]
pub(in crate::api) async fn list(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    uri: Uri,
) -> Result<Json<WebhookList>, Refusal> {
    actor.may(Action::ReadWebhooks)?;
    let orgs = state.desks.orgs.all().await.map_err(|error| Refusal::failed(&error))?;
    let mut paging = Paging::of(&uri, &["org"]);
    let org = chosen_org(&mut paging, &actor, &orgs);
    let after = paging.after();
    let limit = paging.checked()?;
    let meant = |webhook: &Webhook| org.is_none_or(|org| org == webhook.org) && sees(&actor, webhook);
    let found = state.desks.webhooks.after(after, meant);
    let next_cursor = found.get(limit).and_then(|_| found.get(limit - 1)).map(|last| last.id.to_string());
    let now = state.clock.now();
    let webhooks = found.iter().take(limit).map(|webhook| WebhookShown::of(webhook, &orgs, now)).collect();
    Ok(Json(WebhookList { webhooks, next_cursor }))
}

/// One webhook
///
/// One of another org is not found.
#[utoipa::path(
    get,
    path = "/v1/webhooks/{id}",
    operation_id = "webhooks.show",
    tag = "webhooks",
    params(("id" = String, Path, description = "The id of the webhook.", example = "whk_01m5k3v0q8f7c2d9x4e6t1r5yd")),
    responses((status = 200, description = "The webhook.", body = WebhookShown, example = WebhookShown::example)),
)]
pub(in crate::api) async fn show(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<WebhookShown>, Refusal> {
    actor.may(Action::ReadWebhooks)?;
    let webhook = find(&state, &actor, id)?;
    described(&state, &webhook).await
}

/// Change a webhook
///
/// What you leave out stays. Where you disable it, what waits for it is forgotten; to enable one whose receiver answered 410, say so.
#[utoipa::path(
    patch,
    path = "/v1/webhooks/{id}",
    operation_id = "webhooks.change",
    tag = "webhooks",
    params(("id" = String, Path, description = "The id of the webhook.", example = "whk_01m5k3v0q8f7c2d9x4e6t1r5yd")),
    request_body(content = WebhookEdit, example = json!({"events": ["key.revoked", "quota.reached"]})),
    responses((status = 200, description = "The webhook, as it is now.", body = WebhookShown, example = WebhookShown::example)),
)]
pub(in crate::api) async fn change(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<WebhookShown>, Refusal> {
    actor.may(Action::WriteWebhooks)?;
    let webhook = find(&state, &actor, id)?;
    let body = json_object(request).await?;
    actor.has_present_secret(state.clock.now())?;
    let mut fields = Fields::of(&body, &EDIT_FIELDS);
    let edit = read(&mut fields, &actor, &state.desks.webhooks.now().settings);
    if !fields.faults.is_empty() {
        return Err(Refusal::invalid(fields.faults));
    }
    let changed = state.desks.webhooks.change(webhook.id, edit, actor.who()).await;
    let webhook = changed.map_err(|error| refused(&error))?.ok_or_else(no_such_webhook)?;
    described(&state, &webhook).await
}

/// Delete a webhook
///
/// With what waits for it, and what is remembered of its messages. The answer shows how it was.
#[utoipa::path(
    delete,
    path = "/v1/webhooks/{id}",
    operation_id = "webhooks.delete",
    tag = "webhooks",
    params(("id" = String, Path, description = "The id of the webhook.", example = "whk_01m5k3v0q8f7c2d9x4e6t1r5yd")),
    responses((status = 200, description = "The webhook, as it was.", body = WebhookShown, example = WebhookShown::example)),
)]
pub(in crate::api) async fn delete(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<WebhookShown>, Refusal> {
    actor.may(Action::WriteWebhooks)?;
    let webhook = find(&state, &actor, id)?;
    actor.has_present_secret(state.clock.now())?;
    let removed = state.desks.webhooks.remove(webhook.id, actor.who()).await;
    let webhook = removed.map_err(|error| refused(&error))?.ok_or_else(no_such_webhook)?;
    described(&state, &webhook).await
}

/// What a body says of a webhook.
fn read(fields: &mut Fields<'_>, actor: &Actor, settings: &config::Webhooks) -> Edit {
    let url = fields.text("url").and_then(|url| match check(url, settings) {
        Ok(()) => Some(url.to_owned()),
        Err(refused) => {
            fields.fault("/url", refused.to_string());
            None
        }
    });
    let named = fields.texts("events", Kind::ALL.len(), "Name at least one event.");
    let events = named.map(|named| {
        let mut kinds: Vec<Kind> = Vec::new();
        for (pointer, text) in named {
            match text.parse::<Kind>() {
                Ok(kind) if kind.is_of_operators() && actor.may(Action::ManageGateway).is_err() => {
                    fields.fault(&pointer, "Only whoever runs the gateway is told of this.");
                }
                Ok(kind) => kinds.push(kind),
                Err(error) => fields.fault(&pointer, unknown(text, &error.to_string())),
            }
        }
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    });
    let enabled = fields.flag("enabled");
    Edit { url, events, enabled: fields.value("enabled").map(|_| enabled) }
}

fn unknown(text: &str, error: &str) -> String {
    let names = || Kind::ALL.iter().map(|kind| kind.name());
    match nearest(text, names()) {
        Some(near) => format!("{error}; did you mean `{near}`?"),
        None => format!("{error}; there are {}.", names().collect::<Vec<_>>().join(", ")),
    }
}

/// The webhook with this id, where it is there for whoever asks.
pub(super) fn find(
    state: &AdminState,
    actor: &Actor,
    id: Result<Path<String>, PathRejection>,
) -> Result<Arc<Webhook>, Refusal> {
    let id: WebhookId = id.ok().and_then(|Path(text)| text.parse().ok()).ok_or_else(no_such_webhook)?;
    state.desks.webhooks.find(id).filter(|webhook| sees(actor, webhook)).ok_or_else(no_such_webhook)
}

/// What a sandbox key did not make, and what tells of the whole gateway, is not there for whoever may not have it.
fn sees(actor: &Actor, webhook: &Webhook) -> bool {
    let operators = || actor.may(Action::ManageGateway).is_ok();
    actor.sees(webhook.org) && (webhook.sandbox || !is_sandbox(actor)) && (!webhook.is_of_operators() || operators())
}

fn is_sandbox(actor: &Actor) -> bool {
    matches!(&actor.by, By::Key(key) if key.key.mode == Mode::Sandbox)
}

pub(super) async fn described(state: &AdminState, webhook: &Webhook) -> Result<Json<WebhookShown>, Refusal> {
    let orgs = state.desks.orgs.all().await.map_err(|error| Refusal::failed(&error))?;
    Ok(Json(WebhookShown::of(webhook, &orgs, state.clock.now())))
}

pub(in crate::api) fn no_such_webhook() -> Refusal {
    Refusal::new(404, "not_found", "Not found", "There is no webhook with this id.")
}

/// Why the desk did not do it.
pub(in crate::api) fn refused(error: &DeskError) -> Refusal {
    match error {
        DeskError::TooMany => {
            let detail = format!("Your org has {MOST_OF_ORG} webhooks, which is the most; delete one first.");
            Refusal::new(409, "too_many_webhooks", "Too many webhooks", detail)
        }
        DeskError::SameUrl => {
            let detail = "Another webhook of your org has this URL; change the events of that one, or delete it first.";
            Refusal::new(409, "webhook_exists", "The webhook exists", detail)
        }
        DeskError::OrgErased => org_erased(),
        DeskError::Disabled => {
            let detail = "The webhook is not enabled, so nothing is sent to it; enable it first.";
            Refusal::new(409, "webhook_disabled", "The webhook is disabled", detail)
        }
        DeskError::Store(StoreError::Unchangeable(Unchangeable::RotationInProgress { until })) => Refusal::new(
            409,
            "rotation_in_progress",
            "A rotation is in progress",
            format!("The secret before the present one signs until {until}; `force` ends it at once."),
        )
        .with("until", until.to_string()),
        DeskError::Store(_) | DeskError::Seal(_) | DeskError::Randomness(_) => Refusal::failed(error),
    }
}
