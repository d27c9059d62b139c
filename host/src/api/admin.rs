//! The admin's own routes: keys, orgs, tokens, peppers and the audit log; and who may come in.
//!
//! The super-admin's token opens all of it, a token with a role what the role may. Who keeps guessing is refused unheard for
//! a while.

mod attempts;
mod audit;
mod backup;
mod configuration;
pub(super) mod deliveries;
mod erase;
mod export;
mod import;
pub(super) mod keys;
pub(super) mod life;
mod limits;
pub(super) mod order;
mod orgs;
mod peppers;
mod plugins;
mod stream;
mod tokens;
pub(super) mod webhooks;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post};

use self::attempts::{Attempts, NOWHERE};
pub use self::backup::routes as backup_routes;
pub use self::configuration::{Applied, ConfigControl, ConfigError, routes as config_routes};
pub use self::erase::routes as erase_routes;
pub use self::export::routes as export_routes;
pub use self::limits::{KeepReset, Kept, routes as limit_routes};
pub use self::plugins::{Act, ActError, PluginControl, routes as plugin_routes};
use super::actor::{Actor, By};
use super::once::once;
use super::rights::Action;
use super::{Paging, Reads, Refusal};
use crate::audit::AuditStore;
use crate::clock::Clock;
use crate::credential::{Issuer, PepperDesk, bearer};
use crate::idempotency::Repeats;
use crate::org::{Admins, Login, Org, OrgStore, Tokens};
use crate::webhook::Webhooks;

/// The scopes that keys may have now: those of the configured pillars.
pub type KnownScopes = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// Where what the control API changes is made and kept.
#[derive(Debug, Clone)]
pub struct Desks {
    /// Keys.
    pub issuer: Arc<Issuer>,
    /// Orgs.
    pub orgs: Arc<dyn OrgStore>,
    /// The super-admin.
    pub admins: Arc<Admins>,
    /// Tokens with roles.
    pub tokens: Arc<Tokens>,
    /// Peppers.
    pub peppers: Arc<PepperDesk>,
    /// The audit log.
    pub audit: Arc<dyn AuditStore>,
    /// Webhooks.
    pub webhooks: Arc<Webhooks>,
    /// Requests that may come again.
    pub repeats: Repeats,
}

/// Pages of the audit log and sums of usage that are read at once.
const READS: usize = 32;

/// What the admin API works on; clones are cheap.
#[derive(Clone)]
pub struct AdminState {
    pub(super) desks: Desks,
    pub(super) scopes: KnownScopes,
    pub(super) clock: Clock,
    attempts: Arc<Attempts>,
    reads: Reads,
    /// Looking at the whole audit log takes a while.
    verifying: Reads,
}

impl AdminState {
    /// An API over these.
    pub fn new(desks: Desks, scopes: KnownScopes, clock: Clock) -> Self {
        Self { desks, scopes, clock, attempts: Arc::default(), reads: Reads::most(READS), verifying: Reads::most(1) }
    }

    /// The places for what is read at length.
    pub fn reads(&self) -> Reads {
        self.reads.clone()
    }

    /// The org with this slug or id, where it is there for whoever asks.
    async fn org(&self, actor: &Actor, slug_or_id: &str) -> Result<Option<Org>, Refusal> {
        let org = self.desks.orgs.find(slug_or_id).await.map_err(|error| Refusal::failed(&error))?;
        Ok(org.filter(|org| actor.sees(org.id)))
    }

    /// The orgs that are there for whoever asks: all of them are read only for those who see all.
    pub(super) async fn orgs(&self, actor: &Actor) -> Result<Vec<Org>, Refusal> {
        let orgs = &self.desks.orgs;
        let found = match actor.org() {
            Some(own) => orgs.find(&own.to_string()).await.map(|org| org.into_iter().collect()),
            None => orgs.all().await,
        };
        found.map_err(|error| Refusal::failed(&error))
    }
}

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminState")
    }
}

