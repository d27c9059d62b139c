//! Begins what is told of finished requests: the request log, and a place for each worker's records.

use super::{Kept, StartError, sentence};
use crate::clock::Clock;
use crate::config::Telemetry;
use crate::data::DataDirectory;
use crate::outbound::Roots;
use crate::requests::{Export, Recorder, RequestLog, Requests, SledLog};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// What there is then.
pub(super) struct Begun {
    /// Where records are read; none where none are kept.
    pub(super) log: Option<Arc<dyn RequestLog>>,
    /// The same, also where none are kept any more.
    pub(super) kept: Arc<dyn RequestLog>,
    /// What is counted, and the end of it.
    pub(super) requests: Arc<Requests>,
    /// An end for each worker.
    pub(super) recorders: Vec<Recorder>,
    /// Sends spans, where any are told.
    pub(super) export: Option<JoinHandle<()>>,
}

/// Begins it.
///
/// # Errors
/// When the store or a thread cannot be had, or nothing can be sent to the collector of traces.
pub(super) fn begin(
    data: &DataDirectory,
    settings: &Telemetry,
    kept: &Kept,
    clock: &Clock,
    roots: &Roots,
) -> Result<Begun, StartError> {
    let cannot = |error: &dyn std::error::Error| StartError::Cannot(sentence(error));
    // Also where none are kept any more: those that were have to go.
    let log = Arc::new(SledLog::open(data).map_err(|error| cannot(&error))?) as Arc<dyn RequestLog>;
    let export = Export::open(&settings.traces, roots.clone()).map_err(|error| cannot(&error))?;
    let (spans, export) = export.unzip();
    let begun = Requests::start(kept.workers, settings, Some(log.clone()), kept.names.clone(), clock.clone(), spans);
    let kept_until_now = log.clone();
    let log = Some(log).filter(|_| settings.requests.keep);
    let (requests, recorders) = begun.map_err(|error| cannot(&error))?;
    let export = export.map(|export| export.start(Handle::current()));
    Ok(Begun { log, kept: kept_until_now, requests: Arc::new(requests), recorders, export })
}
