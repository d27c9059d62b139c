//! The store on a real database: what it keeps, what it refuses, and what it survives.

mod door;
mod model;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::AtomicU8;

use super::row;
use super::sled::Trees;
use super::spaces::{Rows, Spaces};
use super::*;
use crate::data::DataDirectory;

const NOW: Millis = Millis(1_795_305_600_000);

fn grant(space: &str, bytes: usize, entries: u64) -> StoreGrant {
    StoreGrant { space: space.into(), bytes, entries }
}

fn data(directory: &Path) -> DataDirectory {
    DataDirectory::open(&directory.join("data")).unwrap()
}

fn kv_on(data: &DataDirectory) -> (Kv, Clock) {
    let clock = Clock::manual(NOW);
    let store = Arc::new(SledKv::open(data.database()).unwrap());
    (Kv::new(Handle::current(), store, clock.clone()), clock)
}

fn spaces_on(data: &DataDirectory) -> Spaces<Trees> {
    Spaces::open(Trees::open(data.database()).unwrap()).unwrap()
}

fn entry(length: usize, expires: Option<Millis>) -> Entry {
    Entry { expires, value: vec![7; length] }
}

fn held(kv: &Kv, space: &str) -> (u64, u64) {
    kv.spaces().iter().find(|one| *one.name == *space).map_or((0, 0), |one| (one.held.entries, one.held.bytes))
}

fn in_table<R: Rows>(rows: &R) -> usize {
    let mut count = 0;
    rows.scan(&[], None, |_, _| {
        count += 1;
        ControlFlow::Continue(())
    })
    .unwrap();
    count
}

#[tokio::test]
async fn what_was_set_is_there_until_it_expires_or_is_removed_and_only_in_its_space() {
    let directory = tempfile::tempdir().unwrap();
    let data = data(directory.path());
    let (kv, clock) = kv_on(&data);
    let (mine, theirs) = (grant("mine", 1000, 10), grant("theirs", 1000, 10));
    kv.set(&mine, "a".into(), b"one".to_vec(), 0).await.unwrap();
    kv.set(&mine, "b\0c".into(), b"two".to_vec(), 2).await.unwrap();
    kv.set(&mine, "empty".into(), Vec::new(), u32::MAX).await.unwrap();
    assert_eq!(kv.get(&mine, "a".into()).await.unwrap().unwrap(), b"one");
    assert_eq!(kv.get(&mine, "b\0c".into()).await.unwrap().unwrap(), b"two");
    assert_eq!(kv.get(&mine, "empty".into()).await.unwrap().unwrap(), b"");
    assert_eq!(kv.get(&theirs, "a".into()).await.unwrap(), None);
    assert_eq!(held(&kv, "mine"), (3, 4 + 6 + 5));

    clock.advance(Duration::from_millis(1_999));
    assert!(kv.get(&mine, "b\0c".into()).await.unwrap().is_some());
    clock.advance(Duration::from_millis(1));
    assert_eq!(kv.get(&mine, "b\0c".into()).await.unwrap(), None);
    // It counts until it is swept.
    assert_eq!(held(&kv, "mine").0, 3);
    assert_eq!(kv.sweep().await, 1);
    assert_eq!(held(&kv, "mine"), (2, 4 + 5));

    kv.remove(&mine, "a".into()).await.unwrap();
    kv.remove(&mine, "a".into()).await.unwrap();
    assert_eq!(kv.get(&mine, "a".into()).await.unwrap(), None);
    assert_eq!(held(&kv, "mine"), (1, 5));
}

