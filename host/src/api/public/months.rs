//! What an org used in a month, for whoever asks often: read from the store once, for all who ask at that moment.
//!
//! An org has one read under way at a time and few who wait for it, so that none of them keeps the others out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::api::Refusal;
use crate::clock::{Clock, Millis};
use crate::id::OrgId;
use crate::usage::{Month, Summary, UsageStore};

/// For how long a sum is told again. Calls have to show within a second, and most of that goes for booking them.
const TOLD_AGAIN: Duration = Duration::from_millis(200);
/// Requests of one org that are answered at once.
const AT_ONCE: usize = 8;
/// Orgs that are remembered.
const ORGS: usize = 1_000;

/// Sums of usage by org and month.
#[derive(Debug)]
pub(super) struct Months {
    store: Arc<dyn UsageStore>,
    clock: Clock,
    orgs: Mutex<HashMap<Option<OrgId>, Arc<Org>>>,
}

/// Each with when it was read.
type Sums = HashMap<Month, (Millis, Arc<Summary>)>;

#[derive(Debug)]
struct Org {
    places: Semaphore,
    sums: Arc<tokio::sync::Mutex<Sums>>,
}

impl Months {
    pub(super) fn new(store: Arc<dyn UsageStore>, clock: Clock) -> Self {
        Self { store, clock, orgs: Mutex::default() }
    }

    /// The sums of these months.
    ///
    /// # Errors
    /// 503, where the store fails or too much is asked for this org.
    pub(super) async fn of(&self, org: Option<OrgId>, months: &[Month]) -> Result<Vec<Arc<Summary>>, Refusal> {
        let entry = self.entry(org);
        let _place = entry.places.try_acquire().map_err(|_| busy())?;
        let mut sums = Vec::with_capacity(months.len());
        for month in months {
            sums.push(self.one(&entry, org, *month).await?);
        }
        Ok(sums)
    }

    async fn one(&self, entry: &Org, org: Option<OrgId>, month: Month) -> Result<Arc<Summary>, Refusal> {
        let mut kept = entry.sums.clone().lock_owned().await;
        let now = self.clock.now();
        kept.retain(|_, (at, _)| now < at.plus(TOLD_AGAIN));
        if let Some((_, sum)) = kept.get(&month) {
            return Ok(sum.clone());
        }
        let store = self.store.clone();
        // To its end, also when nobody waits for it any more: else another one would begin beside it.
        let read = tokio::spawn(async move {
            let sum = Arc::new(store.month(org.map(OrgId::number), month).await?);
            kept.insert(month, (now, sum.clone()));
            Ok(sum)
        });
        read.await
            .map_err(|_| Refusal::store_unavailable())?
            .map_err(|error: crate::usage::StoreError| Refusal::failed(&error))
    }

    fn entry(&self, org: Option<OrgId>) -> Arc<Org> {
        let mut orgs = self.orgs.lock().unwrap_or_else(PoisonError::into_inner);
        if orgs.len() >= ORGS && !orgs.contains_key(&org) {
            orgs.retain(|_, org| Arc::strong_count(org) > 1);
        }
        let new = || Arc::new(Org { places: Semaphore::new(AT_ONCE), sums: Arc::default() });
        orgs.entry(org).or_insert_with(new).clone()
    }
}

fn busy() -> Refusal {
    let detail = "Too much is asked for your org at once; ask again in a moment.";
    Refusal::new(503, "gateway_busy", "Busy", detail).retry_after(1)
}

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;

    use super::*;
    use crate::usage::{Day, Detail, Mark, MonthlyCount, Page, Pending, Record};

    #[derive(Debug, Default)]
    struct Slow {
        reads: std::sync::atomic::AtomicUsize,
        go: Notify,
    }

    impl UsageStore for Slow {
        fn add_marked(&self, _: Vec<Record>, _: Vec<Mark>) -> Pending<'_, ()> {
            Box::pin(async { Ok(()) })
        }

        fn marks(&self) -> Pending<'_, Vec<Mark>> {
            Box::pin(async { Ok(Vec::new()) })
        }

        fn flush(&self) -> Pending<'_, ()> {
            Box::pin(async { Ok(()) })
        }

        fn month(&self, _: Option<u128>, _: Month) -> Pending<'_, Summary> {
            Box::pin(async {
                self.reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                self.go.notified().await;
                Ok(Summary::default())
            })
        }

        fn detail(&self, _: Detail) -> Pending<'_, Page> {
            Box::pin(async { Ok(Page::default()) })
        }

        fn monthly_counts(&self, _: Month) -> Pending<'_, Vec<MonthlyCount>> {
            Box::pin(async { Ok(Vec::new()) })
        }

        fn forget_before(&self, _: Day) -> Pending<'_, u64> {
            Box::pin(async { Ok(0) })
        }
    }

    #[tokio::test]
    async fn an_org_has_one_read_under_way_and_few_who_wait() {
        let (store, clock) = (Arc::new(Slow::default()), Clock::manual(Millis(1_795_305_600_000)));
        let months = Arc::new(Months::new(store.clone(), clock.clone()));
        let month = Month::of(clock.now());
        let ask = |org| {
            let months = months.clone();
            tokio::spawn(async move { months.of(Some(OrgId::from_number(org)), &[month]).await.map(|sums| sums.len()) })
        };
        let asked: Vec<_> = (0..AT_ONCE).map(|_| ask(1)).collect();
        let reads = || store.reads.load(std::sync::atomic::Ordering::Relaxed);
        while reads() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(ask(1).await.unwrap().unwrap_err().problem().code, "gateway_busy");
        let other = ask(2);
        while reads() < 2 {
            tokio::task::yield_now().await;
        }
        store.go.notify_waiters();
        for one in asked {
            assert_eq!(one.await.unwrap().unwrap(), 1);
        }
        assert_eq!((other.await.unwrap().unwrap(), reads()), (1, 2), "one read for all of an org");
        clock.advance(TOLD_AGAIN);
        store.go.notify_one();
        assert_eq!((ask(1).await.unwrap().unwrap(), reads()), (1, 3));
    }
}
