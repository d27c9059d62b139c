//! Puts a gateway together from a configuration, runs it, and ends it in order.
//!
//! Start is all or nothing: whatever is wrong is said in one go, and no listener answers before everything is up.

use crate::api::{self, AdminState, PublicState};
use crate::assertion::Signer;
use crate::backup;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::data::DataDirectory;
use crate::id::NoRandomness;
use crate::limit::Local;
use crate::listener;
use crate::metrics::{self, Components, Metrics};
use crate::openapi;
use crate::plugin::shelf::Shelf;
use crate::plugin::{Catalog, CodeCache, Compiler, Engines, Outside};
use crate::requests::Requests;
use crate::seal::Vault;
pub(crate) use crate::telemetry::sentence;
use crate::usage::{Names, SledUsage, UsageStore};
use crate::webhook;
use crate::worker::Gateway;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

mod background;
mod booking;
mod change;
mod configuration;
mod documents;
mod error;
mod forgiven;
mod namesakes;
mod noting;
mod opening;
mod plugins;
mod priming;
mod quotas;
mod recording;
mod telling;

use change::Changes;
pub use error::{StartError, Unfit};
use forgiven::{Forgiven, TakenOff};
use namesakes::Namesakes;
use noting::{Cause, Noting, Way};
use opening::Opening;

/// How long each background task may take to end.
const BACKGROUND_END: std::time::Duration = std::time::Duration::from_secs(1);
/// How long the end may take beyond the drain time.
const END: std::time::Duration = std::time::Duration::from_secs(5);
/// Buckets of limits in memory: at about 200 bytes each.
const MAX_BUCKETS: usize = 2_000_000;

/// What outlives configurations.
struct Kept {
    catalog: Arc<Catalog>,
    limits: Local,
    names: Arc<Names>,
    workers: usize,
    /// What policies can reach; the store among it is in the data directory, too.
    outside: Arc<Outside>,
    /// Set when it ends: what is being compiled then is not waited for.
    ending: AtomicBool,
    /// What became of components.
    components: Arc<Components>,
    /// Documents that upstreams gave.
    fetched: openapi::Fetched,
    /// In the data directory, which is opened late on a first start.
    stored: OnceLock<Stored>,
}

/// What the data directory holds about plugins.
struct Stored {
    shelf: Shelf,
    cache: Option<CodeCache>,
}

/// The data directory, and the secrets in it.
struct Opened {
    data: DataDirectory,
    vault: Vault,
}

impl Opened {
    fn open(directory: &Path, master_key: &config::SecretSource, kept: &Kept) -> Result<Self, StartError> {
        let cannot = |error: &dyn std::error::Error| StartError::Cannot(sentence(error));
        let data = DataDirectory::open(directory).map_err(|error| cannot(&error))?;
        let vault = Vault::open(master_key, &data).map_err(|error| cannot(&error))?;
        let shelf = Shelf::open(&data).map_err(|error| cannot(&error))?;
        let cache = CodeCache::open(&data, &vault);
        let cache = cache.inspect_err(|error| tracing::warn!("compiled code is not kept: {error}")).ok();
        if let Err(error) = kept.fetched.keep_in(data.path().join("documents")) {
            tracing::warn!("what upstreams say of themselves is not kept: {error}");
        }
        // Set once: nobody else has it yet.
        let _ = kept.stored.set(Stored { shelf, cache });
        Ok(Self { data, vault })
    }
}

/// A gateway that answers.
pub struct Running {
    /// Where the public listener is.
    pub public: SocketAddr,
    /// Where the admin listener is.
    pub admin: SocketAddr,
    gateway: Arc<Gateway>,
    changes: Arc<Changes>,
    workers: Arc<Vec<listener::Handle>>,
    stop: watch::Sender<bool>,
    acceptor: tokio::task::JoinHandle<()>,
    background: Vec<tokio::task::JoinHandle<()>>,
    /// Ends what answers workers: the gateway's own API, and look-ups of keys.
    own_end: [tokio::task::AbortHandle; 2],
    bookkeeper: tokio::task::JoinHandle<()>,
    requests: Arc<Requests>,
    /// Sends spans.
    export: Option<tokio::task::JoinHandle<()>>,
    watch: Mutex<Option<config::watch::Watch>>,
    _data: DataDirectory,
}

