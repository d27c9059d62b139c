//! What webhooks are told of the gateway itself: its components, its own API, and keys whose time is over.
//!
//! Blocks, as stores do: never called on a worker. What cannot be told is in the log, and holds up nothing.

use super::sentence;
use crate::api::public::{Fingerprint, Parts, fingerprint};
use crate::clock::Millis;
use crate::credential::Issuer;
use crate::data::Failure;
use crate::key::StoreError;
use crate::outbox::{Event, Kind, SledOutbox};
use crate::snapshot::{Outcome, Snapshot};
use crate::webhook::{Now, Webhooks};
use crate::worker::Gateway;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

/// The mark of the document that was told last.
const DOCUMENT: &str = "openapi";
/// The mark up to where ends of keys were told.
const ENDS: &str = "keys.expired";

/// Why nobody is told of the end of keys.
#[derive(Debug, thiserror::Error)]
enum Untold {
    /// They cannot be read.
    #[error(transparent)]
    Keys(#[from] StoreError),
    /// Events cannot be written.
    #[error(transparent)]
    Events(#[from] Failure),
}

/// The way from the gateway itself to webhooks.
pub(super) struct Telling {
    outbox: SledOutbox,
    webhooks: Arc<Webhooks>,
    /// The document is looked at by one at a time, so that the latest is looked at last.
    looking: Mutex<()>,
}

impl Telling {
    pub(super) fn new(outbox: SledOutbox, webhooks: Arc<Webhooks>) -> Self {
        Self { outbox, webhooks, looking: Mutex::default() }
    }

    /// From now on messages are sent as this snapshot says.
    pub(super) fn configure(&self, snapshot: &Snapshot) {
        self.webhooks.configure(now(snapshot));
    }

    /// Looks whether the gateway's own API is described in other words than the last time.
    pub(super) fn look_at_document(&self, gateway: &Gateway) {
        let _one = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = gateway.live.load_full();
        let Fingerprint { whole, pillars } = fingerprint(Parts::from(&*snapshot));
        let is = json!({ "digest": whole, "pillars": pillars }).to_string();
        let told = || -> Result<(), Failure> {
            let Some(was) = self.outbox.mark(DOCUMENT)? else {
                // Nobody knew another one.
                return self.outbox.append_marked(DOCUMENT, is.as_bytes(), &[]);
            };
            let (before, known) = told_of(&was);
            if before == whole {
                return Ok(());
            }
            let differs = |name: &&String| known.get(*name) != pillars.get(*name);
            let changed: BTreeSet<&String> = known.keys().chain(pillars.keys()).filter(differs).collect();
            let data = json!({
                "digest": whole, "before": before, "pillars": changed, "version": env!("CARGO_PKG_VERSION"), "path": "/openapi.json",
            });
            let event = Event::new(Kind::OpenapiChanged, gateway.clock.now(), data);
            self.outbox.append_marked(DOCUMENT, is.as_bytes(), &[event])
        };
        not_told(told(), Kind::OpenapiChanged);
    }

    /// Another component serves for a policy than the one with this digest.
    pub(super) fn swapped(&self, outcome: &Outcome, before: &str, now: Millis) {
        let data = json!({
            "policy": outcome.policy, "plugin": outcome.plugin, "version": outcome.version,
            "digest": outcome.serving.digest, "before": before,
        });
        not_told(self.outbox.append(&[Event::new(Kind::PluginSwapped, now, data)]), Kind::PluginSwapped);
    }

    /// A component was refused, for these reasons.
    pub(super) fn refused(&self, outcome: &Outcome, digest: Option<&str>, reasons: &[String], now: Millis) {
        let data = json!({
            "policy": outcome.policy, "plugin": outcome.plugin, "digest": digest,
            "serving": outcome.serving.digest, "reasons": reasons,
        });
        not_told(self.outbox.append(&[Event::new(Kind::PluginRefused, now, data)]), Kind::PluginRefused);
    }

    /// Tells of keys whose time is over since the last look. At the first of all, none.
    pub(super) async fn ended(&self, issuer: &Issuer, now: Millis) {
        let told = async {
            let mark = self.outbox.mark(ENDS)?.and_then(|mark| Some(u64::from_be_bytes(mark.try_into().ok()?)));
            if mark == Some(now.0) {
                return Ok(());
            }
            if let Some(since) = mark {
                issuer.ended(Millis(since), now, |events| Ok::<_, Untold>(self.outbox.append(&events)?)).await?;
            }
            // Also where the clock was set back, perhaps by years: all ends from now on are told. What is told twice for that, or
            // because this was cut off, is the same event, by its id.
            Ok(self.outbox.append_marked(ENDS, &now.0.to_be_bytes(), &[])?)
        };
        let told: Result<(), Untold> = told.await;
        if let Err(error) = told {
            tracing::error!(event = Kind::KeyExpired.name(), "webhooks are not told: {}", sentence(&error));
        }
    }
}

/// The digests of the document that was told last: of the whole, and of pillars. Before 0.1 that of the whole stood alone.
fn told_of(mark: &[u8]) -> (String, BTreeMap<String, String>) {
    let text = String::from_utf8_lossy(mark);
    let Ok(Value::Object(mut both)) = serde_json::from_str::<Value>(&text) else {
        return (text.into_owned(), BTreeMap::new());
    };
    let pillars = both.remove("pillars").and_then(|pillars| serde_json::from_value(pillars).ok());
    let digest = both.get("digest").and_then(Value::as_str).unwrap_or_default();
    (digest.to_owned(), pillars.unwrap_or_default())
}

/// What a snapshot says of messages.
pub(super) fn now(snapshot: &Snapshot) -> Now {
    Now { settings: snapshot.config.webhooks.clone(), roots: snapshot.roots.clone() }
}

fn not_told(outcome: Result<(), Failure>, kind: Kind) {
    if let Err(error) = outcome {
        tracing::error!(event = kind.name(), "webhooks are not told: {}", sentence(&error));
    }
}
