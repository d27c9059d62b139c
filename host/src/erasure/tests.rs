use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::*;
use crate::audit::{Filter, SledAudit, Verdict};
use crate::clock::Millis;
use crate::config::SecretSource;
use crate::credential::{IssueError, Issued, Keyring, NewKey};
use crate::data::DataDirectory;
use crate::idempotency::{Fingerprint, Place, Proof, SledIdempotency, Turn};
use crate::key::{Mode, Peppers, Scopes, SledKeys, Terms};
use crate::org::{Login, NewToken, Role, SledOrgs, SledTokens, TokenError};
use crate::outbox::{Event, Kind as EventKind, SledOutbox};
use crate::requests::{Bounds, Entry, Page, Pending, Record, Rows, SegmentLog, Unwritten, record};
use crate::seal::Vault;
use crate::usage::Caller;
use crate::webhook::{DeskError, NewWebhook, Now, SledWebhooks};

/// A request log that erases nothing while it is told so.
#[derive(Debug)]
struct Log {
    log: SegmentLog,
    fails: AtomicBool,
}

impl RequestLog for Log {
    fn add(&self, rows: &Rows, now: Millis) -> Result<(), Unwritten> {
        self.log.add(rows, now)
    }

    fn forget(&self, bounds: Bounds, now: Millis) -> Result<bool, requests::StoreError> {
        self.log.forget(bounds, now)
    }

    fn settle(&self) -> Result<(), requests::StoreError> {
        self.log.settle()
    }

    fn erase(&self, org: u128, until: Millis) -> Pending<'_, u64> {
        match self.fails.load(Ordering::Relaxed) {
            true => Box::pin(async { Err(requests::StoreError("the disk is full".into())) }),
            false => self.log.erase(org, until),
        }
    }

    fn bytes(&self) -> u64 {
        self.log.bytes()
    }

    fn has_room(&self) -> bool {
        true
    }

    fn page(&self, filter: requests::Filter, before: Option<u128>, limit: usize) -> Pending<'_, Page> {
        self.log.page(filter, before, limit)
    }

    fn find(&self, filter: requests::Filter, request: u128) -> Pending<'_, Option<Vec<u8>>> {
        self.log.find(filter, request)
    }
}

/// All stores of one data directory, as one process has them.
struct Process {
    place: tempfile::TempDir,
    data: DataDirectory,
    audit: SledAudit,
    outbox: SledOutbox,
    ring: Keyring,
    log: Arc<Log>,
    stores: Stores,
    desk: Arc<Erasure>,
    clock: Clock,
    late: std::sync::Mutex<Option<idempotency::Ticket>>,
}

impl Process {
    async fn first() -> Self {
        let place = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(&place.path().join("data")).unwrap();
        Self::over(place, data, Clock::manual(Millis(1_795_305_600_000))).await
    }

    /// The next one, after this one died.
    async fn next(self) -> Self {
        let Self { place, data, clock, .. } = self;
        Self::over(place, data, clock).await
    }

    async fn over(place: tempfile::TempDir, data: DataDirectory, clock: Clock) -> Self {
        let vault = Vault::open(&SecretSource::File(place.path().join("master.key")), &data).unwrap();
        let vault = Arc::new(vault);
        let ring = Keyring::new(Peppers::new(vault.clone()).all().unwrap());
        let audit = SledAudit::open(data.database(), &vault, clock.now()).unwrap();
        let outbox = SledOutbox::open(data.database()).unwrap();
        let hooks = SledWebhooks::open(data.database(), audit.clone(), outbox.clone()).unwrap();
        let config = crate::config::parse("[pillars.a]\n", "a.toml".as_ref()).unwrap();
        let now = Now { settings: config.webhooks, roots: Default::default() };
        let webhooks = Webhooks::open(Arc::new(hooks), vault.clone(), clock.clone(), now).await.unwrap();
        let keys = SledKeys::open(data.database(), audit.clone(), outbox.clone()).unwrap();
        let tokens = SledTokens::open(data.database(), audit.clone()).unwrap();
        let log =
            Arc::new(Log { log: SegmentLog::open(&data, &config.telemetry.requests), fails: AtomicBool::new(false) });
        let stores = Stores {
            orgs: Arc::new(SledOrgs::open(data.database(), audit.clone(), clock.now()).unwrap()),
            issuer: Arc::new(Issuer::open(Arc::new(keys), ring.clone(), clock.clone()).await.unwrap()),
            tokens: Arc::new(Tokens::open(Arc::new(tokens), &vault, clock.clone()).await.unwrap()),
            webhooks: Arc::new(webhooks),
            repeats: Repeats::new(Arc::new(SledIdempotency::open(data.database()).unwrap()), clock.clone()),
            audit: Arc::new(audit.clone()),
            requests: log.clone(),
            rewrite: data.rewrite(),
        };
        let desk = Arc::new(Erasure::open(stores.clone(), clock.clone()).await.unwrap());
        Self { place, data, audit, outbox, ring, log, stores, desk, clock, late: Default::default() }
    }

