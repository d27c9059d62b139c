//! Backups: all state of a data directory at one moment, taken while the gateway serves, checked and put back.
//!
//! A backup is the state in which a death of the process at that moment would have left the directory, so whatever a start does
//! after a crash it does after a restore. Holds nothing in the clear that the directory does not, and neither the admin token's
//! file nor the master key. `docs/adr/0031-backups.md` says how one moment is had without holding anything up.

mod frame;
mod parts;
mod restore;
mod sled;
mod spool;
mod take;

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

use ring::hmac;
use serde::{Deserialize, Serialize};

pub use parts::verify;
pub use restore::restore;
pub use take::Source;

use crate::clock::Millis;
use crate::{data, journal};

/// What the key is derived for under which backups are signed.
pub const PURPOSE: &str = "backup";
/// How backups are written. Another one needs another number, and a way to read this one.
const VERSION: u32 = 1;

/// Under which a backup is signed: derived from the master key for [`PURPOSE`].
pub struct Signet(hmac::Key);

impl Signet {
    /// With this key.
    pub fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    fn sign(&self, digest: &[u8]) -> hmac::Tag {
        hmac::sign(&self.0, &[b"portico backup 1\0", digest].concat())
    }

    fn signed(&self, digest: &[u8], tag: &[u8]) -> bool {
        hmac::verify(&self.0, &[b"portico backup 1\0", digest].concat(), tag).is_ok()
    }
}

impl std::fmt::Debug for Signet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signet(…)")
    }
}

/// What a backup says of itself at its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    /// The format of the data.
    data_format: u32,
    /// The version of the gateway that took it.
    gateway: String,
}

/// The moment that a backup is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Moment {
    at: Millis,
}

/// What is in a whole backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The moment that it is of.
    pub at: Millis,
    /// The version of the gateway that took it.
    pub gateway: String,
    /// The format of the data.
    pub data_format: u32,
    /// Its length.
    pub bytes: u64,
    /// Rows of the store.
    pub rows: u64,
    /// Rows that changed while it was taken.
    pub changes: u64,
    /// Records of the journal.
    pub records: u64,
    /// Components of plugins.
    pub components: u64,
    /// Segments of the request log.
    pub segments: u64,
    /// SHA-256 over all of it, in hexadecimal.
    pub digest: String,
    /// Whether it was signed under the master key; none where that was not looked at.
    pub signed: Option<bool>,
}

/// Why a file is no whole backup.
#[derive(Debug, thiserror::Error)]
pub enum Unsound {
    /// It begins as nothing of ours.
    #[error("it is no backup of a gateway")]
    Foreign,
    /// A later version wrote it.
    #[error("it has the backup format {found}, and this portico reads {VERSION}; use the portico that took it")]
    Version {
        /// Its format.
        found: u32,
    },
    /// The data in it is from a later version.
    #[error(
        "its data has the format {found}, and this portico knows formats up to {}; use a newer portico",
        data::FORMAT
    )]
    Newer {
        /// The format of the data.
        found: u32,
    },
    /// Its end is not there.
    #[error("it was cut off: it ends after {at} bytes, and its end is not there")]
    Cut {
        /// How long it is.
        at: u64,
    },
    /// A checksum does not fit.
    #[error("it is damaged behind byte {at}")]
    Damaged {
        /// Where the part begins that does not fit.
        at: u64,
    },
    /// Something is there twice, or in another place than it was written.
    #[error("behind byte {at} is something that is there already, or not in its place")]
    Order {
        /// Where.
        at: u64,
    },
    /// There is more than was written.
    #[error("there are bytes behind its end")]
    Trailing,
    /// It was signed under another key.
    #[error("it was not taken under this master key, or somebody changed it")]
    Signature,
    /// The file cannot be read.
    #[error("it cannot be read")]
    Unreadable(#[source] io::Error),
}

/// Why a backup was not checked or put back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It is not whole.
    #[error("the backup {path} is not used: {reason}")]
    Unsound {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: Unsound,
    },
    /// The place is taken.
    #[error("{path} is not empty; give a directory that is empty or not there, and move a data directory away first")]
    Taken {
        /// The directory.
        path: PathBuf,
    },
    /// The place is where a disk is mounted: nothing can be moved there as a whole.
    #[error("{path} is where a disk is mounted, and cannot be replaced as a whole; give a directory below it")]
    Mounted {
        /// The directory.
        path: PathBuf,
    },
    /// Somebody else puts a backup back there.
    #[error("another restore into {path} is under way; let that end first")]
    UnderWay {
        /// The directory.
        path: PathBuf,
    },
    /// The place is the data directory of a running gateway.
    #[error("{path} is the data directory of a running gateway; stop that, and move the directory away")]
    Running {
        /// The directory.
        path: PathBuf,
    },
    /// The place cannot be written.
    #[error("cannot write {path}; nothing was put back")]
    Unwritable {
        /// What could not be written.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database in it cannot be written.
    #[error("cannot write the database in {path}; nothing was put back")]
    Database {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: data::Failure,
    },
}

/// Why a backup was not taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// Whoever wanted it has gone, or takes nothing.
    #[error("whoever wanted the backup does not take it")]
    Gone(#[source] io::Error),
    /// The database failed.
    #[error("the backup ends: the database cannot be read")]
    Database(#[from] data::Failure),
    /// What changes meanwhile cannot be kept.
    #[error(
        "the backup ends: what changes meanwhile cannot be kept in {path}; make room on its disk, or take the backup faster"
    )]
    Spool {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The journal cannot be read.
    #[error("the backup ends")]
    Journal(#[from] journal::Unreadable),
    /// A component, or a segment of the request log, cannot be read.
    #[error("the backup ends: cannot read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A store was begun meanwhile.
    #[error("the backup ends: the gateway began another store meanwhile; take it again")]
    Restless,
}
