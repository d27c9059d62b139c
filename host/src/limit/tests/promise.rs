//! What callers and operators rely on, one sentence each.

use std::net::IpAddr;

use super::*;

#[test]
fn a_full_bucket_grants_its_quota_at_once_and_then_one_per_interval() {
    let limit = limit(&[("sec", 100, SEC)]);
    assert_eq!(granted(&limit, ALICE, 150, START), 100);
    assert_eq!(granted(&limit, ALICE, 5, START + 9), 0);
    assert_eq!(granted(&limit, ALICE, 5, START + 10), 1);
    assert_eq!(granted(&limit, ALICE, 500, START + 5_000), 100);
}

#[test]
fn subjects_do_not_share() {
    let limit = limit(&[("sec", 2, SEC)]);
    assert_eq!(granted(&limit, ALICE, 5, START), 2);
    assert_eq!(granted(&limit, BOB, 5, START), 2);
}

#[test]
fn a_sliding_window_fades_and_never_grants_more_than_its_quota_in_one_step() {
    let limit = limit(&[("min", 60, MIN)]);
    assert_eq!(granted(&limit, ALICE, 100, START + 59_000), 60);
    // A second into the next step, one of sixty has faded.
    assert_eq!(granted(&limit, ALICE, 100, START + 60_000), 0);
    assert_eq!(granted(&limit, ALICE, 100, START + 61_000), 1);
    assert_eq!(granted(&limit, ALICE, 100, START + 90_000), 29);
    assert_eq!(granted(&limit, ALICE, 100, START + 300_000), 60);
}

#[test]
fn a_month_ends_at_midnight_utc_of_the_first() {
    let limit = limit(&[("month", 3, Period::Month)]);
    let end: Millis = "2026-12-01T00:00:00Z".parse().unwrap();
    assert_eq!(granted(&limit, ALICE, 5, START), 3);
    let refused = limit.take(ALICE, 1, Millis(end.0 - 1_500)).unwrap_err();
    assert_eq!((refused.retry_after(), refused.period()), (2, Period::Month));
    assert_eq!(granted(&limit, ALICE, 5, end.0 - 1), 0);
    assert_eq!(granted(&limit, ALICE, 5, end.0), 3);
}

#[test]
fn all_windows_are_taken_from_or_none() {
    let limit = limit(&[("min", 5, MIN), ("sec", 10, SEC), ("month", 100, Period::Month)]);
    assert_eq!(granted(&limit, ALICE, 9, START), 5);
    // The order is that of the periods, whatever was written.
    assert_eq!(left(&limit, ALICE, START), [5, 0, 95]);
}

#[test]
fn a_cost_beyond_the_quota_is_refused_and_takes_nothing() {
    let limit = limit(&[("sec", 10, SEC), ("min", 10, MIN), ("month", 10, Period::Month)]);
    for cost in [11, 1 << 24, u32::MAX] {
        let refused = limit.take(ALICE, cost, Millis(START)).unwrap_err();
        assert!(refused.retry_after() >= 1);
    }
    assert_eq!(left(&limit, ALICE, START), [10, 10, 10]);
    let _ = limit.take(ALICE, 10, Millis(START)).unwrap();
}

#[test]
fn a_cost_of_nothing_only_looks_and_tells_whether_one_would_be_refused() {
    let local = Local::new(10);
    let limit = local.limit(definition(vec![window("sec", 1, SEC)])).unwrap();
    let looked = limit.take(ALICE, 0, Millis(START)).unwrap();
    assert_eq!(looked.states(), [State { remaining: 1, reset: 0 }]);
    limit.undo(looked);
    assert_eq!(local.sweep(Millis(START)).kept, 0, "looking makes no bucket");
    let _ = limit.take(ALICE, 1, Millis(START)).unwrap();
    assert_eq!(limit.take(ALICE, 0, Millis(START)).unwrap_err().retry_after(), 1);
}

