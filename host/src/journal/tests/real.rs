//! The same on a real disk, with its threads: through memory where that can be, and by system calls.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::files::{Disk, Files};
use super::super::{Earlier, Journal, Unreadable, Writer, list};
use super::machine::{SETTINGS, Store, usage, whole};
use crate::config::Journal as Settings;
use crate::usage::{Mark, Names};

pub(super) fn settings() -> Settings {
    Settings { segment_size: 64 << 10, segments: 4, commit_interval: Duration::from_millis(1), ..SETTINGS }
}

fn read(files: &Arc<dyn Files>, directory: &Path, store: &mut Store) -> Result<Earlier, Unreadable> {
    let marks: Vec<_> =
        store.marks.iter().map(|(lane, of)| Mark { lane: *lane, epoch: of.0, sequence: of.1, floor: of.2 }).collect();
    let mut earlier = Earlier::read_from(files.clone(), directory, &marks)?;
    let (records, marks) = earlier.take();
    store.add(&records, &marks);
    Ok(earlier)
}

fn call(writer: &mut Writer, names: &Names, number: u128, ends: bool) {
    let (call, usage) = usage(names, number);
    let begun = Instant::now();
    // The next segment comes when the thread has looked.
    while writer.admit(usage.pillar, usage.route, usage.fuel_by_policy).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "never any room");
        std::thread::yield_now();
    }
    let ticket = writer.open(&call, usage.pillar, usage.route, usage.fuel_by_policy).unwrap();
    if ends {
        writer.close(ticket, &call, &usage);
    }
}

/// Waits for a state.
fn until(what: &str, state: impl Fn() -> bool) {
    let begun = Instant::now();
    while !state() {
        assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn what_was_written_is_read_again_through_memory_and_by_system_calls() {
    let place = tempfile::tempdir().unwrap();
    let kinds: [Arc<dyn Files>; 2] = [Arc::new(Disk::of(place.path()).unwrap()), Arc::new(Disk::positioned())];
    for (position, files) in kinds.iter().enumerate() {
        let directory = place.path().join(position.to_string());
        let (names, mut store) = (Arc::<Names>::default(), Store::default());
        let mut number = 0;
        for start in 0..3 {
            let earlier = read(files, &directory, &mut store).unwrap();
            assert_eq!(store.rows.len(), start * 400);
            let (journal, mut writers) = earlier.begin(2, &settings(), &names).unwrap();
            for _ in 0..400 {
                number += 1;
                call(&mut writers[number as usize % 2], &names, number, number % 100 != 0);
            }
            let marks: Vec<_> = writers.iter_mut().filter_map(Writer::mark).collect();
            assert_eq!(marks.len(), 2);
            until("durable", || marks.iter().all(|mark| journal.has(mark)));
            // Told after it is durable.
            until("counted", || journal.figures().commits > 0);
            // Nothing was kept: as after the death of the process.
            drop(writers);
            journal.end();
        }
        read(files, &directory, &mut store).unwrap();
        for number in 1..=1200 {
            let sums = &store.rows[&number];
            assert_eq!(sums.calls, 1, "call {number}");
            assert_eq!(*sums == whole(&names, number), number % 100 != 0, "call {number}");
        }
    }
}

#[test]
fn what_the_store_has_taken_makes_room_and_old_records_beside_new_ones_count_for_nothing() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("journal");
    let names = Arc::<Names>::default();
    let begin = |marks: &[Mark]| -> (Journal, Writer) {
        let (journal, mut writers) = Earlier::read(&directory, marks).unwrap().begin(1, &settings(), &names).unwrap();
        (journal, writers.remove(0))
    };
    let (journal, mut writer) = begin(&[]);
    let mut last = None;
    // Several times as much as has room.
    for round in 0..30 {
        for number in 0..100 {
            call(&mut writer, &names, round * 100 + number + 1, true);
        }
        let mark = writer.mark().unwrap();
        until("durable", || journal.has(&mark));
        if round < 29 {
            journal.kept(&mark);
            last = Some(mark);
        }
    }
    drop(writer);
    journal.end();
    let mut earlier = Earlier::read(&directory, &[last.unwrap()]).unwrap();
    let (records, marks) = earlier.take();
    assert_eq!(records.iter().map(|record| record.counts.calls).sum::<u64>(), 100);
    assert!(records.iter().all(|record| record.caller.org > Some(2900)));
    assert_eq!(marks, [Mark::all(0, 1)]);
    assert!(Earlier::read(&directory, &marks).unwrap().take().0.is_empty());
    let mut lines = Vec::new();
    list(&directory, |listed| lines.push(serde_json::to_value(listed).unwrap())).unwrap();
    let newest = lines.iter().max_by_key(|line| line["sequence"].as_u64()).unwrap();
    assert_eq!((newest["kind"].as_str(), newest["bytes_in"].as_u64()), (Some("close"), Some(3_000)));
    assert!(newest["request"].as_str().unwrap().starts_with("req_"));
}

#[test]
fn a_segment_with_holes_is_made_anew() {
    let place = tempfile::tempdir().unwrap();
    let names = Arc::<Names>::default();
    let files: Arc<dyn Files> = Arc::new(Disk::mapped());
    let begin = || {
        let earlier = read(&files, place.path(), &mut Store::default()).unwrap();
        earlier.begin(1, &settings(), &names).unwrap().0.end();
        let made = std::fs::read_dir(place.path().join("0")).unwrap().map(|entry| entry.unwrap().path());
        let mut made: Vec<_> = made.filter(|path| path.extension().is_some_and(|ending| ending == "seg")).collect();
        made.sort();
        made
    };
    let made = begin();
    assert_eq!(begin()[0], made[0], "one without holes is used again");
    let bytes = std::fs::read(&made[0]).unwrap();
    let copy = std::fs::File::create(&made[0]).unwrap();
    std::io::Write::write_all(&mut &copy, &bytes[..4096]).unwrap();
    copy.set_len(bytes.len() as u64).unwrap();
    drop(copy);
    assert!(!files.has_space(&made[0]).unwrap(), "this file system makes no holes");
    let again = begin();
    assert!(!again.contains(&made[0]) && !again.is_empty(), "{again:?}");
    assert!(again.iter().all(|path| files.has_space(path).unwrap()));
}
