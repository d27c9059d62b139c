//! Counts one exchange while it runs, and books exactly one usage when it ends, however it ends.
//!
//! Never decides anything: a failing meter must not change a response.

use crate::body::{self, Body};
use crate::credential::Credential;
use crate::denial::Denial;
use crate::effect::Charges;
use crate::head;
use crate::id::{KeyId, OrgId};
use crate::key::Mode;
use crate::plugin::contract::Charge;
use crate::snapshot::{Pillar, Target};
use crate::upstream::Lease;
use http::{HeaderMap, StatusCode};
use http_body::Body as _;
use rustc_hash::FxHashMap;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

pub use body::Ending;

/// What one exchange, or many, consumed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Count {
    /// Exchanges.
    pub calls: u64,
    /// Exchanges whose status was 2xx or 101.
    pub succeeded: u64,
    /// Exchanges that the gateway refused, by code.
    pub denied: Vec<(Cow<'static, str>, u64)>,
    /// Exchanges that did not come to their end.
    pub interrupted: u64,
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of response bodies.
    pub bytes_out: u64,
    /// Units that upstreams reported.
    pub units: u64,
    /// Millionths of a token.
    pub gas: u64,
    /// Fuel that policies used.
    pub fuel: u64,
}

/// By whom and for what something was consumed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Row {
    /// Org and key; none for callers without a key.
    pub caller: Option<(OrgId, KeyId)>,
    /// The pillar.
    pub pillar: Arc<str>,
    /// The rule in the pillar.
    pub route: Arc<str>,
}

/// What was booked, by row.
pub type Rows = FxHashMap<Row, Count>;

/// What one worker booked since it was last drained.
#[derive(Debug, Default)]
pub struct Tally(Rows);

/// What all workers booked, until somebody keeps it.
#[derive(Debug, Clone, Default)]
pub struct Outlet(Arc<Mutex<Rows>>);

impl Count {
    /// Adds another count to this one.
    pub fn add(&mut self, more: &Self) {
        self.calls += more.calls;
        self.succeeded += more.succeeded;
        self.interrupted += more.interrupted;
        self.bytes_in = self.bytes_in.saturating_add(more.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(more.bytes_out);
        self.units = self.units.saturating_add(more.units);
        self.gas = self.gas.saturating_add(more.gas);
        self.fuel = self.fuel.saturating_add(more.fuel);
        for (code, times) in &more.denied {
            match self.denied.iter_mut().find(|(known, _)| known == code) {
                Some((_, sum)) => *sum += times,
                None => self.denied.push((code.clone(), *times)),
            }
        }
    }
}

impl Outlet {
    /// Takes over what a worker booked. Called once a second by each worker: the only lock between them, and never
    /// while a request waits for it.
    pub fn take_in(&self, tally: &mut Tally) {
        if tally.0.is_empty() {
            return;
        }
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (row, count) in tally.0.drain() {
            rows.entry(row).or_default().add(&count);
        }
    }

