//! Orgs, whose keys and money everything is; and the token that may manage all of them.
//!
//! There is always an org `default`. No admin has a password, and none has a default token.

mod admin;
mod sled;

use std::fmt;
use std::pin::Pin;

use serde::{Deserialize, Serialize};

pub use self::admin::{AdminError, Admins, TOKEN_FILE, TOKEN_VARIABLE};
pub use self::sled::SledOrgs;
use crate::clock::Millis;
use crate::data;
use crate::id::{NoRandomness, OrgId};

/// The slug of the org that the first start makes.
pub const DEFAULT: &str = "default";

/// One org.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Org {
    /// Its id.
    pub id: OrgId,
    /// Its name in addresses and commands: lower case, unique.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// When it was made.
    pub created: Millis,
}

/// What a store answers with, in its own time.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Why a store of orgs did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed.
    #[error("the store of orgs cannot be read or written")]
    Database(#[from] data::Failure),
    /// A record is not one of ours.
    #[error("the record of an org is damaged; restore the data directory from a backup")]
    Damaged,
    /// No id could be made.
    #[error("no org can be made")]
    Randomness(#[from] NoRandomness),
    /// The work was cut off: the gateway is stopping.
    #[error("the store of orgs is closing")]
    Closing,
}

/// The store that keeps all orgs. Durable before it answers; called on the control runtime only.
pub trait OrgStore: fmt::Debug + Send + Sync {
    /// The org with this slug or id.
    fn find(&self, slug_or_id: &str) -> Answer<'_, Option<Org>>;

    /// All orgs, oldest first.
    fn all(&self) -> Answer<'_, Vec<Org>>;
}
