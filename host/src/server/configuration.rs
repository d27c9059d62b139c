//! The configuration of a gateway that runs: applied from its file, shown, checked, compared, and put into the file.
//!
//! One way leads to what runs, whoever asks for it: [`Changes::take_up`]. What is sent goes into the file at the very moment
//! from which it runs, so that the next start finds it; a file that cannot be written refuses the change.

use super::change::Changes;
use super::namesakes::Namesakes;
use super::noting::{self, Cause, Way};
use super::{StartError, sentence};
use crate::api::public::left_out;
use crate::api::{Applied, ConfigControl, ConfigError};
use crate::audit::Who;
use crate::clock::Millis;
use crate::config::{self, Config, Described, Problem, Source};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Changes that one answer tells; the rest is counted.
const TOLD: usize = 2_000;

/// What is known of the configuration that runs beyond what it says.
pub(super) struct Standing {
    /// As it is written. The text of a snapshot may be an earlier one that means the same.
    source: Source,
    since: Millis,
    cause: Cause,
    /// What the process was started with.
    started: Source,
    /// What was saved last, and could not be applied.
    refused: Option<Refused>,
    /// The configuration of which was said last what of it takes effect only after a restart.
    looked_through: Option<Config>,
}

/// A saved configuration that was refused.
struct Refused {
    file: PathBuf,
    at: Millis,
    cause: Cause,
    digest: Option<String>,
    /// All of it, as it is in the log.
    text: String,
    problems: Vec<Problem>,
    count: usize,
}

impl Standing {
    /// Of a gateway that has just been started.
    pub(super) fn at(config: &Config, now: Millis) -> Self {
        let (source, started) = (config.source.clone(), config.source.clone());
        let cause = Cause::gateway(Way::Start);
        Self { source, since: now, cause, started, refused: None, looked_through: None }
    }

    /// As the configuration that runs is written.
    pub(super) fn source(&self) -> Source {
        self.source.clone()
    }

    /// Another text runs now; what was there before.
    pub(super) fn replace(&mut self, source: &Source, cause: &Cause, now: Millis) -> Source {
        if self.source.digest() != source.digest() {
            (self.since, self.cause) = (now, cause.clone());
        }
        std::mem::replace(&mut self.source, source.clone())
    }

    /// A file that could not be applied may have waited for a component.
    pub(super) fn waits_for_components(&self) -> Option<PathBuf> {
        self.refused.as_ref().map(|refused| refused.file.clone())
    }
}

impl Changes {
    /// Applies what the file says now, and says in the log how that went.
    pub(super) fn configuration(self: &Arc<Self>, file: &Path, way: Way) {
        // Saved again, the same problems are worth the same words.
        if let Some(refused) = &mut self.standing().refused {
            refused.text.clear();
        }
        self.apply_file(file, &Cause::gateway(way));
    }

    /// As [`Self::configuration`]; what was said of it already is not said again.
    pub(super) fn apply_file(self: &Arc<Self>, file: &Path, cause: &Cause) {
        let one = self.one_at_a_time();
        let earlier = self.gateway.live.load_full();
        let read = config::read(file);
        let digest = read.as_ref().ok().map(|source| source.digest().to_owned());
        let parsed = read.and_then(|source| config::parse(source.text(), file)).map_err(StartError::from);
        let applied = parsed.and_then(|new| {
            self.tell_restarts(&earlier.config, &new);
            self.take_up(new, cause, || Ok(()))
        });
        match applied {
            Ok(applied) => {
                self.standing().refused = None;
                tracing::info!(generation = applied.generation, "applied {}", file.display());
            }
            Err(error) => self.refuse(file, digest, &error, cause),
        }
        drop(one);
        self.follow(&earlier.config);
    }

