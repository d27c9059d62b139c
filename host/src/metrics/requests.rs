//! Finished requests: how many, how long they took, what became of them; and what upstreams did.
//!
//! Labels are pillars and upstreams of the configuration, statuses, and codes of the gateway's own.

use super::family::Family;
use crate::meter::ABANDONED;
use crate::requests::{Head, Requests};
use crate::upstream::Failure;
use crate::usage::{Names, Pillar, Route};
use crate::worker::Gateway;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The label of what found no pillar: no pillar can have this name.
const NONE: &str = "-";

pub(super) fn tell(family: &mut Family<'_>, requests: &Requests, names: &Names, gateway: &Gateway) -> fmt::Result {
    let figures = requests.figures();
    let name = |pillar: &Pillar| match *pillar {
        Pillar::NONE => Arc::from(NONE),
        pillar => names.find(pillar, Route::NONE).0,
    };
    let pillars: BTreeMap<Arc<str>, _> = figures.pillars.iter().map(|(pillar, of)| (name(pillar), of)).collect();
    let outcomes: Vec<_> = pillars
        .iter()
        .flat_map(|(pillar, of)| {
            of.outcomes.iter().map(move |(status, code, times)| {
                (&**pillar, status.to_string(), code.as_deref().unwrap_or_default(), *times)
            })
        })
        .collect();
    let label = |(pillar, status, code, times): &(&str, String, &str, u64)| {
        ([("pillar", pillar.to_string()), ("status", status.clone()), ("error", code.to_string())], *times)
    };
    family.counter(
        "portico_requests",
        "Requests that ended, by the status that the client got (0 for none) and the code of the gateway's refusal.",
        outcomes.iter().map(label),
    )?;
    family.histogram(
        "portico_request_duration_seconds",
        "From the head of a request to the end of its answer.",
        pillars.iter().map(|(pillar, of)| ([("pillar", &**pillar)], &of.durations)),
    )?;
    family.figure("portico_requests_in_flight", "Requests that are under way.", requests.in_flight() as f64)?;
    family.counter(
        "portico_heads_refused",
        "Heads that were refused before they were requests, by kind.",
        Head::ALL.map(|head| ([("kind", head.code())], requests.refused(head))),
    )?;
    // Those that the configuration has: what is gone is counted on, and shown again if it comes back.
    let snapshot = gateway.live.load_full();
    let upstreams = || {
        let named = snapshot.upstreams.iter().map(|upstream| upstream.name.as_str());
        named.filter_map(|name| Some((name, figures.upstreams.get(name)?)))
    };
    family.histogram(
        "portico_upstream_duration_seconds",
        "From a request to an upstream to the head of its answer.",
        upstreams().map(|(name, of)| ([("upstream", name)], &of.durations)),
    )?;
    let failures = snapshot.upstreams.iter().flat_map(|upstream| {
        let of = figures.upstreams.get(upstream.name.as_str());
        let times =
            move |kind| of.and_then(|of| of.failures.iter().find(|(known, _)| *known == kind)).map(|found| found.1);
        // Those that never came too: a rise from nothing is no rise to whoever asks for one.
        let labels = |kind| [("upstream", upstream.name.as_str()), ("kind", kind)];
        let kinds = Failure::ALL.into_iter().map(Failure::code).chain([ABANDONED]);
        kinds.map(move |kind| (labels(kind), times(kind).unwrap_or_default()))
    });
    family.counter("portico_upstream_failures", "Requests that an upstream did not answer, by kind.", failures)?;
    let dropped = requests.dropped();
    let dropped = [("queue", dropped.queue), ("access", dropped.access), ("log", dropped.log)];
    family.counter(
        "portico_request_records_dropped",
        "Records of requests that were written too slowly or found no room, by where that was.",
        dropped.map(|(at, times)| ([("at", at)], times)),
    )?;
    let bytes = requests.log_bytes().unwrap_or_default();
    family.figure("portico_request_log_bytes", "Bytes of records in the request log.", bytes as f64)
}
