//! From what workers booked to the usage store: in order, all or nothing, and never ahead of the journal.
//!
//! Nothing is lost here: what the store does not take waits in memory, bounded by being added up, and in the journal.

use super::quotas::Quotas;
use super::{StartError, sentence};
use crate::config;
use crate::data::DataDirectory;
use crate::journal::{self, Earlier, Journal, Writer};
use crate::usage::{Batch, Caller, Counts, Day, Mark, Names, Record, UsageStore};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

#[cfg(test)]
mod tests;

/// How long what is done here takes, and waits. Workers hand over four times a second: with this, a call shows within a second.
const PACE: Pace = Pace {
    gather: Duration::from_millis(100),
    flush: Duration::from_secs(1),
    again: Duration::from_secs(1),
    patience: Duration::from_secs(5),
};
/// Between two looks at whether the journal is durable.
const LOOK: Duration = Duration::from_millis(2);
/// Rows that wait in memory while the store does not work; beyond that they are added up without callers.
const MAX_ROWS: usize = 1_000_000;

/// Counts what earlier starts have left, and begins a journal for each worker.
///
/// # Errors
/// When that cannot be read, kept, or begun.
pub(super) async fn begin(
    data: &DataDirectory,
    store: &dyn UsageStore,
    settings: config::Journal,
    workers: usize,
    names: &Arc<Names>,
) -> Result<(Arc<Journal>, Vec<Writer>), StartError> {
    let cannot = |error: &dyn std::error::Error| StartError::Cannot(sentence(error));
    let directory = data.path().join(journal::DIRECTORY);
    let marks = store.marks().await.map_err(|error| cannot(&error))?;
    let read = tokio::task::spawn_blocking(move || Earlier::read(&directory, &marks)).await;
    let mut earlier = read.map_err(|error| cannot(&error))?.map_err(|error| cannot(&error))?;
    let (records, marks) = earlier.take();
    if !records.is_empty() || !marks.is_empty() {
        store.add_marked(records, marks).await.map_err(|error| cannot(&error))?;
        // What was read is written over from now on.
        store.flush().await.map_err(|error| cannot(&error))?;
    }
    earlier.tell();
    let names = names.clone();
    let begun = tokio::task::spawn_blocking(move || earlier.begin(workers, &settings, &names)).await;
    let (journal, writers) = begun.map_err(|error| cannot(&error))?.map_err(|error| cannot(&error))?;
    Ok((Arc::new(journal), writers))
}

/// Caller, pillar, rule and day.
type Row = (Caller, Arc<str>, Arc<str>, Day);

/// What waits for the store. The same row of several batches is one: it grows with what is different, not with time.
#[derive(Default)]
struct Unkept {
    rows: HashMap<Row, Counts>,
    marks: BTreeMap<u32, Mark>,
    /// Given to the store, which may not have made them durable.
    unflushed: BTreeMap<u32, Mark>,
    /// Whether the store was given anything since it made something durable.
    flushes: bool,
    /// Whether the journal did not become durable in time.
    behind: bool,
}

/// How long things take and wait.
#[derive(Clone, Copy)]
struct Pace {
    /// From one addition to the next: what comes meanwhile goes in one.
    gather: Duration,
    /// From one flush to the next.
    flush: Duration,
    /// From what the store did not take to another try.
    again: Duration,
    /// How long the journal may take to become durable, before something else has its turn.
    patience: Duration,
}

/// Writes down what workers booked, until the last of them is gone.
pub(super) async fn keep(
    batches: mpsc::UnboundedReceiver<Batch>,
    store: Arc<dyn UsageStore>,
    names: Arc<Names>,
    journal: Arc<Journal>,
    quotas: Quotas,
) {
    keep_at(PACE, batches, &*store, &names, &journal, Some(quotas)).await;
}

