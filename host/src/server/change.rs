//! Changes of what runs: another configuration, other components, what operators want of them.
//!
//! One at a time, on a thread that may wait, and all or nothing: what does not fit leaves everything as it was.

use super::namesakes::Namesakes;
use super::priming::Priming;
use super::telling::Telling;
use super::{Kept, StartError, Unfit, background, sentence};
use crate::clock::Millis;
use crate::config::{self, Config, Problem};
use crate::plugin::CodeCache;
use crate::plugin::shelf::{Shelf, ShelfError, Version};
use crate::snapshot::{Outcome, Snapshot};
use crate::usage::UsageStore;
use crate::worker::Gateway;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;

/// Everything that can change a running gateway.
pub(super) struct Changes {
    pub(super) gateway: Arc<Gateway>,
    pub(super) kept: Arc<Kept>,
    usage: Arc<dyn UsageStore>,
    control: Handle,
    pub(super) priming: Priming,
    pub(super) telling: Arc<Telling>,
    one_at_a_time: Mutex<()>,
    /// What was read last and could not be applied, and why.
    unapplied: Mutex<Option<(PathBuf, String)>>,
    /// The configuration of which was said last what of it takes effect only after a restart.
    looked_through: Mutex<Option<Config>>,
    plugins: Mutex<Option<config::watch::Watch>>,
}

/// What came of a change.
pub(super) struct Applied {
    pub(super) generation: u64,
    /// What should serve now and was refused: policies with all reasons.
    pub(super) refused: Vec<(String, Vec<Problem>)>,
}

impl Changes {
    pub(super) fn new(
        gateway: Arc<Gateway>,
        kept: Arc<Kept>,
        usage: Arc<dyn UsageStore>,
        control: Handle,
        telling: Arc<Telling>,
    ) -> Self {
        let priming = Priming::start(kept.clone());
        let (one_at_a_time, unapplied, looked_through, plugins) = Default::default();
        Self { gateway, kept, usage, control, priming, telling, one_at_a_time, unapplied, looked_through, plugins }
    }

    /// Applies what the file says now, and says in the log how that went.
    pub(super) fn configuration(self: &Arc<Self>, file: &Path) {
        self.unapplied().take();
        self.apply_file(file);
    }

    /// As [`Self::configuration`]; what was said of it already is not said again.
    fn apply_file(self: &Arc<Self>, file: &Path) {
        let one = self.one_at_a_time();
        let earlier = self.gateway.live.load_full();
        let applied = config::load(file).map_err(StartError::from).and_then(|new| {
            self.tell_restarts(&earlier.config, &new);
            self.apply(new)
        });
        let unapplied = match applied {
            Ok(Applied { generation, .. }) => {
                tracing::info!(generation, "applied {}", file.display());
                None
            }
            Err(error) => Some((file.to_owned(), error.to_string())),
        };
        let before = std::mem::replace(&mut *self.unapplied(), unapplied.clone());
        drop(one);
        if let Some((_, error)) = &unapplied
            && before != unapplied
        {
            tracing::error!("{} was not applied, the running configuration stays:\n{error}", file.display());
        }
        if self.gateway.live.load().config.plugins.directory != earlier.config.plugins.directory {
            self.watch_plugins();
            // What was saved there before it was watched.
            self.components();
        }
    }

    /// Says what takes effect only after a restart; of a configuration that is tried again, nothing that was said already.
    fn tell_restarts(&self, running: &Config, new: &Config) {
        let mut looked_through = self.looked_through.lock().unwrap_or_else(PoisonError::into_inner);
        let before = looked_through.replace(new.clone());
        let is_said = |key: &&str| before.as_ref().is_some_and(|before| !before.needs_restart(new).contains(key));
        for key in running.needs_restart(new).into_iter().filter(|key| !is_said(key)) {
            tracing::warn!("`{key}` has changed, and takes effect only after a restart");
        }
    }

    /// Looks at the components again, and says in the log what did not go well. A configuration that could not be applied may
    /// have waited for one of them.
    pub(super) fn components(self: &Arc<Self>) {
        self.components_that_serve();
        let unapplied = self.unapplied().as_ref().map(|(file, _)| file.clone());
        let Some(file) = unapplied else { return };
        let changes = self.clone();
        // Not here: what is applied may end the watch whose thread this is.
        let thread = std::thread::Builder::new().name("portico-retry".into());
        let started = thread.spawn(move || changes.apply_file(&file));
        let _ = started.inspect_err(|error| tracing::warn!("the configuration is not tried again: {error}"));
    }

    fn components_that_serve(&self) {
        let _one = self.one_at_a_time();
        if let Err(error) = self.look_again()
            && !self.kept.ending.load(Ordering::Relaxed)
        {
            tracing::error!("the components do not fit the running configuration, what serves goes on:\n{error}");
        }
    }

