//! The request log in one tree of sled.
//!
//! A key is kind, org and the request's number, which begins with its time: so each org has its rows in their order, and no page
//! looks at rows of others. A page over all orgs merges theirs. Sums of bytes are written with the rows that change them.

use std::collections::{BTreeMap, BinaryHeap, HashSet};
use std::fmt;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sled::{Batch, IVec, Tree};

use super::log::{Bounds, Entry, Filter, Kind, Page, Pending, RequestLog, Row, StoreError, begun, first_at, monday};
use crate::clock::Millis;
use crate::data::{DataDirectory, Failure, Room};

/// Rows that are looked at for one page, at most.
const MOST_LOOKED_AT: usize = 20_000;
/// Each of the bounded kinds has this part of the bytes at most.
const PART: u64 = 4;
/// How many kinds there are.
const KINDS: usize = Kind::ALL.len();
/// Where the sums are: behind all rows.
const SUMS: [u8; 1] = [0xff];
/// Bytes of a key.
const KEY: usize = 33;
/// Rows of an erased org that go at once.
const ERASED_AT_ONCE: usize = 2_000;
/// Between two looks at what is too old.
const LOOK: Duration = Duration::from_secs(30);
/// By so much the time of day may run away from time that passed between two of them, before it is not believed.
const RUNAWAY: Duration = Duration::from_secs(3600);
/// The longest bit of time that goes at once where there are too many bytes, whatever time of day it is.
const LONGEST_CUT: Duration = Duration::from_secs(12 * 3600);

/// Kind and org.
type Group = [u8; 17];

/// The request log in a tree of its own.
#[derive(Clone)]
pub struct SledLog {
    tree: Tree,
    room: Room,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes by kind.
    sums: [u64; KINDS],
    /// All groups with their oldest rows, so that a step need not look through those that are not concerned.
    oldest: BTreeMap<Group, u128>,
    /// What is to be removed: rows of these kinds that began before that.
    due: Vec<(Kind, Millis)>,
    /// The last look at what is too old: by time that passed, and by the time of day.
    looked: Option<(Instant, Millis)>,
    /// Orgs that were erased: requests that were under way then are not kept.
    erased: HashSet<u128>,
}

impl State {
    /// The groups of one kind.
    fn of(&self, kind: Kind) -> impl Iterator<Item = (&Group, &u128)> {
        self.oldest.range(group(kind, 0)..=group(kind, u128::MAX))
    }

    /// Whether to look at what is too old now: from time to time, and only by a time of day that can be believed. One jump of the clock
    /// would take the whole log with it.
    fn is_time(&mut self, now: Millis) -> bool {
        let Some((at, then)) = self.looked else {
            self.looked = Some((Instant::now(), now));
            return true;
        };
        let passed = at.elapsed();
        if passed < LOOK {
            return false;
        }
        self.looked = Some((Instant::now(), now));
        let off = now.0.abs_diff(then.plus(passed).0);
        let is_off = u128::from(off) > RUNAWAY.as_millis();
        if is_off {
            tracing::warn!(
                "the clock was set: {now} is {} s from what it should be; nothing is too old for the request log until the next look",
                off / 1000
            );
        }
        !is_off
    }
}

impl fmt::Debug for SledLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SledLog")
    }
}

impl SledLog {
    /// On the database of a data directory.
    ///
    /// # Errors
    /// Those of the database.
    pub fn open(data: &DataDirectory) -> Result<Self, Failure> {
        Ok(Self::new(data.database().tree("requests")?, Room::of(data.path().to_owned()))?)
    }

