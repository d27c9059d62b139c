//! Counts one exchange while it runs, and books exactly one usage when it ends, however it ends.
//!
//! Never decides anything: a failing meter must not change a response.

use crate::body::{self, Body};
use crate::clock::Millis;
use crate::credential::Credential;
use crate::denial::Denial;
use crate::effect::Charges;
use crate::gas::Gas;
use crate::head;
use crate::key::Mode;
use crate::plugin::contract::Charge;
use crate::snapshot::{Pillar, Target};
use crate::upstream::Lease;
use crate::usage::{self, Caller, Tally, Usage};
use http::{HeaderMap, StatusCode};
use http_body::Body as _;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

pub use body::Ending;

/// One exchange that is under way. Books when it is dropped, unless a body took that over.
pub struct Meter(Option<Box<Open>>);

struct Open {
    tally: Rc<RefCell<Tally>>,
    at: Millis,
    caller: Caller,
    pillar: usage::Pillar,
    route: usage::Route,
    rule: u16,
    status: u16,
    denied: Option<Cow<'static, str>>,
    units: u64,
    fuel: u64,
    charges: Charges,
    free: bool,
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
        at: Millis,
    ) -> Self {
        let caller = credential
            .presented()
            .map_or(Caller::ANONYMOUS, |key| Caller { org: Some(key.org.number()), key: Some(key.id.number()) });
        Self(Some(Box::new(Open {
            tally: tally.clone(),
            at,
            caller,
            pillar: pillar.number,
            route: pillar.rules[usize::from(target.rule)].number,
            rule: target.rule,
            status: 0,
            denied: None,
            units: 0,
            fuel: 0,
            charges: Charges::default(),
            free: false,
            upload: None,
            lease: None,
        })))
    }

    /// Position of the rule in the pillar.
    pub fn route(&self) -> u32 {
        self.0.as_ref().map_or(0, |open| u32::from(open.rule))
    }

    /// The gateway refused.
    pub fn denied(&mut self, denial: &Denial) {
        self.with(|open| {
            open.denied = Some(match denial {
                // A policy's own codes are its own words: they would let a guest make rows without end.
                Denial::ByPolicy { .. } => Cow::Borrowed("by_policy"),
                known => Cow::Owned(known.code().to_owned()),
            });
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
            self.with(|open| open.units = units.unwrap_or(0));
        }
    }

    /// The upstream answered, over this connection.
    pub fn answered(&mut self, status: StatusCode, lease: Lease) {
        self.with(|open| {
            open.status = status.as_u16();
            open.lease = Some(lease);
        });
    }

    /// Fuel that the chain used. Has to be told before the body ends, or it is not counted.
    pub fn fuel(&mut self, fuel: u64) {
        self.with(|open| open.fuel = fuel);
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
            open.status = status.as_u16();
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
        if let Some(open) = self.0.take() {
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
    fn book(self: Box<Self>, bytes: u64, complete: bool) {
        // Success is 2xx or 101, carried to its end by the upstream, and not refused by anybody.
        let success = complete && matches!(self.status, 101 | 200..=299) && self.denied.is_none();
        let charged = success && !self.free;
        let usage = Usage {
            caller: self.caller,
            pillar: self.pillar,
            route: self.route,
            at: self.at,
            status: self.status,
            denied: self.denied.as_deref(),
            bytes_in: self.upload.as_ref().map_or(0, |upload| upload.get()),
            bytes_out: bytes,
            gas: if charged { Gas::from_millionths(self.charges.sum(self.units, bytes)) } else { Gas::ZERO },
            fuel: self.fuel,
        };
        self.tally.borrow_mut().add(&usage);
    }
}
