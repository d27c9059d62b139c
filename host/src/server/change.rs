//! Changes of what runs: another configuration, other components, what operators want of them.
//!
//! One at a time, on a thread that may wait, and all or nothing: what does not fit leaves everything as it was.

use super::configuration::Standing;
use super::namesakes::Namesakes;
use super::noting::{self, Cause, Changed, Noting, Way};
use super::priming::Priming;
use super::telling::Telling;
use super::{Kept, StartError, Unfit, background, sentence};
use crate::api::public::left_out;
use crate::audit::Note;
use crate::clock::Millis;
use crate::config::{self, Config, Problem};
use crate::credential::Issuer;
use crate::limit::Local;
use crate::plugin::CodeCache;
use crate::plugin::shelf::{Shelf, ShelfError, Version};
use crate::snapshot::{Outcome, Snapshot};
use crate::usage::{Names, UsageStore};
use crate::worker::Gateway;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;

/// Everything that can change a running gateway.
pub(super) struct Changes {
    pub(super) gateway: Arc<Gateway>,
    pub(super) kept: Arc<Kept>,
    usage: Arc<dyn UsageStore>,
    control: Handle,
    issuer: Arc<Issuer>,
    pub(super) priming: Priming,
    pub(super) telling: Arc<Telling>,
    pub(super) noting: Noting,
    one_at_a_time: Mutex<()>,
    /// What is known of the configuration beyond what it says.
    standing: Mutex<Standing>,
    plugins: Mutex<Option<config::watch::Watch>>,
}

/// What came of a change.
pub(super) struct Applied {
    pub(super) generation: u64,
    /// What should serve now and was refused: policies with all reasons.
    pub(super) refused: Vec<(String, Vec<Problem>)>,
    /// In what the configuration differs, where it does.
    pub(super) changed: Option<Changed>,
}

impl Changes {
    pub(super) fn new(
        gateway: Arc<Gateway>,
        kept: Arc<Kept>,
        usage: Arc<dyn UsageStore>,
        control: Handle,
        issuer: Arc<Issuer>,
        telling: Arc<Telling>,
        noting: Noting,
    ) -> Self {
        let priming = Priming::start(kept.clone());
        let standing = Mutex::new(Standing::at(&gateway.live.load().config, gateway.clock.now()));
        let (one_at_a_time, plugins) = Default::default();
        Self { gateway, kept, usage, control, issuer, priming, telling, noting, one_at_a_time, standing, plugins }
    }

    /// Notes what the start led to.
    pub(super) fn note_start(&self, notes: Vec<Note>) {
        let snapshot = self.gateway.live.load_full();
        self.noting.started(&snapshot.config, snapshot.generation, self.gateway.clock.now(), notes);
    }

    /// Looks at the components again, and says in the log what did not go well. A configuration that could not be applied may
    /// have waited for one of them.
    pub(super) fn components(self: &Arc<Self>) {
        self.components_that_serve();
        let Some(file) = self.standing().waits_for_components() else { return };
        let changes = self.clone();
        // Not here: what is applied may end the watch whose thread this is.
        let thread = std::thread::Builder::new().name("portico-retry".into());
        let started = thread.spawn(move || changes.apply_file(&file, &Cause::gateway(Way::Plugins)));
        let _ = started.inspect_err(|error| tracing::warn!("the configuration is not tried again: {error}"));
    }

    fn components_that_serve(&self) {
        let _one = self.one_at_a_time();
        if let Err(error) = self.look_again(&Cause::gateway(Way::Plugins))
            && !self.kept.ending.load(Ordering::Relaxed)
        {
            tracing::error!("the components do not fit the running configuration, what serves goes on:\n{error}");
        }
    }

