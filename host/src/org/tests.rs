use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::audit::{AuditStore, Filter, SledAudit, Verdict, Who};
use crate::clock::Clock;
use crate::config::SecretSource;
use crate::data::DataDirectory;
use crate::seal::Vault;

struct Place {
    _place: tempfile::TempDir,
    data: DataDirectory,
    vault: Vault,
    audit: SledAudit,
    clock: Clock,
}

impl Place {
    fn open() -> Self {
        let place = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(&place.path().join("data")).unwrap();
        let vault = Vault::open(&SecretSource::File(place.path().join("master.key")), &data).unwrap();
        let clock = Clock::manual(Millis(1_000_000));
        let audit = SledAudit::open(data.database(), &vault, clock.now()).unwrap();
        Self { _place: place, data, vault, audit, clock }
    }

    fn orgs(&self) -> SledOrgs {
        SledOrgs::open(self.data.database(), self.audit.clone(), self.clock.now()).unwrap()
    }

    async fn tokens(&self) -> Arc<Tokens> {
        let store = SledTokens::open(self.data.database(), self.audit.clone()).unwrap();
        Arc::new(Tokens::open(Arc::new(store), &self.vault, self.clock.clone()).await.unwrap())
    }

    fn note(&self, action: &'static str) -> Note {
        Note::new(Who::gateway(), action, self.clock.now())
    }

    async fn noted(&self) -> Vec<String> {
        assert!(matches!(self.audit.verify().await.unwrap(), Verdict::Whole(_)));
        let page = self.audit.page(Filter::default(), None, 1_000).await.unwrap();
        page.entries.iter().rev().map(|entry| entry.note.action.to_string()).collect()
    }
}

#[tokio::test]
async fn the_default_org_is_made_once() {
    let place = Place::open();
    let made = place.orgs().find("default").await.unwrap().unwrap();
    place.clock.advance(Duration::from_secs(1));
    let again = place.orgs();
    assert_eq!(again.all().await.unwrap(), std::slice::from_ref(&made));
    assert_eq!(again.find(&made.id.to_string()).await.unwrap(), Some(made));
    assert_eq!(again.find("nobody").await.unwrap(), None);
    assert_eq!(place.noted().await, ["audit.begun", "org.created"]);
}

#[tokio::test]
async fn a_slug_is_of_one_org_at_a_time() {
    let place = Place::open();
    let orgs = place.orgs();
    let (one, two) = (Org::new("one", "One", Millis(1)).unwrap(), Org::new("two", "Two", Millis(2)).unwrap());
    for org in [&one, &two] {
        orgs.create(org.clone(), place.note("org.created")).await.unwrap();
    }
    let twin = Org::new("one", "Twin", Millis(3)).unwrap();
    let taken = orgs.create(twin, place.note("org.created")).await.unwrap_err();
    assert!(matches!(taken, StoreError::Taken { slug } if slug == "one"));
    let rename = |slug: &str| orgs.rename(two.id, Some(slug.to_owned()), None, place.note("org.renamed"));
    assert!(matches!(rename("one").await, Err(StoreError::Taken { .. })));
    assert_eq!(rename("second").await.unwrap().unwrap().slug, "second");
    assert_eq!(rename("second").await.unwrap().unwrap().slug, "second");
    assert_eq!(orgs.find("two").await.unwrap(), None);
    assert_eq!(orgs.find("second").await.unwrap().unwrap().id, two.id);
    let gone = orgs.rename(OrgId::from_number(1), None, Some("x".into()), place.note("org.renamed")).await.unwrap();
    assert_eq!(gone, None);
    assert_eq!(place.noted().await[2..], ["org.created", "org.created", "org.renamed"]);
}

#[test]
fn a_slug_is_short_and_lower_case() {
    for good in ["a", "7", "a-b", "acme-2", &"x".repeat(64)] {
        assert!(is_slug(good), "{good}");
    }
    for bad in ["", "-", "a-", "-a", "A", "a_b", "a b", "ä", "a/b", "org_0", &"x".repeat(65)] {
        assert!(!is_slug(bad), "{bad}");
    }
}

fn terms(role: Role, org: Option<u128>) -> NewToken {
    NewToken { name: "t".into(), role, org: org.map(OrgId::from_number), expires: None, maker: None }
}

