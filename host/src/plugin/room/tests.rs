//! The sums: nobody is kept from its share, and no more places are taken than there are.

use super::*;
use proptest::prelude::*;

fn name(number: u64) -> Arc<str> {
    number.to_string().into()
}

fn wish(policy: u64, instances: usize, weight: usize) -> Wish {
    Wish { policy: name(policy), instances, weight }
}

fn divided(most: usize, wishes: &[Wish]) -> Places {
    let mut places = Places::default();
    places.divide(&Division::of(most, wishes));
    places
}

#[test]
fn what_all_may_have_together_is_theirs() {
    let wishes = [wish(1, 90, 1), wish(2, 4, 1), wish(3, 3, 2)];
    let division = Division::of(100, &wishes);
    assert_eq!((division.wished, division.overdrawn("wait", "waiting_calls")), (100, None));
    let mut places = divided(100, &wishes);
    assert!(
        (0..90).all(|_| places.take(&name(1), 1))
            && (0..4).all(|_| places.take(&name(2), 1))
            && (0..3).all(|_| places.take(&name(3), 2))
    );
    assert!(!places.take(&name(1), 1));
}

#[test]
fn a_greedy_one_leaves_the_shares_of_others() {
    let wishes = [wish(1, 1024, 1), wish(2, 64, 1), wish(3, 8, 4)];
    let mut places = divided(100, &wishes);
    // A quarter for each, and one for whoever comes first; the last one counts in steps of four.
    let greedy = (0..200).filter(|_| places.take(&name(1), 1)).count();
    assert_eq!(greedy, 100 - 25 - 24);
    assert!((0..25).all(|_| places.take(&name(2), 1)) && !places.take(&name(2), 1));
    assert!((0..6).all(|_| places.take(&name(3), 4)) && !places.take(&name(3), 4));
    places.give_back(&name(1), 1);
    assert!(!places.take(&name(3), 4), "not in part");
    assert!(places.take(&name(2), 1), "what is nobody's share is for whoever comes first");
}

#[test]
fn the_sentence_has_the_sums() {
    let told = Division::of(500, &[wish(1, 400, 1), wish(2, 64, 2), wish(3, 10, 1)]).overdrawn("wait", "waiting_calls");
    let told = told.expect("538 of 500").to_string();
    assert!(told.starts_with("3 policies that wait may take 538 places on each worker by their `waiting_calls`, and there are 500: each is sure of 62 instances"), "{told}");
}

#[test]
fn another_division_takes_nothing_away_and_then_holds() {
    let mut places = divided(10, &[wish(1, 10, 1)]);
    assert!((0..9).all(|_| places.take(&name(1), 1)), "nobody else is there");
    places.divide(&Division::of(10, &[wish(2, 10, 1), wish(3, 10, 1)]));
    assert!(!places.take(&name(1), 1), "it is gone from the configuration, and the rest is the shares of others");
    assert!(places.take(&name(2), 1));
    assert!(!places.take(&name(3), 1), "all are taken");
    (0..9).for_each(|_| places.give_back(&name(1), 1));
    // Three for each, and four for whoever comes first.
    assert!((0..7).all(|_| places.take(&name(3), 1)) && !places.take(&name(3), 1));
    assert!((0..2).all(|_| places.take(&name(2), 1)) && !places.take(&name(2), 1));
    assert_eq!((places.left(), places.of.len()), (0, 2));
}

#[test]
fn before_they_are_divided_there_are_enough() {
    let mut places = Places::default();
    assert!((0..10_000).all(|number| places.take(&name(number % 3), 4)));
}

proptest! {
    /// Whatever is taken and given back, in whatever order and by whomever.
    #[test]
    fn who_is_below_its_share_gets_a_place(
        most in 0_usize..60,
        wishes in proptest::collection::vec((0_usize..40, 1_usize..5), 1..6),
        steps in proptest::collection::vec((0_usize..7, any::<bool>()), 0..200),
    ) {
        let wishes: Vec<Wish> =
            wishes.iter().enumerate().map(|(number, (instances, weight))| wish(number as u64, *instances, *weight)).collect();
        let division = Division::of(most, &wishes);
        prop_assert!(division.shares.iter().map(|(_, share)| share).sum::<usize>() <= most);
        let mut places = divided(most, &wishes);
        let mut has = [0_usize; 7];
        for (who, takes) in steps {
            // The last ones stand in no configuration.
            let weight = wishes.get(who).map_or(1, |wish| wish.weight);
            let share = division.shares.get(who).map_or(0, |(_, share)| *share);
            if takes {
                let got = places.take(&name(who as u64), weight);
                prop_assert!(got || (has[who] + 1) * weight > share, "kept from its share");
                has[who] += usize::from(got);
            } else if has[who] > 0 {
                places.give_back(&name(who as u64), weight);
                has[who] -= 1;
            }
            let taken: usize = (0..7).map(|who| places.of.get(&name(who as u64)).map_or(0, |held| held.taken)).sum();
            let owed: usize = places.of.values().map(|held| held.owed()).sum();
            prop_assert_eq!((places.taken, places.owed), (taken, owed));
            prop_assert!(taken + owed <= most);
        }
    }
}
