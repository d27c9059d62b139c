//! Pages and erasure of the request log.

mod bounds;
mod damage;

use std::collections::HashSet;

use super::super::log::{Entry, first_at};
use super::super::record::Record;
use super::super::record::tests::record;
use super::*;
use crate::usage::Caller;

const HOUR: u64 = 3_600_000;
/// A Wednesday.
const NOW: Millis = Millis(1_795_564_800_000);
const WIDE: Bounds = Bounds { age: Duration::from_secs(30 * 86_400), bytes: 1 << 30 };
/// Bytes of a segment: room for some tens of rows.
const SIZE: u32 = 16 << 10;

fn log(directory: &tempfile::TempDir) -> SegmentLog {
    SegmentLog::sized(directory.path(), SIZE, Duration::from_secs(86_400))
}

fn number(hours_ago: u64, nth: u128) -> u128 {
    first_at(Millis(NOW.0 - hours_ago * HOUR)) + nth
}

fn row(rows: &mut Rows, org: Option<u128>, sandbox: bool, request: u128, change: impl FnOnce(&mut Entry<'_>)) {
    let caller = Caller { org, key: org.map(|org| org + 100) };
    let record = Record { caller, sandbox, ..record(request, "/v1/connect/x") };
    let mut entry = Entry { pillar: "connect", route: "x", record };
    change(&mut entry);
    rows.push(&entry);
}

fn add(log: &SegmentLog, rows: &Rows) {
    // As if it were two weeks ago, so that all weeks go on.
    log.add(rows, Millis(NOW.0 - 24 * 14 * HOUR)).unwrap();
}

/// Adds so many of one org, a millisecond apart.
fn flood(log: &SegmentLog, org: u128, from: u128, count: u64) {
    for nth in (0..count).step_by(500) {
        let mut rows = Rows::default();
        for nth in nth..count.min(nth + 500) {
            row(&mut rows, Some(org), false, from + (u128::from(nth) << 80), |_| ());
        }
        add(log, &rows);
    }
}

fn filled(directory: &tempfile::TempDir) -> SegmentLog {
    let log = log(directory);
    let mut rows = Rows::default();
    for nth in 0..20 {
        row(&mut rows, Some(1), false, number(1, nth), |_| ());
        row(&mut rows, Some(1), nth % 2 == 0, number(24 * 7, nth), |entry| entry.record.status = 404);
        row(&mut rows, Some(2), false, number(2, nth), |entry| entry.pillar = "pay");
        row(&mut rows, None, false, number(3, nth), |_| ());
    }
    add(&log, &rows);
    log
}

fn page(log: &SegmentLog, filter: &Filter, before: Option<u128>, limit: usize) -> Page {
    let (first, end) = filter.span(before);
    log.0.page(filter, &Span { first, end }, limit).unwrap()
}

fn all(log: &SegmentLog, filter: &Filter, limit: usize) -> Vec<u128> {
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let page = page(log, filter, before, limit);
        assert!(page.rows.len() <= limit);
        found.extend(page.rows.iter().map(|row| Entry::read(row).unwrap().record.request));
        match page.next {
            Some(next) => {
                assert!(before.is_none_or(|before| next < before), "each page gets on");
                before = Some(next);
            }
            None => return found,
        }
    }
}

fn of(org: u128) -> Filter {
    Filter { org: Some(org), ..Filter::default() }
}

/// Removes until nothing more has to go.
fn settle(log: &SegmentLog, bounds: Bounds) {
    log.0.state().looked = None;
    for _ in 0..1_000 {
        if !log.forget(bounds, NOW).unwrap() {
            assert!(log.bytes() <= bounds.bytes);
            return;
        }
    }
    panic!("it does not end");
}

/// Bytes of all files of the log.
fn on_disk(directory: &tempfile::TempDir) -> u64 {
    let files = std::fs::read_dir(directory.path().join(DIRECTORY)).unwrap();
    files.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn pages_are_newest_first_whole_and_of_one_org() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = filled(&directory);
    for round in 0..3 {
        if round > 0 {
            log = self::log(&directory);
        }
        for limit in [1, 3, 40, 200] {
            let found = all(&log, &of(1), limit);
            assert_eq!(found.len(), 40);
            assert!(found.is_sorted_by(|newer, older| newer > older));
            assert!(
                found.iter().all(|request| [1, 24 * 7].iter().any(|hours| request >> 80 == number(*hours, 0) >> 80))
            );
            assert_eq!(all(&log, &Filter { sandbox: true, ..of(1) }, limit).len(), 10);
            let everything = all(&log, &Filter::default(), limit);
            assert_eq!(everything.len(), 80);
            assert!(everything.is_sorted_by(|newer, older| newer > older));
        }
        assert!(all(&log, &of(3), 5).is_empty());
        assert_eq!(log.bytes(), on_disk(&directory));
    }
}

