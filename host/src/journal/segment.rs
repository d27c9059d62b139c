//! Segments: files of one size, whose bytes are all there before the first record is written.
//!
//! A segment is used again without being cleaned: what was left in it is older than the mark in the usage store, and so
//! counts for nothing. Its head says only how it is to be read, and never changes.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::files::{File, Files};
use super::record::{self, Entry};

/// Bytes before the first record.
pub(super) const HEAD: usize = 64;
/// How records are written. Another one needs another number, and a way to read this one.
const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"prtcjrnl";
const ENDING: &str = ".seg";
/// Zeros are written in pieces of this size.
const PIECE: usize = 256 << 10;

/// A segment, as its owner keeps it.
#[derive(Debug)]
pub(super) struct Segment {
    /// The open file.
    pub(super) file: Arc<dyn File>,
    /// Whether the last try to make it durable failed.
    doubtful: bool,
}

/// What the head of a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is one of ours, and whole.
    Sound,
    /// It is one of ours perhaps: its head is damaged, or its end is missing. Whole records in it are still that.
    Damaged,
    /// Another version of the gateway wrote it, or it is from another worker's directory: not to be read here.
    Other,
}

impl Segment {
    /// Of a file that is there.
    pub(super) fn of(file: Arc<dyn File>) -> Self {
        Self { file, doubtful: false }
    }

    /// Makes durable what was written up to there.
    ///
    /// After a failure the system may take what it could not write for written, and the next try succeeds without it: so all of it is
    /// written again before that.
    pub(super) fn make_durable(&mut self, upto: usize) -> io::Result<()> {
        let again = if self.doubtful { self.file.write_again(upto) } else { Ok(()) };
        let synced = again.and_then(|()| self.file.sync());
        self.doubtful = synced.is_err();
        synced
    }

    /// Makes one: zeros are really written, so that writing into it never needs space. It has its name only when it is whole.
    pub(super) fn make(files: &dyn Files, path: &Path, size: usize, lane: u32) -> io::Result<Self> {
        let fresh = path.with_extension("new");
        let made = Self::fill(files, &fresh, size, lane).and_then(|file| {
            files.rename(&fresh, path)?;
            files.sync_directory(path.parent().unwrap_or(Path::new("")))?;
            Ok(file)
        });
        match made {
            Ok(file) => Ok(Self::of(file)),
            Err(error) => {
                // Space that is not enough for a segment may be enough for others; and nobody knows of one that has its name.
                let _ = files.remove(&fresh);
                let _ = files.remove(path);
                Err(error)
            }
        }
    }

    fn fill(files: &dyn Files, fresh: &Path, size: usize, lane: u32) -> io::Result<Arc<dyn File>> {
        let file = files.create(fresh)?;
        let zeros = vec![0; PIECE.min(size)];
        let mut at = 0;
        while at < size {
            let piece = &zeros[..zeros.len().min(size - at)];
            file.write_at(piece, at as u64)?;
            at += piece.len();
        }
        file.write_at(&head_of(size, lane), 0)?;
        file.sync()?;
        Ok(file)
    }
}

/// The name of a lane's segment with this number.
pub(super) fn name(number: u64) -> String {
    format!("{number:08}{ENDING}")
}

/// The number in the name of a segment; `None` for names of other files.
pub(super) fn number(name: &str) -> Option<u64> {
    name.strip_suffix(ENDING).and_then(|number| number.parse().ok())
}

/// Whether a file is one that was being made.
pub(super) fn is_half_made(name: &str) -> bool {
    name.strip_suffix(".new").is_some_and(|number| number.parse::<u64>().is_ok())
}

/// The number in the name of a lane's directory; `None` for names of others, such as copies named `0.old` or `00`.
pub(super) fn lane(name: &str) -> Option<u32> {
    name.parse::<u32>().ok().filter(|number| number.to_string() == name)
}

/// A lane as heads name it: 0 stands in those that were made before they did.
fn named(lane: u32) -> u32 {
    lane.saturating_add(1)
}

/// The head of a segment of this size, with all that it holds.
pub(super) fn head_of(size: usize, lane: u32) -> [u8; HEAD] {
    head(size, named(lane))
}

fn head(size: usize, named: u32) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(MAGIC);
    head[8..12].copy_from_slice(&VERSION.to_le_bytes());
    head[12..16].copy_from_slice(&named.to_le_bytes());
    head[16..24].copy_from_slice(&(size as u64).to_le_bytes());
    let sum = crc32fast::hash(&head[..HEAD - 4]);
    head[HEAD - 4..].copy_from_slice(&sum.to_le_bytes());
    head
}

/// What a segment in this lane's directory is.
pub(super) fn kind(bytes: &[u8], lane: u32) -> Kind {
    let Some(found) = bytes.get(..HEAD) else { return Kind::Damaged };
    if [named(lane), 0].iter().any(|named| *found == head(bytes.len(), *named)) {
        return Kind::Sound;
    }
    let whole = crc32fast::hash(&found[..HEAD - 4]).to_le_bytes() == found[HEAD - 4..];
    // Where the head is not whole, nothing in it is to be believed.
    let other_version = found[8..12] != VERSION.to_le_bytes();
    let other_lane = found[12..16] != named(lane).to_le_bytes() && found[12..16] != [0; 4];
    if whole && found[..8] == *MAGIC && (other_version || other_lane) { Kind::Other } else { Kind::Damaged }
}

/// Calls back with each whole record, in the order of their places, with its place and the end of the one before it.
/// Passes over everything else: pages are written back in any order, so whole records may follow a hole.
pub(super) fn scan<'a>(bytes: &'a [u8], mut see: impl FnMut(Entry<'a>, usize, usize)) {
    let (mut at, mut end) = (HEAD, HEAD);
    while let Some(rest) = bytes.get(at..).filter(|rest| rest.len() >= record::HEAD) {
        match record::decode(rest) {
            Some((entry, length)) => {
                see(entry, at, end);
                at += length;
                end = at;
            }
            None => at += record::ALIGN,
        }
    }
}
