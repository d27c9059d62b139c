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
