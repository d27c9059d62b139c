//! The fuel that all calls about one body may use together.
//!
//! Pure sums. What may be used follows from the bytes and not from how they are cut: whoever sends a body byte by byte has a
//! guest called more often, and does not get more work from it than these bytes are worth.

use crate::config::Bounds;

/// So many calls' fuel there is for any body, however small.
const CALLS: u64 = 8;

/// What was used for one body, and what may be.
#[derive(Debug)]
pub(super) struct Budget {
    bounds: Bounds,
    bytes: u64,
    used: u64,
}

impl Budget {
    /// Of a body of which nothing came yet.
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, bytes: 0, used: 0 }
    }

    /// So many bytes more are passed to the policy.
    pub(super) fn passed(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// A call used so much.
    pub(super) fn used(&mut self, fuel: u64) {
        self.used = self.used.saturating_add(fuel);
    }

    /// What the next call may use: at most what any call may, and `None` where nothing is left.
    pub(super) fn of_call(&self) -> Option<u64> {
        let left = self.total().saturating_sub(u128::from(self.used));
        let call = u64::try_from(left).unwrap_or(u64::MAX).min(self.bounds.fuel);
        (call > 0).then_some(call)
    }

    fn total(&self) -> u128 {
        let by_size = u128::from(self.bounds.fuel_per_kib) * u128::from(self.bytes) / 1024;
        u128::from(self.bounds.fuel) * u128::from(CALLS) + by_size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const FUEL: u64 = 2_000_000;

    fn budget(fuel_per_kib: u64) -> Budget {
        let deadline = Duration::from_millis(20);
        Budget::new(Bounds { fuel: FUEL, fuel_per_kib, deadline, memory: 16 << 20, copied_out: 128 << 10 })
    }

    /// Calls that use all that they may, each with so many bytes, until nothing is left; how many there were, and what
    /// they used.
    fn drained(budget: &mut Budget, bytes: usize, most: usize) -> (usize, u64) {
        let mut used = 0;
        let calls = (0..most).take_while(|_| {
            budget.passed(bytes);
            let call = budget.of_call();
            call.inspect(|fuel| {
                budget.used(*fuel);
                used += fuel;
            })
            .is_some()
        });
        (calls.count(), used)
    }

    #[test]
    fn a_small_body_has_the_fuel_of_eight_calls() {
        assert_eq!(drained(&mut budget(1_000_000), 0, 100), (8, 8 * FUEL));
    }

    #[test]
    fn single_bytes_are_worth_no_more_than_all_at_once() {
        let mut by_byte = budget(1_000_000);
        let (_, used) = drained(&mut by_byte, 1, 1024);
        let mut at_once = budget(1_000_000);
        at_once.passed(1024);
        assert_eq!(used, 8 * FUEL + 1_000_000);
        assert_eq!(drained(&mut at_once, 0, 1024).1, used);
    }

    #[test]
    fn chunks_of_full_size_are_bounded_by_the_fuel_of_a_call_alone() {
        let (calls, used) = drained(&mut budget(1_000_000), 64 << 10, 100_000);
        assert_eq!((calls, used), (100_000, 100_000 * FUEL));
        assert_eq!(budget(0).of_call(), Some(FUEL), "and no call has more than that");
    }

    #[test]
    fn what_cannot_be_counted_bounds_as_the_largest_number() {
        let mut budget = budget(u64::MAX);
        budget.passed(usize::MAX);
        budget.passed(usize::MAX);
        budget.used(u64::MAX);
        budget.used(u64::MAX);
        assert_eq!(budget.of_call(), Some(FUEL));
    }
}