    fn refuse(&self, file: &Path, digest: Option<String>, error: &StartError, cause: &Cause) {
        if self.kept.ending.load(Ordering::Relaxed) {
            return;
        }
        let (at, text, (problems, count)) = (self.gateway.clock.now(), error.to_string(), error.problems());
        let refused = Refused {
            file: file.to_owned(),
            at,
            cause: cause.clone(),
            digest: digest.clone(),
            text: text.clone(),
            problems,
            count,
        };
        let mut standing = self.standing();
        let known = |before: &Refused| before.text == refused.text && before.file == file;
        if standing.refused.as_ref().is_some_and(known) {
            // Tried again for a component, and no news: it stays the refusal that it was.
            return;
        }
        let before = standing.refused.replace(refused);
        drop(standing);
        tracing::error!("{} was not applied, the running configuration stays:\n{text}", file.display());
        let again = before.is_some_and(|before| before.digest == digest && digest.is_some());
        if !again {
            let note = noting::unapplied(&self.standing().source, digest.as_deref(), error, cause, at);
            self.noting.tell([note]);
        }
    }

    /// Watches the directory of components that the configuration names now.
    fn follow(self: &Arc<Self>, earlier: &Config) {
        if self.gateway.live.load().config.plugins.directory != earlier.plugins.directory {
            self.watch_plugins();
            // What was saved there before it was watched.
            self.components();
        }
    }

    /// Says what takes effect only after a restart; of a configuration that is tried again, nothing that was said already.
    fn tell_restarts(&self, running: &Config, new: &Config) {
        let before = self.standing().looked_through.replace(new.clone());
        let is_said = |key: &&str| before.as_ref().is_some_and(|before| !before.needs_restart(new).contains(key));
        for key in running.needs_restart(new).into_iter().filter(|key| !is_said(key)) {
            tracing::warn!("`{key}` has changed, and takes effect only after a restart");
        }
    }

    fn path(&self) -> PathBuf {
        self.gateway.live.load().config.path.clone()
    }

    fn parse(&self, text: &str) -> Result<Config, ConfigError> {
        if text.trim_ascii().is_empty() {
            // The next start would not take such a file, either.
            let told = "the text is empty; a configuration names at least one pillar";
            return Err(ConfigError::NotFitting { problems: vec![Problem::at("", told)], count: 1 });
        }
        config::parse(text, &self.path()).map_err(|problems| not_fitting(&problems.into()))
    }
}

impl ConfigControl for Changes {
    fn show(&self, under: &str) -> Option<Value> {
        let snapshot = self.gateway.live.load_full();
        let path = &snapshot.config.path;
        let (source, mut shown, started) = {
            let standing = self.standing();
            let shown = json!({
                "digest": standing.source.digest(),
                "generation": snapshot.generation,
                "applied_at": standing.since,
                "applied_by": standing.cause.way.to_string(),
                "actor": standing.cause.who,
                "file": path,
                "refused": standing.refused.as_ref().map(Refused::shown),
            });
            (standing.source(), shown, standing.started.clone())
        };
        let described = Described::of(&source, path)?;
        shown["configuration"] = described.shown(under)?;
        shown["defaults"] = described.defaults(under).collect();
        let saved = config::read(path).ok().map(|saved| saved.digest().to_owned());
        shown["file_digest"] = json!(saved);
        let started = config::parse(started.text(), path).ok();
        shown["waits_for_restart"] = json!(started.map(|started| started.needs_restart(&snapshot.config)));
        Some(shown)
    }

    fn check(&self, text: &str) -> Result<Value, ConfigError> {
        let _one = self.one_at_a_time();
        let config = self.parse(text)?;
        let running = self.gateway.live.load_full();
        let restarts = running.config.needs_restart(&config);
        let (snapshot, outcomes) = self.kept.try_out(config, &running).map_err(|error| not_fitting(&error))?;
        let overdrawn = snapshot.rooms.overdrawn().map(|overdrawn| overdrawn.to_string());
        let refused = outcomes.iter().filter_map(|outcome| Some((&outcome.policy, outcome.refused.as_ref()?)));
        let refused = refused.flat_map(|(policy, (_, problems))| {
            let went_on = |problem: &Problem| format!("`{policy}` would go on with an earlier version: {problem}");
            problems.iter().map(went_on).collect::<Vec<_>>()
        });
        let notes = overdrawn.chain(Namesakes::among(&snapshot).sentences()).chain(refused);
        let notes: Vec<String> = notes.chain(left_out((&snapshot).into())).collect();
        let digest = snapshot.config.source.digest();
        Ok(json!({ "fits": true, "digest": digest, "notes": notes, "needs_restart": restarts }))
    }

