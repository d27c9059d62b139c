//! `[keys]`: how many keys an org may have, and when those that have ended are forgotten.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::Keys;
use crate::config::form::duration;
use crate::config::read::Table;

/// How long what has ended is known: long enough that nothing is written about its use any more.
const FORGET_AFTER: RangeInclusive<Duration> = Duration::from_secs(3600)..=Duration::from_secs(3650 * 86_400);

/// Reads `[keys]`.
pub(super) fn keys(mut table: Table<'_>) -> Option<Keys> {
    let most = table.integer("most", 10_000, 1..=10_000_000);
    let hot = table.integer("hot", 1_000_000, 1..=100_000_000);
    let forget_after = table.text("forget_after", "90d", duration(FORGET_AFTER));
    table.finish();
    Some(Keys { most: most?, hot: hot?, forget_after: forget_after? })
}
