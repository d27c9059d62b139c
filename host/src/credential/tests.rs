use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::audit::{Note, SledAudit, Who};
use crate::clock::Clock;
use crate::config::SecretSource;
use crate::data::DataDirectory;
use crate::id::{KeyId, OrgId};
use crate::key::{
    Answer, Change, Changed, Digested, Ended, Forgotten, Kept, KeyStore, Mode, Page, Peppers, Scopes, Secret, SledKeys,
    StoreError, Terms, Unchangeable,
};
use crate::outbox::SledOutbox;
use crate::seal::Vault;

mod bound;
mod cold;
mod leave;
mod peppers;
mod races;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

struct Desk {
    _place: tempfile::TempDir,
    data: Option<DataDirectory>,
    issuer: Arc<Issuer>,
    peppers: Arc<PepperDesk>,
    ring: Keyring,
    keys: SledKeys,
    audit: SledAudit,
    clock: Clock,
}

impl Desk {
    async fn open() -> Self {
        Self::at(tempfile::tempdir().unwrap(), Clock::manual(Millis(1_000_000))).await
    }

    async fn at(place: tempfile::TempDir, clock: Clock) -> Self {
        let data = DataDirectory::open(&place.path().join("data")).unwrap();
        let vault = Vault::open(&SecretSource::File(place.path().join("master.key")), &data).unwrap();
        let vault = Arc::new(vault);
        let peppers = Peppers::new(vault.clone());
        let ring = Keyring::new(peppers.all().unwrap());
        let audit = SledAudit::open(data.database(), &vault, clock.now()).unwrap();
        let outbox = SledOutbox::open(data.database()).unwrap();
        let keys = SledKeys::open(data.database(), audit.clone(), outbox).unwrap();
        let store: Arc<dyn KeyStore> = Arc::new(keys.clone());
        let issuer = Issuer::open_in(Some(data.path().to_owned()), store, ring.clone(), clock.clone()).await;
        let issuer = Arc::new(issuer.unwrap());
        let peppers = Arc::new(PepperDesk::new(peppers, issuer.clone(), Arc::new(audit.clone()), clock.clone()));
        Self { _place: place, data: Some(data), issuer, peppers, ring, keys, audit, clock }
    }

    async fn reopen(mut self) -> Self {
        drop(self.data.take());
        let (place, clock) = (self._place, self.clock);
        drop((self.issuer, self.peppers, self.ring, self.keys, self.audit));
        Self::at(place, clock).await
    }

    async fn issue(&self, terms: Terms) -> Issued {
        self.issuer.issue(new(terms), Who::gateway()).await.unwrap()
    }

    async fn rotate(&self, issued: &Issued, overlap: u64, force: bool) -> Result<Issued, IssueError> {
        let rotation = Rotation { overlap: Duration::from_secs(overlap), force, leave: Leave::default() };
        self.issuer.rotate(issued.kept.key.id, rotation, Who::gateway()).await.map(Option::unwrap)
    }

    async fn revoke(&self, id: KeyId) -> Option<Kept> {
        self.issuer.revoke(id, Who::gateway()).await.unwrap()
    }

    fn resolve(&self, issued: &Issued) -> Credential {
        self.present(&format!("Bearer {}", issued.secret.reveal()))
    }

    fn present(&self, field: &str) -> Credential {
        self.present_from(field, HERE)
    }

    fn present_from(&self, field: &str, address: IpAddr) -> Credential {
        self.issuer.resolve_now(field, address)
    }

    fn is_hot(&self, issued: &Issued) -> bool {
        let field = format!("Bearer {}", issued.secret.reveal());
        matches!(self.ring.look([field.as_bytes()], HERE, self.clock.now()), Resolved::Now(_))
    }
}

impl Issuer {
    /// Also what is not in memory: looked up as a worker has it looked up, and waited for on another runtime.
    pub(crate) fn resolve_now(&self, field: &str, address: IpAddr) -> Credential {
        let now = self.clock.now();
        match self.ring.look([field.as_bytes()], address, now) {
            Resolved::Now(credential) => credential,
            Resolved::Later(cold) => {
                let load = || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                    runtime.block_on(self.load(&cold.digests)).unwrap()
                };
                let told = std::thread::scope(|scope| scope.spawn(load).join().unwrap());
                self.ring.hear(&cold, told, address, now).unwrap()
            }
        }
    }
}

