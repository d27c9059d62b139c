//! The thread that writes access lines, to standard output or into a file.
//!
//! May wait as long as it likes: nobody waits for it. A file that was moved away is begun anew; lines that cannot be written are
//! counted and gone. What follows one of which only a part was written begins on a line of its own: nothing is taken back, since others
//! may have added to the file meanwhile.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::queue::{Lines, Outlet};
use crate::config::Access;

/// Between two looks at whether the file is still in its place. One that is not open is tried with each batch.
const LOOK: Duration = Duration::from_secs(1);
/// Between two words on lines that cannot be written.
const QUIET: Duration = Duration::from_secs(60);

/// Until nobody sends any more.
pub(super) fn run(to: &Access, batches: &Outlet<Lines>, lost: &AtomicU64, _alive: Sender<()>) {
    let mut place = Place::default();
    let mut told: Option<Instant> = None;
    while let Some(lines) = batches.next() {
        let mut whole = 0;
        let written = match to {
            Access::Off => Ok(()),
            Access::Stdout => place.write(None, &lines.text, &mut whole),
            Access::File(path) => place.write(Some(path), &lines.text, &mut whole),
        };
        if let Err(error) = written {
            lost.fetch_add(lines.count.saturating_sub(whole), Ordering::Relaxed);
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

/// Where lines are added.
#[derive(Default)]
struct Place {
    open: Option<File>,
    looked: Option<Instant>,
    /// Whether the last line there has no end.
    is_half: bool,
}

impl Place {
    /// Into the file at this path, or to standard output; counts the lines that are whole there.
    fn write(&mut self, path: Option<&Path>, text: &[u8], whole: &mut u64) -> io::Result<()> {
        if let Some(path) = path
            && self.looked.is_none_or(|looked| looked.elapsed() >= LOOK)
        {
            self.looked = Some(Instant::now());
            self.open = self.open.take().filter(|file| is_at(file, path));
        }
        let file = match &mut self.open {
            Some(file) => file,
            none => {
                let file = match path {
                    Some(path) => OpenOptions::new().append(true).create(true).mode(0o600).open(path)?,
                    // Past the buffer of the process, which would keep what cannot be written.
                    None => File::from(io::stdout().as_fd().try_clone_to_owned()?),
                };
                self.is_half = false;
                none.insert(file)
            }
        };
        put(file, text, &mut self.is_half, whole)
    }
}

fn put(out: &mut impl Write, mut text: &[u8], is_half: &mut bool, whole: &mut u64) -> io::Result<()> {
    if *is_half {
        out.write_all(b"\n")?;
        *is_half = false;
    }
    while !text.is_empty() {
        match out.write(text) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(length) => {
                let (done, rest) = text.split_at(length);
                *is_half = done.last() != Some(&b'\n');
                *whole += done.iter().filter(|byte| **byte == b'\n').count() as u64;
                text = rest;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
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
        let (mut place, mut whole) = (Place::default(), 0);
        place.write(Some(&path), b"one\n", &mut whole).unwrap();
        std::fs::rename(&path, directory.path().join("access.log.1")).unwrap();
        place.write(Some(&path), b"two\n", &mut whole).unwrap();
        assert!(!path.exists(), "it is looked at once a second");
        place.looked = None;
        place.write(Some(&path), b"three\n", &mut whole).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"three\n");
        assert_eq!(std::fs::read(directory.path().join("access.log.1")).unwrap(), b"one\ntwo\n");
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(whole, 3);
        let full = Place::default().write(Some(Path::new("/dev/full")), b"line\n", &mut whole);
        assert_eq!((full.is_err(), whole), (true, 3));
    }

    /// Takes so many bytes, and then nothing until there is room again.
    struct Disk {
        room: usize,
        bytes: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let length = bytes.len().min(self.room);
            if length == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.room -= length;
            self.bytes.extend_from_slice(&bytes[..length]);
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_follows_half_a_line_begins_on_its_own() {
        let (mut disk, mut is_half, mut whole) = (Disk { room: 6, bytes: Vec::new() }, false, 0);
        assert!(put(&mut disk, b"one\ntwo\n", &mut is_half, &mut whole).is_err());
        assert_eq!((whole, is_half), (1, true));
        assert!(put(&mut disk, b"three\n", &mut is_half, &mut whole).is_err(), "it is still full");
        disk.room = 100;
        put(&mut disk, b"four\n", &mut is_half, &mut whole).unwrap();
        put(&mut disk, b"five\n", &mut is_half, &mut whole).unwrap();
        assert_eq!((&*disk.bytes, whole), (&b"one\ntw\nfour\nfive\n"[..], 3));
    }
}
