//! Orgs, whose keys and money everything is; and the tokens that may manage one of them, or all.
//!
//! There is always an org `default`. No admin has a password, and none has a default token.

mod admin;
mod closed;
mod ending;
mod sled;
mod token;

use std::fmt;
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use self::admin::{AdminError, Admins, TOKEN_FILE, TOKEN_VARIABLE};
pub use self::closed::Closed;
pub use self::ending::{Ending, Erased};
pub use self::sled::SledOrgs;
pub use self::token::{Login, NewToken, Role, SledTokens, Token, TokenError, TokenStore, Tokens};
use crate::audit::{self, Note, Who};
use crate::clock::Millis;
use crate::data;
use crate::id::{NoRandomness, OrgId};

/// The slug of the org that the first start makes.
pub const DEFAULT: &str = "default";
/// The most characters in a slug.
pub const LONGEST_SLUG: usize = 64;

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
    /// Where it is being erased, or was. Then nothing new is made in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
}

impl Org {
    /// An org that is not kept yet.
    ///
    /// # Errors
    /// When no id can be made.
    pub fn new(slug: &str, name: &str, now: Millis) -> Result<Self, NoRandomness> {
        Ok(Self { id: OrgId::fresh(now)?, slug: slug.to_owned(), name: name.to_owned(), created: now, ending: None })
    }

    fn facts(&self) -> Value {
        json!({ "slug": self.slug, "name": self.name })
    }
}

/// Whether this can be a slug: lower-case letters, digits and hyphens, with a letter or a digit at both ends.
pub fn is_slug(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [text.bytes().next(), text.bytes().next_back()];
    text.len() <= LONGEST_SLUG
        && ends.into_iter().all(|end| end.is_some_and(plain))
        && text.bytes().all(|byte| plain(byte) || byte == b'-')
}

/// What a store answers with, in its own time.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Why a store of orgs or tokens did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed.
    #[error("the store of orgs cannot be read or written")]
    Database(#[from] data::Failure),
    /// The change cannot be noted, so it was not made.
    #[error("the change of an org or a token cannot be noted in the audit log")]
    Audit(#[from] audit::StoreError),
    /// A record is not one of ours.
    #[error("the record of an org or a token is damaged; restore the data directory from a backup")]
    Damaged,
    /// Two orgs with one slug.
    #[error("there is an org `{slug}` already")]
    Taken {
        /// The slug.
        slug: String,
    },
    /// Nothing is changed of an org that is being erased, or was.
    #[error("the org {id} is being erased, or was")]
    Erased {
        /// The org.
        id: OrgId,
    },
    /// No id could be made.
    #[error("no org can be made")]
    Randomness(#[from] NoRandomness),
    /// The work was cut off: the gateway is stopping.
    #[error("the store of orgs is closing")]
    Closing,
}

/// The store that keeps all orgs. Durable before it answers; called on the control runtime only.
///
/// A change is in the audit log together with what it changed, or neither is.
pub trait OrgStore: fmt::Debug + Send + Sync {
    /// Keeps a new org.
    fn create(&self, org: Org, note: Note) -> Answer<'_, ()>;

    /// Gives an org this slug and this name, where they are given. None where there is no such org.
    fn rename(&self, id: OrgId, slug: Option<String>, name: Option<String>, note: Note) -> Answer<'_, Option<Org>>;

    /// Notes that an org is to be erased, where it is not yet; how it is since. None where there is no such org.
    fn begin_erasing(&self, id: OrgId, by: Who, note: Note) -> Answer<'_, Option<Org>>;

    /// Adds to what is erased of an org; how it is since.
    fn add_erased(&self, id: OrgId, more: Erased) -> Answer<'_, Option<Org>>;

    /// Takes the names away from an org that is being erased, with the entry that says that it was; how it is since.
    fn erase_names(&self, id: OrgId, note: Note) -> Answer<'_, Option<Org>>;

    /// Notes that nothing is left to be erased of an org; how it is since.
    fn end_erasing(&self, id: OrgId, at: Millis) -> Answer<'_, Option<Org>>;

    /// The org with this slug or id.
    fn find(&self, slug_or_id: &str) -> Answer<'_, Option<Org>>;

    /// All orgs, oldest first.
    fn all(&self) -> Answer<'_, Vec<Org>>;
}

#[cfg(test)]
mod tests;
