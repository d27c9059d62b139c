//! The end of an org: all that a person could be known by goes, from every store that has some; ids and sums stay.
//!
//! In steps that keep nobody waiting. Each is the same when it is done twice, and how far it has come is in the org's own record:
//! what died in the middle is gone on with at the next start, or by whoever asks again. From the first moment nothing of the org
//! opens anything, and nothing new is made in it.

use std::sync::Arc;

use crate::audit::{self, AuditStore, Note, ORG_ERASED, Who};
use crate::clock::{Clock, Millis};
use crate::credential::Issuer;
use crate::data::Rewrite;
use crate::id::OrgId;
use crate::idempotency::{self, Repeats};
use crate::key;
use crate::org::{self, Ending, Erased, Org, OrgStore, Tokens};
use crate::requests::{self, RequestLog};
use crate::telemetry::sentence;
use crate::webhook::{self, Webhooks};

/// Where something of an org is kept.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Orgs.
    pub orgs: Arc<dyn OrgStore>,
    /// Keys.
    pub issuer: Arc<Issuer>,
    /// Tokens.
    pub tokens: Arc<Tokens>,
    /// Webhooks, and events.
    pub webhooks: Arc<Webhooks>,
    /// Requests with an `Idempotency-Key`, and their answers.
    pub repeats: Repeats,
    /// The audit log.
    pub audit: Arc<dyn AuditStore>,
    /// Finished requests; also where none are kept any more.
    pub requests: Arc<dyn RequestLog>,
    /// What is removed from these is gone from the disk after it.
    pub rewrite: Rewrite,
}

/// The desk where orgs end. Called on the control runtime only.
#[derive(Debug)]
pub struct Erasure {
    stores: Stores,
    clock: Clock,
    /// Held while an org is being erased: one at a time.
    erasing: tokio::sync::Mutex<()>,
}

/// What is left of an org.
#[derive(Debug)]
pub struct Remains {
    /// Its record.
    pub org: Org,
    /// Entries of the audit log about it.
    pub audit: audit::Count,
}

