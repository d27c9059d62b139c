//! The control API: what every answer of the admin listener has in common.
//!
//! Each answer has an `x-request-id`, each refusal is a problem document, and nothing is answered to whoever shows no
//! admin token. What pillars are asked never comes through here; what clients ask the gateway itself does, in [`public`].

mod actor;
pub mod admin;
mod body;
mod fields;
mod once;
mod paging;
pub mod public;
mod reads;
mod refusal;
mod requests;
mod rights;
mod shapes;
mod usage;

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue, Method, Uri};
use axum::middleware::{self, Next};
use axum::response::Response;
use tokio::net::TcpListener;

pub use self::actor::{Actor, By};
pub use self::admin::{
    Act, ActError, AdminState, Desks, KnownScopes, PluginControl, backup_routes, erase_routes, export_routes,
    plugin_routes,
};
pub use self::admin::{Applied, ConfigControl, ConfigError, KeepReset, Kept, config_routes, limit_routes};
use self::body::toml_text;
pub use self::body::{LIMIT, json_object, optional_json_object};
use self::paging::Paging;
pub use self::public::{PublicState, public_router};
pub use self::reads::Reads;
pub use self::refusal::Refusal;
pub use self::requests::routes as request_routes;
pub use self::rights::{Action, Extent};
pub use self::usage::routes as usage_routes;
use crate::id::RequestId;
use crate::problem::{MEDIA_TYPE, Problem};

/// What costs are in.
const CURRENCY: &str = "USD";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The admin API with further routes, behind the same tokens and with the same kind of refusals: a handler may answer
/// `Result<_, Refusal>`, and the id of the request is an extension of type [`RequestId`].
///
/// Those of the whole gateway are closed to whoever is confined to an org. Those that are open take the [`Actor`] among the
/// extensions, and see to it themselves.
pub fn router_with(state: AdminState, whole: Router, open: Router) -> Router {
    admin::routes(state.clone())
        .merge(whole.route_layer(middleware::from_fn(admin::whole_gateway)))
        .merge(open)
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(state.clone(), admin::admit))
        .layer(middleware::from_fn_with_state(state, dress))
}

/// Serves a router on a listener until `stop` is ready; answers under way are finished.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(stop).await
}

/// Gives the request its id, and the answer what all answers have.
async fn dress(State(state): State<AdminState>, mut request: Request, next: Next) -> Response {
    let now = state.clock.now();
    // Without chance two ids could be the same, which is no reason to leave the operator without an answer.
    let id = RequestId::fresh(now).unwrap_or_else(|_| RequestId::from_number(u128::from(now.0) << 80));
    request.extensions_mut().insert(id);
    let mut response = worded(next.run(request).await, Some(id));
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id.as_header());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The answer, with a problem document where it refuses.
fn worded(mut response: Response, id: Option<RequestId>) -> Response {
    let is_problem = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == MEDIA_TYPE);
    let status = response.status();
    let refused = response.extensions_mut().remove::<Problem>();
    let unworded = || (status.as_u16() >= 400 && !is_problem).then(|| refusal::unworded(status));
    let Some(mut problem) = refused.or_else(unworded) else { return response };
    if let Some(id) = id {
        problem = problem.instance(id.to_string());
    }
    refusal::render(problem, &response)
}

async fn not_found(uri: Uri) -> Refusal {
    let path = uri.path();
    Refusal::new(404, "not_found", "Not found", format!("The admin API has nothing at `{path}`."))
}

async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    let path = uri.path();
    let detail = format!("`{path}` does not know {method}; `Allow` says what it knows.");
    Refusal::new(405, "method_not_allowed", "Method not allowed", detail)
}

#[cfg(test)]
pub(crate) mod tests;
