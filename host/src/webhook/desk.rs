//! The desk where webhooks are made, changed and ended: the store and the memory of who is told what, kept as one.
//!
//! What was begun is done to its end, also when nobody waits for the answer any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::json;

use super::secret::Sealed;
use super::store::{Changed, StoreError, WebhookStore};
use super::tally::{Figures, Tally};
use super::{Change, Edit, MOST_OF_ORG, Secret, State, Webhook};
use crate::audit::{Note, Who};
use crate::clock::{Clock, Millis};
use crate::config;
use crate::id::{EventId, NoRandomness, OrgId, WebhookId};
use crate::org::Closed;
use crate::outbound::Roots;
use crate::outbox::{Event, Kind};
use crate::seal::{self, Vault};

/// What the configuration says now.
#[derive(Debug, Clone)]
pub struct Now {
    /// How messages are sent.
    pub settings: config::Webhooks,
    /// The root certificates that are believed beside the system's.
    pub roots: Roots,
}

/// The desk. Called on the control runtime only.
pub struct Webhooks {
    pub(super) store: Arc<dyn WebhookStore>,
    pub(super) clock: Clock,
    pub(super) tally: Tally,
    vault: Arc<Vault>,
    now: ArcSwap<Now>,
    known: RwLock<BTreeMap<WebhookId, Arc<Webhook>>>,
    /// Held from the store's change to that of the memory, so that both see changes in one order.
    pub(super) changing: tokio::sync::Mutex<()>,
    /// Orgs that get none; asked while that is held.
    pub(super) closed: Closed,
    /// Webhooks whose letters went with a change, and of which the courier has not heard yet.
    emptied: Mutex<BTreeSet<WebhookId>>,
}

/// A webhook that is to be made.
#[derive(Debug)]
pub struct NewWebhook {
    /// Whose it will be.
    pub org: OrgId,
    /// Where messages go.
    pub url: String,
    /// Which events it is told of.
    pub events: Vec<Kind>,
    /// Whether it is told of any yet.
    pub enabled: bool,
    /// Whether it hears of sandbox keys only.
    pub sandbox: bool,
    /// The id of the token or the key that makes it.
    pub maker: Option<String>,
}

/// A webhook with the secret that it has just been given: shown this once.
#[derive(Debug)]
pub struct Issued {
    /// The webhook.
    pub webhook: Arc<Webhook>,
    /// Its secret.
    pub secret: Secret,
}

