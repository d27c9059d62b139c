//! What is bounded, and what happens at the bound.

use std::path::Path;

use super::machine::{Machine, PLACE, SETTINGS, Store, replay, usage, whole};
use super::recording::{Faults, Op, Recording};
use crate::config::WhenFull;
use crate::journal::Full;
use crate::usage::Counts;

/// Calls begin and end until there is no room; the number of the next one.
fn fill(machine: &mut Machine, first: u128) -> u128 {
    for number in first..first + 1000 {
        if !machine.begin(0, number) {
            return number;
        }
        machine.end(0, 0, 0);
        machine.sync();
        machine.tidy();
    }
    panic!("there is always room");
}

#[test]
fn without_a_store_calls_are_refused_at_the_bound_and_welcome_again_after_it() {
    let mut machine = Machine::new();
    let next = fill(&mut machine, 1);
    let least = (SETTINGS.segments - 1) * SETTINGS.segment_size / 400;
    assert!(next as usize > least, "{next} calls found room");
    assert!(machine.is_refusing());
    let of_worker = |path: &&std::path::PathBuf| path.starts_with(Path::new(PLACE).join("0"));
    assert_eq!(machine.segments().iter().filter(of_worker).count(), SETTINGS.segments);
    machine.settle();
    machine.drain(0);
    assert!(!machine.is_refusing(), "whoever asks whether it is ready must learn that it is");
    assert!(machine.begin(0, next));
    let mut counted = Store::default();
    replay(&machine.files, &mut counted);
    assert_eq!(counted.rows.len() as u128, next);
}

#[test]
fn a_call_that_was_let_in_has_room_for_its_end() {
    for at_once in 1..6 {
        let mut machine = Machine::new();
        let mut number = 0;
        'full: loop {
            for _ in 0..at_once {
                number += 1;
                if !machine.begin(0, number) {
                    break 'full;
                }
            }
            (0..at_once).for_each(|_| machine.end(0, 0, 0));
            machine.sync();
            machine.tidy();
        }
        // Asserts that each is written.
        while machine.under_way() > 0 {
            machine.end(0, 0, 0);
        }
        assert_eq!(machine.figures().unwritten, 0);
    }
}

#[test]
fn a_long_call_holds_on_to_no_segment() {
    let mut machine = Machine::new();
    assert!(machine.begin(0, 1));
    for number in 2..200 {
        assert!(machine.begin(0, number), "no room for call {number}");
        // The first one stays.
        machine.end(0, 6, 0);
        machine.settle();
    }
    let crashed = machine.files.crashed(&machine.before, &machine.files.log(), |most| most);
    let mut counted = Store::default().with(&crashed.store);
    replay(&crashed.files, &mut counted);
    assert_eq!(counted.rows.len(), 199);
    assert_eq!(counted.rows[&1], Counts { calls: 1, ..Counts::default() });
    assert_eq!(counted.rows[&77], whole(machine.names(), 77));
}

#[test]
fn without_records_calls_go_on_where_the_configuration_says_so() {
    let mut machine = Machine::with(WhenFull::Unmetered);
    let next = fill_unmetered(&mut machine);
    let (_, one) = usage(machine.names(), next);
    assert_eq!(machine.admit(0, &one), Ok(()));
    assert!(!machine.is_refusing());
    let figures = machine.figures();
    assert!(figures.unwritten > 0 && figures.stuck == 1, "{figures:?}");
    // The sums of the worker know of them all.
    machine.settle();
    assert_eq!(machine.store.rows[&next], whole(machine.names(), next));
}

fn fill_unmetered(machine: &mut Machine) -> u128 {
    let mut number = 1;
    while machine.begin(0, number) {
        machine.end(0, 0, 0);
        machine.sync();
        machine.tidy();
        number += 1;
    }
    // Without a beginning, an end may still have room.
    loop {
        machine.end(0, 0, number);
        if machine.figures().unwritten > 0 {
            return number;
        }
        number += 1;
    }
}

#[test]
fn a_full_disk_is_a_state_that_ends() {
    let mut machine = Machine::new();
    let first = machine.segments().len();
    // Enough for a part of a segment.
    machine.files.space(Some(SETTINGS.segment_size / 2));
    let number = fill(&mut machine, 1);
    assert!(machine.is_refusing());
    assert_eq!(machine.segments().len(), first);
    machine.files.space(None);
    machine.tidy();
    machine.drain(0);
    assert!(!machine.is_refusing());
    assert!(machine.begin(0, number));
    assert!(machine.segments().len() > first);
}

#[test]
fn a_disk_that_makes_nothing_durable_refuses_calls_until_it_does() {
    let mut machine = Machine::new();
    assert!(machine.begin(0, 1));
    machine.files.fail(|faults| faults.syncs = true);
    assert!(!machine.sync());
    assert!(machine.is_refusing() && !machine.begin(0, 2));
    machine.files.fail(|faults| faults.syncs = false);
    assert!(machine.sync());
    assert!(!machine.is_refusing() && machine.begin(0, 2));
}

