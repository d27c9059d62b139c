//! What a crash, a full disk or somebody else leaves in the directory: every whole row stays, and nothing panics, hangs or stops.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;

fn opened(directory: &tempfile::TempDir) -> SegmentLog {
    log(directory)
}

fn files(directory: &tempfile::TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.path().join(DIRECTORY)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// One segment that was not closed, of so many rows; its bytes, and where each row begins.
fn unclosed(rows: u64) -> (tempfile::TempDir, PathBuf, Vec<u8>, Vec<usize>) {
    let directory = tempfile::tempdir().unwrap();
    let log = log(&directory);
    flood(&log, 1, number(1, 0), rows);
    let path = files(&directory).pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    let places = frame::rows(&bytes).map(|(at, _)| at).collect();
    (directory, path, bytes, places)
}

/// The rows that are found where a file has these bytes, by how many were written before them.
fn found(directory: &tempfile::TempDir, path: &std::path::Path, bytes: &[u8]) -> Vec<u128> {
    fs::write(path, bytes).unwrap();
    let found = |log: &SegmentLog| -> Vec<u128> {
        let rows = all(log, &of(1), 200);
        rows.iter().rev().map(|request| (request - number(1, 0)) >> 80).collect()
    };
    let first = found(&opened(directory));
    // It has its index now, and says the same.
    assert_eq!(found(&opened(directory)), first);
    first
}

#[test]
fn a_torn_tail_at_any_byte_loses_no_whole_row() {
    let (directory, path, bytes, places) = unclosed(8);
    for length in 0..=bytes.len() {
        let whole = places.iter().skip(1).chain([&bytes.len()]).filter(|end| **end <= length).count();
        assert_eq!(found(&directory, &path, &bytes[..length]), (0..whole as u128).collect::<Vec<_>>(), "{length}");
    }
}

#[test]
fn holes_and_flipped_bits_take_only_the_rows_that_they_are_in() {
    let (directory, path, bytes, places) = unclosed(40);
    let ends: Vec<usize> = places.iter().skip(1).copied().chain([bytes.len()]).collect();
    for (from, to) in
        [(0, 20), (0, 40), (places[3], ends[3]), (places[3] + 5, places[9] + 1), (places[39], ends[39]), (0, ends[38])]
    {
        let mut damaged = bytes.clone();
        damaged[from..to].fill(0);
        let left: Vec<u128> =
            (0..40).filter(|row| ends[*row] <= from || places[*row] >= to).map(|row| row as u128).collect();
        assert_eq!(found(&directory, &path, &damaged), left, "{from}..{to}");
    }
    for at in (0..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        let left: Vec<u128> =
            (0..40).filter(|row| !(places[*row]..ends[*row]).contains(&at)).map(|row| row as u128).collect();
        assert_eq!(found(&directory, &path, &damaged), left, "{at}");
    }
}

#[test]
fn a_closed_segment_is_read_whatever_became_of_its_index() {
    let directory = tempfile::tempdir().unwrap();
    let log = log(&directory);
    flood(&log, 1, number(1, 0), 200);
    let path = files(&directory).remove(0);
    let bytes = fs::read(&path).unwrap();
    let index = index::Index::length(bytes.last_chunk().unwrap()).expect("it was closed");
    let rows = frame::rows(&bytes).count();
    drop(log);
    let counted = || all(&opened(&directory), &of(1), 200).len();
    assert_eq!(counted(), 200);
    let mut cut = bytes.clone();
    cut.truncate(bytes.len() - index / 2);
    let mut flipped = bytes.clone();
    flipped[bytes.len() - index + 5] ^= 1;
    let twice = [&bytes[..], &bytes[segment::HEAD..]].concat();
    let mut huge = bytes.clone();
    huge.truncate(bytes.len() - 16);
    huge.extend_from_slice(&u32::MAX.to_be_bytes());
    huge.extend_from_slice(b"\0\0\0\0prtcrlix");
    for damaged in [cut, flipped, twice, huge] {
        fs::write(&path, &damaged).unwrap();
        assert_eq!(counted(), 200, "{rows} are in the first");
        assert_eq!(counted(), 200);
    }
    // An index that names what is not there.
    let mut gone = bytes[..bytes.len() - index].to_vec();
    gone.truncate(segment::HEAD + 100);
    gone.extend_from_slice(&bytes[bytes.len() - index..]);
    fs::write(&path, gone).unwrap();
    assert_eq!(counted(), 200 - rows);
}

#[test]
fn files_of_others_stay_as_they_are_and_hold_nothing_up() {
    let directory = tempfile::tempdir().unwrap();
    let log = filled(&directory);
    let place = directory.path().join(DIRECTORY);
    let other_version = {
        let mut head = segment::head(segment::Name::of("live-07-0000000900.rows").unwrap()).to_vec();
        head[11] = 9;
        let sum = crc32fast::hash(&head[..28]);
        head[28..].copy_from_slice(&sum.to_be_bytes());
        head
    };
    // Of another chain: somebody has given it that name.
    let moved = fs::read(files(&directory).remove(0)).unwrap();
    let theirs: [(&str, &[u8]); 6] = [
        ("note.txt", b"somebody's"),
        ("live-07-0000000900.rows", &other_version),
        ("live-63-0000000901.rows", &moved),
        ("live-07-0000000902.rows.bak", b"x"),
        ("nobody-00-18446744073709551615.rows.txt", b""),
        ("live-07-902.rows", b""),
    ];
    theirs.iter().for_each(|(name, bytes)| fs::write(place.join(name), bytes).unwrap());
    fs::create_dir(place.join("live-07-0000000903.rows")).unwrap();
    fs::write(place.join("live-07-0000000904.rows"), "").unwrap();
    fs::write(place.join("live-07-0000000905.sorted.new"), "half of one").unwrap();
    std::os::unix::fs::symlink("/dev/zero", place.join("live-07-0000000906.rows")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(place.join("live-07-0000000907.rows")).status().unwrap();
    assert!(made.success());
    drop(log);
    let log = opened(&directory);
    assert_eq!(all(&log, &Filter::default(), 200).len(), 80);
    flood(&log, 1, number(0, 0), 500);
    assert_eq!(all(&log, &Filter::default(), 200).len(), 580);
    settle(&log, Bounds { age: Duration::ZERO, bytes: 0 });
    for (name, bytes) in theirs {
        assert_eq!(fs::read(place.join(name)).unwrap(), bytes, "{name}");
    }
    assert!(!place.join("live-07-0000000905.sorted.new").exists(), "half of one of ours goes");
    assert_eq!(log.bytes(), 0);
}

#[test]
fn a_name_that_is_taken_is_not_taken_again() {
    let directory = tempfile::tempdir().unwrap();
    let log = log(&directory);
    let place = directory.path().join(DIRECTORY);
    let chain = chain::Chain::of(Kind::Live, chain::spread(1)).name();
    for number in 0..5 {
        fs::write(place.join(format!("{chain}-{number:010}.rows")), "somebody's").unwrap();
    }
    flood(&log, 1, number(1, 0), 10);
    assert_eq!(all(&log, &of(1), 20).len(), 10);
    assert_eq!(fs::read(place.join(format!("{chain}-0000000000.rows"))).unwrap(), b"somebody's");
}

#[test]
fn of_two_files_of_one_segment_that_in_order_counts() {
    let directory = tempfile::tempdir().unwrap();
    let log = log(&directory);
    flood(&log, 1, number(1, 0), 30);
    let path = files(&directory).remove(0);
    let bytes = fs::read(&path).unwrap();
    drop(log);
    fs::write(path.with_extension("sorted"), &bytes).unwrap();
    let log = opened(&directory);
    assert_eq!((all(&log, &of(1), 200).len(), log.bytes()), (30, on_disk(&directory)));
    assert!(!path.exists() && path.with_extension("sorted").exists());
}

#[test]
fn a_directory_that_cannot_be_written_or_read_loses_rows_and_is_told_and_then_it_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join(DIRECTORY);
    // Also for who may write everywhere.
    fs::write(&place, "a file in its place").unwrap();
    let log = opened(&directory);
    let mut rows = Rows::default();
    row(&mut rows, Some(1), false, number(1, 0), |_| ());
    row(&mut rows, Some(2), false, number(1, 1), |_| ());
    let unwritten = log.add(&rows, NOW).unwrap_err();
    assert_eq!(unwritten.rows, 2);
    assert!(unwritten.error.to_string().contains("look at the disk of the data directory"));
    assert!(all(&log, &Filter::default(), 10).is_empty());
    assert!(!log.forget(WIDE, NOW).unwrap());
    log.settle().unwrap();
    fs::remove_file(&place).unwrap();
    log.add(&rows, NOW).unwrap();
    assert_eq!(all(&log, &Filter::default(), 10).len(), 2);
    assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(files(&directory).remove(0)).unwrap().permissions().mode() & 0o777, 0o600);
    // Somebody removes all of it while it is written.
    fs::remove_dir_all(&place).unwrap();
    assert!(all(&log, &Filter::default(), 10).is_empty());
    flood(&log, 1, number(0, 0), 500);
    assert!(all(&log, &of(1), 200).len() > 300, "the segments after that are there");
}

