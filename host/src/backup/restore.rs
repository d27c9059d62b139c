//! Puts a backup back: into a directory that is not there or empty, as a whole or not at all.
//!
//! Everything is written beside the directory and moved there at the end, so that one of that name is always whole.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::parts::{Part, each_of, verify};
use super::sled::Fresh;
use super::{RestoreError, Signet, Summary};
use crate::{data, journal, requests};

/// Puts a backup into a data directory of its own.
///
/// # Errors
/// When it is not whole, or the place is taken or cannot be written. Then nothing is there.
pub fn restore(path: &Path, into: &Path, signet: Option<&Signet>) -> Result<Summary, RestoreError> {
    free(into)?;
    let place = beside(into);
    // Held to the end, also where it is moved to.
    let _held = hold(&place, into)?;
    // Before anything is written, so that nothing is begun with one that is not whole.
    let verified = verify(path, signet);
    if let Err(error) = verified {
        let _ = fs::remove_dir(&place);
        return Err(error);
    }
    let unwritable = |path: &Path| {
        let path = path.to_owned();
        move |source| RestoreError::Unwritable { path, source }
    };
    empty(&place).map_err(unwritable(&place))?;
    let written = write(path, &place, signet).and_then(|summary| {
        free(into)?;
        fs::rename(&place, into).map_err(unwritable(into))?;
        let above = into.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync(above)?;
        Ok(summary)
    });
    // Half of it would only take room.
    written.inspect_err(|_| drop(fs::remove_dir_all(&place)))
}

/// Whether nothing is at this place that would be lost.
fn free(into: &Path) -> Result<(), RestoreError> {
    let taken = || RestoreError::Taken { path: into.to_owned() };
    if data::is_locked(into) {
        return Err(RestoreError::Running { path: into.to_owned() });
    }
    match fs::read_dir(into) {
        Ok(mut entries) => {
            if is_mounted(into) {
                Err(RestoreError::Mounted { path: into.to_owned() })
            } else if entries.next().is_none() {
                Ok(())
            } else {
                Err(taken())
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(taken()),
        Err(source) => Err(RestoreError::Unwritable { path: into.to_owned(), source }),
    }
}

/// Makes the directory that is written into, and keeps others from it.
fn hold(place: &Path, into: &Path) -> Result<File, RestoreError> {
    let unwritable = |source| RestoreError::Unwritable { path: place.to_owned(), source };
    let under_way = || RestoreError::UnderWay { path: into.to_owned() };
    if let Some(above) = place.parent().filter(|above| !above.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(above).map_err(unwritable)?;
    }
    match DirBuilder::new().mode(0o700).create(place) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(unwritable(error)),
        _ => {}
    }
    let held = File::open(place).map_err(unwritable)?;
    match held.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(under_way()),
        Err(TryLockError::Error(source)) => return Err(unwritable(source)),
    }
    // Whoever had it may just have moved it to its place, or taken it away.
    let same = |about: fs::Metadata, now: fs::Metadata| (about.dev(), about.ino()) == (now.dev(), now.ino());
    let is_there = held.metadata().and_then(|about| Ok(same(about, fs::metadata(place)?)));
    if is_there.is_ok_and(|is_there| is_there) { Ok(held) } else { Err(under_way()) }
}

/// Removes what a restore left that died.
fn empty(place: &Path) -> io::Result<()> {
    for entry in fs::read_dir(place)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

/// Whether a disk is mounted at a directory: it is on another one than what is above it.
fn is_mounted(directory: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|about| about.dev());
    let above = directory.canonicalize().ok().and_then(|whole| Some(whole.parent()?.to_owned()));
    above.is_some_and(|above| matches!((device(directory), device(&above)), (Ok(own), Ok(above)) if own != above))
}

/// Where it is written: on the same disk, since it is moved.
fn beside(into: &Path) -> PathBuf {
    let mut name = into.file_name().unwrap_or_default().to_owned();
    name.push(".restoring");
    into.with_file_name(name)
}

/// What is being put back.
struct Put<'a> {
    place: &'a Path,
    fresh: Option<Fresh>,
    format: u32,
    /// The next number of a segment, for each worker.
    segments: std::collections::BTreeMap<u32, u64>,
    file: Option<(PathBuf, File)>,
}

