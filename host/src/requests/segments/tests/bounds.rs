//! Ages, sizes and shares of the request log, and clocks that were set.

use super::*;

#[test]
fn what_is_beyond_the_bounds_goes_oldest_first() {
    let directory = tempfile::tempdir().unwrap();
    let log = filled(&directory);
    settle(&log, WIDE);
    assert_eq!(all(&log, &Filter::default(), 200).len(), 70, "those of sandbox keys went on Monday");
    settle(&log, Bounds { age: Duration::from_secs(3 * 86_400), ..WIDE });
    assert_eq!(all(&log, &Filter::default(), 200).len(), 60, "not shown, though others of their segment are");
    flood(&log, 1, number(0, 0), 10_000);
    let whole = log.bytes();
    for part in [2, 3, 7] {
        settle(&log, Bounds { bytes: whole / part, ..WIDE });
        let left = all(&log, &of(1), 200);
        assert!(left.is_sorted_by(|newer, older| newer > older));
        let newest: Vec<u128> = (0..10_000).rev().take(left.len()).map(|nth| number(0, 0) + (nth << 80)).collect();
        assert_eq!(left, newest, "the oldest went");
        assert!(log.bytes() > whole / part * 9 / 10, "no more than has to");
        assert_eq!((all(&log, &of(2), 200).len(), log.bytes()), (20, on_disk(&directory)));
    }
    settle(&log, Bounds { age: Duration::ZERO, bytes: 0 });
    assert_eq!((log.bytes(), all(&log, &Filter::default(), 200).len(), on_disk(&directory)), (0, 0, 0));
    // And goes on.
    flood(&log, 1, number(0, 0), 10);
    log.0.state().cut = Default::default();
    assert_eq!(all(&log, &Filter::default(), 200).len(), 10);
}

/// One org has nearly all traffic; nobody else loses a row by it, save for whoever is in its chain.
#[test]
fn an_org_with_very_much_traffic_pushes_out_its_own_rows() {
    let directory = tempfile::tempdir().unwrap();
    let log = log(&directory);
    let bounds = Bounds { bytes: 40 * u64::from(SIZE), ..WIDE };
    let busy = chain::Chain::of(Kind::Live, chain::spread(1));
    let others: Vec<u128> = (2..60).filter(|org| chain::Chain::of(Kind::Live, chain::spread(*org)) != busy).collect();
    assert!(others.len() > 40);
    others.iter().for_each(|org| flood(&log, *org, number(9, 0), 5));
    for round in 0..200 {
        flood(&log, 1, number(8, 0) + ((round * 500) << 80), 500);
        while log.forget(bounds, NOW).unwrap() {}
        assert!(log.bytes() <= bounds.bytes);
    }
    for org in others {
        assert_eq!(all(&log, &of(org), 200).len(), 5, "{org}");
    }
    assert!(all(&log, &of(1), 200).len() > 1_000, "it has what is left");
}

#[test]
fn what_is_refused_or_sandbox_pushes_out_nothing_of_live_keys() {
    let directory = tempfile::tempdir().unwrap();
    let log = log(&directory);
    flood(&log, 1, number(9, 0), 1_000);
    let bounds = Bounds { bytes: 5 * log.bytes(), ..WIDE };
    let denied = |entry: &mut Entry<'_>| {
        (entry.record.denied, entry.record.upstream) = (Some("key_revoked"), Duration::ZERO);
    };
    let left = |entry: &mut Entry<'_>| (entry.record.status, entry.record.upstream) = (0, Duration::ZERO);
    for round in 0..60 {
        // A second apart, within the last hour.
        let of = |nth: u64| first_at(Millis(NOW.0 - HOUR + (round * 1000 + nth) * 10));
        let mut rows = Rows::default();
        for nth in 0..1000 {
            match nth % 4 {
                0 => row(&mut rows, Some(2), false, of(nth), denied),
                1 => row(&mut rows, Some(2), true, of(nth), |_| ()),
                2 => row(&mut rows, None, false, of(nth), denied),
                _ => row(&mut rows, Some(2), false, of(nth), left),
            }
        }
        add(&log, &rows);
        while log.forget(bounds, NOW).unwrap() {}
    }
    assert!(log.bytes() <= bounds.bytes);
    assert_eq!(all(&log, &of(1), 200).len(), 1_000);
    let state = log.0.state();
    for kind in Kind::BOUNDED {
        let sum: u64 = chain::Chain::all(kind).map(|chain| state.sums[chain.index()]).sum();
        assert!(sum <= bounds.bytes / 4 && sum > bounds.bytes / 8, "{kind:?} has {sum} of {}", bounds.bytes);
    }
    drop(state);
    // An upstream that was asked, and failed, is news of a live key.
    let mut rows = Rows::default();
    row(&mut rows, Some(2), false, 1, |entry| entry.record.denied = Some("upstream_broke"));
    row(&mut rows, Some(2), false, 1, denied);
    assert_eq!(rows.marks.iter().map(|mark| mark.chain.kind()).collect::<Vec<_>>(), [Kind::Live, Kind::Refused]);
}

#[test]
fn rows_of_sandbox_keys_go_on_monday_also_those_that_come_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let log = log(&directory);
    let monday = crate::requests::log::monday(NOW);
    let at = |millis: u64, nth: u128| first_at(Millis(monday.0 + millis - 1000)) + nth;
    let mut rows = Rows::default();
    row(&mut rows, Some(1), true, at(0, 0), |_| ());
    log.add(&rows, Millis(monday.0 - 1)).unwrap();
    // Begun before Monday and ended after, and one of the new week.
    row(&mut rows, Some(1), true, at(999, 1), |_| ());
    row(&mut rows, Some(1), true, at(1000, 2), |_| ());
    log.add(&rows, Millis(monday.0 + 1)).unwrap();
    assert_eq!(all(&log, &of(1), 10), [at(1000, 2), at(0, 0)]);
    while log.forget(WIDE, monday).unwrap() {}
    assert_eq!(all(&log, &of(1), 10), [at(1000, 2)]);
    let left = SegmentLog::sized(directory.path(), SIZE, Duration::from_secs(86_400));
    assert_eq!(all(&left, &of(1), 10), [at(1000, 2)], "it is gone from the disk");
}

#[test]
fn a_segment_is_not_written_longer_than_it_may() {
    let directory = tempfile::tempdir().unwrap();
    let log = SegmentLog::sized(directory.path(), SIZE, Duration::ZERO);
    let segments = || std::fs::read_dir(directory.path().join(DIRECTORY)).unwrap().count();
    flood(&log, 1, number(1, 0), 1);
    flood(&log, 1, number(1, 1), 1);
    assert_eq!((segments(), all(&log, &of(1), 10).len()), (2, 2));
}

#[test]
fn a_clock_that_was_set_takes_nothing_with_it_until_it_is_seen_twice() {
    let directory = tempfile::tempdir().unwrap();
    let log = filled(&directory);
    let later = |log: &SegmentLog| {
        let mut state = log.0.state();
        let (at, then) = state.looked.unwrap();
        state.looked = Some((at.checked_sub(super::super::bounds::LOOK).unwrap(), then));
    };
    let left = |now: Millis| {
        assert!(!log.forget(WIDE, now).unwrap());
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
    assert_eq!((left(ahead.plus(super::super::bounds::LOOK)), on_disk(&directory)), (0, 0));
}
