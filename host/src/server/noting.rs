//! What the audit log is told of what runs: components that serve or were refused, and configurations that were applied.
//!
//! Never stops a change and never hides one: what cannot be noted is in the log file and counted, and what happened stands. Of a
//! configuration digests and key paths are noted, never a value.

use super::forgiven::TakenOff;
use super::{StartError, sentence};
use crate::audit::{AuditStore, Note, Who};
use crate::clock::Millis;
use crate::config::{Config, Described, Problem, Source};
use crate::data::Failure;
use crate::outbox::SledOutbox;
use crate::plugin::shelf::Shelf;
use crate::snapshot::Outcome;
use serde_json::{Value, json};
use std::fmt;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Keys and reasons that one entry tells; the rest is counted.
const TOLD: usize = 100;
/// The mark of the configuration that was applied last.
const MARK: &str = "configuration";

/// By whom and by which way something changes.
#[derive(Debug, Clone)]
pub(super) struct Cause {
    pub(super) who: Who,
    pub(super) way: Way,
}

/// By which way something changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The gateway was started.
    Start,
    /// A saved configuration was seen.
    File,
    /// It was told by a signal to look at its file.
    Signal,
    /// A saved component was seen.
    Plugins,
    /// Somebody asked for it over the admin API.
    Api,
}

impl Cause {
    /// Of the gateway's own accord.
    pub(super) fn gateway(way: Way) -> Self {
        Self { who: Who::gateway(), way }
    }

    /// By somebody who asks the admin API.
    pub(super) fn caller(who: Who) -> Self {
        Self { who, way: Way::Api }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::File => "file",
            Self::Signal => "signal",
            Self::Plugins => "plugins",
            Self::Api => "api",
        })
    }
}

/// The way to the audit log.
pub(super) struct Noting {
    log: Arc<dyn AuditStore>,
    outbox: SledOutbox,
    control: Handle,
}

impl Noting {
    pub(super) fn new(log: Arc<dyn AuditStore>, outbox: SledOutbox, control: Handle) -> Self {
        Self { log, outbox, control }
    }

    /// Notes these, one after the other. Waits: never called on an asynchronous thread.
    pub(super) fn tell(&self, notes: impl IntoIterator<Item = Note>) {
        for note in notes {
            let (action, on) = (note.action.clone(), note.on.join(" "));
            if let Err(error) = self.control.block_on(self.log.append(note)) {
                tracing::error!(%action, on, "this happened, and cannot be noted in the audit log: {}", sentence(&error));
            }
        }
    }

    /// What resets have taken off months; blocks.
    pub(super) fn taken_off(&self, now: Millis) -> Result<TakenOff, Failure> {
        TakenOff::read(&self.outbox, now)
    }

    /// Remembers for the next start which configuration runs.
    pub(super) fn remember(&self, config: &Config) {
        if let Err(error) = self.outbox.append_marked(MARK, config.source.digest().as_bytes(), &[]) {
            tracing::warn!("the next start will note the configuration again: {}", sentence(&error));
        }
    }

    /// Notes at a start that another configuration runs than before it, and all that is noted of components.
    pub(super) fn started(&self, config: &Config, generation: u64, now: Millis, notes: Vec<Note>) {
        let known = self.outbox.mark(MARK).unwrap_or_else(|error| {
            tracing::warn!("which configuration ran before is not known: {}", sentence(&error));
            None
        });
        if known.as_deref() != Some(config.source.digest().as_bytes()) {
            let before = known.map(|digest| json!({ "digest": String::from_utf8_lossy(&digest), "generation": null }));
            let after = json!({
                "digest": config.source.digest(), "generation": generation, "file": config.path, "by": Way::Start.to_string(),
            });
            let change = Changed { before: before.unwrap_or(Value::Null), after };
            self.tell([change.note(&Cause::gateway(Way::Start), now)]);
            self.remember(config);
        }
        self.tell(notes);
    }
}

