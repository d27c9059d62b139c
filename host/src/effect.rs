//! Carries verdicts out: takings from limits all or none, edits in their order, charges as data for the meter.
//!
//! Verdicts were checked when they were taken over; nothing here can find them wrong.

use crate::chain::Chain;
use crate::clock::Millis;
use crate::denial::{Denial, Throttle};
use crate::head::{RATELIMIT, RATELIMIT_POLICY};
use crate::limit::{self, Limit, Period, Refused, State, Subject, SubjectKind, Taken};
use crate::plugin::contract::{Basis, Charge};
use crate::plugin::{Decision, Edit, FieldChange};
use crate::principal::Principal;
use http::{HeaderMap, HeaderValue};
use smallvec::SmallVec;
use std::net::IpAddr;

/// Which takings of a chain count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// All of them: the request goes on.
    All,
    /// Only those that stand also when the chain ends early.
    Always,
}

/// For whom limits count.
#[derive(Clone, Copy)]
pub struct Taker<'a> {
    /// Who calls, if that is known.
    pub principal: Option<Principal<'a>>,
    /// Where the client is.
    pub address: IpAddr,
}

/// What was taken, as clients get to know it.
#[derive(Debug)]
pub struct Told {
    policy: HeaderValue,
    state: HeaderValue,
}

impl Told {
    /// Adds `RateLimit-Policy` and `RateLimit` to a response.
    pub fn write(self, headers: &mut HeaderMap) {
        headers.insert(RATELIMIT_POLICY, self.policy);
        headers.insert(RATELIMIT, self.state);
    }
}

/// Takes from all limits that the decisions name, or from none.
///
/// # Errors
/// The denial for the first limit without room; what was taken before it is given back.
pub fn take(
    chain: &Chain,
    decisions: &[(usize, Decision)],
    which: Takes,
    taker: Taker<'_>,
    now: Millis,
) -> Result<Option<Told>, Denial> {
    let mut taken: SmallVec<[(&Limit, Taken); 4]> = SmallVec::new();
    for (position, decision) in decisions {
        let step = &chain.steps[*position];
        let counts = |always| always || which == Takes::All;
        for take in decision.takes.iter().filter(|take| counts(take.always)) {
            let limit = &*step.limits[take.limit as usize];
            match limit.take(subject(limit, take.subject.as_deref(), taker), take.cost, now) {
                Ok(more) => taken.push((limit, more)),
                Err(refused) => {
                    for (limit, earlier) in taken {
                        limit.undo(earlier);
                    }
                    return Err(throttled(limit, &refused, now));
                }
            }
        }
    }
    if taken.is_empty() {
        return Ok(None);
    }
    let limits = taken.iter().map(|(limit, _)| *limit);
    let states = taken.iter().map(|(limit, taken)| (*limit, taken.states()));
    Ok(Some(Told { policy: limit::policy_field(limits, now), state: limit::state_field(states) }))
}

/// For whom a limit counts here. Where it counts by key or org and the caller has none, it counts by address: a policy
/// that forgot to ask must not open an unlimited way.
fn subject(limit: &Limit, custom: Option<&str>, taker: Taker<'_>) -> Subject {
    let by_address = Subject::address(taker.address);
    match limit.kind() {
        SubjectKind::Key => match taker.principal {
            Some(Principal::Key(key)) => Subject::id(key.id.number()),
            Some(Principal::Claimed(claim)) => limit.custom(&claim.subject),
            None => by_address,
        },
        SubjectKind::Org => match taker.principal {
            Some(Principal::Key(key)) => Subject::id(key.org.number()),
            Some(Principal::Claimed(claim)) => limit.custom(&claim.org),
            None => by_address,
        },
        SubjectKind::Address => by_address,
        SubjectKind::Custom => limit.custom(custom.unwrap_or_default()),
        SubjectKind::Everyone => Subject::EVERYONE,
    }
}

fn throttled(limit: &Limit, refused: &Refused, now: Millis) -> Denial {
    let states: (&Limit, &[State]) = (limit, refused.states());
    let throttle = Throttle {
        retry_after: refused.retry_after(),
        policy: limit::policy_field([limit], now),
        state: limit::state_field([states]),
    };
    match refused.period() {
        Period::Month => Denial::QuotaExceeded(throttle),
        Period::Seconds(_) => Denial::RateLimited(throttle),
    }
}

/// What a successful exchange is charged, once it is known how much there was.
#[derive(Debug, Default)]
pub struct Charges(SmallVec<[Charge; 2]>);

impl Charges {
    /// The charges of these decisions.
    pub fn of(decisions: &[(usize, Decision)]) -> Self {
        Self(decisions.iter().flat_map(|(_, decision)| decision.charges.iter().copied()).collect())
    }

    /// Adds the charges of the response phase.
    pub fn extend(&mut self, more: &[Charge]) {
        self.0.extend(more.iter().copied());
    }

    /// Millionths of a token for so many reported units and bytes of response body.
    pub fn sum(&self, units: u64, bytes: u64) -> u64 {
        let amount = |charge: &Charge| {
            let counted = match charge.basis {
                Basis::Request => 1,
                Basis::Unit => units,
                Basis::Kibibyte => bytes.div_ceil(1024),
            };
            charge.gas.saturating_mul(counted.min(charge.max_units))
        };
        self.0.iter().map(amount).fold(0, u64::saturating_add)
    }
}

/// Applies edits of the request, in chain order.
pub fn edit_request(headers: &mut HeaderMap, decisions: &[(usize, Decision)]) {
    for (_, decision) in decisions {
        edit(headers, &decision.request_edits);
    }
}

/// Applies edits.
pub fn edit(headers: &mut HeaderMap, edits: &[Edit]) {
    for edit in edits {
        match &edit.change {
            FieldChange::Set(value) => {
                headers.insert(edit.name.clone(), value.clone());
            }
            FieldChange::Append(value) => {
                headers.append(edit.name.clone(), value.clone());
            }
            FieldChange::Remove => {
                headers.remove(&edit.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn charge(basis: Basis, gas: u64, max_units: u64) -> Charge {
        Charge { basis, gas, max_units }
    }

    #[test]
    fn charges_add_up_to_their_bounds() {
        let mut charges = Charges::default();
        charges.extend(&[charge(Basis::Request, 5, 1), charge(Basis::Unit, 10, 3), charge(Basis::Kibibyte, 2, 100)]);
        assert_eq!(charges.sum(0, 0), 5);
        assert_eq!(charges.sum(2, 1), 5 + 20 + 2);
        assert_eq!(charges.sum(9, 1025), 5 + 30 + 4);
        assert_eq!(charges.sum(0, u64::MAX), 5 + 200);
        charges.extend(&[charge(Basis::Unit, u64::MAX, u64::MAX)]);
        assert_eq!(charges.sum(u64::MAX, 0), u64::MAX);
    }

    #[test]
    fn edits_apply_in_order() {
        let mut headers = HeaderMap::new();
        let name = HeaderName::from_static("x-a");
        let value = HeaderValue::from_static;
        let change = |change| Edit { name: name.clone(), change };
        edit(&mut headers, &[change(FieldChange::Append(value("1"))), change(FieldChange::Append(value("2")))]);
        assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        edit(&mut headers, &[change(FieldChange::Set(value("3")))]);
        assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), ["3"]);
        edit(&mut headers, &[change(FieldChange::Remove)]);
        assert!(headers.is_empty());
    }
}
