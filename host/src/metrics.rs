//! What Prometheus reads: the exposition at `GET /metrics` of the admin listener.
//!
//! Keeps no figure of its own and touches no request: each subject reads what is counted anyway, when it is asked. Another
//! subject is another file below and one line in [`Metrics::of`]. Every label comes from a bounded set: names of the
//! configuration, what a plugin declares, kinds of the code. Nothing that a client sends becomes one.

mod audit;
mod calls;
mod components;
mod family;
mod format;
mod journal;
mod keys;
mod policies;
mod process;
mod requests;
mod system;
mod traces;
mod webhooks;

pub use self::components::Components;
use self::family::Family;
pub use self::format::Format;
use crate::clock::Millis;
use crate::data::Database;
use crate::plugin::{Catalog, Outside};
use crate::requests::Requests;
use crate::usage::Names;
use crate::webhook::Webhooks;
use crate::worker::Gateway;
use axum::Router;
use axum::http::header::{ACCEPT, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What the subjects read.
pub struct Sources {
    /// What serves.
    pub gateway: Arc<Gateway>,
    /// The engines, and how much room they have.
    pub catalog: Arc<Catalog>,
    /// What policies keep.
    pub outside: Arc<Outside>,
    /// What became of components.
    pub components: Arc<Components>,
    /// Entries of the audit log that could not be written.
    pub unwritten_entries: Arc<AtomicU64>,
    /// Finished requests.
    pub requests: Arc<Requests>,
    /// The names of pillars and policies.
    pub names: Arc<Names>,
    /// Who is told of what happens.
    pub webhooks: Arc<Webhooks>,
    /// The database of the data directory.
    pub database: Database,
    /// When the gateway was started.
    pub started: Millis,
}

/// All subjects.
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// Everything that is told of a gateway.
    pub fn of(sources: Sources) -> Self {
        let Sources { gateway, catalog, outside, components, unwritten_entries, .. } = sources;
        let Sources { requests, names, webhooks, database, started, .. } = sources;
        let mut metrics = Self { registry: Registry::default() };
        metrics.add({
            let gateway = gateway.clone();
            move |family| process::tell(family, &gateway, &catalog, started)
        });
        metrics.add({
            let gateway = gateway.clone();
            move |family| journal::tell(family, &gateway.journal)
        });
        metrics.add({
            let gateway = gateway.clone();
            move |family| keys::tell(family, &gateway.keyring)
        });
        metrics.add({
            let (gateway, requests, names) = (gateway.clone(), requests.clone(), names.clone());
            move |family| requests::tell(family, &requests, &names, &gateway)
        });
        metrics.add({
            let requests = requests.clone();
            move |family| traces::tell(family, &requests)
        });
        metrics.add({
            let gateway = gateway.clone();
            move |family| calls::tell(family, &requests, &names, &gateway)
        });
        metrics.add(move |family| system::tell(family, &database));
        metrics.add(move |family| webhooks::tell(family, &webhooks));
        metrics.add(move |family| components.tell(family));
        metrics.add(move |family| audit::tell(family, &unwritten_entries));
        metrics.add(move |family| policies::tell(family, &gateway, &outside));
        metrics
    }

    fn add(&mut self, tell: impl Fn(&mut Family<'_>) -> fmt::Result + Send + Sync + 'static) {
        self.registry.register_collector(Box::new(Subject(tell)));
    }

    /// All figures of this moment. Takes locks that others hold for moments: never called on a worker.
    ///
    /// # Errors
    /// None that can come about: text is written into memory.
    pub fn text(&self, format: Format) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(format.of(text))
    }
}

/// One subject, for the registry.
struct Subject<F>(F);

impl<F> fmt::Debug for Subject<F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Subject")
    }
}

impl<F: Fn(&mut Family<'_>) -> fmt::Result + Send + Sync + 'static> Collector for Subject<F> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        (self.0)(&mut Family::new(encoder))
    }
}

/// `GET /metrics`; who may ask is settled before.
pub fn routes(metrics: Metrics) -> Router {
    let metrics = Arc::new(metrics);
    Router::new().route(
        "/metrics",
        get(move |fields: HeaderMap| {
            let metrics = metrics.clone();
            async move { answer(metrics, Format::wanted(fields.get_all(ACCEPT).iter().map(|value| value.as_bytes()))).await }
        }),
    )
}

async fn answer(metrics: Arc<Metrics>, format: Format) -> Response {
    let written = tokio::task::spawn_blocking(move || metrics.text(format)).await;
    match written {
        Ok(Ok(text)) => ([(CONTENT_TYPE, format.media_type()), (VARY, "accept")], text).into_response(),
        // The listener puts it into words.
        Ok(Err(_)) | Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
