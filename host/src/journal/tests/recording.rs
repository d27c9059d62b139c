//! Files in memory that remember every write and every sync, and can be brought into each state in which a loss of power may
//! leave a real disk.
//!
//! What was synced is there. Of what was not, each piece of 512 bytes holds what some number of the writes to it left,
//! whatever the others hold; of names that were made, moved or removed in a directory, the first so many.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::super::files::{File, Files, Pages};
use crate::usage::{Mark, Record};

const PIECE: usize = 512;

/// What happened, in order.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Create(PathBuf, usize),
    Write(usize, usize, Vec<u8>),
    Sync(usize),
    /// Did not become durable; the next sync takes it for written nevertheless.
    FailedSync(usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncDirectory(PathBuf),
    /// The usage store was given this, in one step.
    Add(Vec<Record>, Vec<Mark>),
    /// What the usage store was given before is durable.
    Flush,
}

#[derive(Debug, Default, Clone)]
struct State {
    names: BTreeMap<PathBuf, usize>,
    directories: BTreeSet<PathBuf>,
    files: Vec<Vec<u8>>,
    log: Vec<Op>,
    /// Bytes that there is still space for, where there is an end to it.
    space: Option<usize>,
    faults: Faults,
}

/// What does not work.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Faults {
    /// Nothing is made durable.
    pub(super) syncs: bool,
    /// Nothing is written over what is there.
    pub(super) overwrites: bool,
    /// No file can be written through memory.
    pub(super) pages: bool,
    /// The names in a directory are not made durable.
    pub(super) directories: bool,
}

/// The files.
#[derive(Debug, Default, Clone)]
pub(super) struct Recording(Arc<Mutex<State>>);

#[derive(Debug)]
struct Recorded {
    of: Recording,
    file: usize,
}

/// What there is after a crash.
#[derive(Debug)]
pub(super) struct Crashed {
    pub(super) files: Recording,
    /// Additions that the usage store has.
    pub(super) store: Vec<(Vec<Record>, Vec<Mark>)>,
}

impl Recording {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(super) fn note(&self, op: Op) {
        self.state().log.push(op);
    }

    pub(super) fn log(&self) -> Vec<Op> {
        self.state().log.clone()
    }

    pub(super) fn length(&self) -> usize {
        self.state().log.len()
    }

    /// From now on there is space for so many bytes.
    pub(super) fn space(&self, bytes: Option<usize>) {
        self.state().space = bytes;
    }

    /// Changes what does not work from now on.
    pub(super) fn fail<T>(&self, change: impl FnOnce(&mut Faults) -> T) -> T {
        change(&mut self.state().faults)
    }

    pub(super) fn change(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let file = state.names[path];
        change(&mut state.files[file]);
    }

    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    /// A new start on the same files: what happened before is durable.
    pub(super) fn settled(&self) -> Self {
        let mut state = self.state().clone();
        state.log.clear();
        Self(Arc::new(Mutex::new(state)))
    }

    /// As this was `before`, after these operations; `choose(most)` says what became of each thing that was not sure:
    /// 0 for nothing, `most` for all.
    pub(super) fn crashed(&self, before: &Self, log: &[Op], mut choose: impl FnMut(usize) -> usize) -> Crashed {
        let mut state = before.state().clone();
        state.log.clear();
        (state.space, state.faults) = (None, Faults::default());
        state.directories = self.state().directories.clone();
        // Names, directory by directory: renames stand under the directory that they are from.
        let parent = |path: &Path| path.parent().unwrap().to_owned();
        let mut unsure: BTreeMap<PathBuf, usize> = BTreeMap::new();
        let mut synced: BTreeMap<PathBuf, usize> = BTreeMap::new();
        for (position, op) in log.iter().enumerate() {
            match op {
                Op::Create(path, _) | Op::Remove(path) | Op::Rename(path, _) => {
                    *unsure.entry(parent(path)).or_default() += 1
                }
                Op::SyncDirectory(path) => {
                    synced.insert(path.clone(), position);
                    unsure.remove(path);
                }
                _ => {}
            }
        }
        let mut left: BTreeMap<PathBuf, usize> = unsure.into_iter().map(|(path, most)| (path, choose(most))).collect();
        for (position, op) in log.iter().enumerate() {
            let mut happens = |path: &Path| {
                let directory = parent(path);
                synced.get(&directory).is_some_and(|at| position < *at)
                    || left.get_mut(&directory).filter(|left| **left > 0).map(|left| *left -= 1).is_some()
            };
            match op {
                Op::Create(path, file) => {
                    state.files.resize_with(state.files.len().max(file + 1), Vec::new);
                    if happens(path) {
                        state.names.insert(path.clone(), *file);
                    }
                }
                Op::Remove(path) if happens(path) => drop(state.names.remove(path)),
                Op::Rename(from, to) if happens(from) => {
                    if let Some(file) = state.names.remove(from) {
                        state.names.insert(to.clone(), file);
                    }
                }
                _ => {}
            }
        }
        for (file, bytes) in state.files.iter_mut().enumerate() {
            write_back(bytes, file, log, &mut choose);
        }
        let flushed = log.iter().rposition(|op| matches!(op, Op::Flush)).unwrap_or(0);
        let mut store = Vec::new();
        let mut more = choose(log[flushed..].iter().filter(|op| matches!(op, Op::Add(..))).count());
        for (position, op) in log.iter().enumerate() {
            if let Op::Add(records, marks) = op {
                let sure = position < flushed;
                if !sure && more == 0 {
                    break;
                }
                more -= usize::from(!sure);
                store.push((records.clone(), marks.clone()));
            }
        }
        Crashed { files: Self(Arc::new(Mutex::new(state))), store }
    }
}

