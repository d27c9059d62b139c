//! Rows that are asked for, newest first: block by block, from that with the newest request on.
//!
//! Rows lie about in the order in which requests ended, so a block says between which times its requests began. What was read may be
//! told as soon as nothing that was not read can be newer.

use std::collections::{BTreeMap, BinaryHeap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::super::log::{Entry, Filter, Page, brief, first_at};
use super::chain::{Chain, spread};
use super::index::Wanted;
use super::segment::Name;
use super::{Inner, frame, is_erased};
use crate::clock::Millis;

/// Rows that are looked at for one page, about, where there are so many that are not asked for.
const MOST_LOOKED_AT: usize = 20_000;
/// How often a page is begun again, where segments are put in order or removed meanwhile.
const TRIES: usize = 4;

/// A block that may have rows of a page. Ordered by how new its newest request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    /// A number that all its requests are below.
    bound: u128,
    name: Name,
    start: u32,
    end: u32,
}

/// What a page is of.
pub(super) struct Span {
    /// From this number on.
    pub(super) first: u128,
    /// To before this one.
    pub(super) end: u128,
}

impl Inner {
    pub(super) fn page(&self, filter: &Filter, span: &Span, limit: usize) -> io::Result<Page> {
        for last in (0..TRIES).rev() {
            if let Some(page) = self.try_page(filter, span, limit, last == 0)? {
                return Ok(page);
            }
        }
        Ok(Page::default())
    }

    /// None where a segment is not there any more, unless that makes no difference now.
    fn try_page(&self, filter: &Filter, span: &Span, limit: usize, is_last: bool) -> io::Result<Option<Page>> {
        let mut blocks = self.candidates(filter, span);
        let mut found: BTreeMap<u128, Vec<u8>> = BTreeMap::new();
        let (mut looked_at, mut bytes) = (0, Vec::new());
        // Below this nothing is told now.
        let mut floor = 0;
        while let Some(block) = blocks.pop() {
            // One more than is wanted says that there is a next page.
            let newest = found.iter().rev().nth(limit.saturating_sub(1)).map(|(request, _)| *request);
            if newest.is_some_and(|last| last >= block.bound) {
                floor = block.bound;
                break;
            }
            if looked_at >= MOST_LOOKED_AT && block.bound < span.end {
                floor = block.bound;
                break;
            }
            match self.read(&block, &mut bytes) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && !is_last => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
            let kind = block.name.chain.kind();
            let state = self.state();
            let (cut, erased) = (first_at(state.cut[kind as usize]), state.erased.clone());
            drop(state);
            for (_, row) in frame::rows(&bytes) {
                looked_at += 1;
                let Some(brief) = brief(row) else { continue };
                let is_within = (span.first.max(cut)..span.end).contains(&brief.request);
                let is_worth = found.len() <= limit || found.keys().next().is_some_and(|least| *least < brief.request);
                if is_within
                    && is_worth
                    && filter.may_fit(&brief)
                    && !is_erased(&erased, &brief)
                    // One that cannot be read tells nothing, and holds up nothing.
                    && Entry::read(row).is_some_and(|entry| filter.fits(&entry))
                {
                    found.insert(brief.request, row.to_vec());
                    if found.len() > limit + 1 {
                        found.pop_first();
                    }
                }
            }
        }
        let more = floor > 0 || found.len() > limit;
        let rows: Vec<_> = found.into_iter().rev().filter(|(request, _)| *request >= floor).take(limit).collect();
        let next = match rows.last() {
            Some((last, _)) if rows.len() == limit => Some(*last),
            _ => Some(floor),
        };
        Ok(Some(Page { rows: rows.into_iter().map(|(_, row)| row).collect(), next: next.filter(|_| more) }))
    }

    /// The blocks in which there may be rows of a page.
    fn candidates(&self, filter: &Filter, span: &Span) -> BinaryHeap<Candidate> {
        let org = filter.org.map(spread);
        let wanted = Wanted { org, key: filter.key.map(spread), status: filter.status };
        let chains: Vec<Chain> = match org {
            Some(org) => filter.kinds().iter().map(|kind| Chain::of(*kind, org)).collect(),
            None => filter.kinds().iter().flat_map(|kind| Chain::all(*kind)).collect(),
        };
        let mut candidates = Vec::new();
        let state = self.state();
        for chain in chains {
            let cut = first_at(state.cut[chain.kind() as usize]);
            for kept in state.chains[chain.index()].values() {
                let index = kept.segment.index();
                candidates.extend(index.blocks(&wanted).filter_map(|(block, end)| {
                    let bound = first_at(Millis(block.newest.saturating_add(1)));
                    let is_within = bound > span.first.max(cut) && first_at(Millis(block.oldest)) < span.end;
                    is_within.then_some(Candidate { bound, name: kept.segment.name, start: block.start, end })
                }));
            }
        }
        candidates.into()
    }

    /// Reads what of a block is there.
    fn read(&self, block: &Candidate, into: &mut Vec<u8>) -> io::Result<()> {
        let file = File::open(block.name.path(&self.directory))?;
        read_range(&file, block.start, block.end, into)
    }
}

/// Reads the bytes of a file from there to there, as many of them as it has.
pub(super) fn read_range(file: &File, start: u32, end: u32, into: &mut Vec<u8>) -> io::Result<()> {
    into.resize(end.saturating_sub(start) as usize, 0);
    let mut filled = 0;
    while filled < into.len() {
        match file.read_at(&mut into[filled..], u64::from(start) + filled as u64) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    into.truncate(filled);
    Ok(())
}
