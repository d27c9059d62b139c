//! What became of each policy's component: the versions that served, kept on disk by digest, and what happened to them.
//!
//! While the gateway runs a version is kept before it serves, so that there is always one to go back to: by hand, or because
//! the newest file is broken when the gateway starts.

mod sled;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use self::sled::Cards;
use super::component::digest;
use crate::clock::Millis;
use crate::data::{self, DataDirectory};

/// Versions of one policy that stay on disk.
pub const KEPT_VERSIONS: usize = 5;
/// Events of one policy that are remembered.
const KEPT_EVENTS: usize = 100;
/// Bytes of one reason that are remembered, at most.
const LONGEST_REASON: usize = 4 << 10;

/// Why the shelf did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// A component could not be written or read.
    #[error("the plugins kept in {path} cannot be used; look at the disk of the data directory")]
    Files {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database failed.
    #[error("what became of plugins cannot be kept; look at the disk of the data directory")]
    Database(#[from] data::Failure),
    /// There is no such version.
    #[error("there is no version of `{policy}` to go back to{wanted}")]
    NoVersion {
        /// The policy.
        policy: String,
        /// ` with the digest …`, where one was named.
        wanted: String,
    },
}

/// What is known of one policy's component.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// The digest that serves, or served last.
    pub serving: Option<String>,
    /// What an operator went back to.
    pub held: Option<Held>,
    /// The plugin with which an operator took the policy out of its chains.
    #[serde(default)]
    pub disabled: Option<String>,
    /// Versions that served, the latest last.
    #[serde(default)]
    pub versions: Vec<Version>,
    /// What happened, the latest last.
    #[serde(default)]
    pub events: Vec<Event>,
}

/// A version that an operator went back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The plugin that it is a version of.
    pub plugin: String,
    /// What serves.
    pub digest: String,
    /// What is passed over when it is in the directory: what served, and what was there at the time. Anything else that comes
    /// there and fits ends the hold.
    pub instead_of: Vec<String>,
}

/// A version that served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The plugin that it is a version of.
    pub plugin: String,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// What it calls itself.
    pub version: String,
    /// When it began to serve.
    pub since: Millis,
}

/// Something that happened to a policy's component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Millis,
    /// What.
    pub what: What,
    /// Of which component.
    pub digest: Option<String>,
    /// What that calls itself, where it got so far.
    pub version: Option<String>,
    /// Why, one line for each reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What can happen to a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It serves since then.
    Shipped,
    /// It was refused; what served before stayed.
    Refused,
    /// An operator went back to it.
    RolledBack,
    /// An operator took the policy out of its chains.
    Disabled,
    /// An operator put it back.
    Enabled,
}

/// The components that are kept, and the cards of their policies.
#[derive(Debug)]
pub struct Shelf {
    directory: PathBuf,
    book: Cards,
    cards: Mutex<BTreeMap<String, Card>>,
    /// Cards that could not be read.
    unread: usize,
}

impl Shelf {
    /// The shelf in a data directory.
    ///
    /// # Errors
    /// When its files or its records cannot be used.
    pub fn open(data: &DataDirectory) -> Result<Self, ShelfError> {
        let directory = data.path().join("plugins");
        let files = |source| ShelfError::Files { path: directory.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(files)?;
        let book = Cards::open(data.database())?;
        let (cards, unread) = book.all()?;
        Ok(Self { directory, book, cards: Mutex::new(cards), unread })
    }

    /// The card of a policy; an empty one where nothing happened to it yet.
    pub fn card(&self, policy: &str) -> Card {
        self.cards().get(policy).cloned().unwrap_or_default()
    }

    /// The version of a plugin that served this policy last.
    pub fn last(&self, policy: &str, plugin: &str) -> Option<Version> {
        let card = self.card(policy);
        let of_plugin = || card.versions.iter().rev().filter(|version| version.plugin == plugin);
        of_plugin().find(|version| card.serving.as_ref() == Some(&version.digest)).or(of_plugin().next()).cloned()
    }

    /// A kept component, if it is there and still what it was.
    pub fn component(&self, wanted: &str) -> Option<Vec<u8>> {
        let bytes = fs::read(self.place(wanted)).ok()?;
        if digest(&bytes) == wanted {
            return Some(bytes);
        }
        tracing::error!(digest = wanted, "a kept component has changed on disk, and is not used");
        None
    }

    /// Keeps a component; it survives a loss of power only after it was [`Self::shipped`].
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, digest: &str, bytes: &[u8]) -> Result<(), ShelfError> {
        let place = self.place(digest);
        if self.component(digest).is_some() {
            return Ok(());
        }
        data::write_verified(&place, &[bytes]).map_err(|source| ShelfError::Files { path: place, source })
    }

