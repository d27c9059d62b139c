//! Usage that is kept in memory only: for tests, and for gateways that keep nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Caller, Counts, Day, Detail, Mark, Month, MonthlyCount, Page, Pending, Record, Summary, UsageStore};

/// Rows in memory; gone with the process.
#[derive(Debug, Default)]
pub struct MemoryUsage(Mutex<Rows>, Mutex<BTreeMap<u32, Mark>>);

type Rows = BTreeMap<(Day, Caller, Arc<str>, Arc<str>), Counts>;

impl MemoryUsage {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        // Sums are only ever added to: whole enough, whatever their holder was interrupted in.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls back with each row of a month.
    fn each(&self, month: Month, mut see: impl FnMut(Caller, &Arc<str>, &Counts)) {
        let (first, end) = (month.first_day(), month.next().first_day());
        for ((day, caller, pillar, _), counts) in self.rows().iter() {
            if (first..end).contains(day) {
                see(*caller, pillar, counts);
            }
        }
    }
}

impl UsageStore for MemoryUsage {
    fn add_marked(&self, records: Vec<Record>, marks: Vec<Mark>) -> Pending<'_, ()> {
        let mut rows = self.rows();
        self.1.lock().unwrap_or_else(PoisonError::into_inner).extend(marks.into_iter().map(|mark| (mark.lane, mark)));
        for record in records {
            let key = (record.day, record.caller, record.pillar, record.route);
            rows.entry(key).or_default().merge(&record.counts);
        }
        Box::pin(async { Ok(()) })
    }

    fn marks(&self) -> Pending<'_, Vec<Mark>> {
        let marks = self.1.lock().unwrap_or_else(PoisonError::into_inner).values().copied().collect();
        Box::pin(async { Ok(marks) })
    }

    fn flush(&self) -> Pending<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    fn month(&self, org: Option<u128>, month: Month) -> Pending<'_, Summary> {
        let mut summary = Summary::default();
        self.each(month, |caller, pillar, counts| {
            if caller.org == org {
                summary.add(pillar, counts);
            }
        });
        Box::pin(async { Ok(summary) })
    }

    fn detail(&self, question: Detail) -> Pending<'_, Page> {
        let mut gathering = question.gather();
        let (rows, days) = (self.rows(), gathering.days());
        for ((day, caller, pillar, route), counts) in rows.iter() {
            let is_asked = days.is_some_and(|(first, last)| (first..=last).contains(day));
            if is_asked && caller.org == question.org && !gathering.see(*day, *caller, pillar, route, counts) {
                break;
            }
        }
        let page = gathering.finish();
        Box::pin(async { Ok(page) })
    }

    fn monthly_counts(&self, month: Month) -> Pending<'_, Vec<MonthlyCount>> {
        let mut sums = BTreeMap::new();
        self.each(month, |caller, pillar, counts| {
            *sums.entry((caller, Arc::clone(pillar))).or_insert(0u64) += counts.let_through();
        });
        let counts = sums.into_iter().map(|((caller, pillar), calls)| MonthlyCount { caller, pillar, calls });
        let counts = counts.collect();
        Box::pin(async { Ok(counts) })
    }

    fn forget_before(&self, day: Day) -> Pending<'_, u64> {
        let mut rows = self.rows();
        let before = rows.len();
        rows.retain(|(of, ..), _| *of >= day);
        let forgotten = before - rows.len();
        Box::pin(async move { Ok(u64::try_from(forgotten).unwrap_or(u64::MAX)) })
    }
}
