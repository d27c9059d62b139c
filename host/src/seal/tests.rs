use super::*;

fn data() -> (tempfile::TempDir, DataDirectory) {
    let place = tempfile::tempdir().unwrap();
    let data = DataDirectory::open(&place.path().join("data")).unwrap();
    (place, data)
}

#[test]
fn a_secret_opens_under_its_own_key_and_name_only() {
    let key = MasterKey::new([7; 32]);
    let sealed = key.seal("pepper/1", b"hush").unwrap();
    assert_eq!(&key.open("pepper/1", &sealed).unwrap()[..], b"hush");
    assert!(!sealed.windows(4).any(|part| part == b"hush"));
    assert_ne!(sealed, key.seal("pepper/1", b"hush").unwrap());
    assert!(key.open("pepper/2", &sealed).is_err());
    let error = MasterKey::new([8; 32]).open("pepper/1", &sealed).unwrap_err();
    assert!(error.to_string().contains("`pepper/1` does not open"));
}

#[test]
fn every_changed_or_missing_byte_is_noticed() {
    let key = MasterKey::new([7; 32]);
    let sealed = key.seal("a", b"hush").unwrap();
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert!(key.open("a", &changed).is_err(), "byte {at}");
        assert!(key.open("a", &sealed[..at]).is_err(), "first {at} bytes");
    }
}

#[test]
fn a_first_start_makes_a_private_key_and_the_next_one_reads_it() {
    let (place, data) = data();
    let path = place.path().join("keys/master.key");
    let source = SecretSource::File(path.clone());
    let secret = Vault::open(&source, &data).unwrap().find_or_make("pepper/1").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    let vault = Vault::open(&source, &data).unwrap();
    assert_eq!(vault.find_or_make("pepper/1").unwrap(), secret);
    assert!(vault.find("pepper/2").unwrap().is_none());
    assert_ne!(vault.derive("cache"), vault.derive("other"));
}

#[test]
fn a_key_that_went_missing_or_was_exchanged_is_named_and_not_replaced() {
    let (place, data) = data();
    let path = place.path().join("master.key");
    let source = SecretSource::File(path.clone());
    Vault::open(&source, &data).unwrap().find_or_make("pepper/1").unwrap();
    fs::remove_file(&path).unwrap();
    let error = Vault::open(&source, &data).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    assert!(!path.exists());

    MasterKey::read(&source, true).unwrap();
    let error = Vault::open(&source, &data).unwrap().find_or_make("pepper/1").unwrap_err();
    assert!(matches!(error, Error::DoesNotOpen { .. }), "{error}");
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let (place, data) = data();
    let path = place.path().join("master.key");
    fs::write(&path, "ab".repeat(32)).unwrap();
    for (mode, refused) in [(0o644, true), (0o640, true), (0o600, false), (0o400, false)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let opened = Vault::open(&SecretSource::File(path.clone()), &data);
        assert_eq!(matches!(opened, Err(Error::Exposed { .. })), refused, "{mode:o}");
    }
}

#[test]
fn a_key_of_another_form_is_refused_without_showing_it() {
    let (place, data) = data();
    let path = place.path().join("master.key");
    for text in ["", "secretsecret", &"zz".repeat(32), &"ab".repeat(31), &"é".repeat(32)] {
        let _ = fs::remove_file(&path);
        crate::data::write_private(&path, text.as_bytes()).unwrap();
        let error = Vault::open(&SecretSource::File(path.clone()), &data).unwrap_err();
        assert!(matches!(error, Error::Form { .. }), "{text}: {error}");
        assert!(text.is_empty() || !format!("{error} {error:?}").contains(text));
    }
}

#[test]
fn a_key_in_the_data_directory_or_a_missing_variable_is_refused() {
    let (_place, data) = data();
    let inside = SecretSource::File(data.path().join("master.key"));
    assert!(matches!(Vault::open(&inside, &data), Err(Error::InsideData { .. })));
    let nowhere = SecretSource::Env("PORTICO_TEST_NO_SUCH_VARIABLE".into());
    let error = Vault::open(&nowhere, &data).unwrap_err();
    assert!(error.to_string().contains("PORTICO_TEST_NO_SUCH_VARIABLE"), "{error}");
}

#[test]
fn debug_shows_no_secret() {
    let key = MasterKey::parse(&"ab".repeat(32), String::new()).unwrap();
    assert_eq!(format!("{key:?}"), "MasterKey(…)");
}
