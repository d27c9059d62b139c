//! Random histories, with calls that take long and a clock that is set.

use super::super::case::LONGEST;
use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

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
