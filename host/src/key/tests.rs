use super::*;
use crate::data::DataDirectory;

fn terms() -> Terms {
    Terms {
        name: "demo".into(),
        mode: Mode::Live,
        scopes: Scopes::new(["pay", "connect"]),
        networks: ["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()].into(),
        expires: Some(Millis(9_000)),
    }
}

fn kept(number: u128, org: u128) -> Kept {
    let (id, org) = (KeyId::from_number(number), OrgId::from_number(org));
    let key = Key::new(id, org, terms(), Millis(1_000), *b"wXyZ", 1);
    let mut digest = [0; 32];
    digest[..16].copy_from_slice(&number.to_be_bytes());
    Kept { digest: Digest::new(digest), key: Arc::new(key) }
}

fn ids(page: &Page) -> Vec<u128> {
    page.keys.iter().map(|kept| kept.key.id.number()).collect()
}

#[test]
fn a_key_holds_its_scopes_and_no_part_of_them() {
    let key = kept(1, 1).key;
    assert!(key.holds("pay") && key.holds("connect"));
    for scope in ["", " ", "pa", "payment", "connect pay", "PAY"] {
        assert!(!key.holds(scope), "{scope:?}");
    }
    let scopes = Scopes::new(["b", "a", "b", "", "c d", "é", "e\"f"]);
    assert_eq!(scopes.as_str(), "a b");
    assert_eq!(Scopes::new([]).iter().count(), 0);
    assert!(!Scopes::new([]).contain(""));
}

#[test]
fn a_key_allows_its_networks_also_when_ipv4_comes_as_ipv6() {
    let key = kept(1, 1).key;
    for (address, allowed) in [
        ("10.1.2.3", true),
        ("::ffff:10.1.2.3", true),
        ("2001:db8::1", true),
        ("11.1.2.3", false),
        ("::ffff:11.1.2.3", false),
        ("::10.1.2.3", false),
        ("2001:db9::1", false),
    ] {
        assert_eq!(key.allows(address.parse().unwrap()), allowed, "{address}");
    }
}

#[test]
fn a_key_remembers_its_first_revocation_and_a_coarse_last_use() {
    let key = kept(1, 1).key;
    assert_eq!((key.revoked(), key.last_used()), (None, None));
    key.revoke(Millis(5));
    key.revoke(Millis(7));
    assert_eq!(key.revoked(), Some(Millis(5)));
    key.touch(Millis(100_000));
    key.touch(Millis(159_999));
    assert_eq!(key.last_used(), Some(Millis(100_000)));
    key.touch(Millis(160_000));
    assert_eq!(key.last_used(), Some(Millis(160_000)));
}

#[tokio::test]
async fn a_stored_key_comes_back_as_it_was_after_reopening() {
    let place = tempfile::tempdir().unwrap();
    let data = DataDirectory::open(place.path()).unwrap();
    let store = SledKeys::open(data.database()).unwrap();
    store.insert(kept(7, 1)).await.unwrap();
    store.insert(kept(8, 1)).await.unwrap();
    let revoked = store.revoke(KeyId::from_number(8), Millis(5_000)).await.unwrap().unwrap();
    assert_eq!(revoked.key.revoked(), Some(Millis(5_000)));
    store.note_used(vec![(KeyId::from_number(7), Millis(80_000))]).await.unwrap();
    drop((store, data));

    let data = DataDirectory::open(place.path()).unwrap();
    let store = SledKeys::open(data.database()).unwrap();
    let found = store.find(KeyId::from_number(7)).await.unwrap().unwrap();
    let original = kept(7, 1);
    assert_eq!(found.digest, original.digest);
    assert_eq!(found.key.terms, original.key.terms);
    assert_eq!(
        (found.key.org, found.key.created, found.key.last_four, found.key.pepper),
        (original.key.org, original.key.created, original.key.last_four, original.key.pepper)
    );
    assert_eq!((found.key.revoked(), found.key.last_used()), (None, Some(Millis(80_000))));
    let again = store.revoke(KeyId::from_number(8), Millis(6_000)).await.unwrap().unwrap();
    assert_eq!(again.key.revoked(), Some(Millis(5_000)));
    assert!(store.find(KeyId::from_number(9)).await.unwrap().is_none());
    assert!(store.revoke(KeyId::from_number(9), Millis(1)).await.unwrap().is_none());
}

#[tokio::test]
async fn lists_page_by_org_and_over_all() {
    let place = tempfile::tempdir().unwrap();
    let data = DataDirectory::open(place.path()).unwrap();
    let store = SledKeys::open(data.database()).unwrap();
    for number in 1..=5 {
        store.insert(kept(number, 1 + number % 2)).await.unwrap();
    }
    let odd = Some(OrgId::from_number(2));
    let first = store.page(odd, None, 2).await.unwrap();
    assert_eq!((ids(&first), first.more), (vec![1, 3], true));
    let second = store.page(odd, Some(first.keys[1].key.id), 2).await.unwrap();
    assert_eq!((ids(&second), second.more), (vec![5], false));
    let all = store.page(None, Some(KeyId::from_number(1)), 4).await.unwrap();
    assert_eq!((ids(&all), all.more), (vec![2, 3, 4, 5], false));
    assert!(store.page(Some(OrgId::from_number(9)), None, 2).await.unwrap().keys.is_empty());
}

#[tokio::test]
async fn one_secret_cannot_be_two_keys() {
    let place = tempfile::tempdir().unwrap();
    let data = DataDirectory::open(place.path()).unwrap();
    let store = SledKeys::open(data.database()).unwrap();
    store.insert(kept(1, 1)).await.unwrap();
    let twin = Kept { digest: kept(1, 1).digest, key: kept(2, 1).key };
    let error = store.insert(twin).await.unwrap_err();
    assert!(matches!(error, StoreError::Taken { id } if id == KeyId::from_number(1)));
    assert!(store.find(KeyId::from_number(2)).await.unwrap().is_none());
    assert_eq!(store.page(None, None, 9).await.unwrap().keys.len(), 1);
}

#[tokio::test]
async fn a_damaged_record_is_named_and_never_becomes_a_key() {
    let place = tempfile::tempdir().unwrap();
    let data = DataDirectory::open(place.path()).unwrap();
    let store = SledKeys::open(data.database()).unwrap();
    store.insert(kept(1, 1)).await.unwrap();
    store.spoil(KeyId::from_number(1), "10.0.0.0/8", "10.0.0.0/99");
    let error = store.find(KeyId::from_number(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { id } if id == KeyId::from_number(1)));
    assert!(error.to_string().contains("key_0"));
}
