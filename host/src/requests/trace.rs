//! A request that is under way: what will be told of it when it ends, and the promise that it is told once.
//!
//! Allocates nothing for heads of an ordinary length.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::Request;
use smallvec::SmallVec;

use super::calls::Call;
use super::lane::Recorder;
use super::record::{Fields, Named, Record, minor};
use super::spans::{Asked, Attempt, Journey, nanos};
use crate::body::End;
use crate::clock::Millis;
use crate::head::Context;
use crate::id::RequestId;
use crate::usage::{Caller, Pillar, Route, Usage};

/// The most bytes of a host, a path, a query and a field's value that are told.
const LONGEST: usize = 1024;

/// One request under way. Told when it is finished, or dropped.
pub struct Trace {
    to: Rc<Recorder>,
    request: RequestId,
    at: Millis,
    begun: Instant,
    method: Named,
    minor: u8,
    address: Option<IpAddr>,
    /// Host, path, query and fields, one after the other.
    said: SmallVec<[u8; 192]>,
    host: u16,
    path: u16,
    query: Option<u16>,
    caller: Caller,
    sandbox: bool,
    pillar: Pillar,
    route: Route,
    upstream: Duration,
    policies: Duration,
    /// Where it stands in its trace.
    context: Context,
    /// The last request to an upstream, where spans may be told.
    attempt: Option<Attempt>,
    told: bool,
}

impl Trace {
    /// A request whose head has come, and where that says it stands in a trace. From now on it is decided whether the gateway takes part.
    pub fn begin<B>(
        to: &Rc<Recorder>,
        request: RequestId,
        at: Millis,
        address: IpAddr,
        head: &Request<B>,
        mut context: Context,
    ) -> Self {
        let settings = to.settings();
        to.sampling().into_iter().for_each(|sampling| sampling.join(&mut context, at));
        let mut said = SmallVec::new();
        let mut say = |text: &str| {
            let text = &text[..text.floor_char_boundary(LONGEST)];
            said.extend_from_slice(text.as_bytes());
            text.len() as u16
        };
        let (mut host, mut path, mut query) = (0, 0, None);
        if to.is_kept() || context.joins() {
            let named = head.headers().get(http::header::HOST).and_then(|host| host.to_str().ok());
            host = say(named.unwrap_or_default());
            path = say(head.uri().path());
            query = head.uri().query().filter(|_| settings.query).map(&mut say);
            for name in &settings.headers {
                let Some(value) = head.headers().get(name.as_str()) else { continue };
                let value = &value.as_bytes()[..value.len().min(LONGEST)];
                let mut field = SmallVec::<[u8; 128]>::new();
                field.extend_from_slice(&(name.len() as u16).to_be_bytes());
                field.extend_from_slice(name.as_bytes());
                field.extend_from_slice(&(value.len() as u16).to_be_bytes());
                field.extend_from_slice(value);
                said.extend_from_slice(&field);
            }
        }
        to.began();
        Self {
            to: to.clone(),
            request,
            at,
            begun: Instant::now(),
            method: head.method().into(),
            minor: minor(head.version()),
            address: settings.address(address),
            said,
            host,
            path,
            query,
            caller: Caller::ANONYMOUS,
            sandbox: false,
            pillar: Pillar::NONE,
            route: Route::NONE,
            upstream: Duration::ZERO,
            policies: Duration::ZERO,
            context,
            attempt: None,
            told: false,
        }
    }

    /// Where it stands in its trace.
    pub fn context(&self) -> Context {
        self.context
    }

    /// It has found its pillar: from this caller, whose key is one of the sandbox or not.
    pub fn found(&mut self, (caller, sandbox): (Caller, bool), pillar: Pillar, route: Route) {
        (self.caller, self.sandbox, self.pillar, self.route) = (caller, sandbox, pillar, route);
    }

    /// So long were policies at it.
    pub fn policies(&mut self, took: Duration) {
        self.policies += took;
    }

    /// An upstream answered, or did not.
    pub fn upstream(&mut self, asked: Asked<'_>) {
        self.upstream += asked.took;
        self.to.count_upstream(asked.upstream, asked.took, asked.outcome.err());
        if self.context.joins() {
            self.attempt = Some(asked.into());
        }
    }

    /// It was answered before it found a pillar.
    pub fn answered(mut self, status: u16, denied: Option<&str>, bytes_out: u64) {
        // To a HEAD no body goes out.
        let bytes_out = if self.method == Named::from(&http::Method::HEAD) { 0 } else { bytes_out };
        let usage = Usage { status, denied, bytes_out, ..self.nothing() };
        self.finish(&usage, &[], End::Complete);
    }

    /// It is over, after these calls of policies. What is told a second time is not told.
    pub fn finish(&mut self, usage: &Usage<'_>, calls: &[Call], end: End) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let took = self.begun.elapsed();
        let (host, rest) = self.said.split_at(self.host.into());
        let (path, rest) = rest.split_at(self.path.into());
        let (query, fields) = rest.split_at(self.query.unwrap_or_default().into());
        // Cut where characters end, above.
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
        let record = Record {
            request: self.request.number(),
            at: self.at,
            caller: usage.caller,
            sandbox: self.sandbox,
            trace: Some((self.context.trace, if self.context.joins() { self.context.span } else { 0 })),
            status: usage.status,
            end: self.to.how(end),
            denied: usage.denied,
            method: self.method,
            minor: self.minor,
            bytes_in: usage.bytes_in,
            bytes_out: usage.bytes_out,
            gas: usage.gas,
            units: usage.units,
            fuel: usage.fuel,
            total: took,
            upstream: self.upstream,
            policies: self.policies,
            address: self.address,
            host: text(host),
            path: text(path),
            query: self.query.map(|_| text(query)),
            fields: Fields(fields),
        };
        self.to.ended(&record, usage, calls, took);
        if let Some(sampling) = self.to.sampling()
            && (self.context.is_sampled() || sampling.is_told_after_all(usage, calls, record.end))
        {
            let start = sampling.clock.nanos().saturating_sub(nanos(took));
            let (context, begun, attempt) = (&self.context, self.begun, self.attempt.as_ref());
            self.to.tell(&Journey { context, start, begun, took, calls, attempt }, &record, usage);
        }
    }

    fn nothing(&self) -> Usage<'static> {
        Usage { caller: self.caller, pillar: self.pillar, route: self.route, ..nothing(self.at) }
    }
}

/// What is counted where nothing is known.
pub(super) fn nothing(at: Millis) -> Usage<'static> {
    Usage {
        caller: Caller::ANONYMOUS,
        pillar: Pillar::NONE,
        route: Route::NONE,
        at,
        status: 0,
        denied: None,
        bytes_in: 0,
        bytes_out: 0,
        gas: crate::gas::Gas::ZERO,
        units: 0,
        upstream_us: 0,
        fuel: 0,
        fuel_by_policy: &[],
    }
}

impl Drop for Trace {
    /// The client left before there was an answer.
    fn drop(&mut self) {
        if !self.told {
            let usage = self.nothing();
            self.finish(&usage, &[], End::Left);
        }
    }
}
