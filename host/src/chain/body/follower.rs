//! The policies that one body passes, chunk by chunk, and what each makes of it.
//!
//! A policy that fails open is passed over from then on; only one that inspects can, so nothing of the body is lost.

use super::{Refusal, Tab, Whose};
use crate::body::{Filter, LARGEST_CHUNK, Refused};
use crate::chain::verdict;
use crate::config;
use crate::plugin::contract::BodyMode;
use crate::plugin::{Action, Direction, Failure, Lease, Piece, Policy};
use crate::requests::Verdict;
use bytes::Bytes;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// Policies that a body passes, in this order; the last one may have it held.
pub struct Followers {
    seats: Vec<Seat>,
    tab: Rc<Tab>,
    /// Whether nothing can be added, since the message cannot have a body.
    bodiless: bool,
}

pub(super) struct Seat {
    whose: Whose,
    policy: Arc<Policy>,
    slot: u32,
    direction: Direction,
    mode: BodyMode,
    /// `None` after it failed, where it fails open, and after its last word.
    lease: Option<Lease>,
    /// Of one that had the body held: others can have it when what it held takes no memory any more.
    spent: Option<Lease>,
    seen: u64,
    /// What is held back, in blocks: a client that sends single bytes must not make it larger than it is.
    held: Vec<Vec<u8>>,
    held_bytes: u64,
}

/// Counts and tells a failure.
///
/// # Errors
/// Where the policy fails closed.
pub(super) fn failed(policy: &Policy, failure: &Failure, tab: &Tab, direction: Direction) -> Result<(), Refused> {
    policy.record.failed(failure);
    let (name, request, kind) = (&*policy.name, &*tab.request_id, failure.kind().code());
    match failure {
        // That it began was told.
        Failure::Quarantined { .. } => {
            tracing::debug!(policy = name, request, kind, "a policy was not asked about a body: {failure}");
        }
        _ => tracing::warn!(policy = name, request, kind, "a policy failed over a body: {failure}"),
    }
    match policy.failure {
        config::Failure::Closed => {
            let again = failure.retry_after(tab.clock.now());
            Err(tab.side(direction).refuse(Refusal::Failed { policy: policy.name.clone(), again }))
        }
        config::Failure::Open => Ok(()),
    }
}

impl Seat {
    pub(super) fn new(
        whose: Whose,
        policy: Arc<Policy>,
        slot: u32,
        direction: Direction,
        mode: BodyMode,
        lease: Lease,
    ) -> Self {
        let (held, held_bytes, seen) = (Vec::new(), 0, 0);
        Self { whose, policy, slot, direction, mode, lease: Some(lease), spent: None, seen, held, held_bytes }
    }

    /// Whether it changes what goes on while the body streams.
    pub(super) fn transforms(&self) -> bool {
        matches!(self.mode, BodyMode::Transform)
    }

    /// Bytes that it may have held.
    pub(super) fn bound(&self) -> Option<u32> {
        match self.mode {
            BodyMode::Buffered(most) => Some(most),
            _ => None,
        }
    }

    fn hold(&mut self, bytes: &[u8], bound: u32) -> Result<(), Failure> {
        self.held_bytes += bytes.len() as u64;
        if self.held_bytes > u64::from(bound) {
            return Err(Failure::NotAllowed(format!("it made more than {bound} bytes of the body, its own bound")));
        }
        match self.held.last_mut() {
            Some(block) if block.len() + bytes.len() <= LARGEST_CHUNK => block.extend_from_slice(bytes),
            _ => self.held.push(bytes.to_vec()),
        }
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(lease) = self.spent.take() {
            lease.give_back();
        }
    }
}

impl Followers {
    pub(super) fn new(seats: Vec<Seat>, tab: Rc<Tab>, bodiless: bool) -> Self {
        Self { seats, tab, bodiless }
    }

    /// Whether so many bytes are more than may be held, as far as that can be told before they came.
    pub fn is_too_large(&self, length: u64) -> Option<u32> {
        let (last, before) = self.seats.split_last()?;
        let same = before.iter().all(|seat| matches!(seat.mode, BodyMode::Inspect));
        last.bound().filter(|bound| same && length > u64::from(*bound))
    }

    fn failed(&mut self, at: usize, failure: &Failure) -> Result<(), Refused> {
        let seat = &mut self.seats[at];
        seat.lease = None;
        self.tab.said(seat.whose, Verdict::Failed);
        // A call on the way counts for quarantine as any other; whoever waits since this body began is not let through.
        if failure.is_overrun()
            && let Ok(pass) =
                seat.policy.admit_later(self.tab.caller, &self.tab.clock, self.tab.began, Some(&self.tab.voice))
        {
            let _ = pass.saw::<()>(Err(failure.clone()));
        }
        failed(&seat.policy, failure, &self.tab, seat.direction)
    }

    fn pass_from(&mut self, at: usize, mut chunk: Bytes, out: &mut VecDeque<Bytes>) -> Result<(), Refused> {
        if at == self.seats.len() {
            if !chunk.is_empty() {
                out.push_back(chunk);
            }
            return Ok(());
        }
        while !chunk.is_empty() {
            let part = chunk.split_to(chunk.len().min(LARGEST_CHUNK));
            let next = self.ask(at, part)?;
            self.pass_after(at, next, out)?;
        }
        Ok(())
    }

