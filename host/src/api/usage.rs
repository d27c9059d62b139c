//! Usage in detail over HTTP, on both listeners: sums by day, key, pillar and rule, page by page.
//!
//! A key or a token of an org sees that org's. An org has few reads under way at a time, so that none keeps the others out.

mod cursor;

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::Uri;
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use self::cursor::Cursor;
use super::shapes::usage::Used;
use super::{Action, Actor, CURRENCY, Paging, Reads, Refusal};
use crate::clock::Clock;
use crate::id::{KeyId, OrgId};
use crate::problem::Fault;
use crate::usage::{By, Counts, Day, Detail, Group, MOST_READ, Month, Page, UsageStore};

/// Reads of one org at once.
const AT_ONCE: usize = 4;
/// Orgs whose reads are known.
const ORGS: usize = 1_000;
/// Days of one question: more than are kept.
const MOST_DAYS: u32 = 800;
/// What is said of a `group_by` that is none.
pub(super) const NO_GROUP: &str = "Name some of day, key, pillar and route, with commas between.";
const NO_DAY: &str = "This is no day; write for example 2026-11-22.";
const NO_SUCH_ORG: &str = "There is no such org; give the id of one.";
/// The parameters beyond those of every list.
const PARAMETERS: [&str; 7] = ["org", "from", "to", "key", "pillar", "route", "group_by"];

/// Where usage is read.
#[derive(Debug, Clone)]
pub(super) struct Details {
    store: Arc<dyn UsageStore>,
    clock: Clock,
    orgs: Arc<Mutex<HashMap<Option<u128>, Reads>>>,
}

/// Sums over calls, oldest days first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UsageDetail {
    /// The first day that was asked for (UTC).
    #[schema(format = Date)]
    from: String,
    /// The last one.
    #[schema(format = Date)]
    to: String,
    /// In the order of day, key, pillar and route.
    rows: Vec<RowShown>,
    /// To be given as `cursor`, with the same parameters, for the sums after these; null where there are none.
    next_cursor: Option<String>,
    /// Of `cost`.
    #[schema(example = "USD")]
    currency: String,
    /// The answer is of this moment; calls of the last second may be missing.
    #[schema(format = DateTime)]
    computed_at: String,
}

/// The sums over calls that have the same of what `group_by` names; the others are left out.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UsageRow)]
struct RowShown {
    /// When the calls began (UTC).
    #[schema(format = Date)]
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<String>,
    /// The id of the key; null for calls without one.
    #[schema(value_type = Option<String>, example = "key_01m5k3v0q8f7c2d9x4e6t1r5yb")]
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<Option<String>>,
    /// The API; the gateway's own is `portico`.
    #[schema(example = "connect")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pillar: Option<String>,
    /// The rule of the API.
    #[schema(example = "rooms.show")]
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<String>,
    #[serde(flatten)]
    used: Used,
}

impl RowShown {
    fn of((group, counts): &(Group, Counts)) -> Self {
        Self {
            day: group.day.map(|day| day.to_string()),
            key_id: group.key.map(|key| key.map(|key| KeyId::from_number(key).to_string())),
            pillar: group.pillar.as_ref().map(ToString::to_string),
            route: group.route.as_ref().map(ToString::to_string),
            used: counts.into(),
        }
    }
}

impl UsageDetail {
    /// One for documentation.
    fn example() -> Value {
        json!({"from": "2026-11-01", "to": "2026-11-22", "rows": [{
            "day": "2026-11-22", "key_id": "key_01m5k3v0q8f7c2d9x4e6t1r5yb", "pillar": "connect", "route": "rooms.show",
            "calls": 40, "statuses": {"1xx": 0, "2xx": 38, "3xx": 0, "4xx": 2, "5xx": 0}, "denied": {"rate_limited": 2},
            "bytes_in": 0, "bytes_out": 12800, "upstream_us": 71600, "units": 0, "gas": "19", "cost": "0.19", "fuel": 240000,
            "fuel_by_policy": {"gas": 60000, "key-auth": 90000, "rate-limit": 90000}
        }], "next_cursor": null, "currency": "USD", "computed_at": "2026-11-22T10:00:00.000Z"})
    }
}

/// What sums are told apart by, as it is written.
struct Grouping(By);

impl FromStr for Grouping {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut by = By { day: false, key: false, pillar: false, route: false };
        for name in text.split(',') {
            *match name {
                "day" => &mut by.day,
                "key" => &mut by.key,
                "pillar" => &mut by.pillar,
                "route" => &mut by.route,
                _ => return Err(()),
            } = true;
        }
        Ok(Self(by))
    }
}

impl Details {
    pub(super) fn new(store: Arc<dyn UsageStore>, clock: Clock) -> Self {
        Self { store, clock, orgs: Arc::default() }
    }

