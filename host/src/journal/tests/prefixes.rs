//! Random work, stopped after each operation, with all and with some of what was not synced: read again, and compared with what
//! happened.

use super::Chance;
use super::machine::{Machine, Store, WORKERS, replay, whole};
use super::recording::{Op, Recording};
use crate::usage::Counts;

/// Runs of random work, each with a second one after a crash.
const SEEDS: u64 = 2;

/// Work of a few dozen calls, with many drains and segments that are used again.
fn work(machine: &mut Machine, chance: &mut Chance, steps: usize, first: u128) {
    let mut number = first;
    for _ in 0..steps {
        let worker = chance.below(WORKERS);
        match chance.below(25) {
            0..=6 if machine.under_way() < 6 => {
                machine.begin(worker, number);
                number += 1;
            }
            0..=13 => {
                machine.end(worker, chance.below(100), number);
                number += 1;
            }
            14..=15 => drop(machine.sync()),
            16..=17 => machine.drain(worker),
            24 => {
                machine.files.fail(|faults| faults.syncs = true);
                machine.sync();
                machine.files.fail(|faults| faults.syncs = false);
            }
            18 => machine.keep(),
            19..=21 => {
                (0..WORKERS).for_each(|worker| machine.drain(worker));
                machine.keep();
                machine.flush();
                machine.tidy();
            }
            _ => machine.tidy(),
        }
    }
}

/// Whether what was written at this place of the log is sure to be there after so many operations.
fn is_durable(log: &[Op], written: Option<usize>, upto: usize) -> bool {
    let Some(written) = written.filter(|written| *written < upto) else { return false };
    let Op::Write(file, at, bytes) = &log[written] else { panic!("not a write") };
    let mut waits = false;
    for op in &log[written..upto] {
        match op {
            Op::Write(of, from, again) if of == file => {
                waits |= from <= at && from + again.len() >= at + bytes.len();
            }
            Op::FailedSync(of) if of == file => waits = false,
            Op::Sync(of) if of == file && waits => return true,
            _ => {}
        }
    }
    false
}

/// Compares what is counted with what happened. `all`: nothing was lost but the process.
fn check(machine: &Machine, log: &[Op], upto: usize, counted: &Store, all: bool, what: &str) {
    let is_there = |written: Option<usize>| match all {
        true => written.is_some_and(|written| written < upto),
        false => is_durable(log, written, upto),
    };
    let interrupted = Counts { calls: 1, ..Counts::default() };
    for (number, sums) in &counted.rows {
        if let Some(before) = machine.start.rows.get(number) {
            assert_eq!(sums, before, "{what}: call {number} of an earlier start changed");
            continue;
        }
        let fact = machine.facts.get(number).unwrap_or_else(|| panic!("{what}: call {number} never was"));
        let is_whole = *sums == whole(machine.names(), *number);
        assert!(is_whole || *sums == interrupted, "{what}: call {number} is counted as {sums:?}");
        // What did not happen yet cannot be known; what was not written down is known from the sums of the worker alone.
        let can_have_ended = fact.ended.is_none_or(|ended| ended < upto);
        assert!(!is_whole || can_have_ended, "{what}: call {number} had not ended");
        assert!(is_whole || fact.begun.is_some_and(|begun| begun < upto), "{what}: call {number} had not begun");
    }
    for (number, fact) in &machine.facts {
        let sums = counted.rows.get(number);
        if is_there(fact.ended) {
            assert_eq!(sums, Some(&whole(machine.names(), *number)), "{what}: call {number} ended, durably");
        } else if is_there(fact.begun) {
            assert!(sums.is_some(), "{what}: call {number} began, durably");
        }
    }
}

/// Reads what a crash has left, twice, and once more as if the first reading had been cut off before it was durable.
fn recover(files: &Recording, store: &Store, what: &str) -> Store {
    let mut counted = store.clone();
    replay(files, &mut counted);
    let once = counted.clone();
    replay(files, &mut counted);
    assert_eq!(counted, once, "{what}: reading twice counts twice");
    let mut again = store.clone();
    replay(files, &mut again);
    assert_eq!(again, once, "{what}: reading anew counts otherwise");
    once
}

