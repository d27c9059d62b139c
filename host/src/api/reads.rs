//! A bound on what is read at once for whoever asks.
//!
//! A request whose client has gone is dropped, and what it began in the store goes on: it counts here until that is done.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::Refusal;

/// Places for reads; clones share them.
#[derive(Debug, Clone)]
pub struct Reads(Arc<Semaphore>);

impl Reads {
    /// At most so many at once.
    pub fn most(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most)))
    }

    /// Whether nothing is being read.
    pub(super) fn is_idle(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Reads, to the end.
    ///
    /// # Errors
    /// 503 `busy` where all places are taken.
    pub async fn run<T: Send + 'static>(&self, read: impl Future<Output = T> + Send + 'static) -> Result<T, Refusal> {
        let place = self.0.clone().try_acquire_owned().map_err(|_| busy())?;
        let read = tokio::spawn(async move {
            let _place = place;
            read.await
        });
        // Cut off only when the gateway ends.
        read.await.map_err(|_| Refusal::store_unavailable())
    }
}

/// 503: as much is read as may be.
pub(super) fn busy() -> Refusal {
    let detail = "As much of this is being read as may be at once; ask again when that is done.";
    Refusal::new(503, "busy", "Busy", detail).retry_after(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_read_that_nobody_waits_for_any_more_keeps_its_place_until_it_is_done() {
        let reads = Reads::most(1);
        let gate = Arc::new(Semaphore::new(0));
        let opened = gate.clone();
        let slow = reads.run(async move { opened.acquire().await.map(|permit| permit.forget()) });
        assert!(tokio::time::timeout(Duration::from_millis(20), slow).await.is_err(), "it waits, and is dropped");
        let refused = reads.run(async {}).await.expect_err("the place is taken");
        assert_eq!((refused.problem().status, &*refused.problem().code), (503, "busy"));
        gate.add_permits(1);
        while reads.run(async {}).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}
