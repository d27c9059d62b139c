//! From what workers booked to the usage store: in order, all or nothing, and never ahead of the journal.
//!
//! Nothing is lost here: what the store does not take waits in memory, bounded by being added up, and in the journal.

use super::quotas::Quotas;
use super::{StartError, sentence};
use crate::config;
use crate::data::DataDirectory;
use crate::journal::{self, Earlier, Journal, Writer};
use crate::usage::{Batch, Caller, Counts, Mark, Names, Record, UsageStore};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long usage that could not be kept waits for another try.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two looks at whether the journal is durable.
const LOOK: Duration = Duration::from_millis(2);
/// How long it may take to become that, before something else has its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// Rows that wait in memory while the store does not work; beyond that they are added up without callers.
const MAX_UNKEPT: usize = 1_000_000;

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

/// What waits for the store.
#[derive(Default)]
struct Unkept {
    records: Vec<Record>,
    marks: BTreeMap<u32, Mark>,
}

/// Writes down what workers booked, until the last of them is gone.
pub(super) async fn keep(
    mut batches: mpsc::UnboundedReceiver<Batch>,
    store: Arc<dyn UsageStore>,
    names: Arc<Names>,
    journal: Arc<Journal>,
    mut quotas: Quotas,
) {
    let mut unkept = Unkept::default();
    loop {
        let open = match tokio::time::timeout(AGAIN, batches.recv()).await {
            Ok(Some(batch)) => {
                unkept.add(batch, &names);
                true
            }
            Ok(None) => false,
            // Nothing new, and perhaps something that could not be kept before.
            Err(_) => true,
        };
        // What is there is added in one go: one flush for all.
        while let Ok(more) = batches.try_recv() {
            unkept.add(more, &names);
        }
        quotas.look(&unkept.records).await;
        if !unkept.is_empty() && is_durable(&unkept, &journal).await {
            unkept.keep(&*store, &journal).await;
        }
        if !open {
            break;
        }
    }
    if !unkept.is_empty() {
        let rows = unkept.records.len();
        tracing::error!(
            rows,
            "usage of the last moments is not in the store; the journal has it, and the next start adds it"
        );
    }
    journal.end();
}

/// Waits until the journal has what the store would know of: else a loss of power could leave the beginning of a call there and its end
/// here, and it would count twice.
async fn is_durable(unkept: &Unkept, journal: &Journal) -> bool {
    let durable = async {
        while !unkept.marks.values().all(|mark| journal.has(mark)) {
            tokio::time::sleep(LOOK).await;
        }
    };
    let durable = tokio::time::timeout(PATIENCE, durable).await.is_ok();
    if !durable {
        tracing::error!(
            rows = unkept.records.len(),
            "usage waits in memory, since the journal does not become durable"
        );
    }
    durable
}

impl Unkept {
    fn add(&mut self, batch: Batch, names: &Names) {
        // A later mark of a worker takes in the earlier ones.
        self.marks.extend(batch.mark.map(|mark| (mark.lane, mark)));
        self.records.extend(batch.resolve(names));
    }

    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.marks.is_empty()
    }

    async fn keep(&mut self, store: &dyn UsageStore, journal: &Journal) {
        let marks: Vec<Mark> = self.marks.values().copied().collect();
        if let Err(error) = store.add_marked(self.records.clone(), marks.clone()).await {
            let error = sentence(&error);
            tracing::error!(rows = self.records.len(), "usage could not be written, and is kept in memory: {error}");
            if self.records.len() > MAX_UNKEPT {
                self.records = added_up(std::mem::take(&mut self.records), MAX_UNKEPT / 2);
            }
            return;
        }
        *self = Self::default();
        match store.flush().await {
            Ok(()) => marks.iter().for_each(|mark| journal.kept(mark)),
            Err(error) => tracing::error!("usage was added, and may not survive a crash: {}", sentence(&error)),
        }
    }
}

/// The same sums in fewer rows: at most so many keep their caller, pillar and rule.
fn added_up(records: Vec<Record>, most: usize) -> Vec<Record> {
    let mut rows: HashMap<_, Counts> = HashMap::new();
    for Record { caller, pillar, route, day, counts } in records {
        let key = (caller, pillar, route, day);
        let other = || (Caller::ANONYMOUS, Arc::from("other"), Arc::from("other"), day);
        let key = if rows.len() < most || rows.contains_key(&key) { key } else { other() };
        rows.entry(key).or_default().merge(&counts);
    }
    let record = |((caller, pillar, route, day), counts)| Record { caller, pillar, route, day, counts };
    rows.into_iter().map(record).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Day;

    #[test]
    fn rows_beyond_the_bound_lose_their_callers_and_no_call() {
        let record = |number: u128| Record {
            caller: Caller { org: Some(number % 10), key: None },
            pillar: "connect".into(),
            route: "rooms".into(),
            day: Day(20_000),
            counts: Counts { calls: 1, ..Counts::default() },
        };
        let rows = added_up((0..100).map(record).collect(), 4);
        assert_eq!(rows.iter().map(|row| row.counts.calls).sum::<u64>(), 100);
        let other: Vec<_> = rows.iter().filter(|row| row.caller == Caller::ANONYMOUS).collect();
        assert_eq!((rows.len(), other.len(), other[0].counts.calls), (5, 1, 60));
    }
}
