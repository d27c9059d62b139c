mod attempts;
mod orgs;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::json;
use zeroize::Zeroizing;

use super::lines::{ALL, EACH, LONGEST, Lines};
use super::*;
use crate::audit::{AuditStore, Filter, SledAudit, Who};
use crate::clock::{Clock, Millis};
use crate::config::{self, SecretSource};
use crate::data::DataDirectory;
use crate::id::{EventId, OrgId, WebhookId};
use crate::outbox::{Event, Kind, SledOutbox};
use crate::seal::Vault;

const ORG: OrgId = OrgId::from_number(7);
const START: Millis = Millis(1_795_305_600_000);

fn settings(more: &str) -> config::Webhooks {
    let text = format!("[webhooks]\n{more}\n[pillars.a]\n");
    config::parse(&text, "gateway.toml".as_ref()).unwrap().webhooks
}

struct Stand {
    place: tempfile::TempDir,
    data: DataDirectory,
    audit: SledAudit,
    outbox: SledOutbox,
    store: SledWebhooks,
    desk: Arc<Webhooks>,
    clock: Clock,
}

impl Stand {
    async fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap()).await
    }

    async fn at(place: tempfile::TempDir) -> Self {
        let clock = Clock::manual(START);
        let data = DataDirectory::open(&place.path().join("data")).unwrap();
        let vault = Arc::new(Vault::open(&SecretSource::File(place.path().join("master.key")), &data).unwrap());
        // What a gateway has sealed by then: so that a master key is asked for at the next start.
        vault.find_or_make("something").unwrap();
        let audit = SledAudit::open(data.database(), &vault, START).unwrap();
        let outbox = SledOutbox::open(data.database()).unwrap();
        let store = SledWebhooks::open(data.database(), audit.clone(), outbox.clone()).unwrap();
        let now = Now { settings: settings(""), roots: Default::default() };
        let desk = Webhooks::open(Arc::new(store.clone()), vault, clock.clone(), now).await.unwrap();
        Self { place, data, audit, outbox, store, desk: Arc::new(desk), clock }
    }

    /// As after a restart.
    async fn again(self) -> Self {
        let Self { place, data, .. } = self;
        drop((self.audit, self.outbox, self.store, self.desk));
        drop(data);
        Self::at(place).await
    }

    async fn webhook(&self, events: &[Kind]) -> Issued {
        let number = self.desk.after(None, |_| true).len();
        self.webhook_at(&format!("https://hooks.example.com/in/{number}?token=geheim"), events).await
    }

    async fn webhook_at(&self, url: &str, events: &[Kind]) -> Issued {
        let (url, events) = (url.to_owned(), events.to_vec());
        let new = NewWebhook { org: ORG, url, events, enabled: true, sandbox: false, maker: None };
        self.desk.create(new, Who::gateway()).await.unwrap()
    }

    /// Takes all events out of the outbox, as the courier does.
    async fn spread(&self) -> Vec<Waiting> {
        let events = self.store.events(100).await.unwrap();
        let to = |event: &Event| self.desk.after(None, |webhook| webhook.wants(event)).iter().map(|it| it.id).collect();
        let letters = events.into_iter().map(|event| (event.clone(), to(&event))).collect();
        self.store.spread(letters, self.clock.now()).await.unwrap()
    }
}

fn event(number: u64) -> Event {
    Event::new(Kind::KeyRevoked, Millis(START.0 + number), json!({ "number": number })).of(ORG, false)
}

fn attempt(event: EventId, number: u32, next: Option<Millis>) -> Attempt {
    let at = Millis(START.0 + u64::from(number));
    Attempt { at, event, kind: Kind::KeyRevoked, number, outcome: Outcome::Status(500), took: 3, next }
}

