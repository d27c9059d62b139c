//! The pepper is exchanged while keys are in use.

use super::*;

#[tokio::test]
async fn a_pepper_is_exchanged_without_any_key_being_made_anew() {
    let desk = Desk::open().await;
    let (used, idle) = (desk.issue(terms()).await, desk.issue(terms()).await);
    assert_eq!(desk.peppers.needed().await.unwrap(), [(1, 2)]);
    assert_eq!(desk.peppers.rotate(Who::gateway()).await.unwrap(), 2);
    let young = desk.issue(terms()).await;
    assert_eq!(young.kept.secret.pepper, 2);
    assert!(desk.resolve(&used).valid().is_some());
    assert_eq!(desk.peppers.needed().await.unwrap(), [(2, 1), (1, 2)]);
    desk.issuer.save_moves().await.unwrap();
    assert_eq!(desk.peppers.needed().await.unwrap(), [(2, 2), (1, 1)]);
    for issued in [&used, &idle, &young] {
        assert!(desk.resolve(issued).valid().is_some());
    }
    assert!(matches!(desk.peppers.retire(2, Who::gateway()).await, Err(PepperError::Newest)));
    assert!(matches!(desk.peppers.retire(3, Who::gateway()).await, Err(PepperError::Unknown)));

    let desk = desk.reopen().await;
    assert_eq!(desk.peppers.needed().await.unwrap(), [(2, 2), (1, 1)]);
    assert!(matches!(desk.peppers.retire(1, Who::gateway()).await, Err(PepperError::Needed { secrets: 1 })));
    assert!(desk.resolve(&idle).valid().is_some());
    desk.issuer.save_moves().await.unwrap();
    desk.peppers.retire(1, Who::gateway()).await.unwrap();
    let desk = desk.reopen().await;
    assert_eq!(desk.peppers.needed().await.unwrap(), [(2, 3)]);
    for issued in [&used, &idle, &young] {
        assert!(desk.resolve(issued).valid().is_some());
    }
    assert_eq!(desk.peppers.rotate(Who::gateway()).await.unwrap(), 3, "a version is never made twice");
}

#[tokio::test]
async fn a_secret_that_was_rotated_away_is_not_moved_back() {
    let desk = Desk::open().await;
    let old = desk.issue(terms()).await;
    desk.peppers.rotate(Who::gateway()).await.unwrap();
    assert!(desk.resolve(&old).valid().is_some());
    let second = desk.rotate(&old, 60, false).await.unwrap();
    let third = desk.rotate(&old, 60, true).await.unwrap();
    desk.issuer.save_moves().await.unwrap();
    assert!(matches!(desk.resolve(&old), Credential::Unknown));
    assert!(desk.resolve(&second).valid().is_some() && desk.resolve(&third).valid().is_some());
    assert_eq!(desk.peppers.needed().await.unwrap(), [(2, 2), (1, 0)]);
}

#[tokio::test]
async fn a_move_to_a_pepper_that_is_retired_meanwhile_is_not_made() {
    let desk = Desk::open().await;
    let key = desk.issue(terms()).await;
    desk.peppers.rotate(Who::gateway()).await.unwrap();
    assert!(desk.resolve(&key).valid().is_some());
    desk.peppers.rotate(Who::gateway()).await.unwrap();
    desk.peppers.retire(2, Who::gateway()).await.unwrap();
    desk.issuer.save_moves().await.unwrap();
    assert!(desk.resolve(&key).valid().is_some());
    desk.issuer.save_moves().await.unwrap();
    assert_eq!(
        desk.peppers.needed().await.unwrap(),
        [(3, 1), (1, 0)],
        "noted anew, and moved to the one that is there"
    );
    let desk = desk.reopen().await;
    assert!(desk.resolve(&key).valid().is_some());
}

#[tokio::test]
async fn a_secret_that_is_moved_is_found_at_every_moment() {
    let desk = Desk::open().await;
    let (old, young) = (Pepper::new(1, &[1; 32]), Pepper::new(2, &[2; 32]));
    let ring = Keyring::new(vec![young.clone(), old.clone()]);
    let template = desk.issue(terms()).await.kept;
    let secrets: Vec<Secret> = (0..3_000).map(|_| Secret::mint(Mode::Live).unwrap()).collect();
    let moves: Vec<Move> = secrets
        .iter()
        .map(|secret| {
            let bytes = secret.reveal().as_bytes();
            let digested = Digested { digest: old.digest(bytes), pepper: 1, ..template.secret };
            ring.add(&Kept { secret: digested, ..template.clone() });
            Move { id: template.key.id, from: old.digest(bytes), to: young.digest(bytes), pepper: 2 }
        })
        .collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut looks = 0_u32;
            loop {
                let at = next.load(std::sync::atomic::Ordering::Acquire);
                let Some(secret) = secrets.get(at) else { return looks };
                let field = format!("Bearer {}", secret.reveal());
                let found = ring.look([field.as_bytes()], HERE, Millis(1));
                assert!(matches!(found, Resolved::Now(Credential::Valid(_))), "secret {at}");
                looks += 1;
            }
        });
        for (at, moved) in moves.iter().enumerate() {
            next.store(at, std::sync::atomic::Ordering::Release);
            ring.settle_moves(&[*moved], &[*moved]);
        }
        next.store(usize::MAX, std::sync::atomic::Ordering::Release);
        assert!(looking.join().unwrap() > 0);
    });
}

#[tokio::test]
async fn a_secret_that_cannot_be_moved_keeps_no_other_one_back() {
    let desk = Desk::open().await;
    let keys = [desk.issue(terms()).await, desk.issue(terms()).await, desk.issue(terms()).await];
    desk.peppers.rotate(Who::gateway()).await.unwrap();
    for key in &keys {
        assert!(desk.resolve(key).valid().is_some());
    }
    desk.keys.spoil(keys[1].kept.key.id, b"connect", b"con\x01nect");
    // As after a move that the store made, and memory did not hear of.
    let moved = desk.ring.moves().into_iter().find(|moved| moved.id == keys[0].kept.key.id).unwrap();
    assert_eq!(desk.issuer.store.redigest(vec![moved]).await.unwrap().len(), 1);
    desk.issuer.save_moves().await.unwrap();
    for key in [&keys[0], &keys[2]] {
        assert_eq!(desk.keys.find(key.kept.key.id).await.unwrap().unwrap().secret.pepper, 2);
    }
    // Which pepper the other one needs is not known, so none is retired.
    assert!(matches!(desk.peppers.needed().await, Err(StoreError::Damaged { .. })));
    assert!(matches!(desk.peppers.retire(1, Who::gateway()).await, Err(PepperError::Store(_))));
    for key in &keys {
        assert!(desk.resolve(key).valid().is_some());
    }
}
