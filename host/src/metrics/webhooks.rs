//! Webhooks: how many there are, attempts by what came of them, and messages that wait.

use super::family::Family;
use crate::webhook::{State, Webhooks};
use std::fmt;

pub(super) fn tell(family: &mut Family<'_>, webhooks: &Webhooks) -> fmt::Result {
    let all = webhooks.after(None, |_| true);
    let in_state = |state: State| all.iter().filter(|webhook| webhook.state == state).count() as f64;
    let states = [("enabled", State::Enabled), ("disabled", State::Disabled), ("gone", State::Gone)];
    family.gauge(
        "portico_webhooks",
        "Webhooks that there are, by state.",
        states.map(|(name, state)| ([("state", name)], in_state(state))),
    )?;
    let figures = webhooks.figures();
    let attempts = [("taken", figures.taken), ("refused", figures.refused), ("unanswered", figures.unanswered)];
    family.counter(
        "portico_webhook_attempts",
        "Attempts to deliver a message, by what came of them.",
        attempts.map(|(outcome, times)| ([("outcome", outcome)], times)),
    )?;
    family.count(
        "portico_webhook_given_up",
        "Messages that were given up after their last attempt.",
        figures.given_up,
    )?;
    family.figure(
        "portico_webhook_messages_waiting",
        "Messages that wait for an attempt or are under way.",
        figures.waiting as f64,
    )
}
