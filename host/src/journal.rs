//! The first durable place of a call: written down when it begins and when it ends, before anybody can have seen that.
//!
//! So after the death of the process every call that a client has seen the end of is counted, once; and after a loss of power
//! all but those of the last moments. Never waits: workers write into files whose bytes are there already, a thread beside them
//! makes room and makes durable. What the usage store has taken is known by a [`Mark`] in that store, written together with the
//! sums; what is beyond the mark is added at the next start. `docs/adr/0022-the-journal.md` says why that is exact.

mod calls;
mod copy;
mod files;
mod keeper;
mod lane;
mod list;
mod record;
mod recover;
mod segment;
mod thread;
mod writer;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use tests::{ByHand, by_hand};

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::config::{Journal as Settings, WhenFull};
use crate::usage::{Mark, Names, Record};
use files::{Disk, Files};
use lane::Lane;
use recover::Rows;
use segment::Segment;
use thread::{Clerk, Commits};

pub use calls::Ticket;
pub use copy::{Hold, put_records, whole_records};
pub use list::{Listed, list};
pub use record::Call;
pub use writer::{Full, Writer};

/// Where the journal is in the data directory.
pub const DIRECTORY: &str = "journal";
const EPOCH: &str = "epoch";
/// Where files go that could not be read as a whole.
const ASIDE: &str = "aside";
/// Files there whose whole records were counted, at most; those that were not read at all stay until somebody takes them away.
const MOST_ASIDE: usize = 16;
/// What names of files aside end with that were not read.
const UNREAD: &str = ".unread";

/// A part of the journal cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "the journal: cannot read {}; make it readable for this user, or move it away to start without the calls that only it knows of",
    .path.display()
)]
pub struct Unreadable {
    path: PathBuf,
    source: io::Error,
}

/// The journal cannot be begun.
#[derive(Debug, thiserror::Error)]
#[error("the journal: cannot write {}; make it writable for this user, or make room on the disk", .path.display())]
pub struct Unwritable {
    path: PathBuf,
    source: io::Error,
}

/// What earlier starts have left: to be given to the usage store, before anything new is written.
#[derive(Debug)]
pub struct Earlier {
    files: Arc<dyn Files>,
    directory: PathBuf,
    epoch: u64,
    lanes: Vec<(u32, recover::Found)>,
}

/// The journal of a running gateway.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    epoch: u64,
    when_full: WhenFull,
    lanes: Vec<Arc<Lane>>,
    commits: Arc<Commits>,
    clerk: Mutex<Option<Clerk>>,
    held: Mutex<copy::Held>,
}

/// What is told of a running journal.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// Records that were written.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Calls whose end was not written down.
    pub unwritten: u64,
    /// Segments that hold something.
    pub segments: u64,
    /// Workers whose journal has no room.
    pub stuck: u64,
    /// Times that something was made durable.
    pub commits: u64,
    /// How long that took, all together.
    pub committing: Duration,
    /// How long the longest of the last minute or so took.
    pub slowest: Duration,
}

impl Earlier {
    /// Reads what is in this directory, which is made where it is missing. `marks` are those of the usage store.
    ///
    /// # Errors
    /// When a part of it cannot be read.
    pub fn read(directory: &Path, marks: &[Mark]) -> Result<Self, Unreadable> {
        let unreadable = |source| Unreadable { path: directory.to_owned(), source };
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
            .recursive(true)
            .create(directory)
            .map_err(unreadable)?;
        let disk = Disk::of(directory).map_err(unreadable)?;
        Self::read_from(Arc::new(disk), directory, marks)
    }

    fn read_from(files: Arc<dyn Files>, directory: &Path, marks: &[Mark]) -> Result<Self, Unreadable> {
        let unreadable = |source| Unreadable { path: directory.to_owned(), source };
        files.make_directory(directory).map_err(unreadable)?;
        // Else a loss of power may take it away, with all that is durable in it.
        if let Some(above) = directory.parent().filter(|above| *above != Path::new("")) {
            files.sync_directory(above).map_err(unreadable)?;
        }
        // What the marks know of is over, whatever the disk still says.
        let mut epoch = marks.iter().map(|mark| mark.epoch).max().unwrap_or_default();
        let mut lanes = Vec::new();
        for name in files.list(directory).map_err(unreadable)? {
            if let Some(number) = segment::lane(&name) {
                let mark = marks.iter().find(|mark| mark.lane == number).copied();
                let found = recover::read(&*files, &directory.join(&name), number, mark)?;
                epoch = epoch.max(found.epoch);
                lanes.push((number, found));
            }
            if name == EPOCH {
                let path = directory.join(EPOCH);
                let text = files.read(&path).map_err(|source| Unreadable { path, source })?;
                // One that makes no sense is no loss: records and marks say it, too.
                let known = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
                epoch = epoch.max(known.unwrap_or_default());
            }
        }
        Ok(Self { files, directory: directory.to_owned(), epoch, lanes })
    }

