use std::convert::Infallible;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use super::frame::{Kind, Writer};
use super::parts::{Halt, Part, read};
use super::sled::testing::{Tree, put_in_both};
use super::spool::{Spool, put};
use super::*;
use crate::clock::Clock;
use crate::config;
use crate::data::DataDirectory;
use crate::journal::{Earlier, Journal};
use crate::usage::Names;

fn signet() -> Signet {
    Signet::new(&[7; 32])
}

/// A data directory whose journal runs.
struct Kept {
    place: tempfile::TempDir,
    data: DataDirectory,
    journal: Arc<Journal>,
}

impl Kept {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(&place.path().join("data")).unwrap();
        fs::create_dir(data.path().join("plugins")).unwrap();
        let earlier = Earlier::read(&data.path().join(journal::DIRECTORY), &[]).unwrap();
        let settings = config::Journal {
            segment_size: 65536,
            segments: 4,
            commit_interval: Duration::from_millis(10),
            when_full: config::WhenFull::Refuse,
        };
        let (journal, _) = earlier.begin(1, &settings, &Arc::new(Names::default())).unwrap();
        Self { place, data, journal: Arc::new(journal) }
    }

    fn source(&self) -> Source {
        Source::new(&self.data, self.journal.clone(), signet(), Clock::manual(Millis(1_000)))
    }

    fn tree(&self, name: &str) -> Tree {
        self.data.database().tree(name).unwrap()
    }

    fn taken(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.source().take(&mut bytes).unwrap();
        bytes
    }

    fn file(&self, bytes: &[u8]) -> PathBuf {
        let path = self.place.path().join("backup");
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.journal.end();
    }
}

/// Some rows in two trees, and a component.
fn filled() -> Kept {
    let kept = Kept::new();
    for number in 0..20_u32 {
        kept.tree("a").insert(number.to_be_bytes(), format!("row {number}").as_str()).unwrap();
    }
    kept.tree("b").insert("key", "value").unwrap();
    kept.tree("empty");
    fs::write(kept.data.path().join("plugins").join(component()), b"a component").unwrap();
    fs::write(kept.data.path().join("plugins/note.txt"), b"somebody's").unwrap();
    fs::create_dir(kept.data.path().join("requests")).unwrap();
    for segment in SEGMENTS {
        fs::write(kept.data.path().join("requests").join(segment), segment.repeat(9)).unwrap();
    }
    fs::write(kept.data.path().join("requests/note.txt"), b"somebody's").unwrap();
    fs::create_dir(kept.data.path().join("requests/live-03-0000000001.rows")).unwrap();
    fs::write(kept.data.path().join("admin-token"), b"pat_secret").unwrap();
    kept
}

const SEGMENTS: [&str; 2] = ["live-07-0000000001.rows", "nobody-00-0000000000.sorted"];

fn component() -> String {
    format!("{}.wasm", "0a".repeat(32))
}

fn checked(bytes: &[u8]) -> Result<Summary, Unsound> {
    match read(bytes, Some(&signet()), |_| Ok::<(), Infallible>(())) {
        Ok(summary) => Ok(summary),
        Err(Halt::Unsound(reason)) => Err(reason),
        Err(Halt::Seen(never)) => match never {},
    }
}

/// All rows of a database but those of the default tree.
fn rows(data: &DataDirectory) -> Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> {
    let database = data.database();
    let rows = |name: &Vec<u8>| {
        let tree = database.tree_named(name).unwrap();
        tree.iter().map(|row| row.unwrap()).map(|(key, value)| (name.clone(), key.to_vec(), value.to_vec())).collect()
    };
    database.names().iter().flat_map(|name| -> Vec<_> { rows(name) }).collect()
}

