//! Reads what earlier starts of the gateway left in the directory.
//!
//! A segment that was closed is known by the index at its end, and not read. Any other is read, row by whole row, and gets one. What cannot
//! be read, or is not ours, is left as it is and said; nothing of it keeps a gateway from its start.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::super::log::brief;
use super::super::rows::Mark;
use super::index::{self, BLOCKS, Index};
use super::page::read_range;
use super::segment::{self, HALF, HEAD, Kind, Name, Segment};
use super::{Kept, frame};

/// The largest number of a segment that is believed.
const MOST_NUMBER: u64 = 1 << 53;

/// The longest file that is read: far longer than segments are.
const LONGEST: u64 = 64 << 20;

/// What there is.
#[derive(Default)]
pub(super) struct Found {
    pub(super) segments: Vec<Kept>,
    /// The number for the next segment.
    pub(super) next: u64,
}

/// Reads a directory of segments, of about so many bytes each.
pub(super) fn read(directory: &Path, size: u32) -> Found {
    let mut found = Found::default();
    let names = match segment::make_directory(directory).and_then(|()| list(directory)) {
        Ok(names) => names,
        Err(error) => {
            tracing::error!(directory = %directory.display(),
                "the request log cannot be read, and takes nothing until it can be written; make the directory readable and writable for this user: {error}");
            return found;
        }
    };
    let mut known: HashMap<(usize, u64), Name> = HashMap::new();
    let mut strange = 0_u64;
    for text in names {
        let Some(name) = Name::of(&text) else {
            // Half of one that was put in order: what it was made of is there.
            match text.strip_suffix(HALF).is_some_and(|text| Name::of(text).is_some()) {
                true => drop(fs::remove_file(directory.join(text))),
                false => strange += 1,
            }
            continue;
        };
        if name.number > MOST_NUMBER {
            // None of ours comes that far, and behind it there would be no number left.
            strange += 1;
            continue;
        }
        found.next = found.next.max(name.number.saturating_add(1));
        // One in order is whole, and what it was made of was about to go.
        if let Some(other) = known.insert((name.chain.index(), name.number), name) {
            let (kept, gone) = if name.is_sorted { (name, other) } else { (other, name) };
            known.insert((name.chain.index(), name.number), kept);
            let _ = fs::remove_file(gone.path(directory));
        }
    }
    for name in known.into_values() {
        match open(directory, name, size) {
            Ok(Some(kept)) => found.segments.push(kept),
            Ok(None) => strange += 1,
            Err(error) => {
                strange += 1;
                tracing::warn!(file = name.text(), "a segment of the request log cannot be read: {error}");
            }
        }
    }
    if strange > 0 {
        tracing::warn!(directory = %directory.display(), files = strange,
            "in the directory of the request log are files that it does not read; they stay as they are, and do not count");
    }
    found
}

fn list(directory: &Path) -> io::Result<Vec<String>> {
    // A name that is no text is nobody's here.
    let names =
        fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.file_name().into_string().unwrap_or_default()));
    names.collect()
}

/// One segment; none where it is not to be read here.
fn open(directory: &Path, name: Name, size: u32) -> io::Result<Option<Kept>> {
    let path = name.path(directory);
    // Never waits for whoever would write into a pipe of that name.
    if !fs::symlink_metadata(&path)?.is_file() {
        return Ok(None);
    }
    let file = File::open(&path)?;
    let length = file.metadata()?.len();
    let mut head = Vec::new();
    read_range(&file, 0, HEAD as u32, &mut head)?;
    let Some(whole) = u32::try_from(length).ok().filter(|_| length <= LONGEST) else { return Ok(None) };
    if segment::kind(name, &head) == Kind::Other {
        return Ok(None);
    }
    if let Some(index) = closed(&file, whole)? {
        return Ok(Some(Kept { segment: Arc::new(Segment::new(name, index)), bytes: length }));
    }
    let mut bytes = Vec::new();
    read_range(&file, 0, whole, &mut bytes)?;
    let index = scanned(&bytes, name, size);
    let mut end = Vec::new();
    index.write(&mut end);
    // It is read again next time where it cannot be written.
    let written = OpenOptions::new().write(true).open(&path).and_then(|file| file.write_all_at(&end, length));
    let more = if written.is_ok() { end.len() as u64 } else { 0 };
    Ok(Some(Kept { segment: Arc::new(Segment::new(name, index)), bytes: length + more }))
}

/// The index at the end of a segment.
fn closed(file: &File, length: u32) -> io::Result<Option<Index>> {
    let mut bytes = Vec::new();
    read_range(file, length.saturating_sub(index::END as u32), length, &mut bytes)?;
    let Some(long) = bytes.last_chunk().and_then(Index::length) else { return Ok(None) };
    let Some(start) = u32::try_from(long).ok().and_then(|long| length.checked_sub(long)) else { return Ok(None) };
    read_range(file, start, length, &mut bytes)?;
    // What is behind the rows that it knows was not there when it was written.
    Ok(Index::read(&bytes).filter(|index| index.end() <= start))
}

/// The index of what is whole in a segment.
fn scanned(bytes: &[u8], name: Name, size: u32) -> Index {
    let mut index = Index::new(HEAD as u32);
    for (at, row) in frame::rows(bytes) {
        let (Some(brief), Ok(at)) = (brief(row), u32::try_from(at)) else { continue };
        index.add(at, &Mark::of(&brief, name.chain, frame::HEAD + row.len()), size / BLOCKS);
    }
    index.close();
    index
}
