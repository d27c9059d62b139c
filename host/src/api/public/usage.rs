//! What the caller's org used, by month and pillar.

use std::collections::BTreeMap;

use axum::extract::{Query, State};
use axum::http::Uri;
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;

use super::PublicState;
use crate::api::shapes::usage::Used;
use crate::api::{Action, Actor, CURRENCY, Refusal};
use crate::clock::Millis;
use crate::problem::Fault;
use crate::usage::{Month, Summary};

/// Months in the history, this one included.
const MONTHS: usize = 12;
const DAY_MILLIS: u64 = 86_400_000;

/// What one org used in one month (UTC).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Usage {
    #[serde(flatten)]
    month: MonthUsed,
    /// Of `cost`.
    #[schema(example = "USD")]
    currency: String,
    /// Null, as there are no plans yet.
    plan: Option<String>,
    /// Null, as there are no invoices yet.
    #[schema(format = Date)]
    next_invoice_date: Option<String>,
    /// The answer is of this moment; calls of the last second may be missing.
    #[schema(format = DateTime)]
    computed_at: String,
}

/// What one org used in twelve months, this one first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UsageHistory {
    months: Vec<MonthUsed>,
    /// Of `cost`.
    #[schema(example = "USD")]
    currency: String,
    #[schema(format = DateTime)]
    computed_at: String,
}

/// A month.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MonthUsed {
    /// Year and month.
    #[schema(example = "2026-11", pattern = "^[0-9]{4}-[0-9]{2}$")]
    period: String,
    /// By the name of the pillar; the gateway's own API is `portico`.
    by_pillar: BTreeMap<String, Used>,
    total: Used,
}

impl MonthUsed {
    fn of(month: Month, summary: &Summary) -> Self {
        let by_pillar = summary.by_pillar.iter().map(|(pillar, counts)| (pillar.clone(), counts.into())).collect();
        Self { period: month.to_string(), by_pillar, total: (&summary.total).into() }
    }
}

/// What your org used in a month
///
/// Of all its keys, by pillar. Calls show within a second. The gateway's own API costs nothing.
#[utoipa::path(
    get,
    path = "/v1/usage",
    operation_id = "usage",
    tag = "usage",
    params(("month" = Option<String>, Query, description = "Year and month (UTC); this one is the default.", example = "2026-11")),
    responses((status = 200, description = "The sums.", body = Usage, example = json!({
        "period": "2026-11",
        "by_pillar": {"connect": {
            "calls": 40, "statuses": {"1xx": 0, "2xx": 38, "3xx": 0, "4xx": 2, "5xx": 0}, "denied": {"rate_limited": 2},
            "bytes_in": 0, "bytes_out": 12800, "upstream_us": 71600, "units": 0, "gas": "19", "cost": "0.19", "fuel": 240000,
            "fuel_by_policy": {"gas": 60000, "key-auth": 90000, "rate-limit": 90000}
        }},
        "total": {
            "calls": 40, "statuses": {"1xx": 0, "2xx": 38, "3xx": 0, "4xx": 2, "5xx": 0}, "denied": {"rate_limited": 2},
            "bytes_in": 0, "bytes_out": 12800, "upstream_us": 71600, "units": 0, "gas": "19", "cost": "0.19", "fuel": 240000,
            "fuel_by_policy": {"gas": 60000, "key-auth": 90000, "rate-limit": 90000}
        },
        "currency": "USD", "plan": null, "next_invoice_date": null, "computed_at": "2026-11-22T10:00:00Z"
    }))),
)]
pub(super) async fn month(
    State(state): State<PublicState>,
    Extension(actor): Extension<Actor>,
    uri: Uri,
) -> Result<Json<Usage>, Refusal> {
    actor.may(Action::ReadUsage)?;
    let now = state.admin.clock.now();
    let (mut month, mut faults) = (Month::of(now), Vec::new());
    let Query(parameters) = Query::<Vec<(String, String)>>::try_from_uri(&uri).unwrap_or_default();
    for (name, value) in parameters {
        match (name.as_str(), value.parse()) {
            ("month", Ok(wanted)) => month = wanted,
            ("month", Err(_)) => faults.push(Fault::of(name, "Give a month such as 2026-11.")),
            _ => faults.push(Fault::of(name, "There is no such parameter; there is month.")),
        }
    }
    if !faults.is_empty() {
        return Err(Refusal::invalid(faults));
    }
    let sums = state.months.of(actor.org(), &[month]).await?;
    let [summary] = &sums[..] else { return Err(Refusal::store_unavailable()) };
    Ok(Json(Usage {
        month: MonthUsed::of(month, summary),
        currency: CURRENCY.to_owned(),
        plan: None,
        next_invoice_date: None,
        computed_at: now.to_string(),
    }))
}

/// What your org used in twelve months
///
/// This month first.
#[utoipa::path(
    get,
    path = "/v1/usage/history",
    operation_id = "usage.history",
    tag = "usage",
    responses((status = 200, description = "The sums of each month.", body = UsageHistory, example = json!({
        "months": [{
            "period": "2026-11",
            "by_pillar": {},
            "total": {
                "calls": 0, "statuses": {"1xx": 0, "2xx": 0, "3xx": 0, "4xx": 0, "5xx": 0}, "denied": {},
                "bytes_in": 0, "bytes_out": 0, "upstream_us": 0, "units": 0, "gas": "0", "cost": "0", "fuel": 0,
                "fuel_by_policy": {}
            }
        }],
        "currency": "USD", "computed_at": "2026-11-22T10:00:00Z"
    }))),
)]
pub(super) async fn history(
    State(state): State<PublicState>,
    Extension(actor): Extension<Actor>,
) -> Result<Json<UsageHistory>, Refusal> {
    actor.may(Action::ReadUsage)?;
    let now = state.admin.clock.now();
    let wanted: Vec<Month> =
        std::iter::successors(Some(Month::of(now)), |month| Some(before(*month))).take(MONTHS).collect();
    let sums = state.months.of(actor.org(), &wanted).await?;
    let months = wanted.iter().zip(&sums).map(|(month, summary)| MonthUsed::of(*month, summary)).collect();
    Ok(Json(UsageHistory { months, currency: CURRENCY.to_owned(), computed_at: now.to_string() }))
}

fn before(month: Month) -> Month {
    Month::of(Millis((u64::from(month.first_day().0) * DAY_MILLIS).saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_go_back_over_the_turn_of_a_year() {
        let month: Month = "2027-02".parse().expect("a month");
        let months = std::iter::successors(Some(month), |month| Some(before(*month)));
        let told: Vec<String> = months.take(4).map(|month| month.to_string()).collect();
        assert_eq!(told, ["2027-02", "2027-01", "2026-12", "2026-11"]);
    }
}
