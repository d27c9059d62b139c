//! What keys and orgs look like to clients. Never a secret, save in the one answer that a new key is handed out with.

use serde::Serialize;
use utoipa::ToSchema;

use crate::clock::Millis;
use crate::key::{self, Key};
use crate::org::Org;

/// Live keys move real things and are charged; sandbox keys do neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    Live,
    Sandbox,
}

impl From<key::Mode> for Mode {
    fn from(mode: key::Mode) -> Self {
        match mode {
            key::Mode::Live => Self::Live,
            key::Mode::Sandbox => Self::Sandbox,
        }
    }
}

/// An org.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OrgShown {
    /// Its id.
    #[schema(example = "org_01m5k3v0q8f7c2d9x4e6t1r5ya")]
    pub(super) id: String,
    /// Its name in addresses.
    #[schema(example = "acme")]
    pub(super) slug: Option<String>,
}

impl OrgShown {
    /// The org of this key among all orgs.
    pub(super) fn of(key: &Key, orgs: &[Org]) -> Self {
        let slug = orgs.iter().find(|org| org.id == key.org).map(|org| org.slug.clone());
        Self { id: key.org.to_string(), slug }
    }
}

/// Whether a key works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Active,
    Expired,
    Revoked,
}

/// A key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Key)]
pub(super) struct KeyShown {
    /// Its id.
    #[schema(example = "key_01m5k3v0q8f7c2d9x4e6t1r5yb")]
    id: String,
    /// What its org calls it.
    #[schema(example = "ci")]
    name: String,
    org: OrgShown,
    mode: Mode,
    /// What it may call, and what it may manage.
    scopes: Vec<String>,
    /// The networks that it may be used from; empty for all.
    networks: Vec<String>,
    status: Status,
    /// What its secret begins with.
    #[schema(example = "sk_live_")]
    prefix: String,
    /// What its secret ends with, to recognise it by.
    #[schema(example = "h1Zq")]
    last_four: String,
    #[schema(format = DateTime)]
    created_at: String,
    /// When it ends by itself; null for never.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// When it was last used, up to a minute behind; null for never.
    #[schema(format = DateTime)]
    last_used_at: Option<String>,
    #[schema(format = DateTime)]
    revoked_at: Option<String>,
}

impl KeyShown {
    pub(super) fn of(key: &Key, orgs: &[Org], now: Millis) -> Self {
        let status = match key.revoked() {
            Some(_) => Status::Revoked,
            None if key.is_expired(now) => Status::Expired,
            None => Status::Active,
        };
        let text = |at: Option<Millis>| at.map(|at| at.to_string());
        Self {
            id: key.id.to_string(),
            name: key.terms.name.to_string(),
            org: OrgShown::of(key, orgs),
            mode: key.terms.mode.into(),
            scopes: key.terms.scopes.iter().map(str::to_owned).collect(),
            networks: key.terms.networks.iter().map(ToString::to_string).collect(),
            status,
            prefix: key.terms.mode.prefix().to_owned(),
            last_four: String::from_utf8_lossy(&key.last_four).into_owned(),
            created_at: key.created.to_string(),
            expires_at: text(key.terms.expires),
            last_used_at: text(key.last_used()),
            revoked_at: text(key.revoked()),
        }
    }
}

/// A key that has just been made, with its secret.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyIssued {
    #[serde(flatten)]
    pub(super) key: KeyShown,
    /// Shown in this answer, and never again.
    #[schema(example = "sk_live_…")]
    pub(super) secret: String,
}

/// Some keys, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeyList {
    pub(super) keys: Vec<KeyShown>,
    /// To be given as `cursor` for the keys after these; null where there are none.
    pub(super) next_cursor: Option<String>,
}

/// What a new key shall be. It can be nothing beyond the key that asks for it.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "the body is read by `Order`, which tells all that is wrong at once; a test compares the two"
)]
pub(super) struct KeyOrder {
    /// What to call it, without control characters or spaces around it.
    #[schema(min_length = 1, max_length = 100, example = "ci")]
    name: String,
    /// That of the key that asks, which is the default too.
    mode: Option<Mode>,
    /// Scopes that the key that asks holds itself.
    #[schema(min_items = 1, max_items = 64, example = json!(["connect"]))]
    scopes: Option<Vec<String>>,
    /// In place of `scopes`: all that the key that asks holds.
    all_scopes: Option<bool>,
    /// When it shall end by itself: not after the key that asks, whose end is the default.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// Addresses and networks that it may be used from, within those of the key that asks, which are the default.
    #[schema(min_items = 1, max_items = 32, example = json!(["203.0.113.0/24"]))]
    networks: Option<Vec<String>>,
}
