//! Whether somebody may change a key is looked at when it comes to it, and not only when they asked.

use super::*;
use crate::key::{Bearer, Lapsed, Management};

fn lapsed(error: IssueError) -> Lapsed {
    match error {
        IssueError::Store(StoreError::Unchangeable(Unchangeable::Lapsed(why))) => why,
        other => panic!("{other}"),
    }
}

impl Desk {
    fn bearer(&self, issued: &Issued) -> Bearer {
        self.resolve(issued).bearer().unwrap().clone()
    }

    async fn rotate_by(&self, issued: &Issued, by: &Bearer) -> Result<Option<Issued>, IssueError> {
        let leave = Leave { by: Some(by.clone()), ..Leave::default() };
        let rotation = Rotation { overlap: Duration::from_secs(60), force: true, leave };
        self.issuer.rotate(issued.kept.key.id, rotation, Who::gateway()).await
    }
}

#[tokio::test]
async fn whoever_has_the_secret_before_calls_and_manages_nothing() {
    let desk = Desk::open().await;
    let (old, other) = (desk.issue(terms()).await, desk.issue(terms()).await);
    // Came while it was the present one.
    let seen = desk.bearer(&old);
    let young = desk.rotate_by(&old, &seen).await.unwrap().unwrap();
    assert!(desk.resolve(&old).valid().is_some());
    for by in [seen, desk.bearer(&old)] {
        assert_eq!(lapsed(desk.rotate_by(&old, &by).await.unwrap_err()), Lapsed::Replaced);
        assert_eq!(lapsed(desk.rotate_by(&other, &by).await.unwrap_err()), Lapsed::Replaced);
        let new = NewKey { by: Some(by.clone()), ..new(terms()) };
        assert_eq!(lapsed(desk.issuer.issue(new, Who::gateway()).await.unwrap_err()), Lapsed::Replaced);
        let leave = Leave { by: Some(by), ..Leave::default() };
        let scoped = desk.issuer.scope(old.kept.key.id, Scopes::new(["pay"]), leave, Who::gateway()).await;
        assert_eq!(lapsed(scoped.unwrap_err().into()), Lapsed::Replaced);
    }
    let present = desk.bearer(&young);
    desk.rotate_by(&other, &present).await.unwrap().unwrap();
    desk.revoke(old.kept.key.id).await;
    assert_eq!(lapsed(desk.rotate_by(&other, &present).await.unwrap_err()), Lapsed::Revoked);
}

#[tokio::test]
async fn a_key_that_came_to_a_scope_that_is_withheld_gives_no_secret_of_it() {
    let desk = Desk::open().await;
    let key = desk.issue(terms()).await;
    let leave = Leave { withheld: vec![Management::KeysWrite], ..Leave::default() };
    let rotation = Rotation { overlap: Duration::ZERO, force: false, leave };
    assert!(desk.issuer.rotate(key.kept.key.id, rotation.clone(), Who::gateway()).await.is_ok());
    let scopes = Scopes::new(["connect", "keys:write"]);
    desk.issuer.scope(key.kept.key.id, scopes, Leave::default(), Who::gateway()).await.unwrap();
    let refused = desk.issuer.rotate(key.kept.key.id, rotation, Who::gateway()).await.unwrap_err();
    assert!(matches!(
        refused,
        IssueError::Store(StoreError::Unchangeable(Unchangeable::Withheld(Management::KeysWrite)))
    ));
}
