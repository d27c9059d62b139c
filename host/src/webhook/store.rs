//! The store that keeps webhooks, what waits for them and what came of it, as whoever needs it sees it. Knows no database.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::{Attempt, Change, Unchangeable, Webhook};
use crate::audit::{self, Note};
use crate::clock::Millis;
use crate::data;
use crate::id::{EventId, OrgId, WebhookId};
use crate::outbox::Event;

/// What a store answers with, in its own time.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Why a store of webhooks did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database failed.
    #[error("the store of webhooks cannot be read or written")]
    Database(#[from] data::Failure),
    /// The change cannot be noted, so it was not made.
    #[error("the change of a webhook cannot be noted in the audit log")]
    Audit(#[from] audit::StoreError),
    /// A record is not one of ours.
    #[error("a record in the store of webhooks is damaged; restore it from a backup")]
    Damaged,
    /// The webhook does not allow the change.
    #[error(transparent)]
    Unchangeable(#[from] Unchangeable),
    /// The work was cut off: the gateway is stopping.
    #[error("the store of webhooks is closing")]
    Closing,
}

/// A webhook that was changed, or need not be.
#[derive(Debug)]
pub struct Changed {
    /// As it was.
    pub before: Webhook,
    /// As it is.
    pub after: Webhook,
}

/// A message to one webhook that was not taken yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// What it is about.
    pub event: Event,
    /// When it was written.
    pub since: Millis,
    /// When it is due.
    pub due: Millis,
    /// How often it was tried.
    pub attempts: u32,
}

/// Where a letter is, and when it is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiting {
    /// When it is due.
    pub due: Millis,
    /// To whom.
    pub webhook: WebhookId,
    /// About what.
    pub event: EventId,
}

/// The store that keeps webhooks. Called on the control runtime only. Changes of webhooks are durable before it answers, and in
/// the audit log together with the change; the store adds to the note on what it was, whose that is, and how it was.
pub trait WebhookStore: fmt::Debug + Send + Sync {
    /// Keeps a new webhook.
    fn insert(&self, webhook: Webhook, note: Note) -> Answer<'_, ()>;

    /// Changes a webhook. What changes nothing is not noted. One that is not enabled since has nothing that waits.
    fn change(&self, id: WebhookId, change: Change, note: Note) -> Answer<'_, Option<Changed>>;

    /// Removes a webhook with all that waits for it and was tried; how it was.
    fn remove(&self, id: WebhookId, note: Note) -> Answer<'_, Option<Webhook>>;

    /// All webhooks, oldest first.
    fn all(&self) -> Answer<'_, Vec<Webhook>>;

    /// Puts an event into the outbox; durable.
    fn post(&self, event: Event) -> Answer<'_, ()>;

    /// The oldest events of the outbox.
    fn events(&self, most: usize) -> Answer<'_, Vec<Event>>;

    /// Takes events from the outbox and writes letters to these webhooks instead, as far as they are still there.
    fn spread(&self, events: Vec<(Event, Vec<WebhookId>)>, now: Millis) -> Answer<'_, Vec<Waiting>>;

    /// All letters that wait, or those for one webhook.
    fn waiting(&self, webhook: Option<WebhookId>) -> Answer<'_, Vec<Waiting>>;

    /// How many letters wait for a webhook.
    fn waiting_for(&self, webhook: WebhookId) -> Answer<'_, usize>;

    /// One letter, where it still waits.
    fn letter(&self, webhook: WebhookId, event: EventId) -> Answer<'_, Option<Letter>>;

    /// Removes a letter that nobody is to get.
    fn discard(&self, webhook: WebhookId, event: EventId) -> Answer<'_, ()>;

    /// Remembers an attempt: the letter is due again then, or goes. When it is due again; never where it has gone meanwhile.
    fn settle(&self, webhook: WebhookId, attempt: Attempt) -> Answer<'_, Option<Millis>>;

    /// The last attempts for a webhook, latest first.
    fn attempts(&self, webhook: WebhookId) -> Answer<'_, Vec<Attempt>>;

    /// Forgets attempts from before then.
    fn forget_before(&self, then: Millis) -> Answer<'_, ()>;

    /// Removes the events of an org from the outbox; how many.
    fn erase_events(&self, org: OrgId) -> Answer<'_, u64>;

    /// What is told when there is something new to do; one waits for it.
    fn news(&self) -> Arc<Notify>;
}
