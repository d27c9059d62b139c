//! Chooses an endpoint of an upstream and sends a request to it, over connections that are kept.
//!
//! Connections belong to one worker; only the health of endpoints is shared. A request is sent again only if it never
//! left this process.

mod pool;

pub use pool::{Lease, Pools};

use crate::config;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

/// Failed connections in a row after which an endpoint is taken for down.
const FAILURES_TO_DOWN: u32 = 3;

/// A named group of endpoints, as requests see it.
#[derive(Debug)]
pub struct Upstream {
    /// Its name.
    pub name: String,
    /// Its endpoints; at least one.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// Until a connection stands.
    pub connect_timeout: Duration,
    /// Until the head of the response.
    pub response_timeout: Duration,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// The most connections of one worker to each endpoint.
    pub connections: usize,
}

/// One address, and how it does. Outlives configurations.
#[derive(Debug)]
pub struct Endpoint {
    /// `host:port`
    pub authority: Arc<str>,
    /// An address or a name.
    pub host: String,
    /// The port.
    pub port: u16,
    failures: AtomicU32,
    known: AtomicU8,
}

/// How an upstream does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// All of its endpoints answer.
    Live,
    /// Some of its endpoints answer.
    Degraded,
    /// None of its endpoints answers.
    Down,
}

/// Why an upstream did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection could be made.
    #[error("no connection could be made")]
    Unreachable,
    /// All connections are busy.
    #[error("all connections are busy")]
    Overloaded,
    /// It took too long.
    #[error("it took too long to answer")]
    TimedOut,
    /// It broke off, or did not speak HTTP.
    #[error("it broke off before the head of its answer")]
    Broke,
    /// The client's own body was malformed or ended early.
    #[error("the client's body was malformed or ended early")]
    BrokenUpload,
}

impl Failure {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Unreachable, Self::Overloaded, Self::TimedOut, Self::Broke, Self::BrokenUpload];

    /// Its name in metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Overloaded => "overloaded",
            Self::TimedOut => "timed_out",
            Self::Broke => "broke",
            Self::BrokenUpload => "broken_upload",
        }
    }
}

impl Endpoint {
    fn new(written: &config::Endpoint) -> Self {
        Self {
            authority: written.authority.clone(),
            host: written.host.clone(),
            port: written.port,
            failures: AtomicU32::new(0),
            known: AtomicU8::new(0),
        }
    }

    /// Whether connections are worth trying.
    pub fn is_up(&self) -> bool {
        self.failures.load(Ordering::Relaxed) < FAILURES_TO_DOWN
    }

    /// A connection was made.
    pub fn reached(&self) {
        // Read before write: in calm times this line is shared by all workers and must stay clean.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        if self.known.load(Ordering::Relaxed) == 0 {
            self.known.store(1, Ordering::Relaxed);
        }
    }

    /// A connection could not be made.
    pub fn missed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// The first look at an endpoint counts at once: a gateway that just started must not call a dead one live.
    pub fn missed_by_probe(&self) {
        if self.known.swap(1, Ordering::Relaxed) == 0 {
            self.failures.store(FAILURES_TO_DOWN, Ordering::Relaxed);
        } else {
            self.missed();
        }
    }
}

impl Upstream {
    /// The upstream as configured; endpoints that `earlier` knew keep their health.
    pub fn build(written: &config::Upstream, workers: usize, earlier: &[Arc<Upstream>]) -> Self {
        let known = |authority: &str| {
            let mut all = earlier.iter().flat_map(|upstream| &upstream.endpoints);
            all.find(|endpoint| *endpoint.authority == *authority).cloned()
        };
        let endpoint = |written| {
            known(&config::Endpoint::clone(written).authority).unwrap_or_else(|| Arc::new(Endpoint::new(written)))
        };
        Self {
            name: written.name.clone(),
            endpoints: written.endpoints.iter().map(endpoint).collect(),
            connect_timeout: written.connect_timeout,
            response_timeout: written.response_timeout,
            idle_timeout: written.idle_timeout,
            connections: written.connections.div_ceil(workers.max(1)),
        }
    }

    /// How it does.
    pub fn health(&self) -> Health {
        let up = self.endpoints.iter().filter(|endpoint| endpoint.is_up()).count();
        match up {
            0 => Health::Down,
            all if all == self.endpoints.len() => Health::Live,
            _ => Health::Degraded,
        }
    }
}

/// Tries a connection to each endpoint, so that health is known before requests come and after they stopped.
pub async fn probe(upstreams: &[Arc<Upstream>]) {
    let tries = upstreams.iter().flat_map(|upstream| {
        let timeout = upstream.connect_timeout;
        upstream.endpoints.iter().map(move |endpoint| (endpoint.clone(), timeout))
    });
    let tries = tries.map(|(endpoint, timeout)| {
        tokio::spawn(async move {
            let connect = tokio::net::TcpStream::connect((endpoint.host.as_str(), endpoint.port));
            match tokio::time::timeout(timeout, connect).await {
                Ok(Ok(_)) => endpoint.reached(),
                _ => endpoint.missed_by_probe(),
            }
        })
    });
    for attempt in tries.collect::<Vec<_>>() {
        // A probe that was cancelled has nothing to say.
        let _ = attempt.await;
    }
}