#[test]
fn filters_hold_together() {
    let directory = tempfile::tempdir().unwrap();
    let log = filled(&directory);
    let count = |filter: Filter| all(&log, &filter, 7).len();
    let ago = |hours: u64| Some(Millis(NOW.0 - hours * HOUR));
    assert_eq!(count(Filter { since: ago(2), ..Filter::default() }), 40);
    assert_eq!(count(Filter { until: ago(2), ..Filter::default() }), 40);
    assert_eq!(count(Filter { since: ago(2), until: ago(1), ..Filter::default() }), 20);
    assert_eq!(count(Filter { since: ago(1), until: ago(2), ..Filter::default() }), 0);
    assert_eq!(count(Filter { key: Some(102), ..Filter::default() }), 20);
    assert_eq!(count(Filter { pillar: Some("pay".into()), ..Filter::default() }), 20);
    assert_eq!(count(Filter { status: "4xx".parse().ok(), ..Filter::default() }), 20);
    assert_eq!(count(Filter { status: "200".parse().ok(), ..of(2) }), 20);
}

#[test]
fn one_is_found_by_its_number_by_those_who_may_see_it() {
    let directory = tempfile::tempdir().unwrap();
    let log = filled(&directory);
    let find = |filter: &Filter, request: u128| {
        let page = log.0.page(filter, &Span { first: request, end: request + 1 }, 1).unwrap();
        page.rows.first().map(|row| Entry::read(row).unwrap().record.request)
    };
    for nth in 0..20 {
        for filter in [Filter::default(), of(1)] {
            assert_eq!(find(&filter, number(1, nth)), Some(number(1, nth)));
        }
        assert_eq!(find(&of(2), number(1, nth)), None, "another org's");
        assert_eq!(find(&Filter { sandbox: true, ..of(1) }, number(1, nth)), None, "a live one");
        assert_eq!(find(&Filter { sandbox: true, ..of(1) }, number(24 * 7, nth)).is_some(), nth % 2 == 0);
    }
    assert_eq!(find(&Filter::default(), number(1, 20)), None);
}

/// Streams of an hour among quick ones: rows lie where the requests ended, and show where they began.
#[test]
fn requests_show_under_the_time_at_which_they_began_however_long_they_took() {
    let directory = tempfile::tempdir().unwrap();
    let log = log(&directory);
    let mut expected = Vec::new();
    for second in 0..2_000_u64 {
        let mut rows = Rows::default();
        for (nth, age) in [(0, 0), (1, 3_600_000), (2, second % 60 * 1000)] {
            let request = first_at(Millis(NOW.0 + second * 1000 - age)) + (u128::from(second) << 8) + nth;
            row(&mut rows, Some(1), false, request, |_| ());
            expected.push(request);
        }
        add(&log, &rows);
    }
    expected.sort_unstable_by(|one, other| other.cmp(one));
    let sorted = |log: &SegmentLog| {
        let state = log.0.state();
        let chain = chain::Chain::of(Kind::Live, chain::spread(1));
        state.chains[chain.index()].values().filter(|kept| kept.segment.name.is_sorted).count()
    };
    assert!(sorted(&log) > 10, "such segments are put in order");
    assert_eq!(all(&log, &of(1), 200), expected);
    assert_eq!(log.bytes(), on_disk(&directory));
    let log = self::log(&directory);
    assert_eq!((all(&log, &Filter::default(), 50), sorted(&log) > 10), (expected, true));
}

