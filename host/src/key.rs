//! Keys: what a key is, how it is written, and the store that keeps all of them.
//!
//! A secret exists in two places only: in the hands of its holder, and for one call in memory, when it is made or
//! presented. What is kept is its digest.

mod digest;
mod sled;
mod token;

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use self::digest::{Digest, Pepper};
pub use self::sled::SledKeys;
pub(crate) use self::token::mint_body;
pub use self::token::{Secret, is_shaped};
use crate::clock::Millis;
use crate::data;
use crate::id::{KeyId, OrgId};

/// How far `last_used` may lag behind: writing it for each request would drag one cache line through all workers.
const LAST_USED_GRAIN_MILLIS: u64 = 60_000;

/// Whether a key moves real things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Real, and charged: `sk_live_…`.
    Live,
    /// For trying out, never charged: `sk_sandbox_…`.
    Sandbox,
}

impl Mode {
    /// `live` or `sandbox`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Sandbox => "sandbox",
        }
    }

    /// What the secret of such a key begins with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Live => "sk_live_",
            Self::Sandbox => "sk_sandbox_",
        }
    }
}

impl FromStr for Mode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "live" => Ok(Self::Live),
            "sandbox" => Ok(Self::Sandbox),
            _ => Err(()),
        }
    }
}

/// What a key is allowed and where it comes from; fixed from when it is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// What its org calls it.
    pub name: Box<str>,
    /// Live or sandbox.
    pub mode: Mode,
    /// What it may call.
    pub scopes: Scopes,
    /// The networks that it may be used from; empty for all. Never v4-mapped.
    pub networks: Box<[IpNet]>,
    /// When it ends by itself.
    pub expires: Option<Millis>,
}

/// One key, without its secret. All workers share one of it, so that a revocation is seen by all at once.
#[derive(Debug)]
pub struct Key {
    /// Its id.
    pub id: KeyId,
    /// Whose it is.
    pub org: OrgId,
    /// What it is allowed.
    pub terms: Terms,
    /// When it was made.
    pub created: Millis,
    /// The end of its secret, for people to recognise it by.
    pub last_four: [u8; 4],
    /// The version of the pepper in its digest.
    pub pepper: u32,
    last_used: AtomicU64,
    revoked: AtomicU64,
}

impl Key {
    /// A key that is neither used nor revoked.
    pub fn new(id: KeyId, org: OrgId, terms: Terms, created: Millis, last_four: [u8; 4], pepper: u32) -> Self {
        let (last_used, revoked) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { id, org, terms, created, last_four, pepper, last_used, revoked }
    }

    /// Whether it may call what asks for this scope.
    pub fn holds(&self, scope: &str) -> bool {
        self.terms.scopes.contain(scope)
    }

    /// Whether it may be used from this address; v4-mapped addresses count as IPv4.
    pub fn allows(&self, address: IpAddr) -> bool {
        if self.terms.networks.is_empty() {
            return true;
        }
        let address = address.to_canonical();
        self.terms.networks.iter().any(|network| network.contains(&address))
    }

    /// Whether it has ended by itself.
    pub fn is_expired(&self, now: Millis) -> bool {
        self.terms.expires.is_some_and(|end| end <= now)
    }

    /// Since when it is revoked.
    pub fn revoked(&self) -> Option<Millis> {
        instant(&self.revoked)
    }

    /// Revokes it, for everyone who holds it in memory. The first instant stands.
    pub fn revoke(&self, now: Millis) {
        let _ = self.revoked.compare_exchange(0, now.0.max(1), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// When it was last used, up to a minute behind.
    pub fn last_used(&self) -> Option<Millis> {
        instant(&self.last_used)
    }

    /// Notes that it was used.
    pub fn touch(&self, now: Millis) {
        if now.0 >= self.last_used.load(Ordering::Relaxed).saturating_add(LAST_USED_GRAIN_MILLIS) {
            self.last_used.store(now.0, Ordering::Relaxed);
        }
    }
}

fn instant(millis: &AtomicU64) -> Option<Millis> {
    Some(Millis(millis.load(Ordering::Relaxed))).filter(|instant| instant.0 > 0)
}

/// A set of scopes, in one allocation: sorted, each once, a space between.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Scopes(Box<str>);

impl Scopes {
    /// The set of these scopes. What is not a scope-token of RFC 6749 (section 3.3) is left out.
    pub fn new<'a>(scopes: impl IntoIterator<Item = &'a str>) -> Self {
        let is_token = |scope: &&str| {
            !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
        };
        let mut scopes: Vec<&str> = scopes.into_iter().filter(is_token).collect();
        scopes.sort_unstable();
        scopes.dedup();
        Self(scopes.join(" ").into())
    }

    /// Whether this one is among them.
    pub fn contain(&self, scope: &str) -> bool {
        self.iter().any(|held| held == scope)
    }

    /// All of them, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split(' ').filter(|scope| !scope.is_empty())
    }

    /// All of them with a space between, as in a `scope` claim (RFC 8693, section 4.2).
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// What a store answers with, in its own time.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Why a store of keys did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed.
    #[error("the store of keys cannot be read or written")]
    Database(#[from] data::Failure),
    /// A record is not one of ours.
    #[error("the record of {id} in the store of keys is damaged; restore it from a backup")]
    Damaged {
        /// The id of the record.
        id: KeyId,
    },
    /// An index names what is not there, or names it by something else than an id.
    #[error("an index in the store of keys is damaged; restore it from a backup")]
    DamagedIndex,
    /// Two keys with one secret.
    #[error("the store of keys has this secret already, as {id}")]
    Taken {
        /// The key that has it.
        id: KeyId,
    },
    /// The work was cut off: the gateway is stopping.
    #[error("the store of keys is closing")]
    Closing,
}

/// A key with the digest under which it is found.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The digest of its secret.
    pub digest: Digest,
    /// The key.
    pub key: Arc<Key>,
}

/// Some keys of a longer list.
#[derive(Debug)]
pub struct Page {
    /// The keys, oldest first.
    pub keys: Vec<Kept>,
    /// Whether there are more behind the last one.
    pub more: bool,
}

/// The store that keeps all keys. Durable before it answers; called on the control runtime only.
pub trait KeyStore: fmt::Debug + Send + Sync {
    /// Keeps a new key.
    fn insert(&self, kept: Kept) -> Answer<'_, ()>;

    /// The key with this id.
    fn find(&self, id: KeyId) -> Answer<'_, Option<Kept>>;

    /// Marks a key as revoked since `now`; a revoked one stays as it is. The key as it is then.
    fn revoke(&self, id: KeyId, now: Millis) -> Answer<'_, Option<Kept>>;

    /// At most `limit` keys after the key `after`: of one org, or of all.
    fn page(&self, org: Option<OrgId>, after: Option<KeyId>, limit: usize) -> Answer<'_, Page>;

    /// Notes when keys were last used.
    fn note_used(&self, used: Vec<(KeyId, Millis)>) -> Answer<'_, ()>;
}

#[cfg(test)]
mod tests;
