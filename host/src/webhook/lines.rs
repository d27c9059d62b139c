//! What waits for which webhook, and whose turn it is. Knows no store and no receiver.
//!
//! Each webhook has a line of its own, so one that is slow holds up nobody else; whose turn it is goes round.

use std::collections::{BTreeMap, BTreeSet};

use super::store::Waiting;
use crate::clock::Millis;
use crate::id::{EventId, WebhookId};

/// Attempts for one webhook at once.
pub(super) const EACH: usize = 4;
/// Attempts for all webhooks at once.
pub(super) const ALL: usize = 256;
/// Letters that may wait for one webhook; what happens beyond that it is not told of.
pub(super) const LONGEST: usize = 10_000;

/// All lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: BTreeMap<WebhookId, Line>,
    under_way: usize,
    /// Whose turn was last.
    last: Option<WebhookId>,
}

#[derive(Debug, Default)]
struct Line {
    due: BTreeSet<(Millis, EventId)>,
    under_way: usize,
}

impl Lines {
    /// One more letter waits.
    pub(super) fn add(&mut self, Waiting { due, webhook, event }: Waiting) {
        self.lines.entry(webhook).or_default().due.insert((due, event));
    }

    /// How many letters wait or are under way.
    pub(super) fn len(&self) -> usize {
        self.lines.values().map(|line| line.due.len() + line.under_way).sum()
    }

    /// Nothing waits for this webhook any more; what is under way is.
    pub(super) fn forget(&mut self, webhook: WebhookId) {
        let Some(line) = self.lines.get_mut(&webhook) else { return };
        line.due.clear();
        if line.under_way == 0 {
            self.lines.remove(&webhook);
        }
    }

    /// Nothing is due later than this. What was is from a clock that has been set back since.
    pub(super) fn cap(&mut self, latest: Millis) {
        for line in self.lines.values_mut() {
            let late = line.due.split_off(&(Millis(latest.0.saturating_add(1)), EventId::from_number(0)));
            line.due.extend(late.into_iter().map(|(_, event)| (latest, event)));
        }
    }

    /// How many letters wait for this webhook or are under way.
    pub(super) fn count(&self, webhook: WebhookId) -> usize {
        self.lines.get(&webhook).map_or(0, |line| line.due.len() + line.under_way)
    }

    /// The next letter that is due and may be sent, which is under way since.
    pub(super) fn take(&mut self, now: Millis) -> Option<(WebhookId, EventId)> {
        if self.under_way >= ALL {
            return None;
        }
        let ready = |line: &Line| line.under_way < EACH && line.due.first().is_some_and(|(due, _)| *due <= now);
        let after = self.lines.iter().filter(|(id, _)| self.last.is_some_and(|last| **id > last));
        let webhook = after.chain(&self.lines).find(|(_, line)| ready(line)).map(|(id, _)| *id)?;
        let line = self.lines.get_mut(&webhook)?;
        let (_, event) = line.due.pop_first()?;
        line.under_way += 1;
        self.under_way += 1;
        self.last = Some(webhook);
        Some((webhook, event))
    }

    /// A letter is no longer under way; perhaps it is due again.
    pub(super) fn done(&mut self, webhook: WebhookId, event: EventId, next: Option<Millis>) {
        self.under_way = self.under_way.saturating_sub(1);
        let Some(line) = self.lines.get_mut(&webhook) else { return };
        line.under_way = line.under_way.saturating_sub(1);
        line.due.extend(next.map(|due| (due, event)));
        if line.due.is_empty() && line.under_way == 0 {
            self.lines.remove(&webhook);
        }
    }

    /// When the next letter is due for which there is a place.
    pub(super) fn next(&self) -> Option<Millis> {
        let free = self.lines.values().filter(|line| line.under_way < EACH && self.under_way < ALL);
        free.filter_map(|line| line.due.first()).map(|(due, _)| *due).min()
    }
}
