//! A gateway for one test, in this process: own directories, own ports, real components.

use super::client::{Answer, Call, raw, request};
use super::origin::Origin;
use super::{lines, secrets};
use portico::config;
use portico::plugin::{Catalog, Compiler, Component, Engines, Order};
use portico::server::{self, Running, StartError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use tempfile::TempDir;

/// The shipped chain with its grants and high limits, for tests that are about something else. With time enough, so that
/// a busy machine is not taken for a policy that hangs.
pub const DEFAULT: &str = r#"
[defaults]
chain = ["rate-limit", "key-auth", "gas"]
[policies.key-auth]
instance = "pooled"
deadline = "10s"
grant.powers = ["deny"]
[policies.rate-limit]
instance = "pooled"
deadline = "10s"
grant.powers = ["take"]
[[policies.rate-limit.config.limits]]
name = "per-key"
subject = "key"
when = "authenticated"
windows = [{ name = "sec", quota = 100000, per = "1s" }, { name = "min", quota = 100000, per = "1m" }]
[policies.gas]
instance = "pooled"
deadline = "10s"
grant.powers = ["charge"]
grant.maximum_charge = "1000"
[policies.gas.config.default]
gas = "1"
"#;

/// Begins a configuration that is to run on one worker instead of two: for tests that count what one worker does.
pub const ONE_WORKER: &str = "# one worker\n";

/// Anywhere in a configuration: running requests have a minute to end instead of a second.
pub const LONG_DRAIN: &str = "# long drain\n";

/// On which stores work, at the most.
const BLOCKING_THREADS: usize = 64;

/// A running gateway; ends when it is dropped.
pub struct Gateway {
    pub public: SocketAddr,
    pub admin: SocketAddr,
    directory: TempDir,
    /// Where its lines begin among those of all.
    lines: usize,
    running: Option<Running>,
    runtime: Option<tokio::runtime::Runtime>,
}

/// Components that all tests share: those that most tests use are kept, so that each is compiled once.
pub fn catalog() -> Arc<Catalog> {
    static CATALOG: OnceLock<(Arc<Catalog>, Vec<Arc<Component>>)> = OnceLock::new();
    let (catalog, _kept) = CATALOG.get_or_init(|| {
        let catalog = Arc::new(Catalog::new(Engines::start(1024, compiler()).expect("an engine")));
        let often = format!("{DEFAULT}\n[policies.hostile]\n");
        let config = config::parse(&whole(&often), Path::new("gateway.toml")).expect("a configuration");
        let find = |policy: &config::Policy| {
            let kind = if policy.name == "hostile" { "guests" } else { "plugins" };
            let offer = catalog.offers(&built(kind), policy, None, true).1.next().expect("an offer");
            let order = Order { bounds: config.plugins.compile, given_up: &|| None };
            catalog.load(&offer, policy, None, &order).expect("a component; run `cargo xtask components`")
        };
        let kept = config.policies.values().map(find).collect();
        (catalog, kept)
    });
    catalog.clone()
}

/// As the program compiles: in children of it.
fn compiler() -> Compiler {
    Compiler::at(env!("CARGO_BIN_EXE_portico").into())
}

/// A catalog in which nothing is compiled yet.
pub fn cold_catalog() -> Arc<Catalog> {
    own_catalog(compiler())
}

fn own_catalog(compiler: Compiler) -> Arc<Catalog> {
    Arc::new(Catalog::new(Engines::start(64, compiler).expect("an engine")))
}

fn built(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/portico").join(kind)
}

/// The bytes of a test guest.
pub fn guest(name: &str) -> Vec<u8> {
    let path = built("guests").join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask components`", path.display()))
}

/// A chameleon that describes itself as told.
pub fn patched(guest_name: &str, descriptor: &serde_json::Value) -> Vec<u8> {
    portico_guests::descriptor::patch(&guest(guest_name), &descriptor.to_string()).expect("a chameleon")
}

/// Every built component, for directories of plugins.
pub fn components(directory: &Path) {
    for kind in ["plugins", "guests"] {
        let built = built(kind);
        let entries = std::fs::read_dir(&built)
            .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask components`", built.display()));
        for entry in entries {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name");
            if path.extension().is_some_and(|extension| extension == "wasm") {
                std::os::unix::fs::symlink(&path, directory.join(name)).expect("a link");
            }
        }
    }
}