#[tokio::test]
async fn a_token_opens_until_it_is_revoked_or_its_time_is_over() {
    let place = Place::open();
    let tokens = place.tokens().await;
    let (token, secret) = tokens.issue(terms(Role::Member, Some(1)), Who::gateway()).await.unwrap();
    let end = place.clock.now().plus(Duration::from_secs(10));
    let ending = NewToken { expires: Some(end), ..terms(Role::SuperAdmin, None) };
    let (_, brief) = tokens.issue(ending, Who::gateway()).await.unwrap();
    assert!(matches!(tokens.login(secret.as_bytes()), Login::Valid(found) if found.id == token.id));
    assert!(matches!(tokens.login(brief.as_bytes()), Login::Valid(_)));
    for wrong in ["", "pat_", &secret[..52], &secret.to_lowercase(), &"pat_x".repeat(10_000)] {
        assert!(matches!(tokens.login(wrong.as_bytes()), Login::Unknown), "{wrong}");
    }
    place.clock.advance(Duration::from_secs(10));
    assert!(matches!(tokens.login(brief.as_bytes()), Login::Expired));
    tokens.save_used().await.unwrap();
    tokens.revoke(token.clone(), Who::gateway()).await.unwrap();
    tokens.revoke(token.clone(), Who::gateway()).await.unwrap();
    assert!(matches!(tokens.login(secret.as_bytes()), Login::Revoked));

    let tokens = place.tokens().await;
    assert!(matches!(tokens.login(secret.as_bytes()), Login::Revoked));
    assert!(matches!(tokens.login(brief.as_bytes()), Login::Expired));
    let found = tokens.find(token.id).unwrap();
    assert_eq!(
        (found.terms.role, found.last_used(), found.revoked()),
        (Role::Member, Some(Millis(1_000_000)), token.revoked())
    );
    assert_eq!(tokens.list().len(), 2);
    assert_eq!(place.noted().await, ["audit.begun", "token.issued", "token.issued", "token.revoked"]);
    let said = format!("{tokens:?} {found:?} {:?}", place.audit.page(Filter::default(), None, 9).await.unwrap());
    assert!(!said.contains(&secret[4..30]), "{said}");
}

#[tokio::test]
async fn only_tokens_that_work_count_and_many_at_once_end_at_the_bound() {
    let place = Place::open();
    let mut tokens = place.tokens().await;
    assert_eq!(tokens.most, 1_000);
    Arc::get_mut(&mut tokens).unwrap().most = 5;
    let end = place.clock.now().plus(Duration::from_secs(10));
    let ending = NewToken { expires: Some(end), ..terms(Role::Member, Some(1)) };
    let mut issued = Vec::new();
    for _ in 0..2 {
        issued.push(tokens.issue(ending.clone(), Who::gateway()).await.unwrap().0);
    }
    let asking = (0..8).map(|_| {
        let tokens = tokens.clone();
        tokio::spawn(async move { tokens.issue(terms(Role::Member, Some(1)), Who::gateway()).await.is_ok() })
    });
    let mut made = 0;
    for asked in asking.collect::<Vec<_>>() {
        made += usize::from(asked.await.unwrap());
    }
    assert_eq!(made, 3);
    let refused = tokens.issue(terms(Role::Member, Some(1)), Who::gateway()).await.unwrap_err();
    assert!(matches!(refused, TokenError::TooMany { most: 5 }));
    tokens.issue(terms(Role::Member, Some(2)), Who::gateway()).await.unwrap();
    tokens.revoke(issued[0].clone(), Who::gateway()).await.unwrap();
    tokens.issue(terms(Role::Member, Some(1)), Who::gateway()).await.unwrap();
    assert!(tokens.issue(terms(Role::Member, Some(1)), Who::gateway()).await.is_err());
    place.clock.advance(Duration::from_secs(10));
    tokens.issue(terms(Role::Member, Some(1)), Who::gateway()).await.unwrap();
}

#[tokio::test]
async fn tokens_that_ended_long_ago_are_forgotten() {
    let place = Place::open();
    let tokens = place.tokens().await;
    let end = place.clock.now().plus(Duration::from_secs(10));
    let ending = NewToken { expires: Some(end), ..terms(Role::SuperAdmin, None) };
    let (brief, brief_secret) = tokens.issue(ending, Who::gateway()).await.unwrap();
    let (revoked, revoked_secret) = tokens.issue(terms(Role::Member, Some(1)), Who::gateway()).await.unwrap();
    let (_, secret) = tokens.issue(terms(Role::Member, Some(1)), Who::gateway()).await.unwrap();
    assert!(matches!(tokens.login(brief_secret.as_bytes()), Login::Valid(_)));
    tokens.save_used().await.unwrap();
    place.clock.advance(Duration::from_secs(60));
    tokens.revoke(revoked.clone(), Who::gateway()).await.unwrap();
    assert_eq!(tokens.forget_ended(end).await.unwrap(), 0, "it ended at that instant, not before");
    assert_eq!(tokens.forget_ended(end.plus(Duration::from_millis(1))).await.unwrap(), 1);
    assert!(matches!(tokens.login(brief_secret.as_bytes()), Login::Unknown));
    assert!(matches!(tokens.login(revoked_secret.as_bytes()), Login::Revoked));
    place.clock.advance(Duration::from_secs(1));
    assert_eq!(tokens.forget_ended(place.clock.now()).await.unwrap(), 1);
    let tokens = place.tokens().await;
    assert_eq!(tokens.list().len(), 1);
    assert!(matches!(tokens.login(revoked_secret.as_bytes()), Login::Unknown));
    assert!(matches!(tokens.login(secret.as_bytes()), Login::Valid(_)));
    assert!(tokens.find(brief.id).is_none());
    let page = place.audit.page(Filter { action: Some("token.forgotten".into()), ..Filter::default() }, None, 9);
    let entries = page.await.unwrap().entries;
    let noted: Vec<_> = entries.iter().map(|entry| (entry.note.org, entry.note.on.clone())).collect();
    let org = Some(OrgId::from_number(1));
    assert_eq!(noted, [(org, vec![revoked.id.to_string()]), (None, vec![brief.id.to_string()])]);
}
