//! Who calls: from the `Authorization` field to a key.
//!
//! Keys that are in use are in memory, and of all others a filter that says what is nobody's: a key that is used, and a forged one, are
//! resolved without a lock, an allocation or the store, however many come. What is left, a key that may be somebody's and was not used
//! of late, is looked up off the workers.

mod cold;
mod erase;
mod expiry;
mod filter;
mod forget;
mod hot;
mod import;
mod issue;
mod live;
mod load;
mod peppers;
mod ring;
mod sieve;

use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use self::cold::{Ask, Digests, Way};
pub use self::cold::{LookUps, Unavailable};
use self::filter::{Filter, Strangers};
pub use self::hot::Figures;
use self::hot::Tally;
pub use self::issue::{IssueError, Issued, Issuer, Leave, NewKey, Rotation};
pub use self::peppers::{PepperDesk, PepperError};
use crate::clock::Millis;
use crate::key::{self, Bearer, Digest, Key, Move, Pepper};

/// Secrets that room is made for at once, at the most.
const MOST_ROOM: u64 = 4_000_000;

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

/// Keys by the digests of their secrets, for all workers. Clones are the same ring.
#[derive(Debug, Clone)]
pub struct Keyring(Arc<Ring>);

#[derive(Debug)]
struct Ring {
    /// Newest first. Keys digested under an older one stay valid.
    peppers: ArcSwap<Vec<Pepper>>,
    /// What was used or made of late.
    secrets: papaya::HashMap<Short, Held, BuildHasherDefault<AsItIs>>,
    /// Digests of all secrets that there are, and few others.
    filter: ArcSwap<Filter>,
    /// Of those others, some that were looked up.
    strangers: Strangers,
    /// Secrets that were presented and are digested under an older pepper, by that digest.
    moves: papaya::HashMap<Digest, Move, BuildHasherDefault<AsItIs>>,
    /// The keys of those secrets, for who changes them: never asked by a request.
    live: Mutex<live::Live>,
    /// To the store.
    way: Way,
    /// The other end of that, until somebody answers.
    asked: Mutex<Option<mpsc::Receiver<Ask>>>,
    tally: Tally,
    /// Held from a change in the store to that in here, so that both see changes in one order. Never by a request.
    changing: tokio::sync::Mutex<()>,
}

/// Half of a digest, which is enough to know a secret by: nobody can choose it without the pepper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Short(u128);

impl Short {
    fn of(digest: &Digest) -> Self {
        Self(u128::from_ne_bytes(*digest.as_bytes().first_chunk().expect("a digest has more than 16 bytes")))
    }
}

impl Hash for Short {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0 as u64);
    }
}

/// What a secret opens.
#[derive(Debug, Clone)]
struct Held {
    key: Arc<Key>,
    /// Which of the key's secrets it is.
    generation: u32,
}

/// What can be said of a secret from memory.
enum Looked {
    /// What it opens; and where it is digested under an older pepper, how it would be under the newest.
    Held(Held, Option<Move>),
    /// It opens nothing.
    Nobodys,
    /// The store has to be asked.
    Cold(Cold),
}

/// A secret that may be somebody's, under all peppers that there were.
struct Cold {
    digests: Digests,
    peppers: Arc<Vec<Pepper>>,
}

/// What is said of who calls.
enum Resolved {
    Now(Credential),
    Later(Cold),
}

impl Keyring {
    /// An empty ring for digests under these peppers, newest first.
    pub fn new(peppers: Vec<Pepper>) -> Self {
        Self::with_room(peppers, 0)
    }

    /// As [`Self::new`], with room for so many secrets: a map that grows is larger for a while than it need be.
    pub fn with_room(peppers: Vec<Pepper>, secrets: u64) -> Self {
        let room = usize::try_from(secrets.min(MOST_ROOM)).unwrap_or_default();
        let secrets = papaya::HashMap::with_capacity_and_hasher(room, BuildHasherDefault::default());
        let moves = papaya::HashMap::with_hasher(BuildHasherDefault::default());
        let (way, asked) = Way::new();
        Self(Arc::new(Ring {
            peppers: ArcSwap::from_pointee(peppers),
            secrets,
            filter: ArcSwap::from_pointee(Filter::for_secrets(0)),
            strangers: Strangers::new(),
            moves,
            live: Mutex::default(),
            way,
            asked: Mutex::new(Some(asked)),
            tally: Tally::default(),
            changing: tokio::sync::Mutex::default(),
        }))
    }

