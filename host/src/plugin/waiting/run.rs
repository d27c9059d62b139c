//! How long a guest that waits has run: the processor time of its own polls, whatever else its worker does meanwhile.

use crate::plugin::engine::processor_time;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

/// The running time of one call. Nanoseconds; one thread at a time touches it.
#[derive(Debug, Default)]
pub struct Run {
    /// What it may have.
    limit: AtomicU64,
    /// What it had in the polls that are over.
    used: AtomicU64,
    /// When this poll began, by the processor time of the thread.
    since: AtomicU64,
}

impl Run {
    /// From now on it may run so long.
    pub(in crate::plugin) fn start(&self, limit: Duration) {
        self.limit.store(nanos(limit), Ordering::Relaxed);
        self.used.store(0, Ordering::Relaxed);
        self.since.store(nanos(processor_time()), Ordering::Relaxed);
    }

    /// Whether it has had its time, at this processor time of the thread, in the middle of a poll.
    pub(in crate::plugin) fn is_over(&self, now: Duration) -> bool {
        self.used_by(now) >= self.limit.load(Ordering::Relaxed)
    }

    fn used_by(&self, now: Duration) -> u64 {
        let this_poll = nanos(now).saturating_sub(self.since.load(Ordering::Relaxed));
        self.used.load(Ordering::Relaxed).saturating_add(this_poll)
    }

    fn resumed(&self) {
        self.since.store(nanos(processor_time()), Ordering::Relaxed);
    }

    fn suspended(&self) {
        self.used.store(self.used_by(processor_time()), Ordering::Relaxed);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A call whose running time is counted.
pub(super) struct Counted<F> {
    call: Pin<Box<F>>,
    run: Arc<Run>,
}

impl<F> Counted<F> {
    pub(super) fn new(run: Arc<Run>, call: F) -> Self {
        Self { call: Box::pin(call), run }
    }
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.run.resumed();
        let polled = self.call.as_mut().poll(context);
        self.run.suspended();
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_polls_count() {
        let run = Run::default();
        run.start(Duration::from_millis(2));
        run.suspended();
        let before = processor_time();
        while processor_time() - before < Duration::from_millis(5) {
            std::hint::spin_loop();
        }
        run.resumed();
        assert!(!run.is_over(processor_time()), "the thread did something else meanwhile");
        let before = processor_time();
        while processor_time() - before < Duration::from_millis(3) {
            std::hint::spin_loop();
        }
        assert!(run.is_over(processor_time()), "now it ran itself");
        run.start(Duration::from_millis(2));
        assert!(!run.is_over(processor_time()), "a new call begins anew");
    }
}
