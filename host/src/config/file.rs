//! Brings the bytes of one configuration file into memory, or says in one sentence why not; and puts others in their place.
//!
//! Knows nothing of TOML. Every read is bounded: a file that grows while it is read, a pipe or a device cannot fill the memory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// The largest configuration file, in bytes.
pub const MAXIMUM: u64 = 4 * 1024 * 1024;

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// Nothing is there.
    #[error("there is no such file; give another one with --config")]
    Missing,
    /// The process may not read it.
    #[error("this process may not read the file; check its owner and mode")]
    Forbidden,
    /// A directory, a device, a pipe or a socket.
    #[error("this is {0}, not a file; give the path of a TOML file")]
    NotAFile(&'static str),
    /// Beyond [`MAXIMUM`].
    #[error("the file is larger than 4 MiB, which no configuration needs; check that it is the right one")]
    TooLarge,
    /// Nothing but white space: an editor's half-way mark, which would otherwise be a configuration of defaults.
    #[error("the file is empty; a configuration names at least one pillar")]
    Empty,
    /// Not UTF-8 from this byte on.
    #[error("the file is not UTF-8 from byte {0} on; save it as UTF-8")]
    NotUtf8(usize),
    /// Anything else that the system says.
    #[error("the file cannot be read: {0}")]
    Unreadable(io::ErrorKind),
}

/// Reads the whole file as text.
pub(super) fn read(path: &Path) -> Result<String, FileError> {
    // Asked before opening: to open a pipe without a writer would block for ever.
    let kind = std::fs::metadata(path).map_err(because)?.file_type();
    if kind.is_dir() {
        return Err(FileError::NotAFile("a directory"));
    }
    if !kind.is_file() {
        return Err(FileError::NotAFile("a device, a pipe or a socket"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(because)?;
    file.take(MAXIMUM + 1).read_to_end(&mut bytes).map_err(because)?;
    if bytes.len() as u64 > MAXIMUM {
        return Err(FileError::TooLarge);
    }
    if bytes.trim_ascii().is_empty() {
        return Err(FileError::Empty);
    }
    String::from_utf8(bytes).map_err(|error| FileError::NotUtf8(error.utf8_error().valid_up_to()))
}

/// Why a file was not replaced; it is as it was.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be written by this process, whose directory it writes a new file into first")]
pub struct NotWritten {
    /// The file.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

/// Puts a text in the place of what a file says: whole or not at all, also after a loss of power. Links are followed; the file
/// keeps its mode, and its owner where this process may give files away.
///
/// # Errors
/// Where the file or its directory cannot be written, as on a mount that is read-only.
pub fn replace(path: &Path, text: &str) -> Result<(), NotWritten> {
    let not_written = |source| NotWritten { path: path.to_owned(), source };
    let place = fs::canonicalize(path).map_err(not_written)?;
    put(&place, text).map_err(not_written)?;
    // It is there; only a loss of power within moments could bring the one before back.
    let settled = place.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all());
    settled.unwrap_or_else(|error| tracing::warn!("{} may not survive a loss of power: {error}", place.display()));
    Ok(())
}

fn put(place: &Path, text: &str) -> io::Result<()> {
    let known = fs::metadata(place)?;
    // Whoever takes the right to write it away means it, whatever the directory allows.
    OpenOptions::new().append(true).open(place)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(place.file_name().unwrap_or_default());
    name.push(".new");
    let fresh = place.with_file_name(name);
    // Left behind by a process that died.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        // Only root may do so for all owners; the group is often enough.
        let _ = fchown(&file, Some(known.uid()), Some(known.gid())).or_else(|_| fchown(&file, None, Some(known.gid())));
        file.set_permissions(known.permissions())?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, place)
    };
    // Half of it would only be in the way.
    write().inspect_err(|_| drop(fs::remove_file(&fresh)))
}

fn because(error: io::Error) -> FileError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => FileError::Missing,
        io::ErrorKind::PermissionDenied => FileError::Forbidden,
        other => FileError::Unreadable(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path) -> String {
        read(path).expect_err("refused").to_string()
    }

    #[test]
    fn each_unreadable_file_is_one_sentence() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(
            refusal(&directory.path().join("none.toml")),
            "there is no such file; give another one with --config"
        );
        assert_eq!(refusal(directory.path()), "this is a directory, not a file; give the path of a TOML file");
        assert_eq!(
            refusal(Path::new("/dev/zero")),
            "this is a device, a pipe or a socket, not a file; give the path of a TOML file"
        );
        let empty = directory.path().join("empty.toml");
        std::fs::write(&empty, "\n").expect("written");
        assert_eq!(refusal(&empty), "the file is empty; a configuration names at least one pillar");
        let odd = directory.path().join("odd.toml");
        std::fs::write(&odd, b"a = \"\xff\"").expect("written");
        assert_eq!(refusal(&odd), "the file is not UTF-8 from byte 5 on; save it as UTF-8");
    }

    #[test]
    fn the_largest_file_is_read_and_one_byte_more_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("large.toml");
        let mut bytes = vec![b'#'; MAXIMUM as usize];
        std::fs::write(&path, &bytes).expect("written");
        assert_eq!(read(&path).expect("read").len() as u64, MAXIMUM);
        bytes.push(b'#');
        std::fs::write(&path, &bytes).expect("written");
        assert!(refusal(&path).starts_with("the file is larger than 4 MiB"));
    }

    #[test]
    fn a_file_is_replaced_behind_its_links_and_keeps_its_mode() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let directory = tempfile::tempdir().expect("a directory");
        let (file, link) = (directory.path().join("real.toml"), directory.path().join("link.toml"));
        std::fs::write(&file, "one").expect("written");
        std::fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("its mode");
        symlink("real.toml", &link).expect("a link");
        std::fs::write(directory.path().join(".real.toml.new"), "left behind").expect("written");
        replace(&link, "two").expect("replaced");
        assert_eq!(read(&file).ok().as_deref(), Some("two"));
        assert!(fs::symlink_metadata(&link).expect("a link").is_symlink());
        assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 2, "nothing else stays");
        let error = replace(&directory.path().join("none.toml"), "x").expect_err("there is no such file");
        assert!(error.to_string().contains("none.toml"));
    }
}