pub(super) fn routes(state: AdminState) -> Router {
    Router::new()
        // The public listener has the same handlers about keys, by its own table of operations.
        .route("/v1/keys", get(keys::list).post(keys::issue))
        .route("/v1/keys/{id}", get(keys::show).delete(life::revoke))
        .route("/v1/keys/{id}/rotate", post(life::rotate))
        .route("/v1/keys/{id}/scope", patch(life::scope))
        .route("/v1/keys/import", post(import::import))
        .route("/v1/peppers", get(peppers::list).post(peppers::rotate))
        .route("/v1/peppers/{version}", delete(peppers::retire))
        .route("/v1/orgs", get(orgs::list).post(orgs::create))
        .route("/v1/orgs/{org}", get(orgs::show).patch(orgs::rename))
        .route("/v1/tokens", get(tokens::list).post(tokens::issue))
        .route("/v1/tokens/{id}", get(tokens::show).delete(tokens::revoke))
        .route("/v1/webhooks", get(webhooks::list).post(webhooks::create))
        .route("/v1/webhooks/{id}", get(webhooks::show).patch(webhooks::change).delete(webhooks::delete))
        .route("/v1/webhooks/{id}/rotate", post(deliveries::rotate))
        .route("/v1/webhooks/{id}/test", post(deliveries::test))
        .route("/v1/webhooks/{id}/deliveries", get(deliveries::deliveries))
        .route("/v1/audit", get(audit::list))
        .route("/v1/audit/verify", get(audit::verify))
        .route_layer(middleware::from_fn_with_state(state.clone(), once))
        .with_state(state)
}

/// Lets whoever shows a valid token through, and says to the handlers who that is.
pub(super) async fn admit(State(state): State<AdminState>, mut request: Request, next: Next) -> Response {
    match check(&state, &request) {
        Ok(actor) => {
            request.extensions_mut().insert(actor);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// Closes routes that know nothing of actors to whoever is confined to an org.
pub(super) async fn whole_gateway(request: Request, next: Next) -> Response {
    let may = request.extensions().get::<Actor>().map(|actor| actor.may(Action::ManageGateway));
    match may {
        Some(Ok(_)) => next.run(request).await,
        Some(Err(refusal)) => refusal.into_response(),
        // Nobody comes this far without having been admitted.
        None => nobody().into_response(),
    }
}

fn nobody() -> Refusal {
    Refusal::new(
        401,
        "missing_authorization",
        "Missing authorization",
        "The admin API needs `Authorization: Bearer` with an admin token.",
    )
}

/// 401: this token was one.
pub(super) fn revoked() -> Refusal {
    over("admin_token_revoked", "This admin token was revoked; use another one.")
}

fn over(code: &'static str, detail: &'static str) -> Refusal {
    Refusal::new(401, code, "Admin token no longer valid", detail)
}

fn check(state: &AdminState, request: &Request) -> Result<Actor, Refusal> {
    let mut fields = request.headers().get_all(AUTHORIZATION).iter();
    let Some(field) = fields.next() else { return Err(nobody()) };
    let now = state.clock.now();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let known = peer.map(|peer| peer.0.ip());
    let address = known.unwrap_or(NOWHERE);
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
    let actor = |by| Ok(Actor { by, address: known });
    if let Some(token) = token {
        if state.desks.admins.admit(token) {
            return actor(By::SuperAdmin);
        }
        match state.desks.tokens.login(token) {
            Login::Valid(token) => return actor(By::Token(token)),
            Login::Expired => {
                return Err(over("admin_token_expired", "The time of this admin token is over; use another one."));
            }
            Login::Revoked => return Err(revoked()),
            Login::Unknown => {}
        }
    }
    state.attempts.note_failure(address, now);
    tracing::warn!(%address, "someone showed a wrong admin token");
    Err(Refusal::new(
        401,
        "invalid_admin_token",
        "Invalid admin token",
        "This is no admin token. The super-admin's is in the file `admin-token` of the data directory, unless PORTICO_ADMIN_TOKEN gave it.",
    ))
}
