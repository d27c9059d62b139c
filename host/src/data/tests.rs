use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_missing_directory_is_made_private_and_opens_again() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("deep/data");
    let data = DataDirectory::open(&path).unwrap();
    data.database().keep_sealed("a", b"sealed bytes").unwrap();
    assert_eq!(data.path(), path);
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("format")), 0o600);
    drop(data);

    let data = DataDirectory::open(&path).unwrap();
    assert_eq!(data.database().sealed("a").unwrap().unwrap(), b"sealed bytes");
    assert!(data.database().has_sealed().unwrap());
    assert_eq!(data.database().sealed("b").unwrap(), None);
}

#[test]
fn a_second_opening_is_refused_with_the_number_of_the_first() {
    let place = tempfile::tempdir().unwrap();
    let first = DataDirectory::open(place.path()).unwrap();
    let error = DataDirectory::open(place.path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "data directory {} is in use by another portico (pid {}); stop it or choose another `data.directory`",
            place.path().display(),
            std::process::id()
        )
    );
    drop(first);
    DataDirectory::open(place.path()).unwrap();
}

#[test]
fn a_newer_format_is_refused_and_nothing_is_touched() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("format"), "2\n").unwrap();
    let error = DataDirectory::open(place.path()).unwrap_err();
    assert!(matches!(error, Error::Newer { found: 2, .. }));
    assert!(error.to_string().contains("has format 2, and this portico knows formats up to 1"));
    assert!(!place.path().join("store").exists());
}

#[test]
fn a_damaged_or_missing_format_beside_a_store_is_refused() {
    for damage in ["", "one", "0", "\u{fffd}", "-1"] {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("format"), damage).unwrap();
        assert!(matches!(DataDirectory::open(place.path()), Err(Error::Foreign { .. })), "{damage}");
    }
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("store")).unwrap();
    assert!(matches!(DataDirectory::open(place.path()), Err(Error::Foreign { .. })));
}

#[test]
fn a_path_that_cannot_be_a_directory_is_one_clear_sentence() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = DataDirectory::open(&path).unwrap_err();
        assert!(matches!(error, Error::Unusable { .. }), "{error:?}");
        assert!(error.to_string().contains("choose another `data.directory`"));
        assert_eq!(error.to_string().lines().count(), 1);
    }
}

#[test]
fn a_private_file_is_replaced_as_a_whole_with_its_mode() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("token");
    fs::write(&path, "old and readable").unwrap();
    fs::write(place.path().join("token.new"), "left behind").unwrap();
    write_private(&path, b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(mode(&path), 0o600);
    assert!(!place.path().join("token.new").exists());
}

#[test]
fn a_tree_that_nobody_needs_goes_with_its_rows_and_leaves_the_others() {
    let place = tempfile::tempdir().unwrap();
    let data = DataDirectory::open(place.path()).unwrap();
    for name in ["former", "other"] {
        let tree = data.database().tree(name).unwrap();
        (0..2_000_u32).for_each(|row| drop(tree.insert(row.to_be_bytes(), vec![7; 200]).unwrap()));
    }
    assert!(data.database().drop_tree("former").unwrap());
    assert!(!data.database().drop_tree("former").unwrap(), "it is gone");
    data.database().flush().unwrap();
    drop(data);
    let data = DataDirectory::open(place.path()).unwrap();
    assert!(!data.database().names().contains(&b"former".to_vec()));
    assert_eq!(data.database().tree("other").unwrap().len(), 2_000);
}
