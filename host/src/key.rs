//! Keys: what a key is, how it is written, and the store that keeps all of them.
//!
//! A secret exists in two places only: in the hands of its holder, and for one call in memory, when it is made or
//! presented. What is kept is its digest.

mod all;
mod bearer;
mod bounds;
mod change;
mod digest;
mod ends;
mod record;
mod scopes;
mod sled;
mod store;
mod token;
mod told;

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use self::bearer::{Bearer, Lapsed};
pub use self::bounds::Bounds;
pub use self::change::{Change, Digested, Kept, Previous, Unchangeable};
pub use self::digest::{Digest, Pepper, Peppers};
pub use self::scopes::{Management, Scopes};
pub use self::sled::SledKeys;
pub use self::store::{Answer, Changed, Ended, Forgotten, KeyStore, Move, Page, StoreError};
pub(crate) use self::token::mint_body;
pub use self::token::{Secret, is_shaped};
pub use self::told::expired;
use crate::clock::Millis;
use crate::id::{KeyId, OrgId};

/// How many seconds `last_used` may lag behind: writing it for each request would drag one cache line through all workers.
const LAST_USED_GRAIN: u32 = 60;

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

/// What a key is from when it is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// What its org calls it.
    pub name: Box<str>,
    /// Live or sandbox.
    pub mode: Mode,
    /// The networks that it may be used from; empty for all. Never v4-mapped.
    pub networks: Box<[IpNet]>,
    /// When it ends by itself.
    pub expires: Option<Millis>,
}

/// One key, without its secrets, as it is in memory while it is in use: small, since there may be many. All workers share one of it,
/// so that a change is seen by all at once. Its name and other things that no request asks for are in [`Kept`].
#[derive(Debug)]
pub struct Key {
    /// Its id.
    pub id: KeyId,
    /// Whose it is.
    pub org: OrgId,
    /// Live or sandbox.
    pub mode: Mode,
    /// None for all: a thin pointer, since few keys have any.
    networks: Option<Box<Networks>>,
    /// Milliseconds; [`NEVER`] where it does not end by itself.
    expires: [u8; 6],
    /// Keys with the same set share it, where they are in memory for long.
    scopes: ArcSwap<Scopes>,
    /// In whole seconds.
    last_used: AtomicU32,
    revoked: AtomicU64,
    /// Which of its secrets is the present one, counted from 0.
    generation: AtomicU32,
    /// Until when the one before works on.
    overlap: AtomicU64,
}

/// The end of what has none: beyond the last one that can be written.
const NEVER: u64 = (1 << 48) - 1;

#[derive(Debug)]
struct Networks(Box<[IpNet]>);

impl Key {
    /// A key that is neither used nor rotated nor revoked.
    pub fn new(id: KeyId, org: OrgId, terms: Terms, scopes: Scopes) -> Self {
        let Terms { name: _, mode, networks, expires } = terms;
        let networks = (!networks.is_empty()).then(|| Box::new(Networks(networks)));
        let [_, _, expires @ ..] = expires.map_or(NEVER, |end| end.0.min(NEVER)).to_be_bytes();
        let scopes = ArcSwap::from_pointee(scopes);
        let (last_used, revoked, generation, overlap) = Default::default();
        Self { id, org, mode, networks, expires, scopes, last_used, revoked, generation, overlap }
    }

    /// The networks that it may be used from; empty for all.
    pub fn networks(&self) -> &[IpNet] {
        self.networks.as_ref().map_or(&[], |networks| &networks.0)
    }

    /// When it ends by itself.
    pub fn expires(&self) -> Option<Millis> {
        let [a, b, c, d, e, f] = self.expires;
        let end = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        (end != NEVER).then_some(Millis(end))
    }

    /// All of its scopes, those for pillars and those for management.
    pub fn scopes(&self) -> Guard<Arc<Scopes>> {
        self.scopes.load()
    }

    /// Gives it another set of scopes, for everyone who holds it in memory.
    pub fn set_scopes(&self, scopes: impl Into<Arc<Scopes>>) {
        self.scopes.store(scopes.into());
    }

    /// Whether it may call what asks for this scope. A management scope opens no pillar.
    pub fn holds(&self, scope: &str) -> bool {
        !Management::is_one(scope) && self.scopes.load().contain(scope)
    }

    /// Whether it may manage this. A pillar's scope opens no management.
    pub fn manages(&self, what: Management) -> bool {
        self.scopes.load().contain(what.name())
    }

    /// Whether it may be used from this address; v4-mapped addresses count as IPv4.
    pub fn allows(&self, address: IpAddr) -> bool {
        let Some(networks) = &self.networks else { return true };
        let address = address.to_canonical();
        networks.0.iter().any(|network| network.contains(&address))
    }

    /// Whether it has ended by itself.
    pub fn is_expired(&self, now: Millis) -> bool {
        self.expires().is_some_and(|end| end <= now)
    }

    /// When it ends or ended: by itself, or before that because it was revoked.
    pub fn end(&self) -> Option<Millis> {
        self.expires().into_iter().chain(self.revoked()).min()
    }

    /// Since when it is revoked.
    pub fn revoked(&self) -> Option<Millis> {
        instant(&self.revoked)
    }

    /// Revokes it, for everyone who holds it in memory. The first instant stands.
    pub fn revoke(&self, now: Millis) {
        let _ = self.revoked.compare_exchange(0, now.0.max(1), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Which of its secrets is the present one.
    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    /// From now on the next secret is the present one, and the one before works until `overlap`.
    pub(crate) fn rotated(&self, overlap: Millis) {
        // The end first: whoever sees the next generation sees it too.
        self.overlap.store(overlap.0, Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Whether a secret of this generation works now.
    pub(crate) fn is_current(&self, generation: u32, now: Millis) -> bool {
        let present = self.generation();
        generation >= present || generation + 1 == present && now.0 < self.overlap.load(Ordering::Relaxed)
    }

    /// When it was last used, in whole seconds and up to a minute behind.
    pub fn last_used(&self) -> Option<Millis> {
        let seconds = self.last_used.load(Ordering::Relaxed);
        (seconds > 0).then_some(Millis(u64::from(seconds) * 1_000))
    }

    /// Notes that it was used.
    pub fn touch(&self, now: Millis) {
        let seconds = u32::try_from(now.seconds()).unwrap_or(u32::MAX);
        if seconds >= self.last_used.load(Ordering::Relaxed).saturating_add(LAST_USED_GRAIN) {
            self.last_used.store(seconds, Ordering::Relaxed);
        }
    }
}

fn instant(millis: &AtomicU64) -> Option<Millis> {
    Some(Millis(millis.load(Ordering::Relaxed))).filter(|instant| instant.0 > 0)
}

#[cfg(test)]
mod tests;