#[tokio::test]
async fn bounds_of_keys_and_values_are_exact_and_what_is_beyond_never_fits() {
    let directory = tempfile::tempdir().unwrap();
    let data = data(directory.path());
    let (kv, _) = kv_on(&data);
    let grant = grant("wide", 1 << 20, 100);
    kv.set(&grant, "k".repeat(MAX_KEY), vec![1; MAX_VALUE], 0).await.unwrap();
    assert_eq!(kv.get(&grant, "k".repeat(MAX_KEY)).await.unwrap().unwrap().len(), MAX_VALUE);
    for (key, length) in [("k".to_owned(), MAX_VALUE + 1), ("k".repeat(MAX_KEY + 1), 1), (String::new(), 1)] {
        let refused = kv.set(&grant, key.clone(), vec![1; length], 0).await;
        assert!(matches!(refused, Err(Error::QuotaExceeded)), "{} {length}", key.len());
        assert_eq!(kv.get(&grant, key.clone()).await.unwrap(), None);
        kv.remove(&grant, key).await.unwrap();
    }
    assert_eq!(kv.spaces()[0].over_quota, 3);
    assert_eq!(held(&kv, "wide").0, 1);
}

#[tokio::test]
async fn a_lowered_grant_deletes_nothing_and_lets_it_only_shrink() {
    let directory = tempfile::tempdir().unwrap();
    let data = data(directory.path());
    let (kv, _) = kv_on(&data);
    let full = grant("space", 40, 4);
    for key in ["a", "b", "c", "d"] {
        kv.set(&full, key.into(), vec![0; 9], 0).await.unwrap();
    }
    assert!(matches!(kv.set(&full, "e".into(), vec![], 0).await, Err(Error::QuotaExceeded)));
    assert!(matches!(kv.set(&full, "a".into(), vec![0; 10], 0).await, Err(Error::QuotaExceeded)));
    assert_eq!(kv.get(&full, "a".into()).await.unwrap().unwrap().len(), 9);
    assert_eq!(held(&kv, "space"), (4, 40));

    let lowered = grant("space", 20, 2);
    assert!(kv.get(&lowered, "d".into()).await.unwrap().is_some());
    kv.set(&lowered, "a".into(), vec![1; 9], 0).await.unwrap();
    kv.set(&lowered, "a".into(), vec![1; 4], 0).await.unwrap();
    assert!(matches!(kv.set(&lowered, "a".into(), vec![1; 5], 0).await, Err(Error::QuotaExceeded)));
    assert!(matches!(kv.set(&lowered, "e".into(), vec![], 0).await, Err(Error::QuotaExceeded)));
    assert_eq!(held(&kv, "space"), (4, 35));
    for key in ["b", "c", "d"] {
        kv.remove(&lowered, key.into()).await.unwrap();
    }
    kv.set(&lowered, "e".into(), vec![0; 14], 0).await.unwrap();
    assert_eq!(held(&kv, "space"), (2, 20));
}

#[tokio::test]
async fn a_full_space_makes_room_out_of_what_has_expired_and_of_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let data = data(directory.path());
    let (kv, clock) = kv_on(&data);
    let (grant, other) = (grant("full", 1 << 20, 200), grant("other", 100, 1));
    kv.set(&other, "k".into(), vec![], 1).await.unwrap();
    for number in 0..200 {
        kv.set(&grant, format!("k{number}"), vec![0; 3], if number < 150 { 5 } else { 500 }).await.unwrap();
    }
    assert!(matches!(kv.set(&grant, "new".into(), vec![], 0).await, Err(Error::QuotaExceeded)));
    clock.advance(Duration::from_secs(5));
    kv.set(&grant, "new".into(), vec![], 0).await.unwrap();
    // A slice went, not all: a guest does not wait for the whole space.
    assert_eq!(held(&kv, "full").0, 200 - 64 + 1);
    assert_eq!(held(&kv, "other").0, 1);
    assert_eq!(kv.sweep().await, 150 - 64 + 1);
    assert_eq!(held(&kv, "full").0, 51);
    assert!(kv.get(&grant, "k199".into()).await.unwrap().is_some());
}

