//! Instances that follow bodies: each belongs to one body from its first call to its last.
//!
//! Their number is bounded, for each policy and worker by configuration and over all of the process by the engine's room
//! for them, so that long bodies never take the instances that requests need. One that does not reach the end of its body
//! is dropped: it may hold half of it.

mod budget;

use super::bindings_0_1::request_body_world::RequestBody;
use super::bindings_0_1::response_body_world::ResponseBody;
use super::contract::{Denial, RequestEnd, RequestPiece, Response, ResponseEnd, ResponsePiece, Upload};
use super::failure::Failure;
use super::instance::{Answer, Live};
use super::policy::Policy;
use super::room::{Places, Rooms};
use budget::Budget;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Idle instances of one pooled policy that a worker keeps for the next bodies.
const IDLE: usize = 8;

/// Room for instances that follow bodies, over all workers.
pub(super) struct BodyRoom {
    most: usize,
    left: AtomicUsize,
}

impl BodyRoom {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, left: AtomicUsize::new(most) })
    }

    /// How many places there are.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    fn take(self: &Arc<Self>, weight: usize) -> Option<BodyPlace> {
        let less = |left: usize| left.checked_sub(weight);
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        taken.ok().map(|_| BodyPlace(self.clone(), weight))
    }
}

/// One instance's places in a [`BodyRoom`].
struct BodyPlace(Arc<BodyRoom>, usize);

impl Drop for BodyPlace {
    fn drop(&mut self) {
        self.0.left.fetch_add(self.1, Ordering::Relaxed);
    }
}

/// The instances of one worker that follow bodies, by policy.
#[derive(Default)]
pub struct Leases {
    of: RefCell<HashMap<u64, Held, rustc_hash::FxBuildHasher>>,
    places: RefCell<Places>,
}

/// A policy's part of the worker's places, for one body.
struct Share {
    leases: Rc<Leases>,
    policy: Arc<str>,
    weight: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.leases.places.borrow_mut().give_back(&self.policy, self.weight);
    }
}

#[derive(Default)]
struct Held {
    open: usize,
    idle: Vec<(Live, BodyPlace)>,
}

/// An instance that follows one body.
pub struct Lease {
    policy: Arc<Policy>,
    slot: u32,
    /// `None` once it was given back.
    live: Option<(Live, BodyPlace)>,
    exports: Exports,
    budget: Budget,
    leases: Rc<Leases>,
    _share: Share,
}

enum Exports {
    Request(RequestBody),
    Response(ResponseBody),
}

/// Which of its bodies a policy follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the upstream.
    Request,
    /// To the client.
    Response,
}

/// What a guest wants to become of a chunk.
#[derive(Debug)]
pub enum Piece {
    /// It goes on as it is.
    Keep,
    /// These bytes go on in its place.
    Replace(Vec<u8>),
    /// The request is refused.
    Refuse(Denial),
    /// The response is broken off.
    Stop,
}

impl Leases {
    /// Takes an instance for one body.
    ///
    /// # Errors
    /// When as many are in use as may be, or none can be made.
    pub fn take(self: &Rc<Self>, policy: &Arc<Policy>, slot: u32, direction: Direction) -> Result<Lease, Failure> {
        if self.of.borrow_mut().entry(policy.id).or_default().open >= policy.bodies {
            return Err(Failure::Busy);
        }
        let share = self.share(policy)?;
        let idle = self.of.borrow_mut().entry(policy.id).or_default().idle.pop();
        self.trim();
        let (mut live, place) = match idle {
            Some(idle) => idle,
            None => self.make(policy)?,
        };
        let linked = live.linked.clone();
        let exports = match (direction, &linked.request_body, &linked.response_body) {
            (Direction::Request, Some(indices), _) => indices.load(&mut live.store, &live.made).map(Exports::Request),
            (Direction::Response, _, Some(indices)) => indices.load(&mut live.store, &live.made).map(Exports::Response),
            _ => return Err(Failure::NoInstance("it does not follow such bodies".into())),
        };
        let exports = exports.map_err(|error| Failure::of(&error))?;
        self.of.borrow_mut().entry(policy.id).or_default().open += 1;
        let (budget, live) = (Budget::new(policy.bounds), Some((live, place)));
        Ok(Lease { policy: policy.clone(), slot, live, exports, budget, leases: self.clone(), _share: share })
    }

    /// What is there is for all policies that follow bodies, and each is sure of its part.
    fn share(self: &Rc<Self>, policy: &Policy) -> Result<Share, Failure> {
        let weight = policy.component.weight;
        match self.places.borrow_mut().take(&policy.name, weight) {
            true => Ok(Share { leases: self.clone(), policy: policy.name.clone(), weight }),
            false => Err(no_place()),
        }
    }

    /// Drops idle instances for which there is no room beside those in use: they would stand in the way of other workers.
    fn trim(&self) {
        let left = self.places.borrow().left();
        let mut of = self.of.borrow_mut();
        let weight = |held: &Held| held.idle.iter().map(|(_, place)| place.1).sum::<usize>();
        let mut idle: usize = of.values().map(weight).sum();
        for held in of.values_mut() {
            while idle > left
                && let Some((_, place)) = held.idle.pop()
            {
                idle -= place.1;
            }
        }
    }

    fn make(&self, policy: &Policy) -> Result<(Live, BodyPlace), Failure> {
        let room = policy.component.engine.bodies();
        let weight = policy.component.weight;
        let place = room.take(weight).or_else(|| {
            // Somebody's idle instance may stand in the way.
            self.of.borrow_mut().values_mut().for_each(|held| held.idle.clear());
            room.take(weight)
        });
        Ok((Live::make(policy)?, place.ok_or_else(no_place)?))
    }

