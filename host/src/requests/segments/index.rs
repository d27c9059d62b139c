//! What is known of a segment without reading it: its blocks by time, and which of them an org, a key or a status may be in.
//!
//! Of a bounded size, however many orgs there are: it may name a block in vain, and never passes over one. A segment that is closed
//! has it at its end.

use bytes::{Buf, BufMut};

use super::super::log::Statuses;
use super::super::rows::Mark;

/// The most blocks of a segment: a bit for each.
pub(super) const BLOCKS: u32 = 32;
/// Places among which orgs and keys are spread while rows come.
const PLACES: usize = 1024;
/// The fewest that are left of them in the end.
const FEWEST: usize = 16;
/// First digits of statuses, 0 for none.
const CLASSES: usize = 6;
/// By so many milliseconds rows of one block may be older than those before it, before they count as mixed.
const MIXED: u64 = 1000;
const MAGIC: &[u8; 8] = b"prtcrlix";
/// Bytes at the very end, which say how long the index before them is: length, CRC-32 of index and length, and the magic.
pub(super) const END: usize = 16;

/// Rows that lie together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    /// Where it begins; it ends where the next one does.
    pub(super) start: u32,
    /// When the first of its requests began.
    pub(super) oldest: u64,
    /// When the last of them did.
    pub(super) newest: u64,
}

/// What is known of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Index {
    blocks: Vec<Block>,
    /// By place: the blocks in which there is an org or a key that was spread there.
    sieve: Vec<u32>,
    /// By the first digit of the status: the blocks in which there is one.
    classes: [u32; CLASSES],
    /// Where rows end.
    end: u32,
}

/// What of a filter an index knows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted {
    /// The org, spread.
    pub(super) org: Option<u32>,
    /// The key, spread.
    pub(super) key: Option<u32>,
    /// Statuses.
    pub(super) status: Option<Statuses>,
}

impl Index {
    /// Of a segment whose rows begin there.
    pub(super) fn new(start: u32) -> Self {
        Self { blocks: Vec::new(), sieve: vec![0; PLACES], classes: [0; CLASSES], end: start }
    }

    /// Adds a row that lies behind all others, in a block of about so many bytes.
    pub(super) fn add(&mut self, at: u32, mark: &Mark, size: u32) {
        let is_full = |block: &Block| at.saturating_sub(block.start) >= size;
        let fits = self.blocks.len() < BLOCKS as usize;
        match self.blocks.last_mut().filter(|block| !(fits && is_full(block))) {
            Some(block) => {
                block.oldest = block.oldest.min(mark.begun);
                block.newest = block.newest.max(mark.begun);
            }
            None => self.blocks.push(Block { start: at, oldest: mark.begun, newest: mark.begun }),
        }
        let bit = 1 << (self.blocks.len() - 1);
        for id in [mark.org, mark.key] {
            let place = id as usize & (self.sieve.len() - 1);
            self.sieve[place] |= bit;
        }
        self.classes[usize::from(mark.class).min(CLASSES - 1)] |= bit;
        self.end = at.saturating_add(mark.length);
    }

    /// The blocks in which there may be what is wanted, with their ends.
    pub(super) fn blocks(&self, wanted: &Wanted) -> impl Iterator<Item = (Block, u32)> {
        let place = |id: u32| self.sieve.get(id as usize & (self.sieve.len() - 1)).copied().unwrap_or(u32::MAX);
        let mut mask = u32::MAX;
        wanted.org.into_iter().chain(wanted.key).for_each(|id| mask &= place(id));
        if let Some(status) = wanted.status {
            mask &= status.classes().filter_map(|class| self.classes.get(class)).fold(0, |all, blocks| all | blocks);
        }
        let ends = self.blocks.iter().skip(1).map(|block| block.start).chain([self.end]);
        let all = self.blocks.iter().copied().zip(ends).enumerate();
        all.filter(move |(nth, _)| mask & (1 << nth) != 0).map(|(_, block)| block)
    }

