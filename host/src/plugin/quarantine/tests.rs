use super::case::{FIRST_WAIT, OVERRUNS};
use super::group::MOST_CALLERS;
use super::*;
use std::net::Ipv6Addr;
use std::time::Duration;

mod random;
mod whole;

const START: Millis = Millis(1_000_000);

fn org(number: u64) -> Caller {
    Caller::Org(OrgId::from_number(number.into()))
}

fn address(number: u32) -> Caller {
    Caller::without_key(IpAddr::V4((0x0a00_0000 + number).into()))
}

fn after(millis: u64) -> Millis {
    START.plus(Duration::from_millis(millis))
}

/// A call from start to end; whether it ran.
fn call(quarantine: &Quarantine, caller: Caller, now: Millis, outcome: Outcome) -> bool {
    let probes = quarantine.admit(caller, now);
    probes.is_ok_and(|probes| {
        quarantine.ended(caller, probes, outcome, now);
        true
    })
}

fn overrun(quarantine: &Quarantine, caller: Caller, now: Millis) -> bool {
    call(quarantine, caller, now, Outcome::Overran)
}

fn good(quarantine: &Quarantine, caller: Caller, now: Millis) -> bool {
    call(quarantine, caller, now, Outcome::Kept)
}

/// Overruns until it waits.
fn held(quarantine: &Quarantine, caller: Caller, now: Millis) {
    let ran = (0..100).take_while(|_| overrun(quarantine, caller, now)).count();
    assert_eq!(ran, OVERRUNS as usize);
}

#[test]
fn who_overruns_waits_and_others_do_not() {
    let quarantine = Quarantine::new(1);
    held(&quarantine, address(1), START);
    assert!(!good(&quarantine, address(1), after(999)));
    assert!(good(&quarantine, address(2), START) && good(&quarantine, org(1), START));
    assert_eq!(quarantine.shown(START), Quarantined { callers: 1, ..Quarantined::default() });
}

#[test]
fn addresses_of_one_network_are_one_caller() {
    let quarantine = Quarantine::new(1);
    let inside = |host: u64| Caller::without_key(Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(host)).into());
    let ran = (0..100).filter(|host| overrun(&quarantine, inside(*host), START)).count();
    assert_eq!(ran, OVERRUNS as usize);
    let mapped = |last| Caller::without_key(IpAddr::V6(Ipv6Addr::from(0xffff_0a00_0000_u128 + last)));
    assert_eq!([mapped(1), mapped(2)], [address(1), address(2)], "and addresses of IPv4 are not");
}

#[test]
fn a_probe_brings_it_back_and_a_failed_one_doubles_the_wait() {
    let quarantine = Quarantine::new(1);
    let caller = address(1);
    held(&quarantine, caller, START);
    let mut now = START;
    let mut waits = Vec::new();
    for _ in 0..9 {
        let until = quarantine.admit(caller, now).expect_err("it waits");
        waits.push(until.since(now));
        now = until;
        let probe = quarantine.admit(caller, now).expect("one probe");
        assert!(probe.caller && quarantine.admit(caller, now).is_err(), "and no second one");
        quarantine.ended(caller, probe, Outcome::Overran, now);
    }
    for (doubled, wait) in waits.iter().enumerate() {
        let least = (FIRST_WAIT * (1 << doubled)).min(Duration::from_secs(60));
        assert!(*wait >= least && *wait <= least * 5 / 4, "{doubled}: {wait:?}");
    }
    let until = quarantine.admit(caller, now).expect_err("it waits");
    assert!(good(&quarantine, caller, until) && good(&quarantine, caller, until));
    assert_eq!(quarantine.shown(until).callers, 0);
    // On probation one overrun among few calls is enough, and it waits for longer than the first time.
    assert!(overrun(&quarantine, caller, until) || overrun(&quarantine, caller, until));
    overrun(&quarantine, caller, until);
    let again = quarantine.admit(caller, until).expect_err("it waits");
    assert!(again.since(until) >= Duration::from_secs(60), "{again:?}");
}

#[test]
fn who_behaved_for_long_begins_anew() {
    let quarantine = Quarantine::new(1);
    let caller = address(1);
    held(&quarantine, caller, START);
    assert!(good(&quarantine, caller, after(1_250)));
    held(&quarantine, caller, after(20_000));
    let until = quarantine.admit(caller, after(20_000)).expect_err("it waits");
    assert!(until.since(after(20_000)) < FIRST_WAIT * 2);
}