/// What was written to one piece of a file.
#[derive(Default)]
struct Piece<'a> {
    writes: Vec<(usize, &'a [u8])>,
    /// How many of them are sure to be there.
    sure: usize,
    /// Whether there was any since the last sync, successful or not: the next one writes the piece only then.
    dirty: bool,
}

/// Brings the bytes of a file into one of the states that they may be in.
fn write_back(bytes: &mut Vec<u8>, file: usize, log: &[Op], choose: &mut impl FnMut(usize) -> usize) {
    let mut pieces: BTreeMap<usize, Piece<'_>> = BTreeMap::new();
    for op in log {
        match op {
            Op::Write(of, at, written) if *of == file => {
                for piece in at / PIECE..=(at + written.len() - 1) / PIECE {
                    let piece = pieces.entry(piece).or_default();
                    piece.writes.push((*at, written.as_slice()));
                    piece.dirty = true;
                }
            }
            Op::Sync(of) if *of == file => {
                for piece in pieces.values_mut().filter(|piece| piece.dirty) {
                    (piece.sure, piece.dirty) = (piece.writes.len(), false);
                }
            }
            Op::FailedSync(of) if *of == file => pieces.values_mut().for_each(|piece| piece.dirty = false),
            _ => {}
        }
    }
    for (piece, Piece { writes, sure, .. }) in pieces {
        let (first, end) = (piece * PIECE, (piece + 1) * PIECE);
        let unsure = writes.len() - sure;
        let there = sure + if unsure > 0 { choose(unsure) } else { 0 };
        for (at, written) in &writes[..there] {
            let (from, to) = ((*at).max(first), (at + written.len()).min(end));
            bytes.resize(bytes.len().max(to), 0);
            bytes[from..to].copy_from_slice(&written[from - at..to - at]);
        }
    }
}

impl State {
    fn grow(&mut self, more: usize) -> io::Result<()> {
        if let Some(space) = &mut self.space {
            *space = space.checked_sub(more).ok_or(io::ErrorKind::StorageFull)?;
        }
        Ok(())
    }

    fn unless(&self, fails: impl FnOnce(&Faults) -> bool) -> io::Result<()> {
        if fails(&self.faults) { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        Ok(*self.names.get(path).ok_or(io::ErrorKind::NotFound)?)
    }
}

impl Files for Recording {
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        self.state().directories.insert(path.to_owned());
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        if !state.directories.contains(directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let paths = state.names.keys().chain(&state.directories).filter(|path| path.parent() == Some(directory));
        Ok(paths.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state();
        Ok(state.files[state.file(path)?].clone())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        let file = state.files.len();
        state.files.push(Vec::new());
        state.names.insert(path.to_owned(), file);
        state.log.push(Op::Create(path.to_owned(), file));
        Ok(Arc::new(Recorded { of: self.clone(), file }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = self.state().file(path)?;
        Ok(Arc::new(Recorded { of: self.clone(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), file);
        state.log.push(Op::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        // A file, or in one test what cannot be read in the place of one.
        if state.names.remove(path).is_none() && !state.directories.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.log.push(Op::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.unless(|faults| faults.syncs || faults.directories)?;
        state.log.push(Op::SyncDirectory(path.to_owned()));
        Ok(())
    }

    fn has_space(&self, path: &Path) -> io::Result<bool> {
        self.state().file(path).map(|_| true)
    }

    fn maps(&self) -> bool {
        true
    }
}

impl Recorded {
    fn write(&self, bytes: &[u8], at: usize) -> io::Result<()> {
        let mut state = self.of.state();
        let before = state.files[self.file].len();
        let length = before.max(at + bytes.len());
        state.unless(|faults| faults.overwrites && length == before)?;
        state.grow(length - before)?;
        let content = &mut state.files[self.file];
        content.resize(length, 0);
        content[at..at + bytes.len()].copy_from_slice(bytes);
        state.log.push(Op::Write(self.file, at, bytes.to_vec()));
        Ok(())
    }
}

impl File for Recorded {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write(bytes, usize::try_from(at).unwrap())
    }

    fn write_again(&self, upto: usize) -> io::Result<()> {
        let bytes = self.of.state().files[self.file][..upto].to_vec();
        if bytes.is_empty() { Ok(()) } else { self.write(&bytes, 0) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.of.state();
        if state.faults.syncs {
            state.log.push(Op::FailedSync(self.file));
        }
        state.unless(|faults| faults.syncs)?;
        state.log.push(Op::Sync(self.file));
        Ok(())
    }

    fn pages(self: Arc<Self>) -> io::Result<Box<dyn Pages>> {
        self.of.state().unless(|faults| faults.pages)?;
        Ok(Box::new(ToPages(self)))
    }
}

struct ToPages(Arc<Recorded>);

impl Pages for ToPages {
    fn write(&mut self, bytes: &[u8], at: usize) -> io::Result<()> {
        self.0.write(bytes, at)
    }
}
