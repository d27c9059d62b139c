//! One worker's sums since the last drain.
//!
//! Belongs to one thread: no lock, no atomic. Adding to a row that is there allocates nothing.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::mem;

use smallvec::SmallVec;

use super::{Caller, Counts, Day, MAX_POLICIES, Mark, Names, Pillar, Policy, Record, Route, Usage, fuel};

/// A worker's rows, at most so many between two drains.
#[derive(Debug)]
pub struct Tally {
    rows: HashMap<Row, Sums>,
    max_rows: usize,
}

/// What a worker counted between two drains.
#[derive(Debug, Default)]
pub struct Batch {
    rows: HashMap<Row, Sums>,
    /// How far the worker's journal is in the sums with this batch; `None` where that is as before.
    pub mark: Option<Mark>,
}

/// Sums of a row, before policies have names.
#[derive(Debug, Default)]
struct Sums {
    counts: Counts,
    fuel: SmallVec<[(Policy, u64); 4]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    caller: Caller,
    pillar: Pillar,
    route: Route,
    day: Day,
}

impl Hash for Row {
    /// By one id and one number: the others follow from them, but for rare neighbours.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.caller.key.or(self.caller.org).unwrap_or_default());
        (self.pillar, self.route).hash(state);
    }
}

impl Sums {
    fn count(&mut self, usage: &Usage<'_>) {
        self.counts.count(usage);
        for (policy, burnt) in usage.fuel_by_policy {
            fuel::add(&mut self.fuel, MAX_POLICIES, *policy, *burnt);
        }
    }
}

impl Tally {
    /// Without any row. What comes beyond `max_rows` (between two drains) is counted in one row for each day, without caller,
    /// pillar and rule: nothing is lost from the totals, but it can no longer be attributed. 65,536 is more than a worker fills in a
    /// second.
    pub fn new(max_rows: usize) -> Self {
        Self { rows: HashMap::new(), max_rows }
    }

    /// Adds what one exchange consumed.
    pub fn add(&mut self, usage: &Usage<'_>) {
        let day = Day::of(usage.at);
        let row = Row { caller: usage.caller, pillar: usage.pillar, route: usage.route, day };
        if let Some(sums) = self.rows.get_mut(&row) {
            sums.count(usage);
            return;
        }
        let unattributed = Row { caller: Caller::ANONYMOUS, pillar: Pillar::NONE, route: Route::NONE, day };
        let row = if self.rows.len() < self.max_rows { row } else { unattributed };
        self.rows.entry(row).or_default().count(usage);
    }

    /// Takes all rows out. The worker calls this four times a second, and hands the batch to the control runtime.
    pub fn drain(&mut self) -> Batch {
        // As much room as was needed now will be needed again.
        let fresh = HashMap::with_capacity(self.rows.len());
        Batch { rows: mem::replace(&mut self.rows, fresh), mark: None }
    }
}

impl Batch {
    /// Whether nothing was counted, and nothing else is to be kept.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.mark.is_none()
    }

    /// The rows by name, for the store.
    pub fn resolve(self, names: &Names) -> Vec<Record> {
        let resolve = |(row, Sums { mut counts, fuel }): (Row, Sums)| {
            let (pillar, route) = names.find(row.pillar, row.route);
            fuel.iter().for_each(|(policy, fuel)| counts.burn(&names.policy_name(*policy), *fuel));
            Record { caller: row.caller, pillar, route, day: row.day, counts }
        };
        self.rows.into_iter().map(resolve).collect()
    }
}
