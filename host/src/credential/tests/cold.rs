//! Keys that are not in memory: found, changed, revoked and forgotten as all others are, and nobody's are never looked for.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

impl Desk {
    /// Takes all out of memory that nobody holds.
    pub(super) async fn cool(&self) {
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

    async fn present_async(&self, issued: &Issued) -> Credential {
        let field = format!("Bearer {}", issued.secret.reveal());
        self.ring.resolve([field.as_bytes()], HERE, self.clock.now()).await.unwrap()
    }

    /// Another desk over the same memory, whose store is not what it was.
    async fn failing(&self, how: Failing) -> Arc<Issuer> {
        let filter = self.ring.0.filter.load_full();
        let failing = Issuer::open(Arc::new(how), self.ring.clone(), self.clock.clone()).await.unwrap();
        self.ring.0.filter.store(filter);
        Arc::new(failing)
    }

    pub(super) async fn cold(&self) -> Issued {
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
    let mut desk = desk.reopen().await;
    assert!(has_all(&desk, &[&before]));
    desk.issuer.tend_filter().await.unwrap();
    let written = files(&desk);
    assert_eq!(written.len(), 1);
    // A file, and what came since.
    let after = desk.issue(terms()).await;
    let rotated = desk.rotate(&before, 60, false).await.unwrap();
    desk = desk.reopen().await;
    assert!(has_all(&desk, &[&before, &after, &rotated]));
    assert_eq!(files(&desk), written);
    // A file that is damaged, is of another store, or is not there.
    for damage in [|bytes: &mut Vec<u8>| bytes[100] ^= 1, |bytes: &mut Vec<u8>| bytes[20] ^= 1, Vec::clear] {
        let [file] = &files(&desk)[..] else { panic!("there is one file") };
        let mut bytes = std::fs::read(file).unwrap();
        damage(&mut bytes);
        std::fs::write(file, bytes).unwrap();
        desk = desk.reopen().await;
        assert!(has_all(&desk, &[&before, &after, &rotated]));
        desk.issuer.tend_filter().await.unwrap();
    }
    // A file of which the store does not know: the gateway ended between the two.
    let [file] = &files(&desk)[..] else { panic!("there is one file") };
    std::fs::rename(file, file.with_file_name("key-filter-00000000000000000000000000000001")).unwrap();
    desk = desk.reopen().await;
    assert!(has_all(&desk, &[&before, &after, &rotated]));
    desk.issuer.tend_filter().await.unwrap();
    assert_eq!(files(&desk).len(), 1);
    desk = desk.reopen().await;
    assert!(has_all(&desk, &[&before, &after, &rotated]));
    assert!(desk.keys.digests(None, true, 9).await.unwrap().is_empty(), "all of them are in the file");
}

#[tokio::test]
async fn a_filter_that_is_too_small_is_made_anew_while_keys_come_in() {
    let desk = Desk::open().await;
    let first = desk.cold().await;
    let stranger = Digest::new([7; 32]);
    let before = desk.ring.0.filter.load().added();
    // Once, however often it comes.
    (0..1 << 16).for_each(|_| desk.ring.admit(&stranger));
    assert_eq!(desk.ring.0.filter.load().added(), before + 1);
    let pepper = Pepper::new(1, &[1; 32]);
    for nth in 0..=1u32 << 17 {
        desk.ring.admit(&pepper.digest(&nth.to_be_bytes()));
    }
    assert!(desk.ring.0.filter.load().is_full() && desk.ring.0.filter.load().may_hold(&stranger));
    let (tended, late) = tokio::join!(desk.issuer.tend_filter(), desk.issue(terms()));
    tended.unwrap();
    assert!(!desk.ring.0.filter.load().is_full() && !desk.ring.0.filter.load().may_hold(&stranger));
    desk.cool().await;
    for issued in [&first, &late] {
        assert!(desk.resolve(issued).valid().is_some());
    }
}

#[tokio::test]
async fn workers_are_answered_and_a_forged_key_never_reaches_the_store() {
    let desk = Desk::open().await;
    let issued = desk.cold().await;
    let answering = tokio::spawn(desk.issuer.clone().answer());
    let ask = async |secret: &Secret| {
        let field = format!("Bearer {}", secret.reveal());
        desk.ring.resolve([field.as_bytes()], HERE, desk.clock.now()).await
    };
    // Many at once are one look-up.
    let found = futures_util::future::join_all((0..50).map(|_| ask(&issued.secret))).await;
    assert!(found.iter().all(|found| found.as_ref().unwrap().valid().unwrap().id == issued.kept.key.id));
    assert_eq!(desk.ring.figures().look_ups, LookUps { found: 1, ..LookUps::default() });
    for _ in 0..1_000 {
        let forged = Secret::mint(Mode::Live).unwrap();
        assert!(matches!(ask(&forged).await, Ok(Credential::Unknown)));
    }
    assert_eq!(desk.ring.figures().look_ups, LookUps { found: 1, ..LookUps::default() });
    // Where the filter is wrong, the store is asked once.
    let unlucky = Secret::mint(Mode::Live).unwrap();
    desk.ring.digests_of(unlucky.reveal().as_bytes()).iter().for_each(|digest| desk.ring.admit(digest));
    for _ in 0..100 {
        assert!(matches!(ask(&unlucky).await, Ok(Credential::Unknown)));
    }
    assert_eq!(desk.ring.figures().look_ups, LookUps { found: 1, nobody: 1, ..LookUps::default() });
    answering.abort();
}

#[tokio::test]
async fn while_the_store_fails_a_cold_key_is_neither_good_nor_bad_and_a_hot_one_is_good() {
    for (how, outcome) in [
        (Failing::Fails, LookUps { failed: 1, ..LookUps::default() }),
        (Failing::Hangs, LookUps { timed_out: 1, ..LookUps::default() }),
    ] {
        let desk = Desk::open().await;
        let (cold, hot) = (desk.cold().await, desk.issue(terms()).await);
        let answering = tokio::spawn(desk.failing(how).await.answer());
        let field = format!("Bearer {}", cold.secret.reveal());
        let resolved = desk.ring.resolve([field.as_bytes()], HERE, desk.clock.now()).await;
        assert_eq!(resolved.map(drop), Err(Unavailable));
        assert_eq!(desk.ring.figures().look_ups, outcome);
        assert!(desk.resolve(&hot).valid().is_some());
        answering.abort();
        // And good again, once the store is.
        assert!(desk.resolve(&cold).valid().is_some());
    }
}

#[tokio::test]
async fn a_revocation_of_which_the_store_does_not_know_holds_for_a_key_that_comes_back() {
    let desk = Desk::open().await;
    let (cold, hot) = (desk.cold().await, desk.issue(terms()).await);
    let failing = desk.failing(Failing::Fails).await;
    let ids = [cold.kept.key.id, hot.kept.key.id];
    for id in ids {
        assert!(failing.revoke(id, Who::gateway()).await.is_err());
    }
    let hot = Issued { kept: cold.kept.clone(), secret: hot.secret };
    desk.cool().await;
    for issued in [&cold, &hot] {
        assert!(matches!(desk.resolve(issued), Credential::Revoked(_)));
        assert!(desk.issuer.find(ids[0]).await.unwrap().unwrap().key.revoked().is_some());
    }
}

/// Keys come and go, are changed and revoked, and all of it at once; whoever calls sees each as the store has it, and only one of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_the_thick_of_it_no_key_is_two_and_no_change_is_lost() {
    let desk = Arc::new(Desk::open().await);
    let mut keys = Vec::new();
    for _ in 0..24 {
        keys.push(Arc::new(desk.issue(terms()).await));
    }
    desk.issuer.keep_hot(4);
    let answering = tokio::spawn(desk.issuer.clone().answer());
    let done = Arc::new(AtomicBool::new(false));
    let sweeping = {
        let (desk, done) = (desk.clone(), done.clone());
        tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                desk.issuer.sweep().await.unwrap();
                tokio::task::yield_now().await;
            }
        })
    };
    let using = keys.iter().map(|issued| {
        let (desk, done, issued) = (desk.clone(), done.clone(), issued.clone());
        tokio::spawn(async move {
            let mut looks = 0_u64;
            while !done.load(Ordering::Relaxed) {
                let field = format!("Bearer {}", issued.secret.reveal());
                let one = desk.ring.resolve([field.as_bytes()], HERE, desk.clock.now()).await.unwrap();
                let other = desk.ring.resolve([field.as_bytes()], HERE, desk.clock.now()).await.unwrap();
                let (one, other) = (one.presented().unwrap().clone(), other.presented().unwrap().clone());
                assert!(Arc::ptr_eq(&one, &other), "there are two of one key");
                looks += 1;
                tokio::task::yield_now().await;
            }
            looks
        })
    });
    let using: Vec<_> = using.collect();
    for round in 0..4_u32 {
        for (number, issued) in keys.iter().enumerate() {
            let id = issued.kept.key.id;
            let scopes = Scopes::new([format!("pay{round}").as_str()]);
            desk.issuer.scope(id, scopes, Leave::default(), Who::gateway()).await.unwrap().unwrap();
            let seen = desk.present_async(issued).await;
            assert_eq!(seen.valid().unwrap().scopes().as_str(), format!("pay{round}"), "key {number}");
        }
    }
    for issued in &keys {
        desk.revoke(issued.kept.key.id).await;
        assert!(matches!(desk.present_async(issued).await, Credential::Revoked(_)));
    }
    done.store(true, Ordering::Relaxed);
    sweeping.await.unwrap();
    for using in using {
        assert!(using.await.unwrap() > 0);
    }
    assert!(desk.ring.figures().look_ups.found > 0 && desk.ring.figures().evicted > 0);
    answering.abort();
}

#[tokio::test]
async fn keys_leave_memory_also_while_their_last_use_cannot_be_written() {
    let desk = Desk::open().await;
    let field = format!("Bearer {}", desk.issue(terms()).await.secret.reveal());
    assert!(desk.present(&field).valid().is_some());
    let failing = desk.failing(Failing::Fails).await;
    failing.keep_hot(0);
    let mut failed = false;
    for _ in 0..200 {
        failed |= failing.sweep().await.is_err();
        if desk.ring.held_keys() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((failed, desk.ring.held_keys()), (true, 0));
    assert!(desk.present(&field).valid().is_some());
}

#[tokio::test]
async fn what_is_left_of_a_record_that_could_not_be_read_is_nobodys() {
    let desk = Desk::open().await;
    let gone = desk.cold().await;
    let place = gone.kept.key.id.number().to_be_bytes();
    assert!(desk.data.as_ref().unwrap().database().tree("keys").unwrap().remove(place).unwrap().is_some());
    assert!(matches!(desk.resolve(&gone), Credential::Unknown));
}
