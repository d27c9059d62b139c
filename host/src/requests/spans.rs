//! The spans of one request, as a worker writes them down: its own, one for each call of a policy, one for the request to the upstream.
//!
//! Bytes only: what they become is in [`super::telling`]. Nothing of a client is in them but what its record holds.

use std::time::{Duration, Instant};

use bytes::{Buf, BufMut};
use smallvec::SmallVec;

use super::calls::{Call, Phase, Verdict};
use super::record::{Record, put_text, text};
use crate::head::Context;
use crate::usage::Policy;

/// What came of a request to an upstream.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The name of the upstream.
    pub upstream: &'a str,
    /// Where it was asked, `host:port`; empty where nobody knows.
    pub server: &'a str,
    /// When.
    pub begun: Instant,
    /// Until the head of its answer, or the failure.
    pub took: Duration,
    /// The status, or how it failed.
    pub outcome: Result<u16, &'static str>,
}

/// The same, kept until the request ends.
#[derive(Debug)]
pub(super) struct Attempt {
    begun: Instant,
    took: Duration,
    outcome: Result<u16, &'static str>,
    names: SmallVec<[u8; 48]>,
    upstream: usize,
}

impl From<Asked<'_>> for Attempt {
    fn from(asked: Asked<'_>) -> Self {
        let Asked { upstream, server, begun, took, outcome } = asked;
        let mut names = SmallVec::from_slice(upstream.as_bytes());
        names.extend_from_slice(server.as_bytes());
        Self { begun, took, outcome, names, upstream: upstream.len() }
    }
}

/// What is told of a request beside its record.
pub(super) struct Journey<'a> {
    pub(super) context: &'a Context,
    /// Nanoseconds since 1970, at `begun`.
    pub(super) start: u64,
    pub(super) begun: Instant,
    pub(super) took: Duration,
    pub(super) calls: &'a [Call],
    pub(super) attempt: Option<&'a Attempt>,
}

impl Journey<'_> {
    /// How many spans it is.
    pub(super) fn count(&self) -> u64 {
        1 + self.calls.len() as u64 + u64::from(self.attempt.is_some())
    }

    /// Writes it with its record, behind what is there.
    pub(super) fn write(&self, record: &Record<'_>, into: &mut Vec<u8>) {
        let after = |at: Instant| nanos(at.saturating_duration_since(self.begun));
        into.put_u64(self.start);
        into.put_u64(self.context.parent);
        into.put_u8(self.context.flags());
        into.put_u64(nanos(self.took));
        let calls = &self.calls[..self.calls.len().min(usize::from(u16::MAX))];
        into.put_u16(calls.len() as u16);
        for call in calls {
            into.put_u16(call.policy.number());
            into.put_slice(&[call.phase as u8, call.verdict as u8]);
            let numbers = [after(call.begun), after(call.ended), nanos(call.took), call.fuel];
            numbers.into_iter().for_each(|number| into.put_u64(number));
        }
        into.put_u8(u8::from(self.attempt.is_some()));
        if let Some(attempt) = self.attempt {
            into.put_u64(after(attempt.begun));
            into.put_u64(nanos(attempt.took));
            into.put_u16(attempt.outcome.unwrap_or_default());
            put_text(into, attempt.outcome.err().unwrap_or_default());
            let (upstream, server) = attempt.names.split_at(attempt.upstream);
            // Both were texts.
            put_text(into, std::str::from_utf8(upstream).unwrap_or_default());
            put_text(into, std::str::from_utf8(server).unwrap_or_default());
        }
        record.write(into);
    }
}

/// What was written. Times are nanoseconds after its start.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Written<'a> {
    pub(super) start: u64,
    pub(super) parent: u64,
    pub(super) flags: u8,
    pub(super) took: u64,
    pub(super) calls: SmallVec<[WrittenCall; 8]>,
    pub(super) attempt: Option<WrittenAttempt<'a>>,
    pub(super) record: Record<'a>,
}

/// A call of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WrittenCall {
    pub(super) policy: Policy,
    pub(super) phase: Phase,
    pub(super) verdict: Verdict,
    pub(super) begun: u64,
    pub(super) ended: u64,
    pub(super) took: u64,
    pub(super) fuel: u64,
}

