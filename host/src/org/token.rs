//! Tokens of the admin API: each with a role, and all but super-admins' for one org only.
//!
//! A token is shown once and kept as a digest. There are few, so all of them are in memory; those that ended long ago are
//! forgotten.

mod erase;
mod sled;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use ring::hmac;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

pub use self::sled::SledTokens;
use super::{Answer, Closed, StoreError};
use crate::audit::{Note, Who};
use crate::clock::{Clock, Millis};
use crate::id::{NoRandomness, OrgId, TokenId};
use crate::key::mint_body;
use crate::seal::Vault;

const PREFIX: &str = "pat_";
const LONGEST: usize = 256;
/// Tokens of one org that are neither revoked nor expired.
const MOST_OF_ONE_ORG: usize = 1_000;
/// Tokens that are forgotten at once.
const FORGOTTEN: usize = 256;
/// How far `last_used` may lag behind.
const LAST_USED_GRAIN_MILLIS: u64 = 60_000;

/// What the holder of a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// May do everything, in all orgs.
    SuperAdmin,
    /// May do everything within the org.
    OrgAdmin,
    /// Reads within the org, and manages keys that it made.
    Member,
    /// Reads within the org, the audit log included.
    Auditor,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::SuperAdmin, Self::OrgAdmin, Self::Member, Self::Auditor];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::SuperAdmin => "super-admin",
            Self::OrgAdmin => "org-admin",
            Self::Member => "member",
            Self::Auditor => "auditor",
        }
    }
}

impl FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|role| role.name() == text).ok_or(())
    }
}

/// What a new token shall be.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What it is called.
    pub name: String,
    /// What its holder is.
    pub role: Role,
    /// Where; none for super-admins, and only for them.
    pub org: Option<OrgId>,
    /// When it ends by itself.
    pub expires: Option<Millis>,
    /// The id of the token that made it; none where that was the super-admin.
    pub maker: Option<String>,
}

/// One token, without its secret.
#[derive(Debug)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// What it is from when it was made.
    pub terms: NewToken,
    /// When it was made.
    pub created: Millis,
    /// The end of its secret, for people to recognise it by.
    pub last_four: String,
    last_used: AtomicU64,
    revoked: AtomicU64,
}

impl Token {
    /// When it was last used, up to a minute behind.
    pub fn last_used(&self) -> Option<Millis> {
        Some(Millis(self.last_used.load(Ordering::Relaxed))).filter(|at| at.0 > 0)
    }

    /// Since when it is revoked.
    pub fn revoked(&self) -> Option<Millis> {
        Some(Millis(self.revoked.load(Ordering::Relaxed))).filter(|at| at.0 > 0)
    }

    /// Whether it has ended by itself.
    pub fn is_expired(&self, now: Millis) -> bool {
        self.terms.expires.is_some_and(|end| end <= now)
    }

    /// When it ended, or will end.
    fn end(&self) -> Option<Millis> {
        self.terms.expires.into_iter().chain(self.revoked()).min()
    }

    fn is_active(&self, now: Millis) -> bool {
        self.end().is_none_or(|end| end > now)
    }

    fn revoke(&self, now: Millis) {
        let _ = self.revoked.compare_exchange(0, now.0.max(1), Ordering::Relaxed, Ordering::Relaxed);
    }

    fn touch(&self, now: Millis) {
        if now.0 >= self.last_used.load(Ordering::Relaxed).saturating_add(LAST_USED_GRAIN_MILLIS) {
            self.last_used.store(now.0, Ordering::Relaxed);
        }
    }

    fn facts(&self) -> Value {
        json!({
            "name": self.terms.name,
            "role": self.terms.role,
            "expires_at": self.terms.expires,
            "revoked_at": self.revoked(),
            "last_four": self.last_four,
        })
    }
}

