//! The spaces over a table of rows: what they hold, counted in memory, and their quotas.
//!
//! One writer at a time in each space, so quotas are exact. Whatever fails half-way, the count is brought back to what the table
//! says before the next write: see [`Doubt`]. Blocks; never called on a runtime's own thread.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::row::{self, Written};
use super::{Entry, Error, Failure, Held};
use crate::clock::Millis;
use crate::config::StoreGrant;

/// Expired entries that are removed before others get their turn in the space.
const SLICE: usize = 64;
/// Slices that one `set` removes to make room.
const SLICES: usize = 16;

/// A table of rows, in the order of their keys.
pub(super) trait Rows: Send + Sync + 'static {
    /// The row under a key.
    fn get(&self, key: &[u8]) -> Result<Option<impl AsRef<[u8]>>, Failure>;
    /// Writes a row.
    fn insert(&self, key: &[u8], row: Vec<u8>) -> Result<(), Failure>;
    /// Removes a row, if there is one.
    fn remove(&self, key: &[u8]) -> Result<(), Failure>;
    /// Shows all rows from one key to before another (`None`: to the end), until it has seen enough.
    fn scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        see: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Failure>;
    /// Moves a damaged row out of the way, where it can be looked at.
    fn set_aside(&self, key: &[u8]) -> Result<(), Failure>;
}

/// All spaces.
#[derive(Debug)]
pub(super) struct Spaces<R> {
    rows: R,
    known: RwLock<BTreeMap<Arc<str>, Arc<Space>>>,
}

/// What is known of one space. Counts change only under the lock of its writer.
#[derive(Debug, Default)]
struct Space {
    writer: Mutex<Option<Doubt>>,
    entries: AtomicU64,
    bytes: AtomicU64,
}

/// A write that has begun: until it is known to have happened, only the table can say whether it did.
#[derive(Debug)]
struct Doubt {
    key: String,
    /// What is counted for the key.
    counted: Option<u64>,
}

/// The one who may write to a space.
struct Writer<'a, R> {
    rows: &'a R,
    name: &'a str,
    space: &'a Space,
    doubt: MutexGuard<'a, Option<Doubt>>,
}

impl<R: Rows> Spaces<R> {
    /// Counts what is there.
    pub(super) fn open(rows: R) -> Result<Self, Failure> {
        let mut known: BTreeMap<Arc<str>, Space> = BTreeMap::new();
        let (mut damaged, mut lost) = (Vec::new(), Vec::new());
        rows.scan(&[], None, |key, value| {
            // Pointers come first, and tell of spaces that may hold nothing any more.
            let pointer = key.first() == Some(&0);
            let found = match pointer {
                true => row::read_pointer(key).map(|(space, ..)| (space, None)),
                false => row::read_place(key)
                    .and_then(|(space, key)| Some((space, Some(row::read_row(key, value)?.0.bytes)))),
            };
            match found {
                Some((space, bytes)) => match known.get(space) {
                    Some(space) => space.count(None, bytes),
                    None => known.entry(space.into()).or_default().count(None, bytes),
                },
                None if pointer => lost.push(key.to_vec()),
                None => damaged.push(key.to_vec()),
            }
            ControlFlow::Continue(())
        })?;
        lost.iter().try_for_each(|pointer| rows.remove(pointer))?;
        damaged.iter().try_for_each(|key| rows.set_aside(key))?;
        let known = known.into_iter().map(|(name, space)| (name, Arc::new(space))).collect();
        Ok(Self { rows, known: RwLock::new(known) })
    }

    /// The value under a key, if it has not expired.
    pub(super) fn get(&self, space: &str, key: &str, now: Millis) -> Result<Option<Vec<u8>>, Error> {
        let place = row::place(space, key);
        let Some(row) = self.rows.get(&place).map_err(Error::Unavailable)? else { return Ok(None) };
        let Some((written, value)) = row::read_row(key, row.as_ref()) else {
            let known = self.space(space);
            // Somebody may have replaced it meanwhile; then that is the answer of another moment, and none is one too.
            self.writer(space, &known)?.find(key)?;
            return Ok(None);
        };
        let gone = written.expires.is_some_and(|at| at <= now);
        Ok((!gone).then(|| value.to_vec()))
    }

    /// Sets a value, within the grant.
    pub(super) fn set(&self, grant: &StoreGrant, key: &str, entry: &Entry, now: Millis) -> Result<(), Error> {
        let (space, known) = (&grant.space, self.space(&grant.space));
        let mut writer = self.writer(space, &known)?;
        let size = row::size(key, &entry.value);
        let mut slices = 0..SLICES;
        let old = loop {
            // Read again after each slice: it may be one of those that went.
            let old = writer.find(key)?;
            if known.has_room(grant, old, size) {
                break old;
            }
            if slices.next().is_none() || writer.sweep(now)? == 0 {
                return Err(Error::QuotaExceeded);
            }
        };
        if let Some(at) = entry.expires {
            // First, since one log keeps the order: no row that expires is there without it, whenever the power goes.
            self.rows.insert(&row::pointer(space, at, key), Vec::new()).map_err(Error::Unavailable)?;
        }
        writer.write(key, old, Some((entry, size)))
    }

    /// Removes a key.
    pub(super) fn remove(&self, space: &str, key: &str) -> Result<(), Error> {
        let known = self.space(space);
        let mut writer = self.writer(space, &known)?;
        match writer.find(key)? {
            Some(old) => writer.write(key, Some(old), None),
            None => Ok(()),
        }
    }

    /// Removes a slice of what has expired in a space; tells how many it removed, and whether there may be more.
    pub(super) fn sweep(&self, space: &str, now: Millis) -> Result<(u64, bool), Error> {
        let known = self.space(space);
        let mut writer = self.writer(space, &known)?;
        let before = known.held().entries;
        let seen = writer.sweep(now)?;
        Ok((before.saturating_sub(known.held().entries), seen == SLICE))
    }