fn write(path: &Path, place: &Path, signet: Option<&Signet>) -> Result<Summary, RestoreError> {
    let make = |directory: &Path| {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|source| RestoreError::Unwritable { path: directory.to_owned(), source })
    };
    let [plugins, journal, requests] =
        ["plugins", journal::DIRECTORY, requests::DIRECTORY].map(|directory| place.join(directory));
    [&plugins, &journal, &requests].into_iter().try_for_each(|directory| make(directory))?;
    let mut put = Put { place, fresh: None, format: 0, segments: Default::default(), file: None };
    let summary = each_of(path, signet, |part| put.part(part))?;
    put.settle()?;
    let database = |source| RestoreError::Database { path: place.to_owned(), source };
    let (store, format) = (data::store_in(place, put.format), put.format);
    put.fresh.map_or(Ok(()), Fresh::end).map_err(database)?;
    for lane in put.segments.keys() {
        sync(&journal.join(lane.to_string()))?;
    }
    [&store, &plugins, &journal, &requests].into_iter().try_for_each(|directory| sync(directory))?;
    // Last: what has a format is whole.
    data::write_format(place, format).map_err(|source| RestoreError::Unwritable { path: place.to_owned(), source })?;
    Ok(summary)
}

impl Put<'_> {
    fn part(&mut self, part: Part<'_>) -> Result<(), RestoreError> {
        let database = |source| RestoreError::Database { path: self.place.to_owned(), source };
        match part {
            Part::Format(format) => {
                self.format = format;
                self.fresh = Some(Fresh::open(&data::store_in(self.place, format)).map_err(database)?);
                Ok(())
            }
            Part::Tree(name) => self.fresh.as_mut().map_or(Ok(()), |fresh| fresh.begin(name)).map_err(database),
            Part::Row { tree, key, value } => {
                self.fresh.as_mut().map_or(Ok(()), |fresh| fresh.put(tree, key, value)).map_err(database)
            }
            Part::Records { lane, records } => {
                let number = self.segments.entry(lane).or_default();
                *number += 1;
                let directory = self.place.join(journal::DIRECTORY);
                journal::put_records(&directory, lane, *number, records)
                    .map_err(|source| RestoreError::Unwritable { path: directory, source })
            }
            Part::Piece { name, bytes } => {
                let path = self.place.join(name);
                self.piece(&path, bytes).map_err(|source| RestoreError::Unwritable { path, source })
            }
        }
    }

    fn piece(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        match &mut self.file {
            Some((known, file)) if known == path => file.write_all(bytes),
            other => {
                if let Some((_, file)) = other.take() {
                    file.sync_all()?;
                }
                let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
                file.write_all(bytes)?;
                *other = Some((path.to_owned(), file));
                Ok(())
            }
        }
    }

    /// Makes the last file durable.
    fn settle(&mut self) -> Result<(), RestoreError> {
        match self.file.take() {
            Some((path, file)) => file.sync_all().map_err(|source| RestoreError::Unwritable { path, source }),
            None => Ok(()),
        }
    }
}

fn sync(directory: &Path) -> Result<(), RestoreError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|source| RestoreError::Unwritable { path: directory.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_holds_a_place_and_what_died_holds_none() {
        let above = tempfile::tempdir().unwrap();
        let into = above.path().join("deep/again");
        let place = beside(&into);
        let held = hold(&place, &into).unwrap();
        fs::create_dir(place.join("store")).unwrap();
        fs::write(place.join("format"), "1").unwrap();
        assert!(matches!(hold(&place, &into), Err(RestoreError::UnderWay { .. })));
        drop(held);
        let held = hold(&place, &into).unwrap();
        empty(&place).unwrap();
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
        // Moved to its place, it keeps nobody from the next one.
        fs::rename(&place, &into).unwrap();
        hold(&place, &into).unwrap();
        drop(held);
    }

    #[test]
    fn where_a_disk_is_mounted_nothing_is_put_and_the_backup_is_not_read() {
        assert!(is_mounted(Path::new("/proc")));
        let place = tempfile::tempdir().unwrap();
        assert!(!is_mounted(place.path()) && !is_mounted(&place.path().join("nothing")));
        let refused = restore(Path::new("/nowhere.backup"), Path::new("/proc"), None).unwrap_err();
        assert!(matches!(refused, RestoreError::Mounted { .. }), "{refused}");
    }
}
