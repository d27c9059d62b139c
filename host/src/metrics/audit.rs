//! The audit log: whether all that was to be noted was.

use super::family::Family;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) fn tell(family: &mut Family<'_>, unwritten: &AtomicU64) -> fmt::Result {
    family.count(
        "portico_audit_unwritten_entries",
        "Entries of changes outside of the store that could not be appended to the audit log; the log says which.",
        unwritten.load(Ordering::Relaxed),
    )
}
