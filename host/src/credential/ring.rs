//! How keys come into memory, change in it, and are found there by others than requests. Never called on a worker, save for the note
//! that a secret is under an older pepper.

use std::sync::{Arc, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::live::{self, Live};
use super::{Ask, Held, Keyring, Short};
use crate::clock::Millis;
use crate::id::KeyId;
use crate::key::{Digest, Digested, Kept, Key, Move, Pepper, Previous, Scopes};

/// Secrets that wait for being moved to the newest pepper; who comes when there are more is moved at another use.
const MOST_MOVES: usize = 10_000;

impl Keyring {
    /// The lock over keys that somebody may hold. Held for moments, and over no wait.
    pub(super) fn live(&self) -> MutexGuard<'_, Live> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What workers ask, for whoever answers them; once.
    pub(super) fn asked(&self) -> Option<mpsc::Receiver<Ask>> {
        self.0.asked.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Takes a new key in; one that is already there stays, so that nobody's revocation is lost.
    pub fn add(&self, kept: &Kept) -> Arc<Key> {
        let mut live = self.live();
        kept.secrets().for_each(|secret| self.let_through(&mut live, &secret.digest));
        self.take_in(&mut live, kept)
    }

    /// Brings a key into memory, with its secrets.
    pub(super) fn take_in(&self, live: &mut Live, kept: &Kept) -> Arc<Key> {
        let key = live.own(kept.key.clone());
        live.stay(key.id);
        let secrets = self.0.secrets.pin();
        let generation = key.generation();
        secrets.get_or_insert(Short::of(&kept.secret.digest), Held { key: key.clone(), generation });
        if let (Some(Previous { secret, .. }), Some(generation)) = (kept.previous, generation.checked_sub(1)) {
            secrets.get_or_insert(Short::of(&secret.digest), Held { key: key.clone(), generation });
        }
        key
    }

    /// Whoever comes with this digest is looked up from now on. Before anybody has the secret; and before as well as after it is written
    /// where somebody has it already, so that a filter that is being made meanwhile cannot miss it.
    pub(super) fn admit(&self, digest: &Digest) {
        self.let_through(&mut self.live(), digest);
    }

    fn let_through(&self, live: &mut Live, digest: &Digest) {
        live.additions += 1;
        self.0.filter.load().add(digest);
        if let Some(building) = &live.building {
            building.add(digest);
        }
        self.0.strangers.forget(digest);
    }

    /// These digests were looked for since so many were added, and are nobody's.
    pub(super) fn note_strangers(&self, digests: &[Digest], additions: u64) {
        let live = self.live();
        if live.additions == additions {
            digests.iter().for_each(|digest| self.0.strangers.note(digest));
        }
    }

    /// What one of these digests opens, where that is in memory.
    pub(super) fn hot_of(&self, digests: &[Digest]) -> Option<(Held, Digest)> {
        let secrets = self.0.secrets.pin();
        digests.iter().find_map(|digest| Some((secrets.get(&Short::of(digest))?.clone(), *digest)))
    }

    /// Calls back with each key in memory, perhaps more than once.
    pub(super) fn each(&self, mut visit: impl FnMut(&Key)) {
        self.0.secrets.pin().values().for_each(|held| visit(&held.key));
    }

    /// Waits until no change is between the store and here; none begins until this is dropped.
    pub(super) async fn settled(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.changing.lock().await
    }

    /// The same, with the key that the workers share in place of the one that was just read.
    pub(super) fn shared(&self, kept: Kept) -> Kept {
        live::seen(&self.live(), kept)
    }

    /// The key with this id, where somebody may hold it.
    pub(super) fn with_id(&self, id: KeyId) -> Option<Arc<Key>> {
        self.live().find(id).cloned()
    }

    /// A key is revoked for whoever holds it, and for whoever will: what the store says of it counts no more.
    pub(super) fn revoking(&self, id: KeyId, now: Millis) -> Option<Arc<Key>> {
        self.live().revoking(id, now)
    }

    /// The store knows that a key is revoked.
    pub(super) fn revoked(&self, id: KeyId) {
        let mut live = self.live();
        live.changed(id);
        live.settle_revoked(id);
    }

    /// A key has other scopes in the store since.
    pub(super) fn scoped(&self, id: KeyId, scopes: &Scopes) {
        let mut live = self.live();
        if let Some(key) = live.changed(id) {
            let shared = live.shared(scopes.clone());
            key.set_scopes(shared);
        }
    }

    /// A key has another secret in the store since, and the one before works until `until`. `ended` works no more. The key, where it is in
    /// memory.
    pub(super) fn rotated(
        &self,
        id: KeyId,
        secret: &Digested,
        ended: Option<Digest>,
        until: Millis,
    ) -> Option<Arc<Key>> {
        let mut live = self.live();
        self.let_through(&mut live, &secret.digest);
        let key = live.changed(id);
        let secrets = self.0.secrets.pin();
        if let Some(ended) = ended {
            secrets.remove(&Short::of(&ended));
        }
        let key = key?;
        // The new secret before the old one gets its end: at no moment does neither work.
        let generation = key.generation() + 1;
        secrets.insert(Short::of(&secret.digest), Held { key: key.clone(), generation });
        live.stay(id);
        key.rotated(until);
        Some(key)
    }

    /// A key is about to be rotated in the store, and is not read from there until this is dropped.
    pub(super) fn rotating(&self, id: KeyId) -> Rotating<'_> {
        self.live().begin_rotating(id);
        Rotating { ring: self, id }
    }

    /// Forgets a key, with its secrets: they are nobody's from now on.
    pub(super) fn forget(&self, kept: &Kept) {
        let mut live = self.live();
        live.forget(kept.key.id);
        let (secrets, moves) = (self.0.secrets.pin(), self.0.moves.pin());
        for secret in kept.secrets() {
            secrets.remove(&Short::of(&secret.digest));
            moves.remove(&secret.digest);
        }
    }

    /// The pepper for new secrets.
    pub(super) fn newest(&self) -> Option<Pepper> {
        self.0.peppers.load().first().cloned()
    }

    /// The versions of the peppers, newest first.
    pub(super) fn versions(&self) -> Vec<u32> {
        self.0.peppers.load().iter().map(Pepper::version).collect()
    }

    /// Digests of this secret under all peppers, newest first.
    pub(super) fn digests_of(&self, secret: &[u8]) -> Vec<Digest> {
        self.0.peppers.load().iter().map(|pepper| pepper.digest(secret)).collect()
    }

    /// Digests under these peppers count from now on, newest first.
    pub(super) fn use_peppers(&self, peppers: Vec<Pepper>) {
        self.0.peppers.store(Arc::new(peppers));
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
        for moved in done {
            let mut live = self.live();
            self.let_through(&mut live, &moved.to);
            live.changed(moved.id);
            let secrets = self.0.secrets.pin();
            // Under both for a moment, so that no request finds it under neither.
            if let Some(held) = secrets.get(&Short::of(&moved.from)) {
                secrets.insert(Short::of(&moved.to), held.clone());
                secrets.remove(&Short::of(&moved.from));
            }
        }
        let moves = self.0.moves.pin();
        for moved in asked {
            moves.remove(&moved.from);
        }
    }
}

/// A key that is being rotated, by one at a time.
pub(super) struct Rotating<'a> {
    ring: &'a Keyring,
    id: KeyId,
}

impl Drop for Rotating<'_> {
    fn drop(&mut self) {
        self.ring.live().end_rotating(self.id);
    }
}
