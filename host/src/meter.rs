//! Counts one exchange while it runs, and books exactly one usage when it ends, however it ends.
//!
//! Never decides anything: a failing meter must not change a response.

use crate::body::{Body, End, Progress};
use crate::chain::Tab;
use crate::credential::Credential;
use crate::denial::Denial;
use crate::effect::Charges;
use crate::gas::Gas;
use crate::head;
use crate::journal::{Call, Ticket};
use crate::key::Mode;
use crate::plugin::contract::Charge;
use crate::requests::{self, Asked, Calls, Trace};
use crate::snapshot::{Pillar, Target};
use crate::upstream::Lease;
use crate::usage::{self, Caller, Usage};
use http::{HeaderMap, StatusCode};
use http_body::Body as _;
use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

mod asking;
mod books;

pub use asking::ABANDONED;
pub use books::Books;

pub use crate::body::Ending;

/// One exchange that is under way. Books when it is dropped, unless a body took that over.
pub struct Meter(Option<Box<Open>>);

struct Open {
    books: Rc<Books>,
    call: Call,
    /// Of the record that it began, once there is one.
    ticket: Option<Ticket>,
    pillar: usage::Pillar,
    route: usage::Route,
    rule: u16,
    status: u16,
    upstream_failed: bool,
    denied: Option<Cow<'static, str>>,
    units: u64,
    upstream: Duration,
    calls: Calls,
    charges: Charges,
    free: bool,
    /// Whether the request was a HEAD: whatever body there is, nobody gets it.
    to_head: bool,
    upload: Option<Rc<Progress>>,
    bodies: Option<Rc<Tab>>,
    lease: Option<Lease>,
    /// What is told of the request when it ends.
    trace: Option<Trace>,
}

/// Who shows this credential, also one that is no longer valid; and whether it is one of the sandbox.
pub fn caller(credential: &Credential) -> (Caller, bool) {
    credential.presented().map_or((Caller::ANONYMOUS, false), |key| {
        let caller = Caller { org: Some(key.org.number()), key: Some(key.id.number()) };
        (caller, key.mode == Mode::Sandbox)
    })
}

impl Meter {
    /// Begins to count.
    pub fn open(books: &Rc<Books>, call: Call, pillar: &Pillar, target: Target, trace: Option<Trace>) -> Self {
        Self(Some(Box::new(Open {
            books: books.clone(),
            call,
            ticket: None,
            pillar: pillar.number,
            route: pillar.rules[usize::from(target.rule)].number,
            rule: target.rule,
            status: 0,
            upstream_failed: false,
            denied: None,
            units: 0,
            upstream: Duration::ZERO,
            calls: Calls::new(),
            charges: Charges::default(),
            // The gateway's own API costs nothing, whoever answers in its place.
            free: pillar.is_own,
            to_head: false,
            upload: None,
            bodies: None,
            lease: None,
            trace,
        })))
    }

    /// Whether the call may go on: it can be written down, or need not be.
    ///
    /// # Errors
    /// The refusal, where it must not.
    pub fn admit(&self) -> Result<(), Denial> {
        let admit = |open: &Open| {
            let policies = requests::burnt(&open.calls);
            open.books.admit(open.pillar, open.route, policies.by_policy()).is_ok()
        };
        let admitted = self.0.as_ref().is_none_or(|open| admit(open));
        if admitted { Ok(()) } else { Err(Denial::MeteringUnavailable) }
    }

