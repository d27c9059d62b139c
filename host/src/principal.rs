//! Who calls: a key of ours, or somebody whom a policy vouched for.

use crate::key::{Key, Management, Mode};
use crate::plugin::{Claim, contract};

/// A caller that is known.
#[derive(Debug, Clone, Copy)]
pub enum Principal<'a> {
    /// By a valid key.
    Key(&'a Key),
    /// By a policy with the power `identify`.
    Claimed(&'a Claim),
}

impl Principal<'_> {
    /// Whether it holds a scope.
    pub fn holds(&self, scope: &str) -> bool {
        match self {
            Self::Key(key) => key.holds(scope),
            Self::Claimed(claim) => claim.scopes.iter().any(|held| held == scope),
        }
    }

    /// Whether it may manage this.
    pub fn manages(&self, what: Management) -> bool {
        match self {
            Self::Key(key) => key.manages(what),
            Self::Claimed(claim) => claim.scopes.iter().any(|held| held == what.name()),
        }
    }

    /// Live or sandbox.
    pub fn mode(&self) -> Mode {
        match self {
            Self::Key(key) => key.mode,
            Self::Claimed(claim) => match claim.mode {
                contract::Mode::Live => Mode::Live,
                contract::Mode::Sandbox => Mode::Sandbox,
            },
        }
    }
}
