//! What keys and orgs look like over HTTP, on both listeners. Never a secret, save in the one answer that it is handed out with.

pub(super) mod usage;
pub(super) mod webhook;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::clock::Millis;
use crate::key::{self, Digested, Kept, Key};
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

/// The secret before the present one, while it works on.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PreviousSecret {
    /// What it ends with, to recognise it by.
    #[schema(example = "h1Zq")]
    last_four: String,
    /// Until when it works.
    #[schema(format = DateTime)]
    ends_at: String,
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
    /// The id of the key or the operator's token that made it; null where that was the super-admin.
    created_by: Option<String>,
    /// When it ends by itself; null for never.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// When it was last used, up to a minute behind; null for never.
    #[schema(format = DateTime)]
    last_used_at: Option<String>,
    /// When it was last given another secret; null for never.
    #[schema(format = DateTime)]
    rotated_at: Option<String>,
    /// Null where no other secret works.
    previous_secret: Option<PreviousSecret>,
    #[schema(format = DateTime)]
    revoked_at: Option<String>,
}

impl KeyShown {
    pub(super) fn of(kept: &Kept, orgs: &[Org], now: Millis) -> Self {
        let key = &kept.key;
        let status = match key.revoked() {
            Some(_) => Status::Revoked,
            None if key.is_expired(now) => Status::Expired,
            None => Status::Active,
        };
        let text = |at: Option<Millis>| at.map(|at| at.to_string());
        let last_four = |secret: &Digested| String::from_utf8_lossy(&secret.last_four).into_owned();
        let previous = kept.previous.filter(|previous| previous.until > now);
        Self {
            id: key.id.to_string(),
            name: kept.name.to_string(),
            org: OrgShown::of(key, orgs),
            mode: key.mode.into(),
            scopes: key.scopes().iter().map(str::to_owned).collect(),
            networks: key.networks().iter().map(ToString::to_string).collect(),
            status,
            prefix: key.mode.prefix().to_owned(),
            last_four: last_four(&kept.secret),
            created_at: kept.created.to_string(),
            created_by: kept.maker.as_deref().map(str::to_owned),
            expires_at: text(key.expires()),
            last_used_at: text(key.last_used()),
            rotated_at: text(kept.rotated),
            previous_secret: previous.map(|previous| PreviousSecret {
                last_four: last_four(&previous.secret),
                ends_at: previous.until.to_string(),
            }),
            revoked_at: text(key.revoked()),
        }
    }

    /// One for documentation.
    pub(super) fn example() -> Value {
        json!({
            "id": "key_01m5k3v0q8f7c2d9x4e6t1r5yb", "name": "ci",
            "org": {"id": "org_01m5k3v0q8f7c2d9x4e6t1r5ya", "slug": "acme"},
            "mode": "live", "scopes": ["connect"], "networks": ["203.0.113.0/24"], "status": "active",
            "prefix": "sk_live_", "last_four": "h1Zq", "created_at": "2026-11-22T09:00:00.000Z",
            "created_by": "key_01m5k3v0q8f7c2d9x4e6t1r5ya", "expires_at": null, "last_used_at": null,
            "rotated_at": null, "previous_secret": null, "revoked_at": null
        })
    }
}

/// A key with the secret that it has just been given.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyIssued {
    #[serde(flatten)]
    pub(super) key: KeyShown,
    /// Shown in this answer, and never again.
    #[schema(example = "sk_live_…")]
    pub(super) secret: String,
}

impl KeyIssued {
    /// One for documentation.
    pub(super) fn example() -> Value {
        let mut issued = KeyShown::example();
        issued["secret"] = "sk_live_…".into();
        issued
    }

    /// One after a rotation, for documentation.
    pub(super) fn rotated_example() -> Value {
        let mut rotated = Self::example();
        rotated["last_four"] = "Ww0d".into();
        rotated["rotated_at"] = "2026-11-22T10:00:00.000Z".into();
        rotated["previous_secret"] = json!({"last_four": "h1Zq", "ends_at": "2026-11-23T10:00:00.000Z"});
        rotated
    }
}

/// Some keys, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeyList {
    pub(super) keys: Vec<KeyShown>,
    /// To be given as `cursor` for the keys after these; null where there are none.
    pub(super) next_cursor: Option<String>,
}

impl KeyList {
    /// One for documentation.
    pub(super) fn example() -> Value {
        json!({"keys": [KeyShown::example()], "next_cursor": null})
    }
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
    /// Slug or id of the org of the key that asks, which is the default too.
    #[schema(example = "acme")]
    org: Option<String>,
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

/// How a key gets another secret.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read as `KeyOrder` is")]
pub(super) struct RotationOrder {
    /// Seconds for which the present secret works on, never beyond the end of the key; 86400 (a day) is the default.
    #[schema(minimum = 0, maximum = 2_592_000, example = 3600)]
    overlap: Option<u32>,
    /// Also while the secret before the present one still works: that ends then.
    force: Option<bool>,
}

/// The scopes that a key shall have, and no others.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read as `KeyOrder` is")]
pub(super) struct ScopeOrder {
    /// Scopes that the key that asks holds itself.
    #[schema(min_items = 1, max_items = 64, example = json!(["connect"]))]
    scopes: Option<Vec<String>>,
    /// In place of `scopes`: all that the key that asks holds.
    all_scopes: Option<bool>,
}
