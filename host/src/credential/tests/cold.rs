//! Keys that are not in memory: found, changed, revoked and forgotten as all others are, and nobody's are never looked for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Semaphore;

use super::*;

impl Desk {
    /// Takes all out of memory that nobody holds.
    async fn cool(&self) {
        self.issuer.keep_hot(0);
        // What was taken out may be looked at for a moment.
        for _ in 0..200 {
            self.issuer.sweep().await.unwrap();
            if self.ring.hot() == 0 && self.ring.held_keys() == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.issuer.keep_hot(u64::MAX);
    }

    async fn cold(&self) -> Issued {
        let Issued { kept, secret } = self.issue(terms()).await;
        // Nobody holds it, this test neither.
        let key = Arc::new(Key::new(kept.key.id, kept.key.org, terms(), Scopes::new(["connect"])));
        let issued = Issued { kept: Kept { key, ..kept }, secret };
        self.cool().await;
        assert!(!self.is_hot(&issued), "it is in memory still");
        issued
    }
}

#[tokio::test]
async fn a_key_that_left_memory_is_the_same_one_when_it_comes_back() {
    let desk = Desk::open().await;
    let network: ipnet::IpNet = "10.0.0.0/8".parse().unwrap();
    let end = desk.clock.now().plus(Duration::from_secs(99));
    let issued = desk.issue(Terms { networks: [network].into(), expires: Some(end), ..terms() }).await;
    desk.clock.advance(Duration::from_secs(1));
    desk.resolve(&issued);
    let (id, secret, used) = (issued.kept.key.id, issued.secret, desk.clock.now());
    drop(issued.kept);
    desk.cool().await;
    assert_eq!((desk.ring.hot(), desk.ring.held_keys()), (0, 0));
    let field = format!("Bearer {}", secret.reveal());
    desk.clock.advance(Duration::from_secs(1));
    let key = desk.present(&field).valid().unwrap().clone();
    assert_eq!((key.id, key.networks(), key.expires()), (id, &[network][..], Some(end)));
    assert_eq!((key.scopes().as_str(), key.last_used()), ("connect", Some(used)), "saved before it left");
    assert!(Arc::ptr_eq(&key, desk.present(&field).valid().unwrap()));
    assert_eq!((desk.ring.hot(), desk.ring.held_keys()), (1, 1));
    desk.clock.advance(Duration::from_secs(99));
    assert!(matches!(desk.present(&field), Credential::Expired(_)));
}

#[tokio::test]
async fn those_used_longest_ago_leave_and_the_others_stay() {
    let desk = Desk::open().await;
    let mut all = Vec::new();
    for _ in 0..40 {
        all.push(desk.issue(terms()).await.secret);
        desk.clock.advance(Duration::from_secs(61));
        desk.present(&format!("Bearer {}", all.last().unwrap().reveal()));
    }
    desk.issuer.keep_hot(16);
    desk.issuer.sweep().await.unwrap();
    let hot = desk.ring.hot();
    assert!((15..=16).contains(&hot), "{hot}");
    let is_hot = |secret: &Secret| {
        let field = format!("Bearer {}", secret.reveal());
        desk.ring.known([field.as_bytes()], HERE, desk.clock.now()).is_some()
    };
    assert!(all[40 - hot..].iter().all(is_hot) && !all[..40 - hot].iter().any(is_hot));
    assert_eq!(desk.ring.figures().evicted, 40 - hot as u64);
}

#[tokio::test]
async fn what_happens_to_a_key_outside_of_memory_holds_when_it_comes_back() {
    let desk = Desk::open().await;
    let revoked = desk.cold().await;
    assert!(desk.revoke(revoked.kept.key.id).await.unwrap().key.revoked().is_some());
    assert!(matches!(desk.resolve(&revoked), Credential::Revoked(_)));

    let scoped = desk.cold().await;
    let scopes = Scopes::new(["pay"]);
    desk.issuer.scope(scoped.kept.key.id, scopes, Leave::default(), Who::gateway()).await.unwrap().unwrap();
    assert_eq!(desk.resolve(&scoped).valid().unwrap().scopes().as_str(), "pay");

    let old = desk.cold().await;
    let young = desk.rotate(&old, 60, false).await.unwrap();
    let (one, other) = (desk.resolve(&old), desk.resolve(&young));
    assert!(Arc::ptr_eq(one.valid().unwrap(), other.valid().unwrap()), "one key by two secrets");
    assert!(one.bearer().unwrap().manages(desk.clock.now()).is_err());
    assert!(other.bearer().unwrap().manages(desk.clock.now()).is_ok());
    desk.clock.advance(Duration::from_secs(60));
    assert!(matches!(desk.resolve(&old), Credential::Expired(_)));
    let third = desk.rotate(&young, 0, false).await.unwrap();
    desk.cool().await;
    assert!(matches!(desk.resolve(&old), Credential::Unknown));
    assert!(matches!(desk.resolve(&young), Credential::Expired(_)));
    assert!(desk.resolve(&third).valid().is_some());
}

#[tokio::test]
async fn a_key_that_somebody_holds_is_the_one_that_is_changed_though_it_left_memory() {
    let desk = Desk::open().await;
    let issued = desk.issue(terms()).await;
    let held = desk.resolve(&issued).valid().unwrap().clone();
    desk.cool().await;
    assert_eq!((desk.ring.hot(), desk.ring.held_keys()), (0, 1));
    let scopes = Scopes::new(["pay"]);
    desk.issuer.scope(held.id, scopes, Leave::default(), Who::gateway()).await.unwrap();
    assert_eq!(held.scopes().as_str(), "pay");
    assert!(Arc::ptr_eq(desk.resolve(&issued).valid().unwrap(), &held));
    desk.cool().await;
    let young = desk.rotate(&issued, 60, false).await.unwrap();
    assert_eq!(held.generation(), 1);
    for secret in [&issued, &young] {
        assert!(Arc::ptr_eq(desk.resolve(secret).valid().unwrap(), &held));
    }
    desk.cool().await;
    desk.revoke(held.id).await;
    assert!(held.revoked().is_some());
    assert!(matches!(desk.resolve(&issued), Credential::Revoked(_)));
}

#[tokio::test]
async fn a_pepper_is_exchanged_under_keys_that_are_not_in_memory() {
    let desk = Desk::open().await;
    let (used, idle) = (desk.cold().await, desk.cold().await);
    desk.peppers.rotate(Who::gateway()).await.unwrap();
    assert!(desk.resolve(&used).valid().is_some());
    desk.cool().await;
    desk.issuer.save_moves().await.unwrap();
    assert_eq!(desk.peppers.needed().await.unwrap(), [(2, 1), (1, 1)]);
    let error = desk.peppers.retire(1, Who::gateway()).await.unwrap_err();
    assert!(matches!(error, PepperError::Needed { secrets: 1 }));
    for issued in [&used, &idle] {
        assert!(desk.resolve(issued).valid().is_some());
    }
    desk.issuer.save_moves().await.unwrap();
    desk.peppers.retire(1, Who::gateway()).await.unwrap();
    desk.cool().await;
    let desk = desk.reopen().await;
    for issued in [&used, &idle] {
        assert!(desk.resolve(issued).valid().is_some());
    }
}

#[tokio::test]
async fn what_is_forgotten_or_moved_outside_of_memory_is_found_by_its_old_digest_no_more() {
    let desk = Desk::open().await;
    let issued = desk.cold().await;
    desk.revoke(issued.kept.key.id).await;
    desk.clock.advance(Duration::from_secs(9));
    assert_eq!(desk.issuer.forget_ended(desk.clock.now()).await.unwrap(), 1);
    // The filter still seems to hold it: once the store is asked, and then no more.
    assert!(!desk.is_hot(&issued));
    assert!(matches!(desk.resolve(&issued), Credential::Unknown));
    assert!(desk.is_hot(&issued), "that it is nobody's is known");
    // The same secret may come again, for another key.
    let again = vec![(new(terms()), Secret::imported(issued.secret.reveal()).unwrap())];
    let kept = desk.issuer.import(again, Who::gateway()).await.unwrap();
    assert_eq!(desk.resolve(&issued).valid().unwrap().id, kept[0].key.id);
}

#[tokio::test]
async fn the_filter_is_found_again_whole_after_every_kind_of_end() {
    let desk = Desk::open().await;
    let before = desk.cold().await;
    let files = |desk: &Desk| {
        let directory = desk.data.as_ref().unwrap().path().to_owned();
        let all = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        all.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("key-filter-")).collect::<Vec<_>>()
    };
    let has_all = |desk: &Desk, all: &[&Issued]| all.iter().all(|issued| desk.resolve(issued).valid().is_some());
    assert!(files(&desk).is_empty());
    // No file: made from the store.
    let desk = desk.reopen().await;
    assert!(has_all(&desk, &[&before]));
    desk.issuer.tend_filter().await.unwrap();
    let written = files(&desk);
    assert_eq!(written.len(), 1);
    // A file, and what came since.
    let after = desk.issue(terms()).await;
    let rotated = desk.rotate(&before, 60, false).await.unwrap();
    let desk = desk.reopen().await;
    assert!(has_all(&desk, &[&before, &after, &rotated]));
    assert_eq!(files(&desk), written);
    // A file that is damaged, and one that is of another store.
    let whole = std::fs::read(&written[0]).unwrap();
    for damage in [|bytes: &mut Vec<u8>| bytes[100] ^= 1, |bytes: &mut Vec<u8>| bytes[20] ^= 1, Vec::clear] {
        let mut bytes = whole.clone();
        damage(&mut bytes);
        std::fs::write(&written[0], bytes).unwrap();
        let desk = Desk { ..desk.reopened_as_it_is().await };
        assert!(has_all(&desk, &[&before, &after, &rotated]));
        return_to(desk).await;
    }
}

/// A store that waits at a door, in a look-up.
#[derive(Debug)]
struct Slow {
    store: Arc<dyn KeyStore>,
    waits: AtomicBool,
    came: Semaphore,
    goes: Semaphore,
    asked: AtomicU64,
}
