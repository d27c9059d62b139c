//! Time for guests: a call's deadline, and the thread that makes deadlines noticed.

use super::EngineError;
use crate::plugin::guest::Guest;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use wasmtime::{Store, UpdateDeadline};

/// How often deadlines are looked at.
pub const TICK: Duration = Duration::from_millis(5);

/// Time for each step of a load, at least: nobody waits for it, and a machine that is busy for a moment must not make a good
/// component look like a bad one. The fuel is that of a call.
pub(in crate::plugin) const LOAD: Duration = Duration::from_secs(1);

/// Gives a store the time of one call, from now; or of one step, where its guest is [being loaded](Guest::loading).
pub(in crate::plugin) fn start_clock(store: &mut Store<Guest>) {
    let time = store.data().bounds.deadline;
    if let Some(waiting) = &store.data().waiting {
        waiting.run.start(time);
        // Each tick gives the worker to others for a moment, so that a guest that runs does not hold it.
        store.set_epoch_deadline(1);
        return;
    }
    store.data_mut().near_deadline = None;
    let ticks = time.as_millis().div_ceil(TICK.as_millis()) as u64;
    // The last of these ends up to a tick before the deadline; see below.
    store.set_epoch_deadline(ticks.max(1));
}

/// Called a tick before the deadline, and with each tick from then on. The guest is stopped as soon as it has had half a tick of
/// processor time since: at the deadline, if it runs all the time. One whose worker was set aside by the machine can end.
pub(super) fn at_deadline(guest: &mut Guest) -> UpdateDeadline {
    let used = processor_time();
    if let Some(waiting) = &guest.waiting {
        // Not at once to the end of the queue, but after the worker has looked at its sockets again.
        let others = || UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()));
        return if waiting.run.is_over(used) { UpdateDeadline::Interrupt } else { others() };
    }
    let since = *guest.near_deadline.get_or_insert(used);
    if is_over(since, used) { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(1) }
}

/// What this thread has had of the processor.
pub(in crate::plugin) fn processor_time() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(used).unwrap_or_default()
}

/// Whether a guest has had its time, by the processor time of its thread then and now.
fn is_over(since: Duration, used: Duration) -> bool {
    used.saturating_sub(since) >= TICK / 2
}

/// A thread that moves the engine's epoch on, until it is dropped.
pub(super) struct Ticker {
    stop: Arc<AtomicBool>,
}

impl Ticker {
    pub(super) fn start(engine: wasmtime::Engine) -> Result<Self, EngineError> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        std::thread::Builder::new()
            .name("portico-epoch".into())
            .spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    std::thread::sleep(TICK);
                    engine.increment_epoch();
                }
            })
            .map_err(|error| EngineError(format!("no thread for its clock: {error}")))?;
        Ok(Self { stop })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_processor_time_ends_a_call() {
        let at = Duration::from_millis;
        assert!(!is_over(at(100), at(100)), "the first look");
        assert!(!is_over(at(100), at(102)), "set aside for most of a tick");
        assert!(is_over(at(100), at(105)), "ran for the whole tick");
        assert!(!is_over(at(100), at(90)), "a clock that goes back ends nothing");
    }
}
