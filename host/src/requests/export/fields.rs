//! Fields that a collector wants, with what is secret in them: read once, from where the configuration says.
//!
//! No message repeats a value, and no `Debug` shows one.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use http::HeaderValue;
use zeroize::Zeroizing;

use crate::config::SecretSource;

/// The most bytes of a value.
const LARGEST: u64 = 8 << 10;

/// Why a field cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum BadField {
    /// No variable of that name.
    #[error("telemetry.traces.headers.{field}: the environment variable {name} is not set")]
    Unset {
        /// The field.
        field: String,
        /// The variable.
        name: String,
    },
    /// The file cannot be read.
    #[error("telemetry.traces.headers.{field}: {path} cannot be read")]
    File {
        /// The field.
        field: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others can read the file.
    #[error("telemetry.traces.headers.{field}: {path} can be read by other users (mode {mode:o}); `chmod 600` it")]
    Exposed {
        /// The field.
        field: String,
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It cannot be the value of a field.
    #[error(
        "telemetry.traces.headers.{field}: what is there is no value of a field: 1 to 8192 visible characters on one line"
    )]
    Form {
        /// The field.
        field: String,
    },
}

/// A field; not to be shown.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) value: Zeroizing<Vec<u8>>,
}

/// Reads them.
pub(super) fn read(wanted: &[(String, SecretSource)]) -> Result<Vec<Field>, BadField> {
    let one = |(name, source): &(String, SecretSource)| Ok(Field { name: name.clone(), value: value(name, source)? });
    wanted.iter().map(one).collect()
}

fn value(field: &str, source: &SecretSource) -> Result<Zeroizing<Vec<u8>>, BadField> {
    let field = || field.to_owned();
    let bytes = match source {
        SecretSource::Env(name) => {
            use std::os::unix::ffi::OsStringExt as _;
            let value = std::env::var_os(name).ok_or_else(|| BadField::Unset { field: field(), name: name.clone() })?;
            Zeroizing::new(value.into_vec())
        }
        SecretSource::File(path) => {
            let failed = |source| BadField::File { field: field(), path: path.clone(), source };
            let (mode, bytes) = file(path).map_err(failed)?;
            if mode & 0o077 != 0 {
                return Err(BadField::Exposed { field: field(), path: path.clone(), mode });
            }
            bytes
        }
    };
    let value = bytes.trim_ascii();
    let fits = !value.is_empty() && value.len() as u64 <= LARGEST && HeaderValue::from_bytes(value).is_ok();
    if fits { Ok(Zeroizing::new(value.to_vec())) } else { Err(BadField::Form { field: field() }) }
}

fn file(path: &Path) -> io::Result<(u32, Zeroizing<Vec<u8>>)> {
    // To open a pipe would be to wait for whoever writes into it.
    let about = std::fs::metadata(path)?;
    if !about.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST as usize + 2));
    File::open(path)?.take(LARGEST + 2).read_to_end(&mut bytes)?;
    Ok((about.permissions().mode() & 0o777, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_from_where_it_is_and_never_repeated() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("tenant");
        let of = |source: SecretSource| read(&[("x-tenant".into(), source)]).map(|read| read[0].value.to_vec());
        let said = |source: SecretSource| of(source).expect_err("refused").to_string();
        let put = |text: &[u8], mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            SecretSource::File(path.clone())
        };
        assert_eq!(of(put(b"hunter2\n", 0o600)).unwrap(), b"hunter2");
        assert!(said(put(b"hunter2\n", 0o644)).contains("chmod 600"));
        let large = vec![b'x'; 9000];
        for odd in [&b""[..], b"\n", b"hunter2\nhunter2", b"hunter2\0", &large] {
            let said = said(put(odd, 0o600));
            assert!(
                said.starts_with("telemetry.traces.headers.x-tenant: what is there") && !said.contains("hunter2"),
                "{said}"
            );
        }
        assert!(said(SecretSource::File(place.path().join("none"))).contains("none cannot be read"));
        assert!(said(SecretSource::File(place.path().into())).contains("cannot be read"));
        assert!(said(SecretSource::Env("PORTICO_NO_SUCH_FIELD".into())).contains("PORTICO_NO_SUCH_FIELD is not set"));
    }
}