#[test]
fn what_is_undone_at_once_is_given_back_exactly() {
    let limit = limit(&[("sec", 10, SEC), ("min", 10, MIN), ("month", 10, Period::Month)]);
    let _ = limit.take(ALICE, 3, Millis(START)).unwrap();
    let taken = limit.take(ALICE, 5, Millis(START)).unwrap();
    assert_eq!(left(&limit, ALICE, START), [2, 2, 2]);
    limit.undo(taken);
    assert_eq!(left(&limit, ALICE, START), [7, 7, 7]);
}

#[test]
fn what_time_has_given_back_is_not_given_back_again() {
    let limit = limit(&[("sec", 10, SEC)]);
    let taken = limit.take(ALICE, 10, Millis(START)).unwrap();
    // Full again after a second; then ten more are taken, which the undoing of the first ten must not return.
    assert_eq!(granted(&limit, ALICE, 20, START + 1_000), 10);
    limit.undo(taken);
    assert_eq!(left(&limit, ALICE, START + 1_000), [0]);
}

#[test]
fn the_same_definition_finds_the_same_buckets_and_a_changed_quota_keeps_what_was_used() {
    let local = Local::new(10);
    let find = |windows| local.limit(definition(windows)).unwrap();
    let windows = |quota| vec![window("sec", quota, SEC), window("month", quota * 10, Period::Month)];
    let first = find(windows(100));
    assert_eq!(granted(&first, ALICE, 50, START), 50);
    drop(first);
    local.sweep(Millis(START));
    assert_eq!(left(&find(windows(100)), ALICE, START), [50, 950]);
    // Half of the second's bucket is used; of the month, fifty.
    assert_eq!(left(&find(windows(200)), ALICE, START), [100, 1_950]);
    assert_eq!(left(&find(windows(4)), ALICE, START), [2, 0]);
    let other = find(vec![window("sec", 100, Period::Seconds(2))]);
    assert_eq!(left(&other, ALICE, START), [100]);
    let elsewhere = Definition { pillar: None, ..definition(windows(100)) };
    assert_eq!(left(&local.limit(elsewhere).unwrap(), ALICE, START), [100, 1_000]);
}

#[test]
fn a_reset_fills_every_window_of_one_subject() {
    let local = Local::new(10);
    let windows = vec![window("sec", 4, SEC), window("min", 5, MIN), window("month", 6, Period::Month)];
    let limit = local.limit(definition(windows)).unwrap();
    let taken = limit.take(ALICE, 4, Millis(START)).unwrap();
    let _ = limit.take(BOB, 1, Millis(START)).unwrap();
    let remaining =
        |subject| limit.states(subject, Millis(START)).iter().map(|state| state.remaining).collect::<Vec<_>>();
    assert_eq!((remaining(ALICE), remaining(BOB)), (vec![0, 1, 2], vec![3, 4, 5]));
    assert!(limit.reset(ALICE, Millis(START)));
    assert_eq!((remaining(ALICE), remaining(BOB)), (vec![4, 5, 6], vec![3, 4, 5]));
    // What was under way meanwhile gives no more than there is.
    limit.undo(taken);
    assert_eq!(remaining(ALICE), [4, 5, 6]);
    assert_eq!(granted(&limit, ALICE, 9, START), 4);
}

#[test]
fn a_reset_of_whoever_shares_a_bucket_gives_one_where_there_is_room() {
    let local = Local::new(1);
    let limit = local.limit(definition(vec![window("min", 5, MIN)])).unwrap();
    assert!(limit.reset(BOB, Millis(START)), "nothing was taken");
    assert_eq!(local.sweep(Millis(START)).kept, 0, "and no bucket was made");
    assert_eq!((granted(&limit, ALICE, 1, START), granted(&limit, BOB, 9, START)), (1, 5));
    assert!(!limit.reset(BOB, Millis(START)), "the house is full");
    assert_eq!(left(&limit, BOB, START), [0]);
    assert!(limit.reset(ALICE, Millis(START)));
    assert_eq!(left(&limit, ALICE, START), [5]);
}

