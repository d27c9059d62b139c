//! What of a running journal a backup needs, and how that is put back.
//!
//! Only whole records up to a known number are copied, so that what workers write meanwhile is not half in it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::files::{Disk, Files};
use super::{Journal, Unreadable, record, segment};
use crate::usage::Mark;

/// Records are gathered up to about this size.
const PIECE: usize = 256 << 10;

/// Marks that wait while somebody copies.
#[derive(Debug, Default)]
pub(super) struct Held {
    copies: usize,
    later: BTreeMap<u32, Mark>,
}

impl Held {
    /// Whether a mark has to wait; it is remembered then.
    pub(super) fn keeps(&mut self, mark: &Mark) -> bool {
        if self.copies > 0 {
            self.later.insert(mark.lane, *mark);
        }
        self.copies > 0
    }
}

/// While there is one, no segment is used again that holds something which is not kept when it begins.
#[derive(Debug)]
pub struct Hold(Arc<Journal>);

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.0.held();
        held.copies -= 1;
        if held.copies == 0 {
            std::mem::take(&mut held.later).into_values().for_each(|mark| self.0.free(&mark));
        }
    }
}

impl Journal {
    /// Holds on to what is not kept now.
    pub fn hold(self: &Arc<Self>) -> Hold {
        self.held().copies += 1;
        Hold(self.clone())
    }

    /// The last record that each worker has written.
    pub fn reached(&self) -> Vec<u64> {
        self.lanes.iter().map(|lane| lane.written.load(Ordering::Acquire)).collect()
    }

    /// Calls back with all records up to there that may not be kept, worker by worker, in pieces; to be called while it is
    /// held. What the callback answers is answered.
    ///
    /// # Errors
    /// When a part of it cannot be read.
    pub fn copy<E>(
        &self,
        reached: &[u64],
        mut see: impl FnMut(u32, &[u8]) -> Result<(), E>,
    ) -> Result<Result<(), E>, Unreadable> {
        let files = Disk::of(&self.directory).map_err(unreadable(&self.directory))?;
        for (lane, reached) in self.lanes.iter().zip(reached) {
            let place = self.directory.join(lane.number.to_string());
            let kept = lane.kept.load(Ordering::Acquire);
            let mut names = files.list(&place).map_err(unreadable(&place))?;
            names.retain(|name| segment::number(name).is_some());
            names.sort_unstable();
            for name in names {
                let path = place.join(name);
                let bytes = match files.read(&path) {
                    // One that held nothing was taken away.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    read => read.map_err(unreadable(&path))?,
                };
                for piece in pieces(&bytes, self.epoch, kept, *reached) {
                    if let Err(error) = see(lane.number, &piece) {
                        return Ok(Err(error));
                    }
                }
            }
        }
        Ok(Ok(()))
    }

    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The records of a segment that were written in this epoch, behind one number and up to another.
fn pieces(bytes: &[u8], epoch: u64, kept: u64, reached: u64) -> Vec<Vec<u8>> {
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    segment::scan(bytes, |entry, at, _| {
        if entry.epoch == epoch && entry.sequence > kept && entry.sequence <= reached {
            let whole = &bytes[at..at + record::length(&bytes[at..])];
            match pieces.last_mut().filter(|piece| piece.len() < PIECE) {
                Some(piece) => piece.extend_from_slice(whole),
                None => pieces.push(whole.to_vec()),
            }
        }
    });
    pieces
}

/// How many records these are; none where they are anything else than whole records, one after the other.
pub fn whole_records(mut bytes: &[u8]) -> Option<u64> {
    let mut records = 0;
    while !bytes.is_empty() {
        let (_, length) = record::decode(bytes)?;
        bytes = bytes.get(length..)?;
        records += 1;
    }
    Some(records)
}

/// Puts records of a worker into the journal in this directory, which nobody writes, as a segment with this number. A start
/// counts them, as those of a start before; durable but for the directory of the worker.
///
/// # Errors
/// Those of the disk.
pub fn put_records(directory: &Path, lane: u32, number: u64, records: &[u8]) -> io::Result<()> {
    let place = directory.join(lane.to_string());
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&place)?;
    let path = place.join(segment::name(number));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&segment::head_of(segment::HEAD + records.len(), lane))?;
    file.write_all(records)?;
    file.sync_all()
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> Unreadable {
    let path: PathBuf = path.to_owned();
    move |source| Unreadable { path, source }
}
