//! The embedded database in the data directory, and the names of what is sealed in it.
//!
//! Writes are not durable until flushed: a store flushes before it acknowledges.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::migrate::Row;

const CACHE_BYTES: u64 = 16 << 20;
/// What is not flushed before it is acknowledged is on disk this soon, in milliseconds.
const FLUSH: Option<u64> = Some(500);
const SEALED: &str = "sealed";
/// The one file that all of it is in.
const FILE: &str = "db";

/// An open database; clones are the same one.
#[derive(Clone)]
pub struct Database(sled::Db, Arc<File>);

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("the database failed")]
pub struct Failure(#[from] sled::Error);

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its own output would show what it holds.
        f.write_str("Database")
    }
}

impl Database {
    /// Opens the database in this directory, making it where it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(FLUSH);
        // A database that this process has just closed may still be letting go of its files.
        for _ in 0..200 {
            match config.open() {
                Err(sled::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                opened => return Self::opened(opened?, path),
            }
        }
        Self::opened(config.open()?, path)
    }

    fn opened(database: sled::Db, path: &Path) -> Result<Self, Failure> {
        let file = File::open(path.join(FILE)).map_err(sled::Error::Io)?;
        Ok(Self(database, Arc::new(file)))
    }

    /// The tree with this name, made where it is missing. Only for the files named `sled.rs`.
    pub(crate) fn tree(&self, name: &str) -> Result<sled::Tree, Failure> {
        Ok(self.0.open_tree(name)?)
    }

    /// The names of all trees, in order.
    pub(crate) fn names(&self) -> Vec<Vec<u8>> {
        let mut names: Vec<Vec<u8>> = self.0.tree_names().iter().map(|name| name.to_vec()).collect();
        names.sort_unstable();
        names
    }

    /// As [`Self::tree`], for names that need not be text.
    pub(crate) fn tree_named(&self, name: &[u8]) -> Result<sled::Tree, Failure> {
        Ok(self.0.open_tree(name)?)
    }

    /// How much of the disk it takes, in bytes. Looks at its files.
    pub fn bytes(&self) -> Result<u64, Failure> {
        Ok(self.0.size_on_disk()?)
    }

    /// Removes the tree with this name and all that is in it; whether there was one.
    pub(crate) fn drop_tree(&self, name: &str) -> Result<bool, Failure> {
        // Asked first: a name that nobody has would be looked for among the tree's own pages.
        let is_there = self.0.tree_names().iter().any(|known| known == name.as_bytes());
        Ok(is_there && self.0.drop_tree(name)?)
    }

    /// Makes everything durable that was written until now, also against a loss of power.
    pub(crate) fn flush(&self) -> Result<(), Failure> {
        self.0.flush()?;
        // On Linux the database hands its pages to the disk and no more (`sync_file_range`): neither the length of the file nor
        // what the disk itself holds back is on it then.
        self.1.sync_data().map_err(sled::Error::Io)?;
        Ok(())
    }

    /// Puts what becomes of each row into another database; how many there were. Nobody else may write to either.
    pub(super) fn copy_into(&self, into: &Self, mut change: impl FnMut(Row) -> Vec<Row>) -> Result<u64, Failure> {
        let mut rows = 0;
        for tree in self.names() {
            into.tree_named(&tree)?;
            for row in self.tree_named(&tree)?.iter() {
                let (key, value) = row?;
                rows += 1;
                for row in change(Row { tree: tree.clone(), key: key.to_vec(), value: value.to_vec() }) {
                    into.tree_named(&row.tree)?.insert(row.key, row.value)?;
                }
            }
        }
        Ok(rows)
    }

    /// What is sealed under this name.
    pub fn sealed(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        Ok(self.tree(SEALED)?.get(name)?.map(|bytes| bytes.to_vec()))
    }

    /// Keeps something sealed under this name; durable when it returns.
    pub fn keep_sealed(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let tree = self.tree(SEALED)?;
        tree.insert(name, bytes)?;
        self.flush()
    }

    /// The names under which something is sealed, of those that begin so.
    pub fn sealed_names(&self, prefix: &str) -> Result<Vec<String>, Failure> {
        let names = self.tree(SEALED)?.scan_prefix(prefix).keys().collect::<Result<Vec<_>, _>>()?;
        Ok(names.iter().filter_map(|name| String::from_utf8(name.to_vec()).ok()).collect())
    }

    /// Forgets what is sealed under this name; durable when it returns.
    pub fn forget_sealed(&self, name: &str) -> Result<(), Failure> {
        let tree = self.tree(SEALED)?;
        tree.remove(name)?;
        self.flush()
    }

    /// Whether anything is sealed.
    pub fn has_sealed(&self) -> Result<bool, Failure> {
        Ok(!self.tree(SEALED)?.is_empty())
    }
}