/// Why an org was not erased, or not to the end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The record of the org cannot be read or written.
    #[error(transparent)]
    Orgs(#[from] org::StoreError),
    /// Its keys cannot be removed.
    #[error("the keys of the org cannot be removed")]
    Keys(#[from] key::StoreError),
    /// Its webhooks cannot be removed.
    #[error("the webhooks of the org cannot be removed")]
    Webhooks(#[from] webhook::DeskError),
    /// Its requests with an `Idempotency-Key` cannot be removed.
    #[error("the requests of the org that may come again cannot be removed")]
    Repeats(#[from] idempotency::StoreError),
    /// Its requests cannot be removed.
    #[error("the requests of the org cannot be removed")]
    Requests(#[from] requests::StoreError),
    /// What the audit log holds of it cannot be removed.
    #[error("what the audit log holds of the org cannot be removed")]
    Audit(#[from] audit::StoreError),
    /// What was removed would stay in the files of the store.
    #[error("that the store is to be written anew cannot be written down")]
    Rewrite(#[from] std::io::Error),
    /// The work was cut off: the gateway is stopping.
    #[error("the gateway is stopping; the org is erased to the end after the next start")]
    Closing,
}

impl Erasure {
    /// A desk over these stores. Nothing of an org whose end has begun opens anything when it returns.
    ///
    /// # Errors
    /// When orgs cannot be read.
    pub async fn open(stores: Stores, clock: Clock) -> Result<Self, Error> {
        let desk = Self { stores, clock, erasing: tokio::sync::Mutex::default() };
        for org in desk.stores.orgs.all().await?.iter().filter(|org| org.ending.is_some()) {
            desk.close(org.id).await;
        }
        Ok(desk)
    }

    /// Goes on with what an earlier process began. What cannot be done now is done after the next start, or when it is asked for.
    pub async fn resume(&self) {
        let all = self.stores.orgs.all().await.unwrap_or_else(|error| {
            tracing::error!("whether orgs are to be erased to the end is not known: {error}");
            Vec::new()
        });
        let is_under_way = |org: &&Org| org.ending.as_ref().is_some_and(|ending| ending.done.is_none());
        for org in all.iter().filter(is_under_way) {
            tracing::info!(org = %org.id, "goes on with erasing an org");
            // What failed has been said.
            let _ = self.finish(org.id).await;
        }
    }

    /// Erases an org, by whoever asks; to the end, also when nobody waits for it. None where there is no such org. Again is the
    /// same answer.
    ///
    /// # Errors
    /// When a store fails. What is gone until then stays so; this can be called again.
    pub async fn erase(self: &Arc<Self>, org: OrgId, by: Who) -> Result<Option<Remains>, Error> {
        let desk = self.clone();
        let done = tokio::spawn(async move {
            let note = Note::new(by.clone(), "org.erasing", desk.clock.now());
            let Some(begun) = desk.stores.orgs.begin_erasing(org, by, note).await? else { return Ok(None) };
            // Now, also where another org is being erased.
            desk.close(begun.id).await;
            desk.finish(begun.id).await
        });
        done.await.map_err(|_| Error::Closing)?
    }

    /// What is left of an org whose end has begun.
    ///
    /// # Errors
    /// When the audit log cannot be read.
    pub async fn remains(&self, org: Org) -> Result<Remains, Error> {
        Ok(Remains { audit: self.stores.audit.count(org.id).await?, org })
    }

    async fn finish(&self, org: OrgId) -> Result<Option<Remains>, Error> {
        let _one = self.erasing.lock().await;
        self.erase_all_of(org).await.inspect_err(|error| {
            tracing::error!(%org, "an org could not be erased to the end: {}", sentence(error));
        })
    }

    async fn erase_all_of(&self, org: OrgId) -> Result<Option<Remains>, Error> {
        let Stores { orgs, issuer, tokens, webhooks, repeats, audit, requests, rewrite } = &self.stores;
        let Some(found) = orgs.find(&org.to_string()).await? else { return Ok(None) };
        let Some(Ending { by, done: None, .. }) = found.ending.clone() else {
            return self.remains(found).await.map(Some);
        };
        // Webhooks first: they are told nothing of what follows.
        let gone = Erased { webhooks: webhooks.erase(org).await?, ..Erased::default() };
        orgs.add_erased(org, gone).await?;
        let gone = Erased { keys: issuer.erase(org).await?, ..Erased::default() };
        orgs.add_erased(org, gone).await?;
        let gone = Erased { tokens: tokens.erase(org).await?, ..Erased::default() };
        orgs.add_erased(org, gone).await?;
        let gone = Erased { events: webhooks.erase_events(org).await?, ..Erased::default() };
        orgs.add_erased(org, gone).await?;
        let gone = Erased { repeats: repeats.forget(org).await?, ..Erased::default() };
        orgs.add_erased(org, gone).await?;
        // Its id is never used again, so whatever comes late is of its own.
        let rows = requests.erase(org.number(), Millis(u64::MAX)).await?;
        orgs.add_erased(org, Erased { requests: rows, ..Erased::default() }).await?;
        // The entry first: what the audit log holds of earlier ones would be missed without it.
        let note = Note::new(by.unwrap_or_else(Who::gateway), ORG_ERASED, self.clock.now());
        let Some(erased) = orgs.erase_names(org, note).await? else { return Ok(None) };
        let before = erased.ending.and_then(|ending| ending.entry).unwrap_or_default();
        loop {
            match audit.erase(org, before).await? {
                0 => break,
                some => drop(orgs.add_erased(org, Erased { audit_values: some, ..Erased::default() }).await?),
            }
        }
        let rewrite = rewrite.clone();
        tokio::task::spawn_blocking(move || rewrite.ask()).await.map_err(|_| Error::Closing)??;
        let Some(erased) = orgs.end_erasing(org, self.clock.now()).await? else { return Ok(None) };
        tracing::info!(%org, "erased an org");
        self.remains(erased).await.map(Some)
    }

    async fn close(&self, org: OrgId) {
        self.stores.webhooks.close(org).await;
        self.stores.issuer.close(org).await;
        self.stores.tokens.close(org).await;
    }
}

#[cfg(test)]
mod tests;
