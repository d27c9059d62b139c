//! The map from subjects to their buckets, for all limits of this node, and its bound.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use papaya::{HashMap, HashMapRef, LocalGuard};

use super::bucket::Bucket;
use super::rule::Rule;
use super::timeline::Timeline;
use super::{Subject, SubjectKind};

/// Parts of the map, and so the number of calls of [`super::Local::sweep`] that see every bucket once.
pub(super) const SHARDS: usize = 32;

/// What all limits share.
#[derive(Debug)]
pub(super) struct House {
    shards: Vec<HashMap<u128, Entry, Keyed>>,
    hash: Keyed,
    salts: [RandomState; 2],
    buckets: AtomicUsize,
    max_buckets: usize,
}

/// One part of the map, held for as long as buckets of it are looked at.
pub(super) type Shard<'a> = HashMapRef<'a, u128, Entry, Keyed, LocalGuard<'a>>;

/// One bucket, and the limit that it belongs to.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) bucket: Bucket,
    pub(super) track: Arc<Track>,
}

/// What limits of the same identity share.
#[derive(Debug)]
pub(super) struct Track {
    /// Random: keeps the subjects of different limits apart in one map.
    salt: u128,
    pub(super) timeline: Timeline,
    /// For subjects that have no bucket of their own, when the house is full.
    pub(super) shared: Bucket,
    /// The rules of the latest limit, for the sweep.
    pub(super) rules: Mutex<Vec<Rule>>,
}

impl House {
    /// Empty.
    pub(super) fn new(max_buckets: usize) -> Self {
        let hash = Keyed { key: [random(), random(), random()] };
        let shards = (0..SHARDS).map(|_| HashMap::with_hasher(hash)).collect();
        let salts = [RandomState::new(), RandomState::new()];
        Self { shards, hash, salts, buckets: AtomicUsize::new(0), max_buckets }
    }

    /// The part of the map that has this key.
    pub(super) fn shard(&self, key: u128) -> Shard<'_> {
        // The map itself goes by lower bits.
        let top = self.hash.hash_one(key) >> (u64::BITS - SHARDS.ilog2());
        self.shard_at(usize::try_from(top).unwrap_or(0))
    }

    /// A part of the map, by its number.
    pub(super) fn shard_at(&self, number: usize) -> Shard<'_> {
        self.shards.get(number % SHARDS).expect("the number is below the count of shards").pin()
    }

    /// How many buckets there are.
    pub(super) fn len(&self) -> usize {
        self.buckets.load(Ordering::Relaxed)
    }

    /// A new bucket, or the one that someone else has just added; none where the house is full.
    pub(super) fn add<'g>(
        &self,
        shard: &'g Shard<'_>,
        key: u128,
        limit: (&Arc<Track>, &[Rule], SubjectKind),
    ) -> Option<&'g Entry> {
        let (track, rules, kind) = limit;
        let most = match kind {
            SubjectKind::Address | SubjectKind::Custom => self.max_buckets / 4 * 3,
            SubjectKind::Key | SubjectKind::Org | SubjectKind::Everyone => self.max_buckets,
        };
        if self.buckets.fetch_add(1, Ordering::Relaxed) >= most {
            self.buckets.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        // The subject may have had one that the sweep has just removed: full at the sweep's time, not at that of a caller
        // who is late.
        let bucket = Bucket::full(rules, track.timeline.latest());
        let entry = Entry { bucket, track: Arc::clone(track) };
        match shard.try_insert(key, entry) {
            Ok(entry) => Some(entry),
            Err(occupied) => {
                self.buckets.fetch_sub(1, Ordering::Relaxed);
                Some(occupied.current)
            }
        }
    }

    /// Removes a closed bucket.
    pub(super) fn remove(&self, shard: &Shard<'_>, key: &u128) {
        if shard.remove(key).is_some() {
            self.buckets.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A number for a text, keyed at random.
    pub(super) fn digest(&self, text: &str) -> u128 {
        let [high, low] = self.salts.each_ref().map(|salt| salt.hash_one(text));
        u128::from(high) << 64 | u128::from(low)
    }
}

impl Track {
    /// Without any bucket.
    pub(super) fn new() -> Self {
        Self {
            salt: u128::from(random()) << 64 | u128::from(random()),
            timeline: Timeline::default(),
            shared: Bucket::default(),
            rules: Mutex::default(),
        }
    }

    /// The key of a subject in the map.
    pub(super) fn key(&self, subject: Subject) -> u128 {
        self.salt ^ subject.0
    }

    /// The rules of the latest limit. Never for the hot path.
    pub(super) fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        // A list of rules is whole whatever its holder was interrupted in.
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hashes one number by two folded multiplications with random keys: quick, and nobody outside can aim at one slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keyed {
    key: [u64; 3],
}

impl BuildHasher for Keyed {
    type Hasher = Fold;

    fn build_hasher(&self) -> Fold {
        Fold { key: self.key, hash: 0 }
    }
}

/// One number on its way to its hash.
pub(super) struct Fold {
    key: [u64; 3],
    hash: u64,
}

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.hash
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u128(u128::from(self.hash) << 8 | u128::from(*byte));
        }
    }

    fn write_u128(&mut self, number: u128) {
        let [first, second, third] = self.key;
        let [high, low] = [(number >> 64) as u64, number as u64];
        self.hash = fold(fold(high ^ first, low ^ second) ^ low, third);
    }
}

/// The two halves of the product, one over the other.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

/// Sixty-four bits that differ from process to process: the standard library's own seed, never repeated.
fn random() -> u64 {
    RandomState::new().hash_one(0u8)
}