    /// What is to be added to the sums, and the marks that belong to it: in one step, or not at all.
    pub fn take(&mut self) -> (Vec<Record>, Vec<Mark>) {
        let rows = |(_, found): &mut (u32, recover::Found)| std::mem::take::<Rows>(&mut found.rows).into_records();
        let records = self.lanes.iter_mut().flat_map(rows).collect();
        (records, self.lanes.iter().filter_map(|(_, found)| found.mark).collect())
    }

    /// Says what was found, where that is worth a line.
    pub fn tell(&self) {
        let sum = |count: fn(&recover::Found) -> u64| self.lanes.iter().map(|(_, found)| count(found)).sum::<u64>();
        let (ended, interrupted) = (sum(|found| found.ended), sum(|found| found.interrupted));
        if ended + interrupted > 0 {
            tracing::info!(ended, interrupted, "calls of an earlier start were still to be counted, and are now");
        }
        let (missing, strange) =
            (sum(|found| found.missing), sum(|found| (found.strange.len() + found.unread.len()) as u64));
        if missing + strange > 0 {
            tracing::warn!(
                records_missing = missing,
                files_aside = strange,
                "a part of the journal is not there: calls of the last moments before a loss of power may be uncounted; files \
                 that could not be read, or not as a whole, are kept in `{DIRECTORY}/{ASIDE}`"
            );
        }
        if !self.files.maps() {
            tracing::info!(
                "the journal is written by system calls here, which costs more: this file system may need space for what is written over"
            );
        }
    }

    /// Begins a new epoch. To be called after what [`Self::take`] gave is durable: what was read is used again or removed.
    ///
    /// # Errors
    /// When the start cannot be written down. Segments that cannot be made are no error: see [`WhenFull`].
    pub fn begin(
        self,
        workers: usize,
        settings: &Settings,
        names: &Arc<Names>,
    ) -> Result<(Journal, Vec<Writer>), Unwritable> {
        let (journal, shelves, writers) = self.open(workers, settings, names)?;
        let (files, shelves) = shelves;
        let clerk = Clerk::start(files, shelves, journal.commits.clone(), settings.commit_interval)
            .map_err(|source| Unwritable { path: PathBuf::from(DIRECTORY), source })?;
        Ok((Journal { clerk: Mutex::new(Some(clerk)), ..journal }, writers))
    }

    /// As [`Self::begin`], but for the thread.
    #[allow(clippy::type_complexity, reason = "told apart at once by both callers")]
    fn open(
        self,
        workers: usize,
        settings: &Settings,
        names: &Arc<Names>,
    ) -> Result<(Journal, (Arc<dyn Files>, Vec<keeper::Shelf>), Vec<Writer>), Unwritable> {
        let Self { files, directory, epoch, mut lanes } = self;
        let epoch = epoch + 1;
        let unwritable = |path: &Path| {
            let path = path.to_owned();
            move |source| Unwritable { path, source }
        };
        for (number, found) in &lanes {
            put_aside(&*files, &directory, (*number, epoch), found).map_err(unwritable(&directory))?;
        }
        bound_aside(&*files, &directory.join(ASIDE), epoch);
        write_epoch(&*files, &directory, epoch).map_err(unwritable(&directory.join(EPOCH)))?;
        let (mut shelves, mut writers, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..u32::try_from(workers).unwrap_or(u32::MAX) {
            let place = directory.join(number.to_string());
            files.make_directory(&place).map_err(unwritable(&place))?;
            let earlier = lanes.iter().position(|(known, _)| *known == number);
            let earlier = earlier.map(|position| lanes.swap_remove(position).1).unwrap_or_default();
            let (worker, keeper) = lane::lane(number);
            all.push(keeper.lane.clone());
            let bounds = (settings.segment_size, settings.segments);
            let mut shelf = keeper::Shelf::new(keeper, place, bounds, earlier.number);
            reuse(&*files, &mut shelf, &earlier.sound, settings);
            shelves.push(shelf);
            writers.push(Writer::new(worker, epoch, settings.when_full, names.clone()));
        }
        files.sync_directory(&directory).map_err(unwritable(&directory))?;
        // Lanes of workers that are no more.
        for segment in lanes.iter().flat_map(|(_, found)| &found.sound) {
            let _ = files.remove(&segment.path);
        }
        let commits = Arc::default();
        let (clerk, held) = Default::default();
        let journal = Journal { directory, epoch, when_full: settings.when_full, lanes: all, commits, clerk, held };
        Ok((journal, (files, shelves), writers))
    }
}

impl Journal {
    /// Whether everything up to this mark is durable here; so it may be told to the usage store, which must never know of an end
    /// that the journal has lost.
    pub fn has(&self, mark: &Mark) -> bool {
        let lane = self.lanes.get(mark.lane as usize).filter(|_| mark.epoch == self.epoch);
        lane.is_none_or(|lane| lane.synced.load(Ordering::Acquire) >= mark.sequence)
    }

