//! Tokens of an org that is erased: they open nothing at once, and go a few at a time.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

use super::{FORGOTTEN, Tokens, to_the_end};
use crate::audit::{Note, Who};
use crate::id::{OrgId, TokenId};
use crate::org::StoreError;

impl Tokens {
    /// From now on this org gets no token, and none that it has opens anything. Holds until the process ends.
    pub async fn close(&self, org: OrgId) {
        self.closed.close(org);
        // Whoever was about to make one has made it then.
        let _one = self.issuing.lock().await;
        let now = self.clock.now();
        self.list().iter().filter(|token| token.terms.org == Some(org)).for_each(|token| token.revoke(now));
    }

    /// Removes all tokens of an org that was closed; how many.
    ///
    /// # Errors
    /// Where the store fails; what was removed until then stays so.
    pub async fn erase(self: &Arc<Self>, org: OrgId) -> Result<u64, StoreError> {
        let mut all = self.list();
        all.retain(|token| token.terms.org == Some(org));
        for step in all.chunks(FORGOTTEN) {
            let (desk, step) = (self.clone(), step.to_vec());
            to_the_end(async move {
                let note = Note::new(Who::gateway(), "token.erased", desk.clock.now());
                desk.store.forget(step.clone(), note).await?;
                let gone: HashSet<TokenId> = step.iter().map(|token| token.id).collect();
                let mut all = desk.all.write().unwrap_or_else(PoisonError::into_inner);
                all.retain(|_, token| !gone.contains(&token.id));
                Ok::<_, StoreError>(())
            })
            .await?;
        }
        Ok(all.len() as u64)
    }
}
