//! Who calls: from the `Authorization` field to a key, in memory.
//!
//! Lock-free, without allocation, and without any way to the store: a forged key costs one digest and one look-up,
//! however many come. All keys are in memory; what is not there is nobody's.

mod issue;

use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

pub use self::issue::{IssueError, Issued, Issuer};
use crate::clock::Millis;
use crate::key::{self, Digest, Kept, Key, Pepper};

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

/// All keys, by digest, for all workers. Clones are the same ring.
#[derive(Debug, Clone)]
pub struct Keyring(Arc<Ring>);

#[derive(Debug)]
struct Ring {
    /// Newest first. Keys digested under an older one stay valid.
    peppers: Box<[Pepper]>,
    keys: papaya::HashMap<Digest, Arc<Key>, BuildHasherDefault<AsItIs>>,
}

impl Keyring {
    /// An empty ring for digests under these peppers, newest first.
    pub fn new(peppers: Vec<Pepper>) -> Self {
        let keys = papaya::HashMap::with_hasher(BuildHasherDefault::default());
        Self(Arc::new(Ring { peppers: peppers.into(), keys }))
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

    /// Takes a key in; one that is already there stays, so that nobody's revocation is lost.
    pub fn add(&self, kept: Kept) -> Arc<Key> {
        self.0.keys.pin().get_or_insert(kept.digest, kept.key).clone()
    }

    /// The key with this digest.
    pub fn find(&self, digest: &Digest) -> Option<Arc<Key>> {
        self.0.keys.pin().get(digest).cloned()
    }

    /// How many keys there are, also revoked and expired ones.
    pub fn len(&self) -> usize {
        self.0.keys.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.keys.is_empty()
    }

    /// Calls back with each key.
    pub fn each(&self, mut visit: impl FnMut(&Key)) {
        self.0.keys.pin().values().for_each(|key| visit(key));
    }

    /// The pepper for new keys.
    fn newest(&self) -> Option<&Pepper> {
        self.0.peppers.first()
    }

    fn judge(&self, token: &[u8], address: IpAddr, now: Millis) -> Credential {
        let keys = self.0.keys.pin();
        let found = self.0.peppers.iter().find_map(|pepper| keys.get(&pepper.digest(token)));
        let Some(key) = found.cloned() else { return Credential::Unknown };
        if key.revoked().is_some() {
            Credential::Revoked(key)
        } else if key.is_expired(now) {
            Credential::Expired(key)
        } else if !key.allows(address) {
            Credential::AddressNotAllowed(key)
        } else {
            key.touch(now);
            Credential::Valid(key)
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