#[test]
fn full_buckets_are_swept_in_slices_and_used_ones_stay() {
    let local = Local::new(10_000);
    let limit = local.limit(definition(vec![window("sec", 10, SEC)])).unwrap();
    for number in 0..1_000 {
        let _ = limit.take(Subject::id(number), 1, Millis(START)).unwrap();
    }
    let _ = limit.take(ALICE, 9, Millis(START)).unwrap();
    let pass = |now| (0..house::SHARDS).map(|_| local.sweep(Millis(now)).forgotten).collect::<Vec<_>>();
    assert_eq!(pass(START + 50).iter().sum::<usize>(), 0);
    let swept = pass(START + 100);
    assert_eq!(swept.iter().sum::<usize>(), 999);
    assert!(swept.iter().all(|slice| *slice < 100), "{swept:?}");
    assert_eq!(left(&limit, ALICE, START + 100), [1]);
    assert_eq!(local.sweep(Millis(START + 100)).kept, 1);
}

#[test]
fn beyond_the_cap_strangers_share_one_bucket_until_it_is_full_again() {
    let local = Local::new(8);
    let address = Definition { subject: SubjectKind::Address, ..definition(vec![window("sec", 2, SEC)]) };
    let address = local.limit(address).unwrap();
    let total: u64 = (0..100).map(|number| granted(&address, Subject::id(number), 3, START)).sum();
    assert_eq!(total, 6 * 2 + 2, "three quarters of the cap, and one shared bucket");
    // Keys still get the last quarter.
    let key = local.limit(definition(vec![window("sec", 2, SEC)])).unwrap();
    assert_eq!(granted(&key, ALICE, 3, START) + granted(&key, BOB, 3, START), 4);
    let later = START + 1_000;
    let forgotten: usize = (0..house::SHARDS).map(|_| local.sweep(Millis(later)).forgotten).sum();
    assert_eq!(forgotten, 8);
    assert_eq!(granted(&address, Subject::id(99), 3, later), 2);
    assert_eq!(granted(&address, Subject::id(98), 3, later), 2);
}

#[test]
fn a_taking_from_the_shared_bucket_is_given_back_to_it() {
    let limit = Local::new(0).limit(definition(vec![window("sec", 2, SEC)])).unwrap();
    let taken = limit.take(ALICE, 2, Millis(START)).unwrap();
    let _ = limit.take(BOB, 1, Millis(START)).unwrap_err();
    limit.undo(taken);
    assert_eq!(granted(&limit, BOB, 3, START), 2);
}

#[test]
fn months_are_seeded_from_usage_and_seeding_again_changes_nothing() {
    let limit = limit(&[("min", 50, MIN), ("month", 100, Period::Month)]);
    assert!(limit.seed(ALICE, 70, Millis(START)));
    assert!(limit.seed(ALICE, 70, Millis(START)));
    assert!(limit.seed(BOB, u64::MAX, Millis(START)));
    assert_eq!(left(&limit, ALICE, START), [50, 30]);
    assert_eq!(left(&limit, BOB, START), [50, 0]);
}

#[test]
fn a_late_caller_gains_nothing_and_a_clock_set_back_blocks_nobody_for_long() {
    for (per, quota) in [(SEC, 10), (Period::Seconds(59), 10), (MIN, 10), (Period::Month, 10)] {
        let limit = limit(&[("window", quota, per)]);
        assert_eq!(granted(&limit, ALICE, 5, START), 5);
        // Late by ten seconds, twice, and the others go on.
        assert_eq!(granted(&limit, ALICE, 10, START - 10_000), 5);
        assert_eq!(granted(&limit, ALICE, 10, START), 0);
        // Set back by a day or by a hundred: nothing is gained, and in the end it counts as ever.
        for back in [86_400_000, 100 * 86_400_000] {
            let set_back = START - back;
            let waited = match per {
                Period::Seconds(seconds) => u64::from(seconds) * 1_100 + timeline::CONFIRM,
                Period::Month => 31 * 86_400_000,
            };
            let early: u64 = (0..2).map(|second| granted(&limit, ALICE, 20, set_back + second * 100)).sum();
            assert_eq!(early, 0);
            assert_eq!(granted(&limit, ALICE, 20, set_back + timeline::CONFIRM), 0, "{per:?}");
            assert!(granted(&limit, ALICE, 20, set_back + waited) > 0, "{per:?} {back}");
            let _ = granted(&limit, ALICE, 20, set_back + waited);
        }
    }
}

