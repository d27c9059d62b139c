//! When a guest that waits runs, and how long it has: the processor time of its own polls, whatever else its worker does
//! meanwhile.

use crate::plugin::engine::processor_time;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::Semaphore;

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

    /// A poll begins. Both tell the processor time of the thread.
    fn resumed(&self) -> u64 {
        let now = processor_time();
        self.since.store(nanos(now), Ordering::Relaxed);
        nanos(now)
    }

    fn suspended(&self) -> u64 {
        let now = processor_time();
        self.used.store(self.used_by(now), Ordering::Relaxed);
        nanos(now)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Whose turn it is on a worker: guests that wait run one after another within a slice, and however many want to, the worker
/// looks at its sockets after each slice. So a request that has nothing to do with them waits for one slice and not for all.
#[derive(Debug, Clone)]
pub(super) struct Turns(Arc<Turn>);

#[derive(Debug)]
struct Turn {
    of: Semaphore,
    /// Nanoseconds that guests had since the worker looked at its sockets.
    had: AtomicU64,
    /// Nanoseconds that they may have.
    slice: AtomicU64,
}

/// Time for guests between two looks at the sockets, at least.
const SLICE: Duration = Duration::from_micros(100);

/// Between two looks, guests may have one such part of what all others had: a flood of other requests does not stop them.
const PART: u32 = 4;

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Turn { of: Semaphore::new(1), had: AtomicU64::new(0), slice: AtomicU64::new(nanos(SLICE)) }))
    }
}

impl Turns {
    /// Drives a call to its end, each step in its turn. Its running time is counted, and the time of its turns is not.
    pub(super) async fn drive<F: Future>(&self, run: Arc<Run>, call: F) -> F::Output {
        let mut call = Box::pin(call);
        loop {
            self.next().await;
            let step = poll_fn(|context| {
                let begun = run.resumed();
                let polled = call.as_mut().poll(context);
                self.0.had.fetch_add(run.suspended().saturating_sub(begun), Ordering::Relaxed);
                Poll::Ready(polled)
            });
            if let Poll::Ready(answer) = step.await {
                return answer;
            }
            woken().await;
        }
    }

    /// Ends within a slice at once, and else in a slice to come. Who has the turn looks at the sockets for all who wait for it.
    async fn next(&self) {
        while self.0.is_used_up() {
            // Never closed.
            let _turn = self.0.of.acquire().await;
            if self.0.is_used_up() {
                let before = processor_time();
                tokio::task::yield_now().await;
                self.0.begin_slice(processor_time().saturating_sub(before));
            }
        }
    }
}

impl Turn {
    fn is_used_up(&self) -> bool {
        self.had.load(Ordering::Relaxed) >= self.slice.load(Ordering::Relaxed)
    }

    /// Another slice. Others have just had this much of the worker: guests keep a fixed part of it, however busy it is.
    fn begin_slice(&self, others: Duration) {
        self.slice.store(nanos(SLICE.max(others / PART)), Ordering::Relaxed);
        self.had.store(0, Ordering::Relaxed);
    }
}

/// Ends when the task is polled again, as it is when anything wakes it.
fn woken() -> impl Future<Output = ()> {
    let mut again = false;
    poll_fn(move |_| if std::mem::replace(&mut again, true) { Poll::Ready(()) } else { Poll::Pending })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has the thread for a while.
    fn busy(time: Duration) {
        let before = processor_time();
        while processor_time() - before < time {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn whoever_needs_no_turn_waits_for_one_slice_and_not_for_all() {
        let (turns, ended) = (Turns::default(), Arc::new(AtomicU64::new(0)));
        let guests: Vec<_> = (0..8)
            .map(|_| {
                let (turns, ended) = (turns.clone(), ended.clone());
                tokio::spawn(async move {
                    turns.drive(Arc::default(), async { busy(SLICE * 2) }).await;
                    ended.fetch_add(1, Ordering::Relaxed);
                })
            })
            .collect();
        let mut seen = Vec::new();
        while ended.load(Ordering::Relaxed) < 8 {
            tokio::task::yield_now().await;
            seen.push(ended.load(Ordering::Relaxed));
        }
        assert!(seen.windows(2).all(|pair| pair[1] - pair[0] <= 1), "one at a time between two looks: {seen:?}");
        for guest in guests {
            guest.await.unwrap();
        }
    }

    #[tokio::test]
    async fn short_steps_share_a_slice_and_one_that_left_has_no_turn() {
        let turns = Turns::default();
        let mut left = Box::pin(turns.drive(Arc::default(), std::future::pending::<()>()));
        let pending = poll_fn(|context| Poll::Ready(left.as_mut().poll(context).is_pending())).await;
        assert!(pending, "it waits for something else, and without a turn");
        turns.drive(Arc::default(), async {}).await;
        turns.0.had.store(nanos(SLICE), Ordering::Relaxed);
        let mut holds = Box::pin(turns.drive(Arc::default(), async {}));
        let pending = poll_fn(|context| Poll::Ready(holds.as_mut().poll(context).is_pending())).await;
        assert!(pending, "its turn is after the next look");
        drop(holds);
        turns.drive(Arc::default(), async {}).await;
        assert!(turns.0.had.load(Ordering::Relaxed) < nanos(SLICE), "a look begins a new slice");
    }

    #[tokio::test]
    async fn guests_keep_their_part_of_a_busy_worker() {
        let turns = Turns::default();
        turns.0.begin_slice(SLICE * PART * 3);
        turns.0.had.store(nanos(SLICE * 2), Ordering::Relaxed);
        let mut own = Box::pin(turns.drive(Arc::default(), async {}));
        let ended = poll_fn(|context| Poll::Ready(own.as_mut().poll(context).is_ready())).await;
        assert!(ended, "within the larger slice, without a look");
        turns.0.begin_slice(Duration::ZERO);
        assert_eq!(turns.0.slice.load(Ordering::Relaxed), nanos(SLICE), "on an idle worker: the least");
    }

    #[tokio::test]
    async fn a_step_that_wakes_itself_goes_on() {
        let turns = Turns::default();
        let steps = turns.drive(Arc::default(), async {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            3
        });
        assert_eq!(steps.await, 3);
    }

    #[test]
    fn only_its_own_polls_count() {
        let run = Run::default();
        run.start(Duration::from_millis(2));
        run.suspended();
        busy(Duration::from_millis(5));
        run.resumed();
        assert!(!run.is_over(processor_time()), "the thread did something else meanwhile");
        busy(Duration::from_millis(3));
        assert!(run.is_over(processor_time()), "now it ran itself");
        run.start(Duration::from_millis(2));
        assert!(!run.is_over(processor_time()), "a new call begins anew");
    }
}
