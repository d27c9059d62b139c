//! The thread that writes access lines, to standard output or into a file.
//!
//! May wait as long as it likes: nobody waits for it. A file that was moved away is begun anew; lines that cannot be written are
//! counted and gone, so that what comes after a full disk is whole again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use super::thread::Lines;
use crate::config::Access;

/// Between two looks at whether the file is still in its place, and between two tries to open it.
const LOOK: Duration = Duration::from_secs(1);
/// Between two words on lines that cannot be written.
const QUIET: Duration = Duration::from_secs(60);

/// Until nobody sends any more.
pub(super) fn run(to: &Access, batches: &Receiver<Lines>, lost: &AtomicU64, _alive: Sender<()>) {
    let mut file = Place { open: None, looked: None };
    let mut told: Option<Instant> = None;
    for lines in batches {
        let written = match to {
            Access::Off => Ok(()),
            Access::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(&lines.text).and_then(|()| out.flush())
            }
            Access::File(path) => file.write(path, &lines.text),
        };
        if let Err(error) = written {
            lost.fetch_add(lines.count, Ordering::Relaxed);
            if told.is_none_or(|told| told.elapsed() >= QUIET) {
                told = Some(Instant::now());
                let place = match to {
                    Access::File(path) => path.display().to_string(),
                    _ => "standard output".to_owned(),
                };
                tracing::error!("access lines cannot be written to {place}; look at its disk or its reader: {error}");
            }
        }
    }
}

/// A file that lines are added to.
struct Place {
    open: Option<File>,
    looked: Option<Instant>,
}

impl Place {
    fn write(&mut self, path: &Path, text: &[u8]) -> io::Result<()> {
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            self.looked = Some(Instant::now());
            self.open = self.open.take().filter(|file| is_at(file, path));
        }
        let file = match &mut self.open {
            Some(file) => file,
            none => none.insert(OpenOptions::new().append(true).create(true).mode(0o600).open(path)?),
        };
        let begun = file.metadata()?.len();
        let written = file.write_all(text);
        if written.is_err() {
            // Half a line would spoil the next one. What is no file has no length to go back to.
            let _ = file.set_len(begun);
        }
        written
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let same = |one: std::fs::Metadata, other: std::fs::Metadata| (one.dev(), one.ino()) == (other.dev(), other.ino());
    file.metadata().ok().zip(std::fs::metadata(path).ok()).is_some_and(|(one, other)| same(one, other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_moved_away_is_begun_anew_and_one_that_is_full_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let mut place = Place { open: None, looked: None };
        place.write(&path, b"one\n").unwrap();
        std::fs::rename(&path, directory.path().join("access.log.1")).unwrap();
        place.write(&path, b"two\n").unwrap();
        assert!(!path.exists(), "it is looked at once a second");
        place.looked = None;
        place.write(&path, b"three\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"three\n");
        assert_eq!(std::fs::read(directory.path().join("access.log.1")).unwrap(), b"one\ntwo\n");
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        let mut full = Place { open: None, looked: None };
        assert!(full.write(Path::new("/dev/full"), b"line\n").is_err());
    }
}
