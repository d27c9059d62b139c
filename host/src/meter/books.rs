//! Where a worker books: its journal first, then its sums.
//!
//! Both change together and are drained together, on one thread: so what a batch holds is what its mark says.

use std::cell::RefCell;

use crate::journal::{Call, Full, Ticket, Writer};
use crate::usage::{Batch, Pillar, Policy, Route, Tally, Usage};

/// A worker's books.
#[derive(Debug)]
pub struct Books(RefCell<Open>);

#[derive(Debug)]
struct Open {
    journal: Writer,
    tally: Tally,
}

impl Books {
    /// Empty sums, and a journal.
    pub fn new(journal: Writer, tally: Tally) -> Self {
        Self(RefCell::new(Open { journal, tally }))
    }

    /// Takes out what was booked since the last time.
    pub fn drain(&self) -> Batch {
        let mut open = self.0.borrow_mut();
        let mut batch = open.tally.drain();
        batch.mark = open.journal.mark();
        batch
    }

    pub(super) fn admit(&self, pillar: Pillar, route: Route, policies: &[(Policy, u64)]) -> Result<(), Full> {
        self.0.borrow_mut().journal.admit(pillar, route, policies)
    }

    pub(super) fn begin(
        &self,
        call: &Call,
        pillar: Pillar,
        route: Route,
        policies: &[(Policy, u64)],
    ) -> Result<Option<Ticket>, Full> {
        self.0.borrow_mut().journal.open(call, pillar, route, policies)
    }

    pub(super) fn book(&self, ticket: Option<Ticket>, call: &Call, usage: &Usage<'_>) {
        let mut open = self.0.borrow_mut();
        open.journal.close(ticket, call, usage);
        open.tally.add(usage);
    }
}
