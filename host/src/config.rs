//! What the operator wants, validated: the resolved form of one TOML file.
//!
//! Nothing here is half-checked: a [`Config`] exists only when the whole file made sense. What depends on a component
//! (grants against powers, a policy's own configuration against its schema) is checked where components are loaded.

mod api;
mod described;
mod file;
mod form;
mod journal;
mod json;
mod keys;
mod problem;
mod read;
mod resolve;
mod source;
pub(crate) mod suggest;
mod telemetry;
#[cfg(test)]
mod tests;
mod value;
pub mod watch;
mod webhooks;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use api::{Api, OWN};
pub use described::{Change, Described, HIDDEN};
pub use file::{MAXIMUM, NotWritten, replace};
pub use journal::{Journal, WhenFull};
pub use keys::Keys;
pub use problem::{Problem, Problems};
pub use resolve::{load, parse, read};
pub use source::Source;
pub use telemetry::{Access, AddressShown, Collector, Ratio, RequestLog, Telemetry, Traces, names_secret};
pub use webhooks::{Reach, Webhooks};

/// The scopes by which keys manage what is their org's, and which no pillar has.
pub const MANAGEMENT_SCOPES: [&str; 5] = ["keys:write", "keys:read", "usage:read", "billing:read", "webhooks:write"];

/// One validated configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file that it came from; relative paths in it are relative to its directory.
    pub path: PathBuf,
    /// What it was read from.
    pub source: Source,
    /// `[gateway]`
    pub gateway: Gateway,
    /// `[admin]`
    pub admin: Admin,
    /// `[data]`
    pub data: Data,
    /// `[journal]`
    pub journal: Journal,
    /// `[telemetry]`
    pub telemetry: Telemetry,
    /// `[keys]`
    pub keys: Keys,
    /// `[secrets]`
    pub secrets: Secrets,
    /// `[plugins]`
    pub plugins: Plugins,
    /// `[policies.<name>]`, by name.
    pub policies: BTreeMap<String, Policy>,
    /// `[upstreams.<name>]`, by name.
    pub upstreams: BTreeMap<String, Upstream>,
    /// `[pillars.<name>]`, by name.
    pub pillars: BTreeMap<String, Pillar>,
    /// `[api]`
    pub api: Api,
    /// `[webhooks]`
    pub webhooks: Webhooks,
}

/// The public listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// The product's name on the landing page.
    pub name: String,
    /// The address of the public listener. Changing it needs a restart.
    pub listen: SocketAddr,
    /// Worker threads; 0 in the file means one for each core. Changing it needs a restart.
    pub workers: usize,
    /// Where developers read more; part of the answer of a pillar without an upstream.
    pub developer_docs: String,
    /// How long a client may take to send a request head.
    pub header_timeout: Duration,
    /// How long running requests may go on after SIGTERM.
    pub drain_timeout: Duration,
    /// The issuer in signed assertions.
    pub issuer: String,
}

/// The admin listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Its address. Changing it needs a restart.
    pub listen: SocketAddr,
}

/// Where state lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    /// The one data directory. Changing it needs a restart.
    pub directory: PathBuf,
}

/// Where secrets come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secrets {
    /// The key under which recoverable secrets are sealed: 32 bytes, as 64 hexadecimal digits.
    pub master_key: SecretSource,
}

/// A reference to a secret; never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// `{ file = "…" }`
    File(PathBuf),
    /// `{ env = "…" }`
    Env(String),
}

/// Where components come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugins {
    /// Directory with `<plugin>.wasm` files.
    pub directory: PathBuf,
    /// Bounds of compiling one of them.
    pub compile: Compile,
    /// Files of root certificates, in PEM, that policies' own requests believe beside those of the system.
    pub outbound_roots: Vec<PathBuf>,
}

/// What compiling one component may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compile {
    /// Processor time, over all cores; counted in seconds.
    pub time: Duration,
    /// Bytes of memory.
    pub memory: usize,
}

