//! The end of an org: what is left of one that is being erased, and how far that has come.

use serde::{Deserialize, Serialize};

use crate::audit::Who;
use crate::clock::Millis;

/// How far the end of an org has come. What is known of it is only added to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// Since when it is being erased.
    pub since: Millis,
    /// Who wants it; nobody once it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Who>,
    /// The entry of the audit log that says that it was erased, once its names are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<u64>,
    /// Since when all of it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Millis>,
    /// What is gone so far.
    #[serde(default)]
    pub erased: Erased,
}

/// What was erased, in numbers. Counted after each step: where a step was cut off, what it did is not in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Erased {
    /// Keys, with their digests.
    pub keys: u64,
    /// Tokens.
    pub tokens: u64,
    /// Webhooks, with what waited for them and was tried.
    pub webhooks: u64,
    /// Events that nobody was told of yet.
    pub events: u64,
    /// Requests with an `Idempotency-Key`, and their answers.
    pub repeats: u64,
    /// Rows of the request log.
    pub requests: u64,
    /// Entries of the audit log whose names and addresses are gone.
    pub audit_values: u64,
}

impl std::ops::AddAssign for Erased {
    fn add_assign(&mut self, more: Self) {
        let Self { keys, tokens, webhooks, events, repeats, requests, audit_values } = more;
        for (sum, more) in [
            (&mut self.keys, keys),
            (&mut self.tokens, tokens),
            (&mut self.webhooks, webhooks),
            (&mut self.events, events),
            (&mut self.repeats, repeats),
            (&mut self.requests, requests),
            (&mut self.audit_values, audit_values),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}
