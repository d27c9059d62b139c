//! The gateway's own API for clients, on the control runtime: what the workers hand in through [`crate::inner`].
//!
//! Whoever comes here has passed the policies, the guard and the limits; another org's things are nowhere to be found.

mod document;
mod errors;
mod keys;
mod me;
mod shapes;
mod usage;
mod within;
mod yaml;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts, Request};
use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Uri};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tower_service::Service;

use self::document::Rendered;
use super::admin::{AdminState, KnownScopes};
use super::{Refusal, worded};
use crate::clock::Clock;
use crate::credential::Issuer;
use crate::id::RequestId;
use crate::inner::{Ask, Asker};
use crate::key::Key;
use crate::org::OrgStore;
use crate::snapshot::own::ENDPOINTS;
use crate::usage::UsageStore;
use crate::worker::Gateway;

/// Requests that are worked on at once.
const AT_ONCE: usize = 64;
/// The most bytes of an answer.
const LARGEST_ANSWER: usize = 16 << 20;

/// What the API works on; clones are cheap.
#[derive(Clone)]
pub struct PublicState {
    issuer: Arc<Issuer>,
    orgs: Arc<dyn OrgStore>,
    scopes: KnownScopes,
    usage: Arc<dyn UsageStore>,
    gateway: Arc<Gateway>,
    clock: Clock,
    rendered: Arc<Rendered>,
}

impl PublicState {
    /// An API over the same as the admin API, and over usage and a gateway.
    pub fn new(admin: &AdminState, usage: Arc<dyn UsageStore>, gateway: Arc<Gateway>) -> Self {
        let (issuer, orgs, scopes) = (admin.issuer.clone(), admin.orgs.clone(), admin.scopes.clone());
        let clock = admin.clock.clone();
        Self { issuer, orgs, scopes, usage, gateway, clock, rendered: Arc::default() }
    }
}

impl fmt::Debug for PublicState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicState")
    }
}

/// The handler of each operation, in the order of [`ENDPOINTS`].
fn handlers() -> [MethodRouter<PublicState>; ENDPOINTS.len()] {
    [
        get(me::me),
        get(me::me),
        get(usage::month),
        get(usage::history),
        get(keys::list),
        post(keys::issue),
        get(keys::show),
        delete(keys::revoke),
        get(document::json),
        get(document::yaml),
    ]
}

/// The API.
pub fn public_router(state: PublicState) -> Router {
    let routes = ENDPOINTS.iter().zip(handlers());
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

/// What all answers have in common.
async fn dress(request: Request, next: Next) -> Response {
    let id = request.extensions().get::<RequestId>().copied();
    let mut response = worded(next.run(request).await, id);
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

/// The key by which somebody asks: what is managed here belongs to its org.
struct ByKey(Arc<Key>);

impl<S: Sync> FromRequestParts<S> for ByKey {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        match parts.extensions.get::<Asker>() {
            Some(Asker::Key(key)) => Ok(Self(key.clone())),
            Some(Asker::Claimed(_) | Asker::Anyone) | None => Err(key_needed()),
        }
    }
}

/// The guard has let somebody in whom a policy vouched for, and who has no key.
fn key_needed() -> Refusal {
    let detail = "This manages the things of a key's org; call it with a key of the gateway.";
    Refusal::new(403, "key_needed", "A key is needed", detail)
}

#[cfg(test)]
mod tests;
