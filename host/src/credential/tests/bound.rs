//! How many keys an org may have, and what becomes of those that have ended.

use super::*;
use crate::audit::{AuditStore, Filter, Verdict};

const DAY: Duration = Duration::from_secs(86_400);

fn too_many(error: &IssueError) -> bool {
    matches!(error, IssueError::Store(StoreError::TooMany { most: 3, .. }))
}

impl Desk {
    async fn try_issue(&self, org: u128, expires: Option<Millis>) -> Result<Issued, IssueError> {
        let new = NewKey { org: OrgId::from_number(org), ..new(Terms { expires, ..terms() }) };
        self.issuer.issue(new, Who::gateway()).await
    }

    async fn import(&self, keys: &[&str]) -> Result<Vec<Kept>, IssueError> {
        let keys = keys.iter().map(|secret| (new(terms()), Secret::imported(secret).unwrap())).collect();
        self.issuer.import(keys, Who::gateway()).await
    }

    /// Ids of all keys in the store.
    async fn stored(&self) -> Vec<KeyId> {
        let page = self.keys.page(None, None, 1_000).await.unwrap();
        page.keys.iter().map(|kept| kept.key.id).collect()
    }

    fn days_ago(&self, days: u32) -> Millis {
        Millis(self.clock.now().0.saturating_sub((DAY * days).as_millis() as u64))
    }
}

#[tokio::test]
async fn an_org_has_so_many_keys_that_are_neither_revoked_nor_expired_and_no_more() {
    let desk = Desk::open().await;
    desk.issuer.allow(3);
    let soon = desk.clock.now().plus(DAY);
    let first = desk.try_issue(1, None).await.unwrap();
    desk.try_issue(1, Some(soon)).await.unwrap();
    let revoked_late = desk.try_issue(1, Some(soon)).await.unwrap();
    let refused = desk.try_issue(1, None).await.unwrap_err();
    assert!(too_many(&refused), "{refused}");
    desk.try_issue(2, None).await.unwrap();
    // A rotation makes no key, nor does it end one.
    desk.rotate(&first, 0, false).await.unwrap();
    assert!(too_many(&desk.try_issue(1, None).await.unwrap_err()));

    desk.revoke(first.kept.key.id).await;
    desk.revoke(first.kept.key.id).await;
    desk.try_issue(1, None).await.unwrap();
    assert!(too_many(&desk.try_issue(1, None).await.unwrap_err()));
    // Two end by themselves at this instant; that one of them is revoked afterwards frees no further place.
    desk.clock.advance(DAY);
    desk.revoke(revoked_late.kept.key.id).await;
    desk.try_issue(1, None).await.unwrap();
    desk.try_issue(1, None).await.unwrap();
    assert!(too_many(&desk.try_issue(1, None).await.unwrap_err()));

    let desk = desk.reopen().await;
    desk.issuer.allow(3);
    assert!(too_many(&desk.try_issue(1, None).await.unwrap_err()));
    desk.issuer.allow(4);
    desk.try_issue(1, None).await.unwrap();
}

