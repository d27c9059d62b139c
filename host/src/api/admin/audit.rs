//! The audit log over HTTP: read, and verified. Nothing here writes to it.

use axum::extract::State;
use axum::http::Uri;
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::{AdminState, Paging};
use crate::api::{Action, Actor, Refusal};
use crate::audit::{Filter, StoreError, Verdict};
use crate::clock::Millis;

const TIME: &str = "This is no time of RFC 3339; write for example 2030-01-31T12:00:00Z.";

/// `GET /v1/audit?since=&until=&actor=&action=&object=&cursor=&limit=`, newest first
pub(super) async fn list(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    uri: Uri,
) -> Result<Json<Value>, Refusal> {
    actor.may(Action::ReadAudit)?;
    let mut paging = Paging::of(&uri, &["since", "until", "actor", "action", "object"]);
    let filter = Filter {
        org: actor.org(),
        since: paging.parsed::<Millis>("since", TIME),
        until: paging.parsed::<Millis>("until", TIME),
        actor: paging.text("actor"),
        action: paging.text("action"),
        object: paging.text("object"),
    };
    let before = paging.after();
    let limit = paging.checked()?;
    let log = state.desks.audit.clone();
    let page = state.reads.run(async move { log.page(filter, before, limit).await }).await?;
    let page = page.map_err(|error| failed(&error))?;
    let next = page.next.map(|next| next.to_string());
    Ok(Json(json!({"entries": page.entries, "next_cursor": next})))
}

/// `GET /v1/audit/verify`: looks at every entry
pub(super) async fn verify(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
) -> Result<Json<Value>, Refusal> {
    actor.may(Action::ReadAudit)?;
    let log = state.desks.audit.clone();
    let verdict = state.verifying.run(async move { log.verify().await }).await?.map_err(|error| failed(&error))?;
    if let Verdict::Broken { sequence, fault } = verdict {
        tracing::error!(sequence, ?fault, "the audit log is broken");
    }
    // How much is in the log, and where, is of all orgs.
    if actor.org().is_some() {
        return Ok(Json(json!({"whole": matches!(verdict, Verdict::Whole(_))})));
    }
    Ok(Json(match verdict {
        Verdict::Whole(head) => json!({"whole": true, "head": head}),
        Verdict::Broken { sequence, fault } => {
            json!({"whole": false, "broken_at": sequence, "fault": fault, "detail": fault.sentence()})
        }
    }))
}

fn failed(error: &StoreError) -> Refusal {
    match error {
        StoreError::Damaged { sequence } => {
            let detail = format!("Entry {sequence} cannot be read; `GET /v1/audit/verify` says more.");
            Refusal::new(503, "audit_damaged", "The audit log is damaged", detail)
        }
        error => Refusal::failed(error),
    }
}
