//! One segment: a file of one chain, whose rows are only added at its end, until it is closed.
//!
//! Its name says to which chain it belongs and in which order it was begun; its head says by which version it is to be read. Rows that
//! were put in the order of their requests are in a file of another name, so that nobody takes one for the other.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::chain::Chain;
use super::index::Index;

/// Bytes before the first row.
pub(super) const HEAD: usize = 32;
/// How segments are written. Another one needs another number, and a way to read this one.
const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"prtcreqs";
/// What names end with, of those with rows as they came and those in order.
const ENDINGS: [&str; 2] = [".rows", ".sorted"];
/// What the name of one that is being made ends with.
pub(super) const HALF: &str = ".new";

/// Which segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) chain: Chain,
    pub(super) number: u64,
    pub(super) is_sorted: bool,
}

/// A segment that is there.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) name: Name,
    index: Mutex<Index>,
}

/// What the head of a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is what its name says.
    Sound,
    /// It is not whole. Whole rows behind it are still that.
    Damaged,
    /// Another version wrote it, or it belongs to another chain: not to be read here.
    Other,
}

impl Name {
    /// As the name of a file.
    pub(super) fn text(self) -> String {
        format!("{}-{:010}{}", self.chain.name(), self.number, ENDINGS[usize::from(self.is_sorted)])
    }

    /// In this directory.
    pub(super) fn path(self, directory: &Path) -> PathBuf {
        directory.join(self.text())
    }

    /// What the name of a file says; none for names of other files.
    pub(super) fn of(text: &str) -> Option<Self> {
        let is_sorted = text.ends_with(ENDINGS[1]);
        let (chain, number) = text.strip_suffix(ENDINGS[usize::from(is_sorted)])?.rsplit_once('-')?;
        let name = Self { chain: Chain::named(chain)?, number: number.parse().ok()?, is_sorted };
        (name.text() == text).then_some(name)
    }
}

impl Segment {
    pub(super) fn new(name: Name, index: Index) -> Self {
        Self { name, index: Mutex::new(index) }
    }

    /// What is known of it.
    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        // At worst it names too few rows.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its rows can be put in order.
    pub(super) fn is_mixed(&self) -> bool {
        !self.name.is_sorted && self.index().is_mixed()
    }
}

/// The head of a segment.
pub(super) fn head(name: Name) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(MAGIC);
    head[8..12].copy_from_slice(&VERSION.to_be_bytes());
    head[12] = name.chain.index() as u8;
    head[16..24].copy_from_slice(&name.number.to_be_bytes());
    let sum = crc32fast::hash(&head[..HEAD - 4]);
    head[HEAD - 4..].copy_from_slice(&sum.to_be_bytes());
    head
}

/// What a file of this name is, by its first bytes.
pub(super) fn kind(name: Name, bytes: &[u8]) -> Kind {
    let Some(found) = bytes.first_chunk::<HEAD>() else { return Kind::Damaged };
    if *found == head(name) {
        return Kind::Sound;
    }
    let sum = crc32fast::hash(&found[..HEAD - 4]).to_be_bytes();
    if found[..8] == *MAGIC && found[HEAD - 4..] == sum { Kind::Other } else { Kind::Damaged }
}

/// Makes a file that is not there yet, and its directory where that is missing.
pub(super) fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_directory(path.parent().unwrap_or(Path::new("")))?;
            options.open(path)
        }
        made => made,
    }
}

/// Makes a directory, of mode 0700.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requests::Kind as Of;

    #[test]
    fn names_say_what_they_are_and_others_are_none() {
        for is_sorted in [false, true] {
            for chain in Of::ALL.into_iter().flat_map(Chain::all) {
                let name = Name { chain, number: 12, is_sorted };
                assert_eq!(Name::of(&name.text()), Some(name));
                assert_eq!(kind(name, &head(name)), Kind::Sound);
            }
        }
        let name = Name::of("live-07-0000000012.rows").unwrap();
        for text in [
            "live-07-12.rows",
            "live-64-0000000012.rows",
            "live-07-0000000012",
            "live-07-0000000012.rows.new",
            "",
            "../x",
            "-.rows",
        ] {
            assert_eq!(Name::of(text), None, "{text}");
        }
        let mut bytes = head(name);
        assert_eq!(kind(Name { number: 13, ..name }, &bytes), Kind::Other);
        assert_eq!(kind(name, &bytes[..31]), Kind::Damaged);
        bytes[9] ^= 1;
        assert_eq!(kind(name, &bytes), Kind::Damaged);
    }
}
