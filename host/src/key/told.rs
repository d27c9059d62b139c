//! What is told of a key to whoever subscribed to its events. Never a secret, nor anything that one could be told by.

use serde_json::{Value, json};

use super::{Change, Kept, Key, Mode};
use crate::audit::Note;
use crate::clock::Millis;
use crate::outbox::{Event, Kind};

/// The kind of event that a change is.
pub(super) fn kind(change: &Change) -> Kind {
    match change {
        Change::Revoke(_) => Kind::KeyRevoked,
        Change::Scope { .. } => Kind::KeyScoped,
        Change::Rotate { .. } => Kind::KeyRotated,
    }
}

/// A key as it is after what a note says.
pub(super) fn event(kind: Kind, kept: &Kept, note: &Note) -> Event {
    let mut key = kept.facts();
    if let Value::Object(members) = &mut key {
        members.remove("pepper");
        members.insert("id".to_owned(), kept.key.id.to_string().into());
        members.insert("org".to_owned(), kept.key.org.to_string().into());
    }
    let by = json!({ "kind": note.actor.kind.name(), "id": note.actor.id });
    told(kind, &kept.key, note.at, json!({ "key": key, "by": by }))
}

/// A key whose time is over; none where that is not so, or it was revoked before.
pub fn expired(kept: &Kept) -> Option<Event> {
    let key = &kept.key;
    let end = key.expires().filter(|end| key.revoked().is_none_or(|revoked| revoked >= *end))?;
    let data = json!({
        "id": key.id.to_string(),
        "org": key.org.to_string(),
        "name": kept.name,
        "mode": key.mode,
        "scopes": key.scopes().iter().collect::<Vec<_>>(),
        "expires_at": end,
    });
    Some(told(Kind::KeyExpired, key, end, json!({ "key": data })))
}

fn told(kind: Kind, key: &Key, at: Millis, data: Value) -> Event {
    Event::new(kind, at, data).of(key.org, key.mode == Mode::Sandbox)
}
