//! The store of webhooks in the embedded database.
//!
//! Three trees: webhooks by id; letters by webhook and event; attempts by webhook, and in the order in which they were noted. Whatever
//! belongs together changes in one transaction, with the audit log and the outbox where those are part of it.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sled::Transactional;
use sled::transaction::{ConflictableTransactionError, TransactionError, TransactionalTree};
use tokio::sync::Notify;

use super::store::{Answer, Changed, Letter, StoreError, Waiting, WebhookStore};
use super::{Attempt, Change, MOST_ATTEMPTS, State, Webhook};
use crate::audit::{Note, SledAudit};
use crate::clock::Millis;
use crate::data::{Database, Failure};
use crate::id::{EventId, OrgId, WebhookId};
use crate::outbox::{Event, SledOutbox};

/// Webhooks in the embedded database.
#[derive(Clone)]
pub struct SledWebhooks {
    records: sled::Tree,
    letters: sled::Tree,
    attempts: sled::Tree,
    audit: SledAudit,
    outbox: SledOutbox,
}

type Step<T> = Result<T, ConflictableTransactionError<StoreError>>;

impl SledWebhooks {
    /// The webhooks in this database, whose changes are noted in this log of the same one, and which hear of what is in this
    /// outbox of it.
    pub fn open(database: &Database, audit: SledAudit, outbox: SledOutbox) -> Result<Self, Failure> {
        Ok(Self {
            records: database.tree("webhooks")?,
            letters: database.tree("webhook_letters")?,
            attempts: database.tree("webhook_attempts")?,
            audit,
            outbox,
        })
    }

    fn insert_now(&self, webhook: &Webhook, note: &Note) -> Result<(), StoreError> {
        let note = note.clone().org(noted_for(&[webhook])).on(webhook.id).change(Default::default(), webhook.facts());
        let outcome = (&self.records, self.audit.tree()).transaction(|(records, audit)| {
            records.insert(&place(webhook.id), encoded(webhook))?;
            self.audit.append_in(audit, &note)?;
            Ok(())
        });
        self.settled(outcome)
    }

    fn change_now(&self, id: WebhookId, change: &Change, note: &Note) -> Result<Option<Changed>, StoreError> {
        let waiting = keys_of(&self.letters, id)?;
        let trees = (&self.records, &self.letters, self.audit.tree());
        let outcome = trees.transaction(|(records, letters, audit)| {
            let Some(before) = read::<Webhook>(records, &place(id))? else { return Ok(None) };
            let mut after = before.clone();
            if after.apply(change).map_err(|error| aborted(error.into()))? {
                records.insert(&place(id), encoded(&after))?;
                if after.state != State::Enabled {
                    remove_all(letters, &waiting)?;
                }
                let note = note.clone().org(noted_for(&[&before, &after])).on(id).change(before.facts(), after.facts());
                self.audit.append_in(audit, &note)?;
            }
            Ok(Some(Changed { before, after }))
        });
        if let Ok(Some(Changed { after, .. })) = &outcome
            && after.state != State::Enabled
        {
            sweep(&self.letters, id);
        }
        self.settled(outcome)
    }

    fn remove_now(&self, id: WebhookId, note: &Note) -> Result<Option<Webhook>, StoreError> {
        let (waiting, tried) = (keys_of(&self.letters, id)?, keys_of(&self.attempts, id)?);
        let trees = (&self.records, &self.letters, &self.attempts, self.audit.tree());
        let outcome = trees.transaction(|(records, letters, attempts, audit)| {
            let Some(before) = read::<Webhook>(records, &place(id))? else { return Ok(None) };
            records.remove(&place(id)[..])?;
            remove_all(letters, &waiting)?;
            remove_all(attempts, &tried)?;
            let note = note.clone().org(noted_for(&[&before])).on(id).change(before.facts(), Default::default());
            self.audit.append_in(audit, &note)?;
            Ok(Some(before))
        });
        if outcome.is_ok() {
            sweep(&self.letters, id);
            sweep(&self.attempts, id);
        }
        self.settled(outcome)
    }

    fn spread_now(&self, events: &[(Event, Vec<WebhookId>)], now: Millis) -> Result<Vec<Waiting>, StoreError> {
        let trees = (self.outbox.tree(), &self.records, &self.letters);
        let outcome = trees.transaction(|(outbox, records, letters)| {
            let mut waiting = Vec::new();
            for (event, webhooks) in events {
                outbox.remove(&SledOutbox::place(event.id)[..])?;
                for webhook in webhooks.iter().copied() {
                    let record = read::<Webhook>(records, &place(webhook))?;
                    if record.is_some_and(|webhook| webhook.state == State::Enabled) {
                        let letter = Letter { event: event.clone(), since: now, due: now, attempts: 0 };
                        letters.insert(&letter_place(webhook, event.id), encoded(&letter))?;
                        waiting.push(Waiting { due: now, webhook, event: event.id });
                    }
                }
            }
            Ok(waiting)
        });
        // Both sides are in one transaction: what is lost with the power is the whole step, and it is done again.
        done_in(outcome)
    }

