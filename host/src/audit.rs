//! The audit log: who changed what, when, and how it was before and after. Append-only, each entry chained to the one before.
//!
//! Holds ids and never a secret; what a person could be known by is held beside the chain, and can be erased. Whoever edits
//! the store cannot make the chain fit again: every entry and the end of the chain have a tag under a key that comes from the
//! master key.

mod chain;
mod held;
mod sled;

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use self::chain::{Fault, Head, Verdict};
pub use self::sled::SledAudit;
use crate::clock::Millis;
use crate::data;
use crate::id::{NoRandomness, OrgId};
use crate::seal;

/// What kind of actor made a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// Whoever holds the super-admin's token.
    SuperAdmin,
    /// A token of the admin API.
    Token,
    /// An API key, within its management scopes.
    Key,
    /// The gateway itself.
    Gateway,
}

impl ActorKind {
    /// As it is written in an entry.
    pub fn name(self) -> &'static str {
        match self {
            Self::SuperAdmin => "super_admin",
            Self::Token => "token",
            Self::Key => "key",
            Self::Gateway => "gateway",
        }
    }
}

/// Who made a change, and from where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// Of what kind.
    pub kind: ActorKind,
    /// The id of the token or the key.
    pub id: Option<String>,
    /// The address that the request came from.
    pub address: Option<IpAddr>,
}

impl Who {
    /// The gateway, of its own accord.
    pub fn gateway() -> Self {
        Self { kind: ActorKind::Gateway, id: None, address: None }
    }
}

/// What is to be said of one change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// When.
    pub at: Millis,
    /// Who.
    pub actor: Who,
    /// What was done, with a dot: `key.rotated`.
    pub action: Cow<'static, str>,
    /// Whose org it is about, where it is about one.
    pub org: Option<OrgId>,
    /// On what: ids or names.
    pub on: Vec<String>,
    /// How that was before; null where it was not there.
    pub before: Value,
    /// How it is since; null where it is gone.
    pub after: Value,
}

impl Note {
    /// A note that does not say yet on what. The store that makes the change completes it.
    pub fn new(actor: Who, action: &'static str, at: Millis) -> Self {
        Self { at, actor, action: action.into(), org: None, on: Vec::new(), before: Value::Null, after: Value::Null }
    }

    /// About something of this org.
    pub fn org(mut self, org: Option<OrgId>) -> Self {
        self.org = org;
        self
    }

    /// About this, too.
    pub fn on(mut self, id: impl fmt::Display) -> Self {
        self.on.push(id.to_string());
        self
    }

    /// How it was, and how it is.
    pub fn change(mut self, before: Value, after: Value) -> Self {
        (self.before, self.after) = (before, after);
        self
    }
}

/// A note in its place in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place: from 1, without gaps.
    pub sequence: u64,
    /// What it says.
    #[serde(flatten)]
    pub note: Note,
    /// Which of it was erased, as JSON pointers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub erased: Vec<String>,
}

/// Which entries are meant; what is not given does not matter.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those about something of this org.
    pub org: Option<OrgId>,
    /// Not before this instant.
    pub since: Option<Millis>,
    /// Before this instant.
    pub until: Option<Millis>,
    /// By an actor with this id or of this kind.
    pub actor: Option<String>,
    /// With this action; a word without a dot means all that begin with it and a dot.
    pub action: Option<String>,
    /// On this.
    pub object: Option<String>,
}

impl Filter {
    /// Whether an entry is meant.
    pub fn matches(&self, note: &Note) -> bool {
        let action = |wanted: &String| {
            *wanted == note.action
                || note.action.strip_prefix(wanted.as_str()).is_some_and(|rest| rest.starts_with('.'))
        };
        let actor = |wanted: &String| note.actor.id.as_ref() == Some(wanted) || note.actor.kind.name() == wanted;
        self.org.is_none_or(|org| note.org == Some(org))
            && self.since.is_none_or(|since| note.at >= since)
            && self.until.is_none_or(|until| note.at < until)
            && self.actor.as_ref().is_none_or(actor)
            && self.action.as_ref().is_none_or(action)
            && self.object.as_ref().is_none_or(|wanted| note.on.contains(wanted))
    }
}