    async fn org(&self, slug: &str) -> OrgId {
        let org = Org::new(slug, &format!("{slug} Ltd"), self.clock.now()).unwrap();
        let note = Note::new(Who::gateway(), "org.created", self.clock.now());
        self.stores.orgs.create(org.clone(), note).await.unwrap();
        org.id
    }

    async fn key(&self, org: OrgId) -> Result<Issued, IssueError> {
        let terms = Terms { name: "Ada's".into(), mode: Mode::Live, networks: Box::default(), expires: None };
        let new = NewKey { org, terms, scopes: Scopes::new(["pay"]), maker: None, by: None };
        self.stores.issuer.issue(new, Who::gateway()).await
    }

    async fn token(&self, org: OrgId) -> Result<String, TokenError> {
        let (name, maker) = ("Ada's".to_owned(), None);
        let terms = NewToken { name, role: Role::Auditor, org: Some(org), expires: None, maker };
        Ok(self.stores.tokens.issue(terms, Who::gateway()).await?.1.to_string())
    }

    async fn webhook(&self, org: OrgId) -> Result<(), DeskError> {
        let (url, events) = ("https://ada.example/hook".to_owned(), vec![EventKind::KeyRevoked]);
        let new = NewWebhook { org, url, events, enabled: true, sandbox: false, maker: None };
        self.stores.webhooks.create(new, Who::gateway()).await.map(drop)
    }

    fn requests(&self, org: OrgId, count: u128) {
        let mut rows = Rows::default();
        for number in 0..count {
            let request = (u128::from(self.clock.now().0) << 80) + number;
            let record =
                Record { caller: Caller { org: Some(org.number()), key: Some(1) }, ..record(request, "/v1/pay/ada") };
            rows.push(&Entry { pillar: "pay", route: "x", record });
        }
        self.log.add(&rows, self.clock.now()).unwrap();
    }

    async fn logged(&self, org: OrgId) -> usize {
        let filter = requests::Filter { org: Some(org.number()), ..requests::Filter::default() };
        self.log.page(filter, None, 100).await.unwrap().rows.len()
    }

    /// An org with some of everything: a key and a token that work.
    async fn filled(&self, slug: &str) -> (OrgId, Issued, String) {
        let org = self.org(slug).await;
        let key = self.key(org).await.unwrap();
        for ended in 0..2 {
            let other = self.key(org).await.unwrap().kept.key.id;
            if ended == 1 {
                self.stores.issuer.revoke(other, Who::gateway()).await.unwrap();
            }
        }
        let token = self.token(org).await.unwrap();
        self.webhook(org).await.unwrap();
        let fields = [(idempotency::FIELD.parse().unwrap(), "an-order".parse().unwrap())].into_iter().collect();
        let place = Place::of(Some(org), "/v1/keys", &idempotency::Key::of(&fields).unwrap().unwrap());
        let asked = Fingerprint::of("POST", "/v1/keys", b"{}");
        let proof = Proof::of(b"a key");
        let Turn::Run(ticket) = self.stores.repeats.turn(place, asked, &proof).await.unwrap() else {
            panic!("it is new")
        };
        if slug == "acme" {
            // As a super-admin does it, and in the very moment of the end.
            let place = Place::of(None, "/v1/keys", &idempotency::Key::of(&fields).unwrap().unwrap());
            assert!(matches!(self.stores.repeats.turn(place, asked, &proof).await.unwrap(), Turn::Run(_)));
            *self.late.lock().unwrap() = Some(ticket);
        }
        self.requests(org, 3);
        (org, key, token)
    }

    fn opens(&self, key: &Issued, token: &str) -> (bool, bool) {
        let field = format!("Bearer {}", key.secret.reveal());
        let found = self.stores.issuer.resolve_now(&field, [127, 0, 0, 1].into());
        (found.valid().is_some(), matches!(self.stores.tokens.login(token.as_bytes()), Login::Valid(_)))
    }

    async fn is_whole(&self) -> bool {
        matches!(self.audit.verify().await.unwrap(), Verdict::Whole(_))
    }

