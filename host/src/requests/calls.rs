//! Calls of policies, as they are told: which policy, in which phase, how long, how much fuel, and what it said.
//!
//! Belongs to one exchange, and allocates nothing for chains of an ordinary length.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::usage::{Fuel, Policy};

/// The calls of one exchange.
pub type Calls = SmallVec<[Call; 8]>;

/// A call that a policy answered or failed in; all that it had to do with one body is one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Which policy.
    pub policy: Policy,
    /// In which phase.
    pub phase: Phase,
    /// What came of it.
    pub verdict: Verdict,
    /// How long it took, waiting included.
    pub took: Duration,
    /// When it began.
    pub begun: Instant,
    /// When it was over: over a body, the last of it.
    pub ended: Instant,
    /// Units of fuel, without those of a failure: they went with its instance.
    pub fuel: u64,
}

/// When a policy is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// About a request.
    Request,
    /// About the body of a request.
    RequestBody,
    /// About a response.
    Response,
    /// About the body of a response.
    ResponseBody,
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Next,
    /// It goes on, to an upstream that the policy chose.
    Forward,
    /// Refused, or a body broken off.
    Deny,
    /// Answered in the place of whoever would have.
    Respond,
    /// None that can be used.
    Failed,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Request, Self::RequestBody, Self::Response, Self::ResponseBody];

    /// As it is told.
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::RequestBody => "request_body",
            Self::Response => "response",
            Self::ResponseBody => "response_body",
        }
    }
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Next, Self::Forward, Self::Deny, Self::Respond, Self::Failed];

    /// As it is told.
    pub fn name(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Forward => "forward",
            Self::Deny => "deny",
            Self::Respond => "respond",
            Self::Failed => "failed",
        }
    }
}

/// What policies burnt in these calls.
pub fn burnt(calls: &[Call]) -> Fuel {
    let mut fuel = Fuel::default();
    // A policy that failed over a body may have burnt much of it before.
    let did_burn = |call: &&Call| call.fuel > 0 || call.verdict != Verdict::Failed;
    calls.iter().filter(did_burn).for_each(|call| fuel.add(call.policy, call.fuel));
    fuel
}

/// How long these took, all together.
pub fn time(calls: &[Call]) -> Duration {
    calls.iter().map(|call| call.took).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Names;

    #[test]
    fn fuel_counts_also_where_a_policy_failed_after_it() {
        let names = Names::default();
        let [gate, eye] = ["gate", "eye"].map(|policy| names.policy(policy));
        let (begun, took) = (Instant::now(), Duration::from_micros(2));
        let call =
            |policy, phase, verdict, fuel| Call { policy, phase, verdict, took, begun, ended: begun + took, fuel };
        let calls = [
            call(gate, Phase::Request, Verdict::Failed, 0),
            call(eye, Phase::Request, Verdict::Next, 5),
            call(eye, Phase::RequestBody, Verdict::Failed, 70),
        ];
        assert_eq!((burnt(&calls).by_policy(), burnt(&calls).total()), (&[(eye, 75)][..], 75));
        assert_eq!(time(&calls), Duration::from_micros(6));
    }
}
