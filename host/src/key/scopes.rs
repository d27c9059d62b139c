//! What keys may call, and what they may manage: sets of scopes.
//!
//! The two kinds are never taken for one another: a pillar cannot ask for a management scope, and a pillar's scope manages
//! nothing.

use std::fmt;

use crate::config::MANAGEMENT_SCOPES;

/// A set of scopes, in one allocation: sorted, each once, a space between.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Scopes(Box<str>);

impl Scopes {
    /// The set of these scopes. What is not a scope-token of RFC 6749 (section 3.3) is left out.
    pub fn new<'a>(scopes: impl IntoIterator<Item = &'a str>) -> Self {
        let is_token = |scope: &&str| {
            !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
        };
        let mut scopes: Vec<&str> = scopes.into_iter().filter(is_token).collect();
        scopes.sort_unstable();
        scopes.dedup();
        Self(scopes.join(" ").into())
    }

    /// The set that was written so; none where nothing writes one so.
    pub(super) fn written(text: &str) -> Option<Self> {
        let scopes = Self::new(text.split(' '));
        (scopes.as_str() == text).then_some(scopes)
    }

    /// Whether this one is among them.
    pub fn contain(&self, scope: &str) -> bool {
        self.iter().any(|held| held == scope)
    }

    /// All of them, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split(' ').filter(|scope| !scope.is_empty())
    }

    /// All of them with a space between, as in a `scope` claim (RFC 8693, section 4.2).
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// What a key may manage within its org: the scopes that no pillar has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Management {
    /// Keys are made, rotated, scoped and revoked.
    KeysWrite,
    /// Keys are listed and shown.
    KeysRead,
    /// Usage and the request log are read.
    UsageRead,
    /// Prices and invoices are read.
    BillingRead,
    /// Webhooks are made and tested.
    WebhooksWrite,
}

impl Management {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::KeysWrite, Self::KeysRead, Self::UsageRead, Self::BillingRead, Self::WebhooksWrite];

    /// As it is written among a key's scopes.
    pub fn name(self) -> &'static str {
        let [keys_write, keys_read, usage_read, billing_read, webhooks_write] = MANAGEMENT_SCOPES;
        match self {
            Self::KeysWrite => keys_write,
            Self::KeysRead => keys_read,
            Self::UsageRead => usage_read,
            Self::BillingRead => billing_read,
            Self::WebhooksWrite => webhooks_write,
        }
    }

    /// Whether a scope is one for management.
    pub fn is_one(scope: &str) -> bool {
        MANAGEMENT_SCOPES.contains(&scope)
    }
}
