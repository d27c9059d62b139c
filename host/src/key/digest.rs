//! What is kept of a secret: `HMAC-SHA256(pepper, secret)`.
//!
//! Whoever reads the store without the pepper cannot even test a guess.

use std::fmt;
use std::hash::{Hash, Hasher};

use ring::hmac;

use crate::seal::{self, Vault};

const FIRST_VERSION: u32 = 1;

/// The digest of a secret.
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest with these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Digest {
    /// Takes the same time wherever the two differ.
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).fold(0, |different, (a, b)| different | (a ^ b)) == 0
    }
}

impl Eq for Digest {}

impl Hash for Digest {
    /// The first half is enough: nobody can choose digests without the pepper.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let half = self.0.first_chunk().expect("a digest has more than eight bytes");
        state.write_u64(u64::from_ne_bytes(*half));
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

/// One version of the pepper, prepared: a digest costs no key schedule.
#[derive(Clone)]
pub struct Pepper {
    version: u32,
    key: hmac::Key,
}

impl Pepper {
    /// The pepper of this version with these bytes.
    pub fn new(version: u32, bytes: &[u8; 32]) -> Self {
        Self { version, key: hmac::Key::new(hmac::HMAC_SHA256, bytes) }
    }

    /// All versions in the vault, newest first; the first one is made where there is none.
    pub fn all(vault: &Vault) -> Result<Vec<Self>, seal::Error> {
        let mut peppers = vec![Self::new(FIRST_VERSION, &*vault.find_or_make(&name(FIRST_VERSION))?)];
        for version in FIRST_VERSION + 1.. {
            if vault.find(&name(version))?.is_none() {
                break;
            }
            peppers.insert(0, Self::new(version, &*vault.find_or_make(&name(version))?));
        }
        Ok(peppers)
    }

    /// Its version.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The digest of a secret.
    pub fn digest(&self, secret: &[u8]) -> Digest {
        let tag = hmac::sign(&self.key, secret);
        Digest(*tag.as_ref().first_chunk().expect("a tag of SHA-256 has 32 bytes"))
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pepper(version {})", self.version)
    }
}

fn name(version: u32) -> String {
    format!("pepper/{version}")
}