/// A disk that is full takes a part of what is written: it is cut off, and the next rows are there.
#[test]
fn a_write_that_fails_takes_its_own_rows_and_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let log = log(&directory);
    flood(&log, 1, number(2, 0), 20);
    // Its file takes nothing more: as that of a disk that is full.
    let chain = chain::Chain::of(Kind::Live, chain::spread(1));
    let name = files(&directory).remove(0);
    {
        let mut writer = log.0.writer();
        let open = writer.open[chain.index()].as_mut().unwrap();
        open.spoil(&name);
    }
    let mut rows = Rows::default();
    (0..10).for_each(|nth| row(&mut rows, Some(1), false, number(1, nth), |_| ()));
    row(&mut rows, Some(2), false, number(1, 100), |_| ());
    let unwritten = log.add(&rows, NOW).unwrap_err();
    assert_eq!((unwritten.rows, all(&log, &of(1), 200).len(), all(&log, &of(2), 200).len()), (10, 20, 1));
    log.add(&rows, NOW).unwrap();
    assert_eq!(all(&log, &of(1), 200).len(), 30);
    drop(log);
    let log = opened(&directory);
    assert_eq!((all(&log, &of(1), 200).len(), all(&log, &of(2), 200).len()), (30, 1));
}

#[test]
fn a_segment_that_cannot_be_removed_still_counts() {
    let directory = tempfile::tempdir().unwrap();
    let log = log(&directory);
    flood(&log, 1, number(1, 0), 10);
    let name = files(&directory).remove(0);
    fs::remove_file(&name).unwrap();
    fs::create_dir(&name).unwrap();
    let bytes = log.bytes();
    let none = Bounds { age: Duration::ZERO, bytes: 0 };
    assert!(log.forget(none, NOW).is_err());
    assert_eq!(log.bytes(), bytes);
    fs::remove_dir(&name).unwrap();
    while log.forget(none, NOW).unwrap() {}
    assert_eq!(log.bytes(), 0);
}

#[test]
fn a_number_behind_which_there_is_none_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join(DIRECTORY);
    std::fs::create_dir(&place).unwrap();
    std::fs::write(place.join(format!("live-00-{}.rows", u64::MAX)), "").unwrap();
    for round in 1..4 {
        let log = log(&directory);
        flood(&log, 1, number(round, 0), 100);
        assert_eq!(all(&log, &Filter { org: Some(1), ..Filter::default() }, 50).len(), 100 * round as usize);
    }
}

#[test]
fn what_was_put_in_order_is_erased_as_all_else_is() {
    let directory = tempfile::tempdir().unwrap();
    {
        let log = log(&directory);
        // Later ones first, so that it is worth putting in order.
        for hours in [1, 9, 2, 8, 3, 7, 4, 6, 5] {
            flood(&log, 1, number(hours, 0), 40);
        }
    }
    let log = log(&directory);
    assert_eq!(all(&log, &Filter { org: Some(1), ..Filter::default() }, 50).len(), 360);
    assert_eq!(log.0.erase(1, NOW).unwrap(), 360);
    assert!(all(&log, &Filter { org: Some(1), ..Filter::default() }, 50).is_empty());
}
