//! What the host keeps for one instance: its bounds, its memory count, and the two interfaces that every policy may import.
//!
//! There is no clock, no random source and no input or output here, and there must not be: those are facts. What guests that wait
//! have beside that is in [`super::waiting`].

use super::bindings_0_1::portico::policy::{log, metrics, types};
use super::engine::LOAD;
use super::waiting::Waiting;
use crate::config::Bounds;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wasmtime::ResourceLimiter;
use wasmtime::component::HasData;

/// Lines that one call may log.
pub(super) const LINES_A_CALL: u32 = 16;

/// Bytes of a line that are kept.
pub(super) const LINE_BYTES: usize = 2048;

/// Tables are few and small in real guests; this holds for each.
const TABLE_ELEMENTS: usize = 20_000;

/// An instance that has outgrown its memory goes only after so many calls, or after it has grown in so many of them: what merely
/// needs that much for one call gets no better by being replaced, and would be at each. So of eight calls one at most pays for a
/// new instance.
const CALLS_OF_ITS_OWN: u64 = 64;
const CALLS_WITH_GROWTH: u32 = 8;

/// As the one above, for guests that wait: an interpreter has a function for each thing that its language can do.
pub(super) const TABLE_ELEMENTS_WAITING: usize = 100_000;

/// The store data of one instance.
pub struct Guest {
    pub(super) bounds: Bounds,
    /// Bytes over all memories of the instance.
    memory: usize,
    /// What of it was in use after the first call with the configuration that came last.
    settled: usize,
    /// Bytes over all memories when its last call ended.
    before: usize,
    /// Calls in which it has grown since it settled.
    growths: u32,
    /// The CPU time of the thread when the deadline of the call came near.
    pub(super) near_deadline: Option<Duration>,
    /// What only guests that wait have.
    pub(super) waiting: Option<Box<Waiting>>,
    pub(super) policy: Arc<str>,
    counters: Arc<[Counter]>,
    lines: u32,
    dropped: u32,
}

/// A counter that a policy declared.
#[derive(Debug)]
pub struct Counter {
    /// Its name, as declared.
    pub name: String,
    /// What was counted, over all workers.
    pub value: AtomicU64,
}

impl Guest {
    pub(super) fn new(policy: Arc<str>, bounds: Bounds, counters: Arc<[Counter]>) -> Self {
        Self {
            bounds,
            memory: 0,
            settled: 0,
            before: 0,
            growths: 0,
            near_deadline: None,
            waiting: None,
            policy,
            counters,
            lines: 0,
            dropped: 0,
        }
    }

    /// As one that is loaded: for its beginning and for each step it has the time of a step of a load.
    pub(super) fn loading(mut self) -> Self {
        self.bounds.deadline = self.bounds.deadline.max(LOAD);
        self
    }

    /// As one that can wait.
    pub(super) fn waiting(mut self, waiting: Waiting) -> Self {
        self.waiting = Some(Box::new(waiting));
        self
    }

    /// Called after the first call with another configuration: what it has now, it needs.
    pub(super) fn settled(&mut self) {
        self.settled = self.memory;
        self.growths = 0;
    }

    /// Whether, after so many calls, it has grown by more than three quarters of what was left to it when it settled. Memory of
    /// a guest never gets less, so one of its next calls would get no more. What merely needs much of its memory from
    /// the first call on has not grown; nor has what took it for a single call.
    pub(super) fn has_outgrown(&self, calls: u64) -> bool {
        let left = |used| self.bounds.memory.saturating_sub(used);
        let is_steady = calls >= CALLS_OF_ITS_OWN || self.growths >= CALLS_WITH_GROWTH;
        is_steady && left(self.memory) < left(self.settled) / 4
    }

    /// Called after each call into the guest.
    pub(super) fn call_ended(&mut self) {
        self.lines = 0;
        self.growths = self.growths.saturating_add(u32::from(self.memory > self.before));
        self.before = self.memory;
        if let Some(waiting) = &mut self.waiting {
            waiting.call_ended();
        }
        if self.dropped > 0 {
            tracing::warn!(policy = %self.policy, dropped = self.dropped, "a policy logged more than {LINES_A_CALL} lines in one call; the rest was dropped");
            self.dropped = 0;
        }
    }
}

/// Marks [`Guest`] as the place of the imports.
pub(super) struct Imports;

impl HasData for Imports {
    type Data<'a> = &'a mut Guest;
}

impl types::Host for Guest {}

