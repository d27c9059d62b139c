//! Spans on their way to the collector of traces, by what became of them.

use super::family::Family;
use crate::requests::Requests;
use std::fmt;

pub(super) fn tell(family: &mut Family<'_>, requests: &Requests) -> fmt::Result {
    let spans = requests.spans();
    family.count("portico_trace_spans_exported", "Spans that the collector took.", spans.exported)?;
    family.count(
        "portico_trace_spans_failed",
        "Spans that it refused, or that were given up after five attempts.",
        spans.failed,
    )?;
    let dropped = [("queue", spans.dropped_queue), ("export", spans.dropped_export)];
    family.counter(
        "portico_trace_spans_dropped",
        "Spans that found no room: with a worker, or on the way to the collector.",
        dropped.map(|(at, times)| ([("at", at)], times)),
    )
}
