//! Writes the store anew at the next start, where that was asked for: row by row into a copy that takes its place.
//!
//! The database appends: what was removed from it stays in its files until it happens to use their place again. In a copy there is
//! only what counts. Whoever dies in the middle begins anew or goes on, and one that cannot be made holds up no start.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::migrate::copy;
use super::room::Room;
use super::{DataDirectory, settle, write_private};

/// The file that asks for it.
const ASKED: &str = "rewrite";
/// What it says while that is being done.
const BEGUN: &[u8] = b"begun";

/// The way to ask for it.
#[derive(Debug, Clone)]
pub struct Rewrite(PathBuf);

impl Rewrite {
    /// The next start writes the store anew. Durable when it returns.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub fn ask(&self) -> io::Result<()> {
        write_private(&self.0.join(ASKED), b"")
    }
}

impl DataDirectory {
    /// The way to have the store written anew at the next start.
    pub fn rewrite(&self) -> Rewrite {
        Rewrite(self.path.clone())
    }
}

/// Writes this store of a directory anew, where that was asked for. Nobody has it open.
///
/// # Errors
/// When a rewrite that died can neither be ended nor taken back.
pub(super) fn rewrite(directory: &Path, store: &Path) -> io::Result<()> {
    let (fresh, former) = (beside(store, "fresh"), former(store));
    if !store.exists() && former.exists() {
        // It died between two renames: the fresh one was whole by then.
        fs::rename(if fresh.exists() { &fresh } else { &former }, store)?;
        settle(Some(directory))?;
    }
    if !directory.join(ASKED).exists() || !store.exists() {
        return Ok(());
    }
    // Half of one that died would take the room that the next one needs.
    let _ = remove(&fresh);
    if !Room::of(directory.to_owned()).is_there_beside(size(store)) {
        tracing::warn!(
            "there is no room for a copy of the store: what was erased stays in its files until a start that has it"
        );
        return Ok(());
    }
    if fs::read(directory.join(ASKED)).is_ok_and(|said| said == BEGUN) {
        // A large store takes long, and whoever watches over starts may have ended it: no two starts in a row are held up.
        tracing::warn!(
            "the start before this one died while it wrote the store anew; the next start tries again, give it time"
        );
        note(directory, b"");
        return Ok(());
    }
    if !note(directory, BEGUN) {
        return Ok(());
    }
    tracing::info!(
        "writing the store anew, so that what was erased is gone from its files; this start takes longer for it"
    );
    match written(store, &fresh).and_then(|rows| set_aside(store, &former).map(|()| rows)) {
        Ok(rows) => {
            if let Err(error) = fs::rename(&fresh, store) {
                // Nothing is lost while the one or the other is there.
                fs::rename(&former, store)?;
                return Err(error);
            }
            settle(Some(directory))?;
            remove_file(&directory.join(ASKED))?;
            tracing::info!(rows, "wrote the store anew; the former one stays until the gateway serves");
        }
        Err(error) => {
            tracing::error!("the store cannot be written anew; a later start tries again: {error}");
            // Half of it would only keep a disk full; the next one needs the place anyway.
            let _ = remove(&fresh);
            note(directory, b"");
        }
    }
    Ok(())
}

/// Writes down how far it is; whether that worked. Where not, the store is used as it is.
fn note(directory: &Path, said: &[u8]) -> bool {
    let written = write_private(&directory.join(ASKED), said);
    let told =
        written.inspect_err(|error| tracing::error!("how far the store is written anew cannot be noted: {error}"));
    told.is_ok()
}

/// Moves the store out of the way of the fresh one; else it stays where it is.
fn set_aside(store: &Path, former: &Path) -> Result<(), Box<dyn std::error::Error>> {
    remove(former)?;
    Ok(fs::rename(store, former)?)
}

/// Removes what a rewrite left, since a gateway serves on the new store.
pub(super) fn serves(store: &Path) {
    let former = former(store);
    if let Err(error) = remove(&former) {
        tracing::warn!(store = %former.display(), "the former store cannot be removed; remove it by hand: {error}");
    }
}

fn written(store: &Path, fresh: &Path) -> Result<u64, Box<dyn std::error::Error>> {
    remove(fresh)?;
    let rows = copy(store, fresh, &[])?;
    closed(store)?;
    closed(fresh)?;
    File::open(fresh)?.sync_all()?;
    Ok(rows)
}