#[test]
fn what_was_taken_is_put_back_as_it_was() {
    let kept = filled();
    let bytes = kept.taken();
    let path = kept.file(&bytes);
    let summary = verify(&path, Some(&signet())).unwrap();
    assert_eq!((summary.at, summary.rows, summary.components, summary.records), (Millis(1_000), 21, 1, 0));
    assert_eq!(summary.segments, 2);
    assert_eq!((summary.bytes, summary.signed, summary.data_format), (bytes.len() as u64, Some(true), data::FORMAT));
    let into = kept.place.path().join("again");
    assert_eq!(restore(&path, &into, Some(&signet())).unwrap(), summary);
    let again = DataDirectory::open(&into).unwrap();
    assert_eq!(rows(&again), rows(&kept.data));
    assert_eq!(again.database().names(), kept.data.database().names());
    assert_eq!(fs::read(into.join("plugins").join(component())).unwrap(), b"a component");
    assert!(!into.join("plugins/note.txt").exists() && !into.join("admin-token").exists());
    for segment in SEGMENTS {
        assert_eq!(fs::read_to_string(into.join("requests").join(segment)).unwrap(), segment.repeat(9));
    }
    assert_eq!(fs::read_dir(into.join("requests")).unwrap().count(), 2);
    assert!(!bytes.windows(10).any(|part| part == b"pat_secret"));
    assert!(!kept.data.path().join("backup.spool").exists());
    // A copy of a copy is the same.
    drop(again);
    assert!(matches!(restore(&path, &into, None), Err(RestoreError::Taken { .. })));
}

#[test]
fn every_part_of_one_is_refused_in_a_sentence() {
    let bytes = filled().taken();
    checked(&bytes).unwrap();
    for length in 0..bytes.len() {
        let error = checked(&bytes[..length]).expect_err("it was cut off");
        assert!(matches!(error, Unsound::Cut { at } if at == length as u64), "{length}: {error:?}");
        assert_eq!(error.to_string().lines().count(), 1);
    }
    let more = [&bytes[..], &b"\0"[..]].concat();
    assert!(matches!(checked(&more), Err(Unsound::Trailing)));
    let twice = [&bytes[..], &bytes[..]].concat();
    assert!(matches!(checked(&twice), Err(Unsound::Trailing)));
}

#[test]
fn every_flipped_bit_is_noticed() {
    let bytes = filled().taken();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            let error = checked(&flipped).expect_err("a bit is another one");
            match at {
                0..8 => assert!(matches!(error, Unsound::Foreign), "{at}: {error:?}"),
                8..12 => assert!(matches!(error, Unsound::Version { .. }), "{at}: {error:?}"),
                _ => assert!(matches!(error, Unsound::Damaged { .. } | Unsound::Cut { .. }), "{at}: {error:?}"),
            }
        }
    }
    let error = match read(&bytes[..], Some(&Signet::new(&[8; 32])), |_| Ok::<(), Infallible>(())) {
        Err(Halt::Unsound(error)) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(error, Unsound::Signature));
    for foreign in [&b""[..], b"x", b"#!/bin/sh\n", &[0; 4096]] {
        let error = checked(foreign).expect_err("no backup");
        assert!(matches!(error, Unsound::Foreign | Unsound::Cut { at: 0 }), "{error:?}");
    }
}

