//! The demo pillar `connect`: rooms in memory, and a server-sent event stream for each.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Json, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::{Stream, stream};
use serde_json::{Value, json};

use super::caller::Verifier;
use super::{Refusal, answer};

/// The most rooms kept; the demo must not grow without bound.
const MOST_ROOMS: usize = 1_000;
/// The longest name of a room, in characters.
const LONGEST_NAME: usize = 80;

struct Connect {
    verifier: Verifier,
    rooms: Mutex<BTreeMap<String, String>>,
}

/// `GET`, `POST /rooms`, `GET /rooms/{id}`, `GET /rooms/{id}/events`.
pub fn routes(verifier: Verifier) -> Router {
    let rooms = [("lobby", "Lobby"), ("standup", "Daily stand-up"), ("choir", "Choir rehearsal")];
    let rooms = rooms.map(|(id, name)| (id.to_owned(), name.to_owned()));
    let state = Connect { verifier, rooms: Mutex::new(BTreeMap::from(rooms)) };
    Router::new()
        .route("/rooms", get(list).post(create))
        .route("/rooms/{id}", get(one))
        .route("/rooms/{id}/events", get(events))
        .with_state(Arc::new(state))
}

impl Connect {
    fn rooms(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, String>> {
        // Each change is one insert, so a panic elsewhere cannot have left the map half changed.
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: &str) -> Result<String, Refusal> {
        self.rooms().get(id).cloned().ok_or_else(|| Refusal::not_found("there is no such room"))
    }
}

async fn list(State(connect): State<Arc<Connect>>, headers: HeaderMap) -> Result<Response, Refusal> {
    let caller = connect.verifier.caller(&headers).await?;
    let rooms: Vec<Value> = connect.rooms().iter().map(|(id, name)| json!({"id": id, "name": name})).collect();
    Ok(answer(StatusCode::OK, json!({"rooms": rooms, "caller": caller})))
}

async fn one(
    State(connect): State<Arc<Connect>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let caller = connect.verifier.caller(&headers).await?;
    let name = connect.find(&id)?;
    Ok(answer(StatusCode::OK, json!({"id": id, "name": name, "caller": caller})))
}

async fn create(
    State(connect): State<Arc<Connect>>,
    headers: HeaderMap,
    body: Result<Json<Value>, JsonRejection>,
) -> Result<Response, Refusal> {
    let caller = connect.verifier.caller(&headers).await?;
    let Json(body) = body.map_err(|error| Refusal::new(error.status(), "invalid_body", error.body_text()))?;
    let name = body["name"].as_str().unwrap_or_default().trim();
    if name.is_empty() || name.chars().count() > LONGEST_NAME {
        let message = format!("`name` is a text of 1 to {LONGEST_NAME} characters");
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_name", message));
    }
    let mut rooms = connect.rooms();
    if rooms.len() >= MOST_ROOMS {
        let message = format!("the demo keeps at most {MOST_ROOMS} rooms; start it again to empty it");
        return Err(Refusal::new(StatusCode::INSUFFICIENT_STORAGE, "too_many_rooms", message));
    }
    let id = format!("room-{}", rooms.len() + 1);
    rooms.insert(id.clone(), name.to_owned());
    drop(rooms);
    Ok(answer(StatusCode::CREATED, json!({"id": id, "name": name, "caller": caller})))
}

async fn events(
    State(connect): State<Arc<Connect>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    connect.verifier.caller(&headers).await?;
    connect.find(&id)?;
    Ok(Sse::new(ticks(id)).into_response())
}

/// One event a second, for as long as somebody listens.
fn ticks(room: String) -> impl Stream<Item = Result<Event, Infallible>> {
    let clock = tokio::time::interval(Duration::from_secs(1));
    stream::unfold((clock, room, 0_u64), async |(mut clock, room, number)| {
        clock.tick().await;
        let data = json!({"room": room, "number": number, "event": "tick"}).to_string();
        Some((Ok(Event::default().event("tick").id(number.to_string()).data(data)), (clock, room, number + 1)))
    })
}
