//! What one worker counts of requests, of calls of policies and of upstreams' answers, for the metrics.
//!
//! Bounded by names of the configuration, by statuses and by the gateway's own codes: nothing that a client sends is a key.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::calls::{Call, Phase, Verdict};
use crate::usage::{Pillar, Policy, Usage};

/// Upper bounds of durations, in microseconds: OpenTelemetry's for `http.server.request.duration`.
pub const BOUNDS: [u64; 14] = [
    5_000, 10_000, 25_000, 50_000, 75_000, 100_000, 250_000, 500_000, 750_000, 1_000_000, 2_500_000, 5_000_000,
    7_500_000, 10_000_000,
];

/// Upper bounds of durations of policies, in nanoseconds: from a microsecond to a second, with the deadline of 20 ms among them.
pub const FINE_BOUNDS: [u64; BOUNDS.len()] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    5_000_000,
    20_000_000,
    100_000_000,
    1_000_000_000,
];

/// How many took how long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Histogram {
    /// By bound, not summed up; the last for all that took longer.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// All together.
    pub sum: Duration,
}

/// Requests to one pillar.
#[derive(Debug, Clone, Default)]
pub struct OfPillar {
    /// How often each status (0 for none) came with each code of a denial.
    pub outcomes: Vec<(u16, Option<Box<str>>, u64)>,
    /// From the head of the request to the end of the answer.
    pub durations: Histogram,
}

/// Requests to one upstream.
#[derive(Debug, Clone, Default)]
pub struct OfUpstream {
    /// Until the head of the answer.
    pub durations: Histogram,
    /// Those that got none, by kind.
    pub failures: Vec<(&'static str, u64)>,
}

/// Calls of one policy in one phase.
#[derive(Debug, Clone, Default)]
pub struct OfPhase {
    /// Of each call, by [`FINE_BOUNDS`].
    pub durations: Histogram,
    /// Units of fuel, all together.
    pub fuel: u64,
    /// How often each verdict came, in the order of [`Verdict::ALL`].
    pub verdicts: [u64; Verdict::ALL.len()],
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// By policy and phase.
    pub policies: FxHashMap<(Policy, Phase), OfPhase>,
    /// By pillar.
    pub pillars: FxHashMap<Pillar, OfPillar>,
    /// By the name of the upstream.
    pub upstreams: FxHashMap<Box<str>, OfUpstream>,
}

impl Histogram {
    fn count(&mut self, took: Duration) {
        self.count_within(&BOUNDS, u64::try_from(took.as_micros()).unwrap_or(u64::MAX), took);
    }

    fn count_fine(&mut self, took: Duration) {
        self.count_within(&FINE_BOUNDS, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), took);
    }

    fn count_within(&mut self, bounds: &[u64; BOUNDS.len()], value: u64, took: Duration) {
        let bucket = bounds.iter().position(|bound| value <= *bound).unwrap_or(bounds.len());
        self.buckets[bucket] += 1;
        self.sum = self.sum.saturating_add(took);
    }

    fn merge(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(sum, more)| *sum += more);
        self.sum = self.sum.saturating_add(other.sum);
    }
}

impl OfPillar {
    fn add(&mut self, status: u16, code: Option<&str>, times: u64) {
        let same = |(known, with, _): &&mut (u16, Option<Box<str>>, u64)| *known == status && with.as_deref() == code;
        match self.outcomes.iter_mut().find(same) {
            Some((.., sum)) => *sum += times,
            None => self.outcomes.push((status, code.map(Into::into), times)),
        }
    }
}

impl OfUpstream {
    fn fail(&mut self, kind: &'static str, times: u64) {
        match self.failures.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, sum)) => *sum += times,
            None => self.failures.push((kind, times)),
        }
    }
}

impl Figures {
    /// One request ended.
    pub(super) fn count(&mut self, usage: &Usage<'_>, took: Duration) {
        let pillar = self.pillars.entry(usage.pillar).or_default();
        pillar.add(usage.status, usage.denied, 1);
        pillar.durations.count(took);
    }

