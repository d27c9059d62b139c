//! Puts a gateway together from a configuration, runs it, and ends it in order.
//!
//! Start is all or nothing: whatever is wrong is said in one go, and no listener answers before everything is up.

use crate::api::{self, AdminState};
use crate::assertion::Signer;
use crate::clock::Clock;
use crate::config::{self, Config, Problem, Problems};
use crate::credential::{Issuer, Keyring};
use crate::data::DataDirectory;
use crate::key::{Pepper, SledKeys};
use crate::limit::Local;
use crate::listener::{self, Handle};
use crate::org::{Admins, SledOrgs, TOKEN_VARIABLE};
use crate::plugin::{Catalog, Engine};
use crate::seal::Vault;
use crate::snapshot::{Ingredients, Snapshot};
use crate::usage::{Names, SledUsage, UsageStore};
use crate::worker::Gateway;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

mod background;

/// How long the end may take beyond the drain time.
const END: std::time::Duration = std::time::Duration::from_secs(5);
/// Buckets of limits in memory: at about 200 bytes each.
const MAX_BUCKETS: usize = 2_000_000;

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The file does not make sense.
    #[error("{0}")]
    Config(#[from] Problems),
    /// The file makes sense, and does not fit the plugins that are there.
    #[error("{0}")]
    Unfit(Unfit),
    /// Something that it needs cannot be had.
    #[error("{0}")]
    Cannot(String),
}

/// Everything in a configuration that does not fit the plugins that are there.
#[derive(Debug)]
pub struct Unfit {
    file: std::path::PathBuf,
    /// The problems, each with its key path.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.problems.iter().enumerate() {
            let line = if position == 0 { "" } else { "\n" };
            write!(f, "{line}{}: {problem}", self.file.display())?;
        }
        Ok(())
    }
}

/// What outlives configurations.
struct Kept {
    catalog: Arc<Catalog>,
    limits: Local,
    names: Arc<Names>,
    workers: usize,
    /// One change of the configuration at a time.
    changing: Mutex<()>,
}

/// A gateway that answers.
pub struct Running {
    /// Where the public listener is.
    pub public: SocketAddr,
    /// Where the admin listener is.
    pub admin: SocketAddr,
    gateway: Arc<Gateway>,
    kept: Arc<Kept>,
    workers: Arc<Vec<Handle>>,
    stop: watch::Sender<bool>,
    background: Vec<tokio::task::JoinHandle<()>>,
    bookkeeper: tokio::task::JoinHandle<()>,
    watch: Mutex<Option<config::watch::Watch>>,
    _data: DataDirectory,
}

/// Checks a configuration as a start would, plugins included, without starting anything.
///
/// # Errors
/// Everything that is wrong.
pub fn check(path: &Path) -> Result<Config, StartError> {
    let config = config::load(path)?;
    let kept = kept(&config, own_catalog()?);
    build(config, &kept, None).map(|snapshot| snapshot.config)
}

/// Starts a gateway. Must be called on the control runtime.
///
/// # Errors
/// Everything that is wrong; nothing was left running then.
pub async fn start(config: Config) -> Result<Running, StartError> {
    start_with(config, own_catalog()?).await
}

/// As [`start`], with components that other gateways of this process use too.
///
/// # Errors
/// As [`start`].
pub async fn start_with(config: Config, catalog: Arc<Catalog>) -> Result<Running, StartError> {
    let cannot = |error: &dyn std::error::Error| StartError::Cannot(sentence(error));
    let clock = Clock::system();
    let kept = Arc::new(kept(&config, catalog));
    let data = DataDirectory::open(&config.data.directory).map_err(|error| cannot(&error))?;
    let vault = Vault::open(&config.secrets.master_key, &data).map_err(|error| cannot(&error))?;
    let orgs = SledOrgs::open(data.database(), clock.now()).map_err(|error| cannot(&error))?;
    let given = std::env::var(TOKEN_VARIABLE).ok();
    let admins = Admins::open(&data, &vault, given.as_deref()).map_err(|error| cannot(&error))?;
    let keyring = Keyring::new(Pepper::all(&vault).map_err(|error| cannot(&error))?);
    let keys = Arc::new(SledKeys::open(data.database()).map_err(|error| cannot(&error))?);
    let issuer = Issuer::open(keys, keyring.clone(), clock.clone()).await.map_err(|error| cannot(&error))?;
    let issuer = Arc::new(issuer);
    let signer = Signer::open(&vault).map_err(|error| cannot(&error))?;
    let public = listener::bind(config.gateway.listen).map_err(|error| cannot(&error))?;
    let admin = listener::bind(config.admin.listen).map_err(|error| cannot(&error))?;

    let path = config.path.clone();
    let snapshot = {
        let kept = kept.clone();
        let built = tokio::task::spawn_blocking(move || build(config, &kept, None)).await;
        built.map_err(|error| cannot(&error))??
    };
    let usage: Arc<dyn UsageStore> = Arc::new(SledUsage::open(data.database()).map_err(|error| cannot(&error))?);
    background::seed_limits(&snapshot, &*usage, clock.now()).await.map_err(|error| cannot(&error))?;
    let (booked, batches) = mpsc::unbounded_channel();
    let gateway = Arc::new(Gateway::new(snapshot, clock.clone(), keyring, signer, booked));
    let (stop, stopped) = watch::channel(false);
    let start = |number| listener::start(number, gateway.clone(), stopped.clone());
    let workers: io::Result<Vec<Handle>> = (0..kept.workers).map(start).collect();
    let workers = Arc::new(workers.map_err(|error| cannot(&error))?);

    let address = |listener: &TcpListener| listener.local_addr().map_err(|error| cannot(&error));
    let (public_address, admin_address) = (address(&public)?, address(&admin)?);
    let scopes = {
        let gateway = gateway.clone();
        Arc::new(move || gateway.live.load().pillars.iter().map(|pillar| pillar.scope.clone()).collect())
    };
    let state = AdminState::new(issuer.clone(), Arc::new(orgs), Arc::new(admins), scopes, clock);
    let mut background = vec![
        tokio::spawn(listener::accept(public, workers.clone(), stopped.clone())),
        tokio::spawn(background::admin(
            admin,
            api::router_with(state, background::routes(gateway.clone(), usage.clone())),
            stopped.clone(),
        )),
    ];
    background.extend(background::start(&gateway, &kept, issuer, usage.clone(), stopped));
    let bookkeeper = tokio::spawn(background::keep_usage(batches, usage, kept.names.clone()));
    let running = Running {
        public: public_address,
        admin: admin_address,
        gateway,
        kept,
        workers,
        stop,
        background,
        bookkeeper,
        watch: Mutex::default(),
        _data: data,
    };
    running.watch(&path);
    Ok(running)
}