    /// What the spaces hold.
    pub(super) fn held(&self) -> BTreeMap<Arc<str>, Held> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|(name, space)| (name.clone(), space.held())).collect()
    }

    fn space(&self, name: &str) -> Arc<Space> {
        if let Some(space) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return space.clone();
        }
        self.known.write().unwrap_or_else(PoisonError::into_inner).entry(name.into()).or_default().clone()
    }

    /// Waits for the turn to write, and clears up what a write before left open.
    fn writer<'a>(&'a self, name: &'a str, space: &'a Space) -> Result<Writer<'a, R>, Error> {
        let doubt = space.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut writer = Writer { rows: &self.rows, name, space, doubt };
        if let Some(Doubt { key, counted }) = &*writer.doubt {
            let (key, counted) = (key.clone(), *counted);
            // A damaged row ends in a count of all.
            if let Some(found) = writer.look(&key)? {
                space.count(counted, found.map(|written| written.bytes));
            }
            *writer.doubt = None;
        }
        Ok(writer)
    }
}

impl<R: Rows> Writer<'_, R> {
    /// What is under a key; a damaged row is none.
    fn find(&mut self, key: &str) -> Result<Option<Written>, Error> {
        Ok(self.look(key)?.flatten())
    }

    /// What is under a key; none where that was damaged, and so everything was counted again.
    fn look(&mut self, key: &str) -> Result<Option<Option<Written>>, Error> {
        let place = row::place(self.name, key);
        let Some(found) = self.rows.get(&place).map_err(Error::Unavailable)? else { return Ok(Some(None)) };
        match row::read_row(key, found.as_ref()) {
            Some((written, _)) => Ok(Some(Some(written))),
            None => {
                self.recount().map_err(Error::Unavailable)?;
                Ok(None)
            }
        }
    }

    /// Replaces what is under a key, and counts it.
    fn write(&mut self, key: &str, old: Option<Written>, new: Option<(&Entry, u64)>) -> Result<(), Error> {
        let (place, counted) = (row::place(self.name, key), old.map(|old| old.bytes));
        *self.doubt = Some(Doubt { key: key.to_owned(), counted });
        match new {
            Some((entry, _)) => self.rows.insert(&place, row::row(entry)),
            None => self.rows.remove(&place),
        }
        .map_err(Error::Unavailable)?;
        self.space.count(counted, new.map(|(_, size)| size));
        *self.doubt = None;
        if let Some(at) = old.and_then(|old| old.expires).filter(|at| new.and_then(|(new, _)| new.expires) != Some(*at))
        {
            // Only tidiness: one that is left behind leads to nothing, and goes with the sweep.
            let _ = self.rows.remove(&row::pointer(self.name, at, key));
        }
        Ok(())
    }

    /// Removes at most a slice of what has expired; tells how many pointers it followed.
    fn sweep(&mut self, now: Millis) -> Result<usize, Error> {
        let (from, to) = row::expired(self.name, now);
        let mut pointers = Vec::new();
        let see = |pointer: &[u8], _: &[u8]| {
            pointers.push(pointer.to_vec());
            if pointers.len() < SLICE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        self.rows.scan(&from, Some(&to), see).map_err(Error::Unavailable)?;
        for pointer in &pointers {
            if let Some((_, at, key)) = row::read_pointer(pointer)
                && let Some(old) = self.find(key)?.filter(|old| old.expires == Some(at))
            {
                self.write(key, Some(old), None)?;
            }
            self.rows.remove(pointer).map_err(Error::Unavailable)?;
        }
        Ok(pointers.len())
    }

    /// Counts the whole space anew; what is damaged is set aside.
    fn recount(&self) -> Result<(), Failure> {
        let (from, to) = row::rows(self.name);
        let (fresh, mut damaged) = (Space::default(), Vec::new());
        self.rows.scan(&from, Some(&to), |place, value| {
            let found = row::read_place(place).and_then(|(_, key)| row::read_row(key, value));
            match found {
                Some((written, _)) => fresh.count(None, Some(written.bytes)),
                None => damaged.push(place.to_vec()),
            }
            ControlFlow::Continue(())
        })?;
        // Right from here on, whether or not what is damaged can be moved.
        let Held { entries, bytes } = fresh.held();
        self.space.entries.store(entries, Ordering::Relaxed);
        self.space.bytes.store(bytes, Ordering::Relaxed);
        damaged.iter().try_for_each(|place| self.rows.set_aside(place))
    }
}

impl Space {
    fn held(&self) -> Held {
        Held { entries: self.entries.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }

    /// Replaces what is counted for one key.
    fn count(&self, old: Option<u64>, new: Option<u64>) {
        let held = self.held();
        let entries = (held.entries + u64::from(new.is_some())).saturating_sub(old.is_some().into());
        let bytes = held.bytes.saturating_add(new.unwrap_or(0)).saturating_sub(old.unwrap_or(0));
        self.entries.store(entries, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Whether an entry of this size may take the place of the old one: within the grant, or, where a grant was lowered,
    /// at least no more than before.
    fn has_room(&self, grant: &StoreGrant, old: Option<Written>, size: u64) -> bool {
        let held = self.held();
        let entries = if old.is_some() { held.entries } else { held.entries.saturating_add(1) };
        let bytes = held.bytes.saturating_sub(old.map_or(0, |old| old.bytes)).saturating_add(size);
        let granted = u64::try_from(grant.bytes).unwrap_or(u64::MAX);
        (entries <= grant.entries || entries <= held.entries) && (bytes <= granted || bytes <= held.bytes)
    }
}