/// Waits until a database that this process has just closed has let go of its files: they are moved next.
fn closed(store: &Path) -> io::Result<()> {
    let file = File::open(store.join("db"))?;
    for _ in 0..600 {
        if file.try_lock().is_ok() {
            return file.unlock();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(io::Error::new(io::ErrorKind::WouldBlock, "the database does not let go of its files"))
}

fn former(store: &Path) -> PathBuf {
    beside(store, "former")
}

fn beside(store: &Path, what: &str) -> PathBuf {
    let mut name = store.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(what);
    store.with_file_name(name)
}

fn remove(store: &Path) -> io::Result<()> {
    missing_is_fine(fs::remove_dir_all(store))
}

fn remove_file(file: &Path) -> io::Result<()> {
    missing_is_fine(fs::remove_file(file))
}

fn missing_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Bytes of the files of a store.
fn size(store: &Path) -> u64 {
    let (mut places, mut bytes) = (vec![store.to_owned()], 0_u64);
    while let Some(place) = places.pop() {
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(about) if about.is_dir() => places.push(entry.path()),
                Ok(about) => bytes = bytes.saturating_add(about.len()),
                Err(_) => {}
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const GONE: &[u8] = b"what is to be gone, for whoever greps the files";
    const STAYS: &[u8] = b"what stays, for whoever greps the files";

    fn holds(directory: &Path, text: &[u8]) -> bool {
        let (mut places, mut found) = (vec![directory.to_owned()], false);
        while let Some(place) = places.pop() {
            for entry in fs::read_dir(place).unwrap().flatten() {
                match entry.path() {
                    path if path.is_dir() => places.push(path),
                    path => found |= fs::read(path).unwrap().windows(text.len()).any(|window| window == text),
                }
            }
        }
        found
    }

    fn filled(directory: &Path) {
        let data = DataDirectory::open(directory).unwrap();
        data.database().keep_sealed("a", GONE).unwrap();
        data.database().keep_sealed("b", STAYS).unwrap();
        data.database().forget_sealed("a").unwrap();
        data.database().tree("empty").unwrap();
    }

    fn is_whole(directory: &Path) -> DataDirectory {
        let data = DataDirectory::open(directory).unwrap();
        assert_eq!(data.database().sealed("b").unwrap().as_deref(), Some(STAYS));
        assert_eq!(data.database().sealed("a").unwrap(), None);
        assert!(data.database().names().contains(&b"empty".to_vec()));
        data
    }

    #[test]
    fn what_was_removed_is_in_the_files_until_the_store_was_written_anew() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("data");
        filled(&path);
        assert!(holds(&path, GONE), "the database appends");
        is_whole(&path).rewrite().ask().unwrap();
        let data = is_whole(&path);
        assert!(path.join("store.former").exists() && !path.join(ASKED).exists());
        data.serves();
        assert!(!path.join("store.former").exists());
        drop(data);
        assert!(holds(&path, STAYS) && !holds(&path, GONE));
        // Once is enough.
        let before = fs::metadata(path.join("store")).unwrap().created().ok();
        drop(is_whole(&path));
        assert_eq!(fs::metadata(path.join("store")).unwrap().created().ok(), before);
    }

    #[test]
    fn a_rewrite_that_died_begins_anew_or_is_ended() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("data");
        let (store, fresh, former) = (path.join("store"), path.join("store.fresh"), path.join("store.former"));
        filled(&path);
        // While it was copied.
        is_whole(&path).rewrite().ask().unwrap();
        fs::create_dir(&fresh).unwrap();
        fs::write(fresh.join("db"), "half of it").unwrap();
        is_whole(&path).serves();
        assert!(!fresh.exists() && !holds(&path, GONE));
        // Between the renames; and after them, before it was written down that it is done.
        is_whole(&path).rewrite().ask().unwrap();
        fs::rename(&store, &former).unwrap();
        let copied = DataDirectory::open(&place.path().join("other")).unwrap();
        copied.database().keep_sealed("b", STAYS).unwrap();
        copied.database().tree("empty").unwrap();
        drop(copied);
        closed(&place.path().join("other/store")).unwrap();
        fs::rename(place.path().join("other/store"), &fresh).unwrap();
        is_whole(&path).serves();
        assert!(store.exists() && !fresh.exists() && !former.exists() && !path.join(ASKED).exists());
    }

    #[test]
    fn no_two_starts_in_a_row_are_held_up() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("data");
        filled(&path);
        is_whole(&path).rewrite().ask().unwrap();
        // It died while it was copied.
        fs::write(path.join(ASKED), BEGUN).unwrap();
        drop(is_whole(&path));
        assert!(path.join(ASKED).exists() && holds(&path, GONE));
        is_whole(&path).serves();
        assert!(!path.join(ASKED).exists() && !holds(&path, GONE));
    }

    #[test]
    fn a_store_that_cannot_be_moved_is_used_as_it_is() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("data");
        filled(&path);
        is_whole(&path).rewrite().ask().unwrap();
        // What is not a directory is not removed as one.
        fs::write(path.join("store.former"), "in the way").unwrap();
        drop(is_whole(&path));
        assert!(path.join(ASKED).exists() && path.join("store/db").exists() && !path.join("store.fresh").exists());
    }

    #[test]
    fn a_store_that_cannot_be_copied_is_used_as_it_is() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("data");
        filled(&path);
        is_whole(&path).rewrite().ask().unwrap();
        // Nothing can be written there: it is a file.
        fs::write(path.join("store.fresh"), "in the way").unwrap();
        is_whole(&path).serves();
        assert!(path.join(ASKED).exists(), "the next start tries again");
        fs::remove_file(path.join("store.fresh")).unwrap();
        is_whole(&path).serves();
        assert!(!path.join(ASKED).exists() && !holds(&path, GONE));
    }
}
