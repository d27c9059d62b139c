//! The end of an org, over HTTP: for super-admins, and only where they name it twice.
//!
//! What was begun is done to its end, also when nobody waits for the answer any more.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Extension, Json, Router};
use serde_json::{Value, json};

use super::{AdminState, orgs};
use crate::api::fields::Fields;
use crate::api::{Action, Actor, Refusal, json_object};
use crate::erasure::{Erasure, Error, Remains};
use crate::org;

/// So long an answer waits for the end; whoever wants to know more asks again.
const PATIENCE: Duration = Duration::from_secs(20);
/// What an erasure does not reach.
const NOT_REACHED: [&str; 4] = [
    "backups that were taken before, and copies of the data directory",
    "access lines and the gateway's own log, wherever they are written to",
    "what policies keep in their own stores",
    "the files of the store, until the next start writes it anew",
];

#[derive(Clone)]
struct Desk {
    state: AdminState,
    erasure: Arc<Erasure>,
}

/// The route `/v1/orgs/{org}/erase`.
pub fn routes(state: AdminState, erasure: Arc<Erasure>) -> Router {
    Router::new().route("/v1/orgs/{org}/erase", post(erase)).with_state(Desk { state, erasure })
}

/// `POST /v1/orgs/{slug or id}/erase`: 200 where all is gone, 202 where it goes on
async fn erase(
    State(desk): State<Desk>,
    Extension(actor): Extension<Actor>,
    org: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    actor.may(Action::EraseOrgs)?;
    let org = orgs::find(&desk.state, &actor, org).await?;
    let body = json_object(request).await?;
    let mut fields = Fields::of(&body, &["confirm"]);
    let confirmed = fields.text("confirm").is_some_and(|id| *id == *org.id.text());
    if !confirmed && fields.faults.is_empty() {
        fields.fault("/confirm", "Give the id of the org here once more: nothing brings back what is erased.");
    }
    if !fields.faults.is_empty() {
        return Err(Refusal::invalid(fields.faults));
    }
    if org.slug == org::DEFAULT {
        let detail = "The org `default` cannot be erased: what names no org means this one. Erase others, and revoke what it has.";
        return Err(Refusal::new(409, "org_default", "The org cannot be erased", detail));
    }
    match tokio::time::timeout(PATIENCE, desk.erasure.erase(org.id, actor.who())).await {
        Ok(done) => {
            let remains = done.map_err(failed)?.ok_or_else(orgs::unknown)?;
            Ok((StatusCode::OK, Json(document(&remains))))
        }
        Err(_) => {
            let found = desk.state.desks.orgs.find(&org.id.to_string()).await;
            let found = found.map_err(|error| Refusal::failed(&error))?.ok_or_else(orgs::unknown)?;
            let remains = desk.erasure.remains(found).await.map_err(failed)?;
            Ok((StatusCode::ACCEPTED, Json(document(&remains))))
        }
    }
}

fn failed(error: Error) -> Refusal {
    Refusal::failed(&error)
}

/// What is gone, what stays, and what could not be reached.
fn document(Remains { org, audit }: &Remains) -> Value {
    let mut document = orgs::document(org);
    document["stays"] = json!({
        "usage": "sums by ids",
        "audit_entries": audit.entries,
        "audit_entries_with_names": audit.in_chain,
    });
    document["not_reached"] = json!(NOT_REACHED);
    document
}
