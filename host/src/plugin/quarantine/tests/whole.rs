//! A policy that waits as a whole.

use super::super::case::LONGEST;
use super::*;

/// Overruns of these callers, one after another, for nine seconds at most: when they had brought the whole down.
pub(super) fn storm(quarantine: &Quarantine, callers: &[Caller]) -> Option<Millis> {
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
fn who_went_away_long_ago_has_no_say() {
    let quarantine = Quarantine::new(1);
    (0..8).for_each(|number| held(&quarantine, address(number), START));
    for millis in (20_000..40_000).step_by(100) {
        for number in 0..3 {
            overrun(&quarantine, address(100 + number), after(millis));
            assert!(!quarantine.shown(after(millis)).is_whole(), "{millis}");
        }
    }
    let evidence = quarantine.groups[1].book().evidence(&quarantine.groups[1], after(40_000));
    assert!(evidence.may_suffice(), "there were overruns enough: {evidence:?}");
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

/// An exchange whose first call keeps its bounds, and a later one does not.
fn later_overrun(quarantine: &Quarantine, caller: Caller, now: Millis) {
    if good(quarantine, caller, now)
        && let Ok(probes) = quarantine.admit(caller, now)
    {
        quarantine.take_back(caller, now);
        quarantine.ended(caller, probes, Outcome::Overran, now);
    }
}

#[test]
fn overruns_in_later_phases_bring_it_down_as_those_in_the_first() {
    let quarantine = Quarantine::new(1);
    let callers: Vec<Caller> = (0..8).map(address).collect();
    let mut instants = (0..9_000).step_by(100).map(after);
    let down = instants.find(|now| {
        callers.iter().any(|caller| {
            later_overrun(&quarantine, *caller, *now);
            quarantine.shown(*now).is_whole()
        })
    });
    let first = storm(&Quarantine::new(1), &callers).expect("it is down");
    let down = down.expect("it is down");
    assert!(down >= first && down.since(first) <= Duration::from_secs(1), "{first:?} {down:?}");
}

/// The first call of a probe's exchange keeps its bounds, and so ends the wait too soon: the next one is longer.
#[test]
fn a_whole_that_overruns_in_later_phases_waits_ever_longer() {
    let quarantine = Quarantine::new(1);
    let mut waits: Vec<(Millis, Duration)> = Vec::new();
    for (step, now) in (0..60_000).step_by(100).map(after).enumerate() {
        for number in 0..8 {
            // Ever other ones: those that come again wait each for itself.
            later_overrun(&quarantine, address((step as u32 * 8 + number) % 400), now);
        }
        if let Some(until) = quarantine.shown(now).without_key
            && waits.last().is_none_or(|(known, _)| *known != until)
        {
            waits.push((until, until.since(now)));
        }
    }
    let waits: Vec<Duration> = waits.into_iter().map(|(_, wait)| wait).collect();
    assert!(waits.len() >= 3, "{waits:?}");
    assert!(waits.windows(2).all(|pair| pair[1] > pair[0] * 3 / 2), "{waits:?}");
}

#[test]
fn overruns_in_later_phases_of_a_few_are_not_held_against_all() {
    let quarantine = Quarantine::new(1);
    for second in 0..60_u64 {
        let now = after(second * 1_000);
        (0..8).for_each(|number| later_overrun(&quarantine, address(number), now));
        for number in 100..140 {
            assert!(good(&quarantine, address(number), now), "{second}");
        }
    }
}

/// Else whoever has slow exchanges would have two voices for each.
#[test]
fn what_was_counted_long_ago_is_not_taken_back() {
    let quarantine = Quarantine::new(1);
    overrun(&quarantine, address(0), START);
    let kept = || quarantine.groups[1].book().evidence(&quarantine.groups[1], after(3_000)).kept;
    (1..5).for_each(|number| assert!(good(&quarantine, address(number), after(10))));
    assert_eq!(kept(), 4);
    quarantine.take_back(address(1), after(10));
    assert_eq!(kept(), 3);
    quarantine.take_back(address(1), Millis(START.0 - 10_001));
    assert_eq!(kept(), 3);
}
