//! Writes rows at the ends of their chains, one write for what comes at once; closes segments that are full or old enough.
//!
//! A write that fails takes its own rows with it and nothing else: what it left of itself is cut off, and a new segment is begun.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::log::{Kind, StoreError, Unwritten, brief, monday};
use super::super::rows::{Mark, Rows};
use super::chain::{CHAINS, Chain};
use super::index::{BLOCKS, Index};
use super::segment::{self, HEAD, Name, Segment};
use super::{Inner, Kept, frame, is_erased};
use crate::clock::Millis;

/// After so long what was written is made durable.
const DURABLE: Duration = Duration::from_secs(5);
/// Segments that are made durable in one step.
const AT_ONCE: usize = 16;
/// Names that are tried for a new segment, where others are taken.
const TRIES: u32 = 16;
/// Memory that is kept between two batches.
const SPARE: usize = 1 << 20;

/// What only the one who writes knows.
#[derive(Debug)]
pub(super) struct Writer {
    /// By chain, the segment that is written.
    pub(super) open: Vec<Option<Open>>,
    /// The number of the next segment.
    next: u64,
    bytes: Vec<u8>,
    order: Vec<u32>,
}

/// A segment that is written.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) segment: Arc<Segment>,
    file: File,
    /// Where the next row goes.
    at: u64,
    /// By the time of day, and by time that passes.
    begun: (Millis, Instant),
    /// Since when there is something in it that is not durable.
    dirty: Option<Instant>,
}

impl Writer {
    pub(super) fn new(next: u64) -> Self {
        let open = std::iter::repeat_with(|| None).take(CHAINS).collect();
        Self { open, next, bytes: Vec::new(), order: Vec::new() }
    }
}

impl Open {
    /// Whether it has to be closed, so that its rows can be removed in time.
    pub(super) fn is_due(&self, now: Millis, longest: Duration) -> bool {
        let (at, passed) = self.begun;
        passed.elapsed() >= longest || (self.segment.name.chain.kind() == Kind::Sandbox && at < monday(now))
    }
}

#[cfg(test)]
impl Open {
    /// Has its file take nothing more.
    pub(super) fn spoil(&mut self, path: &std::path::Path) {
        self.file = File::open(path).unwrap();
    }
}

impl Inner {
    pub(super) fn add(&self, rows: &Rows, now: Millis) -> Result<(), Unwritten> {
        let writer = &mut *self.writer();
        let mut order = std::mem::take(&mut writer.order);
        order.clear();
        let erased = self.state().erased.clone();
        let monday = monday(now).0;
        // What comes when it would have to go already: its org was erased, or its week is over.
        let is_late = |mark: &Mark| {
            let row = || brief(rows.framed(mark).get(frame::HEAD..)?);
            mark.chain.kind() == Kind::Sandbox && mark.begun < monday
                || !erased.is_empty() && row().is_some_and(|row| is_erased(&erased, &row))
        };
        order.extend((0..).zip(&rows.marks).filter(|(_, mark)| !is_late(mark)).map(|(nth, _)| nth));
        let mark = |nth: &u32| &rows.marks[*nth as usize];
        order.sort_by_key(|nth| mark(nth).chain);
        let mut unwritten: Option<Unwritten> = None;
        for run in order.chunk_by(|one, other| mark(one).chain == mark(other).chain) {
            let Err((lost, error)) = self.put(writer, rows, run, now) else { continue };
            let before = unwritten.map_or(0, |unwritten| unwritten.rows);
            unwritten = Some(Unwritten { rows: before + lost as u64, error: StoreError(error.into()) });
        }
        order.shrink_to(SPARE);
        writer.order = order;
        writer.bytes.shrink_to(SPARE);
        unwritten.map_or(Ok(()), Err)
    }

    /// Puts rows of one chain at its end; how many could not be, and why.
    fn put(&self, writer: &mut Writer, rows: &Rows, mut run: &[u32], now: Millis) -> Result<(), (usize, io::Error)> {
        let mark = |nth: &u32| &rows.marks[*nth as usize];
        let mut unclosed = None;
        while let Some(chain) = run.first().map(|nth| mark(nth).chain) {
            let failed = |error| (run.len(), error);
            unclosed = self.begin(writer, chain, now).map_err(failed)?.or(unclosed);
            let Writer { open, bytes, .. } = &mut *writer;
            // Begun above.
            let Some(open) = &mut open[chain.index()] else { return Ok(()) };
            bytes.clear();
            let is_room = |bytes: &Vec<u8>| bytes.is_empty() || open.at + (bytes.len() as u64) < u64::from(self.size);
            let mut taken = 0;
            while let Some(nth) = run.get(taken).filter(|_| is_room(bytes)) {
                bytes.extend_from_slice(rows.framed(mark(nth)));
                taken += 1;
            }
            let written = open.file.write_all_at(bytes, open.at);
            if let Err(error) = written {
                // Rows behind half of one would be found, but whoever reads had to look for them.
                let _ = open.file.set_len(open.at);
                writer.open[chain.index()] = None;
                return Err((run.len(), error));
            }
            let (done, rest) = run.split_at(taken);
            let mut index = open.segment.index();
            let mut at = open.at as u32;
            for nth in done {
                index.add(at, mark(nth), self.size / BLOCKS);
                at += mark(nth).length;
            }
            drop(index);
            open.at = u64::from(at);
            open.dirty.get_or_insert_with(Instant::now);
            self.state().grow(open.segment.name, bytes.len() as u64);
            run = rest;
            if open.at >= u64::from(self.size) {
                // Its rows are there all the same.
                unclosed = self.close(writer, chain).err().or(unclosed);
            }
        }
        unclosed.map_or(Ok(()), |error| Err((0, error)))
    }

