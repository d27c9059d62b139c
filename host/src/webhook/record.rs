//! A webhook with all that is kept of it. Knows no store.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::address::shown;
use super::secret::Sealed;
use crate::clock::Millis;
use crate::id::{OrgId, WebhookId};
use crate::outbox::{Event, Kind};

/// A subscription of an org to events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// Its id.
    pub id: WebhookId,
    /// Whose it is.
    pub org: OrgId,
    /// Where messages go.
    pub url: String,
    /// How often that was changed.
    #[serde(default)]
    pub(super) moved: u32,
    /// Which events it is told of; sorted, each once.
    pub events: Vec<Kind>,
    /// Whether it is told of any.
    pub state: State,
    /// Whether a sandbox key made it: then it hears of sandbox keys only.
    pub sandbox: bool,
    /// The id of the token or the key that made it; none where that was the super-admin.
    pub maker: Option<String>,
    /// When it was made.
    pub created: Millis,
    /// When it was last given another secret.
    pub rotated: Option<Millis>,
    /// Its present secret.
    pub(super) secret: Sealed,
    /// The one before, also when its time is over.
    pub(super) previous: Option<Previous>,
}

/// The secret before the present one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Previous {
    /// The secret.
    pub(super) secret: Sealed,
    /// Until when messages are signed with it too.
    pub(super) until: Millis,
}

/// Whether a webhook is told of anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is.
    Enabled,
    /// Its org does not want it to be.
    Disabled,
    /// Its receiver said 410: it wants no more, for good.
    Gone,
}

impl Webhook {
    /// Whether it is to be told of this.
    pub fn wants(&self, event: &Event) -> bool {
        let subscribed = match event.only {
            Some(only) => only == self.id,
            None => self.events.contains(&event.kind),
        };
        let own = event.org.is_none_or(|org| org == self.org);
        self.state == State::Enabled && subscribed && own && (!self.sandbox || event.sandbox || event.org.is_none())
    }

    /// Whether it is told what only whoever runs the gateway may know.
    pub fn is_of_operators(&self) -> bool {
        self.events.iter().any(|kind| kind.is_of_operators())
    }

    /// Whether the same people of one org see both.
    pub(super) fn is_for_the_same_as(&self, other: &Self) -> bool {
        let who = |webhook: &Self| (webhook.org, webhook.sandbox, webhook.is_of_operators());
        who(self) == who(other)
    }

    /// Until when the secret before the present one signs too, where it does.
    pub fn previous_until(&self, now: Millis) -> Option<Millis> {
        self.previous.as_ref().map(|previous| previous.until).filter(|until| *until > now)
    }

    /// What the audit log says of it: all but its secrets, and of its address where that is and how often it was another one.
    pub fn facts(&self) -> Value {
        json!({
            "url": shown(&self.url),
            "url_changes": self.moved,
            "events": self.events,
            "state": self.state,
            "mode": if self.sandbox { "sandbox" } else { "live" },
            "rotated_at": self.rotated,
            "previous_ends_at": self.previous.as_ref().map(|previous| previous.until),
        })
    }
}