/// The published example of the specification's own libraries; its signature was computed apart from this code.
#[test]
fn a_message_is_signed_as_standard_webhooks_are() {
    let bytes = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let secret = Secret::of(Zeroizing::new(bytes));
    assert_eq!(*secret.reveal(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let at = Millis(1_614_265_330_999);
    let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", at, "{\"test\": 2432232314}");
    assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    assert_ne!(secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", at, "{\"test\": 2432232315}"), signature);
    assert_eq!(format!("{secret:?}"), "Secret(…)");
}

#[test]
fn messages_go_to_public_addresses_over_tls_and_elsewhere_only_where_that_is_opened() {
    let closed = settings("");
    for (url, refused) in [
        ("https://hooks.example.com/a?b=c", None),
        ("https://8.8.8.8:8443/", None),
        ("http://hooks.example.com/", Some(Refused::InTheClear)),
        ("https://127.0.0.1/", Some(Refused::Private)),
        ("https://[::1]/", Some(Refused::Private)),
        ("https://[::ffff:10.0.0.1]/", Some(Refused::Private)),
        ("https://169.254.169.254/latest", Some(Refused::Private)),
        ("https://localhost:9100/", Some(Refused::Private)),
        ("https://a.localhost/", Some(Refused::Private)),
        ("https://user@hooks.example.com/", Some(Refused::Form)),
        ("https://hooks.example.com/#a", Some(Refused::Form)),
        ("https://hooks.example.com/a/../b", Some(Refused::Form)),
        ("ftp://hooks.example.com/", Some(Refused::Form)),
        ("hooks.example.com", Some(Refused::Form)),
        ("", Some(Refused::Form)),
    ] {
        assert_eq!(check(url, &closed).err(), refused, "{url}");
    }
    assert_eq!(check(&format!("https://a.example/{}", "a".repeat(LONGEST_URL)), &closed), Err(Refused::Form));
    let open = settings("private = [\"hooks.internal\", \"10.0.0.0/8\", \"::1\"]");
    for url in ["http://hooks.internal/", "https://HOOKS.internal./", "http://10.1.2.3:80/", "http://[::1]/"] {
        assert_eq!(check(url, &open), Ok(()), "{url}");
    }
    assert_eq!(check("http://other.internal/", &open), Err(Refused::InTheClear));
    assert_eq!(check("https://11.0.0.1/", &open), Ok(()));
    assert_eq!(check("https://127.0.0.1/", &open), Err(Refused::Private));
}

#[test]
fn pauses_double_up_to_the_longest_and_end_with_the_attempts() {
    let settings = settings("retry = \"10s\"\nlongest_retry = \"1m\"\nattempts = 5\nmax_age = \"1h\"");
    let bounds: Vec<u64> = (1..7).map(|failed| schedule::bound(&settings, failed).as_secs()).collect();
    assert_eq!(bounds, [10, 20, 40, 60, 60, 60]);
    assert_eq!(schedule::bound(&settings, u32::MAX).as_secs(), 60);
    let next = |failed, age: u64, chance| {
        schedule::next(&settings, (failed, START), START.plus(Duration::from_secs(age)), chance, None)
    };
    assert_eq!(next(1, 0, 0), Some(START.plus(Duration::from_secs(5))), "half is the shortest pause");
    assert_eq!(next(1, 0, 5_000), Some(START.plus(Duration::from_secs(10))));
    assert_eq!(next(1, 0, 5_001), Some(START.plus(Duration::from_secs(5))));
    assert_eq!((next(4, 0, 0).is_some(), next(5, 0, 0)), (true, None));
    let end = START.plus(Duration::from_secs(3600));
    assert_eq!((next(1, 3599, 0), next(1, 3600, 0)), (Some(end), None), "the last one is at the end");
    let late = |asked| {
        let now = START.plus(Duration::from_secs(3590));
        schedule::next(&settings, (1, START), now, 0, Some(Duration::from_secs(asked)))
    };
    assert_eq!((late(10), late(11)), (Some(end), None), "who wants to be left alone is, to the end");
    // A receiver that wants to be left alone is, up to the longest pause.
    let asked = |seconds| schedule::next(&settings, (1, START), START, 0, Some(Duration::from_secs(seconds)));
    assert_eq!(
        (asked(30), asked(999)),
        (Some(START.plus(Duration::from_secs(30))), Some(START.plus(Duration::from_secs(60))))
    );
}

#[test]
fn by_default_a_message_is_tried_for_the_whole_time_whatever_the_chance() {
    let settings = settings("");
    for chance in [0, 1, 7, u64::MAX] {
        let (mut failed, mut now) = (1, START);
        while let Some(due) = schedule::next(&settings, (failed, START), now, chance, None) {
            (failed, now) = (failed + 1, due);
        }
        assert_eq!(now.since(START), settings.max_age, "after {failed} attempts by the chance of {chance}");
    }
}

proptest! {
    #[test]
    fn no_pause_is_longer_than_its_bound(failed in 1_u32..16, chance: u64) {
        let settings = settings("");
        let due = schedule::next(&settings, (failed.min(15), START), START, chance, None);
        let bound = schedule::bound(&settings, failed);
        prop_assert!(due.is_some_and(|due| (bound / 2..=bound).contains(&due.since(START))));
    }
}

#[test]
fn one_line_that_does_not_move_holds_up_no_other() {
    let mut lines = Lines::default();
    let hook = WebhookId::from_number;
    for number in 0..20 {
        lines.add(Waiting { due: START, webhook: hook(1), event: EventId::from_number(number) });
    }
    lines.add(Waiting { due: START, webhook: hook(2), event: EventId::from_number(99) });
    let taken: Vec<_> = std::iter::from_fn(|| lines.take(START)).collect();
    let of = |number| taken.iter().filter(|(webhook, _)| *webhook == hook(number)).count();
    assert_eq!((of(1), of(2)), (EACH, 1));
    assert_eq!(taken[1].0, hook(2), "whose turn it is goes round");
    assert_eq!(lines.next(), None, "who has no place waits for one");
    let later = START.plus(Duration::from_secs(5));
    lines.done(hook(1), taken[0].1, Some(later));
    assert_eq!(lines.next(), Some(START));
    assert_eq!(lines.take(START).map(|(webhook, _)| webhook), Some(hook(1)));
    lines.done(hook(2), EventId::from_number(99), None);
    assert_eq!(lines.take(START), None);
}

#[test]
fn a_line_counts_what_waits_until_it_is_forgotten() {
    let (mut lines, webhook) = (Lines::default(), WebhookId::from_number(1));
    for number in 0..LONGEST as u128 {
        assert_eq!(lines.count(webhook), number as usize);
        lines.add(Waiting { due: START, webhook, event: EventId::from_number(number) });
    }
    let (_, event) = lines.take(START).unwrap();
    assert_eq!(lines.count(webhook), LONGEST, "what is under way counts");
    lines.forget(webhook);
    assert_eq!((lines.count(webhook), lines.take(START)), (1, None));
    lines.done(webhook, event, Some(START));
    assert_eq!(lines.take(START), Some((webhook, event)), "what was under way may be due again");
}

#[test]
fn what_a_clock_of_the_future_put_off_is_due_within_the_longest_pause() {
    let mut lines = Lines::default();
    let webhook = WebhookId::from_number(1);
    let (soon, years) = (START.plus(Duration::from_secs(60)), START.plus(Duration::from_secs(300_000_000)));
    for (number, due) in [(0, START), (1, soon), (2, years), (3, years)] {
        lines.add(Waiting { due, webhook, event: EventId::from_number(number) });
    }
    lines.cap(soon);
    let taken: Vec<_> = std::iter::from_fn(|| lines.take(soon)).map(|(_, event)| event.number()).collect();
    assert_eq!(taken, [0, 1, 2, 3]);
}

#[tokio::test]
async fn attempts_are_in_the_order_in_which_they_were_made_also_after_the_clock_was_set_back() {
    let stand = Stand::new().await;
    let id = stand.webhook(&[Kind::KeyRevoked]).await.webhook.id;
    let years = START.plus(Duration::from_secs(300_000_000));
    for number in 1..=3 {
        stand.store.settle(id, Attempt { at: years, ..attempt(event(1).id, number, None) }).await.unwrap();
    }
    for number in 4..=104 {
        stand.store.settle(id, attempt(event(1).id, number, None)).await.unwrap();
    }
    let numbers: Vec<_> = stand.store.attempts(id).await.unwrap().iter().map(|it| it.number).collect();
    assert_eq!(numbers, (5..=104).rev().collect::<Vec<_>>());
    stand.store.forget_before(Millis(START.0 + 100)).await.unwrap();
    assert_eq!(stand.store.attempts(id).await.unwrap().len(), 5);
}

#[test]
fn all_together_are_bounded_too() {
    let mut lines = Lines::default();
    for number in 0..ALL as u128 {
        for event in 0..2 {
            let webhook = WebhookId::from_number(number);
            lines.add(Waiting { due: START, webhook, event: EventId::from_number(event) });
        }
    }
    assert_eq!(std::iter::from_fn(|| lines.take(START)).count(), ALL);
    assert_eq!(lines.next(), None);
    lines.done(WebhookId::from_number(0), EventId::from_number(0), None);
    assert_eq!(lines.next(), Some(START));
}

#[tokio::test]
async fn who_hears_of_what() {
    let stand = Stand::new().await;
    let webhook = (*stand.webhook(&[Kind::KeyRevoked, Kind::OpenapiChanged]).await.webhook).clone();
    assert!(webhook.wants(&event(1)));
    let others = Event::new(Kind::KeyRevoked, START, json!({})).of(OrgId::from_number(8), false);
    assert!(!webhook.wants(&others), "another org's");
    assert!(webhook.wants(&Event::new(Kind::OpenapiChanged, START, json!({}))), "everybody's");
    assert!(!webhook.wants(&Event::new(Kind::KeyCreated, START, json!({})).of(ORG, false)), "nobody asked");
    let test = Event::new(Kind::Test, START, json!({})).of(ORG, false);
    assert!(
        webhook.wants(&test.clone().only(webhook.id)) && !webhook.wants(&test.clone().only(WebhookId::from_number(1)))
    );
    assert!(!webhook.wants(&test));
    let sandbox = Webhook { sandbox: true, ..webhook.clone() };
    assert!(!sandbox.wants(&event(1)) && sandbox.wants(&event(1).of(ORG, true)));
    for state in [State::Disabled, State::Gone] {
        assert!(!Webhook { state, ..webhook.clone() }.wants(&event(1)));
    }
}

#[tokio::test]
async fn what_happened_and_what_waits_are_there_after_a_restart() {
    let stand = Stand::new().await;
    let id = stand.webhook(&[Kind::KeyRevoked]).await.webhook.id;
    stand.outbox.append(&[event(1)]).unwrap();
    let stand = stand.again().await;
    let waiting = stand.spread().await;
    assert_eq!(waiting, [Waiting { due: START, webhook: id, event: event(1).id }]);
    assert!(stand.store.events(9).await.unwrap().is_empty(), "it is in one place only");
    let due = START.plus(Duration::from_secs(9));
    stand.store.settle(id, attempt(event(1).id, 1, Some(due))).await.unwrap();
    let stand = stand.again().await;
    assert_eq!(stand.store.waiting(None).await.unwrap(), [Waiting { due, webhook: id, event: event(1).id }]);
    let letter = stand.store.letter(id, event(1).id).await.unwrap().unwrap();
    assert_eq!((letter.attempts, letter.since, letter.event), (1, START, event(1)));
    stand.store.settle(id, attempt(event(1).id, 2, None)).await.unwrap();
    assert_eq!(stand.store.waiting_for(id).await.unwrap(), 0);
    let (attempts, waiting) = stand.desk.deliveries(id).await.unwrap();
    assert_eq!((attempts.iter().map(|it| it.number).collect::<Vec<_>>(), waiting), (vec![2, 1], 0));
}

#[tokio::test]
async fn only_the_last_attempts_are_remembered() {
    let stand = Stand::new().await;
    let id = stand.webhook(&[Kind::KeyRevoked]).await.webhook.id;
    for number in 1..=105 {
        stand.store.settle(id, attempt(event(1).id, number, None)).await.unwrap();
    }
    let attempts = stand.store.attempts(id).await.unwrap();
    assert_eq!((attempts.len(), attempts[0].number, attempts[99].number), (MOST_ATTEMPTS, 105, 6));
    stand.store.forget_before(Millis(START.0 + 100)).await.unwrap();
    assert_eq!(stand.store.attempts(id).await.unwrap().len(), 6);
}

#[tokio::test]
async fn a_webhook_that_is_disabled_or_removed_leaves_nothing_that_waits() {
    let stand = Stand::new().await;
    let (one, other) =
        (stand.webhook(&[Kind::KeyRevoked]).await.webhook, stand.webhook(&[Kind::KeyRevoked]).await.webhook);
    stand.outbox.append(&[event(1), event(2)]).unwrap();
    assert_eq!(stand.spread().await.len(), 4);
    let edit = Edit { enabled: Some(false), ..Edit::default() };
    let changed = stand.desk.change(one.id, edit.clone(), Who::gateway()).await.unwrap().unwrap();
    assert_eq!(changed.state, State::Disabled);
    assert_eq!(
        (stand.store.waiting_for(one.id).await.unwrap(), stand.store.waiting_for(other.id).await.unwrap()),
        (0, 2)
    );
    assert!(matches!(stand.desk.test(&changed).await, Err(DeskError::Disabled)));
    stand.desk.remove(other.id, Who::gateway()).await.unwrap().unwrap();
    assert!(stand.store.waiting(None).await.unwrap().is_empty() && stand.desk.find(other.id).is_none());
    // What comes too late does not bring it back.
    stand.store.settle(other.id, attempt(event(1).id, 1, Some(START))).await.unwrap();
    assert!(stand.store.attempts(other.id).await.unwrap().is_empty());
    assert!(stand.desk.remove(other.id, Who::gateway()).await.unwrap().is_none());
    let noted =
        stand.audit.page(Filter { action: Some("webhook".into()), ..Filter::default() }, None, 10).await.unwrap();
    let actions: Vec<_> = noted.entries.iter().map(|entry| entry.note.action.as_ref()).collect();
    assert_eq!(actions, ["webhook.deleted", "webhook.changed", "webhook.created", "webhook.created"]);
    assert!(noted.entries.iter().all(|entry| entry.note.org == Some(ORG)));
    let text = format!("{:?}", noted.entries);
    assert!(!text.contains("geheim") && !text.contains("/in") && text.contains("https://hooks.example.com"), "{text}");
    // The same again is no change.
    stand.desk.change(one.id, edit, Who::gateway()).await.unwrap().unwrap();
    let again =
        stand.audit.page(Filter { action: Some("webhook".into()), ..Filter::default() }, None, 10).await.unwrap();
    assert_eq!(again.entries.len(), 4);
}

#[tokio::test]
async fn while_a_secret_is_rotated_messages_have_two_signatures() {
    let stand = Stand::new().await;
    let Issued { webhook, secret: first } = stand.webhook(&[Kind::KeyRevoked]).await;
    let signed = |webhook: &Webhook| stand.desk.signatures(webhook, "evt_a", stand.clock.now(), "{}").unwrap();
    assert_eq!(signed(&webhook), first.sign("evt_a", START, "{}"));
    let hour = Duration::from_secs(3600);
    let rotated = stand.desk.rotate(webhook.id, hour, false, Who::gateway()).await.unwrap().unwrap();
    let (second, webhook) = (rotated.secret, rotated.webhook);
    assert_eq!(signed(&webhook), [second.sign("evt_a", START, "{}"), first.sign("evt_a", START, "{}")].join(" "));
    let again = stand.desk.rotate(webhook.id, hour, false, Who::gateway()).await;
    let in_progress = |error| matches!(error, DeskError::Store(StoreError::Unchangeable(Unchangeable::RotationInProgress { until })) if until == START.plus(hour));
    assert!(in_progress(again.unwrap_err()));
    stand.clock.advance(hour);
    assert_eq!(signed(&webhook), second.sign("evt_a", stand.clock.now(), "{}"));
    let forced = stand.desk.rotate(webhook.id, Duration::ZERO, true, Who::gateway()).await.unwrap().unwrap();
    let last = forced.secret.sign("evt_a", stand.clock.now(), "{}");
    assert_eq!(stand.desk.signatures(&forced.webhook, "evt_a", stand.clock.now(), "{}").unwrap(), last);
    // Nothing that is kept or shown has a secret in it.
    let kept = serde_json::to_string(&*forced.webhook).unwrap() + &format!("{:?}", forced.webhook);
    for secret in [first, second, forced.secret] {
        assert!(!kept.contains(&secret.reveal()["whsec_".len()..]));
    }
}
