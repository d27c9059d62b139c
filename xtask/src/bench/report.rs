//! Rounds in, one table out.

use std::fmt::Write;
use std::time::Duration;

use super::load::Outcome;
use super::must::Musts;
use super::subject::{BASE, THREE_POLICIES};

/// CPU of a request with the three policies beside one without.
const MOST_RATIO: f64 = 1.40;

/// What one subject came to.
pub struct Measured {
    /// As in the table.
    pub name: &'static str,
    /// In the same moments as those of all others.
    pub rounds: Vec<Round>,
    /// With the CPU to itself.
    pub alone: Alone,
}

/// What one round of one subject came to.
#[derive(Debug, Clone)]
pub struct Round {
    /// CPU microseconds of the subject's processes for each success.
    cpu: f64,
    /// Answers other than 2xx, and broken connections.
    bad: u64,
    /// Bytes of memory at the end.
    resident: u64,
}

/// What one subject does with the CPU to itself.
#[derive(Debug, Clone)]
pub struct Alone {
    /// Successes a second.
    rate: f64,
    /// Microseconds that half of the successes took at most.
    half: u32,
    /// Microseconds that 99 of 100 took at most.
    nearly_all: u32,
    /// As in [`Round`].
    bad: u64,
}

impl Round {
    /// From the CPU time used and what came back.
    pub fn new(cpu: Duration, outcome: &Outcome, resident: u64) -> Self {
        let good = outcome.good().max(1) as f64;
        Self { cpu: cpu.as_secs_f64() * 1e6 / good, bad: outcome.bad, resident }
    }
}

impl Alone {
    /// From what came back in so much time.
    pub fn new(time: Duration, outcome: &Outcome) -> Self {
        let mut latencies = outcome.latencies.clone();
        latencies.sort_unstable();
        Self {
            rate: outcome.good() as f64 / time.as_secs_f64(),
            half: share(&latencies, 0.5),
            nearly_all: share(&latencies, 0.99),
            bad: outcome.bad,
        }
    }
}

/// The value that this share of the sorted values does not exceed; 0 where there are none.
fn share(sorted: &[u32], share: f64) -> u32 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// The middle value; of an even number the mean of the middle two.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => 0.0,
        (odd, middle) if odd % 2 == 1 => values[middle],
        (_, middle) => (values[middle - 1] + values[middle]) / 2.0,
    }
}

/// Round by round: what slowed the whole machine down slowed both.
fn ratio(base: &[Round], rounds: &[Round]) -> f64 {
    median(base.iter().zip(rounds).map(|(base, round)| round.cpu / base.cpu))
}

fn rounds_of<'a>(subjects: &'a [Measured], wanted: &str) -> &'a [Round] {
    subjects.iter().find(|subject| subject.name == wanted).map_or(&[], |subject| &subject.rounds)
}

/// The one ratio that has a bound, in words.
pub fn three_policies(subjects: &[Measured], musts: &mut Musts) -> String {
    let ratio = ratio(rounds_of(subjects, BASE), rounds_of(subjects, THREE_POLICIES));
    // One more digit than in the table, so that what is just beyond is seen to be.
    format!("{THREE_POLICIES}: ratio {}\n", musts.at_most("three policies, ratio", ratio, MOST_RATIO, 3))
}

/// The table, its last column in proportion to the subject that is called `no policies`.
pub fn table(subjects: &[Measured], connections: u32) -> String {
    let base = rounds_of(subjects, BASE);
    let columns = ["CPU µs/request", "min", "max", "ratio", "requests/s", "p50 µs", "p99 µs", "bad", "RSS MiB"];
    let mut text = format!("\n{:30}", "");
    for (column, width) in columns.iter().zip(WIDTHS) {
        write!(text, " {column:>width$}").ok();
    }
    text.push('\n');
    for Measured { name, rounds, alone } in subjects {
        let cpu = || rounds.iter().map(|round| round.cpu);
        let bad = alone.bad + rounds.iter().map(|round| round.bad).sum::<u64>();
        let resident = rounds.last().map_or(0.0, |round| round.resident as f64 / f64::from(1 << 20));
        let (least, most) = (cpu().fold(f64::INFINITY, f64::min), cpu().fold(0.0, f64::max));
        let cells = [
            format!("{:.1}", median(cpu())),
            format!("{least:.1}"),
            format!("{most:.1}"),
            format!("{:.2}", ratio(base, rounds)),
            format!("{:.0}", alone.rate),
            alone.half.to_string(),
            alone.nearly_all.to_string(),
            bad.to_string(),
            format!("{resident:.1}"),
        ];
        write!(text, "{name:30}").ok();
        for (cell, width) in cells.iter().zip(WIDTHS) {
            write!(text, " {cell:>width$}").ok();
        }
        text.push('\n');
    }
    let rounds = subjects.first().map_or(0, |subject| subject.rounds.len());
    writeln!(
        text,
        "\nCPU: medians of {rounds} rounds, all subjects at the same time on one CPU, one worker and {connections} connections each;\n\
         `ratio` is beside `{BASE}`, round by round. Requests/s, p50 and p99: with the CPU to itself.\n\
         `bad` counts answers other than 2xx and broken connections.",
    )
    .ok();
    text
}

const WIDTHS: [usize; 9] = [14, 7, 7, 6, 10, 7, 7, 5, 8];

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(good: u32) -> Outcome {
        Outcome { latencies: (1..=good).collect(), ..Outcome::default() }
    }

    fn round(cpu_ms: u64, good: u32) -> Round {
        Round::new(Duration::from_millis(cpu_ms), &outcome(good), 3 << 20)
    }

    fn alone(good: u32) -> Alone {
        Alone::new(Duration::from_secs(2), &outcome(good))
    }

    #[test]
    fn a_round_is_counted_by_successes() {
        assert_eq!(round(20, 1000).cpu, 20.0);
        let alone = alone(1000);
        assert_eq!((alone.rate, alone.half, alone.nearly_all), (500.0, 500, 990));
    }

    #[test]
    fn a_turn_without_success_is_no_division_by_zero() {
        let alone = alone(0);
        assert_eq!((alone.rate, alone.half), (0.0, 0));
        assert!(round(20, 0).cpu.is_finite());
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let base = vec![round(10, 1000), round(20, 1000), round(40, 1000)];
        let other = vec![round(15, 1000), round(30, 1000), round(80, 1000)];
        let measured = |name, rounds| Measured { name, rounds, alone: alone(10) };
        let subjects = [measured(BASE, base), measured(THREE_POLICIES, other)];
        let mut musts = Musts::default();
        let told = three_policies(&subjects, &mut musts);
        assert!(told.contains("1.500 MISSED (must ≤ 1.400)") && musts.held().is_err(), "{told}");
        let table = table(&subjects, 64);
        let line = table.lines().find(|line| line.starts_with(THREE_POLICIES)).unwrap();
        for cell in [" 30.0 ", " 15.0 ", " 80.0 ", " 1.50 "] {
            assert!(line.contains(cell), "{table}");
        }
    }

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0].into_iter()), 2.5);
        assert_eq!(median(std::iter::empty()), 0.0);
    }
}
