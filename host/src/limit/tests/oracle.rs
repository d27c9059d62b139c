//! Each rule beside a naive one that keeps everything, over arbitrary histories.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::rule::{Rule, Step};
use super::*;

/// What happens next: so many milliseconds later, so much is taken.
fn history(longest: u64, most: u32) -> impl Strategy<Value = Vec<(u64, u32)>> {
    let pause = prop_oneof![3 => Just(0), 3 => 0..longest / 20 + 1, 1 => 0..longest];
    let cost = prop_oneof![4 => 1..=3u32, 1 => 1..=most];
    vec((pause, cost), 1..200)
}

/// Takes at each instant; tells what was granted: when, and how much.
fn run(rule: &Rule, history: &[(u64, u32)]) -> Vec<(u64, u32, bool)> {
    let (mut state, mut now) = (0, START);
    let mut step = |(pause, cost): &(u64, u32)| {
        now += pause;
        let granted = match rule.step(state, *cost, now) {
            Step::Grant(next) => {
                state = next;
                true
            }
            Step::Refuse => {
                let wait = rule.wait(state, *cost, now);
                let fits = rule.step(0, *cost, now) != Step::Refuse;
                assert!(!fits || wait > 0);
                assert!(!fits || matches!(rule.step(state, *cost, now + wait), Step::Grant(_)), "waited in vain");
                assert!(!fits || rule.step(state, *cost, now + wait - 1) == Step::Refuse, "waited too long");
                false
            }
            Step::Rebase(_) => panic!("time only went forward"),
        };
        (now, *cost, granted)
    };
    history.iter().map(&mut step).collect()
}

/// A bucket of tokens in whole fractions: the textbook's.
fn tokens(seconds: u32, quota: u64, history: &[(u64, u32)]) -> Vec<bool> {
    let period = u128::from(seconds) * 1_000;
    let full = u128::from(quota) * period;
    let mut level = full;
    let mut take = |(pause, cost): &(u64, u32)| {
        level = (level + u128::from(*pause) * u128::from(quota)).min(full);
        let cost = u128::from(*cost) * period;
        let granted = cost <= level;
        level -= if granted { cost } else { 0 };
        granted
    };
    history.iter().map(&mut take).collect()
}