    /// Has a segment of this chain open; why the one before could not be closed, where it could not.
    fn begin(&self, writer: &mut Writer, chain: Chain, now: Millis) -> io::Result<Option<io::Error>> {
        let is_due = writer.open[chain.index()].as_ref().is_some_and(|open| open.is_due(now, self.longest));
        // Its rows are there all the same, and new ones go into another.
        let unclosed = if is_due { self.close(writer, chain).err() } else { None };
        if writer.open[chain.index()].is_some() {
            return Ok(unclosed);
        }
        let mut tries = 0;
        let (name, file) = loop {
            let name = Name { chain, number: writer.next, is_sorted: false };
            writer.next = writer.next.saturating_add(1);
            match segment::create(&name.path(&self.directory)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < TRIES => tries += 1,
                made => break (name, made?),
            }
        };
        if let Err(error) = file.write_all_at(&segment::head(name), 0) {
            let _ = std::fs::remove_file(name.path(&self.directory));
            return Err(error);
        }
        let segment = Arc::new(Segment::new(name, Index::new(HEAD as u32)));
        self.state().insert(Kept { segment: segment.clone(), bytes: HEAD as u64 });
        let (at, begun) = (HEAD as u64, (now, Instant::now()));
        writer.open[chain.index()] = Some(Open { segment, file, at, begun, dirty: None });
        Ok(unclosed)
    }

    /// Closes the segment of this chain: with its index, durably, and in order where it is worth it.
    pub(super) fn close(&self, writer: &mut Writer, chain: Chain) -> io::Result<()> {
        let Some(open) = writer.open[chain.index()].take() else { return Ok(()) };
        let mut end = Vec::new();
        {
            let mut index = open.segment.index();
            index.close();
            index.write(&mut end);
        }
        open.file.write_all_at(&end, open.at)?;
        self.state().grow(open.segment.name, end.len() as u64);
        open.file.sync_data()?;
        if open.segment.is_mixed() && self.room.is_there() {
            self.sort(&open)?;
        }
        Ok(())
    }

    /// Puts the rows of a closed segment in the order of their requests, in another file that takes its place.
    fn sort(&self, open: &Open) -> io::Result<()> {
        let name = Name { is_sorted: true, ..open.segment.name };
        let mut bytes = vec![0; (open.at as usize).saturating_sub(HEAD)];
        open.file.read_exact_at(&mut bytes, HEAD as u64)?;
        let mut rows: Vec<_> = frame::rows(&bytes).filter_map(|(at, row)| Some((brief(row)?, at, row.len()))).collect();
        let erased = self.state().erased.clone();
        rows.retain(|(brief, ..)| !is_erased(&erased, brief));
        rows.sort_by_key(|(brief, ..)| brief.request);
        let mut sorted = segment::head(name).to_vec();
        let mut index = Index::new(HEAD as u32);
        for (brief, at, length) in rows {
            let framed = &bytes[at..at + frame::HEAD + length];
            let mark = Mark::of(&brief, name.chain, framed.len());
            index.add(sorted.len() as u32, &mark, self.size / BLOCKS);
            sorted.extend_from_slice(framed);
        }
        index.close();
        index.write(&mut sorted);
        let path = name.path(&self.directory);
        let half = self.directory.join(format!("{}{}", name.text(), segment::HALF));
        let _ = std::fs::remove_file(&half);
        // Had before anything is moved: what is in its place on the disk must be so in memory, for whoever erases.
        let directory = File::open(&self.directory)?;
        let file = segment::create(&half)?;
        let placed =
            file.write_all_at(&sorted, 0).and_then(|()| file.sync_data()).and_then(|()| std::fs::rename(&half, &path));
        placed.inspect_err(|_| drop(std::fs::remove_file(&half)))?;
        let kept = Kept { segment: Arc::new(Segment::new(name, index)), bytes: sorted.len() as u64 };
        self.state().insert(kept);
        // Before the other one goes: where both are there after a loss of power, this one counts.
        directory.sync_all()?;
        let removed = std::fs::remove_file(open.segment.name.path(&self.directory));
        // One that stays holds nothing: nobody knows of it, and it would not be erased.
        removed.inspect_err(|_| drop(open.file.set_len(0)))
    }

    /// Makes durable some of what was written a while ago, the longest first.
    pub(super) fn settle(&self) -> io::Result<()> {
        let writer = &mut *self.writer();
        let is_due = |open: &&mut Open| open.dirty.is_some_and(|since| since.elapsed() >= DURABLE);
        let mut due: Vec<&mut Open> = writer.open.iter_mut().flatten().filter(is_due).collect();
        due.sort_by_key(|open| open.dirty);
        due.into_iter().take(AT_ONCE).try_for_each(|open| {
            // Whether or not it works: a disk that does not is not asked again at once.
            open.dirty = None;
            open.file.sync_data()
        })
    }
}