    /// What a policy makes of one chunk.
    fn ask(&mut self, at: usize, part: Bytes) -> Result<Bytes, Refused> {
        let seat = &mut self.seats[at];
        let Some(lease) = &mut seat.lease else { return Ok(part) };
        let (tab, side, whose) = (&self.tab, self.tab.side(seat.direction), seat.whose);
        seat.seen += part.len() as u64;
        if let BodyMode::Buffered(bound) = seat.mode
            && seat.seen > u64::from(bound)
        {
            return Err(side.refuse(Refusal::TooLarge(bound)));
        }
        let begun = Instant::now();
        let answer = lease.chunk(&part);
        tab.took(whose, begun);
        let piece = answer.and_then(|answer| seat.policy.accept_piece(seat.mode, tab.used(whose, answer)));
        match piece {
            Ok(Piece::Keep) => Ok(part),
            Ok(Piece::Replace(bytes)) => {
                side.changed();
                Ok(bytes.into())
            }
            Ok(Piece::Refuse(denial)) => {
                tab.said(whose, Verdict::Deny);
                Err(side.refuse(Refusal::Denied(denial)))
            }
            Ok(Piece::Stop) => {
                tab.said(whose, Verdict::Deny);
                Err(side.refuse(Refusal::Stopped(seat.policy.name.clone())))
            }
            Err(failure) => self.failed(at, &failure).map(|()| part),
        }
    }

    /// On to the next policy, or held.
    fn pass_after(&mut self, at: usize, bytes: Bytes, out: &mut VecDeque<Bytes>) -> Result<(), Refused> {
        let Some(bound) = self.seats[at].bound() else { return self.pass_from(at + 1, bytes, out) };
        if !bytes.is_empty()
            && let Err(failure) = self.seats[at].hold(&bytes, bound)
        {
            return self.failed(at, &failure);
        }
        Ok(())
    }

    /// A policy's last word, and what it adds.
    fn last_word(&mut self, at: usize) -> Result<Bytes, Refused> {
        let seat = &mut self.seats[at];
        let Some(mut lease) = seat.lease.take() else { return Ok(Bytes::new()) };
        match last_word(seat, &mut lease, &self.tab) {
            Ok(Ok(more)) => {
                match seat.bound() {
                    Some(_) => seat.spent = Some(lease),
                    None => lease.give_back(),
                }
                if !more.is_empty() {
                    self.tab.side(seat.direction).changed();
                }
                Ok(more.into())
            }
            Ok(Err(refused)) => {
                lease.give_back();
                Err(refused)
            }
            Err(failure) => self.failed(at, &failure).map(|()| Bytes::new()),
        }
    }
}

fn last_word(seat: &Seat, lease: &mut Lease, tab: &Tab) -> Result<Result<Vec<u8>, Refused>, Failure> {
    let Seat { policy, slot, whose, mode, .. } = seat;
    let (position, charged) = (whose.position, tab.charged_by(whose.position));
    let side = tab.side(seat.direction);
    let begun = Instant::now();
    if seat.direction == Direction::Response {
        let answer = lease.end_response();
        tab.took(*whose, begun);
        let Some(end) = tab.used(*whose, answer?) else { return Ok(Ok(Vec::new())) };
        let word = policy.accept_response_end(*slot, *mode, end, charged)?;
        tab.charge(position, &word.decided.charges);
        if word.decided.reply.is_some() {
            tab.said(*whose, Verdict::Respond);
        }
        tab.thoughts.borrow_mut().push((position, word.decided));
        return Ok(Ok(word.more));
    }
    let answer = lease.end_request();
    tab.took(*whose, begun);
    let Some(end) = tab.used(*whose, answer?) else { return Ok(Ok(Vec::new())) };
    let mut word = policy.accept_request_end(*slot, *mode, end, charged)?;
    tab.charge(position, &word.decided.charges);
    tab.said(*whose, verdict(&word.decided.action));
    match std::mem::replace(&mut word.decided.action, Action::Next) {
        Action::Deny(denial) => return Ok(Err(side.refuse(Refusal::Denied(*denial)))),
        Action::Respond(reply) => return Ok(Err(side.refuse(Refusal::Answered(*reply)))),
        action => word.decided.action = action,
    }
    tab.decisions.borrow_mut().push((position, word.decided));
    Ok(Ok(word.more))
}

impl Filter for Followers {
    fn pass(&mut self, chunk: Bytes, out: &mut VecDeque<Bytes>) -> Result<(), Refused> {
        self.pass_from(0, chunk, out)
    }

    fn end(&mut self, out: &mut VecDeque<Bytes>) -> Result<(), Refused> {
        for at in 0..self.seats.len() {
            let more = self.last_word(at)?;
            if !self.bodiless {
                self.pass_after(at, more, out)?;
            }
            for block in std::mem::take(&mut self.seats[at].held) {
                self.pass_from(at + 1, block.into(), out)?;
            }
        }
        Ok(())
    }
}