    fn waiting_now(&self, webhook: Option<WebhookId>) -> Result<Vec<Waiting>, StoreError> {
        let mut waiting = Vec::new();
        for found in self.letters.scan_prefix(webhook.map(place).as_ref().map_or(&[][..], |place| place)) {
            let (place, row) = found.map_err(Failure::from)?;
            let letter = serde_json::from_slice::<Letter>(&row);
            match (letter, place.first_chunk().copied()) {
                (Ok(letter), Some(webhook)) => {
                    let webhook = WebhookId::from_number(u128::from_be_bytes(webhook));
                    waiting.push(Waiting { due: letter.due, webhook, event: letter.event.id });
                }
                _ => {
                    tracing::error!("a message to a webhook cannot be read, and is removed");
                    self.letters.remove(place).map_err(Failure::from)?;
                }
            }
        }
        Ok(waiting)
    }

    fn settle_now(&self, webhook: WebhookId, attempt: &Attempt) -> Result<Option<Millis>, StoreError> {
        let place_of_letter = letter_place(webhook, attempt.event);
        let place_of_attempt = self.next_place(webhook, attempt)?;
        let trees = (&self.records, &self.letters, &self.attempts);
        let outcome = trees.transaction(|(records, letters, attempts)| {
            if records.get(place(webhook))?.is_none() {
                return Ok(None);
            }
            let letter = read::<Letter>(letters, &place_of_letter)?;
            // It went with a disable: whatever was planned, it is not due again.
            let attempt = Attempt { next: attempt.next.filter(|_| letter.is_some()), ..attempt.clone() };
            attempts.insert(&place_of_attempt[..], encoded(&attempt))?;
            match (attempt.next, letter) {
                (Some(due), Some(letter)) => {
                    let letter = Letter { due, attempts: attempt.number, ..letter };
                    letters.insert(&place_of_letter, encoded(&letter))?;
                }
                (_, Some(_)) => drop(letters.remove(&place_of_letter[..])?),
                (_, None) => {}
            }
            Ok(attempt.next)
        });
        let next = done_in(outcome)?;
        let tried = keys_of(&self.attempts, webhook)?;
        for surplus in tried.iter().take(tried.len().saturating_sub(MOST_ATTEMPTS)) {
            self.attempts.remove(surplus).map_err(Failure::from)?;
        }
        Ok(next)
    }

    /// Behind all attempts of this webhook, also where the clock was set back: a time, or one more than the last has.
    fn next_place(&self, webhook: WebhookId, attempt: &Attempt) -> Result<Vec<u8>, StoreError> {
        let last = self.attempts.scan_prefix(place(webhook)).keys().next_back().transpose().map_err(Failure::from)?;
        let last = last.and_then(|place| Some(u64::from_be_bytes(place.get(16..24)?.try_into().ok()?)));
        let order = attempt.at.0.max(last.map_or(0, |last| last.saturating_add(1))).to_be_bytes();
        let what = [&attempt.event.number().to_be_bytes()[..], &attempt.number.to_be_bytes()].concat();
        Ok([&place(webhook)[..], &order, &what].concat())
    }

    fn attempts_now(&self, webhook: WebhookId) -> Result<Vec<Attempt>, StoreError> {
        let found = self.attempts.scan_prefix(place(webhook)).values().rev();
        found.map(|row| decoded(&row.map_err(Failure::from)?)).collect()
    }

    fn forget_before_now(&self, then: Millis) -> Result<(), StoreError> {
        for found in &self.attempts {
            let (place, row) = found.map_err(Failure::from)?;
            if decoded::<Attempt>(&row).map_or(true, |attempt| attempt.at < then) {
                self.attempts.remove(place).map_err(Failure::from)?;
            }
        }
        Ok(())
    }

    fn settled<T>(&self, outcome: Result<T, TransactionError<StoreError>>) -> Result<T, StoreError> {
        let done = done_in(outcome)?;
        self.audit.flush()?;
        self.outbox.nudge();
        Ok(done)
    }

    /// Runs blocking work on a copy of the trees, off the runtime's own thread.
    fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Answer<'static, T> {
        let store = self.clone();
        Box::pin(
            async move { tokio::task::spawn_blocking(move || work(&store)).await.map_err(|_| StoreError::Closing)? },
        )
    }
}

