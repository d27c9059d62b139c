//! What sums of usage look like over HTTP, on both listeners.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::gas::Rate;
use crate::usage::Counts;

/// Sums over calls.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Used {
    /// Calls, however they ended.
    calls: u64,
    statuses: Statuses,
    /// Calls that the gateway refused, by code.
    denied: BTreeMap<String, u64>,
    /// Bytes of request bodies.
    bytes_in: u64,
    /// Bytes of response bodies.
    bytes_out: u64,
    /// Microseconds until services had begun their answers.
    upstream_us: u64,
    /// Units that services reported with successful answers.
    units: u64,
    /// What was charged, in tokens.
    #[schema(example = "12.5", pattern = "^[0-9]+(\\.[0-9]+)?$")]
    gas: String,
    /// The same at the list price of 0.01 a token.
    #[schema(example = "0.125", pattern = "^[0-9]+(\\.[0-9]+)?$")]
    cost: String,
    /// Units of work that policies did.
    fuel: u64,
    /// The same by policy; the sum is less than `fuel` where some was counted before it was told apart.
    fuel_by_policy: BTreeMap<String, u64>,
}

/// Answers by class of status.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Statuses {
    #[serde(rename = "1xx")]
    switched: u64,
    #[serde(rename = "2xx")]
    succeeded: u64,
    #[serde(rename = "3xx")]
    redirected: u64,
    #[serde(rename = "4xx")]
    refused: u64,
    #[serde(rename = "5xx")]
    failed: u64,
}

impl From<&Counts> for Used {
    fn from(counts: &Counts) -> Self {
        let statuses = &counts.statuses;
        let named = |sums: &[(Box<str>, u64)]| sums.iter().map(|(name, sum)| (name.to_string(), *sum)).collect();
        Self {
            calls: counts.calls,
            statuses: Statuses {
                switched: statuses.switched,
                succeeded: statuses.succeeded,
                redirected: statuses.redirected,
                refused: statuses.refused,
                failed: statuses.failed,
            },
            denied: named(&counts.denied),
            bytes_in: counts.bytes_in,
            bytes_out: counts.bytes_out,
            upstream_us: counts.upstream_us,
            units: counts.units,
            gas: counts.gas.to_string(),
            cost: counts.gas.cost(Rate::LIST).to_string(),
            fuel: counts.fuel,
            fuel_by_policy: named(&counts.fuel_by_policy),
        }
    }
}
