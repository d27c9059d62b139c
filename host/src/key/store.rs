//! The store that keeps all keys, as whoever needs one sees it. Knows no database.

use std::fmt;
use std::pin::Pin;

use super::{Change, Digest, Kept, Unchangeable};
use crate::audit::{self, Note};
use crate::clock::Millis;
use crate::data;
use crate::id::{KeyId, OrgId};

/// What a store answers with, in its own time.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Why a store of keys did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed.
    #[error("the store of keys cannot be read or written")]
    Database(#[from] data::Failure),
    /// The change cannot be noted, so it was not made.
    #[error("the change of a key cannot be noted in the audit log")]
    Audit(#[from] audit::StoreError),
    /// A record is not one of ours.
    #[error("the record of {id} in the store of keys is damaged; restore it from a backup")]
    Damaged {
        /// The id of the record.
        id: KeyId,
    },
    /// An index names what is not there, or names it by something else than an id.
    #[error("an index in the store of keys is damaged; restore it from a backup")]
    DamagedIndex,
    /// What was read of a key did not fit together, again and again.
    #[error("a key in the store is changed all the time, or its index is damaged; look at changes that do not end")]
    Unsettled,
    /// Two keys with one secret.
    #[error("the store of keys has this secret already, as {id}")]
    Taken {
        /// The key that has it.
        id: KeyId,
    },
    /// The org has as many keys as it may.
    #[error("the org {org} has {most} keys that are neither revoked nor expired, and may have no more")]
    TooMany {
        /// Which org.
        org: OrgId,
        /// How many it may have.
        most: u64,
    },
    /// Nothing is made in an org that is being erased, or was.
    #[error("the org {org} is being erased, or was")]
    OrgErased {
        /// Which org.
        org: OrgId,
    },
    /// The key does not allow the change.
    #[error(transparent)]
    Unchangeable(#[from] Unchangeable),
    /// The work was cut off: the gateway is stopping.
    #[error("the store of keys is closing")]
    Closing,
}

/// Some keys of a longer list.
#[derive(Debug)]
pub struct Page {
    /// The keys, oldest first.
    pub keys: Vec<Kept>,
    /// Whether there are more behind the last one.
    pub more: bool,
}

/// A key that was changed, or need not be.
#[derive(Debug)]
pub struct Changed {
    /// As it was.
    pub before: Kept,
    /// As it is.
    pub after: Kept,
}

/// Keys that are not kept any more.
#[derive(Debug)]
pub struct Forgotten {
    /// As they were.
    pub keys: Vec<Kept>,
    /// Whether there may be more to forget.
    pub more: bool,
}

/// Some of the keys whose time ended.
#[derive(Debug)]
pub struct Ended {
    /// As they are.
    pub keys: Vec<Kept>,
    /// Where to go on; none where these were all.
    pub next: Option<Box<[u8]>>,
}

/// The same secret under another pepper.
#[derive(Debug, Clone, Copy)]
pub struct Move {
    /// Whose it is.
    pub id: KeyId,
    /// Its digest so far.
    pub from: Digest,
    /// Its digest from now on.
    pub to: Digest,
    /// The version of the pepper in that.
    pub pepper: u32,
}

/// The store that keeps all keys. Durable before it answers; called on the control runtime only.
///
/// What changes a key is in the audit log together with the change, or neither is: the store adds to the note on what
/// it was, whose that is, and how it was before and after.
pub trait KeyStore: fmt::Debug + Send + Sync {
    /// Keeps new keys: all of them, or none. None where an org had more than `most` then that are neither revoked nor expired.
    fn insert(&self, kept: Vec<Kept>, most: u64, note: Note) -> Answer<'_, ()>;

    /// The key with this id.
    fn find(&self, id: KeyId) -> Answer<'_, Option<Kept>>;

    /// The key with this secret.
    fn find_by_digest(&self, digest: Digest) -> Answer<'_, Option<KeyId>>;

    /// Changes a key. What changes nothing is not noted.
    fn change(&self, id: KeyId, change: Change, note: Note) -> Answer<'_, Option<Changed>>;

    /// Moves secrets to another pepper; which of them are there now. Those that changed meanwhile stay as they are, and those that
    /// cannot be moved keep no other one back. Durable with the next change.
    fn redigest(&self, moves: Vec<Move>) -> Answer<'_, Vec<Move>>;

    /// At most `limit` keys after the key `after`: of one org, or of all.
    fn page(&self, org: Option<OrgId>, after: Option<KeyId>, limit: usize) -> Answer<'_, Page>;

    /// Forgets some keys that ended before this instant, with one note for each org of theirs.
    fn forget(&self, before: Millis, note: Note) -> Answer<'_, Forgotten>;

    /// Removes some keys of an org, whatever state they are in, with one note.
    fn erase(&self, org: OrgId, note: Note) -> Answer<'_, Forgotten>;

    /// Notes when keys were last used.
    fn note_used(&self, used: Vec<(KeyId, Millis)>) -> Answer<'_, ()>;

    /// Some keys whose time ended after `since` and not after `until`, from where an earlier answer said to go on.
    fn ended(&self, since: Millis, until: Millis, from: Option<Box<[u8]>>, most: usize) -> Answer<'_, Ended>;

    /// How many secrets that work now need each version of the pepper. Reads all keys: takes its time.
    fn needs(&self, now: Millis) -> Answer<'_, Vec<(u32, u64)>>;

    /// The versions of the pepper under which there may be secrets; none where that is not known.
    fn peppers(&self) -> Answer<'_, Option<Vec<u32>>>;

    /// All keys were read, and their secrets are under these versions and no others but those that came in meanwhile.
    fn keep_peppers(&self, versions: Vec<u32>) -> Answer<'_, ()>;

    /// At most so many digests after this one, in order: of all secrets, or of those alone that came in since [`Self::keep_filter`].
    fn digests(&self, after: Option<Digest>, fresh: bool, most: usize) -> Answer<'_, Vec<Digest>>;

    /// The name of the filter that holds all digests but the fresh ones; none where there is none.
    fn filter(&self) -> Answer<'_, Option<u128>>;

    /// The filter of this name is durable, and holds all digests that it did not hold before but are fresh no more: these.
    fn keep_filter(&self, name: u128, held: Vec<Digest>) -> Answer<'_, ()>;
}
