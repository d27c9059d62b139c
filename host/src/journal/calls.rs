//! The calls of one worker that are under way, in the order of the records that say so.
//!
//! A list through a slab: beginning, ending and going to the back of the line cost the same however many there are, and
//! the oldest is known at any time.

use super::record::Call;

const NONE: u32 = u32::MAX;

/// A call that is under way and written down.
#[derive(Debug)]
#[must_use = "a call that began has to end"]
pub struct Ticket(u32);

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    /// The call.
    pub(super) call: Call,
    /// Position of its names.
    pub(super) label: u32,
    /// Bytes that its end has to say about policies, at most.
    pub(super) burnt: u32,
    /// Number of the last record that says that it is under way.
    pub(super) sequence: u64,
    before: u32,
    after: u32,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Calls {
    slots: Vec<Pending>,
    vacant: Vec<u32>,
    oldest: u32,
    newest: u32,
}

impl Default for Calls {
    fn default() -> Self {
        Self { slots: Vec::new(), vacant: Vec::new(), oldest: NONE, newest: NONE }
    }
}

impl Calls {
    /// A call began with the newest record.
    pub(super) fn begin(&mut self, call: Call, label: u32, burnt: u32, sequence: u64) -> Ticket {
        let pending = Pending { call, label, burnt, sequence, before: NONE, after: NONE };
        let slot = match self.vacant.pop() {
            Some(slot) => {
                self.slots[slot as usize] = pending;
                slot
            }
            None => {
                self.slots.push(pending);
                // Each takes more than a hundred bytes: memory ends long before.
                u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 calls are under way")
            }
        };
        self.append(slot);
        Ticket(slot)
    }

    /// A call ended.
    pub(super) fn end(&mut self, ticket: Ticket) -> Pending {
        self.unlink(ticket.0);
        self.vacant.push(ticket.0);
        self.slots[ticket.0 as usize]
    }

    /// The one whose record is the oldest.
    pub(super) fn oldest(&self) -> Option<&Pending> {
        self.slots.get(self.oldest as usize)
    }

    /// The oldest was written down once more.
    pub(super) fn renew_oldest(&mut self, sequence: u64) {
        let slot = self.oldest;
        if let Some(pending) = self.slots.get_mut(slot as usize) {
            pending.sequence = sequence;
            self.unlink(slot);
            self.append(slot);
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }

    fn append(&mut self, slot: u32) {
        let newest = std::mem::replace(&mut self.newest, slot);
        let pending = &mut self.slots[slot as usize];
        (pending.before, pending.after) = (newest, NONE);
        match self.slots.get_mut(newest as usize) {
            Some(before) => before.after = slot,
            None => self.oldest = slot,
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Pending { before, after, .. } = self.slots[slot as usize];
        match self.slots.get_mut(before as usize) {
            Some(pending) => pending.after = after,
            None => self.oldest = after,
        }
        match self.slots.get_mut(after as usize) {
            Some(pending) => pending.before = before,
            None => self.newest = before,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::Millis;
    use crate::usage::Caller;

    proptest! {
        #[test]
        fn it_does_as_a_plain_queue_does(steps in prop::collection::vec((0u8..3, any::<prop::sample::Index>()), 0..200)) {
            let mut calls = Calls::default();
            let mut model: VecDeque<(u64, Ticket)> = VecDeque::new();
            for (sequence, (step, index)) in (1..).zip(steps) {
                match step {
                    0 if !model.is_empty() => {
                        let (expected, ticket) = model.remove(index.index(model.len())).unwrap();
                        prop_assert_eq!(calls.end(ticket).sequence, expected);
                    }
                    1 => {
                        calls.renew_oldest(sequence);
                        if let Some((_, ticket)) = model.pop_front() {
                            model.push_back((sequence, ticket));
                        }
                    }
                    _ => {
                        let call = Call { request: sequence.into(), caller: Caller::ANONYMOUS, at: Millis(0) };
                        model.push_back((sequence, calls.begin(call, 0, 0, sequence)));
                    }
                }
                prop_assert_eq!(calls.oldest().map(|oldest| oldest.sequence), model.front().map(|(sequence, _)| *sequence));
                prop_assert_eq!(calls.len(), model.len());
            }
        }
    }
}