/// A request to an upstream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WrittenAttempt<'a> {
    pub(super) begun: u64,
    pub(super) took: u64,
    /// 0 where it failed.
    pub(super) status: u16,
    /// Empty where it did not.
    pub(super) failure: &'a str,
    pub(super) upstream: &'a str,
    /// Empty where that is not known.
    pub(super) server: &'a str,
}

impl<'a> Written<'a> {
    /// Reads one, to the end of these bytes.
    pub(super) fn read(mut from: &'a [u8]) -> Option<Self> {
        let from = &mut from;
        let (start, parent) = (from.try_get_u64().ok()?, from.try_get_u64().ok()?);
        let (flags, took) = (from.try_get_u8().ok()?, from.try_get_u64().ok()?);
        let count = from.try_get_u16().ok()?;
        let calls = (0..count).map(|_| call(from)).collect::<Option<_>>()?;
        let attempt = match from.try_get_u8().ok()? {
            0 => None,
            _ => Some(WrittenAttempt {
                begun: from.try_get_u64().ok()?,
                took: from.try_get_u64().ok()?,
                status: from.try_get_u16().ok()?,
                failure: text(from)?,
                upstream: text(from)?,
                server: text(from)?,
            }),
        };
        Some(Self { start, parent, flags, took, calls, attempt, record: Record::read(from)? })
    }
}

fn call(from: &mut &[u8]) -> Option<WrittenCall> {
    let policy = Policy::numbered(from.try_get_u16().ok()?);
    let phase = *Phase::ALL.get(usize::from(from.try_get_u8().ok()?))?;
    let verdict = *Verdict::ALL.get(usize::from(from.try_get_u8().ok()?))?;
    let mut number = || from.try_get_u64().ok();
    Some(WrittenCall { policy, phase, verdict, begun: number()?, ended: number()?, took: number()?, fuel: number()? })
}

/// Nanoseconds.
pub(super) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;
    use http::HeaderMap;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read_back() {
        for (index, phase) in Phase::ALL.into_iter().enumerate() {
            assert_eq!(phase as usize, index);
        }
        for (index, verdict) in Verdict::ALL.into_iter().enumerate() {
            assert_eq!(verdict as usize, index);
        }
        let (begun, after) = (Instant::now(), Duration::from_nanos);
        let call = |phase, verdict, at| Call {
            policy: Policy::numbered(3),
            phase,
            verdict,
            took: after(5),
            begun: begun + after(at),
            ended: begun + after(at + 7),
            fuel: 9,
        };
        let calls = [call(Phase::Request, Verdict::Next, 10), call(Phase::ResponseBody, Verdict::Failed, 20)];
        let context = Context::of(&HeaderMap::new(), || 5);
        let asked =
            |outcome| Asked { upstream: "u", server: "h:1", begun: begun + after(30), took: after(40), outcome };
        let record = record(1 << 80, "/x");
        for (attempt, status, failure) in
            [(Some(asked(Ok(201))), 201, ""), (Some(asked(Err("broke"))), 0, "broke"), (None, 0, "")]
        {
            let attempt = attempt.map(Attempt::from);
            let journey = Journey {
                context: &context,
                start: 1000,
                begun,
                took: after(99),
                calls: &calls,
                attempt: attempt.as_ref(),
            };
            assert_eq!(journey.count(), 3 + u64::from(attempt.is_some()));
            let mut bytes = Vec::new();
            journey.write(&record, &mut bytes);
            let read = Written::read(&bytes).expect("it was written");
            assert_eq!((read.start, read.parent, read.flags, read.took), (1000, 0, context.flags(), 99));
            assert_eq!(read.record, record);
            let told: Vec<_> =
                read.calls.iter().map(|call| (call.phase, call.verdict, call.begun, call.ended)).collect();
            assert_eq!(told, [(Phase::Request, Verdict::Next, 10, 17), (Phase::ResponseBody, Verdict::Failed, 20, 27)]);
            let told = read.attempt.map(|it| (it.begun, it.took, it.status, it.failure, it.upstream, it.server));
            assert_eq!(told, attempt.map(|_| (30, 40, status, failure, "u", "h:1")));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Written::read(&bytes);
        }
    }
}