/// Why the desk did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The store failed, or the webhook does not allow it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A secret cannot be sealed or opened.
    #[error("the secret of a webhook cannot be sealed or opened")]
    Seal(#[from] seal::Error),
    /// No chance to be had.
    #[error("no secret can be made")]
    Randomness(#[from] NoRandomness),
    /// Another webhook of the org sends there.
    #[error("another webhook of the org has this address")]
    SameUrl,
    /// The org has as many as it may.
    #[error("an org has {MOST_OF_ORG} webhooks at most")]
    TooMany,
    /// It is made for an org that is being erased, or was.
    #[error("the org is being erased, or was")]
    OrgErased,
    /// It is told of nothing.
    #[error("the webhook is disabled")]
    Disabled,
}

impl Webhooks {
    /// A desk over a store, with what the configuration says.
    pub async fn open(
        store: Arc<dyn WebhookStore>,
        vault: Arc<Vault>,
        clock: Clock,
        now: Now,
    ) -> Result<Self, StoreError> {
        let known = store.all().await?.into_iter().map(|webhook| (webhook.id, Arc::new(webhook))).collect();
        let (known, changing, emptied) = (RwLock::new(known), tokio::sync::Mutex::default(), Mutex::default());
        let (tally, now) = (Tally::default(), ArcSwap::from_pointee(now));
        Ok(Self { store, clock, tally, vault, now, known, changing, closed: Closed::default(), emptied })
    }

    /// What was done for webhooks since the start.
    pub fn figures(&self) -> Figures {
        self.tally.read()
    }

    /// What the configuration says now.
    pub fn now(&self) -> Arc<Now> {
        self.now.load_full()
    }

    /// From now on it says this.
    pub fn configure(&self, now: Now) {
        self.now.store(Arc::new(now));
        // What is due may be allowed only since.
        self.store.news().notify_one();
    }

    /// The webhook with this id.
    pub fn find(&self, id: WebhookId) -> Option<Arc<Webhook>> {
        self.known().get(&id).cloned()
    }

    /// All of them that are meant, oldest first, after the one with this id.
    pub fn after(&self, after: Option<WebhookId>, meant: impl Fn(&Webhook) -> bool) -> Vec<Arc<Webhook>> {
        let known = self.known();
        let later = known.values().filter(|webhook| after.is_none_or(|after| webhook.id > after));
        later.filter(|webhook| meant(webhook)).cloned().collect()
    }

    /// Makes a webhook. When it returns, the webhook is durable.
    pub async fn create(self: &Arc<Self>, new: NewWebhook, who: Who) -> Result<Issued, DeskError> {
        let desk = self.clone();
        to_the_end(async move {
            let _one = desk.changing.lock().await;
            if desk.closed.has(new.org) {
                return Err(DeskError::OrgErased);
            }
            // Whoever runs the gateway takes no room from the org, which does not see those.
            let alike = |webhook: &Webhook| {
                webhook.org == new.org
                    && webhook.is_of_operators() == new.events.iter().any(|kind| kind.is_of_operators())
            };
            let alike = desk.after(None, alike);
            if alike.iter().any(|webhook| webhook.sandbox == new.sandbox && webhook.url == new.url) {
                return Err(DeskError::SameUrl);
            }
            if alike.len() >= MOST_OF_ORG {
                return Err(DeskError::TooMany);
            }
            let created = desk.clock.now();
            let id = WebhookId::fresh(created)?;
            let secret = Secret::mint()?;
            let NewWebhook { org, url, events, enabled, sandbox, maker } = new;
            let state = if enabled { State::Enabled } else { State::Disabled };
            let (sealed, rotated, previous) = (desk.sealed(id, &secret)?, None, None);
            let webhook = Webhook {
                id,
                org,
                url,
                moved: 0,
                events,
                state,
                sandbox,
                maker,
                created,
                rotated,
                secret: sealed,
                previous,
            };
            desk.store.insert(webhook.clone(), Note::new(who, "webhook.created", created)).await?;
            tracing::info!(webhook = %id, %org, "made a webhook");
            Ok(Issued { webhook: desk.know(webhook), secret })
        })
        .await
    }

    /// Changes a webhook as its owner wants it. None where there is no such one.
    pub async fn change(
        self: &Arc<Self>,
        id: WebhookId,
        edit: Edit,
        who: Who,
    ) -> Result<Option<Arc<Webhook>>, DeskError> {
        self.apply(id, Change::Edit(edit), who, "webhook.changed").await
    }

    /// Gives a webhook another secret; the present one signs on for `overlap`. None where there is no such one.
    pub async fn rotate(
        self: &Arc<Self>,
        id: WebhookId,
        overlap: Duration,
        force: bool,
        who: Who,
    ) -> Result<Option<Issued>, DeskError> {
        let secret = Secret::mint()?;
        let (sealed, at) = (self.sealed(id, &secret)?, self.clock.now());
        let change = Change::Rotate { secret: sealed, at, overlap, force };
        let webhook = self.apply(id, change, who, "webhook.rotated").await?;
        Ok(webhook.map(|webhook| Issued { webhook, secret }))
    }

    /// Removes a webhook with all that waits for it; how it was. None where there is no such one.
    pub async fn remove(self: &Arc<Self>, id: WebhookId, who: Who) -> Result<Option<Webhook>, DeskError> {
        let desk = self.clone();
        to_the_end(async move {
            let _one = desk.changing.lock().await;
            let removed = desk.store.remove(id, Note::new(who, "webhook.deleted", desk.clock.now())).await?;
            desk.known.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
            desk.empty(id);
            desk.store.news().notify_one();
            tracing::info!(webhook = %id, "removed a webhook");
            Ok(removed)
        })
        .await
    }

    /// Sends a webhook an event that nothing else is told of; its id.
    pub async fn test(self: &Arc<Self>, webhook: &Webhook) -> Result<EventId, DeskError> {
        if webhook.state != State::Enabled {
            return Err(DeskError::Disabled);
        }
        let data = json!({ "webhook": webhook.id, "message": "This is a test." });
        let event = Event::new(Kind::Test, self.clock.now(), data).of(webhook.org, webhook.sandbox).only(webhook.id);
        let id = event.id;
        self.store.post(event).await?;
        Ok(id)
    }

    /// The last attempts for a webhook, latest first, and how many messages wait for it.
    pub async fn deliveries(&self, id: WebhookId) -> Result<(Vec<super::Attempt>, usize), StoreError> {
        Ok((self.store.attempts(id).await?, self.store.waiting_for(id).await?))
    }

    /// The receiver at this address wants no more.
    pub(super) async fn gone(self: &Arc<Self>, id: WebhookId, url: String) -> Result<(), DeskError> {
        self.apply(id, Change::Gone { url }, Who::gateway(), "webhook.disabled").await.map(drop)
    }

    /// The signatures of a message at some time, with each secret that signs then.
    pub(super) fn signatures(&self, webhook: &Webhook, id: &str, at: Millis, body: &str) -> Result<String, DeskError> {
        let previous = webhook.previous.as_ref().filter(|previous| previous.until > at);
        let sealed = [Some(&webhook.secret), previous.map(|previous| &previous.secret)];
        let mut signatures = Vec::new();
        for sealed in sealed.into_iter().flatten() {
            let secret = Secret::of(self.vault.open_sealed(&name(webhook.id), &sealed.0)?);
            signatures.push(secret.sign(id, at, body));
        }
        Ok(signatures.join(" "))
    }

    async fn apply(
        self: &Arc<Self>,
        id: WebhookId,
        change: Change,
        who: Who,
        action: &'static str,
    ) -> Result<Option<Arc<Webhook>>, DeskError> {
        let desk = self.clone();
        to_the_end(async move {
            let _one = desk.changing.lock().await;
            if let Change::Edit(Edit { url: Some(url), .. }) = &change
                && let Some(now) = desk.find(id).filter(|now| now.url != *url)
                && !desk.after(None, |other| now.is_for_the_same_as(other) && other.url == *url).is_empty()
            {
                return Err(DeskError::SameUrl);
            }
            let changed = desk.store.change(id, change, Note::new(who, action, desk.clock.now())).await?;
            let Some(Changed { before, after }) = changed else { return Ok(None) };
            if before != after {
                tracing::info!(webhook = %id, org = %after.org, action, "changed a webhook");
            }
            let after = desk.know(after);
            if after.state != State::Enabled {
                desk.empty(id);
                desk.store.news().notify_one();
            }
            Ok(Some(after))
        })
        .await
    }

    /// Webhooks whose letters went, or some of them, since the last time that this was asked.
    pub(super) fn emptied(&self) -> BTreeSet<WebhookId> {
        std::mem::take(&mut *self.emptied.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The courier is to look what waits for this webhook.
    pub(super) fn empty(&self, id: WebhookId) {
        self.emptied.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    fn sealed(&self, id: WebhookId, secret: &Secret) -> Result<Sealed, seal::Error> {
        self.vault.seal(&name(id), secret.bytes()).map(Sealed)
    }

    fn know(&self, webhook: Webhook) -> Arc<Webhook> {
        let webhook = Arc::new(webhook);
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(webhook.id, webhook.clone());
        webhook
    }

    fn known(&self) -> RwLockReadGuard<'_, BTreeMap<WebhookId, Arc<Webhook>>> {
        // Whole or not there, whatever its holder was interrupted in.
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Webhooks")
    }
}

/// What a secret is sealed under: it opens for its own webhook only.
fn name(id: WebhookId) -> String {
    format!("webhook:{id}")
}

async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, DeskError>> + Send + 'static,
) -> Result<T, DeskError> {
    tokio::spawn(work).await.map_err(|_| StoreError::Closing)?
}
