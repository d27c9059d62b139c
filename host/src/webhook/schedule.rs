//! When a message that was not taken is tried again: with pauses that double, each somewhere between nothing and its bound.
//!
//! Pure: the time and the chance are given.

use std::time::Duration;

use crate::clock::Millis;
use crate::config::Webhooks;

/// The longest pause after so many failed attempts.
pub(super) fn bound(settings: &Webhooks, failed: u32) -> Duration {
    let doubled = 1_u32.checked_shl(failed.saturating_sub(1)).and_then(|factor| settings.retry.checked_mul(factor));
    doubled.unwrap_or(settings.longest_retry).min(settings.longest_retry)
}

/// When the next attempt is due after so many failed ones, the first message having been due at `since`; none where enough was
/// tried. `asked` is for how long the receiver wants to be left alone.
pub(super) fn next(
    settings: &Webhooks,
    (failed, since): (u32, Millis),
    now: Millis,
    chance: u64,
    asked: Option<Duration>,
) -> Option<Millis> {
    let longest = u64::try_from(bound(settings, failed).as_millis()).unwrap_or(u64::MAX - 1);
    let pause = Duration::from_millis(chance % (longest + 1));
    let pause = pause.max(asked.unwrap_or_default().min(settings.longest_retry));
    let due = now.plus(pause);
    (failed < settings.attempts && due.since(since) <= settings.max_age).then_some(due)
}
