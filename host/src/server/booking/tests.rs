//! The order of things: the journal, the store, and only then what is free in the journal.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::clock::Millis;
use crate::config::WhenFull;
use crate::gas::Gas;
use crate::journal::{ByHand, Call, by_hand};
use crate::usage::{Detail, MemoryUsage, Month, MonthlyCount, Page, Pending, StoreError, Summary, Tally, Usage};

const QUICK: Pace = Pace {
    gather: Duration::from_millis(5),
    flush: Duration::from_millis(5),
    again: Duration::from_millis(10),
    patience: Duration::from_millis(20),
};
const AT: Millis = Millis(1_800_000_000_000);

/// Remembers what it was given, and whether the journal had it.
#[derive(Debug)]
struct Strict {
    journal: Arc<Journal>,
    inner: MemoryUsage,
    /// Whether all marks of each addition were durable in the journal at that time.
    had: Mutex<Vec<bool>>,
    flushes: AtomicUsize,
    adds_fail: AtomicBool,
    flushes_fail: AtomicBool,
}

fn works(fails: &AtomicBool) -> Result<(), StoreError> {
    if fails.load(Ordering::SeqCst) { Err(StoreError::Unavailable("as told".into())) } else { Ok(()) }
}

impl UsageStore for Strict {
    fn add_marked(&self, records: Vec<Record>, marks: Vec<Mark>) -> Pending<'_, ()> {
        self.had.lock().unwrap().push(marks.iter().all(|mark| self.journal.has(mark)));
        if let Err(error) = works(&self.adds_fail) {
            return Box::pin(async move { Err(error) });
        }
        self.inner.add_marked(records, marks)
    }

    fn marks(&self) -> Pending<'_, Vec<Mark>> {
        self.inner.marks()
    }

    fn flush(&self) -> Pending<'_, ()> {
        self.flushes.fetch_add(1, Ordering::SeqCst);
        let works = works(&self.flushes_fail);
        Box::pin(async move { works })
    }

    fn month(&self, org: Option<u128>, month: Month) -> Pending<'_, Summary> {
        self.inner.month(org, month)
    }

    fn detail(&self, question: Detail) -> Pending<'_, Page> {
        self.inner.detail(question)
    }

    fn monthly_counts(&self, month: Month) -> Pending<'_, Vec<MonthlyCount>> {
        self.inner.monthly_counts(month)
    }

    fn forget_before(&self, day: Day) -> Pending<'_, u64> {
        self.inner.forget_before(day)
    }
}

/// One worker, the store, and what is between them.
struct Scene {
    store: Arc<Strict>,
    writer: Writer,
    hand: ByHand,
    names: Arc<Names>,
    batches: mpsc::UnboundedSender<Batch>,
    keeping: tokio::task::JoinHandle<()>,
    _place: tempfile::TempDir,
}

impl Scene {
    fn new(when_full: WhenFull) -> Self {
        let place = tempfile::tempdir().unwrap();
        let names = Arc::<Names>::default();
        let (journal, writer, hand) = by_hand(place.path(), when_full, &names);
        let journal = Arc::new(journal);
        let (had, flushes) = (Mutex::default(), AtomicUsize::default());
        let (adds_fail, flushes_fail) = (AtomicBool::default(), AtomicBool::default());
        let inner = MemoryUsage::default();
        let store = Arc::new(Strict { journal: journal.clone(), inner, had, flushes, adds_fail, flushes_fail });
        let (batches, received) = mpsc::unbounded_channel();
        let (keeper, known) = (store.clone(), names.clone());
        let keeping = tokio::spawn(async move { keep_at(QUICK, received, &*keeper, &known, &journal, None).await });
        Self { store, writer, hand, names, batches, keeping, _place: place }
    }

    /// One call, handed over; the mark that goes with it.
    fn call(&mut self) -> Mark {
        let pillar = self.names.pillar("connect");
        let route = self.names.route(pillar, "rooms");
        let caller = Caller { org: Some(1), key: None };
        let call = Call { request: 7, caller, at: AT };
        let usage = Usage {
            caller,
            pillar,
            route,
            at: AT,
            status: 200,
            denied: None,
            bytes_in: 0,
            bytes_out: 0,
            gas: Gas::ZERO,
            units: 0,
            upstream_us: 0,
            fuel: 0,
            fuel_by_policy: &[],
        };
        let ticket = self.writer.open(&call, pillar, route, &[]).unwrap();
        self.writer.close(ticket, &call, &usage);
        let mut tally = Tally::new(10);
        tally.add(&usage);
        let mut batch = tally.drain();
        batch.mark = self.writer.mark();
        let mark = batch.mark.unwrap();
        self.batches.send(batch).unwrap();
        mark
    }

