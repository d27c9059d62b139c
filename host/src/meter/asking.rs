//! An upstream that is being asked: told when it is over, and also where the client does not wait for that.

use super::Meter;
use std::time::Instant;

/// The kind of failure of an upstream for which the client did not wait.
pub const ABANDONED: &str = "abandoned";

/// Told when it is dropped.
pub struct Asking<'a> {
    meter: &'a mut Meter,
    upstream: &'a str,
    begun: Instant,
    failure: Option<&'static str>,
}

impl Meter {
    /// This upstream is asked from now on.
    pub fn ask<'a>(&'a mut self, upstream: &'a str) -> Asking<'a> {
        Asking { meter: self, upstream, begun: Instant::now(), failure: Some(ABANDONED) }
    }
}

impl Asking<'_> {
    /// It answered, or failed in this way.
    pub fn over(mut self, failure: Option<&'static str>) {
        self.failure = failure;
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.meter.asked(self.upstream, self.begun.elapsed(), self.failure);
    }
}
