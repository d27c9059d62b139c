//! Attempts at a real receiver, with a store that does not do what it is asked at every moment.

use super::*;
use crate::webhook::courier::{Courier, Places};
use crate::webhook::room::Room;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// A receiver that takes one message each time it is asked to.
struct Receiver(TcpListener);

impl Receiver {
    async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn url(&self) -> String {
        format!("http://{}/hook", self.0.local_addr().unwrap())
    }

    /// Waits for a message, lets something happen, and answers so.
    async fn take(&self, happens: impl AsyncFnOnce(), answer: &str) {
        let (mut stream, _) = self.0.accept().await.unwrap();
        let (mut message, mut more) = (Vec::new(), [0; 4096]);
        while !is_whole(&message) {
            let count = stream.read(&mut more).await.unwrap();
            assert!(count > 0, "a message comes in whole");
            message.extend_from_slice(&more[..count]);
        }
        happens().await;
        let length = if answer.contains("content-length") { "" } else { "content-length: 0\r\n" };
        let answer = format!("HTTP/1.1 {answer}\r\n{length}connection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

fn is_whole(message: &[u8]) -> bool {
    let text = String::from_utf8_lossy(message);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    body.len() >= length.parse::<usize>().unwrap()
}

/// A desk with one webhook at a receiver, a courier, and a letter to that webhook.
struct Post {
    stand: Stand,
    receiver: Receiver,
    courier: Courier,
    webhook: WebhookId,
    event: EventId,
}

impl Post {
    async fn new() -> Self {
        let (stand, receiver) = (Stand::new().await, Receiver::start().await);
        let settings = settings("private = [\"127.0.0.0/8\"]");
        stand.desk.configure(Now { settings, roots: Default::default() });
        let webhook = stand.webhook_at(&receiver.url(), &[Kind::KeyRevoked]).await.webhook.id;
        stand.outbox.append(&[event(1)]).unwrap();
        assert_eq!(stand.spread().await.len(), 1);
        let courier = Courier::new(stand.desk.clone(), tokio::runtime::Handle::current());
        Self { stand, receiver, courier, webhook, event: event(1).id }
    }

    async fn attempt(&self) -> Option<Millis> {
        self.courier.attempt(self.webhook, self.event).await
    }

    /// Puts something in the place of the letter's row; what was there.
    fn replace(&self, row: &[u8]) -> Vec<u8> {
        let letters = self.stand.data.database().tree("webhook_letters").unwrap();
        let (place, before) = letters.first().unwrap().unwrap();
        letters.insert(place, row).unwrap();
        before.to_vec()
    }
}

#[tokio::test]
async fn what_a_store_would_not_note_is_noted_later_and_not_sent_again() {
    let post = Post::new().await;
    let mut whole = Vec::new();
    let damage = async || whole = post.replace(b"unreadable");
    let (next, ()) = tokio::join!(post.attempt(), post.receiver.take(damage, "200 OK"));
    let now = post.stand.clock.now();
    assert!(next.is_some_and(|next| next > now), "{next:?}");
    // Nobody takes anything at the receiver: an attempt would last.
    assert!(post.attempt().await.is_some());
    post.replace(&whole);
    assert_eq!(post.attempt().await, None);
    let (attempts, waiting) = post.stand.desk.deliveries(post.webhook).await.unwrap();
    assert_eq!((attempts.len(), attempts[0].number, attempts[0].outcome), (1, 1, Outcome::Status(200)));
    assert_eq!(waiting, 0);
}

#[tokio::test]
async fn a_long_line_is_forgotten_with_a_disable_and_what_came_since_is_not() {
    let post = Post::new().await;
    let (stand, webhook) = (&post.stand, post.webhook);
    let mut lines = Lines::default();
    for number in 0..LONGEST as u64 {
        lines.add(Waiting { due: Millis(START.0 + number), webhook, event: event(number).id });
    }
    for enabled in [false, true] {
        let edit = Edit { enabled: Some(enabled), ..Edit::default() };
        stand.desk.change(webhook, edit, Who::gateway()).await.unwrap().unwrap();
    }
    // It comes before the courier has heard of the change.
    stand.outbox.append(&[event(99_999)]).unwrap();
    let letter = stand.spread().await[0];
    lines.add(letter);
    assert!(!Room::left(&lines, &[]).take(&stand.desk.find(webhook).unwrap()), "it is full");
    assert!(post.courier.catch_up(&mut lines, &Places::new()).await);
    assert_eq!((lines.next(), lines.take(letter.due)), (Some(letter.due), Some((webhook, letter.event))));
    assert_eq!((lines.take(Millis(u64::MAX)), lines.count(webhook)), (None, 1));
    stand.outbox.append(&[event(100_000)]).unwrap();
    assert!(post.courier.spread(&mut lines).await);
    assert_eq!(lines.take(Millis(u64::MAX)), Some((webhook, event(100_000).id)));
}

#[tokio::test]
async fn a_letter_that_comes_while_its_webhook_is_disabled_or_removed_is_not_sent() {
    for remove in [false, true] {
        let post = Post::new().await;
        let letters = post.stand.data.database().tree("webhook_letters").unwrap();
        let (place, row) = letters.first().unwrap().unwrap();
        if remove {
            post.stand.desk.remove(post.webhook, Who::gateway()).await.unwrap().unwrap();
        } else {
            let edit = Edit { enabled: Some(false), ..Edit::default() };
            post.stand.desk.change(post.webhook, edit, Who::gateway()).await.unwrap().unwrap();
        }
        letters.insert(place, row).unwrap();
        // Nobody takes anything at the receiver: an attempt would fail, and be due again.
        assert_eq!(post.attempt().await, None);
        assert!(post.stand.store.waiting(None).await.unwrap().is_empty());
        assert!(post.stand.store.attempts(post.webhook).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn who_spreads_and_who_disables_at_once_leave_nothing() {
    let post = Post::new().await;
    let (stand, webhook) = (&post.stand, post.webhook);
    for round in 2..20 {
        let enable = |enabled| Edit { enabled: Some(enabled), ..Edit::default() };
        stand.desk.change(webhook, enable(true), Who::gateway()).await.unwrap().unwrap();
        let letters = (0..50).map(|number| (event(round * 100 + number), vec![webhook])).collect();
        let disable = stand.desk.change(webhook, enable(false), Who::gateway());
        let (spread, disabled) = tokio::join!(stand.store.spread(letters, START), disable);
        assert!(spread.is_ok() && disabled.is_ok());
        assert_eq!(stand.store.waiting_for(webhook).await.unwrap(), 0, "round {round}");
    }
}

#[tokio::test]
async fn what_an_address_of_before_says_is_no_reason_to_disable() {
    let post = Post::new().await;
    let (desk, other) = (&post.stand.desk, Receiver::start().await);
    let moves = async || {
        let edit = Edit { url: Some(other.url()), ..Edit::default() };
        desk.change(post.webhook, edit, Who::gateway()).await.unwrap().unwrap();
    };
    let (next, ()) = tokio::join!(post.attempt(), post.receiver.take(moves, "410 Gone"));
    assert!(next.is_some(), "the message is for the other one");
    assert_eq!(desk.find(post.webhook).unwrap().state, State::Enabled);
    let (next, ()) = tokio::join!(post.attempt(), other.take(async || {}, "410 Gone"));
    assert_eq!(next, None);
    assert_eq!(desk.find(post.webhook).unwrap().state, State::Gone);
}

#[tokio::test]
async fn the_status_counts_whatever_the_body_is() {
    for (status, expected) in [("200 OK", State::Enabled), ("410 Gone", State::Gone)] {
        let post = Post::new().await;
        let answer = format!("{status}\r\ncontent-length: 10000000");
        let (next, ()) = tokio::join!(post.attempt(), post.receiver.take(async || {}, &answer));
        assert_eq!(next, None, "{status}");
        assert_eq!(post.stand.desk.find(post.webhook).unwrap().state, expected);
    }
}

#[tokio::test]
async fn what_a_full_line_does_not_take_is_among_the_deliveries() {
    let post = Post::new().await;
    let (stand, webhook) = (&post.stand, post.webhook);
    let mut lines = Lines::default();
    for number in 0..LONGEST as u64 - 1 {
        lines.add(Waiting { due: START, webhook, event: event(number).id });
    }
    stand.outbox.append(&[event(20_001), event(20_002), event(20_003)]).unwrap();
    assert!(post.courier.spread(&mut lines).await);
    assert_eq!(lines.count(webhook), LONGEST);
    let (attempts, _) = stand.desk.deliveries(webhook).await.unwrap();
    let dropped: Vec<_> = attempts.iter().map(|it| (it.event, it.number, it.outcome, it.next)).collect();
    let lost = |number| (event(number).id, 0, Outcome::Failed(Failed::Dropped), None);
    assert_eq!(dropped, [lost(20_003), lost(20_002)]);
    assert!(stand.store.letter(webhook, event(20_001).id).await.unwrap().is_some());
    assert!(stand.store.letter(webhook, event(20_002).id).await.unwrap().is_none());
}

#[tokio::test]
async fn what_ends_after_a_disable_is_not_due_again() {
    let post = Post::new().await;
    let disables = async || {
        let edit = Edit { enabled: Some(false), ..Edit::default() };
        post.stand.desk.change(post.webhook, edit, Who::gateway()).await.unwrap().unwrap();
    };
    let (next, ()) = tokio::join!(post.attempt(), post.receiver.take(disables, "500 Nope"));
    let (attempts, _) = post.stand.desk.deliveries(post.webhook).await.unwrap();
    assert_eq!((next, attempts.len(), attempts[0].next), (None, 1, None));
}
