//! Which of the gateway's own requests were sent before, and what came of them: `Idempotency-Key` on what makes things.
//!
//! A request with a key is durably noted before it is carried out, and its answer after that, so it is never carried out a
//! second time: what was begun and has no answer is told as such. Answers are sealed under a key that follows from the
//! credential of whoever asked, and from nothing else; neither the store nor the master key opens them.

mod answer;
mod field;
mod sled;

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::digest::{Context, SHA256};

pub use self::answer::Answer;
pub use self::field::{FIELD, Key, LONGEST, Malformed};
pub use self::sled::SledIdempotency;
use crate::clock::{Clock, Millis};
use crate::data;
use crate::id::OrgId;
use crate::seal::{self, MasterKey};

/// How long a key is known, from when it came first.
pub const KEPT: Duration = Duration::from_secs(86_400);
/// Keys of one org that are known at once.
pub const MOST: u64 = 10_000;
/// Bytes of answers of one org from which on no further key is taken.
pub const MOST_BYTES: u64 = 32 << 20;
/// The largest answer that is kept.
const LARGEST: usize = 1 << 20;

const LENGTH: usize = 32;

/// Where a key is kept: by its org (zero for who is confined to none), then by a digest of path and key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place([u8; Place::LENGTH]);

impl Place {
    /// Its bytes.
    pub const LENGTH: usize = 16 + LENGTH;

    /// Of a key that came to this path, from someone confined to this org or to none.
    pub fn of(org: Option<OrgId>, path: &str, key: &Key) -> Self {
        let mut place = [0; Self::LENGTH];
        let (whose, which) = place.split_at_mut(16);
        whose.copy_from_slice(&org.map_or(0, OrgId::number).to_be_bytes());
        which.copy_from_slice(&digest(&[path.as_bytes(), key.as_str().as_bytes()]));
        Self(place)
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A digest of all that a request asks for: the same key with another one is a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; LENGTH]);

impl Fingerprint {
    /// Of a request with this method, path with query, and body.
    pub fn of(method: &str, target: &str, body: &[u8]) -> Self {
        Self(digest(&[method.as_bytes(), target.as_bytes(), body]))
    }
}

fn digest(parts: &[&[u8]]) -> [u8; LENGTH] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        // With its length before it, no part can run into the next.
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut bytes = [0; LENGTH];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

/// What opens the answers to one credential. Wiped from memory with its last clone.
#[derive(Clone)]
pub struct Proof(Arc<MasterKey>);

impl Proof {
    /// From the credential that somebody presented.
    pub fn of(credential: &[u8]) -> Self {
        Self(Arc::new(MasterKey::of_credential(credential, "idempotency")))
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof(…)")
    }
}

/// What is kept of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When it came first.
    pub since: Millis,
    /// What it asked for.
    pub fingerprint: Fingerprint,
    /// Its answer, sealed; none while there is none.
    pub answer: Option<Vec<u8>>,
}

impl Record {
    /// Whether it is known no more.
    pub fn is_over(&self, now: Millis) -> bool {
        now.since(self.since) >= KEPT
    }
}

/// What a store answers with, in its own time.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed.
    #[error("the store of idempotency keys cannot be read or written")]
    Database(#[from] data::Failure),
    /// A record is not one of ours.
    #[error("the record of an idempotency key is damaged; it is removed when its time is over")]
    Damaged,
    /// An answer cannot be sealed.
    #[error("an answer cannot be kept")]
    Seal(#[from] seal::Error),
    /// The work was cut off: the gateway is stopping.
    #[error("the store of idempotency keys is closing")]
    Closing,
}

/// What came of an attempt to note a request.
#[derive(Debug)]
pub enum Begun {
    /// It is noted.
    Noted,
    /// It was noted before.
    Known(Record),
    /// The org has as many as it may.
    Full,
}

/// Keeps records. Durable before it answers; called on the control runtime only.
pub trait IdempotencyStore: fmt::Debug + Send + Sync {
    /// What is kept here, unless its time is over.
    fn find(&self, place: Place, now: Millis) -> Pending<'_, Option<Record>>;

    /// Notes a request that is about to be carried out, where nothing is kept whose time is not over.
    fn begin(&self, place: Place, fingerprint: Fingerprint, now: Millis) -> Pending<'_, Begun>;

    /// Keeps a record in the place of what is there.
    fn keep(&self, place: Place, record: Record) -> Pending<'_, ()>;

    /// Forgets what is kept here.
    fn free(&self, place: Place) -> Pending<'_, ()>;

    /// Forgets all of an org; how many there were.
    fn forget(&self, org: OrgId) -> Pending<'_, u64>;

    /// Forgets what is over, in slices; how many there were.
    fn sweep(&self, now: Millis) -> Pending<'_, u64>;
}

/// What is to be done with a request.
#[derive(Debug)]
pub enum Turn {
    /// Carry it out, and say what came of it.
    Run(Ticket),
    /// Give this answer again, which was made then.
    Again(Answer, Millis),
    /// It is being carried out.
    InUse,
    /// It was begun, and its answer is not there: it may have been carried out.
    OutcomeUnknown,
    /// The key came with another request.
    Reused,
    /// The answer is for another credential.
    Sealed,
    /// The org has as many keys as it may.
    Full,
}

/// The requests that came with a key. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Repeats(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn IdempotencyStore>,
    clock: Clock,
    /// What this process is at. A record without an answer that is not among these has lost it.
    running: Mutex<HashMap<Place, Fingerprint>>,
}

