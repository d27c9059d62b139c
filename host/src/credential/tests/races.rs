//! What happens at once: changes of one key, and changes of one that is not yet where requests look for it.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Semaphore;

use super::*;

#[tokio::test]
async fn rotating_scoping_and_revoking_at_once_end_revoked_in_memory_and_store() {
    let desk = Desk::open().await;
    for _ in 0..10 {
        let issued = desk.issue(terms()).await;
        let id = issued.kept.key.id;
        let scopes = Scopes::new(["pay"]);
        let (rotated, scoped, revoked) = tokio::join!(
            desk.rotate(&issued, 60, false),
            desk.issuer.scope(id, scopes, Leave::default(), Who::gateway()),
            desk.issuer.revoke(id, Who::gateway()),
        );
        assert!(revoked.unwrap().unwrap().key.revoked().is_some());
        drop(scoped);
        let secrets = [Some(&issued), rotated.as_ref().ok()];
        assert!(secrets.into_iter().flatten().all(|issued| matches!(desk.resolve(issued), Credential::Revoked(_))));
        let stored = desk.issuer.store.find(id).await.unwrap().unwrap();
        assert!(stored.key.revoked().is_some());
        assert_eq!(stored.key.scopes().as_str(), desk.issuer.find(id).await.unwrap().unwrap().key.scopes().as_str());
    }
}

/// A store that answers about a new key late: it is durable already, and not yet in memory.
#[derive(Debug)]
struct Late {
    store: Arc<dyn KeyStore>,
    written: Semaphore,
    answers: Semaphore,
    /// Whether what was read of a key is held back, too.
    holds: AtomicBool,
    read: Semaphore,
    lets: Semaphore,
}

impl Late {
    fn over(store: Arc<dyn KeyStore>) -> Self {
        let [written, answers, read, lets] = std::array::from_fn(|_| Semaphore::new(0));
        Self { store, written, answers, holds: AtomicBool::new(false), read, lets }
    }
}

impl KeyStore for Late {
    fn insert(&self, kept: Vec<Kept>, most: u64, note: Note) -> Answer<'_, ()> {
        Box::pin(async move {
            self.store.insert(kept, most, note).await?;
            self.written.add_permits(1);
            self.answers.acquire().await.unwrap().forget();
            Ok(())
        })
    }

    fn find(&self, id: KeyId) -> Answer<'_, Option<Kept>> {
        Box::pin(async move {
            let found = self.store.find(id).await;
            if self.holds.load(Ordering::Relaxed) {
                self.read.add_permits(1);
                self.lets.acquire().await.unwrap().forget();
            }
            found
        })
    }

    fn find_by_digest(&self, digest: Digest) -> Answer<'_, Option<KeyId>> {
        self.store.find_by_digest(digest)
    }

    fn change(&self, id: KeyId, change: Change, note: Note) -> Answer<'_, Option<Changed>> {
        self.store.change(id, change, note)
    }

    fn redigest(&self, moves: Vec<Move>) -> Answer<'_, Vec<Move>> {
        self.store.redigest(moves)
    }

    fn page(&self, org: Option<OrgId>, after: Option<KeyId>, limit: usize) -> Answer<'_, Page> {
        self.store.page(org, after, limit)
    }

    fn forget(&self, before: Millis, note: Note) -> Answer<'_, Forgotten> {
        self.store.forget(before, note)
    }

    fn erase(&self, org: OrgId, note: Note) -> Answer<'_, Forgotten> {
        self.store.erase(org, note)
    }

    fn note_used(&self, used: Vec<(KeyId, Millis)>) -> Answer<'_, ()> {
        self.store.note_used(used)
    }

    fn ended(&self, since: Millis, until: Millis, from: Option<Box<[u8]>>, most: usize) -> Answer<'_, Ended> {
        self.store.ended(since, until, from, most)
    }

    fn needs(&self, now: Millis) -> Answer<'_, Vec<(u32, u64)>> {
        self.store.needs(now)
    }

    fn peppers(&self) -> Answer<'_, Option<Vec<u32>>> {
        self.store.peppers()
    }

    fn keep_peppers(&self, versions: Vec<u32>) -> Answer<'_, ()> {
        self.store.keep_peppers(versions)
    }

    fn digests(&self, after: Option<Digest>, fresh: bool, most: usize) -> Answer<'_, Vec<Digest>> {
        self.store.digests(after, fresh, most)
    }

    fn filter(&self) -> Answer<'_, Option<u128>> {
        self.store.filter()
    }

    fn keep_filter(&self, name: u128, held: Vec<Digest>) -> Answer<'_, ()> {
        self.store.keep_filter(name, held)
    }
}