/// One configuration in the place of another.
#[derive(Debug, Clone)]
pub(super) struct Changed {
    pub(super) before: Value,
    pub(super) after: Value,
}

impl Changed {
    /// In what they differ; none where the same text is applied again.
    pub(super) fn between(old: (&Source, &Config, u64), new: (&Config, u64), way: Way) -> Option<Self> {
        let ((source, before, was), (config, is)) = (old, new);
        if source.digest() == config.source.digest() {
            return None;
        }
        let keys = differing(source, config);
        let told: Vec<&String> = keys.iter().take(TOLD).collect();
        Some(Self {
            before: json!({ "digest": source.digest(), "generation": was }),
            after: json!({
                "digest": config.source.digest(), "generation": is, "file": config.path, "by": way.to_string(),
                "changed": told, "changed_keys": keys.len(), "needs_restart": before.needs_restart(config),
            }),
        })
    }

    pub(super) fn note(&self, cause: &Cause, now: Millis) -> Note {
        let note = Note::new(cause.who.clone(), "configuration.applied", now).on("configuration");
        note.change(self.before.clone(), self.after.clone())
    }
}

/// The key paths in which two configurations differ.
fn differing(old: &Source, new: &Config) -> Vec<String> {
    let described = |source: &Source| Described::of(source, &new.path);
    let changes = described(old).zip(described(&new.source)).map(|(old, new)| old.changes(&new));
    changes.into_iter().flatten().map(|change| change.key).collect()
}

/// A saved configuration that was refused, by the places of its problems.
pub(super) fn unapplied(
    running: &Source,
    digest: Option<&str>,
    error: &StartError,
    cause: &Cause,
    now: Millis,
) -> Note {
    let (problems, count) = error.problems();
    let after = json!({
        "digest": running.digest(), "refused": digest, "by": cause.way.to_string(),
        "problems_at": places(&problems), "problems": count,
    });
    let note = Note::new(cause.who.clone(), "configuration.refused", now).on("configuration");
    note.change(json!({ "digest": running.digest() }), after)
}

/// Components that take the place of others, as the shelf does not know yet. While it runs, those of new policies too.
pub(super) fn swapped(shelf: &Shelf, outcomes: &[Outcome], cause: &Cause, generation: u64, now: Millis) -> Vec<Note> {
    let swapped = |outcome: &Outcome| {
        let digest = outcome.serving.digest.as_ref()?;
        let before = shelf.card(&outcome.policy).serving;
        let is_news = match &before {
            Some(before) => before != digest,
            None => cause.way != Way::Start,
        };
        let after = json!({
            "digest": digest, "version": outcome.version, "plugin": outcome.plugin, "generation": generation,
            "by": cause.way.to_string(),
        });
        let before = before.map_or(Value::Null, |digest| json!({ "digest": digest }));
        let note = Note::new(cause.who.clone(), "plugin.swapped", now).on(&outcome.policy).change(before, after);
        is_news.then_some(note)
    };
    outcomes.iter().filter_map(swapped).collect()
}

/// A component that was refused.
pub(super) fn refused(
    outcome: &Outcome,
    digest: Option<&str>,
    problems: &[Problem],
    cause: &Cause,
    now: Millis,
) -> Note {
    let serving = &outcome.serving.digest;
    let after = json!({
        "digest": serving, "refused": digest, "plugin": outcome.plugin, "by": cause.way.to_string(),
        "problems_at": places(problems), "problems": problems.len(),
    });
    let note = Note::new(cause.who.clone(), "plugin.refused", now).on(&outcome.policy);
    note.change(json!({ "digest": serving }), after)
}

