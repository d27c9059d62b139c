//! Peppers over HTTP: how many secrets need each version, a new one, and the end of an old one. Never a pepper itself.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::AdminState;
use crate::api::{Action, Actor, Refusal};
use crate::credential::PepperError;

/// `GET /v1/peppers`
pub(super) async fn list(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
) -> Result<Json<Value>, Refusal> {
    actor.may(Action::ManagePeppers)?;
    shown(&state).await.map(Json)
}

/// `POST /v1/peppers`: a new version, which new secrets take from now on
pub(super) async fn rotate(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    actor.may(Action::ManagePeppers)?;
    state.desks.peppers.rotate(actor.who()).await.map_err(|error| Refusal::failed(&error))?;
    Ok((StatusCode::CREATED, Json(shown(&state).await?)))
}

/// `DELETE /v1/peppers/{version}`: forgets a version that no secret needs which works
pub(super) async fn retire(
    State(state): State<AdminState>,
    Extension(actor): Extension<Actor>,
    version: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Refusal> {
    actor.may(Action::ManagePeppers)?;
    let version = version.ok().and_then(|Path(text)| text.parse().ok()).ok_or_else(unknown)?;
    state.desks.peppers.retire(version, actor.who()).await.map_err(|error| match error {
        PepperError::Unknown => unknown(),
        PepperError::Newest => {
            let detail = "This is the newest pepper, which new secrets need; make another one first.";
            Refusal::new(409, "pepper_in_use", "The pepper is in use", detail)
        }
        PepperError::Needed { secrets } => {
            let detail = format!("{secrets} secrets that work need this pepper; they move when they are next used.");
            Refusal::new(409, "pepper_in_use", "The pepper is in use", detail)
        }
        error => Refusal::failed(&error),
    })?;
    shown(&state).await.map(Json)
}

async fn shown(state: &AdminState) -> Result<Value, Refusal> {
    let versions = state.desks.peppers.needed().await.map_err(|error| Refusal::failed(&error))?;
    let document = |(version, secrets): &(u32, u64)| json!({ "version": version, "secrets": secrets });
    Ok(json!({ "peppers": versions.iter().map(document).collect::<Vec<_>>() }))
}

fn unknown() -> Refusal {
    Refusal::new(404, "not_found", "Not found", "There is no pepper of this version; `GET /v1/peppers` lists all.")
}
