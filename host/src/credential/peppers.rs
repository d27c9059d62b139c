//! The pepper in digests of secrets, and how it is exchanged without any key being made anew.
//!
//! New secrets take the newest version; one that is presented under an older version is moved to the newest soon after. A
//! version goes when no secret that works needs it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::issue::to_the_end;
use super::{Issuer, Keyring};
use crate::audit::{self, AuditStore, Note, Who};
use crate::clock::Clock;
use crate::key::{Peppers, StoreError};
use crate::seal;

/// How many keys are read at once.
const BATCH: usize = 1_000;

/// The desk where peppers are made and retired. Called on the control runtime only.
#[derive(Debug)]
pub struct PepperDesk {
    peppers: Peppers,
    ring: Keyring,
    issuer: Arc<Issuer>,
    audit: Arc<dyn AuditStore>,
    clock: Clock,
}

/// Why no pepper was made or retired.
#[derive(Debug, thiserror::Error)]
pub enum PepperError {
    /// The vault failed.
    #[error("the peppers cannot be read or written")]
    Vault(#[from] seal::Error),
    /// It cannot be noted, so it was not done.
    #[error("the change of a pepper cannot be noted in the audit log")]
    Audit(#[from] audit::StoreError),
    /// There is no such version.
    #[error("there is no pepper of this version")]
    Unknown,
    /// New secrets need it.
    #[error("this is the newest pepper, which new secrets need")]
    Newest,
    /// Secrets that work need it.
    #[error("{secrets} secrets that work need this pepper")]
    Needed {
        /// How many.
        secrets: u64,
    },
    /// Whether secrets need it cannot be read, or the gateway is stopping.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PepperDesk {
    /// A desk over this vault and the keys that are digested under its peppers.
    pub fn new(peppers: Peppers, issuer: Arc<Issuer>, audit: Arc<dyn AuditStore>, clock: Clock) -> Self {
        Self { peppers, ring: issuer.ring.clone(), issuer, audit, clock }
    }

    /// The versions, newest first, each with how many secrets that work need it. Reads all keys.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn needed(&self) -> Result<Vec<(u32, u64)>, StoreError> {
        let needs = self.issuer.store.needs(self.clock.now()).await?;
        let count = |version| needs.iter().find(|(needed, _)| *needed == version).map_or(0, |(_, count)| *count);
        Ok(self.ring.versions().into_iter().map(|version| (version, count(version))).collect())
    }

    /// Makes the next version; new secrets take it from now on. Its number.
    pub async fn rotate(self: &Arc<Self>, who: Who) -> Result<u32, PepperError> {
        let desk = self.clone();
        to_the_end(async move {
            // One at a time: two at once would make one version.
            let _settled = desk.ring.settled().await;
            let note = Note::new(who, "pepper.made", desk.clock.now());
            desk.noted(note, |peppers| peppers.make_next().map(|_| ())).await?;
            Ok(desk.ring.newest().map_or(0, |pepper| pepper.version()))
        })
        .await
    }

    /// Retires a version that no secret needs which works.
    pub async fn retire(self: &Arc<Self>, version: u32, who: Who) -> Result<(), PepperError> {
        let desk = self.clone();
        to_the_end(async move {
            // A secret that is on its way into the store needs its pepper, too. Under one that is not the newest none comes
            // in after that, however long the others are counted.
            drop(desk.ring.settled().await);
            desk.retirable(version)?;
            let needed = desk.needed().await?;
            if let Some((_, secrets)) = needed.into_iter().find(|(known, secrets)| *known == version && *secrets > 0) {
                return Err(PepperError::Needed { secrets });
            }
            let _settled = desk.ring.settled().await;
            desk.retirable(version)?;
            let note = Note::new(who, "pepper.retired", desk.clock.now()).on(version);
            desk.noted(note, move |peppers| peppers.retire(version)).await
        })
        .await
    }

    /// Whether there is such a version, and it is not the newest.
    fn retirable(&self, version: u32) -> Result<(), PepperError> {
        match self.ring.versions().iter().position(|known| *known == version) {
            None => Err(PepperError::Unknown),
            Some(0) => Err(PepperError::Newest),
            Some(_) => Ok(()),
        }
    }

    /// Changes the vault between two entries of the audit log, and has the ring use what is there then.
    async fn noted(
        &self,
        note: Note,
        change: impl FnOnce(&Peppers) -> Result<(), seal::Error> + Send + 'static,
    ) -> Result<(), PepperError> {
        let begun = audit::begin(&*self.audit, note).await?;
        let peppers = self.peppers.clone();
        let changed = tokio::task::spawn_blocking(move || change(&peppers).and_then(|()| peppers.all())).await;
        let changed = changed
            .map_err(|_| PepperError::Store(StoreError::Closing))
            .and_then(|changed| changed.map_err(PepperError::from));
        let outcome = match &changed {
            Ok(peppers) => Ok(serde_json::json!({ "newest": peppers.first().map(|newest| newest.version()) })),
            Err(error) => Err(error.to_string()),
        };
        begun.end(&*self.audit, self.clock.now(), outcome).await;
        self.ring.use_peppers(changed?);
        Ok(())
    }
}

impl Issuer {
    /// Says which keys nobody can come by, since their pepper is not there; how many. Reads all keys, where any secret was made under a
    /// pepper that is not there: to be called once, beside everything else.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn look_for_lost(&self) -> Result<u64, StoreError> {
        let (now, there) = (self.clock.now(), self.ring.versions());
        if self.store.peppers().await?.is_some_and(|used| used.iter().all(|version| there.contains(version))) {
            return Ok(0);
        }
        let (mut after, mut lost, mut used) = (None, 0_u64, BTreeSet::new());
        loop {
            let page = self.store.page(None, after, BATCH).await?;
            after = page.keys.last().map(|kept| kept.key.id);
            for kept in &page.keys {
                used.extend(kept.secrets().map(|secret| secret.pepper));
                let works = kept.key.revoked().is_none() && !kept.key.is_expired(now);
                let version = kept.secret.pepper;
                if works && !there.contains(&version) {
                    lost += 1;
                    tracing::warn!(key = %kept.key.id, version, "the pepper of a key's secret is not there: nobody can come by it");
                }
            }
            if !page.more {
                break;
            }
        }
        if lost > 0 {
            tracing::warn!(
                keys = lost,
                "keys have secrets that cannot work; rotate them, or restore the data directory from a backup"
            );
        }
        self.store.keep_peppers(used.into_iter().collect()).await?;
        Ok(lost)
    }
}
