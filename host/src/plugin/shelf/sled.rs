//! The cards in one tree, by the name of the policy.

use std::collections::BTreeMap;
use std::fmt;

use super::Card;
use crate::data::{Database, Failure};

pub(super) struct Cards {
    tree: sled::Tree,
}

impl Cards {
    pub(super) fn open(database: &Database) -> Result<Self, Failure> {
        Ok(Self { tree: database.tree("plugins")? })
    }

    /// All of them. One that cannot be read is begun anew, and said: a lost history must not keep the gateway down.
    pub(super) fn all(&self) -> Result<BTreeMap<String, Card>, Failure> {
        let mut cards = BTreeMap::new();
        for row in self.tree.iter() {
            let (name, card) = row?;
            let name = String::from_utf8_lossy(&name).into_owned();
            match serde_json::from_slice(&card) {
                Ok(card) => {
                    cards.insert(name, card);
                }
                Err(error) => {
                    tracing::error!(policy = name, "the record of this policy's versions is damaged: {error}")
                }
            }
        }
        Ok(cards)
    }

    /// Keeps one; durable when it returns.
    pub(super) fn keep(&self, policy: &str, card: &Card) -> Result<(), Failure> {
        let record = serde_json::to_vec(card).unwrap_or_default();
        self.tree.insert(policy, record)?;
        self.tree.flush()?;
        Ok(())
    }
}

impl fmt::Debug for Cards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cards")
    }
}
