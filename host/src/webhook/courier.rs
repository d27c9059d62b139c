//! Sends what waits: takes events out of the outbox, writes letters to whoever wants them, and tries each until it is taken.
//!
//! On the control runtime, beside everything else. What it does not come to is in the store, and done after the next start.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};

use super::lines::Lines;
use super::loss::Losses;
use super::room::Room;
use super::sender::Sender;
use super::store::{StoreError, Waiting};
use super::{Attempt, Failed, Outcome, State, Webhook, Webhooks, schedule};
use crate::clock::Millis;
use crate::id::{EventId, WebhookId, random};
use crate::outbox::Kind;

/// Events that are taken out of the outbox at once.
const BATCH: usize = 64;
/// How long a store that fails is left alone.
const AGAIN: Duration = Duration::from_secs(5);
/// How long a letter waits for which there was no turn.
const NO_TURN: Duration = Duration::from_secs(10);
/// How long attempts are remembered.
const KEPT: Duration = Duration::from_secs(30 * 86_400);
/// Between two looks at what is to be forgotten.
const FORGET: Duration = Duration::from_secs(3600);
/// What a receiver answers that wants no more.
const GONE: Outcome = Outcome::Status(410);
/// How long attempts under way are waited for at the end. What was sent and not noted by then is sent again.
const END: Duration = Duration::from_millis(700);

type Unsettled = HashMap<(WebhookId, EventId), Tried>;

/// An attempt that was made, and where.
struct Tried {
    attempt: Attempt,
    url: String,
}

/// What came of sending a letter.
enum Sent {
    Tried(Tried),
    /// There is nothing to send any more.
    Nothing,
    /// Too much is under way, for its org or for all.
    NoTurn,
}

/// Which letter each task has under way.
pub(super) type Places = HashMap<Id, (WebhookId, EventId)>;

pub(super) struct Courier {
    desk: Arc<Webhooks>,
    sender: Sender,
    /// What the store would not note. It is noted before anything of it is sent again: a store that cannot write must not become
    /// messages without end.
    unsettled: Mutex<Unsettled>,
    losses: Mutex<Losses>,
}

/// Delivers, until the stop signal comes.
pub async fn deliver(desk: Arc<Webhooks>, control: Handle, mut stopped: watch::Receiver<bool>) {
    let Some(mut lines) = waiting(&desk, &mut stopped).await else { return };
    let courier = Arc::new(Courier::new(desk.clone(), control));
    let news = desk.store.news();
    let mut forget = tokio::time::interval(FORGET);
    let mut under_way = JoinSet::new();
    let mut places = Places::new();
    loop {
        let caught_up = courier.catch_up(&mut lines, &places).await;
        let spread = courier.spread(&mut lines).await && caught_up;
        let at = desk.clock.now();
        lines.cap(at.plus(desk.now().settings.longest_retry));
        while let Some((webhook, event)) = lines.take(at) {
            let courier = courier.clone();
            let task = under_way.spawn(async move { courier.attempt(webhook, event).await });
            places.insert(task.id(), (webhook, event));
        }
        desk.tally.wait(lines.len());
        let due = lines.next().map_or(FORGET, |due| due.since(desk.clock.now()));
        let wait = if spread { due } else { due.min(AGAIN) };
        tokio::select! {
            _ = stopped.changed() => break,
            () = news.notified() => {}
            Some(done) = under_way.join_next_with_id() => {
                let (id, next) = match done {
                    Ok((id, next)) => (id, next),
                    // It has said so on its own, and the letter is still there.
                    Err(error) => (error.id(), Some(desk.clock.now().plus(AGAIN))),
                };
                if let Some((webhook, event)) = places.remove(&id) {
                    lines.done(webhook, event, next);
                }
            }
            _ = forget.tick() => {
                let then = Millis(desk.clock.now().0.saturating_sub(KEPT.as_millis() as u64));
                if let Err(error) = desk.store.forget_before(then).await {
                    tracing::warn!("old attempts of webhooks could not be removed: {error}");
                }
            }
            () = tokio::time::sleep(wait) => {}
        }
    }
    let _ = tokio::time::timeout(END, async { while under_way.join_next().await.is_some() {} }).await;
}

