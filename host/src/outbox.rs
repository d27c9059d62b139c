//! Events on their way out: written down together with what caused them, until whoever wants them has a copy of their own.
//!
//! Knows no receiver. What is in a message is fixed here, once: it is the same for every receiver and in every attempt.

mod sled;

use std::str::FromStr;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use self::sled::SledOutbox;
use crate::clock::Millis;
use crate::id::{EventId, OrgId, WebhookId};

/// Of what kind an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A key was made, or brought in from elsewhere.
    #[serde(rename = "key.created")]
    KeyCreated,
    /// A key was given another secret.
    #[serde(rename = "key.rotated")]
    KeyRotated,
    /// A key was given other scopes.
    #[serde(rename = "key.scoped")]
    KeyScoped,
    /// A key was revoked.
    #[serde(rename = "key.revoked")]
    KeyRevoked,
    /// The time of a key is over.
    #[serde(rename = "key.expired")]
    KeyExpired,
    /// A key or an org has used up what a limit gives it for a month.
    #[serde(rename = "quota.reached")]
    QuotaReached,
    /// Another component serves for a policy.
    #[serde(rename = "plugin.swapped")]
    PluginSwapped,
    /// A component was refused, and the one before goes on.
    #[serde(rename = "plugin.refused")]
    PluginRefused,
    /// The gateway's own API is described in other words.
    #[serde(rename = "openapi.changed")]
    OpenapiChanged,
    /// Somebody wants to see whether messages arrive. Nobody subscribes to it.
    #[serde(rename = "webhook.test")]
    Test,
}

/// Text that is no kind of event that one can subscribe to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("There is no such event")]
pub struct NoSuchEvent;

impl Kind {
    /// Those that one can subscribe to.
    pub const ALL: [Self; 9] = [
        Self::KeyCreated,
        Self::KeyRotated,
        Self::KeyScoped,
        Self::KeyRevoked,
        Self::KeyExpired,
        Self::QuotaReached,
        Self::PluginSwapped,
        Self::PluginRefused,
        Self::OpenapiChanged,
    ];

    /// As it is written in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::KeyCreated => "key.created",
            Self::KeyRotated => "key.rotated",
            Self::KeyScoped => "key.scoped",
            Self::KeyRevoked => "key.revoked",
            Self::KeyExpired => "key.expired",
            Self::QuotaReached => "quota.reached",
            Self::PluginSwapped => "plugin.swapped",
            Self::PluginRefused => "plugin.refused",
            Self::OpenapiChanged => "openapi.changed",
            Self::Test => "webhook.test",
        }
    }

    /// Whether it tells what only whoever runs the gateway may know.
    pub fn is_of_operators(self) -> bool {
        matches!(self, Self::PluginSwapped | Self::PluginRefused)
    }
}

impl FromStr for Kind {
    type Err = NoSuchEvent;

    fn from_str(text: &str) -> Result<Self, NoSuchEvent> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or(NoSuchEvent)
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its id: the same in every message about it.
    pub id: EventId,
    /// Of what kind it is.
    pub kind: Kind,
    /// When it happened.
    pub at: Millis,
    /// Whose it is; none where it is everybody's.
    pub org: Option<OrgId>,
    /// Whether it is about a sandbox key.
    pub sandbox: bool,
    /// Meant for this webhook alone.
    pub only: Option<WebhookId>,
    /// The body of messages: JSON with `type`, `timestamp` and `data`.
    pub body: String,
}

impl Event {
    /// An event, everybody's so far. No secret may be in `data`.
    ///
    /// Its id follows from what it says: the same said twice in one millisecond is one event.
    pub fn new(kind: Kind, at: Millis, data: Value) -> Self {
        let body = json!({ "type": kind.name(), "timestamp": at, "data": data }).to_string();
        let digest = digest(&SHA256, body.as_bytes());
        let chance = digest.as_ref().iter().take(10).fold(0, |sum, byte| sum << 8 | u128::from(*byte));
        let id = EventId::from_number(u128::from(at.0) << 80 | chance);
        Self { id, kind, at, org: None, sandbox: false, only: None, body }
    }

    /// One of this org's, perhaps about a sandbox key.
    pub fn of(self, org: OrgId, sandbox: bool) -> Self {
        Self { org: Some(org), sandbox, ..self }
    }

    /// One for this webhook alone.
    pub fn only(self, webhook: WebhookId) -> Self {
        Self { only: Some(webhook), ..self }
    }
}

#[cfg(test)]
mod tests;
