//! Issues, shows, changes and revokes keys: the store, and what of it is in the memory of the workers, kept as one.
//!
//! A new secret is durable before anyone gets it; a revoked key is refused before the store is asked to remember. What was
//! begun is done to its end, also when nobody waits for the answer any more. Revoked wins over everything.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Keyring;
use super::sieve::Sieve;
use crate::audit::{Note, Who};
use crate::clock::{Clock, Millis};
use crate::id::{KeyId, NoRandomness, OrgId};
use crate::key::{
    Bearer, Bounds, Change, Changed, Digested, Kept, Key, KeyStore, Management, Move, Page, Pepper, Scopes, Secret,
    StoreError, Terms, Unchangeable,
};
use crate::org::Closed;

/// The desk where keys are made and ended. Called on the control runtime only.
#[derive(Debug)]
pub struct Issuer {
    pub(super) store: Arc<dyn KeyStore>,
    pub(super) ring: Keyring,
    pub(super) clock: Clock,
    /// Uses up to here are in the store.
    saved: Mutex<Millis>,
    /// Held while times of last use are written.
    pub(super) saving: tokio::sync::Mutex<()>,
    pub(super) sieve: Sieve,
    /// When it was last said that look-ups fail.
    pub(super) told: Mutex<Option<Millis>>,
    /// The most keys of one org that are neither revoked nor expired.
    most: AtomicU64,
    /// Orgs that get none; asked while nothing else is changed.
    pub(super) closed: Closed,
}

/// A key that is to be made.
#[derive(Debug)]
pub struct NewKey {
    /// Whose it will be.
    pub org: OrgId,
    /// What it will be.
    pub terms: Terms,
    /// All of its scopes.
    pub scopes: Scopes,
    /// The id of the token or the key that makes it.
    pub maker: Option<Box<str>>,
    /// The key that asks, where it is one; only where it manages keys.
    pub by: Option<Bearer>,
}

/// How a key gets another secret.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// How long the present one works on; never beyond the end of the key.
    pub overlap: Duration,
    /// Also during the overlap of an earlier rotation, which ends then.
    pub force: bool,
    /// Whether whoever asks may.
    pub leave: Leave,
}

/// On what somebody may change a key: looked at again when it comes to it, since much can happen before.
#[derive(Debug, Clone, Default)]
pub struct Leave {
    /// The key that asks, where it is one; only where it manages keys.
    pub by: Option<Bearer>,
    /// Only where the key that is changed is within these bounds.
    pub within: Option<Bounds>,
    /// Where it gets another secret: only where it has none of these scopes.
    pub withheld: Vec<Management>,
}

/// A secret that has just been made, with its key: shown this once.
#[derive(Debug)]
pub struct Issued {
    /// The key.
    pub kept: Kept,
    /// Its secret.
    pub secret: Secret,
}

