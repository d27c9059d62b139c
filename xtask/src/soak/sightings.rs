//! When each version was first seen by any of those that call: the moment from which it serves.
//!
//! A connection of its own that asks would be one more of those that wait for their turn, and would measure that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::FIRST;

/// A place for each version, from [`FIRST`] on.
pub(super) struct Sightings {
    since: Instant,
    /// Nanoseconds since then; 0 for one that was not seen.
    first: Vec<AtomicU64>,
}

impl Sightings {
    /// Places for so many versions.
    pub(super) fn of(versions: u32) -> Self {
        Self { since: Instant::now(), first: (0..versions).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Notes that a version has answered just now.
    pub(super) fn note(&self, version: &str) {
        let Some(place) = number(version).and_then(|number| self.place(number)) else { return };
        if place.load(Ordering::Acquire) == 0 {
            let now = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1);
            // Whoever came first saw it first, or so soon after that it is the same.
            let _ = place.compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire);
        }
    }

    /// Has a version seen anew. It must not serve now, nor have served a moment ago: an answer that is still on its way would
    /// be taken for one to come.
    pub(super) fn forget(&self, number: u32) {
        if let Some(place) = self.place(number) {
            place.store(0, Ordering::Release);
        }
    }

    /// How long after this moment a version answered first, if it did.
    pub(super) fn after(&self, moment: Instant, number: u32) -> Option<Duration> {
        let seen = self.place(number)?.load(Ordering::Acquire);
        (seen > 0).then(|| (self.since + Duration::from_nanos(seen)).saturating_duration_since(moment))
    }

    fn place(&self, number: u32) -> Option<&AtomicU64> {
        self.first.get(usize::try_from(number.checked_sub(FIRST)?).ok()?)
    }
}

fn number(version: &str) -> Option<u32> {
    version.rsplit('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_answer_counts_and_no_other() {
        let sightings = Sightings::of(3);
        let begun = Instant::now();
        let version = |number: u32| format!("0.0.{number}");
        sightings.note(&version(FIRST + 1));
        let seen = sightings.after(begun, FIRST + 1).expect("it answered");
        std::thread::sleep(Duration::from_millis(1));
        sightings.note(&version(FIRST + 1));
        assert_eq!(sightings.after(begun, FIRST + 1), Some(seen));
        assert_eq!(sightings.after(begun, FIRST + 2), None);
        // What nobody waits for is passed over.
        for odd in ["0.0.1", "0.0.100003", "0.0.x", ""] {
            sightings.note(odd);
        }
        sightings.forget(FIRST + 1);
        assert_eq!(sightings.after(begun, FIRST + 1), None);
    }
}
