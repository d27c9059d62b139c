//! Who calls: from the `Authorization` field to a key, in memory.
//!
//! Lock-free, without allocation, and without any way to the store: a forged key costs one digest and one look-up,
//! however many come. All keys are in memory; what is not there is nobody's.

mod expiry;
mod import;
mod issue;
mod peppers;
mod ring;

use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

pub use self::issue::{IssueError, Issued, Issuer, NewKey, Rotation};
pub use self::peppers::{PepperDesk, PepperError};
use crate::clock::Millis;
use crate::key::{self, Digest, Key, Move, Pepper};

/// How a presented credential was resolved; never the credential itself.
#[derive(Debug, Clone)]
pub enum Credential {
    /// No `Authorization` field.
    Absent,
    /// Something that cannot be a key of ours.
    Malformed,
    /// Well formed, and nobody's.
    Unknown,
    /// Was a key, and was revoked.
    Revoked(Arc<Key>),
    /// Was a key, and its time is over.
    Expired(Arc<Key>),
    /// A key, from an address outside the networks that it is bound to.
    AddressNotAllowed(Arc<Key>),
    /// A valid key.
    Valid(Arc<Key>),
}

impl Credential {
    /// The key, where it is valid.
    pub fn valid(&self) -> Option<&Arc<Key>> {
        match self {
            Self::Valid(key) => Some(key),
            _ => None,
        }
    }

    /// The key that was presented, valid or not: for the records, never for a decision.
    pub fn presented(&self) -> Option<&Arc<Key>> {
        match self {
            Self::Absent | Self::Malformed | Self::Unknown => None,
            Self::Revoked(key) | Self::Expired(key) | Self::AddressNotAllowed(key) | Self::Valid(key) => Some(key),
        }
    }
}

/// All keys, by the digests of their secrets, for all workers. Clones are the same ring.
#[derive(Debug, Clone)]
pub struct Keyring(Arc<Ring>);

#[derive(Debug)]
struct Ring {
    /// Newest first. Keys digested under an older one stay valid.
    peppers: ArcSwap<Vec<Pepper>>,
    secrets: papaya::HashMap<Digest, Held, BuildHasherDefault<AsItIs>>,
    /// Secrets that were presented and are digested under an older pepper, by that digest.
    moves: papaya::HashMap<Digest, Move, BuildHasherDefault<AsItIs>>,
}

/// What a secret opens.
#[derive(Debug, Clone)]
struct Held {
    key: Arc<Key>,
    /// Which of the key's secrets it is.
    generation: u32,
    /// The version of the pepper in its digest.
    pepper: u32,
}

impl Keyring {
    /// An empty ring for digests under these peppers, newest first.
    pub fn new(peppers: Vec<Pepper>) -> Self {
        let secrets = papaya::HashMap::with_hasher(BuildHasherDefault::default());
        let moves = papaya::HashMap::with_hasher(BuildHasherDefault::default());
        Self(Arc::new(Ring { peppers: ArcSwap::from_pointee(peppers), secrets, moves }))
    }

    /// Resolves the values of all `Authorization` fields of a request (RFC 6750, section 2.1).
    ///
    /// Two fields are malformed: an upstream or a policy might have looked at the other one.
    pub fn resolve<'a>(&self, fields: impl IntoIterator<Item = &'a [u8]>, address: IpAddr, now: Millis) -> Credential {
        let mut fields = fields.into_iter();
        let Some(field) = fields.next() else { return Credential::Absent };
        if fields.next().is_some() {
            return Credential::Malformed;
        }
        match bearer(field) {
            Some(token) if key::is_shaped(token) => self.judge(token, address, now),
            _ => Credential::Malformed,
        }
    }

    /// How many secrets there are, also of revoked and expired keys.
    pub fn len(&self) -> usize {
        self.0.secrets.len()
    }

    /// Whether there is no secret.
    pub fn is_empty(&self) -> bool {
        self.0.secrets.is_empty()
    }

    fn judge(&self, token: &[u8], address: IpAddr, now: Millis) -> Credential {
        let secrets = self.0.secrets.pin();
        let peppers = self.0.peppers.load();
        let mut newest = None;
        for pepper in peppers.iter() {
            let digest = pepper.digest(token);
            let Some(held) = secrets.get(&digest) else {
                newest.get_or_insert((digest, pepper.version()));
                continue;
            };
            let key = held.key.clone();
            return if key.revoked().is_some() {
                Credential::Revoked(key)
            } else if key.is_expired(now) || !key.is_current(held.generation, now) {
                Credential::Expired(key)
            } else if !key.allows(address) {
                Credential::AddressNotAllowed(key)
            } else {
                key.touch(now);
                if let Some((to, pepper)) = newest {
                    self.note_move(Move { id: key.id, from: digest, to, pepper });
                }
                Credential::Valid(key)
            };
        }
        Credential::Unknown
    }
}

/// The one token behind the scheme `Bearer`, in whatever case that is written.
pub(crate) fn bearer(field: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = field.trim_ascii().split_at_checked(b"bearer".len())?;
    let token = rest.trim_ascii_start();
    let apart = token.len() < rest.len();
    (scheme.eq_ignore_ascii_case(b"bearer") && apart && !token.iter().any(u8::is_ascii_whitespace)).then_some(token)
}

/// Digests are as good as random already, and nobody can choose them.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 ^= number;
    }
}

#[cfg(test)]
mod tests;