    /// A policy was called.
    pub(super) fn count_call(&mut self, call: &Call) {
        let of = self.policies.entry((call.policy, call.phase)).or_default();
        of.durations.count_fine(call.took);
        of.fuel = of.fuel.saturating_add(call.fuel);
        of.verdicts[call.verdict as usize] += 1;
    }

    /// An upstream answered after so long, or not at all.
    pub(super) fn count_upstream(&mut self, name: &str, took: Duration, failure: Option<&'static str>) {
        if !self.upstreams.contains_key(name) {
            self.upstreams.insert(name.into(), OfUpstream::default());
        }
        let Some(upstream) = self.upstreams.get_mut(name) else { return };
        match failure {
            None => upstream.durations.count(took),
            Some(kind) => upstream.fail(kind, 1),
        }
    }

    /// Adds the figures of others.
    pub fn merge(&mut self, other: &Self) {
        for (pillar, theirs) in &other.pillars {
            let mine = self.pillars.entry(*pillar).or_default();
            theirs.outcomes.iter().for_each(|(status, code, times)| mine.add(*status, code.as_deref(), *times));
            mine.durations.merge(&theirs.durations);
        }
        for (of, theirs) in &other.policies {
            let mine = self.policies.entry(*of).or_default();
            mine.durations.merge(&theirs.durations);
            mine.fuel = mine.fuel.saturating_add(theirs.fuel);
            mine.verdicts.iter_mut().zip(theirs.verdicts).for_each(|(sum, more)| *sum += more);
        }
        for (name, theirs) in &other.upstreams {
            let mine = self.upstreams.entry(name.clone()).or_default();
            theirs.failures.iter().for_each(|(kind, times)| mine.fail(kind, *times));
            mine.durations.merge(&theirs.durations);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_on_a_bound_is_within_it() {
        let mut histogram = Histogram::default();
        for micros in [0, 5_000, 5_001, 10_000_000, 10_000_001] {
            histogram.count(Duration::from_micros(micros));
        }
        assert_eq!((histogram.buckets[0], histogram.buckets[1]), (2, 1));
        assert_eq!((histogram.buckets[13], histogram.buckets[14]), (1, 1));
        assert_eq!(histogram.sum, Duration::from_micros(20_010_002));
    }

    #[test]
    fn calls_of_policies_are_told_apart_by_phase_and_verdict() {
        let call = Call {
            policy: Policy::NONE,
            phase: Phase::Request,
            verdict: Verdict::Next,
            took: Duration::from_nanos(1_000),
            begun: std::time::Instant::now(),
            ended: std::time::Instant::now(),
            fuel: 7,
        };
        let mut one = Figures::default();
        one.count_call(&call);
        one.count_call(&Call { verdict: Verdict::Deny, took: Duration::from_nanos(1_001), ..call });
        one.count_call(&Call { phase: Phase::ResponseBody, took: Duration::from_secs(2), ..call });
        let mut sum = one.clone();
        sum.merge(&one);
        let request = &sum.policies[&(Policy::NONE, Phase::Request)];
        assert_eq!((request.fuel, request.verdicts), (28, [2, 0, 2, 0, 0]));
        assert_eq!((request.durations.buckets[0], request.durations.buckets[1]), (2, 2));
        assert_eq!(request.durations.sum, Duration::from_nanos(4_002));
        assert_eq!(sum.policies[&(Policy::NONE, Phase::ResponseBody)].durations.buckets[BOUNDS.len()], 2);
    }

    #[test]
    fn figures_of_workers_add_up() {
        let mut one = Figures::default();
        one.count_upstream("origin", Duration::from_millis(1), None);
        one.count_upstream("origin", Duration::from_millis(1), Some("timed_out"));
        let mut sum = one.clone();
        sum.merge(&one);
        let origin = &sum.upstreams["origin"];
        assert_eq!((origin.durations.buckets[0], origin.failures.as_slice()), (2, &[("timed_out", 2)][..]));
    }
}