/// Whoever lists keys can know of one before the workers do.
#[tokio::test]
async fn a_change_of_a_key_that_is_still_on_its_way_into_memory_holds() {
    let desk = Desk::open().await;
    let late = Arc::new(Late::over(desk.issuer.store.clone()));
    let issuer = Arc::new(Issuer::open(late.clone(), desk.ring.clone(), desk.clock.clone()).await.unwrap());
    for change in ["retire the pepper", "revoke", "scope", "rotate"] {
        let (desk_of_one, desk_of_other) = (issuer.clone(), issuer.clone());
        let issuing = tokio::spawn(async move { desk_of_one.issue(new(terms()), Who::gateway()).await });
        late.written.acquire().await.unwrap().forget();
        let listed = issuer.store.page(None, None, 100).await.unwrap();
        let id = listed.keys.last().unwrap().key.id;
        let peppers = desk.peppers.clone();
        let mut changing = tokio::spawn(async move {
            let rotation = Rotation { overlap: Duration::ZERO, force: false, leave: Leave::default() };
            match change {
                "revoke" => drop(desk_of_other.revoke(id, Who::gateway()).await.unwrap()),
                "scope" => {
                    drop(desk_of_other.scope(id, Scopes::new(["pay"]), Leave::default(), Who::gateway()).await.unwrap())
                }
                "rotate" => drop(desk_of_other.rotate(id, rotation, Who::gateway()).await.unwrap()),
                _ => {
                    let version = peppers.rotate(Who::gateway()).await.unwrap();
                    let refused = peppers.retire(version - 1, Who::gateway()).await;
                    assert!(matches!(refused, Err(PepperError::Needed { .. })), "{refused:?}");
                }
            }
        });
        // It either waits for the key, or is done too early.
        let _ = tokio::time::timeout(Duration::from_millis(100), &mut changing).await;
        late.answers.add_permits(1);
        let issued = issuing.await.unwrap().unwrap();
        if !changing.is_finished() {
            changing.await.unwrap();
        }
        let found = desk.resolve(&issued);
        match change {
            "revoke" => assert!(matches!(found, Credential::Revoked(_)), "{found:?}"),
            "scope" => assert_eq!(found.valid().unwrap().scopes().as_str(), "pay"),
            "rotate" => assert!(matches!(found, Credential::Expired(_)), "{found:?}"),
            _ => assert!(found.valid().is_some(), "{found:?}"),
        }
        desk.clock.advance(Duration::from_millis(1));
    }
}

