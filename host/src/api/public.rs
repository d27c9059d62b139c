//! The gateway's own API for clients, on the control runtime: what the workers hand in through [`crate::inner`].
//!
//! Whoever comes here has passed the policies, the guard and the limits. A key that asks is an [`Actor`] like any other: what
//! it may, and which things are there for it, the handlers say that it shares with the admin API.

mod document;
mod errors;
mod me;
mod months;
mod usage;
mod yaml;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRef, Request, State};
use axum::http::header::{CACHE_CONTROL, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, patch, post};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tower_service::Service;

use self::document::Rendered;
pub use self::document::{Fingerprint, Parts, fingerprint, left_out};
use self::months::Months;
use super::admin::{AdminState, deliveries, keys, life, webhooks};
use super::{Actor, By, Refusal, requests, usage as detail, worded};
use crate::clock::Clock;
use crate::id::RequestId;
use crate::inner::{self, Ask, Asker};
use crate::requests::RequestLog;
use crate::snapshot::own::ENDPOINTS;
use crate::usage::UsageStore;
use crate::worker::Gateway;

/// Requests that are worked on at once.
const AT_ONCE: usize = 64;
/// The most bytes of an answer.
pub(super) const LARGEST_ANSWER: usize = 16 << 20;

/// What the API works on; clones are cheap.
#[derive(Clone)]
pub struct PublicState {
    admin: AdminState,
    months: Arc<Months>,
    log: requests::Log,
    details: detail::Details,
    gateway: Arc<Gateway>,
    rendered: Arc<Rendered>,
}

impl PublicState {
    /// An API over the same as the admin API, and over usage, the request log and a gateway.
    pub fn new(
        admin: AdminState,
        usage: Arc<dyn UsageStore>,
        log: Option<Arc<dyn RequestLog>>,
        gateway: Arc<Gateway>,
    ) -> Self {
        let details = detail::Details::new(usage.clone(), admin.clock.clone());
        let months = Arc::new(Months::new(usage, admin.clock.clone()));
        Self { admin, months, log: requests::Log(log), details, gateway, rendered: Arc::default() }
    }
}

impl FromRef<PublicState> for AdminState {
    fn from_ref(state: &PublicState) -> Self {
        state.admin.clone()
    }
}

impl FromRef<PublicState> for requests::Log {
    fn from_ref(state: &PublicState) -> Self {
        state.log.clone()
    }
}

impl FromRef<PublicState> for detail::Details {
    fn from_ref(state: &PublicState) -> Self {
        state.details.clone()
    }
}

impl fmt::Debug for PublicState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicState")
    }
}

/// The handler of each operation, in the order of [`ENDPOINTS`].
fn handlers(state: &AdminState) -> [MethodRouter<PublicState>; ENDPOINTS.len()] {
    let clock = &state.clock;
    let once = |handler: MethodRouter<PublicState>| {
        handler.route_layer(middleware::from_fn_with_state(state.clone(), super::once::once))
    };
    [
        get(me::me),
        get(me::me),
        by_key(get(usage::month), clock),
        by_key(get(usage::history), clock),
        by_key(get(detail::list), clock),
        by_key(get(requests::show), clock),
        by_key(get(requests::list), clock),
        by_key(get(keys::list), clock),
        by_key(once(post(keys::issue)), clock),
        by_key(get(keys::show), clock),
        by_key(delete(life::revoke), clock),
        by_key(once(post(life::rotate)), clock),
        by_key(patch(life::scope), clock),
        by_key(get(webhooks::list), clock),
        by_key(once(post(webhooks::create)), clock),
        by_key(get(webhooks::show), clock),
        by_key(patch(webhooks::change), clock),
        by_key(delete(webhooks::delete), clock),
        by_key(once(post(deliveries::rotate)), clock),
        by_key(once(post(deliveries::test)), clock),
        by_key(get(deliveries::deliveries), clock),
        get(document::json),
        get(document::yaml),
    ]
}

/// What manages things of an org, for keys of it only.
fn by_key(handler: MethodRouter<PublicState>, clock: &Clock) -> MethodRouter<PublicState> {
    handler.route_layer(middleware::from_fn_with_state(clock.clone(), check_key))
}

/// Looks at the key once more: it may have been revoked while the request waited for its turn.
async fn check_key(State(clock): State<Clock>, request: Request, next: Next) -> Response {
    let actor = request.extensions().get::<Actor>();
    match actor.ok_or_else(key_needed).and_then(|actor| actor.still_calls(clock.now())) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// The API.
pub fn public_router(state: PublicState) -> Router {
    let routes = ENDPOINTS.iter().zip(handlers(&state.admin));
    let router = routes.fold(Router::new(), |router, (endpoint, handler)| router.route(&endpoint.path(), handler));
    router
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(dress))
        .with_state(state)
}

/// Answers what workers ask, until the last of them is gone. Dropped, it drops what it was at.
pub async fn answer(mut asked: mpsc::Receiver<Ask>, router: Router) {
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            ask = asked.recv(), if under_way.len() < AT_ONCE => match ask {
                Some(ask) => drop(under_way.spawn(one(router.clone(), ask))),
                None => break,
            },
            // A handler that panicked has said so on its own, and whoever asked it learns that nothing comes.
            Some(_) = under_way.join_next() => {}
        }
    }
    while under_way.join_next().await.is_some() {}
}

async fn one(mut router: Router, ask: Ask) {
    let (request, reply) = ask.open();
    // Given up while it waited: nothing has to be done that nobody hears of.
    if reply.is_unwanted() {
        return;
    }
    let Ok(response) = router.call(request.map(Body::from)).await;
    let (parts, body) = response.into_parts();
    match to_bytes(body, LARGEST_ANSWER).await {
        Ok(bytes) => reply.send(Response::from_parts(parts, bytes)),
        Err(error) => tracing::error!("an answer of the gateway's own API is too large: {error}"),
    }
}

/// Says to the handlers which key asks, and gives the answer what all answers have.
async fn dress(mut request: Request, next: Next) -> Response {
    let id = request.extensions().get::<RequestId>().copied();
    if let Some(Asker::Key(bearer)) = request.extensions().get::<Asker>() {
        let address = request.extensions().get::<inner::From>().map(|from| from.0);
        let actor = Actor { by: By::Key(bearer.clone()), address };
        request.extensions_mut().insert(actor);
    }
    let mut response = worded(next.run(request).await, id);
    if response.status() == StatusCode::UNAUTHORIZED {
        // Its keys are not the admin listener's tokens.
        let value = HeaderValue::from_static("Bearer realm=\"portico\", error=\"invalid_token\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, value);
    }
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn not_found() -> Refusal {
    Refusal::new(404, "not_found", "Not found", "There is nothing at this path.")
}

async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    let path = uri.path();
    let detail = format!("`{path}` does not know {method}; `Allow` says what it knows.");
    Refusal::new(405, "method_not_allowed", "Method not allowed", detail)
}

/// The guard has let somebody in whom a policy vouched for, and who has no key.
pub(super) fn key_needed() -> Refusal {
    let detail = "This manages the things of a key's org; call it with a key of the gateway.";
    Refusal::new(403, "key_needed", "A key is needed", detail)
}

#[cfg(test)]
mod tests;
