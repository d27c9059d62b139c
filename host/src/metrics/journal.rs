//! The journal: how much is written down, how long it takes until that is durable, and whether there is room for more.

use super::family::Family;
use crate::journal::Journal;
use std::fmt;

pub(super) fn tell(family: &mut Family<'_>, journal: &Journal) -> fmt::Result {
    let figures = journal.figures();
    for (name, help, value) in [
        (
            "portico_journal_records",
            "Records that were written: one when a call begins, one when it ends.",
            figures.records,
        ),
        ("portico_journal_bytes", "Bytes of those records.", figures.bytes),
        (
            "portico_journal_unwritten_calls",
            "Calls whose end was not written down, for want of room or since the disk failed.",
            figures.unwritten,
        ),
        ("portico_journal_commits", "Times that what was written was made durable.", figures.commits),
    ] {
        family.count(name, help, value)?;
    }
    let committing = figures.committing.as_secs_f64();
    family.count("portico_journal_commit_seconds", "How long that took, all together.", committing)?;
    family.figure(
        "portico_journal_slowest_commit_seconds",
        "About the longest of late.",
        figures.slowest.as_secs_f64(),
    )?;
    family.figure("portico_journal_segments", "Segments in use, over all workers.", figures.segments as f64)?;
    family.figure(
        "portico_journal_workers_without_room",
        "Workers that cannot write down another call.",
        figures.stuck as f64,
    )?;
    let refusing = f64::from(u8::from(journal.is_refusing()));
    family.figure("portico_journal_refusing", "Whether calls are refused for it: 1 or 0.", refusing)
}