fn terms() -> Terms {
    Terms { name: "demo".into(), mode: Mode::Live, networks: [].into(), expires: None }
}

fn new(terms: Terms) -> NewKey {
    NewKey { org: OrgId::from_number(1), terms, scopes: Scopes::new(["connect"]), maker: None, by: None }
}

#[tokio::test]
async fn a_valid_key_is_found_however_bearer_is_written() {
    let desk = Desk::open().await;
    let issued = desk.issue(terms()).await;
    let secret = issued.secret.reveal();
    for field in [format!("Bearer {secret}"), format!("bEARER   {secret} "), format!("\tbearer\t{secret}")] {
        let credential = desk.present(&field);
        assert_eq!(credential.valid().unwrap().id, issued.kept.key.id, "{field}");
        assert_eq!(credential.presented().unwrap().id, issued.kept.key.id);
    }
    assert_eq!(issued.kept.key.last_used(), Some(desk.clock.now()));
}

#[tokio::test]
async fn what_cannot_be_a_key_is_malformed_before_any_look_up() {
    let desk = Desk::open().await;
    let issued = desk.issue(terms()).await;
    let secret = issued.secret.reveal();
    let typo = format!("Bearer {}", secret.replace(&secret[20..22], "!!"));
    for field in [
        "",
        " ",
        "Bearer",
        "Bearer ",
        "Basic dXNlcjpwYXNz",
        secret,
        &format!("Bearer{secret}"),
        &format!("Bearer {secret} {secret}"),
        &format!("Bearer {secret},{secret}"),
        &format!("Bearer \"{secret}\""),
        &format!("Token {secret}"),
        &format!("Bearer {}", &secret[..secret.len() - 1].replace('_', "-")),
        &typo,
    ] {
        assert!(matches!(desk.present(field), Credential::Malformed), "{field}");
    }
    let good = format!("Bearer {secret}");
    let two = desk.ring.resolve([good.as_bytes(), good.as_bytes()], HERE, desk.clock.now()).await.unwrap();
    assert!(matches!(two, Credential::Malformed));
    let none = desk.ring.resolve([], HERE, desk.clock.now()).await.unwrap();
    assert!(matches!(none, Credential::Absent));
    assert!(none.valid().is_none() && none.presented().is_none());
}

#[tokio::test]
async fn a_well_formed_key_of_nobody_is_unknown() {
    let desk = Desk::open().await;
    desk.issue(terms()).await;
    let stranger = key::Secret::mint(Mode::Live).unwrap();
    assert!(matches!(desk.present(&format!("Bearer {}", stranger.reveal())), Credential::Unknown));
}

#[tokio::test]
async fn a_revocation_is_seen_by_whoever_holds_the_key_and_survives_reopening() {
    let desk = Desk::open().await;
    let issued = desk.issue(terms()).await;
    let held = desk.resolve(&issued);
    let revoked = desk.revoke(issued.kept.key.id).await.unwrap().key;
    assert_eq!(revoked.revoked(), Some(desk.clock.now()));
    assert!(held.valid().unwrap().revoked().is_some());
    assert!(matches!(desk.resolve(&issued), Credential::Revoked(_)));
    let desk = desk.reopen().await;
    assert!(matches!(desk.resolve(&issued), Credential::Revoked(_)));
    desk.clock.advance(Duration::from_secs(9));
    let again = desk.revoke(issued.kept.key.id).await.unwrap().key;
    assert_eq!(again.revoked(), revoked.revoked());
    assert!(desk.revoke(KeyId::from_number(1)).await.is_none());
}

#[tokio::test]
async fn a_key_ends_at_its_expiry_and_outside_its_networks() {
    let desk = Desk::open().await;
    let end = desk.clock.now().plus(Duration::from_secs(10));
    let expiring = desk.issue(Terms { expires: Some(end), ..terms() }).await;
    let network = "192.168.0.0/16".parse().unwrap();
    let elsewhere = desk.issue(Terms { networks: [network].into(), ..terms() }).await;
    assert!(desk.resolve(&expiring).valid().is_some());
    assert!(matches!(desk.resolve(&elsewhere), Credential::AddressNotAllowed(_)));
    assert_eq!(elsewhere.kept.key.last_used(), None);
    let field = format!("Bearer {}", elsewhere.secret.reveal());
    let mapped = "::ffff:192.168.3.4".parse().unwrap();
    assert!(desk.present_from(&field, mapped).valid().is_some());
    desk.clock.advance(Duration::from_secs(10));
    assert!(matches!(desk.resolve(&expiring), Credential::Expired(_)));
}