/// Checks a configuration as a start would, plugins included, without starting anything. What fits and may surprise comes
/// with it, as sentences.
///
/// # Errors
/// Everything that is wrong.
pub fn check(path: &Path, compiler: Compiler) -> Result<(Config, Vec<String>), StartError> {
    let config = config::load(path)?;
    let kept = kept(&config, own_catalog(&config, compiler)?).map_err(|error| StartError::Cannot(sentence(&error)))?;
    kept.build(config, None).map(|(snapshot, _)| {
        let overdrawn = snapshot.rooms.overdrawn().map(|overdrawn| overdrawn.to_string());
        let warnings = overdrawn.chain(Namesakes::among(&snapshot).sentences());
        let warnings = warnings.chain(api::public::left_out((&snapshot).into())).collect();
        (snapshot.config, warnings)
    })
}

/// Starts a gateway. Must be called on the control runtime.
///
/// # Errors
/// Everything that is wrong; nothing was left running then.
pub async fn start(config: Config, compiler: Compiler) -> Result<Running, StartError> {
    let catalog = own_catalog(&config, compiler)?;
    start_with(config, catalog).await
}

/// As [`start`], with components that other gateways of this process use too.
///
/// # Errors
/// As [`start`].
pub async fn start_with(config: Config, catalog: Arc<Catalog>) -> Result<Running, StartError> {
    let cannot = |error: &dyn std::error::Error| StartError::Cannot(sentence(error));
    let clock = Clock::system();
    let kept = Arc::new(kept(&config, catalog).map_err(|error| cannot(&error))?);
    let (directory, master_key) = (config.data.directory.clone(), config.secrets.master_key.clone());
    let (public_listen, admin_listen) = (config.gateway.listen, config.admin.listen);
    let (path, journal_settings, telemetry) = (config.path.clone(), config.journal.clone(), config.telemetry.clone());
    // What is there already may hold versions to come up with. What is not there is made only after everything fits: a
    // configuration that does not leaves nothing behind.
    let open = || Opened::open(&directory, &master_key, &kept);
    let existing = if DataDirectory::is_at(&directory) { Some(open()?) } else { None };
    let built = {
        let kept = kept.clone();
        let build = move || kept.build_to_start(config).inspect(|(snapshot, _)| kept.outside.trust(&snapshot.roots));
        let built = tokio::task::spawn_blocking(build).await;
        built.map_err(|error| cannot(&error))?
    };
    if let Some(cache) = kept.cache() {
        // What does not fit need not be compiled again, either.
        kept.catalog.keep_code(cache, std::iter::empty());
    }
    let (snapshot, outcomes) = built?;
    let Opened { data, vault } = existing.map_or_else(open, Ok)?;
    if let Some(cache) = kept.cache() {
        // Where the data directory is new, there was no cache yet while they were compiled.
        kept.catalog.keep_code(cache, snapshot.policies.iter().map(|policy| policy.component.clone()));
    }
    let Opening { desks, vault, keyring, outbox, telling, unwritten_entries } =
        Opening::of(&data, vault, &kept, &snapshot, &clock).await?;
    let (hooks, issuer) = (desks.webhooks.clone(), desks.issuer.clone());
    let signer = Signer::open(&vault).map_err(|error| cannot(&error))?;
    let public = listener::bind(public_listen).map_err(|error| cannot(&error))?;
    let admin = listener::bind(admin_listen).map_err(|error| cannot(&error))?;

    let usage: Arc<dyn UsageStore> = Arc::new(SledUsage::open(data.database()).map_err(|error| cannot(&error))?);
    let (journal, writers) = booking::begin(&data, &*usage, journal_settings, kept.workers, &kept.names).await?;
    let taken_off = TakenOff::read(&outbox, clock.now()).map_err(|error| cannot(&error))?;
    let seed = background::seed_limits(&snapshot, None, &*usage, &taken_off, clock.now());
    seed.await.map_err(|error| cannot(&error))?;
    let begun = recording::begin(&data, &telemetry, &kept, &clock, &snapshot.roots)?;
    let recording::Begun { log, kept: records, requests, recorders, export } = begun;
    let erasure = opening::erasure(&desks, records, &data, &clock).await?;
    let (booked, batches) = mpsc::unbounded_channel();
    let (door, asked) = crate::inner::door();
    let gateway = Arc::new(Gateway::new(snapshot, clock.clone(), keyring, signer, journal.clone(), door, booked));
    let (stop, stopped) = watch::channel(false);
    let start =
        |(number, (journal, recorder))| listener::start(number, gateway.clone(), journal, recorder, stopped.clone());
    let writers = writers.into_iter().zip(recorders).enumerate();
    let workers: io::Result<Vec<listener::Handle>> = writers.map(start).collect();
    let workers = Arc::new(workers.map_err(|error| cannot(&error))?);

    let address = |listener: &TcpListener| listener.local_addr().map_err(|error| cannot(&error));
    let (public_address, admin_address) = (address(&public)?, address(&admin)?);
    let scopes = {
        let gateway = gateway.clone();
        Arc::new(move || {
            let snapshot = gateway.live.load();
            snapshot.pillars.iter().filter(|pillar| !pillar.is_own).map(|pillar| pillar.scope.clone()).collect()
        })
    };
    let metrics = Metrics::of(metrics::Sources {
        gateway: gateway.clone(),
        catalog: kept.catalog.clone(),
        outside: kept.outside.clone(),
        components: kept.components.clone(),
        unwritten_entries,
        requests: requests.clone(),
        names: kept.names.clone(),
        webhooks: hooks.clone(),
        database: data.database().clone(),
        started: clock.now(),
    });
    let state = AdminState::new(desks.clone(), scopes, clock.clone());
    let control = tokio::runtime::Handle::current();
    let noting = Noting::new(desks.audit.clone(), outbox.clone(), control.clone());
    let changes = Changes::new(gateway.clone(), kept.clone(), usage.clone(), control.clone(), issuer, telling, noting);
    let changes = Arc::new(changes);
    let acceptor = tokio::spawn(listener::accept(public, workers.clone(), stopped.clone()));
    let own = api::public_router(PublicState::new(state.clone(), usage.clone(), log.clone(), gateway.clone()));
    let own = tokio::spawn(api::public::answer(asked, own));
    let answering = tokio::spawn(desks.issuer.clone().answer());
    let own_end = [own.abort_handle(), answering.abort_handle()];
    let forgiven = Arc::new(Forgiven::new(outbox.clone(), usage.clone()));
    let signet = backup::Signet::new(&vault.derive(backup::PURPOSE));
    let source = backup::Source::new(&data, journal.clone(), signet, clock.clone());
    let whole = metrics::routes(metrics)
        .merge(api::plugin_routes(changes.clone(), desks.audit.clone(), clock.clone()))
        .merge(api::config_routes(changes.clone(), desks.audit.clone(), clock.clone()))
        .merge(api::limit_routes(gateway.clone(), desks.clone(), forgiven))
        .merge(api::backup_routes(source, desks.audit.clone(), clock, stopped.clone()));
    let open = background::routes(gateway.clone(), usage.clone(), state.reads())
        .merge(api::request_routes(log.clone()))
        .merge(api::export_routes(state.clone(), usage.clone(), log))
        .merge(api::erase_routes(state.clone(), erasure.clone()))
        .merge(api::usage_routes(usage.clone(), gateway.clock.clone()));
    let router = api::router_with(state, whole, open);
    let mut background = vec![own, answering, tokio::spawn(background::admin(admin, router, stopped.clone()))];
    let quotas = quotas::Quotas::new(&gateway, desks.issuer.clone(), outbox);
    let bookkeeper = tokio::spawn(booking::keep(batches, usage.clone(), kept.names.clone(), journal, quotas));
    background.push(tokio::spawn(webhook::deliver(hooks, control, stopped.clone())));
    background.push(background::look_at_documents(&changes, stopped.clone()));
    background.push(tokio::spawn(documents::fetch(Arc::downgrade(&changes), stopped.clone())));
    background.extend(background::start(&gateway, &kept, desks, usage, changes.telling.clone(), stopped));
    // Last: a start that fails leaves everything as it was.
    change::tell_disabled(&gateway.live.load());
    change::tell_overdrawn(&gateway.live.load(), None);
    change::tell_namesakes(&gateway.live.load(), None);
    change::tell_left_out(&gateway.live.load(), None);
    let cause = Cause::gateway(Way::Start);
    let (_, mut notes) = change::note_refusals(&changes, &outcomes, gateway.clock.now(), &cause);
    notes.extend(noting::swapped(changes.shelf(), &outcomes, &cause, 1, gateway.clock.now()));
    let noted = tokio::task::spawn_blocking({
        let changes = changes.clone();
        move || changes.note_start(notes)
    });
    // What cannot be noted has been said.
    let _ = noted.await;
    kept.components.serve(&[], &gateway.live.load().policies);
    if let Err(error) = change::keep(changes.shelf(), &outcomes) {
        tracing::error!("what serves cannot be gone back to: {}", sentence(&error));
    }
    change::note_shipped(&changes, &outcomes, gateway.clock.now());
    changes.priming.hand_in(&gateway.live.load(), &outcomes);
    data.serves();
    background.push(tokio::spawn(async move { erasure.resume().await }));
    let running = Running {
        public: public_address,
        admin: admin_address,
        gateway,
        changes,
        workers,
        stop,
        acceptor,
        background,
        own_end,
        bookkeeper,
        requests,
        export,
        watch: Mutex::default(),
        _data: data,
    };
    running.watch(&path);
    Ok(running)
}

