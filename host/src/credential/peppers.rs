//! The pepper in digests of secrets, and how it is exchanged without any key being made anew.
//!
//! New secrets take the newest version; one that is presented under an older version is moved to the newest soon after. A
//! version goes when no secret that works needs it.

use std::sync::Arc;

use super::Keyring;
use super::issue::to_the_end;
use crate::audit::{self, AuditStore, Note, Who};
use crate::clock::Clock;
use crate::key::{Peppers, StoreError};
use crate::seal;

/// The desk where peppers are made and retired. Called on the control runtime only.
#[derive(Debug)]
pub struct PepperDesk {
    peppers: Peppers,
    ring: Keyring,
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
    /// The work was cut off: the gateway is stopping.
    #[error(transparent)]
    Closing(#[from] StoreError),
}

impl PepperDesk {
    /// A desk over this vault and the ring that digests under its peppers.
    pub fn new(peppers: Peppers, ring: Keyring, audit: Arc<dyn AuditStore>, clock: Clock) -> Self {
        Self { peppers, ring, audit, clock }
    }

    /// The versions, newest first, each with how many secrets that work need it.
    pub fn needed(&self) -> Vec<(u32, u64)> {
        self.ring.needed_peppers(self.clock.now())
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
            // Also a secret that is on its way into the ring needs its pepper.
            let _settled = desk.ring.settled().await;
            let needed = desk.needed();
            match needed.iter().position(|(known, _)| *known == version) {
                None => return Err(PepperError::Unknown),
                Some(0) => return Err(PepperError::Newest),
                Some(at) if needed[at].1 > 0 => return Err(PepperError::Needed { secrets: needed[at].1 }),
                Some(_) => {}
            }
            let note = Note::new(who, "pepper.retired", desk.clock.now()).on(version);
            desk.noted(note, move |peppers| peppers.retire(version)).await
        })
        .await
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
            .map_err(|_| PepperError::Closing(StoreError::Closing))
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
