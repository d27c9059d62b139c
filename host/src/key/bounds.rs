//! How far a key reaches, and whether something stays within that: a key hands on nothing that it does not have.

use ipnet::IpNet;

use super::{Key, Mode, Scopes, Terms};
use crate::clock::Millis;

/// How far a key reaches.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Its scopes.
    pub scopes: Scopes,
    /// Its mode.
    pub mode: Mode,
    /// Its networks; empty for all.
    pub networks: Box<[IpNet]>,
    /// Its end.
    pub expires: Option<Millis>,
}

impl Bounds {
    /// Those of this key, as it is now.
    pub fn of(key: &Key) -> Self {
        Self {
            scopes: Scopes::clone(&key.scopes()),
            mode: key.mode,
            networks: key.networks().into(),
            expires: key.expires(),
        }
    }

    /// Whether something with these terms and scopes reaches nowhere that is not within them.
    pub fn hold(&self, terms: &Terms, scopes: &Scopes) -> bool {
        self.hold_all(terms.mode, &terms.networks, terms.expires, scopes)
    }

    /// Whether this key, as it is now, reaches nowhere that is not within them.
    pub fn hold_key(&self, key: &Key) -> bool {
        self.hold_all(key.mode, key.networks(), key.expires(), &key.scopes())
    }

    fn hold_all(&self, mode: Mode, networks: &[IpNet], end: Option<Millis>, scopes: &Scopes) -> bool {
        self.mode == mode
            && scopes.iter().all(|scope| self.scopes.contain(scope))
            && self.allow_networks(networks)
            && self.allow_end(end)
    }

    /// Whether each of these networks lies in one of its own. None at all are all there are.
    pub fn allow_networks(&self, networks: &[IpNet]) -> bool {
        self.networks.is_empty() || !networks.is_empty() && networks.iter().all(|network| self.allows(network))
    }

    /// Whether this network lies in one of its own.
    pub fn allows(&self, network: &IpNet) -> bool {
        self.networks.is_empty() || self.networks.iter().any(|own| own.contains(network))
    }

    /// Whether it ends no earlier.
    pub fn allow_end(&self, end: Option<Millis>) -> bool {
        self.expires.is_none_or(|own| end.is_some_and(|end| end <= own))
    }
}
