//! The pepper is exchanged while keys are in use.

use super::*;

#[tokio::test]
async fn a_pepper_is_exchanged_without_any_key_being_made_anew() {
    let desk = Desk::open().await;
    let (used, idle) = (desk.issue(terms()).await, desk.issue(terms()).await);
    assert_eq!(desk.peppers.needed(), [(1, 2)]);
    assert_eq!(desk.peppers.rotate(Who::gateway()).await.unwrap(), 2);
    let young = desk.issue(terms()).await;
    assert_eq!(young.kept.secret.pepper, 2);
    assert!(desk.resolve(&used).valid().is_some());
    assert_eq!(desk.peppers.needed(), [(2, 1), (1, 2)]);
    desk.issuer.save_moves().await.unwrap();
    assert_eq!(desk.peppers.needed(), [(2, 2), (1, 1)]);
    for issued in [&used, &idle, &young] {
        assert!(desk.resolve(issued).valid().is_some());
    }
    assert!(matches!(desk.peppers.retire(2, Who::gateway()).await, Err(PepperError::Newest)));
    assert!(matches!(desk.peppers.retire(3, Who::gateway()).await, Err(PepperError::Unknown)));

    let desk = desk.reopen().await;
    assert_eq!(desk.peppers.needed(), [(2, 2), (1, 1)]);
    assert!(matches!(desk.peppers.retire(1, Who::gateway()).await, Err(PepperError::Needed { secrets: 1 })));
    assert!(desk.resolve(&idle).valid().is_some());
    desk.issuer.save_moves().await.unwrap();
    desk.peppers.retire(1, Who::gateway()).await.unwrap();
    let desk = desk.reopen().await;
    assert_eq!(desk.peppers.needed(), [(2, 3)]);
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
    assert_eq!(desk.peppers.needed(), [(2, 2), (1, 0)]);
}