    async fn actions(&self, org: OrgId) -> Vec<String> {
        let filter = Filter { org: Some(org), ..Filter::default() };
        let page = self.audit.page(filter, None, 1_000).await.unwrap();
        page.entries.iter().rev().map(|entry| entry.note.action.to_string()).collect()
    }

    /// The names of trees in which a row holds this text or this number.
    fn holds(&self, text: &str, org: OrgId) -> Vec<String> {
        let number = org.number().to_be_bytes();
        let has = |bytes: &[u8]| {
            bytes.windows(text.len()).any(|window| window == text.as_bytes())
                || bytes.windows(16).any(|window| window == number)
        };
        let names = self.data.database().names().into_iter();
        names
            .filter(|name| {
                let tree = self.data.database().tree_named(name).unwrap();
                tree.iter().any(|row| row.is_ok_and(|(place, value)| has(&place) || has(&value)))
            })
            .map(|name| String::from_utf8_lossy(&name).into_owned())
            .collect()
    }
}

fn is_whole(remains: &Remains) -> Erased {
    let ending = remains.org.ending.as_ref().unwrap();
    assert!(ending.done.is_some() && ending.by.is_none() && remains.org.name.is_empty());
    ending.erased
}

#[tokio::test]
async fn all_of_an_org_goes_but_its_id_and_nothing_of_another() {
    let it = Process::first().await;
    let (acme, key, token) = it.filled("acme").await;
    let (other, other_key, other_token) = it.filled("other").await;
    let before = it.actions(other).await;
    let posted = Event::new(EventKind::KeyRevoked, it.clock.now(), json!({"key": {"name": "Ada's"}})).of(acme, false);
    it.outbox.append(&[posted]).unwrap();
    let who = Who { kind: audit::ActorKind::SuperAdmin, id: None, address: Some([192, 0, 2, 7].into()) };
    let remains = it.desk.erase(acme, who.clone()).await.unwrap().unwrap();
    let gone = is_whole(&remains);
    assert_eq!((gone.keys, gone.tokens, gone.webhooks, gone.repeats, gone.requests), (3, 1, 1, 1, 3));
    assert_eq!((it.logged(acme).await, it.logged(other).await), (0, 3));
    // The event that was posted, and those of its keys.
    assert_eq!(gone.events, 5);
    assert_eq!((remains.audit.in_chain, it.is_whole().await), (0, true));
    assert!(gone.audit_values >= 7 && remains.audit.entries > gone.audit_values, "{remains:?}");
    // An answer that comes late is of nobody, and what super-admins asked for is forgotten.
    let late = it.late.lock().unwrap().take().unwrap();
    late.keep(&idempotency::Answer {
        status: 201,
        is_confidential: true,
        kind: String::new(),
        location: None,
        body: b"{}".to_vec().into(),
    })
    .await
    .unwrap();
    assert_eq!(it.data.database().tree("idempotency").unwrap().len(), 1, "that of the other org");
    assert_eq!(it.opens(&key, &token), (false, false));
    assert_eq!(it.opens(&other_key, &other_token), (true, true));
    assert_eq!(it.actions(other).await, before);
    assert_eq!(it.holds("acme Ltd", acme), ["audit", "orgs"], "by its id alone");
    let found = it.stores.orgs.find(&acme.to_string()).await.unwrap().unwrap();
    assert_eq!((found.slug.as_str(), it.stores.orgs.find("acme").await.unwrap()), (&*acme.text() as &str, None));
    // Who asked for it, and from where, stands in the entry that says so; nothing stands in those before.
    let filter = Filter { org: Some(acme), ..Filter::default() };
    let entries = it.audit.page(filter, None, 1_000).await.unwrap().entries;
    assert_eq!((entries[0].note.action.as_ref(), &entries[0].note.actor), ("org.erased", &who));
    assert!(entries[1..].iter().all(|entry| entry.note.actor.address.is_none()));
    assert!(!format!("{entries:?}").contains("Ada"));
    // Again is the same answer, and nothing is noted.
    let again = it.desk.erase(acme, Who::gateway()).await.unwrap().unwrap();
    assert_eq!((again.org, again.audit), (remains.org, remains.audit));
    // The name is free, the id is not.
    let anew = it.org("acme").await;
    assert_ne!(anew, acme);
    assert_eq!(it.stores.orgs.find("acme").await.unwrap().unwrap().id, anew);
    assert!(it.desk.erase(OrgId::from_number(5), Who::gateway()).await.unwrap().is_none());
}