/// Why no secret was made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The store failed.
    #[error("the secret cannot be stored")]
    Store(#[from] StoreError),
    /// No chance to be had.
    #[error("no secret can be made")]
    Randomness(#[from] NoRandomness),
    /// The ring was made without a pepper.
    #[error("there is no pepper to store a key under")]
    NoPepper,
}

impl Issuer {
    /// A desk over this store and this ring, which has no key in it yet. The filter is made from the store, at each start. There is no
    /// bound of keys until [`Self::allow`] sets one, nor of those in memory until [`Self::keep_hot`] does.
    pub async fn open(store: Arc<dyn KeyStore>, ring: Keyring, clock: Clock) -> Result<Self, StoreError> {
        Self::open_in(None, store, ring, clock).await
    }

    /// As [`Self::open`], with a filter that is kept in a file in this directory.
    pub async fn open_in(
        directory: Option<PathBuf>,
        store: Arc<dyn KeyStore>,
        ring: Keyring,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let (filter, sieve) = Sieve::open(&store, directory).await?;
        ring.0.filter.store(filter);
        let saved = Mutex::new(clock.now());
        let (saving, told, most) = (tokio::sync::Mutex::default(), Mutex::default(), AtomicU64::new(u64::MAX));
        Ok(Self { store, ring, clock, saved, saving, sieve, told, most, closed: Closed::default() })
    }

    /// From now on no org gets more keys than so many that are neither revoked nor expired.
    pub fn allow(&self, most: u64) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// Makes a key. When it returns, the key is durable and every worker knows it.
    pub async fn issue(self: &Arc<Self>, new: NewKey, who: Who) -> Result<Issued, IssueError> {
        let desk = self.clone();
        to_the_end(async move {
            let now = desk.clock.now();
            let secret = Secret::mint(new.terms.mode)?;
            let _settled = desk.ring.settled().await;
            desk.ask(new.by.as_ref())?;
            desk.open_for(new.org)?;
            let kept = desk.digested(new, &secret, now)?;
            desk.store.insert(vec![kept.clone()], desk.most(), Note::new(who, "key.issued", now)).await?;
            let key = desk.ring.add(&kept);
            tracing::info!(key = %key.id, org = %key.org, mode = key.mode.name(), "issued a key");
            Ok(Issued { kept: Kept { key, ..kept }, secret })
        })
        .await
    }

    /// Gives a key another secret. None where there is no such key.
    pub async fn rotate(
        self: &Arc<Self>,
        id: KeyId,
        rotation: Rotation,
        who: Who,
    ) -> Result<Option<Issued>, IssueError> {
        let desk = self.clone();
        to_the_end(async move {
            let Some(found) = desk.store.find(id).await? else { return Ok(None) };
            let at = desk.clock.now();
            let secret = Secret::mint(found.key.mode)?;
            let _settled = desk.ring.settled().await;
            let digested = digested(&desk.ring.newest().ok_or(IssueError::NoPepper)?, &secret);
            let Rotation { overlap, force, leave: Leave { by, within, withheld } } = rotation;
            desk.ask(by.as_ref())?;
            desk.open_for(found.key.org)?;
            let change = Change::Rotate { secret: digested, at, overlap, force, within, withheld };
            let rotating = desk.ring.rotating(id);
            let changed = desk.store.change(id, change, Note::new(who, "key.rotated", at)).await;
            if matches!(changed, Err(StoreError::Database(_))) {
                // The database may show what it did not keep: until a restart the key is not read from there.
                std::mem::forget(rotating);
            }
            let Some(Changed { before, after }) = changed? else { return Ok(None) };
            let ended = before.previous.map(|previous| previous.secret.digest);
            let until = after.previous.map_or(at, |previous| previous.until);
            desk.sieve.went(usize::from(ended.is_some()));
            let key = desk.ring.rotated(id, &after.secret, ended, until);
            let kept = Kept { key: key.unwrap_or_else(|| after.key.clone()), ..after };
            tracing::info!(key = %id, org = %kept.key.org, old_secret_until = %until, "rotated a key");
            Ok(Some(Issued { kept, secret }))
        })
        .await
    }

    /// Gives a key this set of scopes and no other, where it is within bounds. None where there is no such key.
    pub async fn scope(
        self: &Arc<Self>,
        id: KeyId,
        scopes: Scopes,
        leave: Leave,
        who: Who,
    ) -> Result<Option<Kept>, StoreError> {
        let desk = self.clone();
        to_the_end(async move {
            let at = desk.clock.now();
            let change = Change::Scope { scopes: scopes.clone(), at, within: leave.within };
            let _settled = desk.ring.settled().await;
            desk.ask(leave.by.as_ref())?;
            let changed = desk.store.change(id, change, Note::new(who, "key.scoped", at)).await?;
            let Some(Changed { after, .. }) = changed else { return Ok(None) };
            desk.ring.scoped(id, &scopes);
            let kept = desk.ring.shared(after);
            tracing::info!(key = %id, org = %kept.key.org, scopes = kept.key.scopes().as_str(), "scoped a key");
            Ok(Some(kept))
        })
        .await
    }

    /// Revokes a key, on all workers at once; a revoked one stays as it is. None where there is no such key.
    ///
    /// An error says that the store does not know: the key is refused from now on, but would be valid after a restart.
    pub async fn revoke(self: &Arc<Self>, id: KeyId, who: Who) -> Result<Option<Kept>, StoreError> {
        let desk = self.clone();
        to_the_end(async move {
            let now = desk.clock.now();
            // Memory refuses before the store is asked, also a key that is read from the store meanwhile.
            let mut key = desk.ring.revoking(id, now);
            if key.is_none() {
                // It may be about to come into memory; whoever changes it then waits for that.
                let _settled = desk.ring.settled().await;
                key = desk.ring.revoking(id, now);
            }
            let at = key.as_ref().and_then(|key| key.revoked()).unwrap_or(now);
            let changed = desk.store.change(id, Change::Revoke(at), Note::new(who, "key.revoked", now)).await?;
            desk.ring.revoked(id);
            let Some(Changed { after, .. }) = changed else { return Ok(None) };
            tracing::info!(key = %id, org = %after.key.org, "revoked a key");
            Ok(Some(desk.ring.shared(after)))
        })
        .await
    }

    /// The key with this id, where somebody may hold it. Asks no store.
    pub fn held(&self, id: KeyId) -> Option<Arc<Key>> {
        self.ring.with_id(id)
    }

    /// The key with this id, as the workers see it, with all that is kept of it.
    pub async fn find(&self, id: KeyId) -> Result<Option<Kept>, StoreError> {
        Ok(self.store.find(id).await?.map(|kept| self.ring.shared(kept)))
    }

    /// At most `limit` keys after the key `after`, of one org or of all, oldest first; and whether there are more.
    pub async fn page(
        &self,
        org: Option<OrgId>,
        after: Option<KeyId>,
        limit: usize,
    ) -> Result<(Vec<Kept>, bool), StoreError> {
        let Page { keys, more } = self.store.page(org, after, limit).await?;
        Ok((keys.into_iter().map(|kept| self.ring.shared(kept)).collect(), more))
    }

    /// Writes down when keys were last used, for those used since the last time. To be called every minute or so.
    pub async fn save_used(&self) -> Result<(), StoreError> {
        let _saving = self.saving.lock().await;
        let now = self.clock.now();
        // Uses are noted in whole seconds.
        let since = Millis(self.saved.lock().unwrap_or_else(PoisonError::into_inner).seconds() * 1_000);
        let mut used = Vec::new();
        self.ring.each(|key| used.extend(key.last_used().filter(|at| *at >= since).map(|at| (key.id, at))));
        if !used.is_empty() {
            self.store.note_used(used).await?;
        }
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = now;
        Ok(())
    }

    /// Moves the secrets that were presented under an older pepper to the newest. To be called every minute or so.
    pub async fn save_moves(self: &Arc<Self>) -> Result<(), StoreError> {
        let desk = self.clone();
        to_the_end(async move {
            // No pepper comes or goes from here on: what was noted under one that is not the newest any more is noted anew at
            // the next use.
            let _settled = desk.ring.settled().await;
            let noted = desk.ring.moves();
            let newest = desk.ring.newest().map(|pepper| pepper.version());
            let moves: Vec<Move> = noted.iter().copied().filter(|moved| Some(moved.pepper) == newest).collect();
            moves.iter().for_each(|moved| desk.ring.admit(&moved.to));
            let done = if moves.is_empty() { Vec::new() } else { desk.store.redigest(moves).await? };
            desk.sieve.went(done.len());
            desk.ring.settle_moves(&noted, &done);
            if !done.is_empty() {
                tracing::info!(secrets = done.len(), "moved secrets to the newest pepper");
            }
            Ok(())
        })
        .await
    }

    /// Whether a key manages keys, now that nothing else is changed.
    fn ask(&self, by: Option<&Bearer>) -> Result<(), StoreError> {
        let Some(bearer) = by else { return Ok(()) };
        Ok(bearer.manages(self.clock.now()).map_err(Unchangeable::from)?)
    }

    pub(super) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    pub(super) fn digested(&self, new: NewKey, secret: &Secret, now: Millis) -> Result<Kept, IssueError> {
        let pepper = self.ring.newest().ok_or(IssueError::NoPepper)?;
        let NewKey { org, terms, scopes, maker, by: _ } = new;
        let (name, secret) = (terms.name.clone(), digested(&pepper, secret));
        let key = Arc::new(Key::new(KeyId::fresh(now)?, org, terms, scopes));
        Ok(Kept { key, name, created: now, secret, previous: None, rotated: None, maker })
    }
}

fn digested(pepper: &Pepper, secret: &Secret) -> Digested {
    let digest = pepper.digest(secret.reveal().as_bytes());
    Digested { digest, pepper: pepper.version(), last_four: secret.last_four() }
}

/// Does work to its end, whoever stops waiting for it.
pub(super) async fn to_the_end<T, E>(work: impl Future<Output = Result<T, E>> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    tokio::spawn(work).await.map_err(|_| StoreError::Closing)?
}