async fn keep_at(
    pace: Pace,
    mut batches: mpsc::UnboundedReceiver<Batch>,
    store: &dyn UsageStore,
    names: &Names,
    journal: &Journal,
    mut quotas: Option<Quotas>,
) {
    let mut unkept = Unkept::default();
    let mut next = Instant::now();
    let mut flushed = Instant::now();
    let mut open = true;
    while open {
        match tokio::time::timeout(pace.again, batches.recv()).await {
            Ok(Some(batch)) => {
                unkept.add(batch, names);
                tokio::time::sleep_until(next.into()).await;
            }
            Ok(None) => open = false,
            // Nothing new, and perhaps something that could not be kept before.
            Err(_) => {}
        }
        // What is there is added in one go, for all workers.
        while let Ok(more) = batches.try_recv() {
            unkept.add(more, names);
        }
        if let Some(quotas) = &mut quotas {
            quotas.look(unkept.rows.keys().map(|row| row.0)).await;
        }
        let mut kept = true;
        if !unkept.is_empty() && unkept.may_go(journal, pace.patience).await {
            kept = unkept.give(store).await;
        }
        if unkept.flushes && (!open || flushed.elapsed() >= pace.flush) {
            kept &= unkept.flush(store, journal).await;
            flushed = Instant::now();
        }
        next = Instant::now() + if kept { pace.gather } else { pace.again };
    }
    if !unkept.is_empty() {
        let rows = unkept.rows.len();
        tracing::error!(
            rows,
            "usage of the last moments is not in the store; the journal has it, and the next start adds it"
        );
    }
    journal.end();
}

impl Unkept {
    fn add(&mut self, batch: Batch, names: &Names) {
        // A later mark of a worker takes in the earlier ones.
        self.marks.extend(batch.mark.map(|mark| (mark.lane, mark)));
        batch.resolve(names).into_iter().for_each(|record| self.merge(record, MAX_ROWS));
    }

    /// Adds a row; at most so many keep their caller, pillar and rule.
    fn merge(&mut self, record: Record, most: usize) {
        let Record { caller, pillar, route, day, counts } = record;
        let key = (caller, pillar, route, day);
        let other = || (Caller::ANONYMOUS, Arc::from("other"), Arc::from("other"), day);
        let key = if self.rows.len() < most || self.rows.contains_key(&key) { key } else { other() };
        self.rows.entry(key).or_default().merge(&counts);
    }

    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.marks.is_empty()
    }

    /// Waits until the journal has what the store would know of: else a loss of power could leave the beginning of a call there and its
    /// end here, and it would count twice. Where calls may go on without a record, that is no reason to keep them from the store.
    async fn may_go(&mut self, journal: &Journal, patience: Duration) -> bool {
        let durable = async {
            while !self.marks.values().all(|mark| journal.has(mark)) {
                tokio::time::sleep(LOOK).await;
            }
        };
        // Who has waited for it once looks only, until it is.
        let patience = if self.behind { Duration::ZERO } else { patience };
        let behind = tokio::time::timeout(patience, durable).await.is_err();
        if behind && !self.behind {
            match journal.is_optional() {
                true => tracing::error!("the journal does not become durable: usage goes to the store ahead of it"),
                false => tracing::error!(
                    rows = self.rows.len(),
                    "usage waits in memory, since the journal does not become durable"
                ),
            }
        }
        self.behind = behind;
        !behind || journal.is_optional()
    }

    /// Gives all of it to the store; whether that took it.
    async fn give(&mut self, store: &dyn UsageStore) -> bool {
        let record = |((caller, pillar, route, day), counts): (&Row, &Counts)| {
            let (pillar, route) = (pillar.clone(), route.clone());
            Record { caller: *caller, pillar, route, day: *day, counts: counts.clone() }
        };
        let records = self.rows.iter().map(record).collect();
        if let Err(error) = store.add_marked(records, self.marks.values().copied().collect()).await {
            let (rows, error) = (self.rows.len(), sentence(&error));
            tracing::error!(
                rows,
                "usage could not be written, and waits in memory and in the journal; make sure that the disk has room and works, then \
                 restart the gateway: after a write that failed, its database takes no more: {error}"
            );
            return false;
        }
        self.rows.clear();
        self.unflushed.append(&mut self.marks);
        self.flushes = true;
        true
    }

    /// Has the store make durable what it was given; whether it did.
    async fn flush(&mut self, store: &dyn UsageStore, journal: &Journal) -> bool {
        if let Err(error) = store.flush().await {
            tracing::error!("usage was added, and may not survive a crash: {}", sentence(&error));
            return false;
        }
        // Only now: what these marks free in the journal is written over.
        self.unflushed.values().for_each(|mark| journal.kept(mark));
        self.unflushed.clear();
        self.flushes = false;
        true
    }
}