/// Some entries of a longer list, newest first.
#[derive(Debug)]
pub struct Page {
    /// The entries. A page may have few or none and still not be the last: only so many are looked at for one page.
    pub entries: Vec<Entry>,
    /// The sequence to go on before, where there may be more.
    pub next: Option<u64>,
}

/// What a store answers with, in its own time.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Why the log did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed.
    #[error("the audit log cannot be read or written")]
    Database(#[from] data::Failure),
    /// Whether the log was begun is not known.
    #[error("whether the audit log was begun cannot be read or written")]
    Vault(#[from] seal::Error),
    /// Nothing is appended to a chain whose end was tampered with.
    #[error(
        "the end of the audit log does not verify, so no change is made; see `portico audit verify`, and restore the data directory from a backup"
    )]
    Broken,
    /// An entry is not one of ours.
    #[error("entry {sequence} of the audit log cannot be read; see `portico audit verify`")]
    Damaged {
        /// Its place.
        sequence: u64,
    },
    /// No salt for what is held beside the chain.
    #[error("an entry cannot be written without chance")]
    Randomness(#[from] NoRandomness),
    /// The work was cut off: the gateway is stopping.
    #[error("the audit log is closing")]
    Closing,
}

/// The action of the entry that lets values of earlier entries about its org be gone.
pub const ORG_ERASED: &str = "org.erased";

/// The store that keeps the log. Durable before it answers; called on the control runtime only.
///
/// A change of something in the same database is not noted through here: its store appends the entry within the transaction.
pub trait AuditStore: fmt::Debug + Send + Sync {
    /// Appends an entry; its sequence.
    fn append(&self, note: Note) -> Answer<'_, u64>;

    /// At most `limit` entries that a filter means, newest first, before the sequence `before`.
    fn page(&self, filter: Filter, before: Option<u64>, limit: usize) -> Answer<'_, Page>;

    /// Looks at every entry.
    fn verify(&self) -> Answer<'_, Verdict>;

    /// Erases some of the values that are held beside entries about an org, of those before this sequence; how many entries had
    /// some, none when there are no more. Only after an entry with [`ORG_ERASED`] was appended there: else they are missed.
    fn erase(&self, org: OrgId, before: u64) -> Answer<'_, u64>;

    /// Counts the entries about an org.
    fn count(&self, org: OrgId) -> Answer<'_, Count>;
}

/// Entries about an org.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// All of them.
    pub entries: u64,
    /// Those of a former form, that have in the chain what would be held beside it now: it cannot be erased.
    pub in_chain: u64,
}

/// A change of something that is not in the same database, and was noted before it was made.
#[derive(Debug)]
pub struct Begun {
    sequence: u64,
    note: Note,
}

/// Notes that a change is about to be made.
///
/// # Errors
/// Where it cannot be noted; then it must not be made.
pub async fn begin(log: &dyn AuditStore, note: Note) -> Result<Begun, StoreError> {
    let before = note.clone().change(Value::Null, json!({ "outcome": "begun" }));
    Ok(Begun { sequence: log.append(before).await?, note })
}

impl Begun {
    /// Notes how it went: what is there since, or why it was not made. Where even that cannot be noted, the log file says so,
    /// and the entry before stays without one of its outcome.
    pub async fn end(self, log: &dyn AuditStore, now: Millis, outcome: Result<Value, String>) {
        let after = match outcome {
            Ok(is) => json!({ "outcome": "done", "begun": self.sequence, "is": is }),
            Err(because) => json!({ "outcome": "failed", "begun": self.sequence, "because": because }),
        };
        let note = Note { at: now, ..self.note.change(Value::Null, after) };
        let (action, sequence) = (note.action.clone(), self.sequence);
        if let Err(error) = log.append(note).await {
            tracing::error!(%action, begun = sequence, "how this ended cannot be noted in the audit log: {error}");
        }
    }
}

#[cfg(test)]
mod tests;