/// Every state after each operation with everything, with nothing, and with some of what was not synced.
fn every_prefix(machine: &Machine, chance: &mut Chance, samples: usize, what: &str) -> u64 {
    let log = machine.files.log();
    let mut states = 0;
    for upto in 0..=log.len() {
        let mut unsure = 0;
        let mut see = |how: &mut dyn FnMut(usize) -> usize, all: bool, which: &str| {
            let crashed = machine.files.crashed(&machine.before, &log[..upto], how);
            let what = format!("{what}, after {upto} of {}, {which}", log.len());
            let store = machine.start.with(&crashed.store);
            let counted = recover(&crashed.files, &store, &what);
            check(machine, &log, upto, &counted, all, &what);
            states += 1;
        };
        see(
            &mut |most| {
                unsure += 1;
                most
            },
            true,
            "with everything",
        );
        see(&mut |_| 0, false, "with nothing");
        // One thing alone, and all but one: the extremes.
        for one in 0..unsure.min(12) {
            for alone in [true, false] {
                let mut position = 0;
                let mut choose = |most| {
                    position += 1;
                    if (position == one + 1) == alone { most } else { 0 }
                };
                see(&mut choose, false, "with one or without one");
            }
        }
        for sample in 0..samples {
            see(&mut |most| chance.below(most + 1), false, &format!("sample {sample}"));
        }
    }
    states
}

/// How often a segment was begun once more.
fn used_again(log: &[Op]) -> usize {
    let begun = log.iter().filter(|op| matches!(op, Op::Write(_, 64, _))).count();
    begun.saturating_sub(log.iter().filter(|op| matches!(op, Op::Create(..))).count())
}

#[test]
fn every_legal_prefix_of_writes_and_syncs_recovers() {
    let (mut states, mut reused, mut refused) = (0, 0usize, 0);
    for seed in 0..SEEDS {
        let mut chance = Chance(seed);
        let mut machine = Machine::new();
        work(&mut machine, &mut chance, 150, 1);
        states += every_prefix(&machine, &mut chance, 3, &format!("seed {seed}"));
        reused += used_again(&machine.files.log());
        refused += u64::from(machine.is_refusing());
        // On what one of the crashes has left, and crash again: old records lie beside new ones.
        let log = machine.files.log();
        let upto = log.len() - chance.below(log.len() / 2);
        let crashed = machine.files.crashed(&machine.before, &log[..upto], |most| chance.below(most + 1));
        let workers = 1 + chance.below(3).min(1);
        let mut next = Machine::on(crashed, machine.start.clone(), WORKERS.max(workers));
        work(&mut next, &mut chance, 100, 1000);
        states += every_prefix(&next, &mut chance, 3, &format!("seed {seed}, second start"));
    }
    // The work was such that it means something.
    let figures = format!("{states} states, {reused} segments used again, {refused} runs that end without room");
    println!("{figures}");
    assert!(states > 1000 * SEEDS && reused as u64 > 2 * SEEDS && refused < SEEDS, "{figures}");
}

#[test]
fn a_death_in_the_middle_of_a_record_loses_that_record_alone() {
    let mut chance = Chance(99);
    let mut machine = Machine::new();
    work(&mut machine, &mut chance, 150, 1);
    let log = machine.files.log();
    for upto in 1..=log.len() {
        // A record, and not a piece of a segment that is being made.
        let Op::Write(_, 64.., bytes) = &log[upto - 1] else { continue };
        let mut torn = log[..upto].to_vec();
        for cut in [1, 5, bytes.len() / 2, bytes.len() - 1] {
            // What is cut off must be worth something: the last bytes of a record may be zeros, over zeros.
            if bytes[cut..].iter().all(|byte| *byte == 0) {
                continue;
            }
            let Some(Op::Write(_, _, written)) = torn.last_mut() else { panic!("not a write") };
            *written = bytes[..cut].to_vec();
            let crashed = machine.files.crashed(&machine.before, &torn, |most| most);
            let store = machine.start.with(&crashed.store);
            let what = format!("torn at {cut} of operation {upto}");
            let counted = recover(&crashed.files, &store, &what);
            check(&machine, &log, upto - 1, &counted, true, &what);
        }
    }
}
