//! The API's own documentation: OpenAPI 3.1, made from its handlers, their types and the refusals that they can come to.

mod pages;
mod pillars;
mod problem;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

pub use self::pillars::Parts;
use super::{LARGEST_ANSWER, PublicState, errors, me, usage, yaml};
use crate::api::admin::{deliveries, keys, life, webhooks};
use crate::api::{Refusal, requests, shapes, usage as detail};
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
pub(super) struct Rendered {
    now: Mutex<Option<Arc<Both>>>,
    /// One makes it, and others wait for that.
    making: Mutex<()>,
}

struct Both {
    generation: u64,
    written: Written,
    etag: [HeaderValue; 2],
}

/// The whole document, in both spellings.
struct Written {
    json: Bytes,
    yaml: Bytes,
    /// What of the pillars' documents is not in it, as sentences.
    left_out: Vec<String>,
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
pub(super) async fn json(State(state): State<PublicState>, request: Request) -> Result<Response, Refusal> {
    let both = state.both().await?;
    Ok(answer(request.headers(), &both.etag[0], "application/json", &both.written.json))
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
pub(super) async fn yaml(State(state): State<PublicState>, request: Request) -> Result<Response, Refusal> {
    let both = state.both().await?;
    Ok(answer(request.headers(), &both.etag[1], "application/yaml", &both.written.yaml))
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

impl PublicState {
    /// That of the configuration that serves. Large documents take a while to be made, so that is done beside all else.
    async fn both(&self) -> Result<Arc<Both>, Refusal> {
        let snapshot = self.gateway.live.load_full();
        if let Some(both) = self.rendered.known(snapshot.generation) {
            return Ok(both);
        }
        let rendered = self.rendered.clone();
        let made = tokio::task::spawn_blocking(move || rendered.of(&snapshot)).await;
        // Cut off only when the gateway ends.
        made.map_err(|_| Refusal::store_unavailable())
    }
}

impl Rendered {
    fn known(&self, generation: u64) -> Option<Arc<Both>> {
        // Whole or not there, whatever its holder was interrupted in.
        let kept = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().filter(|both| both.generation == generation).cloned()
    }

    /// Made anew only for another configuration, or where the document of a pillar is another.
    fn of(&self, snapshot: &Snapshot) -> Arc<Both> {
        let _one = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(both) = self.known(snapshot.generation) {
            return both;
        }
        let written = written(snapshot.into());
        let etag = [&written.json, &written.yaml].map(|bytes| digest(bytes));
        let both = Arc::new(Both { generation: snapshot.generation, written, etag });
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = Some(both.clone());
        both
    }
}

fn digest(bytes: &[u8]) -> HeaderValue {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let digits: String = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::try_from(format!("\"{digits}\"")).expect("digits in quotes are a value")
}

/// What the document says, in digests: another one means that something else is documented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// Of the whole.
    pub whole: String,
    /// Of what each pillar with a document adds to it, by name.
    pub pillars: BTreeMap<String, String>,
}

/// The digests of the document that is made of these.
pub fn fingerprint(parts: Parts<'_>) -> Fingerprint {
    let hash = |bytes: &[u8]| {
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let of_pillar = |name: &String| {
        let alone = parts.documents.get(name).map(|document| [(name.clone(), document.clone())].into());
        let mut added = json!({"paths": {}, "components": {}, "tags": []});
        pillars::add(&mut added, Parts { documents: &alone.unwrap_or_default(), ..parts }, &BTreeSet::new());
        (name.clone(), hash(added.to_string().as_bytes()))
    };
    Fingerprint { whole: hash(&written(parts).json), pillars: parts.documents.keys().map(of_pillar).collect() }
}

/// What of the pillars' documents is not in the whole, as sentences.
pub fn left_out(parts: Parts<'_>) -> Vec<String> {
    // Most gateways have none.
    if parts.documents.is_empty() { Vec::new() } else { written(parts).left_out }
}

/// The whole, with the documents of as many pillars as fit.
fn written(parts: Parts<'_>) -> Written {
    written_within(parts, LARGEST_ANSWER)
}

fn written_within(parts: Parts<'_>, largest: usize) -> Written {
    let with = |without: &BTreeSet<usize>| {
        let mut document = document(parts.config);
        let left_out = pillars::add(&mut document, parts, without);
        let (json, yaml) = (Bytes::from(document.to_string()), Bytes::from(yaml::written(&document)));
        (json.len().max(yaml.len()) <= largest, Written { json, yaml, left_out })
    };
    let (fits, all) = with(&BTreeSet::new());
    if fits {
        return all;
    }
    drop(all);
    // One after the other: what is too large takes nobody away but itself.
    let mut without: BTreeSet<usize> = (0..parts.documents.len()).collect();
    for number in 0..parts.documents.len() {
        without.remove(&number);
        if !with(&without).0 {
            without.insert(number);
        }
    }
    with(&without).1
}

/// The gateway's own document for a configuration.
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
    if endpoint.is_done_once() {
        problem::add_idempotency(operation);
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
