//! Wrong admin tokens, counted by address, so that nobody can go on guessing.
//!
//! Bounded: however many addresses come, only so many are remembered; those beyond share one count.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Millis;
use crate::config::counted_address;

/// Wrong tokens that one address may show in a window.
const ALLOWED: u32 = 20;
const WINDOW: Duration = Duration::from_secs(60);
const ADDRESSES: usize = 1_024;
/// Where someone comes from whose address is not known.
pub(super) const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const ALL_OTHERS: IpAddr = NOWHERE;

/// The counts.
#[derive(Default)]
pub(super) struct Attempts(Mutex<HashMap<IpAddr, Count>>);

struct Count {
    since: Millis,
    failures: u32,
}

impl Attempts {
    /// How long this address must wait, where it must.
    pub(super) fn wait(&self, address: IpAddr, now: Millis) -> Option<Duration> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = counts.len() >= ADDRESSES;
        let count = counts.get(&counted_address(address)).or_else(|| counts.get(&ALL_OTHERS).filter(|_| full))?;
        let end = count.since.plus(WINDOW);
        (count.failures >= ALLOWED && now < end).then(|| end.since(now))
    }

    /// Notes a wrong token from this address.
    pub(super) fn note_failure(&self, address: IpAddr, now: Millis) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= ADDRESSES {
            counts.retain(|_, count| now < count.since.plus(WINDOW));
        }
        let address = counted_address(address);
        let full = counts.len() >= ADDRESSES && !counts.contains_key(&address);
        let count = counts.entry(if full { ALL_OTHERS } else { address }).or_insert(Count { since: now, failures: 0 });
        if now >= count.since.plus(WINDOW) {
            *count = Count { since: now, failures: 0 };
        }
        count.failures = count.failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Millis = Millis(1_000_000);

    fn address(last: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + last))
    }

    #[test]
    fn whoever_fails_too_often_waits_and_nobody_else_does() {
        let attempts = Attempts::default();
        for _ in 0..ALLOWED {
            assert_eq!(attempts.wait(address(1), START), None);
            attempts.note_failure(address(1), START);
        }
        let later = START.plus(Duration::from_secs(20));
        assert_eq!(attempts.wait(address(1), later), Some(Duration::from_secs(40)));
        assert_eq!(attempts.wait(address(2), later), None);
        let over = START.plus(WINDOW);
        assert_eq!(attempts.wait(address(1), over), None);
        attempts.note_failure(address(1), over);
        assert_eq!(attempts.wait(address(1), over), None);
    }

    #[test]
    fn a_flood_of_addresses_stays_bounded_and_is_counted_as_one() {
        let attempts = Attempts::default();
        for last in 0..5_000 {
            attempts.note_failure(address(last), START);
        }
        assert!(attempts.0.lock().unwrap().len() <= ADDRESSES + 1);
        assert!(attempts.wait(address(9_999), START).is_some());
        attempts.note_failure(address(9_999), START.plus(WINDOW));
        assert!(attempts.0.lock().unwrap().len() <= 2);
    }
}