/// What was read of a key counts only where nobody changed it since.
#[tokio::test]
async fn a_change_of_a_key_that_is_being_read_holds() {
    let desk = Desk::open().await;
    for change in ["revoke", "scope", "rotate", "rotate twice", "forget", "move"] {
        let issued = desk.cold().await;
        let late = Arc::new(Late::over(desk.issuer.store.clone()));
        let issuer = Arc::new(Issuer::open(late.clone(), desk.ring.clone(), desk.clock.clone()).await.unwrap());
        late.holds.store(true, Ordering::Relaxed);
        let digests = desk.ring.digests_of(issued.secret.reveal().as_bytes());
        let reader = issuer.clone();
        let reading = tokio::spawn(async move { reader.load(&digests).await });
        late.read.acquire().await.unwrap().forget();
        // What it was is read, and not in memory yet.
        let id = issued.kept.key.id;
        match change {
            "revoke" => drop(desk.revoke(id).await.unwrap()),
            "scope" => {
                let scopes = Scopes::new(["pay"]);
                drop(desk.issuer.scope(id, scopes, Leave::default(), Who::gateway()).await.unwrap());
            }
            "rotate" => drop(desk.rotate(&issued, 0, false).await.unwrap()),
            "rotate twice" => {
                desk.rotate(&issued, 60, true).await.unwrap();
                desk.rotate(&issued, 60, true).await.unwrap();
            }
            "forget" => {
                desk.revoke(id).await.unwrap();
                desk.clock.advance(Duration::from_secs(1));
                desk.issuer.forget_ended(desk.clock.now()).await.unwrap();
            }
            _ => {
                desk.peppers.rotate(Who::gateway()).await.unwrap();
                let to = desk.ring.digests_of(issued.secret.reveal().as_bytes())[0];
                let from = issued.kept.secret.digest;
                let moved = Move { id, from, to, pepper: desk.ring.newest().unwrap().version() };
                desk.ring.admit(&to);
                let done = desk.issuer.store.redigest(vec![moved]).await.unwrap();
                desk.ring.settle_moves(&[moved], &done);
                assert_eq!(done.len(), 1);
            }
        }
        late.holds.store(false, Ordering::Relaxed);
        late.lets.add_permits(1);
        let read = reading.await.unwrap().unwrap();
        let key = read.map(|(held, _)| held);
        let found = desk.resolve(&issued);
        match change {
            "revoke" => assert!(matches!(found, Credential::Revoked(_)) && key.unwrap().key.revoked().is_some()),
            "scope" => {
                assert_eq!(found.valid().unwrap().scopes().as_str(), "pay");
                assert!(Arc::ptr_eq(&key.unwrap().key, found.valid().unwrap()));
            }
            "rotate" => assert!(matches!(found, Credential::Expired(_)), "{found:?}"),
            "rotate twice" | "forget" => assert!(matches!(found, Credential::Unknown) && key.is_none(), "{found:?}"),
            // Under a pepper that whoever asked did not know of; by the newest it is found.
            _ => assert!(found.valid().is_some() && key.is_none(), "{found:?}"),
        }
    }
}

/// A key that somebody holds is read again in the moment in which the store is ahead: neither secret is taken for another one.
#[tokio::test]
async fn a_key_that_is_read_while_it_is_rotated_keeps_both_of_its_secrets() {
    let desk = Desk::open().await;
    let issued = desk.issue(terms()).await;
    let held = desk.resolve(&issued).valid().unwrap().clone();
    desk.cool().await;
    let rotating = desk.ring.rotating(held.id);
    let secret = Secret::mint(Mode::Live).unwrap();
    let digest = desk.ring.digests_of(secret.reveal().as_bytes())[0];
    let digested = Digested { digest, ..issued.kept.secret };
    let overlap = Duration::from_secs(60);
    let change = Change::Rotate {
        secret: digested,
        at: desk.clock.now(),
        overlap,
        force: false,
        within: None,
        withheld: Vec::new(),
    };
    let note = Note::new(Who::gateway(), "key.rotated", desk.clock.now());
    let changed = desk.issuer.store.change(held.id, change, note).await.unwrap().unwrap();
    let (reader, digests) = (desk.issuer.clone(), [issued.kept.secret.digest]);
    let reading = tokio::spawn(async move { reader.load(&digests).await });
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(desk.ring.hot(), 0, "it is not read before memory has caught up");
    let until = changed.after.previous.unwrap().until;
    desk.ring.rotated(held.id, &digested, None, until);
    drop(rotating);
    assert!(reading.await.unwrap().unwrap().is_some());
    let young = Issued { kept: changed.after, secret };
    for secret in [&issued, &young] {
        let found = desk.resolve(secret);
        assert!(Arc::ptr_eq(found.valid().unwrap(), &held), "{found:?}");
    }
    assert!(desk.resolve(&issued).bearer().unwrap().manages(desk.clock.now()).is_err());
    assert!(desk.resolve(&young).bearer().unwrap().manages(desk.clock.now()).is_ok());
    desk.clock.advance(overlap);
    assert!(matches!(desk.resolve(&issued), Credential::Expired(_)));
}