/// What a presented token is.
#[derive(Debug)]
pub enum Login {
    /// One that is valid.
    Valid(Arc<Token>),
    /// One whose time is over.
    Expired,
    /// One that was revoked.
    Revoked,
    /// Nobody's.
    Unknown,
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No chance to be had.
    #[error("no token can be made")]
    Randomness(#[from] NoRandomness),
    /// The org has as many as one may have.
    #[error("an org has {most} tokens at most that are neither revoked nor expired")]
    TooMany {
        /// How many.
        most: usize,
    },
    /// It is made for an org that is being erased, or was.
    #[error("the org {org} is being erased, or was")]
    OrgErased {
        /// The org.
        org: OrgId,
    },
}

/// The digest of a token.
type Digest = [u8; 32];

/// The store that keeps all tokens. Durable before it answers; called on the control runtime only.
///
/// A change is in the audit log together with what it changed, or neither is.
pub trait TokenStore: fmt::Debug + Send + Sync {
    /// Keeps a new token.
    fn insert(&self, token: Arc<Token>, digest: Digest, note: Note) -> Answer<'_, ()>;

    /// Marks a token as revoked since this instant; a revoked one stays as it is.
    fn revoke(&self, id: TokenId, now: Millis, note: Note) -> Answer<'_, ()>;

    /// Forgets these tokens: all of them, or none, with one note for each org of theirs.
    fn forget(&self, tokens: Vec<Arc<Token>>, note: Note) -> Answer<'_, ()>;

    /// All tokens, oldest first.
    fn all(&self) -> Answer<'_, Vec<(Arc<Token>, Digest)>>;

    /// Notes when tokens were last used.
    fn note_used(&self, used: Vec<(TokenId, Millis)>) -> Answer<'_, ()>;
}

/// All tokens, in memory and in their store.
pub struct Tokens {
    key: hmac::Key,
    store: Arc<dyn TokenStore>,
    clock: Clock,
    all: RwLock<HashMap<Digest, Arc<Token>>>,
    /// Held from counting to the token that was made: one at a time.
    issuing: tokio::sync::Mutex<()>,
    /// Orgs that get none; asked while it is held who makes one.
    closed: Closed,
    /// The most of one org that are active.
    pub(super) most: usize,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(…)")
    }
}

