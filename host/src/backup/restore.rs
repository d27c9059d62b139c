//! Puts a backup back: into a directory that is not there or empty, as a whole or not at all.
//!
//! Everything is written beside the directory and moved there at the end, so that one of that name is always whole.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
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
    // First of all, so that nothing is begun with one that is not whole.
    verify(path, signet)?;
    let place = beside(into);
    let unwritable = |path: &Path| {
        let path = path.to_owned();
        move |source| RestoreError::Unwritable { path, source }
    };
    match fs::remove_dir_all(&place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unwritable(&place)(error)),
        _ => {}
    }
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
            if entries.next().is_none() {
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