/// What waits since before the start. None when the stop signal comes first.
async fn waiting(desk: &Arc<Webhooks>, stopped: &mut watch::Receiver<bool>) -> Option<Lines> {
    loop {
        match desk.store.waiting(None).await {
            Ok(waiting) => {
                let mut lines = Lines::default();
                waiting.into_iter().for_each(|waiting| lines.add(waiting));
                return Some(lines);
            }
            Err(error) => failed(&error),
        };
        tokio::select! {
            _ = stopped.changed() => return None,
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

impl Courier {
    pub(super) fn new(desk: Arc<Webhooks>, control: Handle) -> Self {
        Self { desk, sender: Sender::on(control), unsettled: Mutex::default(), losses: Mutex::default() }
    }

    /// Lets go of what went with a webhook that was disabled or removed. Such a webhook may be enabled again by now, and have new
    /// letters: what the store says counts. Whether the store said so.
    pub(super) async fn catch_up(&self, lines: &mut Lines, places: &Places) -> bool {
        let mut all = true;
        for webhook in self.desk.emptied() {
            match self.desk.store.waiting(Some(webhook)).await {
                Ok(waiting) => {
                    lines.forget(webhook);
                    let waits = |event| waiting.iter().any(|letter| letter.event == event);
                    self.unsettled().retain(|(known, event), _| *known != webhook || waits(*event));
                    let under_way = |letter: &Waiting| places.values().any(|at| *at == (letter.webhook, letter.event));
                    waiting.iter().filter(|letter| !under_way(letter)).for_each(|letter| lines.add(*letter));
                }
                Err(error) => {
                    self.desk.empty(webhook);
                    all = failed(&error);
                }
            }
        }
        all
    }

    /// Takes all events out of the outbox. Whether the store could do that.
    pub(super) async fn spread(&self, lines: &mut Lines) -> bool {
        loop {
            let events = match self.desk.store.events(BATCH).await {
                Ok(events) if events.is_empty() => return true,
                Ok(events) => events,
                Err(error) => return failed(&error),
            };
            let all = self.desk.after(None, |_| true);
            let (mut room, mut letters, mut dropped) = (Room::left(lines, &all), Vec::new(), Vec::new());
            for event in events {
                let wanted = all.iter().filter(|webhook| webhook.wants(&event));
                let (free, full): (Vec<_>, Vec<_>) = wanted.partition(|webhook| room.take(webhook));
                dropped.extend(full.iter().map(|webhook| (webhook.id, event.id, event.kind)));
                letters.push((event, free.iter().map(|webhook| webhook.id).collect()));
            }
            match self.desk.store.spread(letters, self.desk.clock.now()).await {
                Ok(waiting) => waiting.into_iter().for_each(|waiting| lines.add(waiting)),
                Err(error) => return failed(&error),
            }
            self.drop_all(dropped).await;
        }
    }

    /// Tries a letter once, or has noted what came of it before. When it is due again, where it is.
    pub(super) async fn attempt(&self, webhook: WebhookId, event: EventId) -> Option<Millis> {
        let known = self.unsettled().remove(&(webhook, event));
        let tried = match known {
            Some(tried) => Ok(Sent::Tried(tried)),
            None => self.sent(webhook, event).await,
        };
        match tried {
            Ok(Sent::Tried(tried)) => self.settle(webhook, tried).await,
            Ok(Sent::Nothing) => None,
            Ok(Sent::NoTurn) => Some(self.desk.clock.now().plus(NO_TURN)),
            Err(error) => {
                failed(&error);
                Some(self.desk.clock.now().plus(AGAIN))
            }
        }
    }

    /// Sends a letter; what came of it.
    async fn sent(&self, webhook: WebhookId, event: EventId) -> Result<Sent, StoreError> {
        let Some(letter) = self.desk.store.letter(webhook, event).await? else { return Ok(Sent::Nothing) };
        // Letters go with a webhook that is disabled or removed; this one was written at the same moment.
        let Some(to) = self.desk.find(webhook).filter(|webhook| webhook.state == State::Enabled) else {
            self.desk.store.discard(webhook, event).await?;
            return Ok(Sent::Nothing);
        };
        let (at, begun) = (self.desk.clock.now(), Instant::now());
        let Some((outcome, asked)) = self.sender.send(&self.desk, &to, &letter, at).await else {
            return Ok(Sent::NoTurn);
        };
        let number = letter.attempts + 1;
        // Where its owner has named another address meanwhile, that is to have the message.
        let moved = || self.desk.find(webhook).is_some_and(|now| now.url != to.url);
        let next = match outcome.is_success() || (outcome == GONE && !moved()) {
            true => None,
            false => {
                // Without chance the pause is somewhere, too.
                let chance = random().map_or(at.0, u64::from_be_bytes);
                schedule::next(&self.desk.now().settings, (number, letter.since), self.desk.clock.now(), chance, asked)
            }
        };
        let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        tell(&to, event, number, outcome, next);
        self.desk.tally.tried(outcome, next);
        let attempt = Attempt { at, event, kind: letter.event.kind, number, outcome, took, next };
        Ok(Sent::Tried(Tried { attempt, url: to.url.clone() }))
    }

    /// Has an attempt noted. When its letter is due again, where it is.
    async fn settle(&self, webhook: WebhookId, tried: Tried) -> Option<Millis> {
        let Attempt { event, outcome, .. } = tried.attempt;
        let next = match self.desk.store.settle(webhook, tried.attempt.clone()).await {
            Ok(next) => next,
            Err(error) => {
                failed(&error);
                self.unsettled().insert((webhook, event), tried);
                return Some(self.desk.clock.now().plus(AGAIN));
            }
        };
        if outcome == GONE
            && let Err(error) = self.desk.gone(webhook, tried.url).await
        {
            tracing::error!(%webhook, "it answered 410, and cannot be disabled: {error}");
        }
        next
    }

    /// Says that webhooks had no room for these.
    async fn drop_all(&self, dropped: Vec<(WebhookId, EventId, Kind)>) {
        for (webhook, event, kind) in dropped {
            let lost = self.losses.lock().unwrap_or_else(PoisonError::into_inner).lost(webhook, Instant::now());
            if let Some(messages) = lost {
                tracing::warn!(%webhook, %event, messages, "too many messages wait, so it is not told of what happens");
            }
            let outcome = Outcome::Failed(Failed::Dropped);
            let attempt = Attempt { at: self.desk.clock.now(), event, kind, number: 0, outcome, took: 0, next: None };
            if let Err(error) = self.desk.store.settle(webhook, attempt).await {
                failed(&error);
            }
        }
    }

    fn unsettled(&self) -> MutexGuard<'_, Unsettled> {
        // Whole, whatever its holder was interrupted in.
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(to: &Webhook, event: EventId, number: u32, outcome: Outcome, next: Option<Millis>) {
    let webhook = to.id;
    match (outcome.is_success(), next) {
        (true, _) => tracing::debug!(%webhook, %event, attempt = number, "a message was taken"),
        (false, Some(_)) => tracing::info!(%webhook, %event, attempt = number, ?outcome, "a message was not taken"),
        (false, None) => tracing::warn!(%webhook, %event, attempt = number, ?outcome, "a message is given up"),
    }
}

/// Says that the store failed.
fn failed(error: &dyn std::error::Error) -> bool {
    tracing::error!("webhooks are told nothing for now: {error}");
    false
}
