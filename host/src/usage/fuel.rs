//! Fuel by policy: what each of them burnt in one exchange.
//!
//! Bounded, and so without an allocation: what is told apart of an exchange is the same wherever it is written down.

use smallvec::{Array, SmallVec};

use super::names::Policy;

/// Policies of one exchange that are told apart, `other` among them.
pub const MOST_POLICIES: usize = 8;

/// What policies burnt in one exchange, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fuel(SmallVec<[(Policy, u64); MOST_POLICIES]>);

impl Fuel {
    /// Adds what a policy burnt. Those beyond the bound are one, without a name.
    pub fn add(&mut self, policy: Policy, fuel: u64) {
        add(&mut self.0, MOST_POLICIES, policy, fuel);
    }

    /// Each policy with what it burnt.
    pub fn by_policy(&self) -> &[(Policy, u64)] {
        &self.0
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, (_, fuel)| sum.saturating_add(*fuel))
    }
}

/// Adds to the one that is there, or as another one; the last of so many stands for all that find no place.
pub(super) fn add<A: Array<Item = (Policy, u64)>>(sums: &mut SmallVec<A>, most: usize, policy: Policy, fuel: u64) {
    let is_full = sums.len() + 1 >= most;
    let find = |policy| sums.iter().position(|(known, _)| *known == policy);
    let known = find(policy).or_else(|| if is_full { find(Policy::NONE) } else { None });
    match known.and_then(|at| sums.get_mut(at)) {
        Some((_, sum)) => *sum = sum.saturating_add(fuel),
        None => sums.push((if is_full { Policy::NONE } else { policy }, fuel)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Names;

    #[test]
    fn beyond_the_bound_policies_are_one_and_no_fuel_is_lost() {
        let names = Names::default();
        let mut fuel = Fuel::default();
        for round in 0..3 {
            for number in 0..20 {
                fuel.add(names.policy(&format!("p{number}")), 10 + round);
            }
        }
        assert!(!fuel.0.spilled());
        assert_eq!((fuel.by_policy().len(), fuel.total()), (MOST_POLICIES, 3 * 20 * 11));
        assert_eq!(fuel.by_policy()[0], (names.policy("p0"), 33));
        assert_eq!(fuel.by_policy()[MOST_POLICIES - 1], (Policy::NONE, 13 * 33));
        assert_eq!(&*names.policy_name(Policy::NONE), "other");
    }
}
