//! The way from a worker to the store, for a secret that is not in memory and may be somebody's: a bounded queue in, one answer back.
//!
//! A worker never waits for room. Nobody who comes with a key that may be good is told that it is nobody's because the store is slow,
//! full or broken: they are told to come again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::{mpsc, oneshot};

use super::Held;
use crate::key::Digest;

/// Look-ups that wait for the store, over all workers.
const WAITING: usize = 1_024;
/// How long one may take, the wait in the queue included.
const PATIENCE: Duration = Duration::from_secs(2);

/// Digests of one secret under all peppers, newest first.
pub(super) type Digests = SmallVec<[Digest; 4]>;

/// Whether a presented key is good cannot be said at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store of keys does not answer in time")]
pub struct Unavailable;

/// What the store says: what the secret opens and by which digest, or that it is nobody's.
pub(super) type Told = Result<Option<(Held, Digest)>, Unavailable>;

/// One look-up on its way.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) digests: Digests,
    pub(super) answer: oneshot::Sender<Told>,
}

/// What became of look-ups since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LookUps {
    /// The store has the key.
    pub found: u64,
    /// The store does not have it: the filter was wrong.
    pub nobody: u64,
    /// The store failed.
    pub failed: u64,
    /// Given up by who asked: no answer in time.
    pub timed_out: u64,
    /// Not begun: the queue was full.
    pub refused: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) found: AtomicU64,
    pub(super) nobody: AtomicU64,
    pub(super) failed: AtomicU64,
    timed_out: AtomicU64,
    refused: AtomicU64,
}

/// The workers' end of the queue.
#[derive(Debug)]
pub(super) struct Way {
    queue: mpsc::Sender<Ask>,
    patience: Duration,
    pub(super) counts: Counts,
}

impl Way {
    /// Both ends of a queue.
    pub(super) fn new() -> (Self, mpsc::Receiver<Ask>) {
        Self::with(WAITING, PATIENCE)
    }

    fn with(waiting: usize, patience: Duration) -> (Self, mpsc::Receiver<Ask>) {
        let (queue, asked) = mpsc::channel(waiting);
        (Self { queue, patience, counts: Counts::default() }, asked)
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask(&self, digests: Digests) -> Told {
        let (answer, answered) = oneshot::channel();
        if self.queue.try_send(Ask { digests, answer }).is_err() {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Unavailable);
        }
        match tokio::time::timeout(self.patience, answered).await {
            Ok(Ok(told)) => told,
            Ok(Err(_)) | Err(_) => {
                self.counts.timed_out.fetch_add(1, Ordering::Relaxed);
                Err(Unavailable)
            }
        }
    }

    /// What became of look-ups since the start.
    pub(super) fn figures(&self) -> LookUps {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { found, nobody, failed, timed_out, refused } = &self.counts;
        LookUps {
            found: read(found),
            nobody: read(nobody),
            failed: read(failed),
            timed_out: read(timed_out),
            refused: read(refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests() -> Digests {
        [Digest::new([1; 32])].into_iter().collect()
    }

    #[tokio::test]
    async fn a_full_queue_and_an_answer_that_does_not_come_are_not_a_no() {
        let (way, mut asked) = Way::with(1, Duration::from_millis(20));
        assert_eq!(way.ask(digests()).await.map(drop), Err(Unavailable));
        assert_eq!(way.ask(digests()).await.map(drop), Err(Unavailable), "the first still waits");
        assert!(asked.recv().await.unwrap().answer.is_closed());
        let answered = async { asked.recv().await.unwrap().answer.send(Ok(None)).unwrap() };
        let (told, ()) = tokio::join!(way.ask(digests()), answered);
        assert!(matches!(told, Ok(None)));
        assert_eq!(way.figures(), LookUps { timed_out: 1, refused: 1, ..LookUps::default() });
    }
}
