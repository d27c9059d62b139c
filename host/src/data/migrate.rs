//! Brings the store of an earlier format to the present one: row by row into a copy, which counts only once it is whole.
//!
//! The former store is not written to, and stays until a gateway serves on the new one. Whoever dies in the middle begins anew.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{DataDirectory, Database, Error, FORMAT, write_format};

/// Formats that can be opened, and how to come from one to the next.
#[derive(Debug)]
pub(super) struct Formats {
    /// The one that is written.
    pub(super) current: u32,
    /// One for each format that is brought to the next.
    pub(super) steps: &'static [Step],
}

/// From one format to the next.
#[derive(Debug)]
pub(super) struct Step {
    /// The format before; the next number is the one after.
    pub(super) from: u32,
    /// What becomes of a row: none, itself, others. Never depends on other rows, nor on whether it was done before.
    pub(super) row: fn(Row) -> Vec<Row>,
}

/// A row of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) tree: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
}

/// What there is. The first format has had no other before it.
pub(super) const FORMATS: Formats = Formats { current: FORMAT, steps: &[] };

/// Where the store of a format is in a data directory.
pub fn store_in(directory: &Path, format: u32) -> PathBuf {
    match format {
        1 => directory.join("store"),
        format => directory.join(format!("store-{format}")),
    }
}

/// Brings a directory from an earlier format to the present one.
pub(super) fn migrate(path: &Path, found: u32, formats: &Formats) -> Result<(), Error> {
    let step = |from: u32| formats.steps.iter().find(|step| step.from == from);
    let steps: Option<Vec<&Step>> = (found..formats.current).map(step).collect();
    let steps = steps.ok_or_else(|| Error::Older { path: path.to_owned(), found, current: formats.current })?;
    let (former, fresh) = (store_in(path, found), store_in(path, formats.current));
    tracing::info!(from = found, to = formats.current, "bringing the data directory to the present format");
    let unusable = |source| Error::Unmigrated { path: path.to_owned(), found, current: formats.current, source };
    // By its format the directory says that this one was not finished.
    match fs::remove_dir_all(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(error)),
        _ => {}
    }
    let database = |source| Error::Database { path: path.to_owned(), source };
    let rows = copy(&former, &fresh, &steps).map_err(database)?;
    let settle = || File::open(&fresh)?.sync_all().and_then(|()| write_format(path, formats.current));
    settle().map_err(unusable)?;
    tracing::info!(
        rows,
        kept = %former.display(),
        "the data directory has the present format; the former store stays until the gateway serves"
    );
    Ok(())
}

/// Puts what becomes of each row of a store into a fresh one; how many there were.
pub(super) fn copy(former: &Path, fresh: &Path, steps: &[&Step]) -> Result<u64, super::Failure> {
    let (from, into) = (Database::open(former)?, Database::open(fresh)?);
    let stepped = |row: Row| steps.iter().fold(vec![row], |rows, step| rows.into_iter().flat_map(step.row).collect());
    let rows = from.copy_into(&into, stepped)?;
    into.flush()?;
    Ok(rows)
}

impl DataDirectory {
    /// A gateway serves on this directory: former stores are no longer needed, and are removed.
    pub fn serves(&self) {
        super::rewrite::serves(&store_in(&self.path, self.format));
        let is_former = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let number = name.strip_prefix("store-").is_some_and(|number| number.parse::<u32>().is_ok());
            (name == "store" || number) && *path != store_in(&self.path, self.format)
        };
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten().map(|entry| entry.path());
        for former in entries.filter(is_former) {
            match fs::remove_dir_all(&former) {
                Ok(()) => tracing::info!(store = %former.display(), "removed the store of an earlier format"),
                Err(error) => tracing::warn!(store = %former.display(),
                    "the store of an earlier format cannot be removed; remove it by hand: {error}"),
            }
        }
    }
}

#[cfg(test)]
mod tests;