/// A backup with these frames, genuine in itself.
fn made(frames: &[(Kind, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::begin(&mut bytes).unwrap();
    frames.iter().for_each(|(kind, content)| writer.frame(*kind, content).unwrap());
    writer.end(&signet()).unwrap();
    bytes
}

#[test]
fn parts_that_are_there_twice_or_elsewhere_are_refused() {
    let head: &[u8] = format!("{{\"data_format\":{},\"gateway\":\"0.1.0\"}}", data::FORMAT).leak().as_bytes();
    let moment: &[u8] = b"{\"at\":\"2026-11-22T00:00:00Z\"}";
    let (file, name) = (format!("plugins/{}", component()), b"plugins/../../escape.wasm");
    let escapes: [&[u8]; 3] = [b"requests/../escape.rows", b"requests/note.txt", b"requestslive-07-0000000001.rows"];
    let row = |key: &str| {
        let mut row = Vec::new();
        put(&mut row, key.as_bytes());
        put(&mut row, b"value");
        row
    };
    let (one, two) = (row("1"), row("2"));
    use Kind::{Changes, File, Head, Journal, Moment as Now, Piece, Rows, Tree};
    let sound = made(&[(Head, head), (Tree, b"a"), (Rows, &one), (Rows, &two), (Tree, b"b"), (Now, moment)]);
    assert_eq!(checked(&sound).unwrap().rows, 2);
    let cases: &[&[(Kind, &[u8])]] = &[
        &[],
        &[(Head, head)],
        &[(Now, moment)],
        &[(Head, head), (Head, head), (Now, moment)],
        &[(Head, head), (Now, moment), (Now, moment)],
        &[(Head, head), (Rows, &one), (Now, moment)],
        &[(Head, head), (Tree, b"a"), (Tree, b"a"), (Now, moment)],
        &[(Head, head), (Tree, b"b"), (Tree, b"a"), (Now, moment)],
        &[(Head, head), (Tree, b"a"), (Rows, &one), (Rows, &one), (Now, moment)],
        &[(Head, head), (Tree, b"a"), (Rows, &two), (Rows, &one), (Now, moment)],
        &[(Head, head), (Tree, b"a"), (Now, moment), (Rows, &one)],
        &[(Head, head), (Changes, b""), (Now, moment)],
        &[(Head, head), (Now, moment), (Piece, b"bytes")],
        &[(Head, head), (Now, moment), (File, file.as_bytes()), (File, file.as_bytes())],
        &[(Head, head), (Now, moment), (File, file.as_bytes()), (Journal, b"\0\0\0\0")],
        &[(Head, head), (Now, moment), (Journal, b"\0\0\0\0no record")],
        &[(Head, head), (Now, moment), (Changes, b"\x01")],
        &[(Head, head), (Now, moment), (File, name)],
        &[(Head, head), (Now, moment), (File, escapes[0])],
        &[(Head, head), (Now, moment), (File, escapes[1])],
        &[(Head, head), (Now, moment), (File, escapes[2])],
        &[(Head, head), (Now, moment), (File, b"requests/live-07-0000000001.rows"), (File, file.as_bytes())],
        &[(Head, b"{}"), (Now, moment)],
        &[(Head, head), (Now, b"never")],
    ];
    for case in cases {
        let error = checked(&made(case)).expect_err("it makes no sense");
        assert!(matches!(error, Unsound::Order { .. } | Unsound::Damaged { .. }), "{case:?}: {error:?}");
    }
    let newer = checked(&made(&[(Head, b"{\"data_format\":99,\"gateway\":\"9\"}"), (Now, moment)]));
    assert!(newer.unwrap_err().to_string().starts_with("its data has the format 99, and this portico knows"));
}

/// Does something before so many bytes go out, once.
struct Interrupted<F> {
    bytes: Vec<u8>,
    at: usize,
    then: Option<F>,
}

impl<F: FnOnce()> io::Write for Interrupted<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() >= self.at {
            self.then.take().into_iter().for_each(|then| then());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Two rows are always the same, in two trees; and lines are only ever added.
#[test]
fn while_others_write_it_is_of_one_moment() {
    let kept = Kept::new();
    let (one, two, bulk) = (kept.tree("one"), kept.tree("two"), kept.tree("bulk"));
    for number in 0..10_000_u32 {
        bulk.insert(number.to_be_bytes(), vec![7; 100]).unwrap();
    }
    let (ended, written) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                let number = written.load(Ordering::SeqCst) + 1;
                put_in_both(&one, &two, "now", number);
                bulk.remove((number.wrapping_mul(7919) % 10_000).to_be_bytes()).unwrap();
                bulk.insert((number % 10_000).to_be_bytes(), vec![8; 100]).unwrap();
                one.insert(format!("line {number:09}").as_str(), "").unwrap();
                written.store(number, Ordering::SeqCst);
            }
        });
        // Whatever is between, much is written while it is taken, before and behind the place that is being read.
        let much = || {
            let before = written.load(Ordering::SeqCst);
            while written.load(Ordering::SeqCst) < before + 500 {
                std::thread::yield_now();
            }
        };
        let taken: Vec<_> = [200, 100_000, 300_000]
            .map(|at| {
                let mut into = Interrupted { bytes: Vec::new(), at, then: Some(much) };
                kept.source().take(&mut into).unwrap();
                assert!(into.then.is_none(), "{} bytes", into.bytes.len());
                into.bytes
            })
            .into();
        ended.store(true, Ordering::SeqCst);
        for (round, bytes) in taken.iter().enumerate() {
            let path = kept.file(bytes);
            let into = kept.place.path().join(format!("again-{round}"));
            let summary = restore(&path, &into, None).unwrap();
            assert!(summary.changes >= 1_000, "{summary:?}");
            let again = DataDirectory::open(&into).unwrap();
            let tree = |name: &str| again.database().tree(name).unwrap();
            let now = tree("one").get("now").unwrap();
            assert_eq!(now, tree("two").get("now").unwrap(), "{summary:?}");
            // What was written before the moment is there, without holes, and nothing of after it.
            let now = now.map_or(0, |now| u32::from_be_bytes(now[..].try_into().unwrap()));
            let lines: Vec<_> = tree("one").scan_prefix("line ").keys().map(Result::unwrap).collect();
            let count = u32::try_from(lines.len()).unwrap();
            assert!(count == now || count + 1 == now, "{count} lines, and {now}");
            assert!(lines.iter().enumerate().all(|(at, line)| **line == *format!("line {:09}", at + 1).as_bytes()));
        }
    });
}

