//! What can happen to a webhook after it was made, and what comes of it. Knows no store: one state in, the next one out.

use std::time::Duration;

use super::record::{Previous, State, Webhook};
use super::secret::Sealed;
use crate::clock::Millis;
use crate::outbox::Kind;

/// What is to be otherwise; what is not given stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edit {
    /// Where messages go.
    pub url: Option<String>,
    /// Which events it is told of.
    pub events: Option<Vec<Kind>>,
    /// Whether it is told of any.
    pub enabled: Option<bool>,
}

/// What is to happen to a webhook.
#[derive(Debug, Clone)]
pub enum Change {
    /// Its owner wants it otherwise.
    Edit(Edit),
    /// It has another secret, and the present one signs on for a while.
    Rotate {
        /// The other one.
        secret: Sealed,
        /// When.
        at: Millis,
        /// For how long.
        overlap: Duration,
        /// Also while the one before the present one still signs; that one ends then.
        force: bool,
    },
    /// The receiver at this address wants no more.
    Gone {
        /// Where it is. What another address said is no reason.
        url: String,
    },
}

/// Why a webhook stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unchangeable {
    /// The secret before the present one still signs.
    #[error("the webhook is being rotated until {until}")]
    RotationInProgress {
        /// Until when.
        until: Millis,
    },
}

impl Webhook {
    /// Carries out a change. Whether anything is different since.
    pub(super) fn apply(&mut self, change: &Change) -> Result<bool, Unchangeable> {
        let before = self.clone();
        match change.clone() {
            Change::Edit(Edit { url, events, enabled }) => {
                self.url = url.unwrap_or(before.url.clone());
                self.moved = before.moved.saturating_add(u32::from(self.url != before.url));
                self.events = events.unwrap_or(before.events.clone());
                match enabled {
                    Some(true) => self.state = State::Enabled,
                    Some(false) if self.state == State::Enabled => self.state = State::Disabled,
                    Some(false) | None => {}
                }
            }
            Change::Rotate { secret, at, overlap, force } => {
                if let Some(until) = self.previous_until(at).filter(|_| !force) {
                    return Err(Unchangeable::RotationInProgress { until });
                }
                self.previous = Some(Previous { secret: before.secret.clone(), until: at.plus(overlap) });
                self.secret = secret;
                self.rotated = Some(at);
            }
            Change::Gone { url } if self.state == State::Enabled && self.url == url => self.state = State::Gone,
            Change::Gone { .. } => {}
        }
        Ok(*self != before)
    }
}