    /// When the last of all requests in it began; 0 where there are none.
    pub(super) fn newest(&self) -> u64 {
        self.blocks.iter().map(|block| block.newest).max().unwrap_or_default()
    }

    /// Where rows end.
    pub(super) fn end(&self) -> u32 {
        self.end
    }

    /// Whether requests of one time lie in so many of its blocks that it is worth to put them in order.
    pub(super) fn is_mixed(&self) -> bool {
        let mut newest = 0;
        let mixed = self.blocks.iter().filter(|block| {
            let is_mixed = block.oldest.saturating_add(MIXED) < newest;
            newest = newest.max(block.newest);
            is_mixed
        });
        mixed.count() > self.blocks.len() / 8
    }

    /// As it stays: in as few places as tell its ids apart about as well.
    pub(super) fn close(&mut self) {
        let used = self.sieve.iter().filter(|blocks| **blocks != 0).count();
        while self.sieve.len() > FEWEST && self.sieve.len() / 2 >= used.saturating_mul(4) {
            let (half, rest) = self.sieve.split_at(self.sieve.len() / 2);
            self.sieve = half.iter().zip(rest).map(|(one, other)| one | other).collect();
        }
        self.blocks.shrink_to_fit();
    }

    /// Writes it, with its end.
    pub(super) fn write(&self, into: &mut Vec<u8>) {
        let start = into.len();
        into.put_u32(self.end);
        into.put_u32(self.blocks.len() as u32);
        for block in &self.blocks {
            into.put_u32(block.start);
            into.put_u64(block.oldest);
            into.put_u64(block.newest);
        }
        self.classes.iter().for_each(|blocks| into.put_u32(*blocks));
        into.put_u32(self.sieve.len() as u32);
        self.sieve.iter().for_each(|blocks| into.put_u32(*blocks));
        into.put_u32((into.len() - start) as u32);
        into.put_u32(crc32fast::hash(&into[start..]));
        into.put_slice(MAGIC);
    }

    /// How long the index before this end is, with it; none where this is no end of one.
    pub(super) fn length(end: &[u8; END]) -> Option<usize> {
        let length = u32::from_be_bytes([end[0], end[1], end[2], end[3]]) as usize;
        // Of the most blocks and places, and no more.
        let most = 4 * (PLACES + CLASSES + 3) + 20 * BLOCKS as usize;
        (end[8..] == *MAGIC && length <= most).then_some(length + END)
    }