    /// Writes down that the call began: before the upstream is asked, and so before anybody can see anything of it.
    ///
    /// # Errors
    /// The refusal, where that failed, and no call may go on without a record.
    pub fn begin(&mut self) -> Result<(), Denial> {
        let Some(open) = &mut self.0 else { return Ok(()) };
        let policies = requests::burnt(&open.calls);
        let begun = open.books.begin(&open.call, open.pillar, open.route, policies.by_policy());
        open.ticket = begun.map_err(|_| Denial::MeteringUnavailable)?;
        Ok(())
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

    /// The request is a HEAD.
    pub fn to_head(&mut self) {
        self.with(|open| open.to_head = true);
    }

    /// Who calls, as it turned out. Sandbox calls are free, whatever policies charge.
    pub fn caller(&mut self, mode: Option<Mode>) {
        self.with(|open| open.free |= mode == Some(Mode::Sandbox));
    }

    /// What the exchange is charged if it succeeds.
    pub fn charge(&mut self, charges: Charges) {
        self.with(|open| open.charges = charges);
    }

    /// Further charges, from the response phase.
    pub fn charge_more(&mut self, charges: &[Charge]) {
        self.with(|open| open.charges.extend(charges));
    }

    /// Counts the request body.
    pub fn count_upload(&mut self, upload: Rc<Progress>) {
        self.with(|open| open.upload = Some(upload));
    }

    /// Adds what policies that follow the bodies use and charge.
    pub fn follow(&mut self, bodies: Rc<Tab>) {
        self.with(|open| open.bodies = Some(bodies));
    }

    /// The upstream reports units in its head (RFC 9110 integers); what is no number counts as none.
    pub fn units(&mut self, headers: &HeaderMap) {
        if let Some(value) = headers.get(head::X_PORTICO_UNITS) {
            let units = value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
            // More is no number that JSON has (RFC 8259, section 6), and would stand in every sum for ever.
            self.with(|open| open.units = units.unwrap_or(0).min((1 << 53) - 1));
        }
    }

    /// The upstream answered, over this connection.
    pub fn answered(&mut self, status: StatusCode, lease: Lease) {
        self.with(|open| {
            open.status = status.as_u16();
            open.upstream_failed = !status.is_success();
            open.lease = Some(lease);
        });
    }

    /// So long were policies at it.
    pub fn policies(&mut self, took: Duration) {
        self.with(|open| open.trace.iter_mut().for_each(|trace| trace.policies(took)));
    }

    /// An upstream was asked.
    fn asked(&mut self, asked: Asked<'_>) {
        self.with(|open| {
            open.upstream += asked.took;
            open.trace.iter_mut().for_each(|trace| trace.upstream(asked));
        });
    }

    /// The gateway's own API answered.
    pub fn own(&mut self, status: StatusCode) {
        self.with(|open| open.status = status.as_u16());
    }

    /// Takes over calls of policies. Those of the response phase have to be told before the body ends, or they are not counted;
    /// they are of policies that were told before.
    pub fn called(&mut self, calls: &mut Calls) {
        self.with(|open| open.calls.append(calls));
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
            // Neither to a HEAD nor with these statuses does a body go out (RFC 9110, sections 9.3.2, 15.3.5 and 15.4.5).
            let is_bodiless = open.to_head || matches!(open.status, 204 | 304);
            let bytes = body.size_hint().exact().filter(|_| !is_bodiless).unwrap_or(0);
            open.book(bytes, End::Complete, true);
        }
    }

    fn with(&mut self, change: impl FnOnce(&mut Open)) {
        if let Some(open) = &mut self.0 {
            change(open);
        }
    }
}

impl Drop for Meter {
    /// The client left before there was an answer, whatever an upstream had said by then.
    fn drop(&mut self) {
        if let Some(mut open) = self.0.take() {
            open.status = 0;
            open.book(0, End::Left, false);
        }
    }
}

impl Ending for Open {
    fn ended(mut self: Box<Self>, bytes: u64, how: End) {
        // A connection can carry another request only when nothing of this one is left on it, in either direction: an
        // upstream may answer before it has the whole request.
        let sent = self.upload.as_ref().is_none_or(|upload| upload.is_whole());
        if let Some(lease) = self.lease.take()
            && how == End::Complete
            && sent
        {
            lease.give_back();
        }
        // An upstream that broke off gets nothing, nor does a policy that did; a client that left after the head has had its answer.
        self.book(bytes, how, !matches!(how, End::Broken | End::Cut));
    }
}

impl Open {
    fn book(mut self: Box<Self>, bytes: u64, how: End, answered: bool) {
        if let Some(bodies) = self.bodies.take() {
            self.calls.extend(bodies.calls());
            self.charges.extend(&bodies.charges());
        }
        // Success is 2xx, of the upstream too where it was asked, not broken off by it, and not refused by anybody.
        let success = answered && !self.upstream_failed && matches!(self.status, 200..=299) && self.denied.is_none();
        let charged = success && !self.free;
        let fuel = requests::burnt(&self.calls);
        let usage = Usage {
            caller: self.call.caller,
            pillar: self.pillar,
            route: self.route,
            at: self.call.at,
            status: self.status,
            denied: self.denied.as_deref(),
            bytes_in: self.upload.as_ref().map_or(0, |upload| upload.bytes()),
            bytes_out: bytes,
            gas: if charged { Gas::from_millionths(self.charges.sum(self.units, bytes)) } else { Gas::ZERO },
            units: if success { self.units } else { 0 },
            upstream_us: requests::micros(self.upstream),
            fuel: fuel.total(),
            fuel_by_policy: fuel.by_policy(),
        };
        self.books.book(self.ticket.take(), &self.call, &usage);
        self.trace.iter_mut().for_each(|trace| trace.finish(&usage, &self.calls, how));
    }
}
