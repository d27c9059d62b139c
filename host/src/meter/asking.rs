//! An upstream that is being asked: told when it is over, and also where the client does not wait for that.

use super::Meter;
use crate::requests::Asked;
use crate::upstream::Upstream;
use http::StatusCode;
use std::time::Instant;

/// The kind of failure of an upstream for which the client did not wait.
pub const ABANDONED: &str = "abandoned";

/// Told when it is dropped.
pub struct Asking<'a> {
    meter: &'a mut Meter,
    upstream: &'a Upstream,
    server: &'a str,
    begun: Instant,
    outcome: Result<u16, &'static str>,
}

impl Meter {
    /// This upstream is asked from now on.
    pub fn ask<'a>(&'a mut self, upstream: &'a Upstream) -> Asking<'a> {
        // Which of several it was is known once it has answered.
        let server = match upstream.endpoints.as_slice() {
            [only] => &*only.authority,
            _ => "",
        };
        Asking { meter: self, upstream, server, begun: Instant::now(), outcome: Err(ABANDONED) }
    }
}

impl<'a> Asking<'a> {
    /// It answered with this status, there.
    pub fn answered(mut self, status: StatusCode, server: &'a str) {
        (self.outcome, self.server) = (Ok(status.as_u16()), server);
    }

    /// It failed in this way.
    pub fn failed(mut self, code: &'static str) {
        self.outcome = Err(code);
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let Self { upstream, server, begun, outcome, .. } = *self;
        let took = begun.elapsed();
        self.meter.asked(Asked { upstream: &upstream.name, server, begun, took, outcome });
    }
}