    /// Looks at the components again, with the configuration that runs. For whoever holds [`Self::one_at_a_time`].
    ///
    /// # Errors
    /// When nothing fits any more; then nothing has changed.
    pub(super) fn look_again(&self) -> Result<Applied, StartError> {
        let config = self.gateway.live.load().config.clone();
        self.apply(config)
    }

    /// Has components that are saved while it runs looked at.
    pub(super) fn watch_plugins(self: &Arc<Self>) {
        let directory = self.gateway.live.load().config.plugins.directory.clone();
        let changes = Arc::downgrade(self);
        let changed = move || {
            if let Some(changes) = changes.upgrade() {
                changes.components();
            }
        };
        let watch = config::watch::watch_directory(&directory, "wasm", changed);
        let watch = watch.map_err(|error| {
            tracing::warn!(
                "{} is not watched, so a new component needs `portico plugin reload`: {error}",
                directory.display()
            )
        });
        let before = std::mem::replace(&mut *self.watched(), watch.ok());
        // Outside of the lock: its thread may be waiting for it.
        drop(before);
    }

    /// Ends the watch over components, and what is done about them later.
    pub(super) fn stop(&self) {
        let watch = self.watched().take();
        drop(watch);
        self.priming.stop();
    }

    fn apply(&self, config: Config) -> Result<Applied, StartError> {
        let applied = self.swap(config);
        // Until now it would have held up what is to serve.
        if let Some(cache) = self.kept.cache() {
            self.kept.catalog.keep_code(cache, std::iter::empty());
        }
        if !self.kept.ending.load(Ordering::Relaxed) {
            self.kept.catalog.get_ready(self.gateway.live.load().config.plugins.compile);
        }
        applied
    }

    fn swap(&self, config: Config) -> Result<Applied, StartError> {
        let earlier = self.gateway.live.load_full();
        let (next, outcomes) = self.kept.build(config, Some(&earlier))?;
        if self.kept.ending.load(Ordering::Relaxed) {
            // What was broken off for that is nobody's fault, and not noted as such.
            return Err(StartError::Cannot("the gateway ends".into()));
        }
        let now = self.gateway.clock.now();
        let refused = note_refusals(self, &outcomes, now, false);
        let same = |before: &Snapshot| {
            let policies = before.policies.iter().map(Arc::as_ptr).eq(next.policies.iter().map(Arc::as_ptr));
            policies && before.disabled == next.disabled && before.roots == next.roots && before.config == next.config
        };
        if same(&earlier) {
            self.priming.hand_in(&earlier, &outcomes);
            return Ok(Applied { generation: earlier.generation, refused });
        }
        if let Err(error) = self.control.block_on(background::seed_limits(&next, Some(&earlier), &*self.usage, now)) {
            return Err(StartError::Cannot(format!("limits over a month cannot be counted: {}", sentence(&error))));
        }
        let generation = next.generation;
        keep(self.shelf(), &outcomes).map_err(|error| StartError::Cannot(sentence(&error)))?;
        tell_disabled(&next);
        tell_overdrawn(&next, Some(&earlier));
        tell_namesakes(&next, Some(&earlier));
        let next = Arc::new(next);
        self.kept.outside.trust(&next.roots);
        self.gateway.live.store(next.clone());
        self.telling.configure(&next);
        if earlier.config != next.config {
            self.telling.look_at_document(&self.gateway);
        }
        note_shipped(self, &outcomes, now);
        self.kept.components.serve(&earlier.policies, &next.policies);
        self.kept.components.forget_others(|policy| next.config.policies.contains_key(policy));
        self.priming.hand_in(&next, &outcomes);
        Ok(Applied { generation, refused })
    }

    /// The shelf of a gateway that runs.
    pub(super) fn shelf(&self) -> &Shelf {
        self.kept.shelf().expect("a gateway that runs has opened its data directory")
    }