impl Running {
    /// Ends it: readiness fails, no more connections are taken, running requests end within the drain time, what was
    /// booked is kept.
    pub async fn stop(self) {
        self.gateway.drain();
        let patience = self.gateway.live.load().config.gateway.drain_timeout + END;
        // All receivers may be gone if every worker failed; then there is nobody to tell.
        let _ = self.stop.send(true);
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner).take();
        let changes = self.changes.clone();
        changes.kept.ending.store(true, Ordering::Relaxed);
        // Beside the rest: a change that is under way is waited for as little as anything else.
        let watches = tokio::task::spawn_blocking(move || {
            drop(watch);
            changes.stop();
        });
        let Self { workers, gateway, changes, acceptor, background, own_end, bookkeeper, requests, export, .. } = self;
        drop(changes);
        let ended = tokio::time::timeout(patience, async move {
            // A task or a worker that panicked has said so on its own.
            let _ = acceptor.await;
            let workers = Arc::into_inner(workers).unwrap_or_default();
            let _ = tokio::task::spawn_blocking(move || workers.into_iter().for_each(listener::Handle::join)).await;
            // Nobody is left to ask.
            own_end.iter().for_each(tokio::task::AbortHandle::abort);
            let _ = watches.await;
            for mut task in background {
                // A half-sent request to the admin listener must not hold up the end.
                if tokio::time::timeout(BACKGROUND_END, &mut task).await.is_err() {
                    task.abort();
                    let _ = task.await;
                }
            }
            // The last sender of usage goes with the gateway; then what was booked last is kept.
            drop(gateway);
            let _ = bookkeeper.await;
            let _ = tokio::task::spawn_blocking(move || requests.end()).await;
            // Ends by itself within two seconds, now that no more spans come.
            if let Some(export) = export {
                let _ = export.await;
            }
        });
        if ended.await.is_err() {
            tracing::warn!("something did not end in time, and is cut off");
        }
    }

    /// Looks at the configuration file again, also where nothing tells that it was saved. Says in the log how that went.
    pub fn look_at_file(&self) {
        let changes = self.changes.clone();
        tokio::task::spawn_blocking(move || {
            let file = changes.gateway.live.load().config.path.clone();
            changes.configuration(&file, Way::Signal);
        });
    }

    fn watch(&self, path: &Path) {
        let (changes, file) = (self.changes.clone(), path.to_owned());
        let changed = move || changes.configuration(&file, Way::File);
        let again = changed.clone();
        match config::watch::watch(path, changed) {
            Ok(watch) => *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch),
            Err(error) => tracing::warn!("{} is not watched, so changes need a restart: {error}", path.display()),
        }
        self.changes.watch_plugins();
        // What was saved while everything was being set up was seen by nobody.
        if config::load(path).is_ok_and(|now| now != self.gateway.live.load().config) {
            tokio::task::spawn_blocking(again);
        }
        let changes = self.changes.clone();
        tokio::task::spawn_blocking(move || changes.components());
    }
}

fn own_catalog(config: &Config, compiler: Compiler) -> Result<Arc<Catalog>, StartError> {
    // Room for both sides of a change, and for policies that are added while it runs.
    // Some of them may have several memories.
    let instances = 2 * workers(config) * (2 * config.policies.len()).max(8) + 64;
    let engines = Engines::start(instances, compiler).map_err(|error| StartError::Cannot(sentence(&error)))?;
    Ok(Arc::new(Catalog::new(engines)))
}

fn workers(config: &Config) -> usize {
    match config.gateway.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        given => given,
    }
}

fn kept(config: &Config, catalog: Arc<Catalog>) -> Result<Kept, NoRandomness> {
    let (limits, names) = (Local::new(MAX_BUCKETS), Arc::default());
    // A check has no runtime, and its policies reach nothing.
    let outside = Handle::try_current().map_or_else(|_| Ok(Outside::default()), Outside::on)?;
    let (workers, outside, components) = (workers(config), Arc::new(outside), Arc::default());
    let (ending, stored) = (AtomicBool::new(false), OnceLock::new());
    let fetched = openapi::Fetched::default();
    Ok(Kept { catalog, limits, names, workers, outside, ending, components, fetched, stored })
}
