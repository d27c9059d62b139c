//! `[webhooks]`: whom messages may go to beside the public Internet, and how often they are tried.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::origin::is_host;
use crate::config::form::{Fault, duration, shown};
use crate::config::read::Table;
use crate::config::{Reach, Webhooks};

/// Time for one attempt.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
/// Pauses between attempts.
const PAUSE: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(86_400);
/// How long it goes on. The default of `attempts` is more than fit into that of this.
const AGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);

/// Reads `[webhooks]`.
pub(super) fn webhooks(mut table: Table<'_>) -> Option<Webhooks> {
    let private = table.list("private", 64).and_then(|items| {
        let read: Vec<_> = items.iter().map(|item| item.text(reach)).collect();
        read.into_iter().collect::<Option<Vec<_>>>()
    });
    let timeout = table.text("timeout", "10s", duration(TIMEOUT));
    let retry = table.text("retry", "10s", duration(PAUSE));
    let longest_retry = table.text("longest_retry", "6h", duration(PAUSE));
    let attempts = table.integer("attempts", 40, 1..=100);
    let max_age = table.text("max_age", "3d", duration(AGE));
    table.finish();
    Some(Webhooks {
        private: private?,
        timeout: timeout?,
        retry: retry?,
        longest_retry: longest_retry?,
        attempts: u32::try_from(attempts?).ok()?,
        max_age: max_age?,
    })
}

/// A network, an address (which is a network of one), or a name.
fn reach(text: &str) -> Result<Reach, Fault> {
    if let Ok(network) = text.parse() {
        return Ok(Reach::Network(network));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Reach::Network(address.into()));
    }
    if is_host(text) {
        return Ok(Reach::Host(text.to_ascii_lowercase()));
    }
    let form = "write a name such as \"hooks.internal\", an address or a network such as \"10.0.0.0/8\"";
    Err(Fault::from(format!("`{}` is no host and no network; {form}", shown(text))))
}