    /// Reads what [`Self::write`] wrote; none where it is damaged.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (index, end) = bytes.split_last_chunk::<END>()?;
        let summed = bytes.get(..bytes.len() - END + 4)?;
        let sum = u32::from_be_bytes([end[4], end[5], end[6], end[7]]);
        if Self::length(end) != Some(bytes.len()) || crc32fast::hash(summed) != sum {
            return None;
        }
        let from = &mut &index[..];
        let (rows_end, count) = (from.try_get_u32().ok()?, from.try_get_u32().ok()?);
        let mut blocks = Vec::new();
        for _ in 0..count.min(BLOCKS) {
            let (start, oldest) = (from.try_get_u32().ok()?, from.try_get_u64().ok()?);
            blocks.push(Block { start, oldest, newest: from.try_get_u64().ok()? });
        }
        let mut classes = [0; CLASSES];
        for class in &mut classes {
            *class = from.try_get_u32().ok()?;
        }
        let places = from.try_get_u32().ok()? as usize;
        let mut sieve = Vec::new();
        while let Ok(place) = from.try_get_u32() {
            sieve.push(place);
        }
        // Blocks follow one another, up to where the rows end: so much is read for one at most.
        let starts = blocks.iter().map(|block| block.start);
        let in_order = starts.clone().zip(starts.skip(1)).all(|(one, next)| one <= next)
            && blocks.last().is_none_or(|last| last.start <= rows_end);
        (in_order && sieve.len() == places && places.is_power_of_two()).then_some(Self {
            blocks,
            sieve,
            classes,
            end: rows_end,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::chain::{Chain, spread};
    use super::*;
    use crate::requests::Kind;

    fn mark(begun: u64, org: u128, key: u128, class: u8) -> Mark {
        let (org, key) = (spread(org), spread(key));
        Mark { start: 0, length: 200, begun, chain: Chain::of(Kind::Live, org), org, key, class }
    }

    /// So many rows, of 100 orgs with two keys each, in blocks of 20.
    fn index(rows: u32) -> Index {
        let mut index = Index::new(32);
        for row in 0..rows {
            let org = u128::from(row % 100);
            let class = if row == 70 { 5 } else { 2 };
            index.add(
                32 + row * 200,
                &mark(1_000_000 + u64::from(row), org, 1_000 + org + u128::from(row % 2) * 500, class),
                4_000,
            );
        }
        index
    }

    fn found(index: &Index, wanted: Wanted) -> Vec<u32> {
        index.blocks(&wanted).map(|(block, _)| block.start).collect()
    }

    #[test]
    fn no_block_is_passed_over_and_few_are_named_in_vain() {
        let mut index = index(500);
        for closed in [false, true] {
            if closed {
                index.close();
                assert_eq!(index.sieve.len(), PLACES, "as many ids as this need all places");
            }
            assert_eq!(found(&index, Wanted::default()).len(), 25);
            let mut named = 0;
            for org in 0..100_u128 {
                let blocks = found(&index, Wanted { org: Some(spread(org)), ..Wanted::default() });
                named += blocks.len();
                for row in (0..5).map(|round| round * 100 + org as u32) {
                    assert!(blocks.contains(&(32 + row / 20 * 4_000)), "{org}: {blocks:?}");
                }
            }
            assert!(named < 700, "{named} for 500");
            let five = found(&index, Wanted { status: "5xx".parse().ok(), ..Wanted::default() });
            assert_eq!(five, [32 + 3 * 4_000]);
            assert!(found(&index, Wanted { status: "404".parse().ok(), ..Wanted::default() }).is_empty());
            let both = Wanted { org: Some(spread(7)), key: Some(spread(1_007)), ..Wanted::default() };
            assert!(found(&index, both).len() <= found(&index, Wanted { key: None, ..both }).len());
        }
        let ends: Vec<_> = index.blocks(&Wanted::default()).map(|(_, end)| end).collect();
        assert_eq!((ends[0], ends[24]), (4_032, 32 + 500 * 200));
        assert_eq!((index.newest(), index.end()), (1_000_499, 100_032));
    }

    #[test]
    fn small_ones_stay_small_and_what_is_written_is_read_back_or_refused() {
        let mut small = Index::new(32);
        (0..3).for_each(|row| small.add(32 + row * 200, &mark(u64::from(row), 7, 8, 2), 4_000));
        small.close();
        assert_eq!(small.sieve.len(), FEWEST);
        for index in [small, index(5_000)] {
            let mut bytes = Vec::new();
            index.write(&mut bytes);
            assert_eq!(Index::length(bytes.last_chunk().unwrap()), Some(bytes.len()));
            assert_eq!(Index::read(&bytes).as_ref(), Some(&index));
            for at in (0..bytes.len()).step_by(3) {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1;
                assert_eq!(Index::read(&flipped), None, "{at}");
                assert_eq!(Index::read(&bytes[..at]), None, "{at}");
            }
        }
        assert_eq!(Index::read(&[]), None);
    }

    #[test]
    fn a_few_long_ones_are_no_disorder_and_many_are() {
        let with = |slow: fn(u32) -> bool| {
            let mut index = Index::new(32);
            for row in 0..640 {
                let begun = 10_000_000 + u64::from(row) * 10 - if slow(row) { 60_000 } else { 0 };
                index.add(32 + row * 200, &mark(begun, 7, 8, 2), 4_000);
            }
            index.is_mixed()
        };
        assert!(!with(|_| false) && !with(|row| row == 300) && with(|row| row % 20 == 3));
    }
}