    fn new(tree: Tree, room: Room) -> sled::Result<Self> {
        let sums = tree.get(SUMS)?.and_then(|value| read_sums(&value));
        let sums = match sums {
            Some(sums) => sums,
            // Of a store that has none, others, or damaged ones: counted once.
            None => counted(&tree)?,
        };
        let mut oldest = BTreeMap::new();
        while let Some((group, request)) = first_after(&tree, oldest.last_key_value().map(|(group, _)| group))? {
            oldest.insert(group, request);
        }
        Ok(Self { tree, room, state: Arc::new(Mutex::new(State { sums, oldest, ..State::default() })) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Its parts are whole after each change, whatever their holder was interrupted in.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All groups of some kinds, in their order.
    fn groups(&self, kinds: &[Kind]) -> Vec<Group> {
        let state = self.state();
        kinds.iter().flat_map(|kind| state.of(*kind)).map(|(group, _)| *group).collect()
    }

    fn page_now(&self, filter: &Filter, before: Option<u128>, limit: usize) -> sled::Result<Page> {
        let kinds: &[Kind] = match (filter.org, filter.sandbox) {
            (_, true) => &[Kind::Sandbox],
            (Some(_), false) => &[Kind::Live, Kind::Sandbox, Kind::Refused],
            (None, false) => &Kind::ALL,
        };
        let groups = match filter.org {
            Some(org) => kinds.iter().map(|kind| group(*kind, org)).collect(),
            None => self.groups(kinds),
        };
        let (first, end) = filter.span(before);
        let mut rows: Vec<_> = groups
            .iter()
            .map(|group| {
                let (first, end) = (key(group, first), key(group, end));
                // An end before the beginning would be a mistake to sled.
                (first < end).then(|| self.tree.range((Included(first), Excluded(end))).rev())
            })
            .collect();
        let mut newest = BinaryHeap::new();
        let mut step = |group: usize, newest: &mut BinaryHeap<(u128, usize, IVec)>| -> sled::Result<()> {
            let next = rows[group].as_mut().and_then(Iterator::next).transpose()?;
            newest.extend(next.and_then(|(key, value)| Some((number(&key)?, group, value))));
            Ok(())
        };
        (0..groups.len()).try_for_each(|group| step(group, &mut newest))?;
        let mut page = Page::default();
        let (mut looked_at, mut last) = (0, None);
        while let Some((request, group, value)) = newest.pop() {
            if page.rows.len() == limit || looked_at == MOST_LOOKED_AT {
                page.next = last;
                break;
            }
            (looked_at, last) = (looked_at + 1, Some(request));
            // One that cannot be read tells nothing, and holds up nothing.
            if Entry::read(&value).is_some_and(|entry| filter.fits(&entry)) {
                page.rows.push(value.to_vec());
            }
            step(group, &mut newest)?;
        }
        Ok(page)
    }

    /// What is beyond the bounds now.
    fn look(state: &mut State, bounds: Bounds, now: Millis) {
        let too_old = Millis(now.0.saturating_sub(u64::try_from(bounds.age.as_millis()).unwrap_or(u64::MAX)));
        if state.is_time(now) {
            state.due.extend(Kind::ALL.map(|kind| (kind, too_old)));
            state.due.push((Kind::Sandbox, monday(now)));
        }
        let sum: u64 = state.sums.iter().sum();
        let beyond = Kind::BOUNDED.iter().find(|kind| state.sums[**kind as usize] > bounds.bytes / PART);
        let kinds: &[Kind] = match beyond {
            Some(kind) => std::slice::from_ref(kind),
            None if sum > bounds.bytes => &Kind::ALL,
            None => return,
        };
        let Some(oldest) = kinds.iter().flat_map(|kind| state.of(*kind)).map(|(_, oldest)| *oldest).min() else {
            // Sums of rows that are not there would be looked for again and again.
            kinds.iter().for_each(|kind| state.sums[*kind as usize] = 0);
            return;
        };
        // A bit of all the time that there is, so that it is not looked for again at once.
        let oldest = begun(oldest);
        let cut = oldest.plus((now.since(oldest) / 64).min(LONGEST_CUT) + Duration::from_millis(1));
        state.due.extend(kinds.iter().map(|kind| (*kind, cut)));
    }

    /// Removes the first rows of a group; how many.
    fn erase_some(&self, group: &Group) -> sled::Result<u64> {
        let mut state = self.state();
        let (mut batch, mut sums, mut found) = (Batch::default(), state.sums, 0);
        for row in self.tree.range(key(group, 0)..=key(group, u128::MAX)).take(ERASED_AT_ONCE) {
            let (key, value) = row?;
            if let Some(sum) = sums.get_mut(usize::from(group[0])) {
                *sum = sum.saturating_sub((key.len() + value.len()) as u64);
            }
            batch.remove(key);
            found += 1;
        }
        if found == 0 {
            state.oldest.remove(group);
            return Ok(0);
        }
        batch.insert(&SUMS, written_sums(sums));
        self.tree.apply_batch(batch)?;
        state.sums = sums;
        Ok(found)
    }

    fn forget_now(&self, bounds: Bounds, now: Millis, most: usize) -> sled::Result<bool> {
        let mut state = self.state();
        let mut left = most;
        loop {
            if state.due.is_empty() {
                Self::look(&mut state, bounds, now);
            }
            let Some((kind, before)) = state.due.last().copied() else { return Ok(false) };
            let mut batch = Batch::default();
            let mut sums = state.sums;
            let (mut found, mut touched) = (0, Vec::new());
            for (group, _) in state.of(kind).filter(|(_, oldest)| **oldest < first_at(before)) {
                touched.push(*group);
                for row in self.tree.range(key(group, 0)..key(group, first_at(before))).take(left - found) {
                    let (key, value) = row?;
                    let sum = &mut sums[kind as usize];
                    *sum = sum.saturating_sub((key.len() + value.len()) as u64);
                    batch.remove(key);
                    found += 1;
                }
                if found == left {
                    break;
                }
            }
            if found > 0 {
                batch.insert(&SUMS, written_sums(sums));
                self.tree.apply_batch(batch)?;
                state.sums = sums;
            }
            for group in touched {
                let first = self.tree.range(key(&group, 0)..=key(&group, u128::MAX)).keys().next().transpose()?;
                match first.and_then(|key| number(&key)) {
                    Some(first) => state.oldest.insert(group, first),
                    None => state.oldest.remove(&group),
                };
            }
            left -= found;
            if left == 0 {
                return Ok(true);
            }
            state.due.pop();
        }
    }
}

impl RequestLog for SledLog {
    fn add(&self, rows: &[Row]) -> Result<(), StoreError> {
        let mut state = self.state();
        let (mut batch, mut sums) = (Batch::default(), state.sums);
        let kept = |row: &&Row| row.org == 0 || !state.erased.contains(&row.org);
        let rows: Vec<&Row> = rows.iter().filter(kept).collect();
        for row in &rows {
            sums[row.kind as usize] += (KEY + row.value.len()) as u64;
            batch.insert(&key(&group(row.kind, row.org), row.request)[..], row.value.as_slice());
        }
        batch.insert(&SUMS, written_sums(sums));
        self.tree.apply_batch(batch).map_err(broken)?;
        state.sums = sums;
        for row in rows {
            let oldest = state.oldest.entry(group(row.kind, row.org)).or_insert(row.request);
            *oldest = row.request.min(*oldest);
        }
        Ok(())
    }

    fn forget(&self, bounds: Bounds, now: Millis, most: usize) -> Result<bool, StoreError> {
        self.forget_now(bounds, now, most).map_err(broken)
    }

    fn erase(&self, org: u128) -> Result<u64, StoreError> {
        self.state().erased.insert(org);
        let mut erased = 0;
        for group in Kind::ALL.map(|kind| group(kind, org)) {
            loop {
                match self.erase_some(&group).map_err(broken)? {
                    0 => break,
                    some => erased += some,
                }
            }
        }
        self.tree.flush().map_err(broken)?;
        Ok(erased)
    }

    fn bytes(&self) -> u64 {
        self.state().sums.iter().sum()
    }

    fn has_room(&self) -> bool {
        self.room.is_there()
    }

    fn page(&self, filter: Filter, before: Option<u128>, limit: usize) -> Pending<'_, Page> {
        let log = self.clone();
        Box::pin(async move {
            let found = tokio::task::spawn_blocking(move || log.page_now(&filter, before, limit)).await;
            found.map_err(|error| StoreError(error.into()))?.map_err(broken)
        })
    }
}

fn broken(error: sled::Error) -> StoreError {
    StoreError(error.into())
}

fn group(kind: Kind, org: u128) -> Group {
    let mut group = [kind as u8; 17];
    group[1..].copy_from_slice(&org.to_be_bytes());
    group
}

fn key(group: &Group, request: u128) -> [u8; KEY] {
    let mut key = [0; KEY];
    key[..17].copy_from_slice(group);
    key[17..].copy_from_slice(&request.to_be_bytes());
    key
}

fn number(key: &[u8]) -> Option<u128> {
    Some(u128::from_be_bytes(key.get(17..)?.try_into().ok()?))
}

/// The first row of the group after this one, or of all.
fn first_after(tree: &Tree, group: Option<&Group>) -> sled::Result<Option<(Group, u128)>> {
    let last = group.map(|group| key(group, u128::MAX));
    let from = last.as_ref().map_or(Unbounded, |last| Excluded(&last[..]));
    let next = tree.range::<&[u8], _>((from, Excluded(&SUMS[..]))).keys().next().transpose()?;
    Ok(next.and_then(|key| Some((*key.first_chunk()?, number(&key).unwrap_or_default()))))
}

fn written_sums(sums: [u64; KINDS]) -> Vec<u8> {
    sums.iter().flat_map(|sum| sum.to_be_bytes()).collect()
}

fn read_sums(value: &[u8]) -> Option<[u64; KINDS]> {
    let (numbers, rest) = value.as_chunks::<8>();
    let numbers: [[u8; 8]; KINDS] = numbers.try_into().ok().filter(|_| rest.is_empty())?;
    Some(numbers.map(u64::from_be_bytes))
}

fn counted(tree: &Tree) -> sled::Result<[u64; KINDS]> {
    let mut sums = [0; KINDS];
    for row in tree.range::<&[u8], _>(..&SUMS[..]) {
        let (key, value) = row?;
        if let Some(sum) = key.first().and_then(|kind| sums.get_mut(usize::from(*kind))) {
            *sum += (key.len() + value.len()) as u64;
        }
    }
    Ok(sums)
}

#[cfg(test)]
impl SledLog {
    /// In a database of its own.
    fn open_at(directory: &std::path::Path) -> Self {
        let database = sled::Config::new().path(directory).cache_capacity(1 << 20).open().unwrap();
        Self::new(database.open_tree("requests").unwrap(), Room::of(directory.to_owned())).unwrap()
    }
}

#[cfg(test)]
mod tests;
