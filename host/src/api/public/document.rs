//! The API's own documentation: OpenAPI 3.1, made from its handlers, their types and the refusals that they can come to.

mod pages;
mod problem;

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::{PublicState, errors, me, usage, yaml};
use crate::api::admin::{deliveries, keys, life, webhooks};
use crate::api::{requests, shapes, usage as detail};
use crate::snapshot::Snapshot;
use crate::snapshot::own::{ENDPOINTS, Endpoint, IDENTITY, Needs, is_served};

#[derive(OpenApi)]
#[openapi(
    paths(
        me::me, usage::month, usage::history, detail::list, requests::show, requests::list, keys::list, keys::issue, keys::show, life::revoke, life::rotate, life::scope,
        webhooks::list, webhooks::create, webhooks::show, webhooks::change, webhooks::delete,
        deliveries::rotate, deliveries::test, deliveries::deliveries,
        self::json, self::yaml,
    ),
    components(schemas(
        shapes::KeyOrder, shapes::RotationOrder, shapes::ScopeOrder,
        shapes::webhook::WebhookOrder, shapes::webhook::WebhookEdit, shapes::webhook::SecretOrder,
    )),
    tags(
        (name = "identity", description = "Who you are."),
        (name = "usage", description = "What your org used."),
        (name = "keys", description = "Keys of your org, managed by a key that may."),
        (name = "webhooks", description = "Who is told of what happens in your org."),
        (name = "gateway", description = "The gateway itself; none of it needs a key."),
    ),
)]
struct Own;

/// The document of the configuration that serves, in both spellings.
#[derive(Default)]
pub(super) struct Rendered(Mutex<Option<Arc<Both>>>);

struct Both {
    generation: u64,
    json: Bytes,
    yaml: Bytes,
    etag: [HeaderValue; 2],
}

/// This document
///
/// OpenAPI 3.1. `ETag` is its digest: another one means that something else is documented.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "openapi.json",
    tag = "gateway",
    params(("if-none-match" = Option<String>, Header, description = "The `ETag` of a copy that is there already.", example = "\"0\"")),
    responses(
        (status = 200, description = "The document.", content_type = "application/json", body = Object, example = json!({"openapi": "3.1.0"})),
        (status = 304, description = "The copy is still the same."),
    ),
)]
pub(super) async fn json(State(state): State<PublicState>, request: Request) -> Response {
    let both = state.rendered.of(&state.gateway.live.load());
    answer(request.headers(), &both.etag[0], "application/json", &both.json)
}

/// This document, as YAML
///
/// The same as `/openapi.json`.
#[utoipa::path(
    get,
    path = "/openapi.yaml",
    operation_id = "openapi.yaml",
    tag = "gateway",
    params(("if-none-match" = Option<String>, Header, description = "The `ETag` of a copy that is there already.", example = "\"0\"")),
    responses(
        (status = 200, description = "The document.", content_type = "application/yaml", body = Object, example = json!({"openapi": "3.1.0"})),
        (status = 304, description = "The copy is still the same."),
    ),
)]
pub(super) async fn yaml(State(state): State<PublicState>, request: Request) -> Response {
    let both = state.rendered.of(&state.gateway.live.load());
    answer(request.headers(), &both.etag[1], "application/yaml", &both.yaml)
}

fn answer(asked: &HeaderMap, etag: &HeaderValue, media: &'static str, body: &Bytes) -> Response {
    let known = |value: &HeaderValue| {
        let tags = value.as_bytes().split(|byte| *byte == b',').map(|tag| tag.trim_ascii());
        // Weak or strong: it is compared weakly (RFC 9110, section 13.1.2).
        tags.map(|tag| tag.strip_prefix(b"W/").unwrap_or(tag)).any(|tag| tag == b"*" || tag == etag.as_bytes())
    };
    let cache = HeaderValue::from_static("public, max-age=0, must-revalidate");
    let fields = [(ETAG, etag.clone()), (CACHE_CONTROL, cache)];
    if asked.get_all(IF_NONE_MATCH).iter().any(known) {
        return (StatusCode::NOT_MODIFIED, fields).into_response();
    }
    (fields, [(CONTENT_TYPE, media)], body.clone()).into_response()
}

