//! The cards in one tree, by the name of the policy.

use std::collections::BTreeMap;
use std::fmt;

use super::Card;
use crate::data::{Database, Failure};

pub(super) struct Cards {
    tree: sled::Tree,
    damaged: sled::Tree,
}

impl Cards {
    pub(super) fn open(database: &Database) -> Result<Self, Failure> {
        Ok(Self { tree: database.tree("plugins")?, damaged: database.tree("plugins-damaged")? })
    }

    /// All of them, and how many could not be read. Such a one is kept aside, begun anew, and said: a lost history must not keep
    /// the gateway down.
    pub(super) fn all(&self) -> Result<(BTreeMap<String, Card>, usize), Failure> {
        let mut cards = BTreeMap::new();
        for row in self.tree.iter() {
            let (name, card) = row?;
            let name = String::from_utf8_lossy(&name).into_owned();
            match serde_json::from_slice(&card) {
                Ok(card) => {
                    cards.insert(name, card);
                }
                Err(error) => {
                    self.damaged.insert(name.as_str(), card)?;
                    tracing::error!(
                        policy = name,
                        "what an operator wanted of this policy, and its versions, cannot be read and is kept in the tree \
                         `plugins-damaged`; see whether it should be disabled or held: {error}"
                    );
                }
            }
        }
        Ok((cards, self.damaged.len()))
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
