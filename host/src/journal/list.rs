//! What is written in a journal, record by record: for people, and for tests.
//!
//! Reads only, also beside a running gateway; knows nothing of marks, so it shows what was kept long ago, too.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::files::{Disk, Files};
use super::record::Entry;
use super::{Unreadable, segment};
use crate::clock::Millis;
use crate::gas::Gas;
use crate::id::{KeyId, OrgId, RequestId};

/// A record, as it is shown.
#[derive(Debug, Serialize)]
pub struct Listed<'a> {
    /// Number of the worker.
    pub lane: u32,
    /// The start of the gateway.
    pub epoch: u64,
    /// The record's number in it.
    pub sequence: u64,
    /// `open` or `close`.
    pub kind: &'static str,
    /// The request, as in `x-request-id`.
    pub request: RequestId,
    /// The org.
    pub org: Option<OrgId>,
    /// The key.
    pub key: Option<KeyId>,
    /// The pillar.
    pub pillar: &'a str,
    /// The rule.
    pub route: &'a str,
    /// When the call began.
    pub at: Millis,
    /// How it ended.
    #[serde(flatten)]
    pub end: Option<End<'a>>,
}

/// How a call ended, as it is shown.
#[derive(Debug, Serialize)]
pub struct End<'a> {
    /// The status; 0 where the client got none.
    pub status: u16,
    /// The code of the denial.
    pub denied: Option<&'a str>,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// Bytes of the response body.
    pub bytes_out: u64,
    /// What was charged.
    pub gas: Gas,
    /// Units that the upstream reported.
    pub units: u64,
    /// Microseconds until the upstream had begun its answer.
    pub upstream_us: u64,
    /// Units of fuel.
    pub fuel: u64,
    /// The same by policy.
    pub fuel_by_policy: BTreeMap<&'a str, u64>,
}

/// Calls back with each record of a journal, worker by worker, segment by segment.
///
/// # Errors
/// When a part of it cannot be read.
pub fn list(directory: &Path, mut see: impl FnMut(&Listed<'_>)) -> Result<(), Unreadable> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| Unreadable { path, source }
    };
    let files = Disk::of(directory).map_err(unreadable(directory))?;
    let mut lanes: Vec<u32> =
        files.list(directory).map_err(unreadable(directory))?.iter().filter_map(|name| segment::lane(name)).collect();
    lanes.sort_unstable();
    for lane in lanes {
        let place = directory.join(lane.to_string());
        let mut names = files.list(&place).map_err(unreadable(&place))?;
        names.sort_unstable();
        for name in names.iter().filter(|name| segment::number(name).is_some()) {
            let path = place.join(name);
            let bytes = files.read(&path).map_err(unreadable(&path))?;
            segment::scan(&bytes, |entry, _, _| see(&shown(lane, &entry)));
        }
    }
    Ok(())
}

fn shown<'a>(lane: u32, entry: &Entry<'a>) -> Listed<'a> {
    let Entry { epoch, sequence, call, pillar, route, end } = *entry;
    Listed {
        lane,
        epoch,
        sequence,
        kind: if end.is_some() { "close" } else { "open" },
        request: RequestId::from_number(call.request),
        org: call.caller.org.map(OrgId::from_number),
        key: call.caller.key.map(KeyId::from_number),
        pillar,
        route,
        at: call.at,
        end: end.map(|end| End {
            status: end.status,
            denied: end.denied,
            bytes_in: end.bytes_in,
            bytes_out: end.bytes_out,
            gas: end.gas,
            units: end.units,
            upstream_us: end.upstream_us,
            fuel: end.fuel,
            fuel_by_policy: end.burnt.iter().collect(),
        }),
    }
}