proptest! {
    #[test]
    fn below_a_minute_it_is_the_bucket_of_tokens(
        (seconds, quota) in prop_oneof![
            Just((1, 1)), Just((1, 100)), Just((2, 5)), Just((10, 4)), Just((59, 59)), Just((1, 1_000_000)),
        ],
        history in history(70_000, 1_000_001),
    ) {
        let rule = Rule::new(&window("w", quota, Period::Seconds(seconds)));
        let granted: Vec<bool> = run(&rule, &history).iter().map(|(.., granted)| *granted).collect();
        prop_assert_eq!(granted, tokens(seconds, quota, &history));
    }

    #[test]
    fn below_a_minute_no_span_grants_more_than_quota_and_rate(
        seconds in 1..60u32, quota in 1..1_000_000u64, history in history(3_000, 500_000),
    ) {
        let rule = Rule::new(&window("w", quota, Period::Seconds(seconds)));
        let history = run(&rule, &history);
        for (position, (start, ..)) in history.iter().enumerate() {
            let mut sum = 0;
            for (end, cost, granted) in &history[position..] {
                sum += if *granted { u64::from(*cost) } else { 0 };
                let rate = u128::from(quota) * u128::from(end - start) / (u128::from(seconds) * 1_000);
                prop_assert!(u128::from(sum) <= u128::from(quota) + rate);
            }
        }
    }

    #[test]
    fn from_a_minute_on_it_is_two_weighted_steps(
        seconds in prop_oneof![Just(60u32), 60..=86_400u32], quota in 1..4_000_000u64,
        history in history(200_000_000, 4_000_001),
    ) {
        let rule = Rule::new(&window("w", quota, Period::Seconds(seconds)));
        let period = u64::from(seconds) * 1_000;
        let mut steps: HashMap<u64, u64> = HashMap::new();
        for (now, cost, granted) in run(&rule, &history) {
            let (step, gone) = (now / period, now % period);
            let count = |step| steps.get(&step).copied().unwrap_or(0);
            let faded = (u128::from(count(step - 1)) * u128::from(period - gone)).div_ceil(period.into());
            let room = u128::from(count(step)) + faded + u128::from(cost) <= u128::from(quota);
            prop_assert_eq!(granted, room);
            *steps.entry(step).or_default() += if granted { u64::from(cost) } else { 0 };
            prop_assert!(steps[&step] <= quota);
        }
    }

    #[test]
    fn a_month_counts_what_its_days_had(quota in 1..500_000u64, history in history(70 * 86_400_000, 500_001)) {
        let rule = Rule::new(&window("w", quota, Period::Month));
        let mut months: HashMap<String, u64> = HashMap::new();
        for (now, cost, granted) in run(&rule, &history) {
            let written = Millis(now).to_string();
            let count = months.entry(written[..7].to_owned()).or_default();
            prop_assert_eq!(granted, *count + u64::from(cost) <= quota, "{}", written);
            *count += if granted { u64::from(cost) } else { 0 };
        }
    }

    /// Some takings are undone later: what is left is never more than if they had never been.
    #[test]
    fn undoing_never_leaves_more_than_never_having_taken(
        quota in 1..50u64,
        history in vec((0..300u64, 1..10u32, proptest::option::of(0..4usize)), 1..60),
    ) {
        let windows = [("sec", quota, SEC), ("min", quota * 20, MIN), ("month", quota * 30, Period::Month)];
        let limit = limit(&windows);
        let rules: Vec<Rule> = limit.windows().iter().map(Rule::new).collect();
        let mut now = START;
        let mut held: Vec<(usize, Taken)> = Vec::new();
        let mut kept: Vec<(u64, u32, bool)> = Vec::new();
        for (pause, cost, undo) in history {
            now += pause;
            if let Ok(taken) = limit.take(ALICE, cost, Millis(now)) {
                held.push((kept.len(), taken));
                kept.push((now, cost, true));
            }
            if let Some(back) = undo
                && back < held.len()
            {
                let (number, taken) = held.remove(held.len() - 1 - back);
                limit.undo(taken);
                kept[number].2 = false;
            }
            let mut without = vec![0; rules.len()];
            for (at, cost, _) in kept.iter().filter(|(.., stays)| *stays) {
                for (rule, state) in rules.iter().zip(&mut without) {
                    let Step::Grant(next) = rule.step(*state, *cost, *at) else { panic!("it was granted before") };
                    *state = next;
                }
            }
            let most: Vec<u64> =
                rules.iter().zip(&without).map(|(rule, state)| rule.report(*state, now).remaining).collect();
            let left = left(&limit, ALICE, now);
            prop_assert!(left.iter().zip(&most).all(|(left, most)| left <= most), "{:?} {:?}", left, most);
            prop_assert_eq!(&left[1..], &most[1..], "counters are exact");
        }
    }

    /// Whatever the clock does: no panic, and free again within a period, the next step and the second that it takes to follow.
    #[test]
    fn any_clock_is_survived(
        seconds in 1..=86_400u32, quota in 1..200u64,
        times in vec(prop_oneof![Just(0), Just(u64::MAX), 0..=u64::MAX, START - 100_000..START + 100_000], 1..50),
    ) {
        let limit = limit(&[("span", quota, Period::Seconds(seconds)), ("month", 1_000_000, Period::Month)]);
        times.iter().for_each(|now| drop(limit.take(ALICE, 1, Millis(*now)).map(|taken| limit.undo(taken))));
        for now in &times {
            let _ = granted(&limit, ALICE, quota / 10 + 1, *now);
        }
        // Two words of the clock, a second apart, and then a period and one step later.
        let _ = granted(&limit, ALICE, 1, START);
        let followed = START + timeline::CONFIRM;
        let _ = granted(&limit, ALICE, 1, followed);
        let period = u64::from(seconds) * 1_000;
        prop_assert_eq!(granted(&limit, ALICE, 1, followed + period + period.div_ceil(quota)), 1);
    }

    /// A clock that is set back again and again, for up to half a year, only gains what the time between gives.
    #[test]
    fn a_clock_set_back_gains_nothing(
        per in prop_oneof![(3_600..=86_400u32).prop_map(Period::Seconds), Just(Period::Month)],
        quota in 1..200u64, steps in vec(0..10_000_000u64, 1..30),
    ) {
        let limit = limit(&[("span", quota, per)]);
        let (mut now, mut sum) = (START, 0);
        for back in &steps {
            sum += granted(&limit, ALICE, quota / 4 + 1, now);
            // It is followed after a second, in which at most two are free again.
            sum += granted(&limit, ALICE, quota / 4 + 1, now + timeline::CONFIRM);
            now -= back;
        }
        prop_assert!(sum <= quota + 2 * steps.len() as u64, "{} of {}", sum, quota);
    }
}
