//! Between the contract's functions and a [`Policy`]: keeps what each slot was configured to.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::thread::LocalKey;

use crate::bindings::{policy, request_body, response, response_body};
use crate::{
    After, Descriptor, Diagnostic, Plan, Policy, Request, RequestBody, RequestEnd, RequestPiece, Response,
    ResponseBody, ResponseEnd, ResponsePiece, Setup, Slot, Upload, Verdict,
};

/// The gateway numbers slots from 0. A number beyond this is no slot of a real configuration, and would only fill the
/// instance's memory.
const MOST_SLOTS: u32 = 1 << 16;

/// What each slot was configured to, by number.
#[derive(Debug)]
pub struct Slots<P>(Vec<Option<P>>);

impl<P> Slots<P> {
    /// No slot is configured.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// What the slot was last configured to.
    pub fn find(&self, number: u32) -> Option<&P> {
        self.0.get(number as usize)?.as_ref()
    }
}

impl<P> Default for Slots<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Policy> Slots<P> {
    /// Configures one slot. What it was configured to before is replaced, or stays where this is refused.
    ///
    /// # Errors
    /// All that is wrong with the configuration.
    pub fn configure(&mut self, number: u32, slot: &Slot, config: &str) -> Result<Plan, Vec<Diagnostic>> {
        if number >= MOST_SLOTS {
            let message = format!("There is no slot {number}; one policy has at most {MOST_SLOTS} slots.");
            return Err(vec![Diagnostic::new("", message)]);
        }
        let (policy, plan) = configure(slot, config)?;
        let number = number as usize;
        if self.0.len() <= number {
            self.0.resize_with(number + 1, || None);
        }
        self.0[number] = Some(policy);
        Ok(plan)
    }
}

/// A policy that keeps its slots somewhere. Implemented by [`export!`](crate::export!).
pub trait Mounted: Policy {
    /// The slots of this instance.
    fn slots() -> &'static LocalKey<RefCell<Slots<Self>>>;
}

/// The contract's functions for a policy. Used by [`export!`](crate::export!).
#[derive(Debug)]
pub struct Exported<P>(PhantomData<P>);

impl<P: Mounted> policy::Guest for Exported<P> {
    fn describe() -> Descriptor {
        P::ABOUT.descriptor()
    }

    fn configure(number: u32, slot: Slot, config: String) -> Result<Plan, Vec<Diagnostic>> {
        P::slots().with_borrow_mut(|slots| slots.configure(number, &slot, &config))
    }

    fn on_request(request: Request) -> Verdict {
        on_slot(request.slot, |policy: &P| policy.on_request(&request))
    }
}

impl<P: Mounted> response::Guest for Exported<P> {
    fn on_response(response: Response) -> After {
        on_slot(response.slot, |policy: &P| policy.on_response(&response))
    }
}

/// A policy that keeps what it follows somewhere. Implemented by [`export!`](crate::export!).
pub trait FollowsRequests: Mounted + RequestBody {
    /// The body that this instance follows.
    fn followed() -> &'static LocalKey<RefCell<Option<<Self as RequestBody>::Body>>>;
}

/// As [`FollowsRequests`], for responses.
pub trait FollowsResponses: Mounted + ResponseBody {
    /// The body that this instance follows.
    fn followed() -> &'static LocalKey<RefCell<Option<<Self as ResponseBody>::Body>>>;
}

/// The gateway asks about chunks only where the policy said that it follows.
const BEGUN: &str = "the gateway begins a body before it passes a chunk of it";

impl<P: FollowsRequests> request_body::Guest for Exported<P> {
    fn on_request_body(upload: Upload) -> bool {
        let body = on_slot(upload.slot, |policy: &P| policy.begin_request(&upload));
        let follows = body.is_some();
        P::followed().set(body);
        follows
    }

    fn on_request_chunk(slot: u32, chunk: Vec<u8>) -> RequestPiece {
        P::followed().with_borrow_mut(|body| {
            on_slot(slot, |policy: &P| policy.request_chunk(body.as_mut().expect(BEGUN), chunk))
        })
    }

    fn on_request_end(slot: u32) -> RequestEnd {
        let body = P::followed().take().expect(BEGUN);
        on_slot(slot, |policy: &P| policy.end_request(body))
    }
}

impl<P: FollowsResponses> response_body::Guest for Exported<P> {
    fn on_response_body(head: Response) -> bool {
        let body = on_slot(head.slot, |policy: &P| policy.begin_response(&head));
        let follows = body.is_some();
        P::followed().set(body);
        follows
    }

    fn on_response_chunk(slot: u32, chunk: Vec<u8>) -> ResponsePiece {
        P::followed().with_borrow_mut(|body| {
            on_slot(slot, |policy: &P| policy.response_chunk(body.as_mut().expect(BEGUN), chunk))
        })
    }

    fn on_response_end(slot: u32) -> ResponseEnd {
        let body = P::followed().take().expect(BEGUN);
        on_slot(slot, |policy: &P| policy.end_response(body))
    }
}

/// A slot that was never configured has no rules to apply. To go on would let the request pass unchecked, so this traps,
/// and the gateway answers as its failure policy says.
fn on_slot<P: Mounted, T>(number: u32, decide: impl FnOnce(&P) -> T) -> T {
    P::slots()
        .with_borrow(|slots| decide(slots.find(number).expect("the gateway configures a slot before it asks about it")))
}

/// Reads the configuration and makes the policy for one slot.
pub(crate) fn configure<P: Policy>(slot: &Slot, config: &str) -> Result<(P, Plan), Vec<Diagnostic>> {
    let config = if config.is_empty() { "{}" } else { config };
    let config = crate::json::read(config).map_err(|diagnostic| vec![diagnostic])?;
    let mut setup = Setup::new(slot);
    match P::configure(config, &mut setup) {
        Ok(policy) => Ok((policy, setup.finish()?)),
        Err(last) => {
            let mut problems = setup.finish().err().unwrap_or_default();
            problems.push(last);
            Err(problems)
        }
    }
}

#[cfg(test)]
mod tests;