/// One policy: a plugin, what it is allowed, and how it is run.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Its name: the key in `[policies]`.
    pub name: String,
    /// The plugin: `<plugin>.wasm` in the plugin directory. Default: the policy's name.
    pub plugin: String,
    /// `pooled` or `fresh` (the default).
    pub instance: Instance,
    /// What a failing policy means: `closed` (the default) or `open`.
    pub failure: Failure,
    /// Whether callers wait whose calls overrun; `true` is the default.
    pub quarantine: bool,
    /// Bounds of one call.
    pub bounds: Bounds,
    /// Bounds of what it waits for; only for policies that can wait.
    pub waits: Waits,
    /// The most bodies that it follows at once, for each worker.
    pub bodies: usize,
    /// What it is allowed.
    pub grant: Grant,
    /// Its configuration, for all pillars. Policy's own schema.
    pub config: serde_json::Map<String, serde_json::Value>,
}

/// Whether an instance serves one request or many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instance {
    /// A new instance for each request: a policy cannot remember anything between callers.
    Fresh,
    /// Kept warm and recycled after so many calls: it may remember between callers.
    Pooled {
        /// Calls until an instance is replaced.
        recycle_after: u64,
    },
}

/// What a failing policy means for the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The request is refused with 503.
    Closed,
    /// The request goes on as if the policy were not there.
    Open,
}

/// Bounds of one call into a policy; they hold for instantiate, describe and configure too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Units of fuel, about one for each Wasm instruction.
    pub fuel: u64,
    /// Of fuel, for all calls about one body together: so many units for each KiB of it, beside what eight calls may use.
    pub fuel_per_kib: u64,
    /// Wall clock. Checked every 5 ms.
    pub deadline: Duration,
    /// Bytes over all memories of an instance.
    pub memory: usize,
    /// Bytes that may be copied out of a guest in one call.
    pub copied_out: usize,
}

/// Bounds of calls that wait: for a store, for somebody outside, or in WASI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// How long one call may wait, in all.
    pub time: Duration,
    /// The most calls that wait or run at once, for each worker.
    pub calls: usize,
}

/// What a policy is allowed. Everything that its descriptor asks for must stand here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grant {
    /// Names of powers, as in the contract: `deny`, `respond`, `forward`, `rewrite-path`, `take`, `charge`, `mint-token`, `identify`.
    pub powers: Vec<String>,
    /// Fields that need a grant of their own: `authorization`, `cookie`, `set-cookie`, `proxy-authorization`, and `*`.
    pub reads: Vec<String>,
    /// Bodies that it may follow: `request`, `response`.
    pub bodies: Vec<String>,
    /// Most gas that one request may be charged, in millionths of a token; with the power `charge`.
    pub maximum_charge: u64,
    /// Scopes that an `identify` may give; `*` for all.
    pub scopes: Vec<String>,
    /// Its key-value store; `None` where it has none.
    pub store: Option<StoreGrant>,
    /// Whom it may ask over HTTP.
    pub outbound: Vec<OutboundGrant>,
    /// What of WASI is real for it: `clock`, `random`. Without these, both follow from the request.
    pub wasi: Vec<String>,
}

/// A key-value store of a policy's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreGrant {
    /// Whose keys these are. Policies with the same space share it. Default: the policy's name.
    pub space: String,
    /// The most bytes of keys and values in the space.
    pub bytes: usize,
    /// The most keys in the space.
    pub entries: u64,
}

/// Requests that a policy may send to one origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundGrant {
    /// Over TLS.
    pub tls: bool,
    /// The host: a name in lower case, or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Methods, upper case.
    pub methods: Vec<String>,
    /// Paths: exact, or below where it ends with `/*`.
    pub paths: Vec<String>,
    /// The most requests for each call of the policy.
    pub calls: u32,
    /// The most bytes of a response's body.
    pub response: usize,
    /// Until the whole response has come.
    pub timeout: Duration,
    /// Whether the host may have an address that is not public: loopback, private, link-local.
    pub private: bool,
}

/// A named group of endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Its name: the key in `[upstreams]`.
    pub name: String,
    /// `http://host:port` of each endpoint. Host is an address or a name.
    pub endpoints: Vec<Endpoint>,
    /// Until a connection stands.
    pub connect_timeout: Duration,
    /// Until the first byte of the response.
    pub response_timeout: Duration,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// The most connections to each endpoint, over all workers.
    pub connections: usize,
}

/// One address of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port`, as it appears in `Host` when the upstream is asked by its own name.
    pub authority: Arc<str>,
    /// The host: an address or a name.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// One public API: a path prefix with its policies and upstreams.
