use super::case::{FIRST_WAIT, LONGEST, OVERRUNS};
use super::group::MOST_CALLERS;
use super::*;
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::time::Duration;

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

/// Overruns of these callers, one after another, for nine seconds at most: when they had brought the whole down.
fn storm(quarantine: &Quarantine, callers: &[Caller]) -> Option<Millis> {
    (0..9_000).step_by(100).map(after).find(|now| {
        callers.iter().any(|caller| {
            overrun(quarantine, *caller, *now);
            quarantine.shown(*now).is_whole()
        })
    })
}

#[test]
fn several_callers_bring_the_whole_down_for_their_kind() {
    let quarantine = Quarantine::new(1);
    let callers: Vec<Caller> = (0..8).map(address).collect();
    let down = storm(&quarantine, &callers).expect("it is down");
    assert!(down >= after(2_000), "not before calls were watched for a while: {down:?}");
    let shown = quarantine.shown(down);
    assert!(shown.without_key.is_some() && shown.with_key.is_none(), "{shown:?}");
    let until = quarantine.admit(address(99), down).expect_err("who did nothing waits too");
    assert!(good(&quarantine, org(1), down), "callers with a key do not");
    // One probe that comes back is enough.
    assert!(good(&quarantine, address(99), until));
    assert_eq!(quarantine.shown(until).without_key, None);
    assert!(good(&quarantine, address(98), until));
}

#[test]
fn three_callers_never_do_however_they_rage() {
    let quarantine = Quarantine::new(1);
    for second in 0..300_u64 {
        let now = after(second * 1_000);
        for number in 0..3 {
            (0..20).for_each(|_| {
                overrun(&quarantine, address(number), now);
            });
        }
        assert!(good(&quarantine, address(9), now), "{second}");
    }
}

#[test]
fn the_whole_stays_up_where_as_many_are_well() {
    for (well, is_down) in [(7, true), (8, false), (20, false)] {
        let quarantine = Quarantine::new(1);
        let bad: Vec<Caller> = (0..8).map(address).collect();
        overrun(&quarantine, bad[0], START);
        // Each is well once: it is callers that count here, as there are fewer calls than overruns.
        (0..well).for_each(|number| assert!(good(&quarantine, address(1_000 + number), START)));
        let down = storm(&quarantine, &bad);
        let bits = quarantine.groups[1].book().callers_well(&quarantine.groups[1]);
        assert!(bits <= well as usize);
        // Two of so few may fall on one bit; then there is one caller less, and that is all.
        if bits == well as usize {
            assert_eq!(down.is_some(), is_down, "{well}");
        }
    }
}

#[test]
fn the_whole_stays_up_where_most_calls_are_well() {
    let quarantine = Quarantine::new(1);
    let bad: Vec<Caller> = (0..8).map(address).collect();
    overrun(&quarantine, bad[0], START);
    (0..200).for_each(|_| assert!(good(&quarantine, address(1_000), START)));
    assert_eq!(storm(&quarantine, &bad), None);
}

/// Who probes for all and fails waits for itself, so that it cannot take the next round too.
#[test]
fn one_that_is_hostile_cannot_keep_the_whole_down() {
    let quarantine = Quarantine::new(1);
    let callers: Vec<Caller> = (0..8).map(address).collect();
    let down = storm(&quarantine, &callers).expect("it is down");
    let hostile = address(66);
    let until = quarantine.admit(hostile, down).expect_err("all wait");
    let probe = quarantine.admit(hostile, until).expect("a probe");
    assert!(probe.whole);
    quarantine.ended(hostile, probe, Outcome::Overran, until);
    assert!(quarantine.admit(hostile, until).is_err());
    assert!(good(&quarantine, address(99), until), "the next one of the same round");
    assert_eq!(quarantine.shown(until).without_key, None);
}

