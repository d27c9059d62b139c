//! A Bloom filter over digests of secrets: what it does not hold is nobody's, without any store being asked.
//!
//! Workers read while digests are added, without a lock. Nothing is ever taken out: a digest that went stays until the filter is made
//! anew, and costs a look-up where somebody comes with it. As good as random already, digests are not hashed.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::data;
use crate::key::Digest;

/// Bits for each digest that there is room for, and how many of them one sets: 7 of 100,000 others are held by chance when it is full.
const BITS: u64 = 20;
const PROBES: u64 = 13;
/// There is room for so many at least.
const LEAST: u64 = 1 << 16;
const MAGIC: &[u8; 16] = b"portico-filter-1";
const HEAD: usize = 56;

/// Digests of secrets, and few others.
#[derive(Debug)]
pub(super) struct Filter {
    words: Box<[AtomicU64]>,
    /// For how many digests there is room.
    room: u64,
    added: AtomicU64,
}

/// Why a file with a filter in it is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    /// It cannot be read.
    #[error("it cannot be read")]
    Unreadable(#[from] std::io::Error),
    /// It is not what was written.
    #[error("it is damaged, or of another store")]
    Damaged,
}

impl Filter {
    /// An empty one, with room for so many digests and some more.
    pub(super) fn for_secrets(secrets: u64) -> Self {
        let room = secrets.saturating_add(secrets / 4).max(LEAST);
        let words = (0..room * BITS / 64).map(|_| AtomicU64::new(0)).collect();
        Self { words, room, added: AtomicU64::new(0) }
    }

    /// Holds this digest from now on.
    pub(super) fn add(&self, digest: &Digest) {
        let mut is_new = false;
        for (word, bit) in self.places(digest) {
            is_new |= self.words[word].fetch_or(bit, Ordering::Release) & bit == 0;
        }
        // One that comes again takes no room.
        self.added.fetch_add(u64::from(is_new), Ordering::Relaxed);
    }

    /// Whether it holds this digest, or seems to.
    pub(super) fn may_hold(&self, digest: &Digest) -> bool {
        self.places(digest).all(|(word, bit)| self.words[word].load(Ordering::Acquire) & bit != 0)
    }

    /// Whether it holds more than it has room for, and is wrong more often.
    pub(super) fn is_full(&self) -> bool {
        self.added.load(Ordering::Relaxed) > self.room
    }

    /// How many digests were added, those that went since among them.
    pub(super) fn added(&self) -> u64 {
        self.added.load(Ordering::Relaxed)
    }

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> u64 {
        self.words.len() as u64 * 8
    }

    fn places(&self, digest: &Digest) -> impl Iterator<Item = (usize, u64)> {
        let bits = self.words.len() as u64 * 64;
        let [begin, step] = [part(digest, 0), part(digest, 1) | 1];
        (0..PROBES).map(move |probe| {
            let place = begin.wrapping_add(probe.wrapping_mul(step));
            let bit = ((u128::from(place) * u128::from(bits)) >> 64) as u64;
            ((bit / 64) as usize, 1 << (bit % 64))
        })
    }

    /// Writes it to a file that says by its name to which state of a store it belongs; durable when it returns.
    pub(super) fn write(&self, path: &Path, name: u128) -> std::io::Result<()> {
        let mut bytes = Vec::with_capacity(HEAD + self.words.len() * 8 + 4);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&name.to_be_bytes());
        for number in [self.room, self.added(), self.words.len() as u64] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        for word in &self.words {
            bytes.extend_from_slice(&word.load(Ordering::Acquire).to_be_bytes());
        }
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        data::write_private(path, &bytes)
    }

    /// Reads what [`Self::write`] wrote under this name.
    pub(super) fn read(path: &Path, name: u128) -> Result<Self, Unusable> {
        let bytes = std::fs::read(path)?;
        let (bytes, sum) = bytes.split_last_chunk::<4>().ok_or(Unusable::Damaged)?;
        let (head, words) = bytes.split_first_chunk::<HEAD>().ok_or(Unusable::Damaged)?;
        let number = |at: usize| head[at..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let [room, added, count] = [number(32), number(40), number(48)];
        let is_ours = head.starts_with(MAGIC)
            && head[16..32] == name.to_be_bytes()
            && crc32fast::hash(bytes) == u32::from_be_bytes(*sum);
        // Two filters of one room have the same bits for one digest.
        if !is_ours
            || words.len() as u64 != count.saturating_mul(8)
            || room.saturating_mul(BITS) / 64 != count
            || count == 0
        {
            return Err(Unusable::Damaged);
        }
        let words = words.as_chunks::<8>().0.iter().map(|word| AtomicU64::new(u64::from_be_bytes(*word))).collect();
        Ok(Self { words, room, added: AtomicU64::new(added) })
    }
}