    async fn counted(&self) -> u64 {
        self.store.month(Some(1), Month::of(AT)).await.unwrap().total.calls
    }

    async fn until(&self, what: &str, state: impl AsyncFn() -> bool) {
        let begun = Instant::now();
        while !state().await {
            assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
            assert!(!self.keeping.is_finished(), "it has ended");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn nothing_is_told_to_the_store_before_the_journal_has_it() {
    let mut scene = Scene::new(WhenFull::Refuse);
    let mark = scene.call();
    assert!(!scene.store.journal.has(&mark));
    // Longer than it has patience: it looks again and again.
    tokio::time::sleep(3 * QUICK.patience).await;
    scene.call();
    assert_eq!(scene.store.had.lock().unwrap().len(), 0);
    scene.hand.sync();
    scene.until("both calls are counted", async || scene.counted().await == 2).await;
    scene.until("it is durable", async || scene.hand.kept() > 0).await;
    assert!(scene.store.had.lock().unwrap().iter().all(|had| *had));
}

#[tokio::test]
async fn what_was_added_and_not_made_durable_frees_nothing_until_it_is() {
    let mut scene = Scene::new(WhenFull::Refuse);
    scene.store.flushes_fail.store(true, Ordering::SeqCst);
    let first = scene.call();
    scene.hand.sync();
    scene.until("it was tried", async || scene.store.flushes.load(Ordering::SeqCst) > 1).await;
    assert_eq!((scene.counted().await, scene.hand.kept()), (1, 0));
    scene.store.flushes_fail.store(false, Ordering::SeqCst);
    scene.until("the mark is not forgotten", async || scene.hand.kept() == first.floor).await;
    assert_eq!(scene.counted().await, 1, "what was added is not added again");
}

#[tokio::test]
async fn what_the_store_does_not_take_is_tried_again_and_counts_once() {
    let mut scene = Scene::new(WhenFull::Refuse);
    scene.store.adds_fail.store(true, Ordering::SeqCst);
    scene.call();
    scene.hand.sync();
    scene.until("it was tried", async || scene.store.had.lock().unwrap().len() > 1).await;
    scene.call();
    scene.hand.sync();
    scene.store.adds_fail.store(false, Ordering::SeqCst);
    scene.until("both are counted", async || scene.counted().await == 2).await;
    drop((scene.batches, scene.writer));
    scene.keeping.await.unwrap();
}

#[tokio::test]
async fn where_records_are_optional_the_store_gets_everything() {
    let mut scene = Scene::new(WhenFull::Unmetered);
    for calls in 1..=3 {
        let mark = scene.call();
        scene.until("it is counted", async || scene.counted().await == calls).await;
        assert!(!scene.store.journal.has(&mark));
    }
}

fn record(number: u128) -> Record {
    Record {
        caller: Caller { org: Some(number % 10), key: None },
        pillar: "connect".into(),
        route: "rooms".into(),
        day: Day(20_000),
        counts: Counts { calls: 1, ..Counts::default() },
    }
}

#[test]
fn what_waits_grows_with_its_rows_and_not_with_time() {
    let mut unkept = Unkept::default();
    (0..1000).for_each(|number| unkept.merge(record(number), MAX_ROWS));
    assert_eq!(unkept.rows.len(), 10);
    assert_eq!(unkept.rows.values().map(|counts| counts.calls).sum::<u64>(), 1000);
}

#[test]
fn rows_beyond_the_bound_lose_their_callers_and_no_call() {
    let mut unkept = Unkept::default();
    (0..100).for_each(|number| unkept.merge(record(number), 4));
    let other: Vec<_> = unkept.rows.iter().filter(|((caller, ..), _)| *caller == Caller::ANONYMOUS).collect();
    assert_eq!((unkept.rows.len(), other.len(), other[0].1.calls), (5, 1, 60));
}