#[test]
fn a_disk_that_takes_nothing_more_refuses_calls_until_it_does() {
    let mut machine = Machine::new();
    assert!(machine.begin(0, 1) && machine.begin(0, 2));
    machine.files.fail(|faults| faults.overwrites = true);
    // Nobody knows yet: the write itself must not go unnoticed.
    let (_, one) = usage(machine.names(), 3);
    assert_eq!(machine.admit(0, &one), Ok(()));
    assert!(!machine.begin(0, 3), "a call went on without a record");
    assert!(machine.is_refusing());
    assert_eq!(machine.admit(0, &one), Err(Full));
    machine.end(0, 0, 0);
    assert_eq!(machine.figures().unwritten, 1, "a call is missed when it ends, and only then");
    machine.drain(0);
    assert!(machine.is_refusing(), "the disk is as it was");
    machine.files.fail(|faults| faults.overwrites = false);
    machine.drain(0);
    assert!(!machine.is_refusing(), "nobody has to call to find out");
    assert!(machine.begin(0, 3));
    machine.end(0, 0, 0);
    machine.settle();
    machine.end(0, 0, 0);
    let crashed = machine.files.crashed(&machine.before, &machine.files.log(), |most| most);
    let mut counted = Store::default().with(&crashed.store);
    replay(&crashed.files, &mut counted);
    assert_eq!(counted.rows.values().map(|sums| sums.calls).collect::<Vec<_>>(), [1, 1, 1]);
    assert!(counted.rows.iter().all(|(number, sums)| *sums == whole(machine.names(), *number)));
}

#[test]
fn without_records_calls_go_on_though_the_disk_takes_nothing_more() {
    let mut machine = Machine::with(WhenFull::Unmetered);
    assert!(machine.begin(0, 1));
    machine.files.fail(|faults| faults.overwrites = true);
    assert!(!machine.begin(0, 2));
    let (_, one) = usage(machine.names(), 3);
    assert_eq!(machine.admit(0, &one), Ok(()));
    assert!(!machine.is_refusing());
}

#[test]
fn what_was_made_and_cannot_be_used_takes_no_room() {
    let mut machine = Machine::new();
    let there = machine.files.paths();
    assert!(machine.begin(0, 1));
    machine.end(0, 0, 0);
    for spoil in [|faults: &mut Faults| faults.pages = true, |faults: &mut Faults| faults.directories = true] {
        machine.files.fail(spoil);
        for number in 2..20 {
            if machine.begin(0, number) {
                machine.end(0, 0, 0);
            }
            machine.sync();
            machine.tidy();
        }
        assert_eq!(machine.files.paths(), there);
        machine.files.fail(|faults| *faults = Faults::default());
    }
    machine.tidy();
    assert!(machine.files.paths().len() > there.len());
    assert!(machine.begin(0, 20));
}

#[test]
fn the_directory_of_the_journal_is_durable_itself() {
    let files = Recording::default();
    replay(&files, &mut Store::default());
    assert!(files.log().iter().any(|op| matches!(op, Op::SyncDirectory(path) if path == Path::new("/"))));
}

#[test]
fn what_a_failed_sync_may_have_lost_is_written_again_before_it_counts_as_durable() {
    for calls in 1..=5 {
        let mut machine = Machine::new();
        for number in 1..=calls {
            assert!(machine.begin(0, number));
            machine.end(0, 0, 0);
        }
        machine.files.fail(|faults| faults.syncs = true);
        assert!(!machine.sync() && !machine.sync());
        machine.files.fail(|faults| faults.syncs = false);
        assert!(machine.sync());
        // Of what is not sure nothing is there.
        let crashed = machine.files.crashed(&machine.before, &machine.files.log(), |_| 0);
        let mut counted = Store::default();
        replay(&crashed.files, &mut counted);
        assert_eq!(counted.rows.len() as u128, calls);
        assert!(counted.rows.iter().all(|(number, sums)| *sums == whole(machine.names(), *number)), "{calls} calls");
    }
}

#[test]
fn long_calls_do_not_keep_a_full_journal_full() {
    for long in [1, 5, 10] {
        let mut machine = Machine::sized(4608, 3);
        for number in 1..=long {
            assert!(machine.begin(0, number));
        }
        let mut number = long;
        // Until there is no room, while nothing is taken.
        loop {
            number += 1;
            if !machine.begin(0, number) {
                break;
            }
            // The long ones stay.
            machine.end_newest(0);
            machine.sync();
            machine.tidy();
        }
        assert!(machine.is_refusing());
        // The first time they are written down once more, then that is known, then there is room.
        for _ in 0..3 {
            machine.settle();
        }
        assert!(machine.begin(0, number), "{long} long calls");
        assert_eq!(machine.under_way() as u128, long + 1);
        while machine.under_way() > 0 {
            machine.end(0, 0, 0);
        }
        assert_eq!(machine.figures().unwritten, 0);
    }
}
