//! What can happen to a key after it was made, and what comes of it. Knows no store: one state in, the next one out.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Bounds, Digest, Key, Lapsed, Management, Scopes};
use crate::clock::Millis;

/// What is kept of one secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digested {
    /// Its digest.
    pub digest: Digest,
    /// The version of the pepper in that.
    pub pepper: u32,
    /// Its end, for people to recognise it by.
    pub last_four: [u8; 4],
}

/// The secret before the present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Previous {
    /// The secret.
    pub secret: Digested,
    /// Until when it works on.
    pub until: Millis,
}

/// A key with all that is kept of it.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The key.
    pub key: Arc<Key>,
    /// What its org calls it.
    pub name: Box<str>,
    /// When it was made.
    pub created: Millis,
    /// Its present secret.
    pub secret: Digested,
    /// The one before, also when its time is over.
    pub previous: Option<Previous>,
    /// When it was last rotated.
    pub rotated: Option<Millis>,
    /// The id of the token or the key that made it; none where that was the super-admin.
    pub maker: Option<Box<str>>,
}

/// What is to happen to a key.
#[derive(Debug, Clone)]
pub enum Change {
    /// It ends at this instant; one that is revoked stays as it is.
    Revoke(Millis),
    /// It has these scopes, and no others.
    Scope {
        /// All of them.
        scopes: Scopes,
        /// When.
        at: Millis,
        /// Only where the key is within these bounds.
        within: Option<Bounds>,
    },
    /// It has another secret, and the present one works on for a while.
    Rotate {
        /// The other one.
        secret: Digested,
        /// When.
        at: Millis,
        /// For how long; never beyond the end of the key.
        overlap: Duration,
        /// Also while the one before the present one still works; that one ends then.
        force: bool,
        /// Only where the key is within these bounds.
        within: Option<Bounds>,
        /// Only where the key has none of these.
        withheld: Vec<Management>,
    },
}

/// Why a key stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unchangeable {
    /// It is revoked.
    #[error("the key is revoked")]
    Revoked,
    /// Its time is over.
    #[error("the key has expired")]
    Expired,
    /// The secret before the present one still works.
    #[error("the key is being rotated until {until}")]
    RotationInProgress {
        /// Until when.
        until: Millis,
    },
    /// It reaches further than whoever wants to change it.
    #[error("the key reaches beyond the bounds of the one that wants to change it")]
    BeyondBounds,
    /// It has a scope that whoever wants to change it may not give.
    #[error("the key has the scope `{}`, which whoever wants to change it may not give", .0.name())]
    Withheld(Management),
    /// Whoever wants to change it came with a key that is not good for that any more.
    #[error(transparent)]
    Lapsed(#[from] Lapsed),
}

impl Kept {
    /// Carries out a change, for whoever holds this key alone. Whether anything is different since.
    pub fn apply(&mut self, change: &Change) -> Result<bool, Unchangeable> {
        match change {
            Change::Revoke(at) => {
                let before = self.key.revoked();
                self.key.revoke(*at);
                Ok(before.is_none())
            }
            Change::Scope { scopes, at, within } => {
                self.refuse_ended(*at, within.as_ref())?;
                let same = **self.key.scopes() == *scopes;
                self.key.set_scopes(scopes.clone());
                Ok(!same)
            }
            Change::Rotate { secret, at, overlap, force, within, withheld } => {
                self.refuse_ended(*at, within.as_ref())?;
                if let Some(scope) = withheld.iter().find(|scope| self.key.manages(**scope)) {
                    return Err(Unchangeable::Withheld(*scope));
                }
                let running = self.previous.filter(|previous| previous.until > *at && !force);
                if let Some(Previous { until, .. }) = running {
                    return Err(Unchangeable::RotationInProgress { until });
                }
                let wanted = at.plus(*overlap);
                let until = self.key.expires().map_or(wanted, |end| end.min(wanted));
                self.previous = Some(Previous { secret: self.secret, until });
                self.secret = *secret;
                self.rotated = Some(*at);
                Ok(true)
            }
        }
    }

    /// Exchanges the digest of one of its secrets for one of the same secret under another pepper. Whether it has that since,
    /// or had it already.
    pub fn redigest(&mut self, from: &Digest, to: &Digest, pepper: u32) -> bool {
        let secrets = [Some(&mut self.secret), self.previous.as_mut().map(|previous| &mut previous.secret)];
        let mut secrets = secrets.into_iter().flatten();
        let found = secrets.find(|secret| secret.digest == *from || secret.digest == *to);
        found.map(|secret| (secret.digest, secret.pepper) = (*to, pepper)).is_some()
    }

    /// Its secrets: the present one, and the one before where there was one.
    pub fn secrets(&self) -> impl Iterator<Item = &Digested> {
        std::iter::once(&self.secret).chain(self.previous.as_ref().map(|previous| &previous.secret))
    }

    /// What the audit log says of it: all but its secrets.
    pub fn facts(&self) -> Value {
        let key = &self.key;
        json!({
            "name": self.name,
            "mode": key.mode,
            "scopes": key.scopes().iter().collect::<Vec<_>>(),
            "networks": key.networks().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "expires_at": key.expires(),
            "revoked_at": key.revoked(),
            "last_four": String::from_utf8_lossy(&self.secret.last_four),
            "pepper": self.secret.pepper,
            "rotated_at": self.rotated,
            "previous_ends_at": self.previous.map(|previous| previous.until),
        })
    }

    fn refuse_ended(&self, at: Millis, within: Option<&Bounds>) -> Result<(), Unchangeable> {
        if self.key.revoked().is_some() {
            Err(Unchangeable::Revoked)
        } else if self.key.is_expired(at) {
            Err(Unchangeable::Expired)
        } else if within.is_some_and(|bounds| !bounds.hold_key(&self.key)) {
            Err(Unchangeable::BeyondBounds)
        } else {
            Ok(())
        }
    }
}
