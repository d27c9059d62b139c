//! Both stores, by the same promises.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

mod detail;

/// 2026-11-22T00:00:00Z
pub(super) const START: Millis = Millis(1_795_305_600_000);
const DAY: u64 = 86_400_000;

fn caller(org: u128, key: u128) -> Caller {
    Caller { org: Some(org), key: Some(key) }
}

fn usage(caller: Caller, at: Millis) -> Usage<'static> {
    Usage {
        caller,
        pillar: Pillar::NONE,
        route: Route::NONE,
        at,
        status: 200,
        denied: None,
        bytes_in: 10,
        bytes_out: 1_000,
        gas: Gas::from_millionths(250_000),
        units: 2,
        upstream_us: 40,
        fuel: 3_000,
        fuel_by_policy: &[],
    }
}

/// Sixty calls of three keys on two pillars over two months, one in ten denied; and one anonymous one.
pub(super) fn records() -> Vec<Record> {
    let (names, mut tally) = (Names::default(), Tally::new(1_000));
    let pillars = ["connect", "knowledge"].map(|name| names.pillar(name));
    let fuel = [(names.policy("key-auth"), 2_000), (names.policy("gas"), 1_000)];
    for number in 0..60u64 {
        let pillar = pillars[usize::try_from(number).unwrap() % 2];
        let denied = (number % 10 == 9).then_some("rate_limited");
        let status = if denied.is_some() { 429 } else { 200 };
        let at = START.plus(std::time::Duration::from_millis(number % 20 * DAY));
        let caller = caller(1, u128::from(number % 3 + 1));
        let fuel_by_policy = &fuel[..if number % 4 == 0 { 1 } else { 2 }];
        let route = names.route(pillar, ["list", "show"][usize::from(number % 5 == 0)]);
        tally.add(&Usage { pillar, route, status, denied, fuel_by_policy, ..usage(caller, at) });
    }
    tally.add(&usage(Caller::ANONYMOUS, START));
    let records = tally.drain().resolve(&names);
    assert!(tally.drain().is_empty());
    records
}

fn stores(directory: &std::path::Path) -> Vec<Box<dyn UsageStore>> {
    vec![Box::new(MemoryUsage::default()), Box::new(SledUsage::open_at(directory))]
}

#[tokio::test]
async fn a_month_is_told_by_pillar_and_in_total() {
    let directory = tempfile::tempdir().unwrap();
    for store in stores(directory.path()) {
        // In two parts, one after the other: sums are merged.
        store.add(records()).await.unwrap();
        store.add(records()).await.unwrap();
        store.flush().await.unwrap();
        // Nine days are left of November.
        let november = store.month(Some(1), "2026-11".parse().unwrap()).await.unwrap();
        let december = store.month(Some(1), Month::of(START).next()).await.unwrap();
        assert_eq!((november.total.calls, december.total.calls), (2 * 27, 2 * 33));
        let connect = &november.by_pillar["connect"];
        assert_eq!((connect.calls, connect.gas.to_string().as_str(), connect.fuel), (30, "7.5", 90_000));
        assert_eq!(december.total.denied, [("rate_limited".into(), 12)]);
        assert_eq!((december.total.statuses.refused, december.total.statuses.succeeded), (12, 54));
        let fuel = [("gas".into(), 2 * 27_000), ("key-auth".into(), 2 * 66_000)];
        assert_eq!(december.total.fuel_by_policy, fuel);
        assert_eq!((december.total.units, december.total.upstream_us), (2 * 2 * 33, 2 * 40 * 33));
        assert_eq!((december.total.bytes_in, december.total.bytes_out), (660, 66_000));
        let anonymous = store.month(None, Month::of(START)).await.unwrap();
        assert_eq!((anonymous.total.calls, anonymous.by_pillar.len()), (2, 1));
        assert_eq!(store.month(Some(2), Month::of(START)).await.unwrap(), Summary::default());
    }
}

#[tokio::test]
async fn limits_start_from_the_calls_of_the_month_that_were_let_through() {
    let directory = tempfile::tempdir().unwrap();
    for store in stores(directory.path()) {
        store.add(records()).await.unwrap();
        let counts = store.monthly_counts(Month::of(START).next()).await.unwrap();
        assert_eq!(counts.iter().map(|count| count.calls).sum::<u64>(), 27);
        let known = counts.iter().find(|count| count.caller == caller(1, 1) && &*count.pillar == "connect");
        let calls = (0..60).filter(|number| number % 20 >= 9 && number % 3 == 0 && number % 2 == 0).count();
        assert_eq!(known.unwrap().calls, calls as u64);
    }
}

#[tokio::test]
async fn old_days_are_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    for store in stores(directory.path()) {
        store.add(records()).await.unwrap();
        let december = Month::of(START).next();
        let forgotten = store.forget_before(december.first_day()).await.unwrap();
        assert_eq!(forgotten, 28, "27 rows, and the anonymous one");
        assert_eq!(store.month(Some(1), Month::of(START)).await.unwrap(), Summary::default());
        assert_eq!(store.month(Some(1), december).await.unwrap().total.calls, 33);
    }
}

#[tokio::test]
async fn what_was_flushed_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let before = {
        let store = stores(directory.path()).pop().unwrap();
        store.add(records()).await.unwrap();
        store.flush().await.unwrap();
        store.month(Some(1), Month::of(START)).await.unwrap()
    };
    let store = stores(directory.path()).pop().unwrap();
    assert_eq!(store.month(Some(1), Month::of(START)).await.unwrap(), before);
    assert_eq!(before.total.calls, 27);
}