#[tokio::test]
async fn an_entry_set_anew_lives_by_its_new_time_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let data = data(directory.path());
    let (kv, clock) = kv_on(&data);
    let grant = grant("space", 100, 10);
    for ttl in [1, 9, 0, 5, 5] {
        kv.set(&grant, "k".into(), vec![], ttl).await.unwrap();
    }
    let rows = Trees::open(data.database()).unwrap();
    assert_eq!(in_table(&rows), 2);
    clock.advance(Duration::from_secs(1));
    assert_eq!(kv.sweep().await, 0);
    clock.advance(Duration::from_secs(4));
    // A pointer of before, as a write that failed half-way leaves it.
    rows.insert(&row::pointer("space", NOW, "k"), Vec::new()).unwrap();
    assert_eq!(kv.sweep().await, 1);
    assert_eq!(in_table(&rows), 0);
}

#[test]
fn concurrent_sets_fill_the_quota_exactly_and_a_restart_counts_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let control = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let data = data(directory.path());
    let (kv, _) = control.block_on(async { kv_on(&data) });
    let grant = grant("shared", 100 * 12, 1_000);
    let won: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let (kv, grant) = (kv.clone(), &grant);
                scope.spawn(move || {
                    // As a worker: one thread, and no timer of its own.
                    let worker = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    let set = |key: String| worker.block_on(kv.set(grant, key, vec![0; 8], 0));
                    (0..40).filter(|number| set(format!("{thread}-{number:02}")).is_ok()).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(won, 100);
    assert_eq!(held(&kv, "shared"), (100, 1200));
    assert_eq!(kv.spaces()[0].over_quota, 8 * 40 - 100);
    assert_eq!(kv.spaces()[0].turned_away, 0);
    drop((kv, data));
    let data = self::data(directory.path());
    let (kv, _) = control.block_on(async { kv_on(&data) });
    assert_eq!(held(&kv, "shared"), (100, 1200));
}

#[test]
fn damaged_rows_are_set_aside_count_no_longer_and_hold_nothing_up() {
    let directory = tempfile::tempdir().unwrap();
    let data = data(directory.path());
    let (spaces, trees) = (spaces_on(&data), Trees::open(data.database()).unwrap());
    let grant = grant("space", 1_000, 10);
    let whole = Held { entries: 1, bytes: 11 };
    spaces.set(&grant, "other", &entry(6, None), NOW).unwrap();
    let damages: [&[u8]; 4] = [&[], &[9; 20], &[1, 0, 0], &[1; 8]];
    for (times, damage) in damages.into_iter().enumerate() {
        let place = row::place("space", "k");
        let damaged = || {
            spaces.set(&grant, "k", &entry(5, Some(Millis(NOW.0 + 1))), NOW).unwrap();
            trees.insert(&place, damage.to_vec()).unwrap();
        };
        damaged();
        assert_eq!(spaces.get("space", "k", NOW).unwrap(), None);
        assert_eq!(spaces.held()["space"], whole);
        damaged();
        spaces.remove("space", "k").unwrap();
        assert_eq!(spaces.held()["space"], whole);
        damaged();
        assert_eq!(spaces.sweep("space", Millis(NOW.0 + 1)).unwrap(), (1, false));
        assert_eq!(spaces.held()["space"], whole);
        damaged();
        spaces.set(&grant, "k", &entry(1, None), NOW).unwrap();
        assert_eq!(spaces.get("space", "k", NOW).unwrap().unwrap(), [7]);
        spaces.remove("space", "k").unwrap();
        damaged();
        // And found by a start.
        assert_eq!(spaces_on(&data).held()["space"], whole);
        assert_eq!(trees.get(&place).unwrap().map(|row| row.as_ref().to_vec()), None);
        spaces.remove("space", "k").unwrap();
        assert_eq!(trees.aside(), times + 1);
    }
    for place in
        [&b"no-end"[..], b"space\0", b"space\0\xff", b"\xff\0k", b"\0", b"\0space\0short", b"\0\0\0\0\0\0\0\0\0\0k"]
    {
        trees.insert(place, row::row(&entry(1, None))).unwrap();
    }
    let spaces = spaces_on(&data);
    assert_eq!(spaces.held().into_iter().collect::<Vec<_>>(), [("space".into(), whole)]);
    assert_eq!(spaces.get("space", "other", NOW).unwrap().unwrap().len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_closed_database_comes_back_with_what_it_held() {
    let directory = tempfile::tempdir().unwrap();
    let grant = grant("space", 1_000, 10);
    for round in 0..3_u64 {
        let data = data(directory.path());
        let (kv, _) = kv_on(&data);
        assert_eq!(held(&kv, "space"), (round, round * 5));
        kv.set(&grant, format!("k{round}"), vec![0; 3], 60).await.unwrap();
    }
}

/// Fails to write, before or after the write was done.
struct Flaky {
    rows: Trees,
    fails: AtomicU8,
}

impl Flaky {
    fn write(&self, write: impl FnOnce(&Trees) -> Result<(), Failure>) -> Result<(), Failure> {
        match self.fails.load(Ordering::Relaxed) {
            0 => write(&self.rows),
            1 => Err("the disk is full".into()),
            _ => write(&self.rows).and(Err("it was written, and nobody knows".into())),
        }
    }
}

impl Rows for Arc<Flaky> {
    fn get(&self, key: &[u8]) -> Result<Option<impl AsRef<[u8]>>, Failure> {
        self.rows.get(key)
    }

    fn insert(&self, key: &[u8], row: Vec<u8>) -> Result<(), Failure> {
        // Pointers get through, so that the row is what fails.
        if key[0] == 0 { self.rows.insert(key, row) } else { self.write(|rows| rows.insert(key, row)) }
    }

    fn remove(&self, key: &[u8]) -> Result<(), Failure> {
        self.write(|rows| rows.remove(key))
    }

    fn scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        see: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Failure> {
        self.rows.scan(from, to, see)
    }

    fn set_aside(&self, key: &[u8]) -> Result<(), Failure> {
        self.write(|rows| rows.set_aside(key))
    }
}

#[test]
fn a_write_that_fails_is_unavailable_and_the_count_is_right_again_afterwards() {
    let directory = tempfile::tempdir().unwrap();
    let data = data(directory.path());
    let flaky = Arc::new(Flaky { rows: Trees::open(data.database()).unwrap(), fails: AtomicU8::new(0) });
    let spaces = Spaces::open(flaky.clone()).unwrap();
    let grant = grant("space", 1_000, 100);
    let works = |fails| flaky.fails.store(fails, Ordering::Relaxed);
    let soon = Millis(NOW.0 + 1);
    for (round, fails) in [1, 2, 1, 2].into_iter().enumerate() {
        let old = format!("old{round}");
        works(0);
        spaces.set(&grant, &old, &entry(4, Some(soon)), NOW).unwrap();
        works(fails);
        for _ in 0..2 {
            assert!(matches!(
                spaces.set(&grant, &format!("new{round}"), &entry(8, None), NOW),
                Err(Error::Unavailable(_))
            ));
            assert!(matches!(spaces.set(&grant, &old, &entry(9, Some(soon)), NOW), Err(Error::Unavailable(_))));
            if round > 1 {
                assert!(matches!(spaces.remove("space", &old), Err(Error::Unavailable(_))));
                assert!(matches!(spaces.sweep("space", soon), Err(Error::Unavailable(_))));
            }
        }
        // What is there can still be read, and the next write finds the count right.
        assert!(spaces.get("space", &old, NOW).is_ok());
        works(0);
        spaces.set(&grant, "last", &entry(round, None), NOW).unwrap();
        assert_eq!(spaces.held(), Spaces::open(flaky.clone()).unwrap().held());
    }
    while spaces.sweep("space", soon).unwrap().1 {}
    assert_eq!(spaces.held(), Spaces::open(flaky.clone()).unwrap().held());
}
