//! Exactness when real threads take, give back and sweep at the same time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::*;

const THREADS: u64 = 4;

#[test]
fn four_threads_get_the_quota_between_them_and_not_one_more() {
    let quota = 400_000;
    let limit = limit(&[("span", quota, Period::Seconds(30)), ("day", quota, Period::Seconds(86_400))]);
    let each = 300_000;
    let total: u64 = thread::scope(|scope| {
        let take = || granted(&limit, ALICE, each, START);
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(take)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((total, left(&limit, ALICE, START)), (quota, vec![0, 0]));
}

#[test]
fn what_threads_give_back_is_there_again_to_the_last_one() {
    let limit = limit(&[("span", 1_000, SEC), ("min", 5_000, MIN), ("month", 900, Period::Month)]);
    let kept: u64 = thread::scope(|scope| {
        let work = |thread: u64| {
            let limit = &limit;
            move || {
                let mut kept = 0;
                for number in 0..50_000u32 {
                    let cost = 1 + number % 7;
                    match limit.take(ALICE, cost, Millis(START)) {
                        Ok(_taken) if u64::from(number) % 5_000 == thread => kept += u64::from(cost),
                        Ok(taken) => limit.undo(taken),
                        Err(_) => {}
                    }
                }
                kept
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(work(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!(kept > 0);
    assert_eq!(left(&limit, ALICE, START), [1_000 - kept, 5_000 - kept, 900 - kept]);
}

/// Buckets are full again, swept and made anew all the while: nothing that was taken may be lost on the way.
#[test]
fn sweeping_under_load_never_grants_more() {
    let local = Local::new(64);
    let (quota, rounds, subjects) = (3, 300, 4);
    let limit = local.limit(definition(vec![window("sec", quota, SEC), window("min", 1_000_000, MIN)])).unwrap();
    let (clock, tries, over) = (AtomicU64::new(START), AtomicU64::new(0), AtomicBool::new(false));
    let (total, forgotten) = thread::scope(|scope| {
        let work = |thread: u64| {
            let (limit, clock, tries, over) = (&limit, &clock, &tries, &over);
            move || {
                let mut total = 0;
                while !over.load(Ordering::Relaxed) {
                    let turn = thread + tries.fetch_add(1, Ordering::Relaxed);
                    total += granted(limit, Subject::id((turn % subjects).into()), 1, clock.load(Ordering::Relaxed));
                }
                total
            }
        };
        let threads: Vec<_> = (1..THREADS).map(|thread| scope.spawn(work(thread))).collect();
        let mut forgotten = 0;
        for _ in 0..rounds {
            // By now every bucket of the last round is full again, and its windows of a minute are past.
            let now = clock.fetch_add(120_000, Ordering::Relaxed) + 120_000;
            let tried = tries.load(Ordering::Relaxed);
            forgotten += (0..house::SHARDS).map(|_| local.sweep(Millis(now)).forgotten).sum::<usize>();
            while tries.load(Ordering::Relaxed) < tried + 3 * subjects * quota {
                thread::yield_now();
            }
        }
        over.store(true, Ordering::Relaxed);
        (threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>(), forgotten)
    });
    let most = (rounds + 1) * subjects * quota;
    assert!(
        total > most / 2 && forgotten > 100,
        "{total} of {most} granted, {forgotten} forgotten: too little to tell"
    );
    assert!(total <= most, "{total} of {most}");
}
