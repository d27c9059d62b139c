//! Keys whose time is over, for whoever is to be told.

use std::collections::HashSet;

use super::Issuer;
use crate::clock::Millis;
use crate::key;
use crate::outbox::Event;

impl Issuer {
    /// Events of keys whose time ended after `since`, and not after `until`. Looks at all keys.
    pub fn ended(&self, since: Millis, until: Millis) -> Vec<Event> {
        let (mut seen, mut events) = (HashSet::new(), Vec::new());
        self.ring.each(|key| {
            let ended = key.terms.expires.is_some_and(|end| end > since && end <= until);
            // One that was rotated comes twice.
            if ended && seen.insert(key.id) {
                events.extend(key::expired(key));
            }
        });
        events
    }
}