#[tokio::test]
async fn revoked_comes_before_expired_and_expired_before_the_network() {
    let desk = Desk::open().await;
    let end = desk.clock.now().plus(Duration::from_secs(1));
    let network = "192.168.0.0/16".parse().unwrap();
    let all = desk.issue(Terms { expires: Some(end), networks: [network].into(), ..terms() }).await;
    assert!(matches!(desk.resolve(&all), Credential::AddressNotAllowed(_)));
    desk.clock.advance(Duration::from_secs(1));
    assert!(matches!(desk.resolve(&all), Credential::Expired(_)));
    desk.revoke(all.kept.key.id).await;
    assert!(matches!(desk.resolve(&all), Credential::Revoked(_)));
}

#[tokio::test]
async fn after_a_rotation_both_secrets_are_one_key_until_the_overlap_ends() {
    let desk = Desk::open().await;
    let old = desk.issue(terms()).await;
    let young = desk.rotate(&old, 60, false).await.unwrap();
    let (one, other) = (desk.resolve(&old), desk.resolve(&young));
    assert!(Arc::ptr_eq(one.valid().unwrap(), other.valid().unwrap()), "limits and quota are the key's");
    let refused = desk.rotate(&old, 60, false).await.unwrap_err();
    assert!(matches!(
        refused,
        IssueError::Store(StoreError::Unchangeable(key::Unchangeable::RotationInProgress { .. }))
    ));
    desk.clock.advance(Duration::from_secs(59));
    assert!(desk.resolve(&old).valid().is_some());
    desk.clock.advance(Duration::from_secs(1));
    assert!(matches!(desk.resolve(&old), Credential::Expired(_)));
    assert!(desk.resolve(&young).valid().is_some());
    let desk = desk.reopen().await;
    assert!(matches!(desk.resolve(&old), Credential::Expired(_)));
    assert!(desk.resolve(&young).valid().is_some());
    let third = desk.rotate(&young, 0, false).await.unwrap();
    assert!(matches!(desk.resolve(&old), Credential::Unknown));
    assert!(matches!(desk.resolve(&young), Credential::Expired(_)));
    assert!(desk.resolve(&third).valid().is_some());
}

#[tokio::test]
async fn a_forced_rotation_ends_the_overlap_before_it_and_no_other() {
    let desk = Desk::open().await;
    let first = desk.issue(terms()).await;
    let second = desk.rotate(&first, 60, false).await.unwrap();
    let third = desk.rotate(&first, 30, true).await.unwrap();
    assert!(matches!(desk.resolve(&first), Credential::Unknown));
    assert!(desk.resolve(&second).valid().is_some() && desk.resolve(&third).valid().is_some());
    desk.revoke(first.kept.key.id).await;
    for secret in [&second, &third] {
        assert!(matches!(desk.resolve(secret), Credential::Revoked(_)));
    }
    let refused = desk.rotate(&first, 0, true).await.unwrap_err();
    assert!(matches!(refused, IssueError::Store(StoreError::Unchangeable(key::Unchangeable::Revoked))));
}

#[tokio::test]
async fn another_set_of_scopes_is_seen_by_whoever_holds_the_key() {
    let desk = Desk::open().await;
    let issued = desk.issue(terms()).await;
    let held = desk.resolve(&issued).valid().unwrap().clone();
    let scopes = Scopes::new(["pay", "keys:read"]);
    desk.issuer.scope(issued.kept.key.id, scopes, Leave::default(), Who::gateway()).await.unwrap().unwrap();
    assert!(held.holds("pay") && !held.holds("connect") && held.manages(key::Management::KeysRead));
    let desk = desk.reopen().await;
    assert_eq!(desk.resolve(&issued).valid().unwrap().scopes().as_str(), "keys:read pay");
}