    /// Looks at the components again, with the configuration that runs. For whoever holds [`Self::one_at_a_time`].
    ///
    /// # Errors
    /// When nothing fits any more; then nothing has changed.
    pub(super) fn look_again(&self, cause: &Cause) -> Result<Applied, StartError> {
        let mut config = self.gateway.live.load().config.clone();
        config.source = self.standing().source();
        self.take_up(config, cause, || Ok(()))
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

    /// Has a configuration run. `commit` is done when nothing else can go wrong any more, right before requests see it; where
    /// that fails, everything stays as it was. For whoever holds [`Self::one_at_a_time`].
    ///
    /// # Errors
    /// Everything that does not fit; then nothing has changed.
    pub(super) fn take_up(
        &self,
        config: Config,
        cause: &Cause,
        commit: impl FnOnce() -> Result<(), StartError>,
    ) -> Result<Applied, StartError> {
        let applied = self.swap(config, cause, commit);
        // Until now it would have held up what is to serve.
        if let Some(cache) = self.kept.cache() {
            self.kept.catalog.keep_code(cache, std::iter::empty());
        }
        if !self.kept.ending.load(Ordering::Relaxed) {
            self.kept.catalog.get_ready(self.gateway.live.load().config.plugins.compile);
        }
        applied
    }

    fn swap(
        &self,
        config: Config,
        cause: &Cause,
        commit: impl FnOnce() -> Result<(), StartError>,
    ) -> Result<Applied, StartError> {
        let earlier = self.gateway.live.load_full();
        let (next, outcomes) = self.kept.build(config, Some(&earlier))?;
        if self.kept.ending.load(Ordering::Relaxed) {
            // What was broken off for that is nobody's fault, and not noted as such.
            return Err(StartError::Cannot("the gateway ends".into()));
        }
        let now = self.gateway.clock.now();
        let (refused, notes) = note_refusals(self, &outcomes, now, cause);
        self.noting.tell(notes);
        let same = |before: &Snapshot| {
            let policies = before.policies.iter().map(Arc::as_ptr).eq(next.policies.iter().map(Arc::as_ptr));
            policies
                && before.disabled == next.disabled
                && before.roots == next.roots
                && before.config == next.config
                && before.documents == next.documents
        };
        if same(&earlier) {
            commit()?;
            self.priming.hand_in(&earlier, &outcomes);
            // It means the same; it may be written in other words.
            let generation = earlier.generation;
            let changed = self.note_configuration((&earlier, &next.config), generation, cause, now);
            return Ok(Applied { generation, refused, changed });
        }
        let uncounted = |error: &dyn std::error::Error| {
            StartError::Cannot(format!("limits over a month cannot be counted: {}", sentence(error)))
        };
        let taken_off = self.noting.taken_off(now).map_err(|error| uncounted(&error))?;
        let seed = background::seed_limits(&next, Some(&earlier), &*self.usage, &taken_off, now);
        self.control.block_on(seed).map_err(|error| uncounted(&error))?;
        let generation = next.generation;
        keep(self.shelf(), &outcomes).map_err(|error| StartError::Cannot(sentence(&error)))?;
        commit()?;
        tell_disabled(&next);
        tell_overdrawn(&next, Some(&earlier));
        tell_namesakes(&next, Some(&earlier));
        tell_left_out(&next, Some(&earlier));
        let next = Arc::new(next);
        self.kept.outside.trust(&next.roots);
        self.issuer.allow(next.config.keys.most);
        self.issuer.keep_hot(next.config.keys.hot);
        self.gateway.live.store(next.clone());
        self.telling.configure(&next);
        if earlier.config != next.config || earlier.documents != next.documents {
            self.telling.look_at_document(&self.gateway);
        }
        // Noted before the shelf knows: cut off in between, it is noted twice rather than never.
        let changed = self.note_configuration((&earlier, &next.config), generation, cause, now);
        self.noting.tell(noting::swapped(self.shelf(), &outcomes, cause, generation, now));
        note_shipped(self, &outcomes, now);
        self.kept.components.serve(&earlier.policies, &next.policies);
        self.kept.components.forget_others(|policy| next.config.policies.contains_key(policy));
        self.priming.hand_in(&next, &outcomes);
        Ok(Applied { generation, refused, changed })
    }

    /// Notes a configuration that runs now. One that somebody asked for is noted with what they asked.
    fn note_configuration(
        &self,
        (earlier, config): (&Snapshot, &Config),
        generation: u64,
        cause: &Cause,
        now: Millis,
    ) -> Option<Changed> {
        let before = self.standing().replace(&config.source, cause, now);
        let old = (&before, &earlier.config, earlier.generation);
        let changed = Changed::between(old, (config, generation), cause.way)?;
        if cause.way != Way::Api {
            self.noting.tell([changed.note(cause, now)]);
        }
        self.noting.remember(config);
        Some(changed)
    }

    /// The shelf of a gateway that runs.
    pub(super) fn shelf(&self) -> &Shelf {
        self.kept.shelf().expect("a gateway that runs has opened its data directory")
    }

    /// Held for as long as a change takes.
    pub(super) fn one_at_a_time(&self) -> MutexGuard<'_, ()> {
        self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held for moments.
    pub(super) fn standing(&self) -> MutexGuard<'_, Standing> {
        // Each member is whole whatever its holder was interrupted in.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Notes what was refused; says it in the log the first time, and at each start. What is news is for the audit log, too.
pub(super) fn note_refusals(
    changes: &Changes,
    outcomes: &[Outcome],
    now: Millis,
    cause: &Cause,
) -> (Vec<(String, Vec<Problem>)>, Vec<Note>) {
    let (shelf, components) = (changes.shelf(), &changes.kept.components);
    let starting = cause.way == Way::Start;
    let (mut all, mut notes) = (Vec::new(), Vec::new());
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
            Ok(first) => {
                if first {
                    notes.push(noting::refused(outcome, digest.as_deref(), problems, cause, now));
                }
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
    (all, notes)
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

/// Says what of the documents of pillars is not in the gateway's own, and was not before.
pub(super) fn tell_left_out(snapshot: &Snapshot, earlier: Option<&Snapshot>) {
    let before = earlier.map(|earlier| left_out(earlier.into())).unwrap_or_default();
    for sentence in left_out(snapshot.into()).iter().filter(|sentence| !before.contains(sentence)) {
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
        self.build_with(config, earlier, (&self.limits, &self.names), false)
    }

    /// As [`Self::build`], for a start: what only describes a pillar does not hold it up.
    pub(super) fn build_to_start(&self, config: Config) -> Result<(Snapshot, Vec<Outcome>), StartError> {
        self.build_with(config, None, (&self.limits, &self.names), true)
    }

    /// As [`Self::build`], for a snapshot that will not serve: no limit and no name stays behind.
    pub(super) fn try_out(&self, config: Config, earlier: &Snapshot) -> Result<(Snapshot, Vec<Outcome>), StartError> {
        self.build_with(config, Some(earlier), (&Local::new(0), &Names::default()), false)
    }

    fn build_with(
        &self,
        config: Config,
        earlier: Option<&Snapshot>,
        (limits, names): (&Local, &Names),
        starts: bool,
    ) -> Result<(Snapshot, Vec<Outcome>), StartError> {
        let file: PathBuf = config.path.clone();
        let from = crate::snapshot::Ingredients {
            catalog: &self.catalog,
            limits,
            names,
            workers: self.workers,
            shelf: self.shelf(),
            cache: self.cache(),
            ending: &self.ending,
            outside: &self.outside,
            earlier,
            fetched: &self.fetched,
            starts,
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