/// Digests that were looked up of late and are nobody's, though the filter seems to hold them: who comes with one of them again and again
/// asks the store once.
#[derive(Debug)]
pub(super) struct Strangers(Box<[AtomicU64]>);

impl Strangers {
    pub(super) fn new() -> Self {
        Self((0..1 << 18).map(|_| AtomicU64::new(0)).collect())
    }

    pub(super) fn know(&self, digest: &Digest) -> bool {
        self.place(digest).load(Ordering::Acquire) == mark(digest)
    }

    pub(super) fn note(&self, digest: &Digest) {
        self.place(digest).store(mark(digest), Ordering::Release);
    }

    /// It may be somebody's from now on.
    pub(super) fn forget(&self, digest: &Digest) {
        self.place(digest).store(0, Ordering::Release);
    }

    fn place(&self, digest: &Digest) -> &AtomicU64 {
        &self.0[part(digest, 2) as usize % self.0.len()]
    }
}

/// One of the four numbers in a digest.
fn part(digest: &Digest, part: usize) -> u64 {
    let bytes = digest.as_bytes()[part * 8..].first_chunk().expect("a digest has four parts of eight bytes");
    u64::from_be_bytes(*bytes)
}

fn mark(digest: &Digest) -> u64 {
    part(digest, 3).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u64) -> Digest {
        let digest = ring::digest::digest(&ring::digest::SHA256, &number.to_be_bytes());
        Digest::new(digest.as_ref().try_into().unwrap())
    }

    #[test]
    fn a_full_filter_holds_all_that_was_added_and_few_others() {
        let filter = Filter::for_secrets(0);
        let others = |filter: &Filter| (1 << 20..3 << 20).filter(|number| filter.may_hold(&digest(*number))).count();
        assert_eq!(others(&filter), 0);
        (0..LEAST).for_each(|number| filter.add(&digest(number)));
        assert!(!filter.is_full());
        assert!((0..LEAST).all(|number| filter.may_hold(&digest(number))));
        let others = others(&filter);
        assert!((1..210).contains(&others), "{others} of two million; one in 10,000 may be");
        filter.add(&digest(LEAST));
        assert!(filter.is_full());
    }

    #[test]
    fn a_file_is_read_as_it_was_written_under_its_name_and_not_otherwise() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("filter");
        let filter = Filter::for_secrets(0);
        (0..1_000).for_each(|number| filter.add(&digest(number)));
        filter.write(&path, 7).unwrap();
        let read = Filter::read(&path, 7).unwrap();
        assert_eq!((read.added(), read.bytes()), (1_000, filter.bytes()));
        assert!((0..1_000).all(|number| read.may_hold(&digest(number))));
        assert!(!(2_000..3_000).any(|number| read.may_hold(&digest(number))));
        assert!(matches!(Filter::read(&path, 8), Err(Unusable::Damaged)));
        assert!(matches!(Filter::read(&place.path().join("none"), 7), Err(Unusable::Unreadable(_))));
        let whole = std::fs::read(&path).unwrap();
        for cut in [0, 3, HEAD, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(matches!(Filter::read(&path, 7), Err(Unusable::Damaged)), "cut at {cut}");
        }
        for at in [20, 34, 50, HEAD + 1, whole.len() - 2] {
            let mut other = whole.clone();
            other[at] ^= 1;
            std::fs::write(&path, other).unwrap();
            assert!(matches!(Filter::read(&path, 7), Err(Unusable::Damaged)), "a bit at {at}");
        }
    }

    #[test]
    fn strangers_are_known_until_they_are_somebodys() {
        let strangers = Strangers::new();
        assert!(!strangers.know(&digest(1)));
        strangers.note(&digest(1));
        assert!(strangers.know(&digest(1)) && !strangers.know(&digest(2)));
        strangers.forget(&digest(1));
        assert!(!strangers.know(&digest(1)));
    }
}