#[tokio::test]
async fn a_key_that_is_beyond_the_bounds_is_not_changed() {
    let desk = Desk::open().await;
    let issued = desk.issue(terms()).await;
    let bounds = key::Bounds::of(&issued.kept.key);
    let within = |bounds| Leave { within: Some(bounds), ..Leave::default() };
    let scopes = Scopes::new(["connect", "pay"]);
    desk.issuer.scope(issued.kept.key.id, scopes, within(bounds.clone()), Who::gateway()).await.unwrap();
    let rotation = Rotation { overlap: Duration::ZERO, force: false, leave: within(bounds) };
    let error = desk.issuer.rotate(issued.kept.key.id, rotation, Who::gateway()).await.unwrap_err();
    assert!(matches!(error, IssueError::Store(StoreError::Unchangeable(key::Unchangeable::BeyondBounds))));
    assert!(desk.resolve(&issued).valid().is_some());
}

#[tokio::test]
async fn imported_keys_of_the_older_shape_work_and_their_secrets_are_known() {
    let desk = Desk::open().await;
    let text = "sk_live_imported_from_another_system_9";
    let secret = || Secret::imported(text).unwrap();
    assert_eq!(desk.issuer.owner_of(&secret()).await.unwrap(), None);
    let kept = desk.issuer.import(vec![(new(terms()), secret())], Who::gateway()).await.unwrap();
    assert_eq!(desk.present(&format!("Bearer {text}")).valid().unwrap().id, kept[0].key.id);
    assert_eq!(desk.issuer.owner_of(&secret()).await.unwrap(), Some(kept[0].key.id));
    let twice = desk.issuer.import(vec![(new(terms()), secret())], Who::gateway()).await.unwrap_err();
    assert!(matches!(twice, IssueError::Store(StoreError::Taken { .. })));
    assert!(Secret::imported("sk_live_too_short").is_none());
    let desk = desk.reopen().await;
    assert!(desk.present(&format!("Bearer {text}")).valid().is_some());
}

#[tokio::test]
async fn last_use_survives_reopening_once_it_was_saved() {
    let desk = Desk::open().await;
    let (used, idle) = (desk.issue(terms()).await, desk.issue(terms()).await);
    desk.clock.advance(Duration::from_secs(5));
    desk.resolve(&used);
    let at = desk.clock.now();
    desk.issuer.save_used().await.unwrap();
    let desk = desk.reopen().await;
    assert_eq!(desk.ring.hot(), 0, "nothing is read before it is used");
    assert_eq!(desk.issuer.find(used.kept.key.id).await.unwrap().unwrap().key.last_used(), Some(at));
    assert_eq!(desk.issuer.find(idle.kept.key.id).await.unwrap().unwrap().key.last_used(), None);
}

/// A store that has begun to fail, or to answer nothing at all.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Failing {
    Fails,
    Hangs,
}

impl Failing {
    fn failed<'a, T: Send + 'a>(self) -> Answer<'a, T> {
        Box::pin(async move {
            if self == Self::Hangs {
                std::future::pending::<()>().await;
            }
            Err(StoreError::Closing)
        })
    }
}

impl KeyStore for Failing {
    fn insert(&self, _: Vec<Kept>, _: u64, _: Note) -> Answer<'_, ()> {
        self.failed()
    }

    fn find(&self, _: KeyId) -> Answer<'_, Option<Kept>> {
        self.failed()
    }

    fn find_by_digest(&self, _: Digest) -> Answer<'_, Option<KeyId>> {
        self.failed()
    }

    fn change(&self, _: KeyId, _: Change, _: Note) -> Answer<'_, Option<Changed>> {
        self.failed()
    }

    fn redigest(&self, _: Vec<Move>) -> Answer<'_, Vec<Move>> {
        self.failed()
    }

    fn page(&self, _: Option<OrgId>, _: Option<KeyId>, _: usize) -> Answer<'_, Page> {
        Box::pin(async { Ok(Page { keys: Vec::new(), more: false }) })
    }

    fn forget(&self, _: Millis, _: Note) -> Answer<'_, Forgotten> {
        self.failed()
    }

    fn erase(&self, _: OrgId, _: Note) -> Answer<'_, Forgotten> {
        self.failed()
    }

    fn note_used(&self, _: Vec<(KeyId, Millis)>) -> Answer<'_, ()> {
        self.failed()
    }

    fn ended(&self, _: Millis, _: Millis, _: Option<Box<[u8]>>, _: usize) -> Answer<'_, Ended> {
        self.failed()
    }

    fn needs(&self, _: Millis) -> Answer<'_, Vec<(u32, u64)>> {
        self.failed()
    }

    fn peppers(&self) -> Answer<'_, Option<Vec<u32>>> {
        self.failed()
    }

    fn keep_peppers(&self, _: Vec<u32>) -> Answer<'_, ()> {
        self.failed()
    }

    fn digests(&self, _: Option<Digest>, _: bool, _: usize) -> Answer<'_, Vec<Digest>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn filter(&self) -> Answer<'_, Option<u128>> {
        Box::pin(async { Ok(None) })
    }

    fn keep_filter(&self, _: u128, _: Vec<Digest>) -> Answer<'_, ()> {
        self.failed()
    }
}

