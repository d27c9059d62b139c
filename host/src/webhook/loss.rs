//! How often the log says that messages are lost, since too many wait: once, and then once a minute with their number.
//!
//! Which ones are lost is among the deliveries of their webhook.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::id::WebhookId;

/// Between two lines about one webhook.
const PAUSE: Duration = Duration::from_secs(60);

/// What was lost since the log said so.
#[derive(Debug, Default)]
pub(super) struct Losses {
    silent: HashMap<WebhookId, (Option<Instant>, u64)>,
}

impl Losses {
    /// One more message is lost. How many there were since the last line, where it is time for another one.
    pub(super) fn lost(&mut self, webhook: WebhookId, now: Instant) -> Option<u64> {
        let (said, silent) = self.silent.entry(webhook).or_default();
        *silent += 1;
        if said.is_some_and(|said| now.duration_since(said) < PAUSE) {
            return None;
        }
        *said = Some(now);
        Some(std::mem::take(silent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_loss_is_told_at_once_and_the_next_ones_together() {
        let (mut losses, now) = (Losses::default(), Instant::now());
        let (one, other) = (WebhookId::from_number(1), WebhookId::from_number(2));
        assert_eq!([0, 59, 59].map(|at| losses.lost(one, now + Duration::from_secs(at))), [Some(1), None, None]);
        assert_eq!(losses.lost(other, now + Duration::from_secs(59)), Some(1));
        assert_eq!([60, 61].map(|at| losses.lost(one, now + Duration::from_secs(at))), [Some(3), None]);
    }
}
