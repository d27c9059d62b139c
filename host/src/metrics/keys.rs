//! Keys: how many are in memory, the filter over all of them, and how often the store was asked about one.

use super::family::Family;
use crate::credential::Keyring;
use std::fmt;

pub(super) fn tell(family: &mut Family<'_>, keyring: &Keyring) -> fmt::Result {
    let figures = keyring.figures();
    family.figure(
        "portico_keys_hot",
        "Secrets of keys in memory: those that were used or made of late.",
        figures.hot as f64,
    )?;
    family.figure(
        "portico_keys_hot_limit",
        "Secrets of keys for which there is room in memory: `keys.hot`.",
        figures.most as f64,
    )?;
    family.count(
        "portico_keys_evicted",
        "Secrets of keys that left memory, since others were used later.",
        figures.evicted,
    )?;
    family.figure(
        "portico_key_filter_digests",
        "Digests of secrets that were added to the filter, those that went since among them.",
        figures.filtered as f64,
    )?;
    family.figure("portico_key_filter_bytes", "Bytes of the filter.", figures.filter_bytes as f64)?;
    let ups = figures.look_ups;
    let outcomes = [
        ("found", ups.found),
        ("nobody", ups.nobody),
        ("failed", ups.failed),
        ("timed_out", ups.timed_out),
        ("refused", ups.refused),
    ];
    family.counter(
        "portico_key_look_ups",
        "Look-ups in the store of keys that were not in memory, by what came of them; for `refused` there was no room, and the store was not asked.",
        outcomes.map(|(outcome, times)| ([("outcome", outcome)], times)),
    )
}
