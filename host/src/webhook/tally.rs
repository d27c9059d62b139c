//! What was done for webhooks since the start, for the metrics.
//!
//! Written on the control runtime by the task that sends, and by nobody else.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Outcome;
use crate::clock::Millis;

/// What was done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Attempts that were answered with 200 to 299.
    pub taken: u64,
    /// Attempts that were answered with something else.
    pub refused: u64,
    /// Attempts that got no answer.
    pub unanswered: u64,
    /// Messages that nobody tries any more.
    pub given_up: u64,
    /// Messages that wait for an attempt, or are under way.
    pub waiting: u64,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    taken: AtomicU64,
    refused: AtomicU64,
    unanswered: AtomicU64,
    given_up: AtomicU64,
    waiting: AtomicU64,
}

impl Tally {
    /// An attempt ended; the next one is due then, where there is one.
    pub(super) fn tried(&self, outcome: Outcome, next: Option<Millis>) {
        let count = match outcome {
            Outcome::Status(_) if outcome.is_success() => &self.taken,
            Outcome::Status(_) => &self.refused,
            Outcome::Failed(_) => &self.unanswered,
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.given_up.fetch_add((!outcome.is_success() && next.is_none()).into(), Ordering::Relaxed);
    }

    /// So many wait now.
    pub(super) fn wait(&self, messages: usize) {
        self.waiting.store(messages as u64, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Figures {
        let read = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        Figures {
            taken: read(&self.taken),
            refused: read(&self.refused),
            unanswered: read(&self.unanswered),
            given_up: read(&self.given_up),
            waiting: read(&self.waiting),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::Failed;

    #[test]
    fn attempts_are_told_apart_by_what_came_of_them() {
        let (tally, later) = (Tally::default(), Some(Millis(1)));
        tally.tried(Outcome::Status(204), None);
        tally.tried(Outcome::Status(302), later);
        tally.tried(Outcome::Failed(Failed::TimedOut), later);
        tally.tried(Outcome::Failed(Failed::Connect), None);
        tally.wait(3);
        let expected = Figures { taken: 1, refused: 1, unanswered: 2, given_up: 1, waiting: 3 };
        assert_eq!(tally.read(), expected);
    }
}
