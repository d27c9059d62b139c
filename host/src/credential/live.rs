//! The keys that somebody may hold: by id, each once, so that what is changed in one is changed for everyone.
//!
//! Behind a lock that no request takes. A key leaves only when nobody else holds it; until then whoever reads it from the store again
//! gets the same one. What the store was asked for while the key was changed does not come in.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use super::AsItIs;
use super::filter::Filter;
use crate::clock::Millis;
use crate::id::{KeyId, OrgId};
use crate::key::{Kept, Key, Scopes};

/// Sets of scopes among which none is looked for that nobody has.
const FEW_SCOPES: usize = 64;

/// Keys that somebody may hold, and what goes on with them.
#[derive(Debug, Default)]
pub(super) struct Live {
    keys: HashSet<ById, BuildHasherDefault<AsItIs>>,
    /// Keys that are being read from the store.
    loading: HashMap<KeyId, Loading>,
    /// Keys that are being rotated: what the store says of them is perhaps ahead of what is in here.
    rotating: HashSet<KeyId>,
    /// When keys were revoked of which the store does not know it yet.
    revoked: HashMap<KeyId, Millis>,
    /// Orgs of which no key opens anything any more, whatever the store says, and since when.
    closed: HashMap<OrgId, Millis>,
    /// Keys of which a secret is no longer in memory.
    leaving: HashSet<KeyId>,
    /// Sets of scopes that keys share.
    scopes: HashSet<Arc<Scopes>>,
    /// How many there were when it was last looked which of them go.
    scopes_kept: usize,
    /// The filter that is being made, beside the one in use.
    pub(super) building: Option<Arc<Filter>>,
    /// Counts up with each digest that becomes somebody's.
    pub(super) additions: u64,
}

#[derive(Debug, Default)]
struct Loading {
    readers: u32,
    /// Changed since the first of them began.
    is_stale: bool,
}

#[derive(Debug)]
struct ById(Arc<Key>);

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl Borrow<KeyId> for ById {
    fn borrow(&self) -> &KeyId {
        &self.0.id
    }
}

impl Live {
    pub(super) fn find(&self, id: KeyId) -> Option<&Arc<Key>> {
        self.keys.get(&id).map(|ById(key)| key)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key that everyone shares: the one that is there, or this one from now on.
    pub(super) fn own(&mut self, key: Arc<Key>) -> Arc<Key> {
        if let Some(present) = self.find(key.id) {
            return present.clone();
        }
        self.amend(&key);
        key.set_scopes(self.shared(Scopes::clone(&key.scopes())));
        self.keys.insert(ById(key.clone()));
        key
    }

    /// One set of scopes for all that have the same.
    pub(super) fn shared(&mut self, scopes: Scopes) -> Arc<Scopes> {
        if let Some(shared) = self.scopes.get(&scopes) {
            return shared.clone();
        }
        let shared = Arc::new(scopes);
        self.scopes.insert(shared.clone());
        shared
    }

    /// Revokes a key that was just read, where the store does not know of that.
    pub(super) fn amend(&self, key: &Key) {
        if let Some(at) = self.revoked.get(&key.id).or_else(|| self.closed.get(&key.org)) {
            key.revoke(*at);
        }
    }

    /// All keys of an org are revoked, for whoever holds one and for whoever will.
    pub(super) fn close(&mut self, org: OrgId, now: Millis) {
        self.closed.entry(org).or_insert(now);
        self.keys.iter().filter(|ById(key)| key.org == org).for_each(|ById(key)| key.revoke(now));
    }

    /// A key is revoked, whatever the store says of it from now on.
    pub(super) fn revoking(&mut self, id: KeyId, now: Millis) -> Option<Arc<Key>> {
        let at = *self.revoked.entry(id).or_insert(now);
        let key = self.find(id)?;
        key.revoke(at);
        Some(key.clone())
    }

    /// The store knows that a key is revoked, or knows no such key.
    pub(super) fn settle_revoked(&mut self, id: KeyId) {
        self.revoked.remove(&id);
    }

    /// A key is different in the store since: whoever read it before reads it again.
    pub(super) fn changed(&mut self, id: KeyId) -> Option<Arc<Key>> {
        if let Some(loading) = self.loading.get_mut(&id) {
            loading.is_stale = true;
        }
        self.find(id).cloned()
    }

    /// It is kept no more.
    pub(super) fn forget(&mut self, id: KeyId) {
        self.changed(id);
        self.keys.remove(&id);
        self.leaving.remove(&id);
    }

    /// A key is about to be rotated in the store: until that has come in here, nobody reads it from there.
    pub(super) fn begin_rotating(&mut self, id: KeyId) {
        self.rotating.insert(id);
    }

    pub(super) fn end_rotating(&mut self, id: KeyId) {
        self.rotating.remove(&id);
    }

    pub(super) fn begin_loading(&mut self, id: KeyId) {
        self.loading.entry(id).or_default().readers += 1;
    }

    /// Whether what was read since [`Self::begin_loading`] still holds.
    pub(super) fn end_loading(&mut self, id: KeyId) -> bool {
        let Some(loading) = self.loading.get_mut(&id) else { return false };
        let holds = !loading.is_stale && !self.rotating.contains(&id);
        loading.readers -= 1;
        if loading.readers == 0 {
            self.loading.remove(&id);
        }
        holds
    }

    pub(super) fn leave(&mut self, ids: impl IntoIterator<Item = KeyId>) {
        self.leaving.extend(ids);
    }

    /// Those that leave and are in nobody's hands any more, with their last uses.
    pub(super) fn left(&mut self) -> Vec<(KeyId, Option<Millis>)> {
        // Of what is forgotten meanwhile, nothing is there.
        self.leaving.retain(|id| self.keys.contains(id));
        let alone = |id: &KeyId| self.find(*id).filter(|key| Arc::strong_count(key) == 1);
        self.leaving.iter().filter_map(|id| alone(id).map(|key| (*id, key.last_used()))).collect()
    }

    /// Lets these go, save those that somebody has taken up since.
    pub(super) fn let_go(&mut self, left: &[(KeyId, Option<Millis>)]) {
        for (id, used) in left {
            let alone = self.find(*id).is_some_and(|key| Arc::strong_count(key) == 1 && key.last_used() == *used);
            if alone {
                self.keys.remove(id);
                self.leaving.remove(id);
            }
        }
        self.let_go_of_scopes();
    }

    /// Lets sets of scopes go that no key has any more, where it is worth looking for them.
    pub(super) fn let_go_of_scopes(&mut self) {
        if self.scopes.len() > self.scopes_kept.saturating_mul(2).max(FEW_SCOPES) {
            // The set, and nobody else.
            self.scopes.retain(|scopes| Arc::strong_count(scopes) > 1);
            self.scopes_kept = self.scopes.len();
        }
    }

    /// Whether a key with a secret in memory was about to leave, and does not.
    pub(super) fn stay(&mut self, id: KeyId) {
        self.leaving.remove(&id);
    }
}

/// A copy that is only shown: as everyone sees the key, where anyone does.
pub(super) fn seen(live: &Live, mut kept: Kept) -> Kept {
    match live.find(kept.key.id) {
        Some(key) => kept.key = key.clone(),
        None => live.amend(&kept.key),
    }
    kept
}
