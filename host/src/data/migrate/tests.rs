use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

/// Names the directory that a child of the test migrates.
const CHILD: &str = "PORTICO_MIGRATE_IN";
const SECOND: Formats = Formats { current: 2, steps: &[Step { from: 1, row: moved }] };
const THIRD: Formats = Formats { current: 3, steps: &[Step { from: 1, row: moved }, Step { from: 2, row: doubled }] };
const STUCK: Formats = Formats { current: 2, steps: &[Step { from: 1, row: stuck }] };

/// Sealed secrets move to another tree; rows of usage that were set aside go.
fn moved(row: Row) -> Vec<Row> {
    match row.tree.as_slice() {
        b"sealed" => vec![Row { tree: b"sealed-2".to_vec(), ..row }],
        b"usage-damaged" => Vec::new(),
        _ => vec![row],
    }
}

fn doubled(row: Row) -> Vec<Row> {
    match row.tree.as_slice() {
        b"sealed-2" => vec![row.clone(), Row { tree: b"sealed".to_vec(), ..row }],
        _ => vec![row],
    }
}

/// As [`moved`], but it never comes to the end.
fn stuck(row: Row) -> Vec<Row> {
    if row.tree == b"usage" {
        fs::write(Path::new(&std::env::var_os(CHILD).unwrap()).join("stuck"), "").unwrap();
        std::thread::sleep(Duration::from_secs(600));
    }
    moved(row)
}

/// Many rows in several trees, as the first format keeps them.
fn filled(path: &Path) {
    let data = DataDirectory::open(path).unwrap();
    data.database().keep_sealed("a", b"sealed bytes").unwrap();
    data.database().tree("usage-damaged").unwrap().insert(b"damaged", b"row").unwrap();
    let usage = data.database().tree("usage").unwrap();
    for number in 0..20_000_u64 {
        usage.insert(number.to_be_bytes(), format!("{number}").repeat(10).into_bytes()).unwrap();
    }
    data.database().flush().unwrap();
}

/// A sum over all rows that no step changes, keys and values.
fn sum(data: &DataDirectory) -> u64 {
    let usage = data.database().tree("usage").unwrap();
    assert_eq!(usage.len(), 20_000);
    let mut hasher = crc32fast::Hasher::new();
    for row in usage.iter() {
        let (key, value) = row.unwrap();
        hasher.update(&key);
        hasher.update(&value);
    }
    u64::from(hasher.finalize())
}

fn second_is_whole(path: &Path, before: u64) {
    let data = DataDirectory::open_as(path, &SECOND).unwrap();
    assert_eq!(fs::read_to_string(path.join("format")).unwrap(), "2\n");
    assert_eq!(sum(&data), before);
    assert_eq!(data.database().sealed("a").unwrap(), None, "it was moved");
    assert_eq!(data.database().tree("sealed-2").unwrap().get("a").unwrap().unwrap(), b"sealed bytes");
    assert!(data.database().tree("usage-damaged").unwrap().is_empty());
}

#[test]
fn a_former_format_is_migrated_and_stays_until_the_new_one_serves() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path();
    filled(path);
    let before = sum(&DataDirectory::open(path).unwrap());
    second_is_whole(path, before);
    assert!(path.join("store").exists() && path.join("store-2").exists());
    // A start that did not come to serve changes nothing of that; one that does needs only the new one.
    second_is_whole(path, before);
    DataDirectory::open_as(path, &SECOND).unwrap().serves();
    assert!(!path.join("store").exists() && path.join("store-2").exists());
    second_is_whole(path, before);
    // What this version does not know of yet.
    let newer = DataDirectory::open(path).unwrap_err();
    assert!(newer.to_string().contains("has format 2, and this portico knows formats up to 1; use a newer"), "{newer}");
}

#[test]
fn until_the_new_one_serves_the_former_one_can_be_gone_back_to() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path();
    filled(path);
    let before = sum(&DataDirectory::open(path).unwrap());
    second_is_whole(path, before);
    // As docs/operators.md says.
    fs::write(path.join("format"), "1\n").unwrap();
    let data = DataDirectory::open(path).unwrap();
    assert_eq!((sum(&data), data.database().sealed("a").unwrap().unwrap()), (before, b"sealed bytes".to_vec()));
    drop(data);
    second_is_whole(path, before);
}

#[test]
fn several_steps_are_one_copy_and_a_missing_one_is_a_sentence() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path();
    filled(path);
    let before = sum(&DataDirectory::open(path).unwrap());
    let data = DataDirectory::open_as(path, &THIRD).unwrap();
    assert_eq!((sum(&data), data.database().sealed("a").unwrap().unwrap()), (before, b"sealed bytes".to_vec()));
    assert!(!path.join("store-2").exists());
    drop(data);
    fs::write(path.join("format"), "1\n").unwrap();
    let only_last = Formats { current: 3, steps: &THIRD.steps[1..] };
    let older = DataDirectory::open_as(path, &only_last).unwrap_err();
    assert!(
        older.to_string().ends_with(
            "has format 1, and this portico brings only later ones to format 3; start a portico in between first"
        ),
        "{older}"
    );
    assert!(path.join("store").exists());
}

/// Runs as a test of its own, which does nothing unless it is the child of the next one.
#[test]
fn child_that_never_ends() {
    if let Some(path) = std::env::var_os(CHILD) {
        let _ = DataDirectory::open_as(Path::new(&path), &STUCK);
    }
}

#[test]
fn a_migration_that_was_killed_begins_anew() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path();
    filled(path);
    let before = sum(&DataDirectory::open(path).unwrap());
    for _ in 0..2 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "data::migrate::tests::child_that_never_ends", "--nocapture"])
            .env(CHILD, path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let patience = Instant::now() + Duration::from_secs(60);
        while !path.join("stuck").exists() {
            assert!(child.try_wait().unwrap().is_none() && Instant::now() < patience, "the child came to the middle");
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_file(path.join("stuck")).unwrap();
        assert!(path.join("store-2").exists(), "half of it is there");
        assert_eq!(fs::read_to_string(path.join("format")).unwrap(), "1\n");
    }
    second_is_whole(path, before);
}