impl Rendered {
    /// Made anew only for another configuration.
    fn of(&self, snapshot: &Snapshot) -> Arc<Both> {
        // Whole or not there, whatever its holder was interrupted in.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(both) = kept.as_ref().filter(|both| both.generation == snapshot.generation) {
            return both.clone();
        }
        let document = document(&snapshot.config);
        let json = Bytes::from(document.to_string());
        let yaml = Bytes::from(yaml::written(&document));
        let etag = [&json, &yaml].map(|bytes| digest(bytes));
        let both = Arc::new(Both { generation: snapshot.generation, json, yaml, etag });
        *kept = Some(both.clone());
        both
    }
}

fn digest(bytes: &[u8]) -> HeaderValue {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let digits: String = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::try_from(format!("\"{digits}\"")).expect("digits in quotes are a value")
}

/// A digest of the document for a configuration: another one means that something else is documented.
pub fn fingerprint(config: &crate::config::Config) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, document(config).to_string().as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The whole document for a configuration.
pub(super) fn document(config: &crate::config::Config) -> Value {
    let mut document = serde_json::to_value(Own::openapi()).expect("a document without maps by numbers can be written");
    document["info"] = json!({
        "title": config.gateway.name,
        "version": env!("CARGO_PKG_VERSION"),
        "description": "The gateway's own API. One key for everything, in the field `Authorization`. Errors are problem documents \
            (RFC 9457): rely on `error`. Policies that the operator added may refuse with codes of their own, 400 to 499 or 503, \
            in the same shape.",
    });
    document["servers"] = json!([{"url": "/"}]);
    let components = &mut document["components"];
    components["schemas"]["Problem"] = problem::schema();
    components["securitySchemes"] = json!({"key": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "sk_live_… or sk_sandbox_…",
        "description": "A key of the gateway. Operations name the management scope that it must hold.",
    }});
    if ENDPOINTS.iter().any(|endpoint| endpoint.base == IDENTITY && is_served(endpoint, config)) {
        let mut operation = document["paths"]["/v1/me"]["get"].clone();
        operation["operationId"] = "identity.me".into();
        document["paths"][IDENTITY] = json!({"get": operation});
    }
    // What it would say is the default.
    for path in ["/v1/keys/{id}/rotate", "/v1/webhooks/{id}/rotate"] {
        document["paths"][path]["post"]["requestBody"]["required"] = false.into();
    }
    for endpoint in ENDPOINTS.iter().filter(|endpoint| is_served(endpoint, config)) {
        let method = endpoint.method.to_ascii_lowercase();
        finish(&mut document["paths"][endpoint.path()][method], endpoint);
    }
    for (path, item) in pages::items() {
        document["paths"][path] = item;
    }
    document
}

/// Adds what all operations have in common: who may use it, the fields of answers, and every refusal.
fn finish(operation: &mut Value, endpoint: &Endpoint) {
    operation["security"] = match endpoint.needs {
        Needs::Nothing => json!([]),
        Needs::Principal | Needs::Management(_) => json!([{"key": []}]),
    };
    if let Needs::Management(any) = endpoint.needs {
        let scopes: Vec<_> = any.iter().map(|scope| format!("`{}`", scope.name())).collect();
        let before = operation["description"].as_str().unwrap_or_default();
        operation["description"] = format!("{before}\n\nNeeds a key with the scope {}.", scopes.join(" or ")).into();
    }
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    for response in responses.values_mut() {
        let headers = response["headers"].take();
        response["headers"] = Value::Object(problem::fields(headers));
    }
    let mut by_status: Map<String, Value> = Map::new();
    for told in errors::of(endpoint) {
        let response = by_status.entry(told.status.to_string()).or_insert_with(|| problem::response(told.status));
        problem::add(response, told.code, told.document);
    }
    responses.extend(by_status);
}