impl WebhookStore for SledWebhooks {
    fn insert(&self, webhook: Webhook, note: Note) -> Answer<'_, ()> {
        self.work(move |store| store.insert_now(&webhook, &note))
    }

    fn change(&self, id: WebhookId, change: Change, note: Note) -> Answer<'_, Option<Changed>> {
        self.work(move |store| store.change_now(id, &change, &note))
    }

    fn remove(&self, id: WebhookId, note: Note) -> Answer<'_, Option<Webhook>> {
        self.work(move |store| store.remove_now(id, &note))
    }

    fn all(&self) -> Answer<'_, Vec<Webhook>> {
        self.work(|store| store.records.iter().values().map(|row| decoded(&row.map_err(Failure::from)?)).collect())
    }

    fn post(&self, event: Event) -> Answer<'_, ()> {
        self.work(move |store| Ok(store.outbox.append(&[event])?))
    }

    fn events(&self, most: usize) -> Answer<'_, Vec<Event>> {
        self.work(move |store| Ok(store.outbox.oldest(most)?))
    }

    fn spread(&self, events: Vec<(Event, Vec<WebhookId>)>, now: Millis) -> Answer<'_, Vec<Waiting>> {
        self.work(move |store| store.spread_now(&events, now))
    }

    fn waiting(&self, webhook: Option<WebhookId>) -> Answer<'_, Vec<Waiting>> {
        self.work(move |store| store.waiting_now(webhook))
    }

    fn waiting_for(&self, webhook: WebhookId) -> Answer<'_, usize> {
        self.work(move |store| Ok(keys_of(&store.letters, webhook)?.len()))
    }

    fn letter(&self, webhook: WebhookId, event: EventId) -> Answer<'_, Option<Letter>> {
        self.work(move |store| {
            let row = store.letters.get(letter_place(webhook, event)).map_err(Failure::from)?;
            row.map(|row| decoded(&row)).transpose()
        })
    }

    fn discard(&self, webhook: WebhookId, event: EventId) -> Answer<'_, ()> {
        self.work(move |store| {
            store.letters.remove(letter_place(webhook, event)).map_err(Failure::from)?;
            Ok(())
        })
    }

    fn settle(&self, webhook: WebhookId, attempt: Attempt) -> Answer<'_, Option<Millis>> {
        self.work(move |store| store.settle_now(webhook, &attempt))
    }

    fn attempts(&self, webhook: WebhookId) -> Answer<'_, Vec<Attempt>> {
        self.work(move |store| store.attempts_now(webhook))
    }

    fn forget_before(&self, then: Millis) -> Answer<'_, ()> {
        self.work(move |store| store.forget_before_now(then))
    }

    fn erase_events(&self, org: OrgId) -> Answer<'_, u64> {
        self.work(move |store| Ok(store.outbox.erase(org)?))
    }

    fn news(&self) -> Arc<Notify> {
        self.outbox.news()
    }
}

impl fmt::Debug for SledWebhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SledWebhooks")
    }
}

fn place(webhook: WebhookId) -> [u8; 16] {
    webhook.number().to_be_bytes()
}

fn letter_place(webhook: WebhookId, event: EventId) -> [u8; 32] {
    let mut whole = [0; 32];
    whole[..16].copy_from_slice(&place(webhook));
    whole[16..].copy_from_slice(&event.number().to_be_bytes());
    whole
}

fn keys_of(tree: &sled::Tree, webhook: WebhookId) -> Result<Vec<sled::IVec>, StoreError> {
    Ok(tree.scan_prefix(place(webhook)).keys().collect::<Result<_, _>>().map_err(Failure::from)?)
}

fn remove_all(tree: &TransactionalTree, places: &[sled::IVec]) -> Step<()> {
    for place in places {
        tree.remove(place)?;
    }
    Ok(())
}

/// Whose auditor reads the note: nobody's of the org where only whoever runs the gateway sees the webhook, before or after.
fn noted_for(states: &[&Webhook]) -> Option<OrgId> {
    let hidden = states.iter().any(|webhook| webhook.is_of_operators());
    states.first().filter(|_| !hidden).map(|webhook| webhook.org)
}

/// Removes what was written while a webhook was disabled or removed: rows that come between a look and the transaction. From then
/// on nobody writes any. What stays all the same is found when it is due.
fn sweep(tree: &sled::Tree, webhook: WebhookId) {
    let removed = keys_of(tree, webhook).and_then(|places| {
        places.iter().try_for_each(|place| Ok(tree.remove(place).map(drop).map_err(Failure::from)?))
    });
    if let Err(error) = removed {
        tracing::warn!(%webhook, "what waited for it could not be removed: {error}");
    }
}

fn read<T: DeserializeOwned>(tree: &TransactionalTree, place: &[u8]) -> Step<Option<T>> {
    let Some(row) = tree.get(place)? else { return Ok(None) };
    decoded(&row).map(Some).map_err(aborted)
}

fn aborted(error: StoreError) -> ConflictableTransactionError<StoreError> {
    ConflictableTransactionError::Abort(error)
}

fn done_in<T>(outcome: Result<T, TransactionError<StoreError>>) -> Result<T, StoreError> {
    outcome.map_err(|error| match error {
        TransactionError::Abort(error) => error,
        TransactionError::Storage(error) => Failure::from(error).into(),
    })
}

fn encoded(row: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(row).expect("a row is strings, numbers and lists")
}

fn decoded<T: DeserializeOwned>(row: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(row).map_err(|_| StoreError::Damaged)
}
