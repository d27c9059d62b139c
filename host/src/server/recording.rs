//! Begins what is told of finished requests: the request log, and a place for each worker's records.

use super::{Kept, StartError, sentence};
use crate::clock::Clock;
use crate::config::Telemetry;
use crate::data::DataDirectory;
use crate::requests::{Recorder, RequestLog, Requests, SledLog};
use std::sync::Arc;

/// What there is then.
pub(super) struct Begun {
    /// Where records are read.
    pub(super) log: Option<Arc<dyn RequestLog>>,
    /// What is counted, and the end of it.
    pub(super) requests: Arc<Requests>,
    /// An end for each worker.
    pub(super) recorders: Vec<Recorder>,
}

/// Begins it.
///
/// # Errors
/// When the store or a thread cannot be had.
pub(super) fn begin(
    data: &DataDirectory,
    settings: &Telemetry,
    kept: &Kept,
    clock: &Clock,
) -> Result<Begun, StartError> {
    let cannot = |error: &dyn std::error::Error| StartError::Cannot(sentence(error));
    let log = match settings.requests.keep {
        true => {
            let log = SledLog::open(data).map_err(|error| cannot(&error))?;
            Some(Arc::new(log) as Arc<dyn RequestLog>)
        }
        false => None,
    };
    let begun = Requests::start(kept.workers, settings, log.clone(), kept.names.clone(), clock.clone());
    let (requests, recorders) = begun.map_err(|error| cannot(&error))?;
    Ok(Begun { log, requests: Arc::new(requests), recorders })
}