    /// Resolves the values of all `Authorization` fields of a request (RFC 6750, section 2.1).
    ///
    /// Two fields are malformed: an upstream or a policy might have looked at the other one. Waits only for what is not in memory and
    /// may be somebody's.
    ///
    /// # Errors
    /// When the store does not say in time what a secret opens, which is no reason to call it nobody's.
    pub async fn resolve<'a>(
        &self,
        fields: impl IntoIterator<Item = &'a [u8]>,
        address: IpAddr,
        now: Millis,
    ) -> Result<Credential, Unavailable> {
        match self.look(fields, address, now) {
            Resolved::Now(credential) => Ok(credential),
            // Apart: whoever finds their key in memory carries none of this along.
            Resolved::Later(cold) => Box::pin(self.wait(cold, address, now)).await,
        }
    }

    /// What memory says of it.
    fn look<'a>(&self, fields: impl IntoIterator<Item = &'a [u8]>, address: IpAddr, now: Millis) -> Resolved {
        let mut fields = fields.into_iter();
        let Some(field) = fields.next() else { return Resolved::Now(Credential::Absent) };
        if fields.next().is_some() {
            return Resolved::Now(Credential::Malformed);
        }
        let Some(token) = bearer(field).filter(|token| key::is_shaped(token)) else {
            return Resolved::Now(Credential::Malformed);
        };
        match self.look_up(token) {
            Looked::Held(held, moved) => Resolved::Now(self.judge(held, moved, address, now)),
            Looked::Nobodys => Resolved::Now(Credential::Unknown),
            Looked::Cold(cold) => Resolved::Later(cold),
        }
    }

    async fn wait(&self, cold: Cold, address: IpAddr, now: Millis) -> Result<Credential, Unavailable> {
        let told = self.0.way.ask(cold.digests.clone()).await?;
        self.hear(&cold, told, address, now)
    }

    /// What the store said of it.
    fn hear(
        &self,
        cold: &Cold,
        told: Option<(Held, Digest)>,
        address: IpAddr,
        now: Millis,
    ) -> Result<Credential, Unavailable> {
        let Cold { digests, peppers } = cold;
        let newest = digests.first().copied().zip(peppers.first());
        match told {
            Some((held, digest)) => {
                let moved = newest.filter(|(to, _)| *to != digest);
                let moved =
                    moved.map(|(to, pepper)| Move { id: held.key.id, from: digest, to, pepper: pepper.version() });
                Ok(self.judge(held, moved, address, now))
            }
            None if Arc::ptr_eq(peppers, &self.0.peppers.load()) => Ok(Credential::Unknown),
            // It may have been moved to a pepper that is newer than any of these.
            None => Err(Unavailable),
        }
    }

    fn judge(&self, held: Held, moved: Option<Move>, address: IpAddr, now: Millis) -> Credential {
        let Held { key, generation } = held;
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

    fn look_up(&self, token: &[u8]) -> Looked {
        let secrets = self.0.secrets.pin();
        loop {
            let peppers = self.0.peppers.load();
            let mut digests = Digests::new();
            for pepper in peppers.iter() {
                let digest = pepper.digest(token);
                if let Some(held) = secrets.get(&Short::of(&digest)) {
                    let newest = digests.first().zip(peppers.first());
                    let moved = |(to, pepper): (&Digest, &Pepper)| Move {
                        id: held.key.id,
                        from: digest,
                        to: *to,
                        pepper: pepper.version(),
                    };
                    return Looked::Held(held.clone(), newest.map(moved));
                }
                digests.push(digest);
            }
            // It may have been moved to the newest one between the first look and the last.
            let moved =
                digests.first().filter(|_| digests.len() > 1).and_then(|newest| secrets.get(&Short::of(newest)));
            if let Some(held) = moved {
                return Looked::Held(held.clone(), None);
            }
            // Or to one that is newer than any of these.
            if !Arc::ptr_eq(&peppers, &self.0.peppers.load()) {
                continue;
            }
            let filter = self.0.filter.load();
            if !digests.iter().any(|digest| filter.may_hold(digest) && !self.0.strangers.know(digest)) {
                return Looked::Nobodys;
            }
            return Looked::Cold(Cold { digests, peppers: Arc::clone(&peppers) });
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