    fn diff(&self, text: &str) -> Result<Value, ConfigError> {
        let new = self.parse(text)?;
        let running = self.gateway.live.load_full();
        let source = self.standing().source();
        let described = |source: &Source| {
            let failed = || ConfigError::Failed("the configuration cannot be described".into());
            Described::of(source, &running.config.path).ok_or_else(failed)
        };
        let changes = described(&source)?.changes(&described(&new.source)?);
        let restarts = running.config.needs_restart(&new);
        let below =
            |key: &str, top: &str| key.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let row = |change: &config::Change| {
            let restart = restarts.iter().any(|top| below(&change.key, top));
            json!({ "key": change.key, "old": change.old, "new": change.new, "needs_restart": restart })
        };
        let told: Vec<Value> = changes.iter().take(TOLD).map(row).collect();
        Ok(json!({
            "based_on": source.digest(), "digest": new.source.digest(), "changes": told, "changed_keys": changes.len(),
            "needs_restart": restarts,
        }))
    }

    fn apply(self: Arc<Self>, text: &str, based_on: &str, who: Who) -> Result<Applied, ConfigError> {
        let one = self.one_at_a_time();
        let (earlier, file) = (self.gateway.live.load_full(), self.path());
        let running = self.standing().source();
        let saved = config::read(&file).ok().map(|saved| saved.digest().to_owned());
        if running.digest() != based_on || saved.as_deref() != Some(based_on) {
            // What somebody saved, and what does not run yet or cannot, would be gone.
            return Err(ConfigError::Changed { running: running.digest().to_owned(), saved });
        }
        let new = self.parse(text)?;
        let restarts = earlier.config.needs_restart(&new);
        self.tell_restarts(&earlier.config, &new);
        let (digest, mut not_written) = (new.source.digest().to_owned(), None);
        let mut meanwhile = None;
        let write = || {
            // What somebody saved while this was compiled would be gone.
            let saved = config::read(&file).ok().map(|saved| saved.digest().to_owned());
            if saved.as_deref() != Some(based_on) {
                meanwhile = Some(ConfigError::Changed { running: based_on.to_owned(), saved });
                return Err(StartError::Cannot("the file was saved meanwhile".into()));
            }
            config::replace(&file, text).map_err(|error| {
                let told = StartError::Cannot(sentence(&error));
                not_written = Some(error);
                told
            })
        };
        let taken_up = self.take_up(new, &Cause::caller(who), write);
        if let Some(changed) = meanwhile {
            return Err(changed);
        }
        let taken_up = match (taken_up, not_written) {
            (_, Some(error)) => return Err(ConfigError::NotWritten(error)),
            (Err(StartError::Cannot(sentence)), None) => return Err(ConfigError::Failed(sentence.into())),
            (taken_up, None) => taken_up.map_err(|error| not_fitting(&error))?,
        };
        self.standing().refused = None;
        tracing::info!(generation = taken_up.generation, "applied what was sent, and wrote it to {}", file.display());
        let refused = taken_up.refused.iter().flat_map(|(policy, problems)| {
            problems.iter().map(move |problem| format!("`{policy}` goes on with an earlier version: {problem}"))
        });
        let shown = json!({
            "digest": digest, "generation": taken_up.generation, "before": running.digest(), "file": file,
            "needs_restart": restarts, "notes": refused.collect::<Vec<_>>(),
        });
        let noted =
            taken_up.changed.map_or(Value::Null, |changed| json!({ "before": changed.before, "after": changed.after }));
        drop(one);
        self.follow(&earlier.config);
        Ok(Applied { shown, noted })
    }
}

impl Refused {
    fn shown(&self) -> Value {
        json!({
            "at": self.at, "by": self.cause.way.to_string(), "file": self.file, "digest": self.digest,
            "problems": self.problems, "count": self.count,
        })
    }
}

fn not_fitting(error: &StartError) -> ConfigError {
    let (problems, count) = error.problems();
    ConfigError::NotFitting { problems, count }
}