    /// Makes a component that was kept durable.
    fn settle(&self, digest: &str) -> Result<(), ShelfError> {
        let place = self.place(digest);
        match data::settle_verified(&place) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(ShelfError::Files { path: place, source }),
            _ => Ok(()),
        }
    }

    /// Notes that a component serves, from the directory or from what was `kept`; in memory also where it cannot be written
    /// down. A hold ends by a component from the directory only: where another kept one had to take the place of the one that
    /// was meant, the hold is to that one, or what was gone back from would be next.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn shipped(&self, policy: &str, shipped: &Version, kept: bool) -> Result<(), ShelfError> {
        let Version { digest, version, since, .. } = shipped;
        let mut card = self.card(policy);
        card.held = card.held.take().filter(|_| kept).map(|held| Held { digest: digest.clone(), ..held });
        let held = card.held.is_some();
        if card.serving.as_ref() != Some(digest) {
            card.serving = Some(digest.clone());
            // Whoever goes back twice gets two versions back: what was gone back to keeps its place.
            if !held {
                card.versions.retain(|known| known.digest != *digest);
                card.versions.push(shipped.clone());
                let surplus = card.versions.len().saturating_sub(KEPT_VERSIONS);
                card.versions.drain(..surplus);
            }
            let what = if held { What::RolledBack } else { What::Shipped };
            let (digest, version) = (Some(digest.clone()), Some(version.clone()));
            card.note(Event { at: *since, what, digest, version, reason: None });
        }
        if card == self.card(policy) {
            return Ok(());
        }
        self.cards().insert(policy.to_owned(), card.clone());
        // No card names on disk what a loss of power could still take away.
        self.settle(digest)?;
        Ok(self.book.keep(policy, &card)?)
    }

    /// Notes what is in the directory for a policy: the very version that it is held to ends the hold.
    ///
    /// # Errors
    /// When it cannot be written down; then the hold goes on.
    pub fn saw(&self, policy: &str, in_directory: Option<&str>) -> Result<(), ShelfError> {
        self.change(policy, |card| {
            card.held.take_if(|held| in_directory == Some(&*held.digest));
        })
    }

    /// Whether that is what was noted last: the same refusal again is no news.
    pub fn has_refused(&self, policy: &str, digest: Option<&str>, reason: &str) -> bool {
        let reason = &reason[..reason.floor_char_boundary(LONGEST_REASON)];
        let known = |event: &Event| {
            event.what == What::Refused && event.digest.as_deref() == digest && event.reason.as_deref() == Some(reason)
        };
        self.card(policy).events.last().is_some_and(known)
    }

    /// Notes that a component was refused; the same refusal again is no news, and `false`.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn refused(&self, policy: &str, digest: Option<&str>, reason: &str, now: Millis) -> Result<bool, ShelfError> {
        if self.has_refused(policy, digest, reason) {
            return Ok(false);
        }
        let reason = reason[..reason.floor_char_boundary(LONGEST_REASON)].to_owned();
        let (what, digest, version) = (What::Refused, digest.map(str::to_owned), None);
        let event = Event { at: now, what, digest, version, reason: Some(reason.clone()) };
        self.change(policy, |card| card.note(event))?;
        Ok(true)
    }

    /// Holds a policy to an earlier version of its plugin: the one that is named, or the one before the one that serves. What
    /// is in the directory meanwhile is passed over until something else that fits comes there.
    ///
    /// # Errors
    /// When there is no such version, or it cannot be written down.
    pub fn hold(
        &self,
        policy: &str,
        plugin: &str,
        wanted: Option<&str>,
        in_directory: Option<String>,
    ) -> Result<Held, ShelfError> {
        let card = self.card(policy);
        let serving = card.versions.iter().position(|version| card.serving.as_ref() == Some(&version.digest));
        let earlier = &card.versions[..serving.unwrap_or(card.versions.len())];
        let mut fitting: Vec<&Version> = match wanted {
            Some(wanted) => card.versions.iter().filter(|version| version.digest.starts_with(wanted)).collect(),
            None => earlier.iter().collect(),
        };
        fitting.reverse();
        let mut fitting = fitting.into_iter().filter(|version| version.plugin == plugin);
        let Some(version) = fitting.find(|version| self.component(&version.digest).is_some()) else {
            let wanted = wanted.map(|digest| format!(" with the digest {digest}")).unwrap_or_default();
            return Err(ShelfError::NoVersion { policy: policy.to_owned(), wanted });
        };
        let mut instead_of: Vec<String> = card.serving.clone().into_iter().chain(in_directory).collect();
        instead_of.retain(|digest| *digest != version.digest);
        instead_of.dedup();
        let held = Held { plugin: plugin.to_owned(), digest: version.digest.clone(), instead_of };
        self.change(policy, |card| card.held = Some(held.clone()))?;
        Ok(held)
    }

    /// Holds a policy to this, or to nothing.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn set_hold(&self, policy: &str, held: Option<Held>) -> Result<(), ShelfError> {
        self.change(policy, |card| card.held = held)
    }

    /// Takes a policy out of its chains for as long as it has this plugin, or puts it back.
    ///
    /// # Errors
    /// When it cannot be written down; then nothing has changed.
    pub fn disable(&self, policy: &str, plugin: Option<&str>, now: Millis) -> Result<(), ShelfError> {
        self.change(policy, |card| {
            let plugin = plugin.map(str::to_owned);
            if card.disabled != plugin {
                let what = if plugin.is_some() { What::Disabled } else { What::Enabled };
                card.disabled = plugin;
                let (digest, version) = (card.serving.clone(), None);
                card.note(Event { at: now, what, digest, version, reason: None });
            }
        })
    }

    /// Puts a card back as it was.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn restore(&self, policy: &str, before: &Card) -> Result<(), ShelfError> {
        self.change(policy, |card| card.clone_from(before))
    }

    /// Written down first: what is not cannot take effect.
    fn change(&self, policy: &str, change: impl FnOnce(&mut Card)) -> Result<(), ShelfError> {
        let mut cards = self.cards();
        let before = cards.get(policy).cloned().unwrap_or_default();
        let mut card = before.clone();
        change(&mut card);
        if card != before {
            self.book.keep(policy, &card)?;
            cards.insert(policy.to_owned(), card);
        }
        Ok(())
    }

    /// Removes components that no card names any more. Where a card could not be read, nobody knows which those are.
    pub fn sweep(&self) {
        if self.unread > 0 {
            return;
        }
        let cards = self.cards();
        let named: BTreeSet<&str> =
            cards.values().flat_map(|card| card.versions.iter().map(|version| version.digest.as_str())).collect();
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let digest = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            if !named.contains(digest) {
                // What cannot be removed now is tried again with the next version.
                let _ = fs::remove_file(&path);
            }
        }
    }

    fn place(&self, digest: &str) -> PathBuf {
        self.directory.join(Path::new(digest).with_extension("wasm"))
    }

    fn cards(&self) -> MutexGuard<'_, BTreeMap<String, Card>> {
        // A card is whole whatever its holder was interrupted in.
        self.cards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Card {
    fn note(&mut self, event: Event) {
        self.events.push(event);
        let surplus = self.events.len().saturating_sub(KEPT_EVENTS);
        self.events.drain(..surplus);
    }
}

#[cfg(test)]
mod tests;
