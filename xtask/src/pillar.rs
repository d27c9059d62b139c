//! Two demo pillars: small, real HTTP services for the gateway to stand in front of.
//!
//! They keep everything in memory and know nothing of keys: who calls, they learn from the gateway's signed assertion.

mod caller;
mod connect;
mod knowledge;

use std::net::SocketAddr;

use anyhow::{Context, Result};
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;

use caller::Verifier;
pub use knowledge::TOKEN;

/// The largest body that a demo pillar reads, in bytes.
const LARGEST_BODY: usize = 16 * 1024;

/// A demo pillar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Name {
    /// Rooms, and a stream of their events.
    Connect,
    /// Certificates, and a public route that verifies them.
    Knowledge,
}

impl Name {
    /// As in the gateway's configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Name::Connect => "connect",
            Name::Knowledge => "knowledge",
        }
    }

    /// Where it listens unless told otherwise; the same as in `config/gateway.toml`.
    pub fn address(self) -> SocketAddr {
        let port = match self {
            Name::Connect => 9201,
            Name::Knowledge => 9202,
        };
        SocketAddr::from(([127, 0, 0, 1], port))
    }
}

/// Serves one pillar until it fails. `gateway` is asked for the keys of its assertions.
pub async fn serve(name: Name, listen: SocketAddr, gateway: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).await;
    let listener = listener.with_context(|| format!("the demo pillar {} cannot listen on {listen}", name.as_str()))?;
    serve_on(listener, name, gateway).await
}

/// As [`serve`], on a listener that stands already.
pub async fn serve_on(listener: TcpListener, name: Name, gateway: SocketAddr) -> Result<()> {
    let verifier = Verifier::new(gateway, name.as_str());
    let routes: Router = match name {
        Name::Connect => connect::routes(verifier),
        Name::Knowledge => knowledge::routes(verifier),
    };
    let routes = routes
        .fallback(async || Refusal::not_found("there is nothing here"))
        .layer(DefaultBodyLimit::max(LARGEST_BODY));
    axum::serve(listener, routes).await.with_context(|| format!("the demo pillar {} stopped", name.as_str()))
}

/// Runs one pillar in the foreground.
pub fn run(name: Name, listen: Option<SocketAddr>, gateway: SocketAddr) -> Result<()> {
    let listen = listen.unwrap_or(name.address());
    eprintln!("demo pillar {} listens on http://{listen}; Ctrl-C stops it", name.as_str());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(name, listen, gateway))
}

/// A refusal, in the shape that the gateway's own have.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    error: &'static str,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, error: &'static str, message: impl Into<String>) -> Self {
        Self { status, error, message: message.into() }
    }

    fn not_found(message: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { status, error, message } = self;
        let body =
            json!({"title": status.canonical_reason(), "status": status.as_u16(), "error": error, "message": message});
        (status, [("content-type", "application/problem+json")], body.to_string()).into_response()
    }
}

/// A body that is the JSON value itself.
fn answer(status: StatusCode, value: serde_json::Value) -> Response {
    (status, Json(value)).into_response()
}

#[cfg(test)]
mod documented;
#[cfg(test)]
mod tests;