impl Repeats {
    /// On a store.
    pub fn new(store: Arc<dyn IdempotencyStore>, clock: Clock) -> Self {
        Self(Arc::new(Inner { store, clock, running: Mutex::default() }))
    }

    /// Looks whether a request came before, and notes it where it did not.
    ///
    /// # Errors
    /// Those of the store; then nothing may be carried out.
    pub async fn turn(&self, place: Place, fingerprint: Fingerprint, proof: &Proof) -> Result<Turn, StoreError> {
        let now = self.0.clock.now();
        if let Some(record) = self.known(place, now).await? {
            return Ok(self.again(place, fingerprint, proof, &record));
        }
        let ticket = {
            let mut running = self.0.running();
            if let Some(under_way) = running.get(&place) {
                return Ok(if *under_way == fingerprint { Turn::InUse } else { Turn::Reused });
            }
            running.insert(place, fingerprint);
            Ticket { inner: self.0.clone(), place, fingerprint, since: now, proof: proof.clone() }
        };
        match self.0.store.begin(place, fingerprint, now).await? {
            Begun::Noted => Ok(Turn::Run(ticket)),
            Begun::Full => Ok(Turn::Full),
            Begun::Known(record) => {
                drop(ticket);
                Ok(self.again(place, fingerprint, proof, &record))
            }
        }
    }

    /// Forgets what is over; for the background, in intervals.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn sweep(&self) -> Result<u64, StoreError> {
        self.0.store.sweep(self.0.clock.now()).await
    }

    /// Forgets all of an org, and all that super-admins asked for: they may have made something in it. How many records of the org
    /// there were.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn forget(&self, org: OrgId) -> Result<u64, StoreError> {
        self.0.store.forget(OrgId::from_number(0)).await?;
        self.0.store.forget(org).await
    }

    async fn known(&self, place: Place, now: Millis) -> Result<Option<Record>, StoreError> {
        let record = self.0.store.find(place, now).await?;
        let lost = |record: &Record| record.answer.is_none() && !self.0.running().contains_key(&place);
        match record {
            // It may have got its answer between the two looks.
            Some(record) if lost(&record) => self.0.store.find(place, now).await,
            record => Ok(record),
        }
    }

    fn again(&self, place: Place, fingerprint: Fingerprint, proof: &Proof, record: &Record) -> Turn {
        if record.fingerprint != fingerprint {
            return Turn::Reused;
        }
        match &record.answer {
            None if self.0.running().contains_key(&place) => Turn::InUse,
            None => Turn::OutcomeUnknown,
            Some(sealed) if sealed.is_empty() => Turn::OutcomeUnknown,
            Some(sealed) => {
                let opened = proof.0.open(&name(place, fingerprint), sealed);
                match opened.ok().and_then(|bytes| Answer::read(&bytes)) {
                    Some(answer) => Turn::Again(answer, record.since),
                    None => Turn::Sealed,
                }
            }
        }
    }
}

/// The right, and the duty, to carry a request out. Dropped without a word, the request was begun and has no answer.
#[derive(Debug)]
pub struct Ticket {
    inner: Arc<Inner>,
    place: Place,
    fingerprint: Fingerprint,
    since: Millis,
    proof: Proof,
}

impl Ticket {
    /// Keeps the answer, for whoever comes again with the same credential. One that is too large is not kept, and whoever comes
    /// again is told that it was begun.
    ///
    /// # Errors
    /// Those of the store; then it is as if it were too large.
    pub async fn keep(self, answer: &Answer) -> Result<(), StoreError> {
        let bytes = answer.to_bytes();
        let sealed = match bytes.len() <= LARGEST {
            true => self.proof.0.seal(&name(self.place, self.fingerprint), &bytes)?,
            false => Vec::new(),
        };
        let record = Record { since: self.since, fingerprint: self.fingerprint, answer: Some(sealed) };
        self.inner.store.keep(self.place, record).await
    }

    /// Frees the key: nothing was done, so the same may be asked for again.
    ///
    /// # Errors
    /// Those of the store; then whoever comes again is told that it was begun.
    pub async fn free(self) -> Result<(), StoreError> {
        self.inner.store.free(self.place).await
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.inner.running().remove(&self.place);
    }
}

impl Inner {
    fn running(&self) -> MutexGuard<'_, HashMap<Place, Fingerprint>> {
        // Each change is one insert or one removal.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Under what an answer is sealed: it cannot be moved to another key, nor given to another request.
fn name(place: Place, fingerprint: Fingerprint) -> String {
    let digits = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("idempotency:{}:{}", digits(place.bytes()), digits(&fingerprint.0))
}

#[cfg(test)]
mod tests;
