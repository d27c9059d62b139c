//! The one data directory: made, locked against a second process, its format checked, its database opened.
//!
//! Knows no record of anybody: the stores ask for their trees by name. In a directory that is refused, nothing but the
//! `lock` file is touched.

mod migrate;
mod rewrite;
mod room;
mod sled;

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

pub use self::migrate::store_in;
use self::migrate::{FORMATS, Formats};
pub use self::rewrite::Rewrite;
pub use self::room::Room;
pub use self::sled::{Database, Failure};

/// The format that this version writes.
pub const FORMAT: u32 = 1;

/// An open data directory; the lock is held until it is dropped.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    format: u32,
    database: Database,
    _lock: File,
}

/// Why a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be made, read or written.
    #[error(
        "data directory {path}: cannot {action} {what}; make the directory readable and writable for this user, or choose another `data.directory`"
    )]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// On what.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("data directory {path} is in use by another portico{pid}; stop it or choose another `data.directory`")]
    InUse {
        /// The directory.
        path: PathBuf,
        /// ` (pid …)`, where it is known.
        pid: String,
    },
    /// A later version wrote it.
    #[error(
        "data directory {path} has format {found}, and this portico knows formats up to {current}; use a newer portico or choose another `data.directory`"
    )]
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest that is known.
        current: u32,
    },
    /// A version wrote it that is too old.
    #[error(
        "data directory {path} has format {found}, and this portico brings only later ones to format {current}; start a portico in between first"
    )]
    Older {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The one that it would have to have.
        current: u32,
    },
    /// It could not be brought to the present format.
    #[error(
        "data directory {path} cannot be brought from format {found} to {current}; make room for a copy of its store, and start again"
    )]
    Unmigrated {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The one that it would have had.
        current: u32,
        /// Why it failed.
        source: io::Error,
    },
    /// It holds something, and what it says about its format makes no sense.
    #[error(
        "data directory {path} is not one of portico's: its `format` file is missing or damaged; restore it from a backup or choose another `data.directory`"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
    /// The database in it does not open.
    #[error(
        "data directory {path}: the database does not open; restore it from a backup or choose another `data.directory`"
    )]
    Database {
        /// The directory.
        path: PathBuf,
        /// Why it failed.
        source: Failure,
    },
}

impl DataDirectory {
    /// Opens the directory, making it (mode 0700) where it is missing.
    ///
    /// One of an earlier format is brought to the present one: see [`DataDirectory::serves`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_as(path, &FORMATS)
    }

    fn open_as(path: &Path, formats: &Formats) -> Result<Self, Error> {
        let unusable = |action, what| move |source| Error::Unusable { path: path.to_owned(), action, what, source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable("create", "it"))?;
        let mode = fs::metadata(path).map_err(unusable("read", "it"))?.permissions().mode();
        if mode & 0o077 != 0 {
            tracing::warn!(directory = %path.display(), mode = %format_args!("{:o}", mode & 0o777),
                "other users can look into the data directory; `chmod 700` it");
        }
        let lock = lock(path)?;
        let current = formats.current;
        match format(path)? {
            Some(found) if found == current => {}
            Some(0) => return Err(Error::Foreign { path: path.to_owned() }),
            Some(found) if found > current => return Err(Error::Newer { path: path.to_owned(), found, current }),
            Some(found) => migrate::migrate(path, found, formats)?,
            // A store without a format was not written here, or was written by half.
            None if !(1..=current).any(|format| store_in(path, format).exists()) => {
                write_format(path, current).map_err(unusable("write", "its `format` file"))?;
            }
            None => return Err(Error::Foreign { path: path.to_owned() }),
        }
        rewrite::rewrite(path, &store_in(path, current)).map_err(unusable("write anew", "its store"))?;
        let database = Database::open(&store_in(path, current));
        let database = database.map_err(|source| Error::Database { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), format: current, database, _lock: lock })
    }

    /// Whether there is one at this path already.
    pub fn is_at(path: &Path) -> bool {
        path.join("format").exists()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its database.
    pub fn database(&self) -> &Database {
        &self.database
    }
}

fn lock(path: &Path) -> Result<File, Error> {
    let unusable =
        |action| move |source| Error::Unusable { path: path.to_owned(), action, what: "its `lock` file", source };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path.join("lock"))
        .map_err(unusable("open"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Only a courtesy: whoever holds the lock may not have written its number yet.
            let known = file.read_to_string(&mut pid).is_ok() && pid.trim().parse::<u32>().is_ok();
            let pid = if known { format!(" (pid {})", pid.trim()) } else { String::new() };
            return Err(Error::InUse { path: path.to_owned(), pid });
        }
        Err(TryLockError::Error(source)) => return Err(unusable("lock")(source)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(unusable("write"))?;
    Ok(file)
}

/// The format that the directory says it has; none where it says nothing.
fn format(path: &Path) -> Result<Option<u32>, Error> {
    match fs::read(path.join("format")) {
        Ok(bytes) => std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .map(Some)
            .ok_or_else(|| Error::Foreign { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => {
            Err(Error::Unusable { path: path.to_owned(), action: "read", what: "its `format` file", source })
        }
    }
}

/// Whether a process has the data directory at this path open.
pub fn is_locked(path: &Path) -> bool {
    let held = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    File::open(path.join("lock")).is_ok_and(held)
}

/// Says which format a data directory has; durable when it returns.
pub fn write_format(path: &Path, format: u32) -> io::Result<()> {
    write_private(&path.join("format"), format!("{format}\n").as_bytes())
}

/// Writes a file of mode 0600 that is there as a whole or not at all, also after a loss of power.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    put_private(path, &[bytes], File::sync_all)?;
    settle(path.parent())
}

/// As [`write_private`], but for a loss of power soon after, which may leave any content: for what is verified when it is read.
/// It may come in several parts.
pub fn write_verified(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    put_private(path, parts, |_| Ok(()))
}

/// Has what [`write_verified`] wrote survive a loss of power, too.
pub fn settle_verified(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    settle(path.parent())
}

fn put_private(path: &Path, parts: &[&[u8]], written: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    // Left behind by a process that died; its mode may be anything.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    let put = parts.iter().try_for_each(|part| file.write_all(part));
    let put = put.and_then(|()| written(&file)).and_then(|()| fs::rename(&fresh, path));
    // Half of it would only keep a disk full.
    put.inspect_err(|_| drop(fs::remove_file(&fresh)))
}

fn settle(directory: Option<&Path>) -> io::Result<()> {
    match directory {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
