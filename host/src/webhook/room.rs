//! How many letters may still be written: to each webhook, and to all of an org together.
//!
//! Letters have their own copies of bodies, so their number bounds what an org takes of memory and disk.

use std::collections::HashMap;
use std::sync::Arc;

use super::Webhook;
use super::lines::{LONGEST, Lines};
use crate::id::{OrgId, WebhookId};

/// Letters that may wait for all webhooks of one org together.
pub(super) const LONGEST_OF_ORG: usize = 2 * LONGEST;

/// The room that is left while letters are chosen.
pub(super) struct Room<'a> {
    lines: &'a Lines,
    orgs: HashMap<OrgId, usize>,
    chosen: HashMap<WebhookId, usize>,
}

impl<'a> Room<'a> {
    /// What these lines leave to these webhooks, which are all.
    pub(super) fn left(lines: &'a Lines, webhooks: &[Arc<Webhook>]) -> Self {
        let mut orgs = HashMap::new();
        for webhook in webhooks {
            *orgs.entry(webhook.org).or_default() += lines.count(webhook.id);
        }
        Self { lines, orgs, chosen: HashMap::new() }
    }

    /// Takes room for one more letter. Whether there was any.
    pub(super) fn take(&mut self, webhook: &Webhook) -> bool {
        let of_org = self.orgs.entry(webhook.org).or_default();
        let chosen = self.chosen.entry(webhook.id).or_default();
        let free = *of_org < LONGEST_OF_ORG && self.lines.count(webhook.id) + *chosen < LONGEST;
        *of_org += usize::from(free);
        *chosen += usize::from(free);
        free
    }
}
