//! The admin's own routes: keys and orgs; and who may come in.
//!
//! Only the super-admin's token opens it. Who keeps guessing is refused unheard for a while.

mod attempts;
mod keys;
pub(super) mod order;
mod plugins;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use self::attempts::Attempts;
pub use self::plugins::{Act, ActError, PluginControl, routes as plugin_routes};
use super::Refusal;
use crate::clock::Clock;
use crate::credential::{Issuer, bearer};
use crate::org::{Admins, Org, OrgStore};

/// The scopes that keys may have now: those of the configured pillars.
pub type KnownScopes = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// What the admin API works on; clones are cheap.
#[derive(Clone)]
pub struct AdminState {
    pub(super) issuer: Arc<Issuer>,
    pub(super) orgs: Arc<dyn OrgStore>,
    pub(super) admins: Arc<Admins>,
    pub(super) scopes: KnownScopes,
    pub(super) clock: Clock,
    attempts: Arc<Attempts>,
}

impl AdminState {
    /// An API over these.
    pub fn new(
        issuer: Arc<Issuer>,
        orgs: Arc<dyn OrgStore>,
        admins: Arc<Admins>,
        scopes: KnownScopes,
        clock: Clock,
    ) -> Self {
        Self { issuer, orgs, admins, scopes, clock, attempts: Arc::default() }
    }
}

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminState")
    }
}

pub(super) fn routes(state: AdminState) -> Router {
    Router::new()
        .route("/v1/keys", get(keys::list).post(keys::issue))
        .route("/v1/keys/{id}", get(keys::show).delete(keys::revoke))
        .route("/v1/orgs", get(orgs))
        .with_state(state)
}

/// Lets only the admin through.
pub(super) async fn admit(State(state): State<AdminState>, request: Request, next: Next) -> Response {
    match check(&state, &request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn check(state: &AdminState, request: &Request) -> Result<(), Refusal> {
    let mut fields = request.headers().get_all(AUTHORIZATION).iter();
    let Some(field) = fields.next() else {
        return Err(Refusal::new(
            401,
            "missing_authorization",
            "Missing authorization",
            "The admin API needs `Authorization: Bearer` with the admin token.",
        ));
    };
    let now = state.clock.now();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
    if let Some(wait) = state.attempts.wait(address, now) {
        let refusal = Refusal::new(
            429,
            "too_many_failed_logins",
            "Too many failed logins",
            "This address has shown too many wrong admin tokens; wait before trying the right one.",
        );
        return Err(refusal.retry_after(wait.as_secs().max(1)));
    }
    let token = bearer(field.as_bytes()).filter(|_| fields.next().is_none());
    if token.is_some_and(|token| state.admins.admit(token)) {
        return Ok(());
    }
    state.attempts.note_failure(address, now);
    tracing::warn!(%address, "someone showed a wrong admin token");
    Err(Refusal::new(
        401,
        "invalid_admin_token",
        "Invalid admin token",
        "This is not the admin token; it is in the file `admin-token` of the data directory, unless PORTICO_ADMIN_TOKEN gave it.",
    ))
}

/// `GET /v1/orgs`
async fn orgs(State(state): State<AdminState>) -> Result<Json<Value>, Refusal> {
    let orgs = state.orgs.all().await.map_err(|error| Refusal::failed(&error))?;
    let document = |org: &Org| json!({"id": org.id, "slug": org.slug, "name": org.name, "created_at": org.created});
    Ok(Json(json!({"orgs": orgs.iter().map(document).collect::<Vec<_>>(), "next_cursor": null})))
}
