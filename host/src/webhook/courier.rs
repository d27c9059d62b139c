//! Sends what waits: takes events out of the outbox, writes letters to whoever wants them, and tries each until it is taken.
//!
//! On the control runtime, beside everything else. What it does not come to is in the store, and done after the next start.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Mutex, watch};
use tokio::task::{Id, JoinSet};

use super::lines::{LONGEST, Lines};
use super::store::Letter;
use super::{Attempt, Failed, Outcome, Webhook, Webhooks, address, schedule};
use crate::clock::Millis;
use crate::id::{EventId, WebhookId, random};
use crate::outbound::{Answer, Call, Outbound, Roots, Spent};

/// Events that are taken out of the outbox at once.
const BATCH: usize = 64;
/// How long a store that fails is left alone.
const AGAIN: Duration = Duration::from_secs(5);
/// How long attempts are remembered.
const KEPT: Duration = Duration::from_secs(30 * 86_400);
/// Between two looks at what is to be forgotten.
const FORGET: Duration = Duration::from_secs(3600);
/// How long attempts under way are waited for at the end. What was sent and not noted by then is sent again.
const END: Duration = Duration::from_millis(700);

struct Courier {
    desk: Arc<Webhooks>,
    control: Handle,
    /// Begun with the first message: it reads the system's root certificates.
    outbound: Mutex<Option<(Roots, Outbound)>>,
}

/// Delivers, until the stop signal comes.
pub async fn deliver(desk: Arc<Webhooks>, control: Handle, mut stopped: watch::Receiver<bool>) {
    let Some(mut lines) = waiting(&desk, &mut stopped).await else { return };
    let courier = Arc::new(Courier { desk: desk.clone(), control, outbound: Mutex::default() });
    let news = desk.store.news();
    let mut forget = tokio::time::interval(FORGET);
    let mut under_way = JoinSet::new();
    let mut places: HashMap<Id, (WebhookId, EventId)> = HashMap::new();
    loop {
        let spread = courier.spread(&mut lines).await;
        let at = desk.clock.now();
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
        match desk.store.waiting().await {
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
    /// Takes all events out of the outbox. Whether the store could do that.
    async fn spread(&self, lines: &mut Lines) -> bool {
        loop {
            let events = match self.desk.store.events(BATCH).await {
                Ok(events) if events.is_empty() => return true,
                Ok(events) => events,
                Err(error) => return failed(&error),
            };
            let mut letters = Vec::new();
            for event in events {
                let wanted = self.desk.after(None, |webhook| webhook.wants(&event));
                let (room, full): (Vec<_>, Vec<_>) = wanted.iter().partition(|webhook| lines.has_room(webhook.id));
                for webhook in full {
                    let event = event.id;
                    tracing::warn!(webhook = %webhook.id, %event, "more than {LONGEST} messages wait, so it is not told of this");
                }
                letters.push((event, room.iter().map(|webhook| webhook.id).collect()));
            }
            match self.desk.store.spread(letters, self.desk.clock.now()).await {
                Ok(waiting) => waiting.into_iter().for_each(|waiting| lines.add(waiting)),
                Err(error) => return failed(&error),
            }
        }
    }

    /// Tries a letter once. When it is due again, where it is.
    async fn attempt(&self, webhook: WebhookId, event: EventId) -> Option<Millis> {
        let store = &self.desk.store;
        let again = || Some(self.desk.clock.now().plus(AGAIN));
        let letter = match store.letter(webhook, event).await {
            Ok(letter) => letter,
            Err(error) => {
                failed(&error);
                return again();
            }
        };
        // Both go when the webhook is disabled or removed.
        let (letter, to) = (letter?, self.desk.find(webhook)?);
        let (at, begun) = (self.desk.clock.now(), Instant::now());
        let (outcome, asked) = self.send(&to, &letter, at).await;
        let number = letter.attempts + 1;
        let gone = outcome == Outcome::Status(410);
        let next = match outcome.is_success() || gone {
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
        if let Err(error) = store.settle(webhook, attempt).await {
            failed(&error);
            return again();
        }
        if gone && let Err(error) = self.desk.gone(webhook).await {
            tracing::error!(%webhook, "it answered 410, and cannot be disabled: {error}");
        }
        next
    }

    /// The client, with the root certificates of now.
    async fn client(&self) -> Option<Outbound> {
        let mut begun = self.outbound.lock().await;
        let roots = self.desk.now().roots.clone();
        if let Some((_, outbound)) = begun.as_ref().filter(|(had, _)| *had == roots) {
            return Some(outbound.clone());
        }
        let (earlier, control) = (begun.as_ref().map(|(_, outbound)| outbound.clone()), self.control.clone());
        let with = roots.clone();
        let start = move || match earlier {
            Some(earlier) => earlier.trusting(with.pem()),
            None => Outbound::start(control, with.pem()),
        };
        match tokio::task::spawn_blocking(start).await.ok()? {
            Ok(outbound) => {
                *begun = Some((roots, outbound.clone()));
                Some(outbound)
            }
            Err(error) => {
                tracing::error!("webhooks are told nothing: {error}");
                None
            }
        }
    }

    /// Sends a letter; what came of it, and for how long the receiver wants to be left alone.
    async fn send(&self, to: &Webhook, letter: &Letter, at: Millis) -> (Outcome, Option<Duration>) {
        let unsent = |why| (Outcome::Failed(why), None);
        let Ok(grant) = address::grant(&to.url, &self.desk.now().settings) else {
            return unsent(Failed::AddressNotAllowed);
        };
        let (id, body) = (letter.event.id.to_string(), &letter.event.body);
        let signatures = match self.desk.signatures(to, &id, at, body) {
            Ok(signatures) => signatures,
            Err(error) => {
                tracing::error!(webhook = %to.id, "a message cannot be signed: {error}");
                return unsent(Failed::NotSent);
            }
        };
        let field = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        let fields = vec![
            field("content-type", "application/json"),
            field("user-agent", concat!("Portico/", env!("CARGO_PKG_VERSION"))),
            field("webhook-id", &id),
            field("webhook-timestamp", &at.seconds().to_string()),
            field("webhook-signature", &signatures),
        ];
        let call = Call {
            method: "POST".to_owned(),
            url: to.url.clone(),
            fields,
            body: body.clone().into_bytes(),
            timeout: Duration::ZERO,
        };
        let Some(outbound) = self.client().await else { return unsent(Failed::NotSent) };
        match outbound.send(&[grant], &mut Spent::default(), call).await {
            Ok(answer) => (Outcome::Status(answer.status), asked(&answer)),
            Err(error) => unsent(error.into()),
        }
    }
}

/// `Retry-After` in seconds, where the receiver is busy (RFC 9110, section 10.2.3).
fn asked(answer: &Answer) -> Option<Duration> {
    let field = answer.fields.iter().find(|(name, _)| name == "retry-after" && matches!(answer.status, 429 | 503));
    let seconds = std::str::from_utf8(&field?.1).ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
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
