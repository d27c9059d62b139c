//! The process: what it is, since when it runs, and how much of the engines' room is in use.

use super::family::Family;
use crate::clock::Millis;
use crate::plugin::Catalog;
use crate::worker::Gateway;
use std::fmt;

pub(super) fn tell(family: &mut Family<'_>, gateway: &Gateway, catalog: &Catalog, started: Millis) -> fmt::Result {
    family.gauge(
        "portico_build_info",
        "The version of the gateway; always 1.",
        [([("version", env!("CARGO_PKG_VERSION"))], 1.0)],
    )?;
    let since = started.0 as f64 / 1e3;
    family.figure("process_start_time_seconds", "When the gateway was started, in seconds since 1970.", since)?;
    family.figure(
        "portico_configuration_generation",
        "Counts up with each change of the configuration or of a component since the start.",
        gateway.live.load().generation as f64,
    )?;
    let rooms = catalog.rooms();
    let used = rooms.iter().map(|room| ([("engine", room.engine)], room.instances as f64));
    family.gauge(
        "portico_engine_instances",
        "Instances of policies that there are now, warm ones among them.",
        used,
    )?;
    let most = rooms.iter().map(|room| ([("engine", room.engine)], room.most as f64));
    family.gauge("portico_engine_instances_limit", "Instances for which an engine has room.", most)?;
    let memories = rooms.iter().map(|room| ([("engine", room.engine)], room.memories as f64));
    family.gauge("portico_engine_memories", "Memories of those instances.", memories)
}
