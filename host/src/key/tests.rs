use std::time::Duration;

use super::*;
use crate::audit::{AuditStore, Filter, Note, SledAudit, Verdict, Who};
use crate::config::SecretSource;
use crate::data::DataDirectory;
use crate::outbox::SledOutbox;
use crate::seal::Vault;

fn terms() -> Terms {
    Terms {
        name: "demo".into(),
        mode: Mode::Live,
        networks: ["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()].into(),
        expires: Some(Millis(9_000)),
    }
}

fn kept(number: u128, org: u128) -> Kept {
    let (id, org) = (KeyId::from_number(number), OrgId::from_number(org));
    let key = Key::new(id, org, terms(), Scopes::new(["pay", "connect"]));
    Kept {
        key: Arc::new(key),
        name: terms().name,
        created: Millis(1_000),
        secret: secret(number, 1),
        previous: None,
        rotated: None,
        maker: None,
    }
}

fn secret(number: u128, pepper: u32) -> Digested {
    let mut digest = [0; 32];
    digest[..16].copy_from_slice(&number.to_be_bytes());
    Digested { digest: Digest::new(digest), pepper, last_four: *b"wXyZ" }
}

/// A store with its log, in a place of its own.
struct Place {
    place: tempfile::TempDir,
    data: DataDirectory,
    audit: SledAudit,
    store: SledKeys,
}

impl Place {
    fn open() -> Self {
        Self::at(tempfile::tempdir().unwrap())
    }

    fn at(place: tempfile::TempDir) -> Self {
        let data = DataDirectory::open(&place.path().join("data")).unwrap();
        let vault = Vault::open(&SecretSource::File(place.path().join("master.key")), &data).unwrap();
        vault.find_or_make("pepper/1").unwrap();
        let audit = SledAudit::open(data.database(), &vault, Millis(1)).unwrap();
        let store = SledKeys::open(data.database(), audit.clone(), SledOutbox::open(data.database()).unwrap()).unwrap();
        Self { place, data, audit, store }
    }

    fn reopened(self) -> Self {
        let Self { place, data, audit, store } = self;
        drop((store, audit, data));
        Self::at(place)
    }

    async fn insert(&self, kept: Kept) {
        self.store.insert(vec![kept], u64::MAX, note("key.issued")).await.unwrap();
    }

    async fn change(&self, id: u128, change: Change) -> Result<Option<Changed>, StoreError> {
        self.store.change(KeyId::from_number(id), change, note("key.changed")).await
    }

    /// Actions in the log, oldest first; the log is whole.
    async fn noted(&self) -> Vec<String> {
        assert!(matches!(self.audit.verify().await.unwrap(), Verdict::Whole(_)));
        let page = self.audit.page(Filter::default(), None, 1_000).await.unwrap();
        page.entries.iter().rev().map(|entry| entry.note.action.to_string()).collect()
    }
}

fn note(action: &'static str) -> Note {
    Note::new(Who::gateway(), action, Millis(2_000))
}

fn rotation(number: u128, at: u64, overlap: u64, force: bool) -> Change {
    let overlap = Duration::from_millis(overlap);
    Change::Rotate { secret: secret(number, 1), at: Millis(at), overlap, force, within: None, withheld: Vec::new() }
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

#[test]
fn management_scopes_and_those_of_pillars_are_never_taken_for_one_another() {
    let key = kept(1, 1).key;
    key.set_scopes(Scopes::new(["keys:write", "pay"]));
    assert!(key.manages(Management::KeysWrite) && key.holds("pay"));
    assert!(!key.holds("keys:write") && !key.manages(Management::KeysRead));
    key.set_scopes(Scopes::new(["keys", "write"]));
    assert!(!key.manages(Management::KeysWrite));
    for one in Management::ALL {
        key.set_scopes(Scopes::new([one.name()]));
        assert!(key.manages(one) && !key.holds(one.name()) && Management::is_one(one.name()));
    }
}

#[test]
fn bounds_hold_what_reaches_no_further() {
    let bounds = Bounds::of(&kept(1, 1).key);
    let within = |change: fn(&mut Terms), scopes: &[&str]| {
        let mut terms = terms();
        change(&mut terms);
        bounds.hold(&terms, &Scopes::new(scopes.iter().copied()))
    };
    assert!(within(|_| {}, &["pay", "connect"]));
    assert!(within(|terms| terms.networks = ["10.1.0.0/16".parse().unwrap()].into(), &["pay"]));
    assert!(within(|terms| terms.networks = ["2001:db8:1::/48".parse().unwrap()].into(), &[]));
    assert!(within(|terms| terms.expires = Some(Millis(8_999)), &[]));
    assert!(!within(|_| {}, &["pay", "identity"]));
    assert!(!within(|terms| terms.mode = Mode::Sandbox, &[]));
    assert!(!within(|terms| terms.expires = Some(Millis(9_001)), &[]));
    assert!(!within(|terms| terms.expires = None, &[]));
    for networks in
        [&[][..], &["0.0.0.0/0"], &["10.0.0.0/7"], &["11.0.0.0/8"], &["10.0.0.0/8", "::/0"], &["2001:d00::/24"]]
    {
        let mut terms = terms();
        terms.networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        assert!(!bounds.hold(&terms, &Scopes::default()), "{networks:?}");
    }
}

#[test]
fn a_rotation_ends_no_later_than_the_key_and_comes_once_at_a_time() {
    let mut kept = kept(1, 1);
    assert_eq!(kept.apply(&rotation(2, 5_000, 60_000, false)), Ok(true));
    let Previous { secret: previous, until } = kept.previous.unwrap();
    assert_eq!((previous, until), (secret(1, 1), Millis(9_000)));
    assert_eq!((kept.secret, kept.rotated), (secret(2, 1), Some(Millis(5_000))));
    let refused = kept.apply(&rotation(3, 8_999, 0, false));
    assert_eq!(refused, Err(Unchangeable::RotationInProgress { until: Millis(9_000) }));
    assert_eq!(kept.apply(&rotation(3, 8_000, 0, true)), Ok(true));
    assert_eq!(kept.previous.unwrap(), Previous { secret: secret(2, 1), until: Millis(8_000) });
    assert_eq!(kept.apply(&rotation(4, 8_000, 0, false)), Ok(true));
    assert_eq!(kept.apply(&rotation(5, 9_000, 0, true)), Err(Unchangeable::Expired));
    kept.key.revoke(Millis(1));
    assert_eq!(kept.apply(&rotation(5, 8_000, 0, true)), Err(Unchangeable::Revoked));
    let scope = Change::Scope { scopes: Scopes::new(["pay"]), at: Millis(1), within: None };
    assert_eq!(kept.apply(&scope), Err(Unchangeable::Revoked));
    assert_eq!(kept.apply(&Change::Revoke(Millis(2))), Ok(false));
    assert_eq!(kept.key.revoked(), Some(Millis(1)));
}

#[tokio::test]
async fn a_stored_key_comes_back_as_it_was_after_reopening() {
    let place = Place::open();
    place.insert(Kept { maker: Some("tok_1".into()), ..kept(7, 1) }).await;
    place.insert(kept(8, 1)).await;
    let revoked = place.change(8, Change::Revoke(Millis(5_000))).await.unwrap().unwrap();
    assert_eq!((revoked.before.key.revoked(), revoked.after.key.revoked()), (None, Some(Millis(5_000))));
    place.change(7, rotation(70, 3_000, 1_000, false)).await.unwrap();
    place.store.note_used(vec![(KeyId::from_number(7), Millis(80_000))]).await.unwrap();

    let place = place.reopened();
    let found = place.store.find(KeyId::from_number(7)).await.unwrap().unwrap();
    let original = kept(7, 1);
    assert_eq!((found.secret, found.rotated), (secret(70, 1), Some(Millis(3_000))));
    assert_eq!(found.previous, Some(Previous { secret: secret(7, 1), until: Millis(4_000) }));
    assert_eq!(found.maker.as_deref(), Some("tok_1"));
    let (key, original_key) = (&found.key, &original.key);
    assert_eq!((&*found.name, found.created, key.org), (&*terms().name, Millis(1_000), original_key.org));
    assert_eq!((key.mode, key.networks(), key.expires()), (terms().mode, &*terms().networks, terms().expires));
    assert_eq!(found.key.scopes().as_str(), "connect pay");
    assert_eq!((found.key.revoked(), found.key.last_used()), (None, Some(Millis(80_000))));
    assert!(found.key.is_current(0, Millis(3_999)) && !found.key.is_current(0, Millis(4_000)));
    assert!(found.key.is_current(1, Millis(4_000)));
    let again = place.change(8, Change::Revoke(Millis(6_000))).await.unwrap().unwrap();
    assert_eq!(again.after.key.revoked(), Some(Millis(5_000)));
    assert!(place.store.find(KeyId::from_number(9)).await.unwrap().is_none());
    assert!(place.change(9, Change::Revoke(Millis(1))).await.unwrap().is_none());
    // What changes nothing is not noted.
    assert_eq!(place.noted().await, ["audit.begun", "key.issued", "key.issued", "key.changed", "key.changed"]);
}

#[tokio::test]
async fn digests_follow_rotations_and_peppers() {
    let place = Place::open();
    place.insert(kept(1, 1)).await;
    let owner = async |number| place.store.find_by_digest(secret(number, 1).digest).await.unwrap();
    place.change(1, rotation(2, 1_500, 100, false)).await.unwrap();
    let id = KeyId::from_number(1);
    let ours = Some(id);
    assert_eq!((owner(1).await, owner(2).await), (ours, ours));
    place.change(1, rotation(3, 1_550, 100, true)).await.unwrap();
    assert_eq!((owner(1).await, owner(2).await, owner(3).await), (None, ours, ours));
    let moved = |from, to| Move { id, from: secret(from, 1).digest, to: secret(to, 1).digest, pepper: 2 };
    let done = place.store.redigest(vec![moved(3, 4), moved(1, 5), moved(2, 6)]).await.unwrap();
    assert_eq!(done.len(), 2, "a secret that is gone stays gone");
    assert_eq!((owner(3).await, owner(4).await, owner(5).await, owner(6).await), (None, ours, None, ours));
    let kept = place.store.find(id).await.unwrap().unwrap();
    assert_eq!((kept.secret, kept.previous.unwrap().secret), (secret(4, 2), secret(6, 2)));
    assert_eq!(place.noted().await.len(), 4);
}

#[tokio::test]
async fn of_a_rotation_and_a_revocation_at_once_the_revocation_wins() {
    let place = Place::open();
    place.insert(kept(1, 1)).await;
    let (rotated, revoked) =
        tokio::join!(place.change(1, rotation(2, 1_500, 100, false)), place.change(1, Change::Revoke(Millis(1_500))));
    revoked.unwrap();
    assert!(rotated.is_ok() || matches!(rotated, Err(StoreError::Unchangeable(Unchangeable::Revoked))));
    let kept = place.store.find(KeyId::from_number(1)).await.unwrap().unwrap();
    assert_eq!(kept.key.revoked(), Some(Millis(1_500)));
    place.noted().await;
}

#[tokio::test]
async fn a_change_that_cannot_be_noted_is_not_made() {
    let place = Place::open();
    place.insert(kept(1, 1)).await;
    place.audit.spoil_end();
    assert!(matches!(place.change(1, Change::Revoke(Millis(5))).await, Err(StoreError::Audit(_))));
    let error = place.store.insert(vec![kept(2, 1)], u64::MAX, note("key.issued")).await.unwrap_err();
    assert!(matches!(error, StoreError::Audit(_)));
    let found = place.store.find(KeyId::from_number(1)).await.unwrap().unwrap();
    assert_eq!(found.key.revoked(), None);
    assert!(place.store.find(KeyId::from_number(2)).await.unwrap().is_none());
}

#[tokio::test]
async fn lists_page_by_org_and_over_all() {
    let place = Place::open();
    for number in 1..=5 {
        place.insert(kept(number, 1 + number % 2)).await;
    }
    let odd = Some(OrgId::from_number(2));
    let first = place.store.page(odd, None, 2).await.unwrap();
    assert_eq!((ids(&first), first.more), (vec![1, 3], true));
    let second = place.store.page(odd, Some(first.keys[1].key.id), 2).await.unwrap();
    assert_eq!((ids(&second), second.more), (vec![5], false));
    let all = place.store.page(None, Some(KeyId::from_number(1)), 4).await.unwrap();
    assert_eq!((ids(&all), all.more), (vec![2, 3, 4, 5], false));
    assert!(place.store.page(Some(OrgId::from_number(9)), None, 2).await.unwrap().keys.is_empty());
}

#[tokio::test]
async fn one_secret_cannot_be_two_keys_and_none_of_a_batch_is_kept_then() {
    let place = Place::open();
    place.insert(kept(1, 1)).await;
    let twin = Kept { secret: secret(1, 1), ..kept(2, 1) };
    let error = place.store.insert(vec![kept(3, 1), twin], u64::MAX, note("key.imported")).await.unwrap_err();
    assert!(matches!(error, StoreError::Taken { id } if id == KeyId::from_number(1)));
    assert!(place.store.find(KeyId::from_number(2)).await.unwrap().is_none());
    assert_eq!(place.store.page(None, None, 9).await.unwrap().keys.len(), 1);
    assert_eq!(place.noted().await, ["audit.begun", "key.issued"]);
}

#[tokio::test]
async fn a_damaged_record_is_named_and_never_becomes_a_key() {
    let place = Place::open();
    place.insert(kept(1, 1)).await;
    place.store.spoil(KeyId::from_number(1), &[4, 8, 10, 0, 0, 0], &[4, 99, 10, 0, 0, 0]);
    let error = place.store.find(KeyId::from_number(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { id } if id == KeyId::from_number(1)));
    assert!(error.to_string().contains("key_0"));
    assert!(matches!(place.change(1, Change::Revoke(Millis(1))).await, Err(StoreError::Damaged { .. })));
}

#[test]
fn a_record_of_the_version_before_is_read() {
    let digest: Vec<String> = secret(5, 1).digest.as_bytes().iter().map(u8::to_string).collect();
    let org = OrgId::from_number(1);
    let text = format!(
        r#"{{"org":"{org}","name":"a","mode":"live","scopes":["pay"],"networks":["10.0.0.0/8"],
        "created":"2026-11-22T00:00:00.000Z","expires":null,"revoked":null,"last_four":"wXyZ","pepper":1,
        "digest":[{}]}}"#,
        digest.join(",")
    );
    let read = record::decoded(KeyId::from_number(5), text.as_bytes()).unwrap();
    assert_eq!((read.secret, read.previous, read.maker), (secret(5, 1), None, None));
    assert!(read.key.holds("pay") && read.key.org == org);
}

#[test]
fn a_key_takes_little_memory() {
    // With two counters before it, and what a map and a set keep for it, 200 bytes; the bench measures it.
    assert!(std::mem::size_of::<Key>() <= 80, "{}", std::mem::size_of::<Key>());
}
