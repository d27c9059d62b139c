//! The way from one thread to another, bounded by bytes: what does not fit is not taken, and nobody waits to put something in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// What goes through.
pub(super) trait Batch {
    /// So much memory it takes, about.
    fn bytes(&self) -> u64;

    /// So many records are in it.
    fn count(&self) -> u64;
}

/// Some lines.
#[derive(Default)]
pub(super) struct Lines {
    pub(super) text: Vec<u8>,
    pub(super) count: u64,
}

impl Batch for Lines {
    fn bytes(&self) -> u64 {
        self.text.len() as u64
    }

    fn count(&self) -> u64 {
        self.count
    }
}

/// Where batches are put in, by one thread.
pub(super) struct Inlet<T> {
    batches: Sender<T>,
    waiting: Arc<AtomicU64>,
    most: u64,
}

/// Where they are taken out.
pub(super) struct Outlet<T> {
    batches: Receiver<T>,
    waiting: Arc<AtomicU64>,
}

/// Both ends of a queue in which so many bytes may wait.
pub(super) fn queue<T: Batch>(most: u64) -> (Inlet<T>, Outlet<T>) {
    let ((send, receive), waiting) = (channel(), Arc::<AtomicU64>::default());
    (Inlet { batches: send, waiting: waiting.clone(), most }, Outlet { batches: receive, waiting })
}

impl<T: Batch> Inlet<T> {
    /// Whether it was taken: there was room, and there is somebody who takes it out.
    pub(super) fn put(&self, batch: T) -> bool {
        let bytes = batch.bytes();
        if self.waiting.load(Ordering::Relaxed).saturating_add(bytes) > self.most {
            return false;
        }
        // Before it can be taken out.
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
        self.batches.send(batch).is_ok()
    }
}

impl<T: Batch> Outlet<T> {
    /// The next one; none when nobody is left to put one in.
    pub(super) fn next(&self) -> Option<T> {
        self.batches.recv().ok().map(|batch| self.taken(batch))
    }

    /// The next one, if it comes in time.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn next_within(&self, patience: Duration) -> Result<T, RecvTimeoutError> {
        self.batches.recv_timeout(patience).map(|batch| self.taken(batch))
    }

    fn taken(&self, batch: T) -> T {
        self.waiting.fetch_sub(batch.bytes(), Ordering::Relaxed);
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_what_is_bounded_and_room_comes_back() {
        let lines = |length: usize| Lines { text: vec![b'x'; length], count: 1 };
        let (inlet, outlet) = queue(100);
        // Any number of small ones.
        assert!((0..100).all(|_| inlet.put(lines(1))));
        assert!(!inlet.put(lines(1)));
        assert_eq!(outlet.next().expect("the first").bytes(), 1);
        assert!(inlet.put(lines(1)) && !inlet.put(lines(1)));
        assert!((0..100).all(|_| outlet.next_within(Duration::ZERO).is_ok()));
        assert!(inlet.put(lines(100)) && !inlet.put(lines(1)));
        drop(inlet);
        assert_eq!(outlet.next_within(Duration::ZERO).expect("the last").bytes(), 100);
        assert!(outlet.next().is_none());
    }

    #[test]
    fn nobody_to_take_it_out_is_no_room() {
        let (inlet, outlet) = queue(100);
        drop(outlet);
        assert!(!inlet.put(Lines::default()));
    }
}
