//! What webhooks and what came of their messages look like over HTTP, on both listeners.

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{Mode, OrgShown};
use crate::clock::Millis;
use crate::org::Org;
use crate::webhook::{Attempt, Outcome, State, Webhook};

/// Whether a webhook is told of anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = WebhookStatus)]
pub(in crate::api) enum Status {
    Enabled,
    Disabled,
    /// Its receiver answered 410.
    Gone,
}

/// A webhook, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Webhook)]
pub(in crate::api) struct WebhookShown {
    /// Its id.
    #[schema(example = "whk_01m5k3v0q8f7c2d9x4e6t1r5yd")]
    id: String,
    org: OrgShown,
    /// Where messages go.
    #[schema(example = "https://hooks.example.com/portico")]
    url: String,
    /// The events that it is told of.
    #[schema(example = json!(["key.revoked", "quota.reached"]))]
    events: Vec<&'static str>,
    status: Status,
    /// `sandbox` where a sandbox key made it: then it hears of sandbox keys only.
    mode: Mode,
    #[schema(format = DateTime)]
    created_at: String,
    /// The id of the key or the operator's token that made it; null where that was the super-admin.
    created_by: Option<String>,
    /// When it was last given another secret; null for never.
    #[schema(format = DateTime)]
    rotated_at: Option<String>,
    /// Until when messages are signed with the secret before too; null where they are not.
    #[schema(format = DateTime)]
    previous_secret_ends_at: Option<String>,
}

impl WebhookShown {
    pub(in crate::api) fn of(webhook: &Webhook, orgs: &[Org], now: Millis) -> Self {
        let slug = orgs.iter().find(|org| org.id == webhook.org).map(|org| org.slug.clone());
        Self {
            id: webhook.id.to_string(),
            org: OrgShown { id: webhook.org.to_string(), slug },
            url: webhook.url.clone(),
            events: webhook.events.iter().map(|kind| kind.name()).collect(),
            status: match webhook.state {
                State::Enabled => Status::Enabled,
                State::Disabled => Status::Disabled,
                State::Gone => Status::Gone,
            },
            mode: if webhook.sandbox { Mode::Sandbox } else { Mode::Live },
            created_at: webhook.created.to_string(),
            created_by: webhook.maker.clone(),
            rotated_at: webhook.rotated.map(|at| at.to_string()),
            previous_secret_ends_at: webhook.previous_until(now).map(|until| until.to_string()),
        }
    }

    /// One for documentation.
    pub(in crate::api) fn example() -> Value {
        json!({
            "id": "whk_01m5k3v0q8f7c2d9x4e6t1r5yd",
            "org": {"id": "org_01m5k3v0q8f7c2d9x4e6t1r5ya", "slug": "acme"},
            "url": "https://hooks.example.com/portico", "events": ["key.revoked", "quota.reached"],
            "status": "enabled", "mode": "live", "created_at": "2026-11-22T09:00:00.000Z",
            "created_by": "key_01m5k3v0q8f7c2d9x4e6t1r5ya", "rotated_at": null, "previous_secret_ends_at": null
        })
    }
}

/// A webhook with the secret that it has just been given.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct WebhookIssued {
    #[serde(flatten)]
    pub(in crate::api) webhook: WebhookShown,
    /// What its messages are signed with. Shown in this answer, and never again.
    #[schema(example = "whsec_…")]
    pub(in crate::api) secret: String,
}

impl WebhookIssued {
    /// One for documentation.
    pub(in crate::api) fn example() -> Value {
        let mut issued = WebhookShown::example();
        issued["secret"] = "whsec_…".into();
        issued
    }

    /// One after a rotation, for documentation.
    pub(in crate::api) fn rotated_example() -> Value {
        let mut rotated = Self::example();
        rotated["rotated_at"] = "2026-11-22T10:00:00.000Z".into();
        rotated["previous_secret_ends_at"] = "2026-11-23T10:00:00.000Z".into();
        rotated
    }
}

/// Some webhooks, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct WebhookList {
    pub(in crate::api) webhooks: Vec<WebhookShown>,
    /// To be given as `cursor` for those after these; null where there are none.
    pub(in crate::api) next_cursor: Option<String>,
}

impl WebhookList {
    /// One for documentation.
    pub(in crate::api) fn example() -> Value {
        json!({"webhooks": [WebhookShown::example()], "next_cursor": null})
    }
}