#[test]
fn a_cursor_stays_where_it_is_while_rows_come_and_segments_change() {
    let directory = tempfile::tempdir().unwrap();
    let log = log(&directory);
    flood(&log, 1, number(5, 0), 2_000);
    let (mut found, mut before, mut newer) = (Vec::new(), None, 0);
    loop {
        let page = page(&log, &of(1), before, 100);
        found.extend(page.rows.iter().map(|row| Entry::read(row).unwrap().record.request));
        flood(&log, 1, number(1, newer), 300);
        newer += 1;
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    let expected: Vec<u128> = (0..2_000).rev().map(|nth| number(5, 0) + (nth << 80)).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_page_is_short_rather_than_slow_and_a_small_org_does_not_read_a_large_one() {
    let directory = tempfile::tempdir().unwrap();
    let log = log(&directory);
    // In the same chain.
    let chain = |org| chain::Chain::of(Kind::Live, chain::spread(org));
    let small = (2..).find(|org| chain(*org) == chain(1)).unwrap();
    flood(&log, small, number(5, 0), 50);
    flood(&log, 1, number(4, 0), 50_000);
    let short = page(&log, &Filter { pillar: Some("pay".into()), ..of(1) }, None, 10);
    assert!(short.rows.is_empty() && short.next.is_some());
    assert!(all(&log, &Filter { pillar: Some("pay".into()), ..of(1) }, 10).is_empty());
    assert_eq!(all(&log, &of(small), 10).len(), 50);
    let read: usize = {
        let wanted = index::Wanted { org: Some(chain::spread(small)), ..Default::default() };
        let state = log.0.state();
        state.chains[chain(1).index()].values().map(|kept| kept.segment.index().blocks(&wanted).count()).sum()
    };
    // Of some thousands.
    assert!((1..200).contains(&read), "{read}");
}

#[test]
fn an_org_that_is_erased_is_not_shown_not_added_and_not_on_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let log = filled(&directory);
    // Closed ones, ones in order, and an open one.
    flood(&log, 1, number(4, 0), 300);
    let mut rows = Rows::default();
    for nth in 0..100 {
        let secret = |entry: &mut Entry<'_>| entry.record.path = "/v1/name-of-somebody";
        row(&mut rows, Some(1), nth % 2 == 0, number(nth as u64 % 9, 5000 + nth), secret);
        row(&mut rows, Some(2), false, number(nth as u64 % 9, 1000 + nth), |_| ());
    }
    add(&log, &rows);
    let whole = || {
        let files = std::fs::read_dir(directory.path().join(DIRECTORY)).unwrap().map(|entry| entry.unwrap().path());
        files.flat_map(|path| std::fs::read(path).unwrap()).collect::<Vec<u8>>()
    };
    let is_there = |text: &[u8]| whole().windows(text.len()).any(|part| part == text);
    let rows_of = |org| {
        let whole = whole();
        frame::rows(&whole)
            .filter_map(|(_, row)| super::super::log::brief(row))
            .filter(|row| row.org == Some(org))
            .count()
    };
    assert!(is_there(b"name-of-somebody") && rows_of(1) > 0);
    let (of_one, bytes) = (all(&log, &of(1), 200).len(), log.bytes());
    assert_eq!(log.0.erase(1, NOW).unwrap(), of_one as u64);
    assert!(all(&log, &of(1), 200).is_empty());
    assert_eq!((is_there(b"name-of-somebody"), rows_of(1), rows_of(2)), (false, 0, 120));
    assert_eq!((all(&log, &of(2), 200).len(), log.bytes()), (120, bytes), "others are as they were");
    // What was still on its way does not come, and what begins later does.
    row(&mut rows, Some(1), false, first_at(Millis(NOW.0 + 1)), |_| ());
    add(&log, &rows);
    assert_eq!(all(&log, &of(1), 200), [first_at(Millis(NOW.0 + 1))]);
    assert_eq!(log.0.erase(1, NOW).unwrap(), 0, "there is nothing more");
    let again = self::log(&directory);
    assert_eq!((all(&again, &of(1), 200).len(), all(&again, &of(2), 200).len()), (1, 120), "each once");
}

/// While one thread writes, others read, erase and remove: every page is right.
#[test]
fn pages_are_right_while_segments_come_are_put_in_order_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let log = log(&directory);
    let writer = log.clone();
    let written = std::thread::spawn(move || {
        for round in 0..200_u64 {
            let mut rows = Rows::default();
            for nth in 0..50 {
                let age = if nth % 3 == 0 { 60_000 } else { 0 };
                let request = first_at(Millis(NOW.0 + round * 1000 - age)) + u128::from(round * 50 + nth);
                row(&mut rows, Some(1), false, request, |_| ());
            }
            row(&mut rows, Some(9), false, number(1, u128::from(round)), |_| ());
            add(&writer, &rows);
            if round == 100 {
                writer.0.erase(9, NOW).unwrap();
            }
        }
    });
    let mut most = 0;
    while !written.is_finished() {
        let found = all(&log, &of(1), 100);
        assert!(found.is_sorted_by(|newer, older| newer > older));
        assert!(found.len() >= most, "nothing is passed over: {} after {most}", found.len());
        most = found.len();
    }
    written.join().unwrap();
    let found: HashSet<u128> = all(&log, &of(1), 100).into_iter().collect();
    assert_eq!((found.len(), all(&log, &of(9), 10).len()), (10_000, 0));
}
