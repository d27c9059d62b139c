//! Opens what is in the data directory beside plugins, usage and the request log: orgs, tokens, keys, webhooks, the audit log.

use super::telling::{self, Telling};
use super::{Kept, StartError, sentence};
use crate::api::Desks;
use crate::audit::{AuditStore, SledAudit};
use crate::clock::Clock;
use crate::credential::{Issuer, Keyring, PepperDesk};
use crate::data::DataDirectory;
use crate::erasure::{Erasure, Stores};
use crate::idempotency::{Repeats, SledIdempotency};
use crate::key::{Peppers, SledKeys};
use crate::kv::{Kv, SledKv};
use crate::org::{Admins, SledOrgs, SledTokens, TOKEN_VARIABLE, Tokens};
use crate::outbox::SledOutbox;
use crate::requests::RequestLog;
use crate::seal::Vault;
use crate::snapshot::Snapshot;
use crate::webhook::{SledWebhooks, Webhooks};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::runtime::Handle;

/// What there is then.
pub(super) struct Opening {
    /// Whom the API asks.
    pub(super) desks: Desks,
    /// The secrets.
    pub(super) vault: Arc<Vault>,
    /// Who calls, for the workers.
    pub(super) keyring: Keyring,
    /// Events on their way to webhooks.
    pub(super) outbox: SledOutbox,
    /// Where events are told.
    pub(super) telling: Arc<Telling>,
    /// Entries of the audit log that could not be written.
    pub(super) unwritten_entries: Arc<AtomicU64>,
}

impl Opening {
    /// Opens it.
    ///
    /// # Errors
    /// When something in the store cannot be read, or not be written.
    pub(super) async fn of(
        data: &DataDirectory,
        vault: Vault,
        kept: &Kept,
        snapshot: &Snapshot,
        clock: &Clock,
    ) -> Result<Self, StartError> {
        let cannot = |error: &dyn std::error::Error| StartError::Cannot(sentence(error));
        let database = data.database();
        let values = SledKv::open(database).map_err(|error| cannot(&error))?;
        kept.outside.open_store(Kv::new(Handle::current(), Arc::new(values), clock.clone()));
        let audit = SledAudit::open(database, &vault, clock.now()).map_err(|error| cannot(&error))?;
        let unwritten_entries = audit.unwritten();
        let orgs = SledOrgs::open(database, audit.clone(), clock.now()).map_err(|error| cannot(&error))?;
        let given = std::env::var(TOKEN_VARIABLE).ok();
        let admins = Admins::open(data, &vault, given.as_deref()).map_err(|error| cannot(&error))?;
        let tokens = SledTokens::open(database, audit.clone()).map_err(|error| cannot(&error))?;
        let tokens = Tokens::open(Arc::new(tokens), &vault, clock.clone()).await.map_err(|error| cannot(&error))?;
        let vault = Arc::new(vault);
        let peppers = Peppers::new(vault.clone());
        let all = peppers.all().map_err(|error| cannot(&error))?;
        let keyring = Keyring::with_room(all, snapshot.config.keys.hot);
        let outbox = SledOutbox::open(database).map_err(|error| cannot(&error))?;
        let hooks = SledWebhooks::open(database, audit.clone(), outbox.clone()).map_err(|error| cannot(&error))?;
        let hooks = Webhooks::open(Arc::new(hooks), vault.clone(), clock.clone(), telling::now(snapshot)).await;
        let webhooks = Arc::new(hooks.map_err(|error| cannot(&error))?);
        let telling = Arc::new(Telling::new(outbox.clone(), webhooks.clone()));
        let keys = SledKeys::open(database, audit.clone(), outbox.clone()).map_err(|error| cannot(&error))?;
        let files = Some(data.path().to_owned());
        let issuer = Issuer::open_in(files, Arc::new(keys), keyring.clone(), clock.clone()).await;
        let issuer = Arc::new(issuer.map_err(|error| cannot(&error))?);
        issuer.allow(snapshot.config.keys.most);
        issuer.keep_hot(snapshot.config.keys.hot);
        let audit: Arc<dyn AuditStore> = Arc::new(audit);
        let repeats = SledIdempotency::open(database).map_err(|error| cannot(&error))?;
        let desks = Desks {
            issuer: issuer.clone(),
            orgs: Arc::new(orgs),
            admins: Arc::new(admins),
            tokens: Arc::new(tokens),
            peppers: Arc::new(PepperDesk::new(peppers, issuer, audit.clone(), clock.clone())),
            audit,
            webhooks,
            repeats: Repeats::new(Arc::new(repeats), clock.clone()),
        };
        Ok(Self { desks, vault, keyring, outbox, telling, unwritten_entries })
    }
}

/// Where orgs end. Nothing opens anything any more of those whose end had begun.
///
/// # Errors
/// When orgs cannot be read.
pub(super) async fn erasure(
    desks: &Desks,
    requests: Arc<dyn RequestLog>,
    data: &DataDirectory,
    clock: &Clock,
) -> Result<Arc<Erasure>, StartError> {
    let Desks { issuer, orgs, tokens, audit, webhooks, repeats, .. } = desks.clone();
    let stores = Stores { orgs, issuer, tokens, webhooks, repeats, audit, requests, rewrite: data.rewrite() };
    let erasure = Erasure::open(stores, clock.clone()).await;
    erasure.map(Arc::new).map_err(|error| StartError::Cannot(sentence(&error)))
}
