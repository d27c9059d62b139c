//! Who calls: from the `Authorization` field to a key, in memory.
//!
//! Lock-free, without allocation, and without any way to the store: a forged key costs one digest and one look-up,
//! however many come. All keys are in memory; what is not there is nobody's.

mod erase;
mod expiry;
mod forget;
mod import;
mod issue;
mod peppers;
mod ring;

use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

pub use self::issue::{IssueError, Issued, Issuer, Leave, NewKey, Rotation};
pub use self::peppers::{PepperDesk, PepperError};
use crate::clock::Millis;
use crate::id::KeyId;
use crate::key::{self, Bearer, Digest, Key, Move, Pepper};

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
    /// A valid key, by one of its secrets.
    Valid(Bearer),
}

impl Credential {
    /// The key, where it is valid.
    pub fn valid(&self) -> Option<&Arc<Key>> {
        match self {
            Self::Valid(bearer) => Some(&bearer.key),
            _ => None,
        }
    }

    /// The key with the secret by which somebody came, where it is valid.
    pub fn bearer(&self) -> Option<&Bearer> {
        match self {
            Self::Valid(bearer) => Some(bearer),
            _ => None,
        }
    }

    /// The key that was presented, valid or not: for the records, never for a decision.
    pub fn presented(&self) -> Option<&Arc<Key>> {
        match self {
            Self::Absent | Self::Malformed | Self::Unknown => None,
            Self::Revoked(key) | Self::Expired(key) | Self::AddressNotAllowed(key) => Some(key),
            Self::Valid(bearer) => Some(&bearer.key),
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
    /// The same keys by their ids, for who changes them: never asked by a request.
    ids: papaya::HashMap<KeyId, Arc<Key>>,
    /// Secrets that were presented and are digested under an older pepper, by that digest.
    moves: papaya::HashMap<Digest, Move, BuildHasherDefault<AsItIs>>,
    /// Held from a change in the store to that in here, so that both see changes in one order. Never by a request.
    changing: tokio::sync::Mutex<()>,
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
        let peppers = ArcSwap::from_pointee(peppers);
        let ids = papaya::HashMap::new();
        Self(Arc::new(Ring { peppers, secrets, ids, moves, changing: tokio::sync::Mutex::default() }))
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
        let Some((Held { key, generation, .. }, moved)) = self.look_up(token) else { return Credential::Unknown };
        if key.revoked().is_some() {
            Credential::Revoked(key)
        } else if key.is_expired(now) || !key.is_current(generation, now) {
            Credential::Expired(key)
        } else if !key.allows(address) {
            Credential::AddressNotAllowed(key)
        } else {
            key.touch(now);
            if let Some(moved) = moved {
                self.note_move(moved);
            }
            Credential::Valid(Bearer::new(key, generation))
        }
    }

    /// What a secret opens; and where it is digested under an older pepper, how it would be under the newest.
    fn look_up(&self, token: &[u8]) -> Option<(Held, Option<Move>)> {
        let secrets = self.0.secrets.pin();
        loop {
            let peppers = self.0.peppers.load();
            let mut newest = None;
            for pepper in peppers.iter() {
                let digest = pepper.digest(token);
                if let Some(held) = secrets.get(&digest) {
                    let moved = |(to, pepper)| Move { id: held.key.id, from: digest, to, pepper };
                    return Some((held.clone(), newest.map(moved)));
                }
                newest.get_or_insert((digest, pepper.version()));
            }
            // It may have been moved to the newest one between the first look and the last.
            let held = newest.filter(|_| peppers.len() > 1).and_then(|(digest, _)| secrets.get(&digest));
            if let Some(held) = held {
                return Some((held.clone(), None));
            }
            // Or to one that is newer than any of these.
            if Arc::ptr_eq(&peppers, &self.0.peppers.load()) {
                return None;
            }
        }
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
