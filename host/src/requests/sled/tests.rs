//! Pages, bounds and damage of the request log.

use super::super::record::Record;
use super::super::record::tests::record;
use super::*;
use crate::usage::Caller;

const HOUR: u64 = 3_600_000;
/// A Wednesday.
const NOW: Millis = Millis(1_795_564_800_000);
const WIDE: Bounds = Bounds { age: Duration::from_secs(30 * 86_400), bytes: 1 << 30 };

fn log(directory: &tempfile::TempDir) -> SledLog {
    SledLog::open_at(directory.path())
}

fn number(hours_ago: u64, nth: u128) -> u128 {
    first_at(Millis(NOW.0 - hours_ago * HOUR)) + nth
}

fn row(org: Option<u128>, sandbox: bool, request: u128, change: impl FnOnce(&mut Entry<'_>)) -> Row {
    let caller = Caller { org, key: org.map(|org| org + 100) };
    let record = Record { caller, sandbox, ..record(request, "/v1/connect/x") };
    let mut entry = Entry { pillar: "connect", route: "x", record };
    change(&mut entry);
    entry.row()
}

fn filled(directory: &tempfile::TempDir) -> SledLog {
    let log = log(directory);
    let mut rows = Vec::new();
    for nth in 0..20 {
        rows.push(row(Some(1), false, number(1, nth), |_| ()));
        rows.push(row(Some(1), nth % 2 == 0, number(24 * 7, nth), |entry| entry.record.status = 404));
        rows.push(row(Some(2), false, number(2, nth), |entry| entry.pillar = "pay"));
        rows.push(row(None, false, number(3, nth), |_| ()));
    }
    log.add(&rows).unwrap();
    log
}

fn all(log: &SledLog, filter: &Filter, limit: usize) -> Vec<u128> {
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let page = log.page_now(filter, before, limit).unwrap();
        assert!(page.rows.len() <= limit);
        found.extend(page.rows.iter().map(|row| Entry::read(row).unwrap().record.request));
        match page.next {
            Some(next) => before = Some(next),
            None => return found,
        }
    }
}

#[test]
fn pages_are_newest_first_whole_and_of_one_org() {
    let directory = tempfile::tempdir().unwrap();
    let log = filled(&directory);
    for limit in [1, 3, 40, 200] {
        let of_one = Filter { org: Some(1), ..Filter::default() };
        let found = all(&log, &of_one, limit);
        assert_eq!(found.len(), 40);
        assert!(found.is_sorted_by(|newer, older| newer > older));
        assert!(found.iter().all(|request| [1, 24 * 7].iter().any(|hours| request >> 80 == number(*hours, 0) >> 80)));
        assert_eq!(all(&log, &Filter { sandbox: true, ..of_one }, limit).len(), 10);
        let everything = all(&log, &Filter::default(), limit);
        assert_eq!(everything.len(), 80);
        assert!(everything.is_sorted_by(|newer, older| newer > older));
    }
    assert!(all(&log, &Filter { org: Some(3), ..Filter::default() }, 5).is_empty());
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
    assert_eq!(count(Filter { status: "200".parse().ok(), org: Some(2), ..Filter::default() }), 20);
}

#[test]
fn what_is_beyond_the_bounds_goes_oldest_first() {
    let directory = tempfile::tempdir().unwrap();
    let log = filled(&directory);
    let whole = log.bytes();
    let settle = |log: &SledLog, bounds| {
        log.state().looked = None;
        for _ in 0..1_000 {
            if !log.forget(bounds, NOW, 2_000).unwrap() && log.state().due.is_empty() && log.bytes() <= bounds.bytes {
                return;
            }
        }
        panic!("it does not end");
    };
    let known = |log: &SledLog| {
        let again = SledLog::new(log.tree.clone(), log.room.clone()).unwrap();
        assert_eq!(log.state().oldest, again.state().oldest, "what is known of groups is what is there");
        again.state().oldest.len()
    };
    assert_eq!(known(&log), 4);
    settle(&log, WIDE);
    let left = all(&log, &Filter::default(), 200);
    assert_eq!((left.len(), known(&log)), (70, 3), "those of sandbox keys went on Monday");
    settle(&log, Bounds { age: Duration::from_secs(3 * 86_400), ..WIDE });
    assert_eq!(all(&log, &Filter::default(), 200).len(), 60);
    // Nobody's have a quarter.
    settle(&log, Bounds { bytes: whole / 2, ..WIDE });
    let nobody = log.state().sums[Kind::Nobody as usize];
    assert!(nobody <= whole / 8, "{nobody} of {whole}");
    assert_eq!(all(&log, &Filter { org: Some(1), ..Filter::default() }, 200).len(), 20);
    settle(&log, Bounds { bytes: 0, ..WIDE });
    assert_eq!((log.bytes(), all(&log, &Filter::default(), 200).len(), known(&log)), (0, 0, 0));
}