/// Where problems are. What they say may repeat a value, and stands in the log file and the history.
fn places(problems: &[Problem]) -> Vec<&str> {
    let mut places: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
    places.dedup();
    places.truncate(TOLD);
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Filter, SledAudit};
    use crate::config::SecretSource;
    use crate::data::DataDirectory;
    use crate::seal::Vault;
    use std::path::Path;
    use std::sync::atomic::Ordering;

    struct Kept {
        _place: tempfile::TempDir,
        _data: DataDirectory,
        log: SledAudit,
        noting: Arc<Noting>,
    }

    fn opened() -> Kept {
        let place = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(&place.path().join("data")).unwrap();
        let vault = Vault::open(&SecretSource::File(place.path().join("master.key")), &data).unwrap();
        let log = SledAudit::open(data.database(), &vault, Millis(1)).unwrap();
        let outbox = SledOutbox::open(data.database()).unwrap();
        let noting = Arc::new(Noting::new(Arc::new(log.clone()), outbox, Handle::current()));
        Kept { _place: place, _data: data, log, noting }
    }

    fn config(text: &str) -> Config {
        crate::config::parse(text, Path::new("x.toml")).unwrap()
    }

    async fn entries(kept: &Kept, action: &str) -> Vec<Note> {
        let filter = Filter { action: Some(action.to_owned()), ..Filter::default() };
        let page = kept.log.page(filter, None, 100).await.unwrap();
        page.entries.into_iter().map(|entry| entry.note).collect()
    }

    async fn apart(kept: &Kept, work: impl FnOnce(&Noting) + Send + 'static) {
        let noting = kept.noting.clone();
        tokio::task::spawn_blocking(move || work(&noting)).await.unwrap();
    }

    #[tokio::test]
    async fn what_cannot_be_noted_is_counted_and_holds_up_nothing() {
        let kept = opened();
        let note = |policy: &str| Note::new(Who::gateway(), "plugin.swapped", Millis(2)).on(policy);
        let (one, two, three) = (note("a"), note("b"), note("c"));
        apart(&kept, move |noting| noting.tell([one])).await;
        assert_eq!(kept.log.unwritten().load(Ordering::Relaxed), 0);
        kept.log.spoil_end();
        apart(&kept, move |noting| noting.tell([two, three])).await;
        assert_eq!(kept.log.unwritten().load(Ordering::Relaxed), 2, "each was tried");
        assert_eq!(entries(&kept, "plugin").await.len(), 1);
    }

    #[tokio::test]
    async fn a_start_is_noted_where_another_configuration_runs_than_before() {
        let kept = opened();
        let digest = |text: &str| config(text).source.digest().to_owned();
        for (text, count) in [("", 1), ("", 1), ("# other", 2), ("# other", 2)] {
            apart(&kept, move |noting| noting.started(&config(text), 1, Millis(3), Vec::new())).await;
            assert_eq!(entries(&kept, "configuration.applied").await.len(), count, "{text}");
        }
        let last = entries(&kept, "configuration.applied").await.swap_remove(0);
        assert_eq!((&last.before["digest"], &last.after["digest"]), (&json!(digest("")), &json!(digest("# other"))));
        assert_eq!((&last.after["by"], last.actor), (&json!("start"), Who::gateway()));
    }

    #[test]
    fn of_a_configuration_digests_and_key_paths_are_noted_and_no_value() {
        let text = |token: &str| format!("[policies.a]\nconfig.token = \"{token}\"\n[gateway]\nname = \"{token}\"\n");
        let (old, new) = (config(&text("hunter2")), config(&text("hunter3")));
        let changed = Changed::between((&old.source, &old, 3), (&new, 4), Way::File).unwrap();
        assert_eq!(changed.before, json!({ "digest": old.source.digest(), "generation": 3 }));
        assert_eq!(changed.after["changed"], json!(["gateway.name", "policies.a.config.token"]));
        assert_eq!((&changed.after["generation"], &changed.after["by"]), (&json!(4), &json!("file")));
        assert!(!format!("{changed:?}").contains("hunter"));
        assert!(Changed::between((&new.source, &new, 4), (&new, 4), Way::File).is_none());
    }
}
