//! One worker's sums since the last drain.
//!
//! Belongs to one thread: no lock, no atomic. Adding to a row that is there allocates nothing.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::mem;

use super::{Caller, Counts, Day, Mark, Names, Pillar, Record, Route, Usage};

/// A worker's rows, at most so many between two drains.
#[derive(Debug)]
pub struct Tally {
    rows: HashMap<Row, Counts>,
    max_rows: usize,
}

/// What a worker counted between two drains.
#[derive(Debug, Default)]
pub struct Batch {
    rows: HashMap<Row, Counts>,
    /// How far the worker's journal is in the sums with this batch; `None` where that is as before.
    pub mark: Option<Mark>,
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
        if let Some(counts) = self.rows.get_mut(&row) {
            counts.count(usage);
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
        let resolve = |(row, counts): (Row, Counts)| {
            let (pillar, route) = names.find(row.pillar, row.route);
            Record { caller: row.caller, pillar, route, day: row.day, counts }
        };
        self.rows.into_iter().map(resolve).collect()
    }
}
