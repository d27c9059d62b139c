//! What was consumed, added up: by caller, pillar, route and day (UTC).
//!
//! An exchange ends as one [`Usage`], which its worker writes into its journal and adds to its own [`Tally`], without lock or
//! store. Four times a second the control runtime takes the rows and merges them into a [`UsageStore`], together with a [`Mark`] that says
//! how much of the journal they stand for. Never decides anything: no request waits for what is counted here.

mod detail;
mod fuel;
mod mark;
mod memory;
mod month;
mod names;
mod row;
mod sled;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::clock::Millis;
use crate::gas::Gas;
use names::OTHER;

pub use self::detail::{By, Detail, Group, MOST_READ, Page};
pub use self::fuel::{Fuel, MOST_POLICIES};
pub use self::mark::Mark;
pub use self::memory::MemoryUsage;
pub use self::month::{Day, Month, NotADay, NotAMonth};
pub use self::names::{Names, Pillar, Policy, Route};
pub use self::sled::SledUsage;
pub use self::tally::{Batch, Tally};

/// Different denial codes that one row tells apart; what is beyond is counted as `other`.
const MAX_CODES: usize = 64;
/// Different policies that one row tells apart; the fuel of those beyond is counted as that of `other`.
const MAX_POLICIES: usize = 64;

/// Who called. Numbers are those of the ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Caller {
    /// The org; none for anonymous callers.
    pub org: Option<u128>,
    /// The key; none for anonymous callers, and for callers that a policy identified.
    pub key: Option<u128>,
}

/// What one exchange consumed.
#[derive(Debug, Clone, Copy)]
pub struct Usage<'a> {
    /// Who called.
    pub caller: Caller,
    /// The pillar.
    pub pillar: Pillar,
    /// The rule that matched.
    pub route: Route,
    /// When it began.
    pub at: Millis,
    /// The status that the client got; 0 where it got none.
    pub status: u16,
    /// The code of the denial, where the gateway or a policy refused.
    pub denied: Option<&'a str>,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// Bytes of the response body.
    pub bytes_out: u64,
    /// What was charged.
    pub gas: Gas,
    /// Units that the upstream reported, where the call was a success.
    pub units: u64,
    /// Microseconds until the upstream had begun its answer; 0 where none was asked.
    pub upstream_us: u64,
    /// Units of fuel that policies burnt.
    pub fuel: u64,
    /// The same by policy, each once.
    pub fuel_by_policy: &'a [(Policy, u64)],
}

/// Sums over exchanges. All of them stop at the largest number rather than wrap.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Exchanges, however they ended.
    pub calls: u64,
    /// By class of status: `1xx` to `5xx`.
    pub statuses: Statuses,
    /// Refused ones, by code.
    #[serde(serialize_with = "codes")]
    pub denied: Vec<(Box<str>, u64)>,
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of response bodies.
    pub bytes_out: u64,
    /// What was charged.
    pub gas: Gas,
    /// Units that upstreams reported with successful answers.
    pub units: u64,
    /// Microseconds that upstreams took until they had begun their answers.
    pub upstream_us: u64,
    /// Units of fuel that policies burnt.
    pub fuel: u64,
    /// The same by policy, in the order of their names. What was counted by earlier versions is in `fuel` only.
    #[serde(serialize_with = "codes")]
    pub fuel_by_policy: Vec<(Box<str>, u64)>,
}

/// Answers by class of status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Statuses {
    /// 100 to 199: protocols that were switched.
    #[serde(rename = "1xx")]
    pub switched: u64,
    /// 200 to 299.
    #[serde(rename = "2xx")]
    pub succeeded: u64,
    /// 300 to 399.
    #[serde(rename = "3xx")]
    pub redirected: u64,
    /// 400 to 499.
    #[serde(rename = "4xx")]
    pub refused: u64,
    /// 500 to 599.
    #[serde(rename = "5xx")]
    pub failed: u64,
}

/// One row of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Who called.
    pub caller: Caller,
    /// The pillar, by name.
    pub pillar: Arc<str>,
    /// The rule, by name.
    pub route: Arc<str>,
    /// The day.
    pub day: Day,
    /// The sums.
    pub counts: Counts,
}

/// One org's month.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Summary {
    /// By the name of the pillar.
    pub by_pillar: BTreeMap<String, Counts>,
    /// All pillars together.
    pub total: Counts,
}

/// How many calls of a key were let through to a pillar in one month: what limits over a month start from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonthlyCount {
    /// Who called.
    pub caller: Caller,
    /// The pillar, by name.
    pub pillar: Arc<str>,
    /// Calls that were not denied.
    pub calls: u64,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It does not work now. Nothing of what it was given was kept.
    #[error("the usage store does not work; look at the disk of the data directory")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a store is still doing.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Keeps usage. For the control runtime only.