#[test]
fn what_was_taken_before_the_clock_was_set_back_is_not_given_back() {
    let limit = limit(&[("sec", 10, SEC)]);
    let taken = limit.take(ALICE, 10, Millis(START)).unwrap();
    for now in [START - 60_000, START - 60_000 + timeline::CONFIRM] {
        assert_eq!(granted(&limit, ALICE, 1, now), 0);
    }
    limit.undo(taken);
    assert_eq!(granted(&limit, ALICE, 1, START - 60_000 + timeline::CONFIRM), 0);
}

#[test]
fn fields_are_those_of_the_draft() {
    let first = limit(&[("min", 3_000, MIN), ("sec", 100, SEC)]);
    let now = Millis(START);
    assert_eq!(policy_field([&*first], now), "\"sec\";q=100;w=1, \"min\";q=3000;w=60");
    let taken = first.take(ALICE, 58, now).unwrap();
    assert_eq!(state_field([(&*first, taken.states())]), "\"sec\";r=42;t=1, \"min\";r=2942;t=60");

    let second = limit(&[("month", 5, Period::Month), ("sec", 7, SEC)]);
    assert_eq!(policy_field([&*second], now), "\"sec\";q=7;w=1, \"month\";q=5;w=2592000");
    let february: Millis = "2028-02-29T23:59:59Z".parse().unwrap();
    assert_eq!(policy_field([&*second], february), "\"sec\";q=7;w=1, \"month\";q=5;w=2505600");
    assert_eq!(
        policy_field([&*first, &*second], now),
        "\"sec\";q=100;w=1, \"min\";q=3000;w=60, \"per-key.sec\";q=7;w=1, \"month\";q=5;w=2592000"
    );
    let refused = second.take(ALICE, 6, now).unwrap_err();
    assert_eq!(
        state_field([(&*first, taken.states()), (&*second, refused.states())]),
        "\"sec\";r=42;t=1, \"min\";r=2942;t=60, \"per-key.sec\";r=7;t=0, \"month\";r=5;t=0"
    );
    // Six of five a month never fit: come again when it is full.
    assert_eq!(retry_after_field(refused.retry_after()), (9 * 86_400).to_string().as_str());
}

#[test]
fn a_definition_that_cannot_be_kept_is_refused_with_all_that_is_wrong() {
    let windows = vec![
        window("sec", 0, SEC),
        window("Sec", 5, SEC),
        window("day", 1 << 40, Period::Seconds(86_400)),
        window("sec", 1, Period::Seconds(86_401)),
    ];
    let problems = definition(windows.clone()).problems();
    let places: Vec<_> = problems.iter().map(|problem| problem.window).collect();
    assert_eq!(places, [Some(0), Some(1), Some(1), Some(2), Some(3), Some(3)]);
    let message = Local::new(1).limit(definition(windows)).unwrap_err().to_string();
    assert!(message.contains("window 2: its quota is 1099511627776; over this period it can be 1 to 134217726"));
    assert_eq!(definition(vec![]).problems()[0].window, None);
    assert_eq!(Definition { limit: "a b".to_owned(), ..definition(vec![window("s", 1, SEC)]) }.problems().len(), 1);
}

#[test]
fn an_address_counts_whole_or_by_its_64() {
    let subject = |text: &str| Subject::address(text.parse::<IpAddr>().unwrap());
    assert_eq!(subject("2001:db8::1"), subject("2001:db8::ffff:0:1"));
    assert_ne!(subject("2001:db8::1"), subject("2001:db8:0:1::1"));
    assert_eq!(subject("::ffff:192.0.2.1"), subject("192.0.2.1"));
    assert_ne!(subject("192.0.2.1"), subject("192.0.2.2"));
    assert_ne!(subject("0.0.0.0"), subject("::"));
}

#[test]
fn custom_subjects_are_told_apart() {
    let limit = limit(&[("sec", 1, SEC)]);
    assert_eq!(limit.custom("a"), limit.custom("a"));
    assert_ne!(limit.custom("a"), limit.custom("b"));
}