impl Gateway {
    /// Starts a gateway with one pillar `connect` on this origin and what `toml` adds.
    pub fn with(origin: &Origin, toml: &str) -> Self {
        let upstream = format!(
            "[upstreams.origin]\nendpoints = [\"http://{}\"]\n[pillars.connect]\nupstream = \"origin\"\n",
            origin.address
        );
        Self::start(&format!("{toml}\n{upstream}"))
    }

    /// Starts a gateway on a configuration without its listeners and directories.
    pub fn start(toml: &str) -> Self {
        Self::try_start(toml, &[]).unwrap_or_else(|error| panic!("{error}\n---\n{toml}"))
    }

    /// As [`Self::start`], with further components by name.
    pub fn start_with(toml: &str, more: &[(&str, Vec<u8>)]) -> Self {
        Self::try_start(toml, more).unwrap_or_else(|error| panic!("{error}\n---\n{toml}"))
    }

    /// As [`Self::start_with`], for configurations that may not start.
    pub fn try_start(toml: &str, more: &[(&str, Vec<u8>)]) -> Result<Self, StartError> {
        Self::try_start_on(catalog(), toml, more)
    }

    /// As [`Self::try_start`], on a catalog of its own: for components that would keep all other tests waiting while they are
    /// compiled.
    pub fn try_start_on(catalog: Arc<Catalog>, toml: &str, more: &[(&str, Vec<u8>)]) -> Result<Self, StartError> {
        let directory = TempDir::new().expect("a directory");
        let plugins = directory.path().join("plugins");
        std::fs::create_dir(&plugins).expect("a directory");
        components(&plugins);
        for (name, bytes) in more {
            let path = plugins.join(format!("{name}.wasm"));
            let _ = std::fs::remove_file(&path);
            std::fs::write(path, bytes).expect("a component");
        }
        let path = directory.path().join("gateway.toml");
        std::fs::write(&path, whole(toml)).expect("a configuration");
        Self::run_with(directory, &path, catalog)
    }

    fn run(directory: TempDir, path: &Path) -> Result<Self, StartError> {
        Self::run_with(directory, path, catalog())
    }