impl log::Host for Guest {
    fn write(&mut self, level: log::Level, message: String) {
        if self.lines == LINES_A_CALL {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        self.lines += 1;
        write_line(&self.policy, level, &message);
    }
}

/// Writes one line of a guest's.
pub(super) fn write_line(policy: &str, level: log::Level, message: &str) {
    let cut = message.floor_char_boundary(LINE_BYTES.min(message.len()));
    // Escaped, so that a guest cannot forge lines or drive a terminal.
    let message = message[..cut].escape_debug();
    match level {
        log::Level::Debug => tracing::debug!(target: "portico::policy", policy, "{message}"),
        log::Level::Info => tracing::info!(target: "portico::policy", policy, "{message}"),
        log::Level::Warn => tracing::warn!(target: "portico::policy", policy, "{message}"),
        log::Level::Error => tracing::error!(target: "portico::policy", policy, "{message}"),
    }
}

impl metrics::Host for Guest {
    fn count(&mut self, counter: u32, by: u64) {
        // A position that was not declared counts nothing: there is no name under which to show it.
        if let Some(counter) = self.counters.get(counter as usize) {
            counter.value.fetch_add(by, Ordering::Relaxed);
        }
    }
}

impl ResourceLimiter for Guest {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // Beyond what the memory itself declares there is no growth, whatever is allowed here: so it is not counted, either.
        if maximum.is_some_and(|most| desired > most) {
            return Ok(false);
        }
        let more = desired.saturating_sub(current);
        match self.memory.checked_add(more) {
            Some(sum) if sum <= self.bounds.memory => {
                self.memory = sum;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= if self.waiting.is_some() { TABLE_ELEMENTS_WAITING } else { TABLE_ELEMENTS })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime::{Memory, MemoryType, Store};

    fn guest() -> Guest {
        let bounds =
            Bounds { fuel: 1, fuel_per_kib: 1, deadline: Duration::from_secs(1), memory: 1 << 20, copied_out: 1 };
        Guest::new("g".into(), bounds, Arc::new([]))
    }

    fn grown(guest: &mut Guest, to: usize) -> bool {
        let current = guest.memory;
        guest.memory_growing(current, to, None).unwrap()
    }

    #[test]
    fn what_grows_is_outgrown_and_what_is_large_is_not() {
        let mut guest = guest();
        let is_outgrown = |guest: &Guest| guest.has_outgrown(CALLS_OF_ITS_OWN);
        assert!(grown(&mut guest, 800 << 10), "three quarters and more, from the beginning");
        guest.settled();
        assert!(!is_outgrown(&guest));
        assert!(grown(&mut guest, 960 << 10));
        assert!(!is_outgrown(&guest), "64 of 224 KiB are left");
        assert!(grown(&mut guest, 970 << 10));
        assert!(is_outgrown(&guest), "54 of 224 KiB are left");
        guest.settled();
        assert!(grown(&mut guest, 1 << 20) && is_outgrown(&guest));
        guest.settled();
        assert!(!is_outgrown(&guest), "nothing is left, and nothing was");
        assert!(!grown(&mut guest, (1 << 20) + 1));
    }

    #[test]
    fn what_needs_much_for_a_call_is_not_replaced_after_each() {
        let mut guest = guest();
        guest.call_ended();
        guest.settled();
        assert!(grown(&mut guest, 1 << 20), "all of it, in one call");
        for calls in 2..CALLS_OF_ITS_OWN {
            guest.call_ended();
            assert!(!guest.has_outgrown(calls), "{calls}");
        }
        assert!(guest.has_outgrown(CALLS_OF_ITS_OWN));
    }

    #[test]
    fn what_grows_with_each_call_is_replaced_before_one_fails() {
        let mut guest = guest();
        guest.settled();
        let mut calls = 0;
        while !guest.has_outgrown(calls) {
            calls += 1;
            assert!(grown(&mut guest, usize::try_from(calls).unwrap() * (100 << 10)), "call {calls}");
            guest.call_ended();
        }
        assert_eq!(calls, 8, "80 of 100 per cent");
    }

    #[test]
    fn what_wasm_itself_refuses_is_no_growth() {
        let mut store = Store::new(&wasmtime::Engine::default(), guest());
        store.limiter(|guest| guest);
        let memory = Memory::new(&mut store, MemoryType::new(1, Some(3))).unwrap();
        let one = store.data().memory;
        assert_eq!(one, 64 << 10);
        assert!(memory.grow(&mut store, 3).is_err());
        assert_eq!(store.data().memory, one);
        assert!(memory.grow(&mut store, 2).is_ok());
        assert_eq!(store.data().memory, 3 * one);
    }
}
