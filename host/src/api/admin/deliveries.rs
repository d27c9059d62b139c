//! What happens to a webhook after it was made, over HTTP, on both listeners: its secret, a test, and what came of its messages.
//!
//! The words in front of the handlers are those of the public document.

use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::{Extension, Json};

use super::AdminState;
use super::life::{LONGEST_OVERLAP, OVERLAP};
use super::webhooks::{described, find, no_such_webhook, refused};
use crate::api::fields::Fields;
use crate::api::shapes::webhook::{Delivery, DeliveryList, SecretOrder, TestSent, WebhookIssued};
use crate::api::{Action, Actor, Refusal, optional_json_object};
use crate::inner::Confidential;

/// Give a webhook another secret
///
/// For `overlap` seconds messages have two signatures, one by each secret. Without a body it is as if there were none of its fields. The
/// new secret is in this answer, and never again. Sent again during the overlap, it is refused; with the same `Idempotency-Key` it gets
/// this answer.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{id}/rotate",
    operation_id = "webhooks.rotate",
    tag = "webhooks",
    params(("id" = String, Path, description = "The id of the webhook.", example = "whk_01m5k3v0q8f7c2d9x4e6t1r5yd")),
    request_body(content = SecretOrder, example = json!({"overlap": 3600})),
    responses((status = 200, description = "The webhook, with its new secret.", body = WebhookIssued, example = WebhookIssued::rotated_example)),
)]
pub(in crate::api) async fn rotate(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<(Extension<Confidential>, Json<WebhookIssued>), Refusal> {
    actor.may(Action::WriteWebhooks)?;
    let webhook = find(&state, &actor, id)?;
    let body = optional_json_object(request).await?;
    actor.has_present_secret(state.clock.now())?;
    let mut fields = Fields::of(&body, &super::life::FIELDS);
    let overlap = fields.number("overlap", LONGEST_OVERLAP).unwrap_or(OVERLAP);
    let force = fields.flag("force");
    if !fields.faults.is_empty() {
        return Err(Refusal::invalid(fields.faults));
    }
    let overlap = Duration::from_secs(overlap);
    let rotated = state.desks.webhooks.rotate(webhook.id, overlap, force, actor.who()).await;
    let issued = rotated.map_err(|error| refused(&error))?.ok_or_else(no_such_webhook)?;
    let Json(webhook) = described(&state, &issued.webhook).await?;
    Ok((Extension(Confidential), Json(WebhookIssued { webhook, secret: issued.secret.reveal().to_string() })))
}

/// Send a test to a webhook
///
/// A message of the type `webhook.test`, on the way of all others. What comes of it is among the deliveries. A request that is sent again
/// sends another message, unless it has the same `Idempotency-Key`.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{id}/test",
    operation_id = "webhooks.test",
    tag = "webhooks",
    params(("id" = String, Path, description = "The id of the webhook.", example = "whk_01m5k3v0q8f7c2d9x4e6t1r5yd")),
    responses((status = 202, description = "It is on its way.", body = TestSent, example = json!({"event": "evt_01m5k3v0q8f7c2d9x4e6t1r5ye"}))),
)]
pub(in crate::api) async fn test(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    id: Result<Path<String>, PathRejection>,
) -> Result<(StatusCode, Json<TestSent>), Refusal> {
    actor.may(Action::WriteWebhooks)?;
    let webhook = find(&state, &actor, id)?;
    actor.has_present_secret(state.clock.now())?;
    let event = state.desks.webhooks.test(&webhook).await.map_err(|error| refused(&error))?;
    Ok((StatusCode::ACCEPTED, Json(TestSent { event: event.to_string() })))
}

/// What came of a webhook's messages
///
/// The last 100 attempts of 30 days, latest first.
#[utoipa::path(
    get,
    path = "/v1/webhooks/{id}/deliveries",
    operation_id = "webhooks.deliveries",
    tag = "webhooks",
    params(("id" = String, Path, description = "The id of the webhook.", example = "whk_01m5k3v0q8f7c2d9x4e6t1r5yd")),
    responses((status = 200, description = "The attempts.", body = DeliveryList, example = DeliveryList::example)),
)]
pub(in crate::api) async fn deliveries(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<DeliveryList>, Refusal> {
    actor.may(Action::ReadWebhooks)?;
    let webhook = find(&state, &actor, id)?;
    let found = state.desks.webhooks.deliveries(webhook.id).await;
    let (attempts, waiting) = found.map_err(|error| Refusal::failed(&error))?;
    Ok(Json(DeliveryList { deliveries: attempts.iter().map(Delivery::from).collect(), waiting }))
}
