//! `Idempotency-Key` on what the control API makes, on both listeners: what comes again is not done again.
//!
//! Whoever asks has been let in before, and what they may do the handler says: only its answer is given again, and only to the
//! credential that it was given to. Without the field, nothing changes.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::body::gathered;
use super::public::{LARGEST_ANSWER, key_needed};
use super::{Actor, AdminState, Refusal};
use crate::credential::bearer;
use crate::id::RequestId;
use crate::idempotency::{Answer, Fingerprint, Key, MOST, Malformed, Place, Proof, StoreError, Ticket, Turn};
use crate::inner::Confidential;
use crate::problem::{MEDIA_TYPE, Problem};

/// On an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// For so long an answer is given again also to a secret that was rotated away meanwhile: it may be that of the rotation itself.
/// After that, who has it may be anybody.
const RETRIES: Duration = Duration::from_secs(300);

/// Carries a `POST` with a key out, or gives its answer again.
pub(super) async fn once(State(state): State<AdminState>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    match Key::of(request.headers()) {
        Ok(None) => next.run(request).await,
        Ok(Some(key)) => to_the_end(state, key, request, next).await.unwrap_or_else(IntoResponse::into_response),
        Err(malformed) => refused(malformed).into_response(),
    }
}

/// Also where whoever asked leaves: then they come again, and the answer is there.
async fn to_the_end(state: AdminState, key: Key, request: Request, next: Next) -> Result<Response, Refusal> {
    let (request, body) = gathered(request).await?;
    let run = tokio::spawn(async move { run(&state, &key, request, &body, next).await });
    // Cut off only when the gateway ends, or by a panic, which has said so on its own.
    run.await.map_err(|_| Refusal::store_unavailable())?
}

async fn run(state: &AdminState, key: &Key, request: Request, body: &[u8], next: Next) -> Result<Response, Refusal> {
    let extensions = request.extensions();
    let actor = extensions.get::<Actor>().cloned().ok_or_else(key_needed)?;
    let id = extensions.get::<RequestId>().copied();
    let proof = proof(&request).ok_or_else(key_needed)?;
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let place = Place::of(actor.org(), request.uri().path(), key);
    let fingerprint = Fingerprint::of(request.method().as_str(), target, body);
    let turn = state.desks.repeats.turn(place, fingerprint, &proof).await;
    match turn.map_err(|error| Refusal::failed(&error))? {
        Turn::Run(ticket) => Ok(kept(ticket, next.run(request).await).await),
        Turn::Again(answer, since) => {
            let now = state.clock.now();
            actor.still_calls(now)?;
            if now.since(since) > RETRIES {
                actor.has_present_secret(now)?;
            }
            Ok(again(answer, id))
        }
        Turn::InUse => Err(in_use()),
        Turn::OutcomeUnknown => Err(outcome_unknown()),
        Turn::Reused => Err(reused()),
        Turn::Sealed => Err(sealed()),
        Turn::Full => Err(too_many()),
    }
}

/// What opens answers to whoever asks: handed in by a worker, or from the credential itself.
fn proof(request: &Request) -> Option<Proof> {
    let presented = || request.headers().get(AUTHORIZATION).and_then(|field| bearer(field.as_bytes()));
    request.extensions().get::<Proof>().cloned().or_else(|| presented().map(Proof::of))
}

/// The answer, kept where it is what would come of the same request at any time.
async fn kept(ticket: Ticket, response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, LARGEST_ANSWER).await else {
        // Begun, and nobody knows its answer.
        return Refusal::store_unavailable().into_response();
    };
    let outcome = if is_final(parts.status) {
        let answer = match parts.extensions.get::<Problem>() {
            Some(problem) => (MEDIA_TYPE.to_owned(), problem.to_bytes()),
            None => (text(&parts.headers, &CONTENT_TYPE).unwrap_or_default(), bytes.clone()),
        };
        let answer = Answer {
            status: parts.status.as_u16(),
            is_confidential: parts.extensions.get::<Confidential>().is_some(),
            kind: answer.0,
            location: text(&parts.headers, &LOCATION),
            body: Zeroizing::new(answer.1.to_vec()),
        };
        ticket.keep(&answer).await
    } else {
        ticket.free().await
    };
    if let Err(error) = outcome {
        tell(&error);
    }
    Response::from_parts(parts, Body::from(bytes))
}

fn tell(error: &StoreError) {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    tracing::error!("what came of a request with an Idempotency-Key cannot be kept: {error}: {cause}");
}

/// Whether the same request would be answered so again: not where it depends on who asks, or when.
fn is_final(status: StatusCode) -> bool {
    !status.is_server_error() && !matches!(status.as_u16(), 401 | 403 | 409 | 429)
}

fn text(fields: &HeaderMap, name: &HeaderName) -> Option<String> {
    fields.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// An answer that was given before, to this request.
fn again(answer: Answer, id: Option<RequestId>) -> Response {
    let body = if answer.kind == MEDIA_TYPE { with_instance(&answer.body, id) } else { answer.body.to_vec() };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let fields = response.headers_mut();
    for (name, text) in [(CONTENT_TYPE, Some(answer.kind)), (LOCATION, answer.location)] {
        if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
            fields.insert(name, value);
        }
    }
    fields.insert(REPLAYED, HeaderValue::from_static("true"));
    if answer.is_confidential {
        response.extensions_mut().insert(Confidential);
    }
    response
}

/// A refusal names the request that it answers, which is another one now.
fn with_instance(problem: &[u8], id: Option<RequestId>) -> Vec<u8> {
    let members = serde_json::from_slice::<Map<String, Value>>(problem);
    match (members, id) {
        (Ok(mut members), Some(id)) => {
            members.insert("instance".to_owned(), id.to_string().into());
            Value::Object(members).to_string().into_bytes()
        }
        _ => problem.to_vec(),
    }
}

/// All that a request with a key can be refused with, for documentation.
pub(super) fn refusals() -> [Refusal; 6] {
    [refused(Malformed), in_use(), outcome_unknown(), sealed(), too_many(), reused()]
}

fn refused(malformed: Malformed) -> Refusal {
    Refusal::new(400, "invalid_idempotency_key", "Invalid idempotency key", format!("{malformed}."))
}

fn in_use() -> Refusal {
    let detail = "A request with this `Idempotency-Key` is being carried out; ask again in a moment for its answer.";
    Refusal::new(409, "idempotency_key_in_use", "The idempotency key is in use", detail).retry_after(1)
}

fn outcome_unknown() -> Refusal {
    let detail = "A request with this `Idempotency-Key` was begun, and its answer is not there: look whether it was carried out, then \
                  use another key.";
    Refusal::new(409, "idempotency_outcome_unknown", "The outcome is unknown", detail)
}

fn sealed() -> Refusal {
    let detail = "The answer to this `Idempotency-Key` is for the credential that asked first; it was carried out, and is not again.";
    Refusal::new(409, "idempotency_answer_sealed", "The answer is for another credential", detail)
}

fn too_many() -> Refusal {
    let detail = format!(
        "Your org has used as many idempotency keys as are kept for 24 hours, {MOST} or 32 MiB of answers; wait, or leave the field out."
    );
    Refusal::new(409, "too_many_idempotency_keys", "Too many idempotency keys", detail)
}

fn reused() -> Refusal {
    let detail = "This `Idempotency-Key` came with another request; use a new one for each thing that you want done.";
    Refusal::new(422, "idempotency_key_reused", "The idempotency key was used before", detail)
}