    /// Held for as long as a change takes.
    pub(super) fn one_at_a_time(&self) -> MutexGuard<'_, ()> {
        self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unapplied(&self) -> MutexGuard<'_, Option<(PathBuf, String)>> {
        self.unapplied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watched(&self) -> MutexGuard<'_, Option<config::watch::Watch>> {
        self.plugins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps what is about to serve, so that there is something to go back to. Durable it is only when it was noted: the disk's time
/// for that is not to be waited for, and until then the versions before are there.
pub(super) fn keep(shelf: &Shelf, outcomes: &[Outcome]) -> Result<(), ShelfError> {
    for Outcome { policy, serving, .. } in outcomes {
        let (Some(digest), Ok(bytes)) = (&serving.digest, &serving.bytes) else { continue };
        // What serves already is no news: a disk that is full must not keep a configuration from being changed.
        if shelf.card(policy).serving.as_ref() != Some(digest) {
            shelf.keep(digest, bytes)?;
        }
    }
    Ok(())
}

/// Notes what serves now.
pub(super) fn note_shipped(changes: &Changes, outcomes: &[Outcome], now: Millis) {
    let shelf = changes.shelf();
    for outcome in outcomes {
        let Some(digest) = &outcome.serving.digest else { continue };
        let before = shelf.card(&outcome.policy).serving;
        let version = Version {
            plugin: outcome.plugin.clone(),
            digest: digest.clone(),
            version: outcome.version.clone(),
            since: now,
        };
        // First, for a crash in between: better told twice than never.
        if let Some(before) = before.as_ref().filter(|before| *before != digest) {
            changes.telling.swapped(outcome, before, now);
        }
        if let Err(error) = shelf.shipped(&outcome.policy, &version, outcome.serving.kept) {
            told(&outcome.policy, &error);
        }
        if before.as_ref() != Some(digest) {
            tracing::info!(policy = outcome.policy, version = outcome.version, digest, "a component serves");
        }
    }
    shelf.sweep();
}

/// Notes what was refused; says it in the log the first time, and at each start.
pub(super) fn note_refusals(
    changes: &Changes,
    outcomes: &[Outcome],
    now: Millis,
    starting: bool,
) -> Vec<(String, Vec<Problem>)> {
    let (shelf, components) = (changes.shelf(), &changes.kept.components);
    let mut all = Vec::new();
    for outcome in outcomes {
        if let Err(error) = shelf.saw(&outcome.policy, outcome.in_directory.as_deref()) {
            told(&outcome.policy, &error);
        }
        let Some((digest, problems)) = &outcome.refused else { continue };
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let reason = lines.join("\n");
        // First, for a crash in between: better told twice than never.
        if !shelf.has_refused(&outcome.policy, digest.as_deref(), &reason) {
            changes.telling.refused(outcome, digest.as_deref(), &lines, now);
        }
        match shelf.refused(&outcome.policy, digest.as_deref(), &reason, now) {
            // A start says it each time: who reads its log may know nothing of the one before.
            Ok(false) if !starting => {}
            Ok(_) => {
                components.refuse(&outcome.policy);
                tracing::error!(
                    policy = outcome.policy,
                    serving = outcome.serving.digest,
                    "a component was refused, the version before goes on:\n{reason}"
                );
            }
            Err(error) => told(&outcome.policy, &error),
        }
        all.push((outcome.policy.clone(), problems.clone()));
    }
    all
}

/// Nothing in the configuration shows it.
pub(super) fn tell_disabled(snapshot: &Snapshot) {
    for policy in &snapshot.disabled {
        tracing::warn!(policy, "disabled: it is out of its chains until `portico plugin enable`");
    }
}

/// More was promised than there is room for: what is too much is refused, call by call, and nothing else shows it.
pub(super) fn tell_overdrawn(snapshot: &Snapshot, earlier: Option<&Snapshot>) {
    let before: Vec<_> = earlier.into_iter().flat_map(|earlier| earlier.rooms.overdrawn()).collect();
    for overdrawn in snapshot.rooms.overdrawn().filter(|overdrawn| !before.contains(overdrawn)) {
        tracing::warn!("{overdrawn}");
    }
}

/// Both serve, and one may have been meant to replace the other.
pub(super) fn tell_namesakes(snapshot: &Snapshot, earlier: Option<&Snapshot>) {
    let before = earlier.map(|earlier| Namesakes::among(earlier).sentences()).unwrap_or_default();
    for sentence in Namesakes::among(snapshot).sentences().iter().filter(|sentence| !before.contains(sentence)) {
        tracing::warn!("{sentence}");
    }
}

fn told(policy: &str, error: &ShelfError) {
    tracing::error!(policy, "{}", sentence(error));
}

impl Kept {
    /// Everything of a configuration, put together.
    pub(super) fn build(
        &self,
        config: Config,
        earlier: Option<&Snapshot>,
    ) -> Result<(Snapshot, Vec<Outcome>), StartError> {
        let file: PathBuf = config.path.clone();
        let from = crate::snapshot::Ingredients {
            catalog: &self.catalog,
            limits: &self.limits,
            names: &self.names,
            workers: self.workers,
            shelf: self.shelf(),
            cache: self.cache(),
            ending: &self.ending,
            outside: &self.outside,
            earlier,
        };
        Snapshot::build(config, &from).map_err(|problems| StartError::Unfit(Unfit { file, problems }))
    }

    /// The shelf, once the data directory is open.
    pub(super) fn shelf(&self) -> Option<&Shelf> {
        self.stored.get().map(|stored| &stored.shelf)
    }

    /// The cache of compiled code, once the data directory is open and if it can be had.
    pub(super) fn cache(&self) -> Option<&CodeCache> {
        self.stored.get()?.cache.as_ref()
    }
}