impl Running {
    /// Applies a configuration as a whole, or keeps the present one.
    ///
    /// # Errors
    /// Everything that is wrong with the new one.
    pub fn apply(&self, config: Config) -> Result<u64, StartError> {
        apply(&self.gateway, &self.kept, config)
    }

    /// Ends it: readiness fails, no more connections are taken, running requests end within the drain time, what was
    /// booked is kept.
    pub async fn stop(self) {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.gateway.drain();
        let patience = self.gateway.live.load().config.gateway.drain_timeout + END;
        // All receivers may be gone if every worker failed; then there is nobody to tell.
        let _ = self.stop.send(true);
        let (workers, gateway) = (self.workers, self.gateway);
        let (background, bookkeeper) = (self.background, self.bookkeeper);
        let ended = tokio::time::timeout(patience, async move {
            for task in background {
                // A task that panicked has said so on its own.
                let _ = task.await;
            }
            let workers = Arc::into_inner(workers).unwrap_or_default();
            let _ = tokio::task::spawn_blocking(move || workers.into_iter().for_each(Handle::join)).await;
            // The last sender of usage goes with the gateway; then what was booked last is kept.
            drop(gateway);
            let _ = bookkeeper.await;
        });
        if ended.await.is_err() {
            tracing::warn!("something did not end in time, and is cut off");
        }
    }

    fn watch(&self, path: &Path) {
        let (gateway, kept, file) = (self.gateway.clone(), self.kept.clone(), path.to_owned());
        let changed =
            move || match config::load(&file).map_err(StartError::from).and_then(|new| apply(&gateway, &kept, new)) {
                Ok(generation) => tracing::info!(generation, "applied {}", file.display()),
                Err(error) => {
                    tracing::error!("{} was not applied, the running configuration stays:\n{error}", file.display())
                }
            };
        match config::watch::watch(path, changed) {
            Ok(watch) => *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch),
            Err(error) => tracing::warn!("{} is not watched, so changes need a restart: {error}", path.display()),
        }
    }
}

fn apply(gateway: &Gateway, kept: &Kept, config: Config) -> Result<u64, StartError> {
    let _one_at_a_time = kept.changing.lock().unwrap_or_else(PoisonError::into_inner);
    let earlier = gateway.live.load_full();
    for key in earlier.config.needs_restart(&config) {
        tracing::warn!("`{key}` has changed, and takes effect only after a restart");
    }
    let next = build(config, kept, Some(&earlier))?;
    let generation = next.generation;
    gateway.live.store(Arc::new(next));
    Ok(generation)
}

fn own_catalog() -> Result<Arc<Catalog>, StartError> {
    let engine = Engine::start().map_err(|error| StartError::Cannot(sentence(&error)))?;
    Ok(Arc::new(Catalog::new(engine)))
}

fn kept(config: &Config, catalog: Arc<Catalog>) -> Kept {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let workers = if config.gateway.workers == 0 { cores() } else { config.gateway.workers };
    Kept { catalog, limits: Local::new(MAX_BUCKETS), names: Arc::default(), workers, changing: Mutex::default() }
}

fn build(config: Config, kept: &Kept, earlier: Option<&Snapshot>) -> Result<Snapshot, StartError> {
    let file = config.path.clone();
    let from = Ingredients {
        catalog: &kept.catalog,
        limits: &kept.limits,
        names: &kept.names,
        workers: kept.workers,
        earlier,
    };
    Snapshot::build(config, &from).map_err(|problems| StartError::Unfit(Unfit { file, problems }))
}

/// An error with its causes, as one sentence.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(because) = cause {
        let because_text = because.to_string();
        if !sentence.contains(&because_text) {
            sentence.push_str(": ");
            sentence.push_str(&because_text);
        }
        cause = because.source();
    }
    sentence
}