    async fn read(&self, question: Detail) -> Result<Page, Refusal> {
        let store = self.store.clone();
        let page = self.reads(question.org).run(async move { store.detail(question).await }).await?;
        page.map_err(|error| Refusal::failed(&error))
    }

    fn reads(&self, org: Option<u128>) -> Reads {
        let mut orgs = self.orgs.lock().unwrap_or_else(PoisonError::into_inner);
        if orgs.len() >= ORGS && !orgs.contains_key(&org) {
            orgs.retain(|_, reads| !reads.is_idle());
        }
        orgs.entry(org).or_insert_with(|| Reads::most(AT_ONCE)).clone()
    }
}

/// `GET /v1/usage/detail` of the admin listener; whoever asks is among the extensions.
pub fn routes(store: Arc<dyn UsageStore>, clock: Clock) -> Router {
    Router::new().route("/v1/usage/detail", get(list)).with_state(Details::new(store, clock))
}

/// What your org used, in detail
///
/// Sums by day, key, API and rule, or by some of these: as `group_by` says. They add up to those of `/v1/usage`. Calls show within a
/// second, on the day on which they began.
#[utoipa::path(
    get,
    path = "/v1/usage/detail",
    operation_id = "usage.detail",
    tag = "usage",
    params(
        ("org" = Option<String>, Query, description = "Id of your org, which is the default.", example = "org_01m5k3v0q8f7c2d9x4e6t1r5ya"),
        ("from" = Option<String>, Query, format = Date, description = "The first day (UTC); the first of this month is the default.", example = "2026-11-01"),
        ("to" = Option<String>, Query, format = Date, description = "The last day (UTC); today is the default.", example = "2026-11-22"),
        ("key" = Option<String>, Query, description = "The id of a key: its calls only.", example = "key_01m5k3v0q8f7c2d9x4e6t1r5yb"),
        ("pillar" = Option<String>, Query, description = "Of this API only.", example = "connect"),
        ("route" = Option<String>, Query, description = "Of rules of this name only.", example = "rooms.show"),
        ("group_by" = Option<String>, Query, description = "Some of `day`, `key`, `pillar`, `route`, with commas between; all of them is the default.", example = "day,pillar"),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before.", example = "AA"),
        ("limit" = Option<u8>, Query, minimum = 1, maximum = 200, description = "The most sums of one page; 50 is the default.", example = 50),
    ),
    responses((status = 200, description = "Some sums.", body = UsageDetail, example = UsageDetail::example)),
)]
pub(super) async fn list(
    State(details): State<Details>,
    Extension(actor): Extension<Actor>,
    uri: Uri,
) -> Result<Json<UsageDetail>, Refusal> {
    actor.may(Action::ReadUsage)?;
    let now = details.clock.now();
    let mut paging = Paging::of(&uri, &PARAMETERS);
    let org = paging.parsed::<OrgId>("org", NO_SUCH_ORG);
    if org.is_some_and(|org| !actor.sees(org)) {
        paging.faults.push(Fault::of("org", NO_SUCH_ORG));
    }
    let to = paging.parsed::<Day>("to", NO_DAY).unwrap_or(Day::of(now));
    let from = paging.parsed::<Day>("from", NO_DAY).unwrap_or(Month::of(now).first_day().min(to));
    if from > to || to.0 - from.0 >= MOST_DAYS {
        paging.faults.push(Fault::of("from", "Give a day at most 800 days before `to`, and not after it."));
    }
    let key = paging.parsed::<KeyId>("key", "This is not the id of a key; write key_….").map(KeyId::number);
    let all = By { day: true, key: true, pillar: true, route: true };
    let by = paging.parsed::<Grouping>("group_by", NO_GROUP).map_or(all, |grouping| grouping.0);
    let after = paging.after::<Cursor>().map(|cursor| cursor.0);
    if after.as_ref().is_some_and(|after| after.by() != by) {
        paging.faults.push(Fault::of("cursor", "This `next_cursor` is of another `group_by`."));
    }
    let (pillar, route) = (paging.text("pillar"), paging.text("route"));
    let limit = paging.checked()?;
    let org = org.or(actor.org()).map(OrgId::number);
    let page = details.read(Detail { org, from, to, key, pillar, route, by, after, limit }).await?;
    if page.is_beyond {
        let detail = format!("This is over more than {MOST_READ} rows; ask for fewer days.");
        return Err(Refusal::invalid(vec![Fault::of("from", detail)]));
    }
    let last = page.rows.last().filter(|_| page.more);
    Ok(Json(UsageDetail {
        from: from.to_string(),
        to: to.to_string(),
        rows: page.rows.iter().map(RowShown::of).collect(),
        next_cursor: last.map(|(group, _)| Cursor(group.clone()).to_string()),
        currency: CURRENCY.to_owned(),
        computed_at: now.to_string(),
    }))
}