#[test]
fn beyond_the_bound_rows_are_counted_together_and_nothing_is_lost() {
    let (names, mut tally) = (Names::default(), Tally::new(10));
    (0..100).for_each(|key| tally.add(&usage(caller(1, key), START)));
    let records = tally.drain().resolve(&names);
    assert_eq!(records.len(), 11);
    assert_eq!(records.iter().map(|record| record.counts.calls).sum::<u64>(), 100);
    let rest = records.iter().find(|record| record.caller == Caller::ANONYMOUS).unwrap();
    assert_eq!((rest.counts.calls, &*rest.pillar), (90, "other"));
}

#[test]
fn numbers_of_names_never_change() {
    let names = Names::default();
    let (connect, knowledge) = (names.pillar("connect"), names.pillar("knowledge"));
    assert_eq!(names.pillar("connect"), connect);
    let (list, other) = (names.route(connect, "list"), names.route(knowledge, "show"));
    assert_eq!(list, other, "rules are numbered in their pillar");
    assert_eq!(names.find(connect, list), ("connect".into(), "list".into()));
    assert_eq!(names.find(knowledge, other), ("knowledge".into(), "show".into()));
    assert_eq!(names.find(Pillar::NONE, Route::NONE), ("other".into(), "other".into()));
    for number in 0..70_000 {
        names.route(connect, &number.to_string());
    }
    assert_eq!(names.route(connect, "one more"), Route::NONE);
}

#[test]
fn a_row_tells_a_bounded_number_of_codes_apart() {
    let mut counts = Counts::default();
    (0..1_000).for_each(|number| counts.deny(&format!("code_{}", number % 500), 1));
    assert_eq!(counts.denied.len(), MAX_CODES);
    assert_eq!(counts.denied.iter().map(|(_, times)| times).sum::<u64>(), 1_000);
    assert_eq!(counts.denied.last().map(|(code, _)| &**code), Some("other"));
}

#[test]
fn a_row_tells_a_bounded_number_of_policies_apart() {
    let mut counts = Counts::default();
    (0..1_000).for_each(|number| counts.burn(&format!("policy-{:03}", number % 500), 1));
    assert_eq!(counts.fuel_by_policy.len(), MAX_POLICIES);
    assert_eq!(counts.fuel_by_policy.iter().map(|(_, fuel)| fuel).sum::<u64>(), 1_000);
    assert!(counts.fuel_by_policy.is_sorted() && counts.fuel_by_policy[0].0 == "other".into());
}

#[test]
fn days_are_read_and_written() {
    for text in ["1970-01-01", "2024-02-29", "2026-11-22", "9998-12-31"] {
        assert_eq!(text.parse::<Day>().map(|day| day.to_string()).as_deref(), Ok(text));
    }
    assert_eq!("2026-11-22".parse(), Ok(Day::of(START)));
    for text in
        ["", "2026-11", "2026-02-29", "2026-11-31", "2026-11-00", "2026-1-22", "2026-11-2", "20261122", "é026-11-22"]
    {
        assert_eq!(text.parse::<Day>(), Err(NotADay), "{text}");
    }
}

#[test]
fn json_shows_classes_codes_and_tokens() {
    let mut counts = Counts::default();
    counts.count(&Usage { status: 402, denied: Some("insufficient_gas"), ..usage(Caller::ANONYMOUS, START) });
    assert_eq!(
        serde_json::to_string(&counts).unwrap(),
        "{\"calls\":1,\"statuses\":{\"1xx\":0,\"2xx\":0,\"3xx\":0,\"4xx\":1,\"5xx\":0},\
         \"denied\":{\"insufficient_gas\":1},\"bytes_in\":10,\"bytes_out\":1000,\"gas\":\"0.25\",\"units\":2,\"upstream_us\":40,\"fuel\":3000,\
         \"fuel_by_policy\":{}}"
    );
}

#[test]
fn months_are_read_written_and_counted_on() {
    let month: Month = "2026-12".parse().unwrap();
    assert_eq!((month.to_string().as_str(), month.next().to_string().as_str()), ("2026-12", "2027-01"));
    assert_eq!(month.first_day(), Day(20_788));
    assert_eq!(Month::of(START.plus(std::time::Duration::from_millis(9 * DAY))), month);
    for text in ["", "2026", "2026-13", "2026-00", "26-01", "1969-12", "9999-12", "2026-1", "+026-01", "2026-11-01"] {
        assert_eq!(text.parse::<Month>(), Err(NotAMonth), "{text}");
    }
    assert!(Month::of(Millis(u64::MAX)).next().first_day() > Day(0));
}

proptest! {
    /// However exchanges are dealt to workers and drained, the store ends up with the same sums.
    #[test]
    fn the_order_of_draining_does_not_matter(
        calls in vec((0..3u128, 0..2usize, 0..3usize, 100..600u16, 0..u64::MAX, any::<bool>()), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let names = Names::default();
        let pillars = ["a", "b"].map(|name| names.pillar(name));
        let mut workers = [(); 3].map(|()| Tally::new(100));
        let (store, mut total) = (MemoryUsage::default(), Counts::default());
        for (org, pillar, worker, status, bytes_out, drain) in calls {
            let denied = (status == 429).then_some("rate_limited");
            let usage = Usage { pillar: pillars[pillar], status, denied, bytes_out, ..usage(caller(org, 1), START) };
            workers[worker].add(&usage);
            if org == 0 {
                total.count(&usage);
            }
            if drain {
                runtime.block_on(store.add(workers[worker].drain().resolve(&names))).unwrap();
            }
        }
        for mut worker in workers {
            runtime.block_on(store.add(worker.drain().resolve(&names))).unwrap();
        }
        let summary = runtime.block_on(store.month(Some(0), Month::of(START))).unwrap();
        prop_assert_eq!(summary.total, total);
    }
}
