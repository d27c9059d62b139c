//! Secrets that must be readable again, sealed under the master key.
//!
//! The master key never touches the data directory, so a copy of the data alone opens nothing. What is sealed is bound to
//! its name: it cannot be moved to another one.

use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use zeroize::{Zeroize, Zeroizing};

use crate::config::SecretSource;
use crate::data::{self, DataDirectory, Database};
use crate::id::{NoRandomness, random};

const KEY_LENGTH: usize = 32;
/// First byte of everything sealed: AES-256-GCM, then the nonce, then the text with its tag.
const VERSION: u8 = 1;

/// Why the master key is not there, or something sealed does not open.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No key, and sealed secrets that need it.
    #[error(
        "the master key is missing: {place} is not there, but the data directory holds secrets sealed under it; put the key back"
    )]
    Missing {
        /// Where it should be.
        place: String,
    },
    /// No variable of that name.
    #[error("the master key is missing: set the environment variable {name} to its 64 hexadecimal digits")]
    Unset {
        /// The variable.
        name: String,
    },
    /// The key has another form.
    #[error(
        "the master key in {place} is not 64 hexadecimal digits; put the right key there, or make one with `openssl rand -hex 32`"
    )]
    Form {
        /// Where it is.
        place: String,
    },
    /// Others can read the key.
    #[error("the master key in {path} can be read by other users (mode {mode:o}); `chmod 600` it")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The key lies where the secrets are.
    #[error(
        "the master key {path} lies in the data directory, so a copy of the data would open itself; choose another `secrets.master_key`"
    )]
    InsideData {
        /// The file.
        path: PathBuf,
    },
    /// The file of the key cannot be read or made.
    #[error("cannot {action} the master key {path}; check its permissions or choose another `secrets.master_key`")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another key sealed it, or someone changed it.
    #[error(
        "what is sealed as `{name}` does not open: the master key is another one, or the data is damaged; put the right key back"
    )]
    DoesNotOpen {
        /// Its name.
        name: String,
    },
    /// The database failed.
    #[error("sealed secrets cannot be read or written")]
    Database(#[from] data::Failure),
    /// No chance to be had.
    #[error("no secret can be made")]
    Randomness(#[from] NoRandomness),
}

/// The key under which everything is sealed. Wiped from memory when dropped.
pub struct MasterKey(Zeroizing<[u8; KEY_LENGTH]>);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

impl MasterKey {
    /// The key with these bytes.
    pub fn new(bytes: [u8; KEY_LENGTH]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The key that follows from a credential, for one purpose: to be had by whoever presents the credential, and by nobody else.
    pub fn of_credential(credential: &[u8], purpose: &str) -> Self {
        let mut derived = Zeroizing::new([0; KEY_LENGTH]);
        Salt::new(HKDF_SHA256, b"portico credential")
            .extract(credential)
            .expand(&[purpose.as_bytes()], HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut derived[..]))
            .expect("one block of output is always to be had");
        Self(derived)
    }

    /// Reads the key. A file that is missing is made (mode 0600, its directory 0700) where `may_make` is set.
    pub fn read(source: &SecretSource, may_make: bool) -> Result<Self, Error> {
        match source {
            SecretSource::Env(name) => {
                let place = format!("the environment variable {name}");
                let value = std::env::var_os(name).ok_or_else(|| Error::Unset { name: name.clone() })?;
                Self::parse(&Zeroizing::new(value.into_string().unwrap_or_default()), place)
            }
            SecretSource::File(path) => match fs::metadata(path) {
                Ok(metadata) => {
                    let mode = metadata.permissions().mode() & 0o777;
                    if mode & 0o077 != 0 {
                        return Err(Error::Exposed { path: path.clone(), mode });
                    }
                    let bytes = fs::read(path).map_err(|source| file("read", path, source))?;
                    let text = Zeroizing::new(String::from_utf8(bytes).unwrap_or_default());
                    Self::parse(&text, path.display().to_string())
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && may_make => Self::make(path),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    Err(Error::Missing { place: path.display().to_string() })
                }
                Err(error) => Err(file("read", path, error)),
            },
        }
    }

    /// A key for one purpose, from which neither this key nor that for another purpose can be told.
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; KEY_LENGTH]> {
        let salt = Salt::new(HKDF_SHA256, b"portico");
        let mut derived = Zeroizing::new([0; KEY_LENGTH]);
        salt.extract(&self.0[..])
            .expand(&[purpose.as_bytes()], HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut derived[..]))
            .expect("one block of output is always to be had");
        derived
    }

    /// Seals something under a name.
    pub fn seal(&self, name: &str, secret: &[u8]) -> Result<Vec<u8>, Error> {
        let nonce: [u8; NONCE_LEN] = random()?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + secret.len() + AES_256_GCM.tag_len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(secret);
        let tag = self
            .sealing()
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(name.as_bytes()),
                &mut sealed[1 + NONCE_LEN..],
            )
            .expect("a secret is far smaller than the bound of the cipher");
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens what was sealed under this name.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let refused = || Error::DoesNotOpen { name: name.to_owned() };
        let (&version, rest) = sealed.split_first().ok_or_else(refused)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(refused)?;
        if version != VERSION {
            return Err(refused());
        }
        let mut text = Zeroizing::new(rest.to_vec());
        let length = self
            .sealing()
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(name.as_bytes()), &mut text)
            .map_err(|_| refused())?
            .len();
        text.truncate(length);
        Ok(text)
    }

    fn sealing(&self) -> LessSafeKey {
        let key = self.derive("seal");
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key[..]).expect("the key has the cipher's length"))
    }

    fn parse(text: &str, place: String) -> Result<Self, Error> {
        let mut bytes = Zeroizing::new([0; KEY_LENGTH]);
        let digits = text.trim().as_bytes();
        if digits.len() != 2 * KEY_LENGTH {
            return Err(Error::Form { place });
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| (pair[at] as char).to_digit(16);
            match (digit(0), digit(1)) {
                (Some(high), Some(low)) => *byte = (high << 4 | low) as u8,
                _ => return Err(Error::Form { place }),
            }
        }
        Ok(Self(bytes))
    }

    fn make(path: &Path) -> Result<Self, Error> {
        let bytes = Zeroizing::new(random::<KEY_LENGTH>()?);
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY_LENGTH + 1));
        for byte in bytes.iter() {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(digit.into(), 16).expect("half a byte is one digit"));
            }
        }
        text.push('\n');
        let write = || {
            if let Some(parent) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
            }
            // Never over an existing file: it may be the key of another gateway.
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().map_err(|source| file("create", path, source))?;
        tracing::warn!(file = %path.display(),
            "made a new master key; keep a copy apart from backups of the data: without it, what is sealed is lost");
        Ok(Self(bytes))
    }
}