impl Tokens {
    /// Brings all tokens of the store into memory.
    pub async fn open(store: Arc<dyn TokenStore>, vault: &Vault, clock: Clock) -> Result<Self, StoreError> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &vault.derive("admin-tokens")[..]);
        let all = store.all().await?.into_iter().map(|(token, digest)| (digest, token)).collect();
        let (all, issuing, most) = (RwLock::new(all), tokio::sync::Mutex::default(), MOST_OF_ONE_ORG);
        Ok(Self { key, store, clock, all, issuing, closed: Closed::default(), most })
    }

    /// What this token is.
    pub fn login(&self, secret: &[u8]) -> Login {
        if secret.len() > LONGEST || !secret.starts_with(PREFIX.as_bytes()) {
            return Login::Unknown;
        }
        let digest = self.digest(secret);
        let found = self.all.read().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned();
        let now = self.clock.now();
        match found {
            None => Login::Unknown,
            Some(token) if token.revoked().is_some() => Login::Revoked,
            Some(token) if token.is_expired(now) => Login::Expired,
            Some(token) => {
                token.touch(now);
                Login::Valid(token)
            }
        }
    }

    /// Makes a token; durable when it returns. With its secret, which is shown this once.
    pub async fn issue(
        self: &Arc<Self>,
        terms: NewToken,
        who: Who,
    ) -> Result<(Arc<Token>, Zeroizing<String>), TokenError> {
        let now = self.clock.now();
        let secret = mint_body(PREFIX)?;
        let digest = self.digest(secret.as_bytes());
        let last_four = secret[secret.len() - 4..].to_owned();
        let (last_used, revoked) = Default::default();
        let token = Token { id: TokenId::fresh(now)?, terms, created: now, last_four, last_used, revoked };
        let token = Arc::new(token);
        let note = Note::new(who, "token.issued", now).org(token.terms.org).on(token.id);
        let (desk, made) = (self.clone(), token.clone());
        to_the_end(async move {
            let _one = desk.issuing.lock().await;
            if let Some(org) = made.terms.org.filter(|org| desk.closed.has(*org)) {
                return Err(TokenError::OrgErased { org });
            }
            if desk.active_of(made.terms.org, now) >= desk.most {
                return Err(TokenError::TooMany { most: desk.most });
            }
            desk.store.insert(made.clone(), digest, note.change(Value::Null, made.facts())).await?;
            desk.all.write().unwrap_or_else(PoisonError::into_inner).insert(digest, made);
            Ok(())
        })
        .await?;
        Ok((token, secret))
    }

    /// All tokens, oldest first.
    pub fn list(&self) -> Vec<Arc<Token>> {
        let mut all: Vec<_> = self.all.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        all.sort_by_key(|token| token.id);
        all
    }

    /// How many of this org, or of super-admins, are neither revoked nor expired.
    fn active_of(&self, org: Option<OrgId>, now: Millis) -> usize {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        all.values().filter(|token| token.terms.org == org && token.is_active(now)).count()
    }

    /// The token with this id.
    pub fn find(&self, id: TokenId) -> Option<Arc<Token>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).values().find(|token| token.id == id).cloned()
    }

    /// Revokes a token, at once; a revoked one stays as it is.
    ///
    /// An error says that the store does not know: it is refused from now on, but would be valid after a restart.
    pub async fn revoke(self: &Arc<Self>, token: Arc<Token>, who: Who) -> Result<(), StoreError> {
        let now = self.clock.now();
        let before = token.facts();
        token.revoke(now);
        let note = Note::new(who, "token.revoked", now).org(token.terms.org).on(token.id).change(before, token.facts());
        let desk = self.clone();
        to_the_end(async move { desk.store.revoke(token.id, token.revoked().unwrap_or(now), note).await }).await
    }

    /// Forgets tokens that ended before this instant; how many. They are nobody's from then on.
    ///
    /// # Errors
    /// Where the store fails; what was forgotten until then stays so.
    pub async fn forget_ended(self: &Arc<Self>, before: Millis) -> Result<usize, StoreError> {
        let mut ended = self.list();
        ended.retain(|token| token.end().is_some_and(|end| end < before));
        for step in ended.chunks(FORGOTTEN) {
            let (desk, step) = (self.clone(), step.to_vec());
            to_the_end(async move {
                let note = Note::new(Who::gateway(), "token.forgotten", desk.clock.now());
                desk.store.forget(step.clone(), note).await?;
                let gone: HashSet<TokenId> = step.iter().map(|token| token.id).collect();
                let mut all = desk.all.write().unwrap_or_else(PoisonError::into_inner);
                all.retain(|_, token| !gone.contains(&token.id));
                Ok::<_, StoreError>(())
            })
            .await?;
        }
        if !ended.is_empty() {
            tracing::info!(tokens = ended.len(), "forgot admin tokens that ended long ago");
        }
        Ok(ended.len())
    }

    /// Writes down when tokens were last used. To be called every minute or so.
    pub async fn save_used(&self) -> Result<(), StoreError> {
        let used: Vec<_> = self.list().iter().filter_map(|token| Some((token.id, token.last_used()?))).collect();
        if used.is_empty() { Ok(()) } else { self.store.note_used(used).await }
    }

    fn digest(&self, secret: &[u8]) -> Digest {
        *hmac::sign(&self.key, secret).as_ref().first_chunk().expect("a tag of SHA-256 has 32 bytes")
    }
}

/// Does work to its end, whoever stops waiting for it.
async fn to_the_end<T, E>(work: impl Future<Output = Result<T, E>> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    tokio::spawn(work).await.map_err(|_| StoreError::Closing)?
}