#[test]
fn a_few_overruns_among_many_calls_are_nobodys_fault() {
    let quarantine = Quarantine::new(1);
    for number in 0..1_000 {
        let outcome = if number % 50 == 0 { Outcome::Overran } else { Outcome::Kept };
        assert!(call(&quarantine, org(1), after(number * 20), outcome), "{number}");
    }
}

#[test]
fn good_calls_in_between_do_not_buy_a_flood_of_bad_ones() {
    let quarantine = Quarantine::new(1);
    let caller = org(1);
    let ran = (0..1_000).filter(|_| {
        good(&quarantine, caller, START);
        good(&quarantine, caller, START);
        overrun(&quarantine, caller, START)
    });
    assert_eq!(ran.count(), case::BURST as usize);
}

#[test]
fn a_trap_is_no_overrun_and_a_call_that_nobody_saw_end_is_nothing() {
    let quarantine = Quarantine::new(1);
    let caller = address(1);
    for _ in 0..100 {
        assert!(call(&quarantine, caller, START, Outcome::Unknown));
    }
    held(&quarantine, caller, START);
    let probe = quarantine.admit(caller, after(1_250)).expect("a probe");
    quarantine.ended(caller, probe, Outcome::Unknown, after(1_250));
    let probe = quarantine.admit(caller, after(1_250)).expect("another one in its place");
    assert!(quarantine.admit(caller, after(1_251)).is_err());
    // Not even its loss is heard of: another one goes after a while.
    assert!(quarantine.admit(caller, after(1_250 + 30_000)).expect("a third one").caller);
    quarantine.ended(caller, probe, Outcome::Overran, after(40_000));
}

/// Calls that were let through before the wait began say nothing about what came after it.
#[test]
fn late_ends_change_nothing() {
    let quarantine = Quarantine::new(1);
    let caller = address(1);
    held(&quarantine, caller, START);
    let until = quarantine.admit(caller, START).expect_err("it waits");
    for _ in 0..64 {
        quarantine.ended(caller, Probes::default(), Outcome::Overran, START);
    }
    quarantine.ended(caller, Probes::default(), Outcome::Kept, START);
    assert_eq!(quarantine.admit(caller, START), Err(until));
}

#[test]
fn a_flood_of_new_callers_pushes_out_nobody_who_comes_again() {
    let quarantine = Quarantine::new(1);
    let (waiting, watched) = (address(1), address(2));
    held(&quarantine, waiting, START);
    (1..OVERRUNS).for_each(|_| assert!(overrun(&quarantine, watched, START)));
    for number in 0..1_500 {
        overrun(&quarantine, address(10_000 + number), after(1));
        assert!(quarantine.cases.pin().len() <= MOST_CALLERS);
    }
    assert!(!good(&quarantine, waiting, after(2)), "it still waits");
    assert!(overrun(&quarantine, watched, after(2)) && !overrun(&quarantine, watched, after(2)), "its fifth");
    // Those with a key have a room of their own.
    held(&quarantine, org(1), after(2));
}

#[test]
fn when_all_is_calm_again_nothing_is_kept_or_watched() {
    let quarantine = Quarantine::new(1);
    let callers: Vec<Caller> = (0..600).map(address).collect();
    whole::storm(&quarantine, &callers);
    assert!(quarantine.is_watching());
    let mut now = after(200_000);
    for _ in 0..20 {
        now = now.plus(Duration::from_secs(11));
        good(&quarantine, org(1), now);
        good(&quarantine, address(9_999), now);
    }
    assert!(!quarantine.is_watching() && quarantine.cases.pin().is_empty());
    assert_eq!(quarantine.shown(now), Quarantined::default());
}

/// Sixty-four threads at the moment at which a probe is due: one of them gets it.
#[test]
fn of_many_threads_one_probes() {
    let quarantine = Quarantine::new(1);
    let caller = address(1);
    for round in 0..20 {
        let now = after(round * 200_000);
        while overrun(&quarantine, caller, now) {}
        let due = quarantine.admit(caller, now).expect_err("it waits");
        let probes: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| (0..8).filter(|_| quarantine.admit(caller, due).is_ok()).count()))
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(probes, 1, "{round}");
        quarantine.ended(caller, Probes { caller: true, whole: false }, Outcome::Kept, due);
    }
}