fn file(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { action, path: path.to_owned(), source }
}

/// The sealed secrets of a data directory. Clones nothing: hand out references.
#[derive(Debug)]
pub struct Vault {
    key: MasterKey,
    database: Database,
}

impl Vault {
    /// Reads the master key, or makes one where nothing is sealed yet and its file is missing.
    pub fn open(source: &SecretSource, data: &DataDirectory) -> Result<Self, Error> {
        if let SecretSource::File(path) = source {
            refuse_inside(path, data.path())?;
        }
        let database = data.database().clone();
        let key = MasterKey::read(source, !database.has_sealed()?)?;
        Ok(Self { key, database })
    }

    /// The secret with this name, if there is one.
    pub fn find(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        self.database.sealed(name)?.map(|sealed| self.key.open(name, &sealed)).transpose()
    }

    /// The 32 random bytes with this name, made now where there are none; durable when it returns.
    pub fn find_or_make(&self, name: &str) -> Result<Zeroizing<[u8; 32]>, Error> {
        if let Some(secret) = self.find(name)? {
            let mut bytes = Zeroizing::new([0; 32]);
            if secret.len() != bytes.len() {
                return Err(Error::DoesNotOpen { name: name.to_owned() });
            }
            bytes.copy_from_slice(&secret);
            return Ok(bytes);
        }
        let mut fresh = random::<32>()?;
        let bytes = Zeroizing::new(fresh);
        fresh.zeroize();
        self.keep(name, &bytes[..])?;
        Ok(bytes)
    }

    /// Seals a secret under this name, over the earlier one; durable when it returns.
    pub fn keep(&self, name: &str, secret: &[u8]) -> Result<(), Error> {
        let sealed = self.key.seal(name, secret)?;
        Ok(self.database.keep_sealed(name, &sealed)?)
    }

    /// The names that begin so.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>, Error> {
        Ok(self.database.sealed_names(prefix)?)
    }

    /// Forgets the secret with this name for good; durable when it returns.
    pub fn forget(&self, name: &str) -> Result<(), Error> {
        Ok(self.database.forget_sealed(name)?)
    }

    /// Seals something under this name, for a store that keeps it itself: see [`MasterKey::seal`].
    pub fn seal(&self, name: &str, secret: &[u8]) -> Result<Vec<u8>, Error> {
        self.key.seal(name, secret)
    }

    /// Opens what [`Self::seal`] made under this name.
    pub fn open_sealed(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.key.open(name, sealed)
    }

    /// A key for one purpose, always the same under one master key: see [`MasterKey::derive`].
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        self.key.derive(purpose)
    }
}

/// A key beside what it opens protects nothing.
fn refuse_inside(key: &Path, data: &Path) -> Result<(), Error> {
    let absolute = |path: &Path| fs::canonicalize(path).or_else(|_| std::path::absolute(path));
    // The file may not be there yet, its directory is what counts.
    let directory = key.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (absolute(directory), absolute(data)) {
        (Ok(directory), Ok(data)) if directory.starts_with(&data) => Err(Error::InsideData { path: key.to_owned() }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