    fn run_with(directory: TempDir, path: &Path, catalog: Arc<Catalog>) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(BLOCKING_THREADS)
            .enable_all()
            .build()
            .expect("a runtime");
        let lines = lines::begin();
        let config = config::load(path)?;
        let running = runtime.block_on(server::start_with(config, catalog))?;
        let (public, admin) = (running.public, running.admin);
        secrets::note_hex(&read(&directory.path().join("master.key")));
        secrets::note(read(&directory.path().join("data/admin-token")).trim());
        Ok(Self { public, admin, directory, lines, running: Some(running), runtime: Some(runtime) })
    }

    /// As [`Self::restart_after`], as a new process would: with nothing compiled yet.
    pub fn restart_cold_after(self, meanwhile: impl FnOnce()) -> Self {
        self.restart_compiling_with(compiler(), meanwhile)
    }

    /// As [`Self::restart_cold_after`], where nothing can be compiled.
    pub fn restart_without_compiler(self) -> Self {
        self.restart_compiling_with(Compiler::at("/nowhere/portico".into()), || {})
    }

    fn restart_compiling_with(mut self, compiler: Compiler, meanwhile: impl FnOnce()) -> Self {
        self.stop();
        meanwhile();
        let directory = std::mem::replace(&mut self.directory, TempDir::new().expect("a directory"));
        let path = directory.path().join("gateway.toml");
        Self::run_with(directory, &path, own_catalog(compiler)).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Stops and starts again on the same data.
    pub fn restart(self) -> Self {
        self.restart_after(|| {})
    }

    /// As [`Self::restart`], with something done in between.
    pub fn restart_after(mut self, meanwhile: impl FnOnce()) -> Self {
        self.stop();
        meanwhile();
        let directory = std::mem::replace(&mut self.directory, TempDir::new().expect("a directory"));
        let path = directory.path().join("gateway.toml");
        Self::run(directory, &path).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Saves another configuration over the running one.
    pub fn save(&self, toml: &str) {
        std::fs::write(self.directory.path().join("gateway.toml"), whole(toml)).expect("a configuration");
    }

    /// Whatever asks a store waits until this is dropped: all threads on which stores work are taken.
    pub fn hold_up_stores(&self) -> mpsc::Sender<()> {
        let (held, holds) = mpsc::channel::<()>();
        let holds = Arc::new(Mutex::new(holds));
        let runtime = self.runtime.as_ref().expect("it runs");
        // As many as there can be, those that are idle among them.
        for _ in 0..BLOCKING_THREADS {
            let holds = holds.clone();
            runtime.spawn_blocking(move || {
                // Until the other end is gone.
                let _ = holds.lock().map(|holds| holds.recv());
            });
        }
        held
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A request to the public listener.
    pub fn call(&self, method: &str, target: &str) -> Call {
        request(self.public, method, target)
    }

    /// A `GET` on the public listener.
    pub fn get(&self, target: &str) -> Call {
        self.call("GET", target)
    }

    /// A request to the admin API.
    pub fn admin(&self, method: &str, target: &str) -> Call {
        let token = std::fs::read_to_string(self.directory.path().join("data/admin-token")).expect("a token");
        request(self.admin, method, target).field("authorization", format!("Bearer {}", token.trim()))
    }

    /// A live key with these scopes.
    pub fn key(&self, scopes: &[&str]) -> String {
        self.issue(serde_json::json!({ "name": "test", "mode": "live", "scopes": scopes })).1
    }

    /// A key as asked; its id and its secret.
    pub fn issue(&self, body: serde_json::Value) -> (String, String) {
        let answer =
            self.admin("POST", "/v1/keys").field("content-type", "application/json").body(body.to_string()).send();
        assert_eq!(answer.status, 201, "{}", answer.text());
        let key = answer.json();
        let member = |name: &str| key[name].as_str().expect("a member").to_owned();
        (member("id"), member("secret"))
    }

    /// Revokes a key.
    pub fn revoke(&self, id: &str) -> Answer {
        self.admin("DELETE", &format!("/v1/keys/{id}")).send()
    }

    /// What was said in the log since it began; by others of this process, too.
    pub fn log(&self) -> Vec<u8> {
        lines::since(self.lines)
    }

    /// The generation of the configuration that answers.
    pub fn generation(&self) -> u64 {
        self.admin("GET", "/v1/plugins").send().json()["generation"].as_u64().expect("a generation")
    }

    fn stop(&mut self) {
        if let (Some(running), Some(runtime)) = (self.running.take(), self.runtime.take()) {
            let mut found = self.said();
            runtime.block_on(running.stop());
            // One failure at a time: the first says more.
            if std::thread::panicking() {
                return;
            }
            found.extend(secrets::found_in(&lines::since(self.lines)).map(|what| format!("its log: {what}")));
            found.extend(secrets::found_in(
                &std::fs::read(self.directory.path().join("access.log")).unwrap_or_default(),
            ));
            let data = self.directory.path().join("data");
            found.extend(secrets::found_below(&data, &[&data.join("admin-token")]));
            assert!(found.is_empty(), "secrets are where none may be: {found:#?}");
        }
    }

    /// Secrets in what it tells operators.
    fn said(&self) -> Vec<String> {
        let token = std::fs::read_to_string(self.directory.path().join("data/admin-token"));
        let Some(token) = token.ok().filter(|_| !std::thread::panicking()) else { return Vec::new() };
        let found = |target: &&str| {
            let (target, token) = (*target, token.trim());
            let head = format!(
                "GET {target} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
            );
            secrets::found_in(&raw(self.admin, head.as_bytes())).map(|what| format!("{target}: {what}"))
        };
        ["/metrics", "/v1/requests?limit=200", "/v1/audit?limit=200"].iter().filter_map(found).collect()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop();
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn whole(toml: &str) -> String {
    let head = r#"
[gateway]
listen = "127.0.0.1:0"
workers = WORKERS
drain_timeout = "DRAIN"
[admin]
listen = "127.0.0.1:0"
[data]
directory = "data"
[journal]
segment_size = "256KiB"
[secrets]
master_key = { file = "master.key" }
[plugins]
directory = "plugins"
"#;
    let workers = if toml.starts_with(ONE_WORKER) { "1" } else { "2" };
    let drain = if toml.contains(LONG_DRAIN) { "60s" } else { "1s" };
    format!("{}\n{toml}", head.replace("WORKERS", workers).replace("DRAIN", drain))
}