    /// The usage store has made this mark durable.
    pub fn kept(&self, mark: &Mark) {
        let mut held = self.held();
        if !held.keeps(mark) {
            self.free(mark);
        }
    }

    fn free(&self, mark: &Mark) {
        if let Some(lane) = self.lanes.get(mark.lane as usize).filter(|_| mark.epoch == self.epoch) {
            lane.kept.fetch_max(mark.floor, Ordering::Release);
        }
    }

    /// Whether calls go on where they cannot be written down: then sums may be ahead of the journal as well.
    pub fn is_optional(&self) -> bool {
        self.when_full == WhenFull::Unmetered
    }

    /// Whether calls are refused for want of room.
    pub fn is_refusing(&self) -> bool {
        self.when_full == WhenFull::Refuse && self.lanes.iter().any(|lane| lane.is_stuck())
    }

    /// What is told of it.
    pub fn figures(&self) -> Figures {
        let sum = |figure: fn(&Lane) -> u64| self.lanes.iter().map(|lane| figure(lane)).sum();
        let (commits, committing, slowest) = self.commits.told();
        Figures {
            records: sum(|lane| lane.written.load(Ordering::Relaxed)),
            bytes: sum(|lane| lane.bytes.load(Ordering::Relaxed)),
            unwritten: sum(|lane| lane.unwritten.load(Ordering::Relaxed)),
            segments: sum(|lane| lane.used.load(Ordering::Relaxed)),
            stuck: sum(|lane| lane.is_stuck().into()),
            commits,
            committing,
            slowest,
        }
    }

    /// Makes durable what is written, and ends its threads.
    pub fn end(&self) {
        let clerk = self.clerk.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(clerk) = clerk {
            clerk.end();
        }
    }
}

/// Keeps at most as many segments as are used at once; the others are removed.
fn reuse(files: &dyn Files, shelf: &mut keeper::Shelf, sound: &[recover::Sound], settings: &Settings) {
    for (position, segment) in sound.iter().enumerate() {
        // Through memory, a hole that is written over on a full disk would end the process.
        let has_space = files.has_space(&segment.path).unwrap_or(false);
        let fits = has_space && segment.size == settings.segment_size && position < settings.segments;
        let added = fits && files.open(&segment.path).and_then(|file| shelf.add(Segment::of(file))).is_ok();
        if !added {
            // One that stays takes room on the disk, and nothing else: all of it is kept in the store.
            let _ = files.remove(&segment.path);
        }
    }
}

/// Moves files away that could not be read as a whole, and removes those that were not finished.
fn put_aside(files: &dyn Files, directory: &Path, of: (u32, u64), found: &recover::Found) -> io::Result<()> {
    let aside = directory.join(ASIDE);
    let kinds = [(&found.strange, ""), (&found.unread, UNREAD)];
    for (path, ending) in kinds.iter().flat_map(|(paths, ending)| paths.iter().map(move |path| (path, ending))) {
        files.make_directory(&aside)?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        files.rename(path, &aside.join(format!("{}-{}-{name}{ending}", of.1, of.0)))?;
    }
    found.half_made.iter().try_for_each(|path| files.remove(path))
}

/// Removes the oldest of what earlier starts have put aside, beyond what is kept. What stays takes room, and nothing else.
fn bound_aside(files: &dyn Files, aside: &Path, epoch: u64) {
    let mut earlier: Vec<(u64, String)> =
        files.list(aside).unwrap_or_default().into_iter().filter_map(of_epoch).collect();
    earlier.sort_unstable();
    let fresh = earlier.iter().filter(|(of, _)| *of == epoch).count();
    let excess = earlier.len().saturating_sub(MOST_ASIDE.max(fresh));
    for (_, name) in &earlier[..excess] {
        let _ = files.remove(&aside.join(name));
    }
}

/// The start that put a file aside whose records were counted.
fn of_epoch(name: String) -> Option<(u64, String)> {
    let epoch = name.split('-').next()?.parse().ok().filter(|_| !name.ends_with(UNREAD))?;
    Some((epoch, name))
}

/// Makes the number of this start durable, before any record has it.
fn write_epoch(files: &dyn Files, directory: &Path, epoch: u64) -> io::Result<()> {
    let (path, fresh) = (directory.join(EPOCH), directory.join("epoch.new"));
    let file = files.create(&fresh)?;
    file.write_at(format!("{epoch}\n").as_bytes(), 0)?;
    file.sync()?;
    files.rename(&fresh, &path)?;
    files.sync_directory(directory)
}
