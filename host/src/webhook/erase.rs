//! Webhooks of an org that is erased, and events that wait to be told to them.

use std::sync::Arc;

use super::desk::{DeskError, Webhooks};
use crate::audit::Who;
use crate::id::OrgId;

impl Webhooks {
    /// From now on this org gets no webhook. Holds until the process ends.
    pub async fn close(&self, org: OrgId) {
        self.closed.close(org);
        // Whoever was about to make one has made it then.
        let _one = self.changing.lock().await;
    }

    /// Removes all webhooks of an org that was closed, with all that waits for them; how many.
    ///
    /// # Errors
    /// Where the store fails; what was removed until then stays so.
    pub async fn erase(self: &Arc<Self>, org: OrgId) -> Result<u64, DeskError> {
        let all = self.after(None, |webhook| webhook.org == org);
        for webhook in &all {
            self.remove(webhook.id, Who::gateway()).await?;
        }
        Ok(all.len() as u64)
    }

    /// Removes the events of an org that nobody was told of yet; how many.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn erase_events(&self, org: OrgId) -> Result<u64, DeskError> {
        Ok(self.store.erase_events(org).await?)
    }
}