    /// All that was booked since the last time.
    pub fn drain(&self) -> Rows {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One exchange that is under way. Books when it is dropped, unless a body took that over.
pub struct Meter(Option<Box<Open>>);

struct Open {
    tally: Rc<RefCell<Tally>>,
    row: Row,
    target: Target,
    count: Count,
    charges: Charges,
    free: bool,
    success: bool,
    upload: Option<Rc<Cell<u64>>>,
    lease: Option<Lease>,
}

impl Meter {
    /// Begins to count.
    pub fn open(
        tally: &Rc<RefCell<Tally>>,
        pillar: &Pillar,
        target: Target,
        credential: &Credential,
    ) -> Self {
        let row = Row {
            caller: credential.presented().map(|key| (key.org, key.id)),
            pillar: pillar.name.clone(),
            route: pillar.rules[usize::from(target.rule)].name.clone(),
        };
        Self(Some(Box::new(Open {
            tally: tally.clone(),
            row,
            target,
            count: Count { calls: 1, ..Count::default() },
            charges: Charges::default(),
            free: false,
            success: false,
            upload: None,
            lease: None,
        })))
    }

    /// Position of the rule in the pillar.
    pub fn route(&self) -> u32 {
        self.0.as_ref().map_or(0, |open| u32::from(open.target.rule))
    }

    /// The gateway refused.
    pub fn denied(&mut self, denial: &Denial) {
        self.with(|open| {
            let code = match denial {
                // A policy's own codes are its own words: they would let a guest make rows without end.
                Denial::ByPolicy { .. } => Cow::Borrowed("by_policy"),
                known => Cow::Owned(known.code().to_owned()),
            };
            open.count.denied = vec![(code, 1)];
            open.success = false;
        });
    }

    /// What the exchange is charged if it succeeds. Sandbox calls are free.
    pub fn charge(&mut self, charges: Charges, mode: Option<Mode>) {
        self.with(|open| {
            open.charges = charges;
            open.free = mode == Some(Mode::Sandbox);
        });
    }

    /// Further charges, from the response phase.
    pub fn charge_more(&mut self, charges: &[Charge]) {
        self.with(|open| open.charges.extend(charges));
    }

    /// Counts the request body.
    pub fn count_upload(&mut self, bytes: Rc<Cell<u64>>) {
        self.with(|open| open.upload = Some(bytes));
    }

    /// The upstream reports units in its head (RFC 9110 integers); what is no number counts as none.
    pub fn units(&mut self, headers: &HeaderMap) {
        if let Some(value) = headers.get(head::X_PORTICO_UNITS) {
            let units = value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
            self.with(|open| open.count.units = units.unwrap_or(0));
        }
    }

    /// The upstream answered, over this connection.
    pub fn answered(&mut self, status: StatusCode, lease: Lease) {
        self.with(|open| {
            open.success = status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS;
            open.lease = Some(lease);
        });
    }

    /// Fuel that the chain used. Has to be told before the body ends, or it is not counted.
    pub fn fuel(&mut self, fuel: u64) {
        self.with(|open| open.count.fuel = fuel);
    }
}

impl Meter {
    /// Hands the count over to a body, which knows when the exchange ends.
    pub fn into_ending(mut self) -> Option<Box<dyn Ending>> {
        self.0.take().map(|open| open as Box<dyn Ending>)
    }

    /// The whole answer is there already: the exchange is over as far as it can be known.
    pub fn whole(mut self, status: StatusCode, body: &Body) {
        if let Some(mut open) = self.0.take() {
            open.success = status.is_success() && open.count.denied.is_empty();
            open.book(body.size_hint().exact().unwrap_or(0), true);
        }
    }

    fn with(&mut self, change: impl FnOnce(&mut Open)) {
        if let Some(open) = &mut self.0 {
            change(open);
        }
    }
}

impl Drop for Meter {
    /// The client left before there was an answer.
    fn drop(&mut self) {
        if let Some(mut open) = self.0.take() {
            open.success = false;
            open.book(0, false);
        }
    }
}

impl Ending for Open {
    fn ended(mut self: Box<Self>, bytes: u64, complete: bool) {
        // Only a connection whose answer was read to its end can carry another request.
        if let Some(lease) = self.lease.take()
            && complete
        {
            lease.give_back();
        }
        self.book(bytes, complete);
    }
}

impl Open {
    fn book(mut self: Box<Self>, bytes: u64, complete: bool) {
        let count = &mut self.count;
        count.bytes_out = bytes;
        count.bytes_in = self.upload.as_ref().map_or(0, |upload| upload.get());
        count.interrupted = u64::from(!complete);
        if self.success {
            count.succeeded = 1;
            count.gas = if self.free { 0 } else { self.charges.sum(count.units, bytes) };
        }
        let mut tally = self.tally.borrow_mut();
        match tally.0.get_mut(&self.row) {
            Some(sum) => sum.add(&self.count),
            None => {
                tally.0.insert(self.row.clone(), self.count.clone());
            }
        }
    }
}
