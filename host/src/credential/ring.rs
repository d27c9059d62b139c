//! How keys come into the ring, change in it, and are found there by others than requests. Never called on a worker,
//! save for the note that a secret is under an older pepper.

use std::sync::Arc;

use super::{Held, Keyring};
use crate::clock::Millis;
use crate::id::KeyId;
use crate::key::{Digest, Digested, Kept, Key, Move, Pepper, Previous};

/// Secrets that wait for being moved to the newest pepper; who comes when there are more is moved at another use.
const MOST_MOVES: usize = 10_000;

impl Keyring {
    /// Takes a key in; one that is already there stays, so that nobody's revocation is lost.
    pub fn add(&self, kept: Kept) -> Arc<Key> {
        let secrets = self.0.secrets.pin();
        let generation = kept.key.generation();
        let held = |secret: &Digested, generation| Held { key: kept.key.clone(), generation, pepper: secret.pepper };
        let present = secrets.get_or_insert(kept.secret.digest, held(&kept.secret, generation));
        self.0.ids.pin().get_or_insert(present.key.id, present.key.clone());
        if let (Some(Previous { secret, .. }), Some(generation)) = (kept.previous, generation.checked_sub(1)) {
            secrets.get_or_insert(secret.digest, held(&secret, generation));
        }
        present.key.clone()
    }

    /// The key with this digest.
    pub fn find(&self, digest: &Digest) -> Option<Arc<Key>> {
        self.0.secrets.pin().get(digest).map(|held| held.key.clone())
    }

    /// The key that this secret opens or opened, under whatever pepper.
    pub fn owner(&self, secret: &[u8]) -> Option<Arc<Key>> {
        self.0.peppers.load().iter().find_map(|pepper| self.find(&pepper.digest(secret)))
    }

    /// Calls back with each key.
    pub fn each(&self, mut visit: impl FnMut(&Key)) {
        self.0.ids.pin().values().for_each(|key| visit(key));
    }

    /// Waits until no change is between the store and here; none begins until this is dropped.
    pub(super) async fn settled(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.changing.lock().await
    }

    /// The same, with the key that the workers share in place of the one that was just read.
    pub(super) fn shared(&self, mut kept: Kept) -> Kept {
        if let Some(key) = self.with_id(kept.key.id) {
            kept.key = key;
        }
        kept
    }

    /// The key with this id.
    pub(super) fn with_id(&self, id: KeyId) -> Option<Arc<Key>> {
        self.0.ids.pin().get(&id).cloned()
    }

    /// From now on this is the present secret of a key, and the one before works until `until`. `ended` works no more.
    pub(super) fn rotate(&self, key: &Arc<Key>, secret: &Digested, ended: Option<Digest>, until: Millis) {
        let secrets = self.0.secrets.pin();
        if let Some(ended) = ended {
            secrets.remove(&ended);
        }
        // The new secret before the old one gets its end: at no moment does neither work.
        let generation = key.generation() + 1;
        secrets.insert(secret.digest, Held { key: key.clone(), generation, pepper: secret.pepper });
        key.rotated(until);
    }

    /// Forgets a key, with its secrets: they are nobody's from now on.
    pub(super) fn forget(&self, kept: &Kept) {
        let (secrets, moves) = (self.0.secrets.pin(), self.0.moves.pin());
        for secret in kept.secrets() {
            secrets.remove(&secret.digest);
            moves.remove(&secret.digest);
        }
        self.0.ids.pin().remove(&kept.key.id);
    }

    /// The pepper for new secrets.
    pub(super) fn newest(&self) -> Option<Pepper> {
        self.0.peppers.load().first().cloned()
    }

    /// The version of the pepper that a key's present secret needs, where the key works and that pepper is not there.
    pub(super) fn lacks_pepper_of(&self, kept: &Kept, now: Millis) -> Option<u32> {
        let version = kept.secret.pepper;
        let works = kept.key.revoked().is_none() && !kept.key.is_expired(now);
        let there = self.0.peppers.load().iter().any(|pepper| pepper.version() == version);
        (works && !there).then_some(version)
    }

    /// Digests under these peppers count from now on, newest first.
    pub(super) fn use_peppers(&self, peppers: Vec<Pepper>) {
        self.0.peppers.store(Arc::new(peppers));
    }

    /// The versions of the peppers, newest first, each with how many secrets that work need it.
    pub(super) fn needed_peppers(&self, now: Millis) -> Vec<(u32, u64)> {
        let mut counts: Vec<(u32, u64)> = self.0.peppers.load().iter().map(|pepper| (pepper.version(), 0)).collect();
        for held in self.0.secrets.pin().values() {
            let key = &held.key;
            let works = key.revoked().is_none() && !key.is_expired(now) && key.is_current(held.generation, now);
            if let Some((_, count)) = counts.iter_mut().find(|(version, _)| *version == held.pepper && works) {
                *count += 1;
            }
        }
        counts
    }

    /// Notes that a secret is to be moved, on the way of a request: no lock, no waking, bounded.
    pub(super) fn note_move(&self, moved: Move) {
        let moves = self.0.moves.pin();
        // Once for each secret and pepper, and not at each use of it.
        let is_there = moves.get(&moved.from).is_some_and(|noted| noted.to == moved.to);
        if !is_there && moves.len() < MOST_MOVES {
            moves.insert(moved.from, moved);
        }
    }

    /// Secrets that are to be moved.
    pub(super) fn moves(&self) -> Vec<Move> {
        self.0.moves.pin().values().copied().collect()
    }

    /// These moves were looked at, and these of them done.
    pub(super) fn settle_moves(&self, asked: &[Move], done: &[Move]) {
        let (secrets, moves) = (self.0.secrets.pin(), self.0.moves.pin());
        for moved in done {
            // Under both for a moment, so that no request finds it under neither.
            if let Some(held) = secrets.get(&moved.from) {
                secrets.insert(moved.to, Held { pepper: moved.pepper, ..held.clone() });
                secrets.remove(&moved.from);
            }
        }
        for moved in asked {
            moves.remove(&moved.from);
        }
    }
}
