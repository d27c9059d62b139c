//! What becomes of segments that are not as they were left.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::files::Files;
use super::super::{ASIDE, EPOCH, Earlier, MOST_ASIDE};
use super::machine::{Machine, PLACE, SETTINGS, Store, replay, whole};
use super::recording::Crashed;

const CALLS: u128 = 12;

/// After calls that nobody has kept, in several segments; the first of them.
fn left() -> (Machine, PathBuf) {
    let mut machine = Machine::sized(SETTINGS.segment_size, SETTINGS.segments + 1);
    for number in 1..=CALLS {
        assert!(machine.begin(0, number));
        machine.end(0, 0, 0);
        machine.sync();
        machine.tidy();
    }
    let first = machine.segments().remove(0);
    (machine, first)
}

/// What is counted, and what is begun anew on it; the files that are aside then.
fn read(machine: &Machine) -> (Store, Vec<PathBuf>, u64) {
    let mut counted = Store::default();
    let earlier = replay(&machine.files, &mut counted);
    let missing = earlier.lanes.iter().map(|(_, found)| found.missing).sum();
    let (names, settings) = (Arc::default(), SETTINGS);
    earlier.open(2, &settings, &names).unwrap();
    let aside = Path::new(PLACE).join(ASIDE);
    let paths = machine.files.paths().into_iter().filter(|path| path.starts_with(&aside)).collect();
    (counted, paths, missing)
}

fn assert_whole(machine: &Machine, counted: &Store) {
    for (number, sums) in &counted.rows {
        assert!(
            *sums == whole(machine.names(), *number) || sums.statuses == Default::default(),
            "call {number}: {sums:?}"
        );
        assert_eq!(sums.calls, 1, "call {number}");
    }
}

#[test]
fn a_copy_of_a_segment_counts_nothing_twice() {
    let (machine, first) = left();
    let copy = machine.files.create(&first.with_file_name("00000077.seg")).unwrap();
    copy.write_at(&machine.files.read(&first).unwrap(), 0).unwrap();
    let (counted, aside, missing) = read(&machine);
    assert_eq!((counted.rows.len() as u128, missing), (CALLS, 0));
    assert_whole(&machine, &counted);
    assert_eq!(aside, Vec::<PathBuf>::new());
}

#[test]
fn a_copy_of_a_directory_counts_nothing_twice() {
    for (name, is_lane) in [("00", false), ("+0", false), ("0.old", false), ("7", true)] {
        let (machine, _) = left();
        let copies = Path::new(PLACE).join(name);
        machine.files.make_directory(&copies).unwrap();
        for segment in machine.segments().iter().filter(|path| path.parent() == Some(&Path::new(PLACE).join("0"))) {
            let copy = machine.files.create(&copies.join(segment.file_name().unwrap())).unwrap();
            copy.write_at(&machine.files.read(segment).unwrap(), 0).unwrap();
        }
        let (counted, aside, missing) = read(&machine);
        assert_eq!((counted.rows.len() as u128, missing), (CALLS, 0), "{name}");
        assert_whole(&machine, &counted);
        assert_eq!(!aside.is_empty(), is_lane, "{name}: {aside:?}");
        assert!(aside.iter().all(|path| path.extension().is_some_and(|ending| ending == "unread")), "{aside:?}");
    }
}

#[test]
fn what_was_not_written_over_is_a_hole_and_nothing_strange() {
    let mut machine = Machine::sized(4608, 3);
    let calls = |machine: &mut Machine, from: u128, count: u128| {
        for number in from..from + count {
            assert!(machine.begin(0, number));
            machine.end(0, 0, 0);
        }
    };
    // Each segment is full of old records, and one of them is used again.
    for round in 0..8 {
        calls(&mut machine, 1 + round * 6, 6);
        machine.settle();
    }
    let old: Vec<Vec<u8>> = machine.segments().iter().map(|path| machine.files.read(path).unwrap()).collect();
    let store = machine.store.clone();
    calls(&mut machine, 100, 10);
    let mut holes = 0;
    for (path, old) in machine.segments().iter().zip(&old) {
        let new = machine.files.read(path).unwrap();
        if new[1024..1536] != old[1024..1536] && old[512..2048].iter().any(|byte| *byte != 0) {
            machine.files.change(path, |bytes| bytes[1024..1536].copy_from_slice(&old[1024..1536]));
            holes += 1;
        }
    }
    assert!(holes > 0);
    let mut counted = store;
    let earlier = replay(&machine.files, &mut counted);
    let found =
        |count: fn(&super::super::recover::Found) -> u64| earlier.lanes.iter().map(|(_, found)| count(found)).sum();
    let (missing, strange): (u64, u64) = (found(|found| found.missing), found(|found| found.strange.len() as u64));
    assert!(missing > 0, "nothing is missing");
    assert_eq!(strange, 0);
}

#[test]
fn a_piece_of_a_fresh_segment_that_was_not_written_is_nothing_strange() {
    let mut machine = Machine::sized(4096, 3);
    for number in 1..=8 {
        assert!(machine.begin(0, number));
        machine.end(0, 0, 0);
    }
    machine.files.change(&machine.segments()[0], |bytes| bytes[1024..1536].fill(0));
    let (counted, aside, missing) = read(&machine);
    assert!(missing > 0 && counted.rows.len() >= 5);
    assert_eq!(aside, Vec::<PathBuf>::new());
}

