//! Begins what is told of finished requests: the request log, and a place for each worker's records.

use super::{Kept, StartError, sentence};
use crate::clock::Clock;
use crate::config::Telemetry;
use crate::data::{DataDirectory, Failure};
use crate::outbound::Roots;
use crate::requests::{Export, Recorder, RequestLog, Requests, SegmentLog};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// The tree of the database in which the request log was once.
const FORMER: &str = "requests";

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
/// When the database or a thread cannot be had, or nothing can be sent to the collector of traces.
pub(super) fn begin(
    data: &DataDirectory,
    settings: &Telemetry,
    kept: &Kept,
    clock: &Clock,
    roots: &Roots,
) -> Result<Begun, StartError> {
    let cannot = |error: &dyn std::error::Error| StartError::Cannot(sentence(error));
    drop_former(data).map_err(|error| cannot(&error))?;
    // Also where none are kept any more: those that were have to go.
    let log = Arc::new(SegmentLog::open(data, &settings.requests)) as Arc<dyn RequestLog>;
    let export = Export::open(&settings.traces, roots.clone()).map_err(|error| cannot(&error))?;
    let (spans, export) = export.unzip();
    let begun = Requests::start(kept.workers, settings, Some(log.clone()), kept.names.clone(), clock.clone(), spans);
    let kept_until_now = log.clone();
    let log = Some(log).filter(|_| settings.requests.keep);
    let (requests, recorders) = begun.map_err(|error| cannot(&error))?;
    let export = export.map(|export| export.start(Handle::current()));
    Ok(Begun { log, kept: kept_until_now, requests: Arc::new(requests), recorders, export })
}

/// Removes the request log of an earlier version, which lay in the database; whether there was one.
fn drop_former(data: &DataDirectory) -> Result<bool, Failure> {
    let was_there = data.database().drop_tree(FORMER)?;
    if was_there {
        tracing::warn!(
            "the request log of an earlier version was removed: it lies in files of its own now, and begins anew"
        );
    }
    Ok(was_there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_of_an_earlier_version_goes_once_and_nothing_else_with_it() {
        let place = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(place.path()).unwrap();
        for name in [FORMER, "usage"] {
            data.database().tree(name).unwrap().insert("key", "value").unwrap();
        }
        let names = || data.database().names();
        assert!(names().contains(&FORMER.into()));
        assert_eq!([(); 2].map(|()| drop_former(&data).unwrap()), [true, false]);
        assert!(!names().contains(&FORMER.into()));
        assert_eq!(data.database().tree("usage").unwrap().len(), 1);
    }
}