#[tokio::test]
async fn nothing_is_made_in_an_org_whose_end_has_begun() {
    let mut it = Process::first().await;
    let (acme, ..) = it.filled("acme").await;
    it.log.fails.store(true, Ordering::Relaxed);
    assert!(matches!(it.desk.erase(acme, Who::gateway()).await, Err(Error::Requests(_))));
    for _ in 0..2 {
        let refused = it.key(acme).await.unwrap_err();
        assert!(matches!(refused, IssueError::Store(key::StoreError::OrgErased { org }) if org == acme));
        assert!(matches!(it.token(acme).await, Err(TokenError::OrgErased { org }) if org == acme));
        assert!(matches!(it.webhook(acme).await, Err(DeskError::OrgErased)));
        let note = Note::new(Who::gateway(), "org.renamed", it.clock.now());
        let renamed = it.stores.orgs.rename(acme, None, Some("New".into()), note).await;
        assert!(matches!(renamed, Err(org::StoreError::Erased { .. })));
        // Rows of requests that were under way come late.
        it = it.next().await;
    }
    it.desk.resume().await;
    it.requests(acme, 4);
    assert_eq!(it.logged(acme).await, 0);
    assert!(it.key(acme).await.is_err() && it.is_whole().await);
}

#[tokio::test]
async fn what_died_in_the_middle_is_closed_at_once_and_ended_by_the_next_start() {
    let it = Process::first().await;
    let (acme, key, token) = it.filled("acme").await;
    // It died right after it was written down that it begins.
    let note = Note::new(Who::gateway(), "org.erasing", it.clock.now());
    it.stores.orgs.begin_erasing(acme, Who::gateway(), note).await.unwrap();
    assert_eq!(it.opens(&key, &token), (true, true));
    let it = it.next().await;
    assert_eq!(it.opens(&key, &token), (false, false), "before anything answers");
    // It died later, when half of it was gone; twice.
    for _ in 0..2 {
        it.log.fails.store(true, Ordering::Relaxed);
        it.desk.resume().await;
        let found = it.stores.orgs.find("acme").await.unwrap().unwrap();
        assert_eq!((found.ending.unwrap().erased.keys, found.name.as_str()), (3, "acme Ltd"));
        assert!(it.is_whole().await);
    }
    // It died when the log said that it was erased, and half of the values were gone.
    let note = Note::new(Who::gateway(), ORG_ERASED, it.clock.now());
    let entry = it.stores.orgs.erase_names(acme, note).await.unwrap().unwrap().ending.unwrap().entry.unwrap();
    it.audit.erase(acme, entry - 3).await.unwrap();
    assert!(it.is_whole().await);
    let it = it.next().await;
    it.desk.resume().await;
    let found = it.stores.orgs.find(&acme.to_string()).await.unwrap().unwrap();
    let gone = is_whole(&it.desk.remains(found).await.unwrap());
    assert_eq!((gone.keys, gone.tokens, gone.webhooks, gone.repeats, gone.requests), (3, 1, 1, 1, 3));
    assert_eq!(it.actions(acme).await.iter().filter(|action| *action == ORG_ERASED).count(), 1);
    assert_eq!((it.holds("acme Ltd", acme), it.is_whole().await), (vec!["orgs".to_owned()], true));
    assert!(it.place.path().join("data/rewrite").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_makes_things_while_an_org_is_erased_leaves_nothing_in_it() {
    let it = Arc::new(Process::first().await);
    let (acme, ..) = it.filled("acme").await;
    let makers: Vec<_> = (0..4)
        .map(|_| {
            let it = it.clone();
            tokio::spawn(async move {
                let mut made = 0;
                while it.key(acme).await.is_ok() && it.token(acme).await.is_ok() {
                    made += 1;
                }
                made
            })
        })
        .collect();
    while it.stores.tokens.list().len() < 10 {
        tokio::task::yield_now().await;
    }
    let remains = it.desk.erase(acme, Who::gateway()).await.unwrap().unwrap();
    let mut made = 0;
    for maker in makers {
        made += maker.await.unwrap();
    }
    assert!(made >= 9 && is_whole(&remains).keys >= made, "{remains:?}");
    assert_eq!((it.stores.tokens.list().len(), it.ring.hot(), it.is_whole().await), (0, 0, true));
    assert!(it.stores.issuer.page(Some(acme), None, 10).await.unwrap().0.is_empty());
    assert_eq!(it.holds("acme Ltd", acme), ["orgs"]);
}