#[tokio::test]
async fn while_the_store_fails_a_revocation_holds_in_memory_and_no_key_is_made() {
    let desk = Desk::open().await;
    let issued = desk.issue(terms()).await;
    let failing = Issuer::open(Arc::new(Failing::Fails), desk.ring.clone(), desk.clock.clone()).await.unwrap();
    let failing = Arc::new(failing);
    assert!(failing.revoke(issued.kept.key.id, Who::gateway()).await.is_err());
    assert!(matches!(desk.resolve(&issued), Credential::Revoked(_)));
    assert!(failing.issue(new(terms()), Who::gateway()).await.is_err());
    assert_eq!(desk.ring.hot(), 1);
}

#[tokio::test]
async fn a_revocation_holds_before_the_store_has_answered_anything() {
    let desk = Desk::open().await;
    let issued = desk.issue(terms()).await;
    let hanging = Issuer::open(Arc::new(Failing::Hangs), desk.ring.clone(), desk.clock.clone()).await.unwrap();
    let hanging = Arc::new(hanging);
    let revoking = hanging.revoke(issued.kept.key.id, Who::gateway());
    assert!(tokio::time::timeout(Duration::from_millis(50), revoking).await.is_err(), "the store must know, too");
    assert!(matches!(desk.resolve(&issued), Credential::Revoked(_)));
}

#[tokio::test]
async fn nothing_that_can_be_printed_shows_a_secret() {
    let desk = Desk::open().await;
    let issued = desk.issue(terms()).await;
    let printed = format!("{issued:?} {:?} {:?} {:?}", desk.resolve(&issued), desk.ring, desk.issuer);
    let chance = &issued.secret.reveal()[8..20];
    assert!(!printed.contains(chance), "{printed}");
}

proptest! {
    #[test]
    fn any_authorization_is_resolved_without_harm(bytes: Vec<u8>, text in "(?i)bearer[ \\t]+(sk_(live|sandbox)_)?\\PC{0,80}") {
        let ring = Keyring::new(vec![Pepper::new(1, &[1; 32])]);
        for field in [&bytes[..], text.as_bytes()] {
            let Resolved::Now(credential) = ring.look([field], HERE, Millis(1)) else { panic!("nothing is in the filter") };
            prop_assert!(matches!(credential, Credential::Malformed | Credential::Unknown));
        }
    }
}

/// `cargo test --release -- --ignored --nocapture cost` shows what one resolving costs.
#[tokio::test]
#[ignore = "a measurement"]
async fn cost_of_resolving() {
    let desk = Desk::open().await;
    let issued = desk.issue(terms()).await;
    for number in 0..100_000u64 {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        let secret = Digested { digest: Digest::new(digest), ..issued.kept.secret };
        desk.ring.add(&Kept { secret, ..issued.kept.clone() });
    }
    let field = format!("Bearer {}", issued.secret.reveal());
    // The quickest of many batches: what it costs where nothing else wants the core.
    let quickest = (0..200).map(|_| {
        let start = Instant::now();
        for _ in 0..1_000 {
            let credential = desk.ring.look([field.as_bytes()], HERE, Millis(1_000_001));
            assert!(matches!(std::hint::black_box(credential), Resolved::Now(Credential::Valid(_))));
        }
        start.elapsed() / 1_000
    });
    println!("one valid key among {}: {:?}", desk.ring.hot(), quickest.min().unwrap());
}
