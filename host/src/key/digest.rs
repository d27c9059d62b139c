//! What is kept of a secret: `HMAC-SHA256(pepper, secret)`.
//!
//! Whoever reads the store without the pepper cannot even test a guess.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use ring::hmac;

use crate::seal::{self, Vault};

const FIRST_VERSION: u32 = 1;
const PREFIX: &str = "pepper/";

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

/// All versions of the pepper, as they are sealed.
#[derive(Debug, Clone)]
pub struct Peppers(Arc<Vault>);

impl Peppers {
    /// Those in this vault.
    pub fn new(vault: Arc<Vault>) -> Self {
        Self(vault)
    }

    /// All of them, newest first; the first one is made where there is none.
    pub fn all(&self) -> Result<Vec<Pepper>, seal::Error> {
        let mut versions = self.versions()?;
        if versions.is_empty() {
            versions.push(FIRST_VERSION);
        }
        versions.sort_unstable();
        versions.iter().rev().map(|version| self.open(*version)).collect()
    }

    /// Makes the next version; durable when it returns.
    pub fn make_next(&self) -> Result<Pepper, seal::Error> {
        let newest = self.versions()?.into_iter().max();
        self.open(newest.map_or(FIRST_VERSION, |newest| newest + 1))
    }

    /// Forgets a version for good: what was digested under it is nobody's since.
    pub fn retire(&self, version: u32) -> Result<(), seal::Error> {
        self.0.forget(&name(version))
    }

    fn versions(&self) -> Result<Vec<u32>, seal::Error> {
        let names = self.0.names(PREFIX)?;
        Ok(names.iter().filter_map(|name| name.strip_prefix(PREFIX)?.parse().ok()).collect())
    }

    fn open(&self, version: u32) -> Result<Pepper, seal::Error> {
        Ok(Pepper::new(version, &*self.0.find_or_make(&name(version))?))
    }
}

fn name(version: u32) -> String {
    format!("{PREFIX}{version}")
}