#[test]
fn what_is_refused_or_sandbox_pushes_out_nothing_of_live_keys() {
    let directory = tempfile::tempdir().unwrap();
    let log = log(&directory);
    let old: Vec<_> = (0..100).map(|nth| row(Some(1), false, number(9, nth), |_| ())).collect();
    log.add(&old).unwrap();
    let bounds = Bounds { bytes: 4 * log.bytes(), ..WIDE };
    let denied = |entry: &mut Entry<'_>| {
        (entry.record.denied, entry.record.upstream) = (Some("key_revoked"), Duration::ZERO);
    };
    let left = |entry: &mut Entry<'_>| (entry.record.status, entry.record.upstream) = (0, Duration::ZERO);
    for round in 0..30 {
        // A second apart, within the last hour.
        let of = |nth: u64| first_at(Millis(NOW.0 - HOUR + (round * 100 + nth) * 1000));
        let more = (0..100).map(|nth| match nth % 4 {
            0 => row(Some(2), false, of(nth), denied),
            1 => row(Some(2), true, of(nth), |_| ()),
            2 => row(None, false, of(nth), denied),
            _ => row(Some(2), false, of(nth), left),
        });
        log.add(&more.collect::<Vec<_>>()).unwrap();
        while log.forget(bounds, NOW, 1_000).unwrap() {}
    }
    assert!(log.bytes() <= bounds.bytes);
    assert_eq!(all(&log, &Filter { org: Some(1), ..Filter::default() }, 200).len(), 100);
    let kept = all(&log, &Filter { org: Some(2), ..Filter::default() }, 200).len();
    assert!(kept > 100, "{kept}: they have their parts");
    // An upstream that was asked, and failed, is news of a live key.
    let failed = row(Some(2), false, 1, |entry| entry.record.denied = Some("upstream_broke"));
    assert_eq!((failed.kind, row(Some(2), false, 1, denied).kind), (Kind::Live, Kind::Refused));
}

#[test]
fn a_clock_that_was_set_takes_nothing_with_it_until_it_is_seen_twice() {
    let directory = tempfile::tempdir().unwrap();
    let log = filled(&directory);
    let later = |log: &SledLog| {
        let mut state = log.state();
        let (at, then) = state.looked.unwrap();
        state.looked = Some((at.checked_sub(LOOK).unwrap(), then));
    };
    let left = |now: Millis| {
        assert!(!log.forget(WIDE, now, 2_000).unwrap());
        all(&log, &Filter::default(), 200).len()
    };
    assert_eq!(left(NOW), 70, "those of sandbox keys");
    // A year ahead for one look, and a year back; then it goes on as if nothing had been.
    let (ahead, back) = (NOW.plus(Duration::from_secs(365 * 86_400)), Millis(NOW.0 - 365 * 24 * HOUR));
    for now in [ahead, NOW, back, NOW] {
        later(&log);
        assert_eq!(left(now), 70);
    }
    // Once it stays there, it is the time; a look too early is none.
    later(&log);
    assert_eq!((left(ahead), left(ahead)), (70, 70));
    later(&log);
    assert_eq!(left(ahead.plus(LOOK)), 0);
}

#[test]
fn the_size_is_a_bound_while_rows_come() {
    let directory = tempfile::tempdir().unwrap();
    let log = log(&directory);
    let bounds = Bounds { bytes: 200_000, ..WIDE };
    // Few over a long time, so that the first bits of it that go hold few; then many at once.
    let old: Vec<_> = (0..24 * 20).map(|hours| row(Some(1), false, number(hours + 1, 0), |_| ())).collect();
    log.add(&old).unwrap();
    for round in 0..20 {
        let rows: Vec<_> = (0..500).map(|nth| row(Some(2), false, number(0, round * 500 + nth), |_| ())).collect();
        log.add(&rows).unwrap();
        log.forget(bounds, NOW, 1_000).unwrap();
        assert!(!bounds.are_overrun_by(log.bytes()), "{} in round {round}", log.bytes());
    }
    assert!(bounds.are_overrun_by(220_001) && !bounds.are_overrun_by(220_000));
}

#[test]
fn sums_outlive_a_restart_and_are_counted_again_where_they_are_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let log = filled(&directory);
    let bytes = log.bytes();
    assert!(bytes > 80 * 33);
    log.tree.insert(SUMS, &b"damaged"[..]).unwrap();
    assert_eq!(SledLog::new(log.tree.clone(), log.room.clone()).unwrap().bytes(), bytes);
    log.add(&[]).unwrap();
    assert_eq!(SledLog::new(log.tree.clone(), log.room.clone()).unwrap().bytes(), bytes);
}

#[test]
fn a_damaged_row_holds_nothing_up() {
    let directory = tempfile::tempdir().unwrap();
    let log = filled(&directory);
    log.tree.insert(key(&group(Kind::Live, 1), number(1, 0)), &b"\x01damaged"[..]).unwrap();
    log.tree.insert(key(&group(Kind::Live, 1), number(1, 1)), &b"\x09"[..]).unwrap();
    assert_eq!(all(&log, &Filter { org: Some(1), ..Filter::default() }, 3).len(), 38);
}