#[tokio::test]
async fn an_import_beyond_the_bound_brings_in_nothing() {
    let desk = Desk::open().await;
    desk.issuer.allow(3);
    let secrets = ["a", "b", "c", "d"].map(|end| format!("sk_live_of_another_system_765432{end}"));
    let secrets = secrets.each_ref().map(String::as_str);
    assert!(too_many(&desk.import(&secrets).await.unwrap_err()));
    assert!(desk.stored().await.is_empty() && desk.ring.hot() == 0);
    assert_eq!(desk.import(&secrets[1..]).await.unwrap().len(), 3);
    assert!(too_many(&desk.import(&secrets[..1]).await.unwrap_err()));
    assert_eq!((desk.stored().await.len(), desk.ring.hot()), (3, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_that_want_a_key_at_once_get_exactly_as_many_as_there_may_be() {
    let desk = Desk::open().await;
    desk.issuer.allow(3);
    // Of each org, and once more past the desk, which lets in one at a time.
    let issuing: Vec<_> = (0..24)
        .map(|number| {
            let issuer = desk.issuer.clone();
            let new = NewKey { org: OrgId::from_number(number % 2), ..new(terms()) };
            tokio::spawn(async move { issuer.issue(new, Who::gateway()).await.is_ok() })
        })
        .collect();
    let mut issued = 0;
    for issuing in issuing {
        issued += usize::from(issuing.await.unwrap());
    }
    assert_eq!((issued, desk.stored().await.len(), desk.ring.hot()), (6, 6, 6));

    let inserting: Vec<_> = (0..24u8)
        .map(|number| {
            let (store, now) = (desk.keys.clone(), desk.clock.now());
            let key = Key::new(KeyId::fresh(now).unwrap(), OrgId::from_number(7), terms(), Scopes::new([]));
            let secret = Digested { digest: Digest::new([number; 32]), pepper: 1, last_four: *b"wXyZ" };
            let (key, name) = (Arc::new(key), "demo".into());
            let kept = Kept { key, name, created: now, secret, previous: None, rotated: None, maker: None };
            tokio::spawn(async move {
                store.insert(vec![kept], 3, Note::new(Who::gateway(), "key.issued", now)).await.is_ok()
            })
        })
        .collect();
    let mut inserted = 0;
    for inserting in inserting {
        inserted += usize::from(inserting.await.unwrap());
    }
    assert_eq!((inserted, desk.stored().await.len()), (3, 9));
}

#[tokio::test]
async fn what_ended_long_ago_is_forgotten_in_memory_and_in_the_store() {
    let desk = Desk::open().await;
    desk.clock.advance(100 * DAY);
    let end = desk.clock.now().plus(DAY);
    let expiring = desk.issue(Terms { expires: Some(end), ..terms() }).await;
    let (old, kept) = (desk.issue(terms()).await, desk.issue(terms()).await);
    let young = desk.rotate(&old, 3600, false).await.unwrap();
    let parent = desk.issue(terms()).await;
    let maker = Some(parent.kept.key.id.to_string().into_boxed_str());
    let child = desk.issuer.issue(NewKey { maker, ..new(terms()) }, Who::gateway()).await.unwrap();
    for ended in [&old, &parent] {
        desk.revoke(ended.kept.key.id).await;
    }
    desk.clock.advance(DAY);
    let late = desk.issue(terms()).await;
    desk.clock.advance(DAY);
    desk.revoke(late.kept.key.id).await;
    desk.issuer.save_used().await.unwrap();
    desk.clock.advance(89 * DAY);

    // Neither what lives, nor what ended a moment too late.
    assert_eq!(desk.issuer.forget_ended(desk.days_ago(91)).await.unwrap(), 0);
    assert!(matches!(desk.resolve(&expiring), Credential::Expired(_)));
    assert_eq!(desk.issuer.forget_ended(desk.days_ago(89)).await.unwrap(), 3);
    for gone in [&expiring, &old, &young, &parent] {
        assert!(matches!(desk.resolve(gone), Credential::Unknown));
        assert!(desk.issuer.held(gone.kept.key.id).is_none());
        assert!(desk.issuer.find(gone.kept.key.id).await.unwrap().is_none());
        assert!(desk.keys.find_by_digest(gone.kept.secret.digest).await.unwrap().is_none());
        assert!(desk.revoke(gone.kept.key.id).await.is_none());
    }
    // A key that another one made is not ended with it.
    assert!(desk.resolve(&child).valid().is_some() && desk.resolve(&kept).valid().is_some());
    assert!(matches!(desk.resolve(&late), Credential::Revoked(_)));
    let mut left = [&kept, &child, &late].map(|issued| issued.kept.key.id);
    left.sort();
    let mut stored = desk.stored().await;
    stored.sort();
    assert_eq!((stored.as_slice(), desk.ring.hot()), (&left[..], 3));
    assert_eq!(desk.issuer.forget_ended(desk.days_ago(89)).await.unwrap(), 0);

    let log = desk.audit.page(Filter { action: Some("key.forgotten".into()), ..Filter::default() }, None, 9);
    let entries = log.await.unwrap().entries;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].note.before["keys"], 3);
    assert_eq!((entries[0].note.org, entries[0].note.on.len()), (Some(OrgId::from_number(1)), 3));
    assert!(matches!(desk.audit.verify().await.unwrap(), Verdict::Whole(_)));

    let desk = desk.reopen().await;
    assert_eq!(desk.stored().await.len(), 3);
    assert!(matches!(desk.resolve(&old), Credential::Unknown));
    assert!(desk.resolve(&child).valid().is_some());
}

#[tokio::test]
async fn many_are_forgotten_step_by_step_and_their_places_are_free() {
    let desk = Desk::open().await;
    desk.clock.advance(100 * DAY);
    let secrets: Vec<String> = (0..600).map(|number| format!("sk_live_of_another_system_{number:07}")).collect();
    let imported = desk.import(&secrets.iter().map(String::as_str).collect::<Vec<_>>()).await.unwrap();
    for kept in &imported {
        desk.revoke(kept.key.id).await;
    }
    desk.clock.advance(2 * DAY);
    assert_eq!(desk.issuer.forget_ended(desk.days_ago(1)).await.unwrap(), 600);
    assert!(desk.ring.hot() == 0 && desk.stored().await.is_empty());
    let log = desk.audit.page(Filter { action: Some("key.forgotten".into()), ..Filter::default() }, None, 9);
    let counts: Vec<_> = log.await.unwrap().entries.iter().map(|entry| entry.note.before["keys"].clone()).collect();
    assert_eq!(counts, [88, 256, 256]);
    // The same secrets may come again.
    desk.issuer.allow(600);
    assert_eq!(desk.import(&secrets.iter().map(String::as_str).collect::<Vec<_>>()).await.unwrap().len(), 600);
}

#[tokio::test]
async fn keys_of_a_store_that_did_not_count_them_are_counted_at_the_next_start() {
    let desk = Desk::open().await;
    let end = desk.clock.now().plus(DAY);
    let ended = desk.issue(terms()).await;
    desk.revoke(ended.kept.key.id).await;
    desk.issue(terms()).await;
    desk.issue(Terms { expires: Some(end), ..terms() }).await;
    desk.keys.forget_counts();
    let desk = desk.reopen().await;
    desk.issuer.allow(3);
    desk.try_issue(1, None).await.unwrap();
    assert!(too_many(&desk.try_issue(1, None).await.unwrap_err()));
    desk.clock.advance(DAY);
    desk.try_issue(1, None).await.unwrap();
    assert!(too_many(&desk.try_issue(1, None).await.unwrap_err()));
    desk.clock.advance(100 * DAY);
    assert_eq!(desk.issuer.forget_ended(desk.days_ago(1)).await.unwrap(), 2);
}
