//! Begins what is told of finished requests: the request log, and a place for each worker's records.

use super::{Kept, StartError, sentence};
use crate::clock::Clock;
use crate::config::Telemetry;
use crate::data::DataDirectory;
use crate::requests::{Recorder, RequestLog, Requests, SegmentLog};
use std::sync::Arc;

/// The tree of the database in which the request log was once.
const FORMER: &str = "requests";

/// What there is then.
pub(super) struct Begun {
    /// Where records are read; none where none are kept.
    pub(super) log: Option<Arc<dyn RequestLog>>,
    /// What is counted, and the end of it.
    pub(super) requests: Arc<Requests>,
    /// An end for each worker.
    pub(super) recorders: Vec<Recorder>,
}

/// Begins it.
///
/// # Errors
/// When the database or a thread cannot be had.
pub(super) fn begin(
    data: &DataDirectory,
    settings: &Telemetry,
    kept: &Kept,
    clock: &Clock,
) -> Result<Begun, StartError> {
    let cannot = |error: &dyn std::error::Error| StartError::Cannot(sentence(error));
    if data.database().drop_tree(FORMER).map_err(|error| cannot(&error))? {
        tracing::warn!(
            "the request log of an earlier version was removed: it lies in files of its own now, and begins anew"
        );
    }
    // Also where none are kept any more: those that were have to go.
    let log = Arc::new(SegmentLog::open(data, &settings.requests)) as Arc<dyn RequestLog>;
    let begun = Requests::start(kept.workers, settings, Some(log.clone()), kept.names.clone(), clock.clone());
    let log = Some(log).filter(|_| settings.requests.keep);
    let (requests, recorders) = begun.map_err(|error| cannot(&error))?;
    Ok(Begun { log, requests: Arc::new(requests), recorders })
}
