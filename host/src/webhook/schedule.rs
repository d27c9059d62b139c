//! When a message that was not taken is tried again: with pauses that double, each somewhere between half of its bound and the whole.
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
    let shortest = longest / 2;
    let pause = Duration::from_millis(shortest + chance % (longest - shortest + 1));
    let asked = now.plus(asked.unwrap_or_default().min(settings.longest_retry));
    // The last attempt is made when the time is over, not some hours before that.
    let last = since.plus(settings.max_age);
    let due = now.plus(pause).min(last).max(asked);
    (failed < settings.attempts && now < last && due <= last).then_some(due)
}