#[test]
fn whoever_takes_it_too_slowly_gets_none_and_holds_nobody_up() {
    let kept = filled();
    let tree = kept.tree("a");
    let many = || (0..40_000_u32).for_each(|number| drop(tree.insert("changing", &number.to_be_bytes()).unwrap()));
    let spool = Spool::within(kept.data.path(), 100_000).unwrap();
    // After the first tree has begun, so that it is watched.
    let into = Interrupted { bytes: Vec::new(), at: 100, then: Some(many) };
    let taken = kept.source().take_with(into, spool);
    assert!(matches!(taken, Err(TakeError::Spool { .. })), "{taken:?}");
    // And after that everything goes on, backups too.
    tree.insert("changing", "after").unwrap();
    checked(&kept.taken()).unwrap();
    // Whoever goes away ends it.
    struct Gone;
    impl io::Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    assert!(matches!(kept.source().take(Gone), Err(TakeError::Gone(_))));
    (0..5_000).for_each(|number: u32| drop(tree.insert("changing", &number.to_be_bytes()).unwrap()));
}

#[test]
fn a_place_that_is_taken_or_served_from_stays_as_it_is() {
    let kept = filled();
    let path = kept.file(&kept.taken());
    let served = restore(&path, kept.data.path(), None).unwrap_err();
    assert!(matches!(served, RestoreError::Running { .. }), "{served:?}");
    let full = kept.place.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("letter"), "kept").unwrap();
    for taken in [&full, &full.join("letter"), &path] {
        let error = restore(&path, taken, None).unwrap_err();
        assert!(matches!(error, RestoreError::Taken { .. }), "{error:?}");
    }
    assert_eq!(fs::read_to_string(full.join("letter")).unwrap(), "kept");
    let empty = kept.place.path().join("empty");
    fs::create_dir(&empty).unwrap();
    // One that was killed has left its half.
    fs::create_dir_all(kept.place.path().join("empty.restoring/store")).unwrap();
    fs::write(kept.place.path().join("empty.restoring/store/db"), "half").unwrap();
    restore(&path, &empty, None).unwrap();
    assert_eq!(rows(&DataDirectory::open(&empty).unwrap()), rows(&kept.data));
    assert!(!kept.place.path().join("empty.restoring").exists());
    let mut cut = fs::read(&path).unwrap();
    cut.truncate(cut.len() / 2);
    let (cut, none) = (kept.file(&cut), kept.place.path().join("none"));
    let error = restore(&cut, &none, None).unwrap_err();
    assert!(error.to_string().contains("is not used: it was cut off: it ends after"), "{error}");
    assert!(!none.exists() && !kept.place.path().join("none.restoring").exists());
}

#[test]
fn parts_come_in_the_order_in_which_they_are_put_back() {
    let bytes = filled().taken();
    let mut first = None;
    let mut files = Vec::new();
    let seen = read(&bytes[..], None, |part| {
        match part {
            Part::Format(format) => first = first.or(Some(format)),
            Part::Piece { name, bytes } => files.push((name.to_owned(), bytes.len())),
            _ => assert!(first.is_some() && files.is_empty()),
        }
        Ok::<(), Infallible>(())
    });
    assert_eq!(seen.unwrap().signed, None);
    assert_eq!(first, Some(data::FORMAT));
    let name = format!("plugins/{}", component());
    let [one, other] = SEGMENTS.map(|name| (format!("requests/{name}"), name.len() * 9));
    let expected = [(name, 11), one, other].into_iter().flat_map(|(name, length)| [(name.clone(), 0), (name, length)]);
    assert_eq!(files, expected.collect::<Vec<_>>());
}
