//! What it costs to write down a call, its beginning and its end, as a worker does.
//!
//! The pages of the segments are written to the disk meanwhile, as they are in a gateway; waiting for that is not in the figure.
//! Fails when a call takes too long.

use portico::clock::Millis;
use portico::config::{Journal as Settings, WhenFull};
use portico::gas::Gas;
use portico::journal::{Call, Earlier};
use portico::usage::{Caller, Names, Usage};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROUNDS: usize = 15;
const CALLS: u32 = 20_000;
/// Calls that are under way at once.
const AT_ONCE: usize = 64;
/// Microseconds that one may take, as the median of the rounds.
const MOST: f64 = 1.0;

fn main() -> ExitCode {
    let place = tempfile::tempdir().expect("a directory");
    let settings = Settings {
        segment_size: 16 << 20,
        segments: 8,
        commit_interval: Duration::from_millis(10),
        when_full: WhenFull::Refuse,
    };
    let names = Arc::<Names>::default();
    let pillar = names.pillar("connect");
    let route = names.route(pillar, "rooms.list");
    let earlier = Earlier::read(place.path(), &[]).expect("an empty directory");
    let (journal, mut writers) = earlier.begin(1, &settings, &names).expect("a journal");
    let mut writer = writers.remove(0);
    let at = Millis(1_800_000_000_000);
    let caller = Caller { org: Some(7), key: Some(8) };
    let policies = ["rate-limit", "key-auth", "gas"].map(|policy| (names.policy(policy), 300));
    let usage = Usage {
        caller,
        pillar,
        route,
        at,
        status: 200,
        denied: None,
        bytes_in: 10,
        bytes_out: 1000,
        gas: Gas::ZERO,
        units: 3,
        upstream_us: 300,
        fuel: 900,
        fuel_by_policy: &policies,
    };
    let mut rounds = [0.0; ROUNDS];
    let mut request = 0;
    for round in &mut rounds {
        // Until what was written is free again, and the next segment is made: a round has room in one.
        while !(2..=3).contains(&journal.figures().segments) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let (begun, mut waited) = (Instant::now(), Duration::ZERO);
        let mut tickets: [_; AT_ONCE] = std::array::from_fn(|_| None);
        for _ in 0..CALLS {
            let slot = request as usize % AT_ONCE;
            if let Some((call, ticket)) = tickets[slot].take() {
                writer.close(ticket, &call, &usage);
            }
            request += 1;
            let call = Call { request, caller, at };
            // Where a slow disk is late with the next segment: a gateway would refuse, and the wait is not in the figure.
            while writer.admit(pillar, route, &policies).is_err() {
                let since = Instant::now();
                std::thread::sleep(Duration::from_millis(1));
                waited += since.elapsed();
                assert!(waited < Duration::from_secs(10), "no segment is made");
            }
            tickets[slot] = Some((call, writer.open(&call, pillar, route, &policies).expect("there is room")));
        }
        for (call, ticket) in tickets.into_iter().flatten() {
            writer.close(ticket, &call, &usage);
        }
        *round = (begun.elapsed() - waited).as_secs_f64() * 1e6 / f64::from(CALLS);
        let mark = writer.mark().expect("something was written");
        while !journal.has(&mark) {
            std::thread::sleep(Duration::from_millis(1));
        }
        journal.kept(&mark);
    }
    let figures = journal.figures();
    assert_eq!(figures.unwritten, 0);
    rounds.sort_by(f64::total_cmp);
    let (median, bytes) = (rounds[ROUNDS / 2], figures.bytes / u64::from(CALLS) / ROUNDS as u64);
    println!("{:62} {:>10} {:>8} {:>8}", "the journal", "median", "min", "max");
    let name = format!("a call begins and ends, {bytes} bytes");
    println!("{name:62} {median:>7.2} µs {:>8.2} {:>8.2}", rounds[0], rounds[ROUNDS - 1]);
    if median > MOST {
        eprintln!("missed: a call must take at most {MOST} µs");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
