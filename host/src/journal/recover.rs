//! Reads what earlier starts of the gateway wrote, and what of it is not yet in the usage store.
//!
//! Believes a record's checksum, epoch and sequence, and nothing else: not the order of segments, not their heads, not
//! that everything before a whole record is there too. Changes nothing on the disk.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Unreadable;
use super::files::Files;
use super::record::Entry;
use super::segment::{self, Kind};
use crate::usage::{Caller, Counts, Day, Mark, Record};

/// What one lane has.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What is to be added to the sums.
    pub(super) rows: Rows,
    /// The mark that belongs to it; `None` where nothing changes.
    pub(super) mark: Option<Mark>,
    /// The largest epoch of any record.
    pub(super) epoch: u64,
    /// Ends of calls that are added.
    pub(super) ended: u64,
    /// Calls without an end that are added.
    pub(super) interrupted: u64,
    /// Records that were written and are not there.
    pub(super) missing: u64,
    /// Segments that are sound.
    pub(super) sound: Vec<Sound>,
    /// Files that could not be read as a whole, to be moved aside.
    pub(super) strange: Vec<PathBuf>,
    /// Files that were not read: of another version, or from the directory of another worker.
    pub(super) unread: Vec<PathBuf>,
    /// Files that were being made.
    pub(super) half_made: Vec<PathBuf>,
    /// The number for the next segment.
    pub(super) number: u64,
}

/// A segment that can be used again once what it holds is kept.
#[derive(Debug)]
pub(super) struct Sound {
    pub(super) path: PathBuf,
    pub(super) size: usize,
}

/// Sums by row.
#[derive(Debug, Default)]
pub(super) struct Rows(HashMap<(Caller, Arc<str>, Arc<str>, Day), Counts>);

/// A call that began.
struct Begun {
    caller: Caller,
    at: crate::clock::Millis,
    pillar: Arc<str>,
    route: Arc<str>,
}

impl Rows {
    fn add(&mut self, entry: &Entry<'_>) {
        let key = (entry.call.caller, entry.pillar.into(), entry.route.into(), Day::of(entry.call.at));
        entry.count(self.0.entry(key).or_default());
    }

    /// For the usage store.
    pub(super) fn into_records(self) -> impl Iterator<Item = Record> {
        self.0.into_iter().map(|((caller, pillar, route, day), counts)| Record { caller, pillar, route, day, counts })
    }
}

/// Reads a lane's segments. `mark` is what the store has of it.
pub(super) fn read(files: &dyn Files, directory: &Path, lane: u32, mark: Option<Mark>) -> Result<Found, Unreadable> {
    let mark = mark.unwrap_or(Mark { lane, epoch: 0, sequence: 0, floor: 0 });
    let mut found = Found::default();
    let (mut begun, mut over) = (HashMap::new(), HashSet::new());
    // Each record once, though somebody has left a copy of a segment here.
    let mut seen: HashMap<u64, HashSet<u64>> = HashMap::new();
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| Unreadable { path, source }
    };
    for name in files.list(directory).map_err(unreadable(directory))? {
        let path = directory.join(&name);
        if segment::is_half_made(&name) {
            found.half_made.push(path);
            continue;
        }
        let Some(number) = segment::number(&name) else { continue };
        found.number = found.number.max(number.saturating_add(1));
        let bytes = files.read(&path).map_err(unreadable(&path))?;
        let kind = segment::kind(&bytes, lane);
        let mut sound = kind == Kind::Sound;
        if kind == Kind::Other {
            found.unread.push(path);
            continue;
        }
        let (mut last, mut after_old) = (0, false);
        segment::scan(&bytes, |entry, at, end| {
            found.epoch = found.epoch.max(entry.epoch);
            let stamp = (entry.epoch, entry.call.request);
            if (entry.epoch, entry.sequence) > (mark.epoch, mark.floor) && entry.end.is_none() {
                begun.entry(stamp).or_insert_with(|| Begun::of(&entry));
            }
            if entry.end.is_some() {
                over.insert(stamp);
            }
            if (entry.epoch, entry.sequence) > (mark.epoch, mark.sequence) {
                // Between two records that followed one another nothing may be but what was there before.
                if last != 0 && entry.sequence != last + 1 && !after_old && !is_hole(&bytes, end, at) {
                    sound = false;
                }
                (last, after_old) = (entry.sequence, false);
                let fresh = seen.entry(entry.epoch).or_default().insert(entry.sequence);
                if entry.end.is_some() && fresh {
                    found.rows.add(&entry);
                    found.ended += 1;
                }
            } else {
                // From before the segment was used again: what is between here and there was not written.
                after_old = true;
            }
        });
        match sound {
            true => found.sound.push(Sound { path, size: bytes.len() }),
            false => found.strange.push(path),
        }
    }
    for (stamp, begun) in begun {
        if !over.contains(&stamp) {
            found.rows.add(&begun.entry(stamp));
            found.interrupted += 1;
        }
    }
    for (epoch, sequences) in &seen {
        let first = if *epoch == mark.epoch { mark.sequence } else { 0 };
        let newest = sequences.iter().max().copied().unwrap_or_default();
        found.missing += newest.saturating_sub(first).saturating_sub(sequences.len() as u64);
    }
    let after = Mark::all(lane, found.epoch.max(mark.epoch));
    found.mark = (after != mark && after.epoch > 0).then_some(after);
    Ok(found)
}

/// Whether what is between two records may be a piece of a fresh segment that did not reach the disk, with parts of records around
/// it: disks write pieces of at least 512 bytes.
fn is_hole(bytes: &[u8], from: usize, to: usize) -> bool {
    const PIECE: usize = 512;
    let zeros = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    let pieces = from.next_multiple_of(PIECE)..to;
    zeros(&bytes[from..to]) || pieces.step_by(PIECE).any(|at| at + PIECE <= to && zeros(&bytes[at..at + PIECE]))
}

impl Begun {
    fn of(entry: &Entry<'_>) -> Self {
        let Entry { call, pillar, route, .. } = *entry;
        Self { caller: call.caller, at: call.at, pillar: pillar.into(), route: route.into() }
    }

    /// The call again, without an end.
    fn entry(&self, (epoch, request): (u64, u128)) -> Entry<'_> {
        let call = super::record::Call { request, caller: self.caller, at: self.at };
        Entry { epoch, sequence: 0, call, pillar: &self.pillar, route: &self.route, end: None }
    }
}
