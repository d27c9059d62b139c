//! The super-admin's token: made at the first start, or given by the environment; kept as a digest.
//!
//! In the clear it is in one file only, mode 0600, which the operator may take away.

use std::fmt;
use std::io;
use std::path::PathBuf;

use ring::hmac;
use zeroize::Zeroizing;

use super::sled::{admin_digest, keep_admin_digest};
use crate::data::{self, DataDirectory, write_private};
use crate::id::NoRandomness;
use crate::key::mint_body;
use crate::seal::Vault;

/// The file in the data directory that the token is written to.
pub const TOKEN_FILE: &str = "admin-token";
/// The environment variable that gives the token instead.
pub const TOKEN_VARIABLE: &str = "PORTICO_ADMIN_TOKEN";

const PREFIX: &str = "pat_";
const SHORTEST: usize = 32;
const LONGEST: usize = 256;

/// Why nobody could administer.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The token of the environment is no good one.
    #[error(
        "{TOKEN_VARIABLE} must be {SHORTEST} to {LONGEST} visible characters; make one with `openssl rand -hex 32`, or unset it to have one made"
    )]
    Weak,
    /// The file cannot be written.
    #[error("the admin token cannot be written to {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The database failed.
    #[error("the digest of the admin token cannot be read or written")]
    Database(#[from] data::Failure),
    /// No chance to be had.
    #[error("no admin token can be made")]
    Randomness(#[from] NoRandomness),
}

/// Who may use the admin API. Knows digests only.
pub struct Admins {
    key: hmac::Key,
    digest: Vec<u8>,
}

impl fmt::Debug for Admins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admins(…)")
    }
}

impl Admins {
    /// The one super-admin. A token that is given (from [`TOKEN_VARIABLE`]) counts alone, and nothing is written;
    /// otherwise the one made at the first start, which is written to [`TOKEN_FILE`] in the data directory.
    pub fn open(data: &DataDirectory, vault: &Vault, given: Option<&str>) -> Result<Self, AdminError> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &vault.derive("admin-token")[..]);
        let digest_of = |token: &str| hmac::sign(&key, token.as_bytes()).as_ref().to_vec();
        if let Some(token) = given {
            let good = (SHORTEST..=LONGEST).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
            let digest = good.then(|| digest_of(token)).ok_or(AdminError::Weak)?;
            return Ok(Self { key, digest });
        }
        if let Some(digest) = admin_digest(data.database())? {
            return Ok(Self { key, digest });
        }
        let token = mint_body(PREFIX)?;
        let digest = digest_of(&token);
        // The file first: a digest without its token would lock everyone out after a crash.
        let path = data.path().join(TOKEN_FILE);
        let line = Zeroizing::new(format!("{}\n", *token));
        write_private(&path, line.as_bytes()).map_err(|source| AdminError::File { path: path.clone(), source })?;
        keep_admin_digest(data.database(), &digest)?;
        tracing::info!(file = %path.display(), "made the admin token");
        Ok(Self { key, digest })
    }

    /// Whether this is the token of an admin; takes the same time wherever it differs.
    pub fn admit(&self, token: &[u8]) -> bool {
        token.len() <= LONGEST && hmac::verify(&self.key, token, &self.digest).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::SecretSource;

    fn opened(place: &tempfile::TempDir) -> (DataDirectory, Vault) {
        let data = DataDirectory::open(&place.path().join("data")).unwrap();
        let vault = Vault::open(&SecretSource::File(place.path().join("master.key")), &data).unwrap();
        vault.find_or_make("pepper/1").unwrap();
        (data, vault)
    }

    #[test]
    fn the_first_start_writes_a_token_and_later_ones_know_it() {
        let place = tempfile::tempdir().unwrap();
        let (data, vault) = opened(&place);
        let admins = Admins::open(&data, &vault, None).unwrap();
        let path = data.path().join(TOKEN_FILE);
        let token = fs::read_to_string(&path).unwrap();
        let token = token.trim_end();
        assert_eq!((token.len(), &token[..4]), (53, "pat_"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(admins.admit(token.as_bytes()));
        for wrong in ["", &token[..52], &token.to_lowercase(), &"x".repeat(100_000)] {
            assert!(!admins.admit(wrong.as_bytes()));
        }
        fs::remove_file(&path).unwrap();
        assert!(Admins::open(&data, &vault, None).unwrap().admit(token.as_bytes()));
        assert!(!path.exists());
        assert!(!format!("{admins:?}").contains(token));
    }

    #[test]
    fn a_given_token_counts_alone_and_is_not_written() {
        let place = tempfile::tempdir().unwrap();
        let (data, vault) = opened(&place);
        let given = "0123456789abcdef0123456789abcdef";
        let admins = Admins::open(&data, &vault, Some(given)).unwrap();
        assert!(admins.admit(given.as_bytes()));
        assert!(!data.path().join(TOKEN_FILE).exists());
        assert!(!Admins::open(&data, &vault, None).unwrap().admit(given.as_bytes()));
        for weak in ["", "short", &given[1..], &given.replace('a', " "), &"x".repeat(257)] {
            let error = Admins::open(&data, &vault, Some(weak)).unwrap_err();
            assert!(matches!(error, AdminError::Weak));
            assert!(weak.is_empty() || !error.to_string().contains(weak));
        }
    }
}