#[test]
fn three_failed_probes_of_the_whole_double_its_wait() {
    let quarantine = Quarantine::new(1);
    let callers: Vec<Caller> = (0..8).map(address).collect();
    let mut now = storm(&quarantine, &callers).expect("it is down");
    for round in 0..8_u32 {
        let until = quarantine.admit(address(900), now).expect_err("all wait");
        assert!(until.since(now) <= LONGEST, "{round}");
        now = until;
        let least = (FIRST_WAIT * (1 << (round + 1))).min(Duration::from_secs(60));
        for number in 0..3 {
            assert!(overrun(&quarantine, address(100 + round * 3 + number), now), "{round}");
        }
        let next = quarantine.admit(address(900), now).expect_err("all wait again");
        assert!(next.since(now) >= least, "{round}: {next:?}");
    }
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
    storm(&quarantine, &callers);
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

/// One thing that happens: who calls, how it ends, how long that takes, and how much later it comes.
#[derive(Debug, Clone, Copy)]
struct Event {
    caller: u32,
    outcome: Outcome,
    lasts: u64,
    later: i64,
}

fn event(callers: u32) -> impl Strategy<Value = Event> {
    let outcome = prop_oneof![3 => Just(Outcome::Overran), 2 => Just(Outcome::Kept), 1 => Just(Outcome::Unknown)];
    // Now and then the clock is set, in both directions.
    let later = prop_oneof![8 => 0..200_i64, 4 => 0..5_000_i64, 1 => -4_000_000..4_000_000_i64];
    (0..callers, outcome, prop_oneof![4 => 0..30_u64, 1 => 0..40_000_u64], later)
        .prop_map(|(caller, outcome, lasts, later)| Event { caller, outcome, lasts, later })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Whatever three callers do, a fourth one that behaves is always heard; nobody waits for longer than the longest;
    /// and nobody has two probes under way.
    #[test]
    fn whatever_few_callers_do_others_are_heard(events in prop::collection::vec(event(3), 1..400)) {
        let quarantine = Quarantine::new(7);
        let mut now = Millis(10_000_000);
        let mut under_way: HashMap<u32, Millis> = HashMap::new();
        for Event { caller, outcome, lasts, later } in events {
            now = Millis(now.0.saturating_add_signed(later));
            prop_assert!(good(&quarantine, address(99), now) && good(&quarantine, org(1), now));
            match quarantine.admit(address(caller), now) {
                Ok(probes) => {
                    prop_assert!(!probes.whole);
                    let other = under_way.get(&caller).filter(|end| **end > now && probes.caller);
                    prop_assert!(other.is_none(), "two probes at once");
                    if probes.caller && lasts >= 30 {
                        // It never ends, as far as anybody hears; after half a minute it is given up.
                        let end = now.plus(Duration::from_secs(30));
                        under_way.insert(caller, end);
                    } else {
                        quarantine.ended(address(caller), probes, outcome, now);
                    }
                }
                Err(until) => prop_assert!(until > now && until.since(now) <= LONGEST, "{until:?}, {now:?}"),
            }
            if later < 0 {
                under_way.clear();
            }
        }
        prop_assert!(quarantine.shown(now).callers <= 3);
        // What is left waits no longer than the longest; once more so where the clock was set back meanwhile.
        let [end, later] = [now.plus(LONGEST), now.plus(LONGEST * 2)];
        let is_heard = |caller| good(&quarantine, address(caller), end) || good(&quarantine, address(caller), later);
        prop_assert!((0..3).all(is_heard));
    }

    /// However many there are, what is kept is bounded, and those with a key are heard whatever those without do.
    #[test]
    fn however_many_there_are_it_is_bounded(events in prop::collection::vec(event(2_000), 1..1_500)) {
        let quarantine = Quarantine::new(7);
        let mut now = Millis(10_000_000);
        for Event { caller, outcome, later, .. } in events {
            now = Millis(now.0.saturating_add_signed(later));
            call(&quarantine, address(caller), now, outcome);
            prop_assert!(good(&quarantine, org(1), now));
            prop_assert!(quarantine.cases.pin().len() <= MOST_CALLERS);
        }
        let known = quarantine.cases.pin().len();
        prop_assert_eq!(known, quarantine.groups[1].book().callers);
    }
}
