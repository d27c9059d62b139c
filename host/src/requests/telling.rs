//! From what workers wrote down to spans as OpenTelemetry has them: names, attributes, times.
//!
//! On the thread that takes records out of the workers' places. Texts of a client lose here what looks like a secret.

use std::sync::Arc;

use super::export::Inlet;
use super::lane::frames;
use super::otlp::{self, Span, Status, attribute};
use super::record::Record;
use super::spans::{Written, WrittenAttempt, WrittenCall};
use super::{line, redact};
use crate::body::End;
use crate::head::Context;
use crate::id::{KeyId, OrgId, RequestId};
use crate::usage::{Names, Pillar, Route};

/// Puts spans on their way.
#[derive(Debug)]
pub(super) struct Teller {
    names: Arc<Names>,
    to: Inlet,
}

impl Teller {
    pub(super) fn new(names: Arc<Names>, to: Inlet) -> Self {
        Self { names, to }
    }

    /// All spans of what a place held.
    pub(super) fn tell(&self, held: &[u8]) {
        for (pillar, route, bytes) in frames(held) {
            let Some(written) = Written::read(bytes) else { continue };
            // Too late for it: spares the work.
            if self.to.is_full() {
                self.to.dropped(1 + written.calls.len() as u64 + u64::from(written.attempt.is_some()));
                continue;
            }
            spans(&self.names, pillar, route, &written).into_iter().for_each(|span| self.to.put(span));
        }
    }
}

/// The spans of one request; its own first.
fn spans(names: &Names, pillar: Pillar, route: Route, written: &Written<'_>) -> Vec<Span> {
    let Some((trace, span)) = written.record.trace else { return Vec::new() };
    let context = Context::told(trace, written.parent, span, written.flags);
    let mut all = vec![server(names, pillar, route, written, &context)];
    let policy = |(number, call): (usize, &WrittenCall)| policy(names, written, &context, number as u64 + 1, call);
    all.extend(written.calls.iter().enumerate().map(policy));
    all.extend(written.attempt.as_ref().map(|attempt| client(written, &context, attempt)));
    all
}

fn server(names: &Names, pillar: Pillar, route: Route, written: &Written<'_>, context: &Context) -> Span {
    let record = &written.record;
    let template = names.template(pillar, route);
    let method = record.method.name();
    let shown = span_method(method);
    let (host, path) = (redact::text(record.host), redact::text(record.path));
    let (host, port) = line::host(&host);
    let mut attributes = vec![
        attribute("http.request.method", method),
        attribute("url.scheme", "http"),
        attribute("url.path", &*path),
        attribute("network.protocol.name", "http"),
        attribute("network.protocol.version", if record.minor == 0 { "1.0" } else { "1.1" }),
    ];
    let mut more = |key: &str, value: Option<otlp::Value>| {
        attributes.extend(value.map(|value| attribute(key, value)));
    };
    more("url.query", record.query.map(|query| redact::query(query).into()));
    more("http.route", template.as_deref().map(Into::into));
    more("server.address", Some(host).filter(|host| !host.is_empty()).map(Into::into));
    more("server.port", port.map(|port| u64::from(port).into()));
    more("client.address", record.address.map(|address| address.to_string().into()));
    more("http.response.status_code", Some(record.status).filter(|it| *it != 0).map(|it| u64::from(it).into()));
    more("error.type", line::error(record).map(|error| error.into_owned().into()));
    more("portico.denied", record.denied.map(Into::into));
    more("portico.request_id", Some(RequestId::from_number(record.request).to_string().into()));
    more("portico.org_id", record.caller.org.map(|org| OrgId::from_number(org).to_string().into()));
    more("portico.key_id", record.caller.key.map(|key| KeyId::from_number(key).to_string().into()));
    more("portico.mode", record.caller.key.map(|_| if record.sandbox { "sandbox" } else { "live" }.into()));
    if pillar != Pillar::NONE {
        let (pillar, route) = names.find(pillar, route);
        more("portico.pillar", Some((&*pillar).into()));
        more("portico.route", Some((&*route).into()));
    }
    more("portico.ended", Some(line::ended(record.end).into()));
    more("portico.fuel", Some(record.fuel.into()));
    more("portico.gas", Some(record.gas.to_string().into()));
    let remote = if written.parent == 0 { 0 } else { otlp::REMOTE_IS_KNOWN | otlp::REMOTE };
    Span {
        parent_span_id: id(written.parent),
        flags: u32::from(written.flags) | remote,
        name: template.map_or_else(|| shown.to_owned(), |template| format!("{shown} {template}")),
        kind: otlp::SERVER,
        attributes,
        status: error(did_fail(record)),
        ..timed(written, context, context.span, (0, written.took))
    }
}

