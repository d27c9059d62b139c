//! Brings the bytes of one configuration file into memory, or says in one sentence why not.
//!
//! Knows nothing of TOML. Every read is bounded: a file that grows while it is read, a pipe or a device cannot fill the memory.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The largest configuration file, in bytes.
pub(super) const MAXIMUM: u64 = 4 * 1024 * 1024;

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
}