    /// Drops idle instances of policies that are not among these, and divides the places between these.
    pub fn prune(&self, serving: &[Arc<Policy>], rooms: &Rooms) {
        self.places.borrow_mut().divide(&rooms.bodies);
        self.of.borrow_mut().retain(|id, held| {
            if !serving.iter().any(|policy| policy.id == *id) {
                held.idle.clear();
            }
            // Their places are not this worker's alone.
            held.idle.truncate(1);
            held.open > 0 || !held.idle.is_empty()
        });
    }

    /// How many bodies are followed now.
    pub fn open(&self) -> usize {
        self.of.borrow().values().map(|held| held.open).sum()
    }
}

fn no_place() -> Failure {
    Failure::NoInstance("no place for it is left beside what other policies that follow bodies are sure of; lower `bodies` of those that need less".into())
}

impl Lease {
    /// Whether the policy follows the body of a request.
    ///
    /// # Errors
    /// When there is no usable answer; this instance must not be asked again then. So with all that follow.
    pub fn begin_request(&mut self, upload: Upload<'_>) -> Result<Answer<bool>, Failure> {
        self.ask(|exports, live| match exports {
            Exports::Request(exports) => exports.call_on_request_body(&mut live.store, upload),
            Exports::Response(_) => Ok(false),
        })
    }

    /// Whether the policy follows the body of a response.
    ///
    /// # Errors
    /// As [`Self::begin_request`].
    pub fn begin_response(&mut self, head: Response<'_>) -> Result<Answer<bool>, Failure> {
        self.ask(|exports, live| match exports {
            Exports::Response(exports) => exports.call_on_response_body(&mut live.store, head),
            Exports::Request(_) => Ok(false),
        })
    }

    /// Passes one chunk, of at most [`LARGEST_CHUNK`](crate::body::LARGEST_CHUNK) bytes.
    ///
    /// # Errors
    /// As [`Self::begin_request`].
    pub fn chunk(&mut self, chunk: &[u8]) -> Result<Answer<Piece>, Failure> {
        self.budget.passed(chunk.len());
        let slot = self.slot;
        self.ask(|exports, live| match exports {
            Exports::Request(exports) => {
                exports.call_on_request_chunk(&mut live.store, slot, chunk).map(|piece| match piece {
                    RequestPiece::Keep => Piece::Keep,
                    RequestPiece::Replace(bytes) => Piece::Replace(bytes),
                    RequestPiece::Refuse(denial) => Piece::Refuse(denial),
                })
            }
            Exports::Response(exports) => {
                exports.call_on_response_chunk(&mut live.store, slot, chunk).map(|piece| match piece {
                    ResponsePiece::Keep => Piece::Keep,
                    ResponsePiece::Replace(bytes) => Piece::Replace(bytes),
                    ResponsePiece::Stop => Piece::Stop,
                })
            }
        })
    }

    /// The last word on a request body; `None` for the instance of a response.
    ///
    /// # Errors
    /// As [`Self::begin_request`].
    pub fn end_request(&mut self) -> Result<Answer<Option<RequestEnd>>, Failure> {
        let slot = self.slot;
        self.ask(|exports, live| match exports {
            Exports::Request(exports) => exports.call_on_request_end(&mut live.store, slot).map(Some),
            Exports::Response(_) => Ok(None),
        })
    }

    /// The last word on a response body; `None` for the instance of a request.
    ///
    /// # Errors
    /// As [`Self::begin_request`].
    pub fn end_response(&mut self) -> Result<Answer<Option<ResponseEnd>>, Failure> {
        let slot = self.slot;
        self.ask(|exports, live| match exports {
            Exports::Response(exports) => exports.call_on_response_end(&mut live.store, slot).map(Some),
            Exports::Request(_) => Ok(None),
        })
    }

    /// The body is over, or of no interest: a pooled instance can follow the next one.
    pub fn give_back(mut self) {
        let Some((live, place)) = self.live.take() else { return };
        if self.policy.keeps(live.store.data(), live.calls)
            && let Some(held) = self.leases.of.borrow_mut().get_mut(&self.policy.id)
            && held.idle.len() < IDLE
        {
            held.idle.push((live, place));
        }
        self.leases.trim();
    }

    fn ask<T>(&mut self, ask: impl FnOnce(&Exports, &mut Live) -> wasmtime::Result<T>) -> Result<Answer<T>, Failure> {
        let Some((live, _)) = &mut self.live else {
            return Err(Failure::NoInstance("it was given back".into()));
        };
        let Some(most) = self.budget.of_call() else { return Err(Failure::OutOfBodyFuel) };
        let less = self.policy.bounds.fuel.saturating_sub(most);
        let exports = &self.exports;
        let answer = live.ask(&self.policy, self.slot, |live| {
            if less > 0 {
                live.store.set_fuel(most)?;
            }
            ask(exports, live)
        });
        match answer {
            Ok(Answer { value, fuel }) => {
                let fuel = fuel.saturating_sub(less);
                self.budget.used(fuel);
                Ok(Answer { value, fuel })
            }
            Err(Failure::OutOfFuel) if less > 0 => Err(Failure::OutOfBodyFuel),
            Err(failure) => Err(failure),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(held) = self.leases.of.borrow_mut().get_mut(&self.policy.id) {
            held.open = held.open.saturating_sub(1);
        }
    }
}