fn policy(names: &Names, written: &Written<'_>, context: &Context, number: u64, call: &WrittenCall) -> Span {
    let name = names.policy_name(call.policy);
    let (phase, verdict) = (call.phase.name(), call.verdict.name());
    let did_fail = call.verdict == super::Verdict::Failed;
    let mut attributes = vec![
        attribute("portico.policy", &*name),
        attribute("portico.phase", phase),
        attribute("portico.verdict", verdict),
        attribute("portico.fuel", call.fuel),
        attribute("portico.policy_us", call.took / 1000),
    ];
    attributes.extend(did_fail.then(|| attribute("error.type", verdict)));
    let name = format!("policy {name} {phase}");
    let status = error(did_fail);
    below(
        Span {
            name,
            kind: otlp::INTERNAL,
            attributes,
            status,
            ..timed(written, context, context.below(number), (call.begun, call.ended))
        },
        context,
    )
}

fn client(written: &Written<'_>, context: &Context, attempt: &WrittenAttempt<'_>) -> Span {
    let method = written.record.method.name();
    let mut attributes = vec![
        attribute("http.request.method", method),
        attribute("network.protocol.name", "http"),
        attribute("network.protocol.version", "1.1"),
        attribute("portico.upstream", attempt.upstream),
    ];
    let (host, port) = line::host(attempt.server);
    let known = [
        (!host.is_empty()).then(|| attribute("server.address", host)),
        port.map(|port| attribute("server.port", u64::from(port))),
        (attempt.status != 0).then(|| attribute("http.response.status_code", u64::from(attempt.status))),
    ];
    attributes.extend(known.into_iter().flatten());
    let failure = match (attempt.failure, attempt.status) {
        ("", status @ 400..) => Some(status.to_string()),
        ("", _) => None,
        (failure, _) => Some(failure.to_owned()),
    };
    let status = error(failure.is_some());
    attributes.extend(failure.map(|failure| attribute("error.type", failure)));
    let ended = attempt.begun.saturating_add(attempt.took);
    let timed = timed(written, context, context.below(0), (attempt.begun, ended));
    below(Span { name: span_method(method).to_owned(), kind: otlp::CLIENT, attributes, status, ..timed }, context)
}

/// A span of the trace, with its id and its times.
fn timed(written: &Written<'_>, context: &Context, span: u64, (begun, ended): (u64, u64)) -> Span {
    Span {
        trace_id: context.trace.to_be_bytes().to_vec(),
        span_id: id(span),
        flags: u32::from(written.flags) | otlp::REMOTE_IS_KNOWN,
        start_time_unix_nano: written.start.saturating_add(begun),
        end_time_unix_nano: written.start.saturating_add(ended),
        ..Span::default()
    }
}

/// Below the request's own.
fn below(span: Span, context: &Context) -> Span {
    Span { parent_span_id: id(context.span), ..span }
}

fn id(span: u64) -> Vec<u8> {
    if span == 0 { Vec::new() } else { span.to_be_bytes().to_vec() }
}

/// A method in the name of a span, as OpenTelemetry's conventions for HTTP have it.
fn span_method(method: &'static str) -> &'static str {
    if method == "_OTHER" { "HTTP" } else { method }
}

/// Whether it is an error of a server: what a client did wrong is none.
fn did_fail(record: &Record<'_>) -> bool {
    record.status >= 500 || matches!(record.end, End::Broken | End::Cut)
}

fn error(is: bool) -> Option<Status> {
    is.then_some(Status { code: otlp::ERROR })
}

#[cfg(test)]
mod tests;