#[test]
fn what_is_put_aside_is_bounded_and_what_was_not_read_stays() {
    let (machine, first) = left();
    let aside = Path::new(PLACE).join(ASIDE);
    machine.files.make_directory(&aside).unwrap();
    for epoch in 1..=30 {
        machine.files.create(&aside.join(format!("{epoch}-0-00000000.seg"))).unwrap();
        machine.files.create(&aside.join(format!("{epoch}-0-00000001.seg.unread"))).unwrap();
    }
    machine.files.change(&Path::new(PLACE).join(EPOCH), |bytes| *bytes = b"30\n".to_vec());
    machine.files.change(&first, |bytes| bytes[3] ^= 1);
    let (_, paths, _) = read(&machine);
    let unread = |path: &&PathBuf| path.extension().is_some_and(|ending| ending == "unread");
    assert_eq!(paths.iter().filter(unread).count(), 30);
    assert_eq!(paths.len() - 30, MOST_ASIDE);
    assert!(paths.contains(&aside.join("31-0-00000000.seg")) && paths.contains(&aside.join("30-0-00000000.seg")));
    assert!(!paths.contains(&aside.join("15-0-00000000.seg")));
}

#[test]
fn foreign_bytes_cost_the_records_that_they_lie_on_and_the_segment_is_kept() {
    let (machine, first) = left();
    machine.files.change(&first, |bytes| bytes[300..500].fill(0xa7));
    let bytes = machine.files.read(&first).unwrap();
    let (counted, aside, missing) = read(&machine);
    assert!((1..=3).contains(&missing), "{missing}");
    assert!(counted.rows.len() as u128 >= CALLS - 2);
    assert_whole(&machine, &counted);
    assert_eq!(aside.len(), 1);
    assert_eq!(machine.files.read(&aside[0]).unwrap(), bytes);
}

#[test]
fn a_segment_that_is_cut_short_counts_as_far_as_it_goes_and_is_kept() {
    for length in [0, 30, 64, 500] {
        let (machine, first) = left();
        machine.files.change(&first, |bytes| bytes.truncate(length));
        let (counted, aside, missing) = read(&machine);
        assert!(missing > 0 && (counted.rows.len() as u128) < CALLS);
        assert_whole(&machine, &counted);
        assert_eq!(aside.len(), 1, "{length}");
    }
}

#[test]
fn whole_records_under_a_damaged_head_count() {
    let (machine, first) = left();
    machine.files.change(&first, |bytes| bytes[3] ^= 1);
    let (counted, aside, missing) = read(&machine);
    assert_eq!((counted.rows.len() as u128, missing, aside.len()), (CALLS, 0, 1));
    assert_whole(&machine, &counted);
}

#[test]
fn a_segment_of_another_version_is_kept_as_it_is() {
    let (machine, first) = left();
    machine.files.change(&first, |bytes| {
        bytes[8] = 2;
        let sum = crc32fast::hash(&bytes[..60]);
        bytes[60..64].copy_from_slice(&sum.to_le_bytes());
    });
    let (counted, aside, missing) = read(&machine);
    assert!(missing > 0 && (counted.rows.len() as u128) < CALLS);
    assert_eq!(aside.len(), 1);
}

#[test]
fn what_cannot_be_read_ends_the_start_with_a_sentence() {
    let (machine, _) = left();
    machine.files.make_directory(&Path::new(PLACE).join("1/00000000.seg")).unwrap();
    machine.files.remove(&Path::new(PLACE).join("1/00000000.seg")).unwrap();
    let error = Earlier::read_from(Arc::new(machine.files.clone()), Path::new(PLACE), &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the journal: cannot read /journal/1/00000000.seg; make it readable for this user, or move it away to start without \
         the calls that only it knows of"
    );
}

#[test]
fn an_epoch_is_never_used_twice_though_its_file_is_gone_or_damaged() {
    let (machine, _) = left();
    let epoch = Path::new(PLACE).join(EPOCH);
    assert_eq!(machine.files.read(&epoch).unwrap(), b"1\n");
    for (damage, expected) in [(b"?".as_slice(), "2\n"), (b"41\n", "42\n"), (b"", "43\n")] {
        machine.files.change(&epoch, |bytes| *bytes = damage.to_vec());
        let mut counted = Store::default();
        // What is in the segments and in the marks says so too; after the second start, only the marks do.
        counted.marks.insert(1, if expected == "43\n" { (42, 0, 0) } else { (1, 0, 0) });
        let earlier = replay(&machine.files, &mut counted);
        earlier.open(2, &SETTINGS, &Arc::default()).unwrap();
        assert_eq!(machine.files.read(&epoch).unwrap(), expected.as_bytes());
    }
}

#[test]
fn fewer_workers_and_other_sizes_lose_nothing() {
    let mut machine = Machine::new();
    for number in 1..=8 {
        assert!(machine.begin(number as usize % 2, number));
        machine.end(number as usize % 2, 0, 0);
    }
    let log = machine.files.log();
    let crashed = machine.files.crashed(&machine.before, &log, |most| most);
    let next = Machine::on(Crashed { files: crashed.files, store: Vec::new() }, Store::default(), 1);
    assert_eq!(next.store.rows.len(), 8);
    let lanes: Vec<_> = next.segments().iter().map(|path| path.parent().unwrap().to_owned()).collect();
    assert!(!lanes.contains(&Path::new(PLACE).join("1")), "segments of a worker that is no more stay");
}