#[derive(Debug, Clone, PartialEq)]
pub struct Pillar {
    /// Its name: the key in `[pillars]`.
    pub name: String,
    /// The path prefix, without a slash at the end; unique. A request belongs to the pillar with the longest prefix that
    /// ends where a segment of its path ends. Default: `/v1/<name>`.
    pub prefix: String,
    /// The scope that a key needs. Default: the name.
    pub scope: String,
    /// The policies, in order.
    pub chain: Vec<String>,
    /// Configuration for this pillar, by policy: laid over the policy's own, key by key.
    pub config: Overlays,
    /// The upstream for live keys and for callers without a key. Without one the pillar is a scaffold.
    pub upstream: Option<String>,
    /// The upstream for sandbox keys.
    pub sandbox: Option<String>,
    /// Whether the prefix is cut off before the upstream gets the path. Default: yes.
    pub strip_prefix: bool,
    /// Whether the upstream gets a signed assertion about the caller.
    pub assertion: Assertion,
    /// Where it says what it offers: an OpenAPI document.
    pub openapi: Option<OpenApi>,
    /// The rules, in the order of the file; the last one is the rule for all other paths.
    pub rules: Vec<Rule>,
}

/// Where the OpenAPI document of a pillar comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenApi {
    /// A file.
    File(PathBuf),
    /// The pillar's upstream.
    Upstream {
        /// Where it has it.
        path: String,
        /// How often it is asked.
        every: Duration,
    },
}

/// What the upstream learns about the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assertion {
    /// Nothing, unless a policy asks for a token.
    Off,
    /// A signed assertion with each request of a known caller.
    On {
        /// Its audience. Default: the pillar's name.
        audience: String,
    },
}

/// One rule of a pillar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Unique in the pillar. Default: the methods and the path; `*` for the rule for all other paths.
    pub name: String,
    /// Path below the prefix, in matchit's syntax (`/rooms/{id}`, `/files/{*path}`); `None` for all other paths.
    pub path: Option<String>,
    /// Upper case; empty for all.
    pub methods: Vec<String>,
    /// Whether a valid principal with the pillar's scope is needed.
    pub auth: bool,
    /// The policies, in order, in place of the pillar's.
    pub chain: Option<Vec<String>>,
    /// Configuration for this rule, by policy: laid over the pillar's, key by key.
    pub config: Overlays,
}

/// Configuration by policy, to be laid over what is there already.
pub type Overlays = BTreeMap<String, serde_json::Map<String, serde_json::Value>>;

impl Config {
    /// The keys in which another configuration differs, and which only a restart can change.
    pub fn needs_restart(&self, other: &Self) -> Vec<&'static str> {
        let changes = [
            ("gateway.listen", self.gateway.listen != other.gateway.listen),
            ("gateway.workers", self.gateway.workers != other.gateway.workers),
            ("admin.listen", self.admin.listen != other.admin.listen),
            ("data.directory", self.data.directory != other.data.directory),
            ("journal", self.journal != other.journal),
            ("telemetry", self.telemetry != other.telemetry),
            ("secrets.master_key", self.secrets.master_key != other.secrets.master_key),
        ];
        changes.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
    }
}

impl Pillar {
    /// What a policy is configured with in this pillar, or in one of its rules: its own configuration, with the pillar's laid over
    /// it, and the rule's over that. Tables are merged key by key; lists and single values are replaced.
    pub fn configuration(&self, policy: &Policy, rule: Option<&Rule>) -> serde_json::Map<String, serde_json::Value> {
        let mut laid = policy.config.clone();
        let overlays = std::iter::once(&self.config).chain(rule.map(|rule| &rule.config));
        for over in overlays.filter_map(|config| config.get(&policy.name)) {
            lay(&mut laid, over);
        }
        laid
    }

    /// The policies that a request of one of the rules goes through.
    pub fn chain_of<'a>(&'a self, rule: &'a Rule) -> &'a [String] {
        rule.chain.as_ref().unwrap_or(&self.chain)
    }
}

/// As deep as the reader lets tables nest.
fn lay(under: &mut serde_json::Map<String, serde_json::Value>, over: &serde_json::Map<String, serde_json::Value>) {
    for (key, value) in over {
        match (under.get_mut(key), value) {
            (Some(serde_json::Value::Object(under)), serde_json::Value::Object(over)) => lay(under, over),
            _ => {
                under.insert(key.clone(), value.clone());
            }
        }
    }
}

/// A client's address that is counted as one: IPv4 whole, IPv6 by its /64.
pub fn counted_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !(u128::from(u64::MAX))).into()),
    }
}
