//! What a policy declares while one of its slots is configured, and the handles that it gets for it.

use crate::{Diagnostic, Limit, Plan, Route, Slot, Take};

/// Where a policy is being configured, and what it has declared so far.
#[derive(Debug)]
pub struct Setup<'a> {
    slot: &'a Slot,
    plan: Plan,
    problems: Vec<Diagnostic>,
}

/// A scope to look for on the principal: see [`Standing::holds`](crate::Standing::holds).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScopeIndex(pub(crate) u32);

/// A limit to take from: see [`Verdict::take`](crate::Verdict::take).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitIndex(pub(crate) u32);

/// An upstream to forward to: see [`Verdict::forward`](crate::Verdict::forward).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetIndex(pub(crate) u32);

impl<'a> Setup<'a> {
    /// A setup for this slot with nothing declared.
    pub fn new(slot: &'a Slot) -> Self {
        let plan = Plan { scopes: Vec::new(), limits: Vec::new(), targets: Vec::new(), maximum_charge: 0 };
        Self { slot, plan, problems: Vec::new() }
    }

    /// The pillar whose chain the slot is part of.
    pub fn pillar(&self) -> &'a str {
        &self.slot.pillar
    }

    /// The scope that the pillar asks for.
    pub fn scope(&self) -> &'a str {
        &self.slot.scope
    }

    /// The rules of the pillar; `request.route` is a position in them.
    pub fn routes(&self) -> &'a [Route] {
        &self.slot.routes
    }

    /// Declares a scope to look for; at most 64.
    pub fn look_for(&mut self, scope: impl Into<String>) -> ScopeIndex {
        ScopeIndex(push(&mut self.plan.scopes, scope.into()))
    }

    /// Declares a limit to take from; at most 8.
    pub fn limit(&mut self, limit: Limit) -> LimitIndex {
        LimitIndex(push(&mut self.plan.limits, limit))
    }

    /// Declares an upstream to forward to, by its configured name; at most 16.
    pub fn target(&mut self, upstream: impl Into<String>) -> TargetIndex {
        TargetIndex(push(&mut self.plan.targets, upstream.into()))
    }

    /// Declares that one verdict charges up to this much, in millionths of a token. The most that was said counts.
    pub fn charges_at_most(&mut self, gas: u64) {
        self.plan.maximum_charge = self.plan.maximum_charge.max(gas);
    }

    /// Reports one thing that is wrong. `pointer`: JSON pointer into the configuration (RFC 6901).
    pub fn problem(&mut self, pointer: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Diagnostic::new(pointer, message));
    }

    /// The plan, or all that is wrong.
    pub(crate) fn finish(mut self) -> Result<Plan, Vec<Diagnostic>> {
        for (what, count, most) in [
            ("scopes", self.plan.scopes.len(), 64),
            ("limits", self.plan.limits.len(), 8),
            ("upstreams", self.plan.targets.len(), 16),
        ] {
            if count > most {
                self.problem(
                    "",
                    format!("This configuration comes to {count} {what}; at most {most} can be used in one slot."),
                );
            }
        }
        if self.problems.is_empty() { Ok(self.plan) } else { Err(self.problems) }
    }
}

impl Diagnostic {
    /// One thing that is wrong: a JSON pointer into the configuration (RFC 6901) and one sentence.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }
}

impl From<LimitIndex> for Take {
    fn from(limit: LimitIndex) -> Self {
        Take::one(limit)
    }
}

fn push<T>(list: &mut Vec<T>, item: T) -> u32 {
    list.push(item);
    (list.len() - 1) as u32
}