pub trait UsageStore: Send + Sync + fmt::Debug {
    /// Adds these to what is there: all of them, or none.
    fn add(&self, records: Vec<Record>) -> Pending<'_, ()> {
        self.add_marked(records, Vec::new())
    }

    /// Adds these, and keeps how far journals are in the sums then: all of it in one step, or nothing.
    fn add_marked(&self, records: Vec<Record>, marks: Vec<Mark>) -> Pending<'_, ()>;

    /// How far each journal is in the sums.
    fn marks(&self) -> Pending<'_, Vec<Mark>>;

    /// Makes durable what was added before.
    fn flush(&self) -> Pending<'_, ()>;

    /// One org's month; without an org, that of the anonymous callers.
    fn month(&self, org: Option<u128>, month: Month) -> Pending<'_, Summary>;

    /// One page of the sums of an org by day, key, pillar and rule.
    fn detail(&self, question: Detail) -> Pending<'_, Page>;

    /// The calls of a month that were let through, for each caller and pillar: to seed limits at start.
    fn monthly_counts(&self, month: Month) -> Pending<'_, Vec<MonthlyCount>>;

    /// Forgets all days before this one, and tells how many rows that were.
    fn forget_before(&self, day: Day) -> Pending<'_, u64>;
}

impl Caller {
    /// Nobody that is known.
    pub const ANONYMOUS: Self = Self { org: None, key: None };
}

impl Counts {
    /// Adds one exchange; all but the names of the policies, which its numbers do not tell.
    pub(crate) fn count(&mut self, usage: &Usage<'_>) {
        self.calls = self.calls.saturating_add(1);
        let statuses = &mut self.statuses;
        let class = match usage.status / 100 {
            1 => Some(&mut statuses.switched),
            2 => Some(&mut statuses.succeeded),
            3 => Some(&mut statuses.redirected),
            4 => Some(&mut statuses.refused),
            5 => Some(&mut statuses.failed),
            _ => None,
        };
        if let Some(class) = class {
            *class = class.saturating_add(1);
        }
        if let Some(code) = usage.denied {
            self.deny(code, 1);
        }
        self.bytes_in = self.bytes_in.saturating_add(usage.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(usage.bytes_out);
        self.gas = self.gas.saturating_add(usage.gas);
        self.units = self.units.saturating_add(usage.units);
        self.upstream_us = self.upstream_us.saturating_add(usage.upstream_us);
        self.fuel = self.fuel.saturating_add(usage.fuel);
    }

    /// Adds the sums of others.
    pub fn merge(&mut self, other: &Self) {
        let (mine, theirs) = (&mut self.statuses, &other.statuses);
        for (sum, more) in [
            (&mut self.calls, other.calls),
            (&mut mine.switched, theirs.switched),
            (&mut mine.succeeded, theirs.succeeded),
            (&mut mine.redirected, theirs.redirected),
            (&mut mine.refused, theirs.refused),
            (&mut mine.failed, theirs.failed),
            (&mut self.bytes_in, other.bytes_in),
            (&mut self.bytes_out, other.bytes_out),
            (&mut self.units, other.units),
            (&mut self.upstream_us, other.upstream_us),
            (&mut self.fuel, other.fuel),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.gas = self.gas.saturating_add(other.gas);
        other.denied.iter().for_each(|(code, times)| self.deny(code, *times));
        other.fuel_by_policy.iter().for_each(|(policy, fuel)| self.burn(policy, *fuel));
    }

    /// Adds fuel of a policy, which is in the sum of all fuel already.
    pub(crate) fn burn(&mut self, policy: &str, fuel: u64) {
        let find = |of: &[(Box<str>, u64)], policy: &str| of.binary_search_by(|(known, _)| (**known).cmp(policy));
        let place = find(&self.fuel_by_policy, policy);
        let (policy, place) = match place {
            Err(_) if self.fuel_by_policy.len() + 1 >= MAX_POLICIES => (OTHER, find(&self.fuel_by_policy, OTHER)),
            place => (policy, place),
        };
        match place {
            Ok(at) => self.fuel_by_policy[at].1 = self.fuel_by_policy[at].1.saturating_add(fuel),
            Err(at) => self.fuel_by_policy.insert(at, (policy.into(), fuel)),
        }
    }

    /// Calls that were not denied.
    pub fn let_through(&self) -> u64 {
        let denied = self.denied.iter().fold(0u64, |sum, (_, times)| sum.saturating_add(*times));
        self.calls.saturating_sub(denied)
    }

    fn deny(&mut self, code: &str, times: u64) {
        let known = self.denied.iter().position(|(known, _)| **known == *code);
        let code = if known.is_none() && self.denied.len() + 1 >= MAX_CODES { "other" } else { code };
        let known = known.or_else(|| self.denied.iter().position(|(known, _)| **known == *code));
        match known.and_then(|position| self.denied.get_mut(position)) {
            Some((_, sum)) => *sum = sum.saturating_add(times),
            None => self.denied.push((code.into(), times)),
        }
    }
}

impl Summary {
    fn add(&mut self, pillar: &str, counts: &Counts) {
        self.total.merge(counts);
        match self.by_pillar.get_mut(pillar) {
            Some(sum) => sum.merge(counts),
            None => drop(self.by_pillar.insert(pillar.to_owned(), counts.clone())),
        }
    }
}

fn codes<S: Serializer>(denied: &[(Box<str>, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(denied.iter().map(|(code, times)| (code, times)))
}