/// One attempt to deliver a message.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Delivery {
    /// When it began.
    #[schema(format = DateTime)]
    at: String,
    /// The id of the event: `webhook-id` in the message.
    #[schema(example = "evt_01m5k3v0q8f7c2d9x4e6t1r5ye")]
    event: String,
    /// Of what kind that is.
    #[schema(example = "key.revoked")]
    r#type: &'static str,
    /// Which attempt for this message: from 1. 0 where none is made, since too many messages waited: `error` is `dropped`.
    attempt: u32,
    /// Whether the receiver took it, which 200 to 299 means.
    delivered: bool,
    /// The status of the answer; null where there was none.
    status: Option<u16>,
    /// Why there was none.
    error: Option<&'static str>,
    /// How long it took.
    duration_ms: u64,
    /// When the next attempt is due; null where there is none.
    #[schema(format = DateTime)]
    next_attempt_at: Option<String>,
}

impl From<&Attempt> for Delivery {
    fn from(attempt: &Attempt) -> Self {
        let (status, error) = match attempt.outcome {
            Outcome::Status(status) => (Some(status), None),
            Outcome::Failed(why) => (None, Some(why.name())),
        };
        Self {
            at: attempt.at.to_string(),
            event: attempt.event.to_string(),
            r#type: attempt.kind.name(),
            attempt: attempt.number,
            delivered: attempt.outcome.is_success(),
            status,
            error,
            duration_ms: attempt.took,
            next_attempt_at: attempt.next.map(|due| due.to_string()),
        }
    }
}

/// The last attempts for a webhook, latest first.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct DeliveryList {
    pub(in crate::api) deliveries: Vec<Delivery>,
    /// How many messages wait for an attempt.
    pub(in crate::api) waiting: usize,
}

impl DeliveryList {
    /// One for documentation.
    pub(in crate::api) fn example() -> Value {
        let one = |at: &str, number: u32, status: Value, error: Value, next: Value| {
            json!({
                "at": at, "event": "evt_01m5k3v0q8f7c2d9x4e6t1r5ye", "type": "key.revoked", "attempt": number,
                "delivered": status == 204, "status": status, "error": error, "duration_ms": 31, "next_attempt_at": next
            })
        };
        let second = one("2026-11-22T09:00:06.125Z", 2, 204.into(), Value::Null, Value::Null);
        let first =
            one("2026-11-22T09:00:00.250Z", 1, Value::Null, "connect".into(), "2026-11-22T09:00:06.120Z".into());
        json!({"deliveries": [second, first], "waiting": 0})
    }
}

/// That a test is on its way.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct TestSent {
    /// The id of its event, to be found among the deliveries.
    #[schema(example = "evt_01m5k3v0q8f7c2d9x4e6t1r5ye")]
    pub(in crate::api) event: String,
}

/// What a new webhook shall be.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read as `KeyOrder` is")]
pub(in crate::api) struct WebhookOrder {
    /// Where messages go: https, at a public address.
    #[schema(min_length = 9, max_length = 2048, example = "https://hooks.example.com/portico")]
    url: String,
    /// Which events it shall be told of.
    #[schema(min_items = 1, max_items = 9, example = json!(["key.revoked", "quota.reached"]))]
    events: Vec<String>,
    /// Whether it shall be told of any yet; true is the default.
    enabled: Option<bool>,
    /// Slug or id of the org of the key that asks, which is the default too.
    #[schema(example = "acme")]
    org: Option<String>,
}

/// What of a webhook shall be otherwise.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read as `KeyOrder` is")]
pub(in crate::api) struct WebhookEdit {
    /// Where messages go: https, at a public address.
    #[schema(min_length = 9, max_length = 2048, example = "https://hooks.example.com/portico")]
    url: Option<String>,
    /// Which events it shall be told of: the whole new set.
    #[schema(min_items = 1, max_items = 9, example = json!(["key.revoked"]))]
    events: Option<Vec<String>>,
    /// Whether it shall be told of any. Where it is not, what waits for it is forgotten.
    enabled: Option<bool>,
}

/// How a webhook gets another secret.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read as `KeyOrder` is")]
pub(in crate::api) struct SecretOrder {
    /// Seconds for which messages are signed with the present secret too; 86400 (a day) is the default.
    #[schema(minimum = 0, maximum = 2_592_000, example = 3600)]
    overlap: Option<u32>,
    /// Also while the secret before the present one still signs: that ends then.
    force: Option<bool>,
}
