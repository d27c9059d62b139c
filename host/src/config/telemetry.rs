//! What is configured of the records of finished requests, and of traces.

use super::SecretSource;
use std::path::PathBuf;
use std::time::Duration;

/// What is told of each finished request, and to whom. Changing any of it needs a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// How much of the client's address is in it.
    pub address: AddressShown,
    /// Whether the query is in it, values that look secret aside.
    pub query: bool,
    /// Request fields that are in it: lower-case names.
    pub headers: Vec<String>,
    /// Where the access line goes.
    pub access: Access,
    /// What is kept in the store.
    pub requests: RequestLog,
    /// What is told of traces.
    pub traces: Traces,
}

/// How much of an address is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressShown {
    /// Nothing.
    Off,
    /// Its network: the first 24 bits of IPv4, the first 48 of IPv6.
    Network,
    /// All of it.
    Full,
}

/// Where one line for each request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Nowhere.
    Off,
    /// To standard output.
    Stdout,
    /// Into this file.
    File(PathBuf),
}

/// The request log in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLog {
    /// Whether there is one.
    pub keep: bool,
    /// How long a record stays.
    pub retention: Duration,
    /// The most bytes of records.
    pub size: u64,
}

/// Which requests are told span by span, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces {
    /// Where spans go; nobody is told of any without it.
    pub endpoint: Option<Collector>,
    /// What the gateway calls itself: `service.name`.
    pub service: String,
    /// Which part of the traces that begin here.
    pub sample: Ratio,
    /// Whether spans are told where a client wants them, within the bound.
    pub honours: bool,
    /// The most requests in a second that are told for a client's wish; and the most for a failure.
    pub most_per_second: u32,
    /// Whether requests that failed are told, whatever was decided before; within the bound.
    pub failures: bool,
    /// How long the collector may take to answer.
    pub timeout: Duration,
    /// The most spans that are sent at once.
    pub batch: usize,
    /// The most spans that wait.
    pub queue: usize,
    /// Fields for the collector: lower-case names, and where their values are.
    pub headers: Vec<(String, SecretSource)>,
}

/// A collector of spans: OTLP over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector {
    /// Over TLS.
    pub tls: bool,
    /// A name in lower case, or an address; one of IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Where spans are taken: what is configured, with `/v1/traces` behind it.
    pub path: String,
}

/// A part of all ids, in 2^63rds: what ids are below of, by their last 63 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ratio(pub(super) u64);

impl Ratio {
    /// All of them.
    pub(super) const WHOLE: u64 = 1 << 63;

    /// Whether an id belongs to it. So every implementation of OpenTelemetry's `TraceIdRatioBased` decides alike that looks at these bits.
    pub fn has(self, id: u64) -> bool {
        id >> 1 < self.0
    }
}

impl Collector {
    /// Scheme, host, port and path.
    pub fn url(&self) -> String {
        let Self { tls, host, port, path } = self;
        let scheme = if *tls { "https" } else { "http" };
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        format!("{scheme}://{host}:{port}{path}")
    }
}

/// What names contain of parameters and fields that hold a secret.
const SECRET: [&str; 14] = [
    "key",
    "token",
    "secret",
    "pass",
    "pwd",
    "sig",
    "auth",
    "code",
    "session",
    "credential",
    "jwt",
    "assertion",
    "otp",
    "dpop",
];

/// Whether a parameter or a field of this name is taken for a secret.
pub fn names_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET.iter().any(|part| name.contains(part))
}
