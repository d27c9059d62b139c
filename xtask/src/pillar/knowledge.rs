//! The demo pillar `knowledge`: certificates, and a public route that verifies one by the token of its QR code.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};

use super::caller::Verifier;
use super::{Refusal, answer};

/// A token that verifies.
pub const TOKEN: &str = "qr-4hX9mT2v";

struct Certificate {
    id: &'static str,
    token: &'static str,
    holder: &'static str,
    course: &'static str,
    issued: &'static str,
}

const CERTIFICATES: [Certificate; 2] = [
    Certificate {
        id: "cert-1",
        token: TOKEN,
        holder: "Ines Okafor",
        course: "Masonry: arches and vaults",
        issued: "2026-03-14",
    },
    Certificate {
        id: "cert-2",
        token: "qr-Zb71KcQe",
        holder: "Tomas Lindqvist",
        course: "Surveying for beginners",
        issued: "2026-06-02",
    },
];

impl Certificate {
    /// What anyone may know. The token is the holder's to show, and is never listed.
    fn facts(&self) -> Value {
        json!({"id": self.id, "holder": self.holder, "course": self.course, "issued": self.issued})
    }
}

/// `GET /certificates`, `GET /certificates/{id}`, and the public `GET /verify/{token}`.
pub fn routes(verifier: Verifier) -> Router {
    Router::new()
        .route("/certificates", get(list))
        .route("/certificates/{id}", get(one))
        .route("/verify/{token}", get(verify))
        .with_state(Arc::new(verifier))
}

async fn list(State(verifier): State<Arc<Verifier>>, headers: HeaderMap) -> Result<Response, Refusal> {
    let caller = verifier.caller(&headers).await?;
    let certificates: Vec<Value> = CERTIFICATES.iter().map(Certificate::facts).collect();
    Ok(answer(StatusCode::OK, json!({"certificates": certificates, "caller": caller})))
}

async fn one(
    State(verifier): State<Arc<Verifier>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let caller = verifier.caller(&headers).await?;
    let certificate = CERTIFICATES.iter().find(|certificate| certificate.id == id);
    let certificate = certificate.ok_or_else(|| Refusal::not_found("there is no such certificate"))?;
    Ok(answer(StatusCode::OK, json!({"certificate": certificate.facts(), "caller": caller})))
}

async fn verify(Path(token): Path<String>) -> Response {
    match CERTIFICATES.iter().find(|certificate| certificate.token == token) {
        Some(certificate) => answer(StatusCode::OK, json!({"valid": true, "certificate": certificate.facts()})),
        None => answer(StatusCode::NOT_FOUND, json!({"valid": false})),
    }
}
