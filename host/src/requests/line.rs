//! The access line: one finished request as one line of JSON, with OpenTelemetry's names for HTTP where there are some.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use super::log::Entry;
use super::record::Record;
use crate::body::End;
use crate::clock::Millis;
use crate::gas::Gas;
use crate::head::{SpanId, TraceId};
use crate::id::{KeyId, OrgId, RequestId};

#[derive(Serialize)]
struct Line<'a> {
    timestamp: Millis,
    #[serde(rename = "http.request.method")]
    method: &'static str,
    #[serde(rename = "url.scheme")]
    scheme: &'static str,
    #[serde(rename = "url.path")]
    path: &'a str,
    #[serde(rename = "url.query", skip_serializing_if = "Option::is_none")]
    query: Option<&'a str>,
    #[serde(rename = "http.route", skip_serializing_if = "Option::is_none")]
    template: Option<&'a str>,
    #[serde(rename = "http.response.status_code", skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(rename = "error.type", skip_serializing_if = "Option::is_none")]
    error: Option<Cow<'a, str>>,
    #[serde(rename = "network.protocol.name")]
    protocol: &'static str,
    #[serde(rename = "network.protocol.version")]
    version: &'static str,
    #[serde(rename = "server.address")]
    host: &'a str,
    #[serde(rename = "server.port", skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(rename = "client.address", skip_serializing_if = "Option::is_none")]
    client: Option<IpAddr>,
    #[serde(rename = "http.request.body.size")]
    bytes_in: u64,
    #[serde(rename = "http.response.body.size")]
    bytes_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    span_id: Option<String>,
    #[serde(rename = "portico.request_id")]
    request: RequestId,
    #[serde(rename = "portico.org_id", skip_serializing_if = "Option::is_none")]
    org: Option<OrgId>,
    #[serde(rename = "portico.key_id", skip_serializing_if = "Option::is_none")]
    key: Option<KeyId>,
    #[serde(rename = "portico.mode", skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    #[serde(rename = "portico.pillar", skip_serializing_if = "str::is_empty")]
    pillar: &'a str,
    #[serde(rename = "portico.route", skip_serializing_if = "str::is_empty")]
    route: &'a str,
    #[serde(rename = "portico.ended")]
    ended: &'static str,
    #[serde(rename = "portico.duration_us")]
    total: u64,
    #[serde(rename = "portico.upstream_us")]
    upstream: u64,
    #[serde(rename = "portico.policies_us")]
    policies: u64,
    #[serde(rename = "portico.fuel")]
    fuel: u64,
    #[serde(rename = "portico.gas")]
    gas: Gas,
    #[serde(flatten)]
    fields: BTreeMap<String, [Cow<'a, str>; 1]>,
}

/// How an answer ended, in a word.
pub fn ended(end: End) -> &'static str {
    match end {
        End::Complete => "complete",
        End::Broken => "broken",
        End::Left => "left",
        End::Cut => "cut",
    }
}

/// Microseconds.
pub fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// Host and port, as a client wrote them.
pub(super) fn host(written: &str) -> (&str, Option<u16>) {
    let (host, port) = match written.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
        _ => (written, None),
    };
    // Brackets belong to the written form of a host, not to the address.
    (host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host), port)
}

/// What went wrong, in a word; none where nothing did.
pub(super) fn error<'a>(record: &Record<'a>) -> Option<Cow<'a, str>> {
    record.denied.map(Cow::Borrowed).or_else(|| match record.status {
        0 => Some("no_answer".into()),
        failed @ 500.. => Some(failed.to_string().into()),
        _ => Some(ended(record.end).into()).filter(|_| matches!(record.end, End::Broken | End::Cut)),
    })
}

/// Writes one line, its end included.
pub(super) fn write(entry: &Entry<'_>, template: Option<&str>, into: &mut Vec<u8>) {
    let record = &entry.record;
    let (host, port) = host(record.host);
    let status = Some(record.status).filter(|status| *status != 0);
    let error = error(record);
    let field = |(name, value)| (format!("http.request.header.{name}"), [String::from_utf8_lossy(value)]);
    let line = Line {
        timestamp: record.at,
        method: record.method.name(),
        scheme: "http",
        path: record.path,
        query: record.query,
        template,
        status,
        error,
        protocol: "http",
        version: if record.minor == 0 { "1.0" } else { "1.1" },
        host,
        port,
        client: record.address,
        bytes_in: record.bytes_in,
        bytes_out: record.bytes_out,
        trace_id: record.trace.map(|(trace, _)| TraceId(trace).to_string()),
        span_id: record.trace.filter(|(_, span)| *span != 0).map(|(_, span)| SpanId(span).to_string()),
        request: RequestId::from_number(record.request),
        org: record.caller.org.map(OrgId::from_number),
        key: record.caller.key.map(KeyId::from_number),
        mode: record.caller.key.map(|_| if record.sandbox { "sandbox" } else { "live" }),
        pillar: entry.pillar,
        route: entry.route,
        ended: ended(record.end),
        total: micros(record.total),
        upstream: micros(record.upstream),
        policies: micros(record.policies),
        fuel: record.fuel,
        gas: record.gas,
        fields: record.fields.iter().map(field).collect(),
    };
    // Into memory, and of texts and numbers alone: nothing of it can fail.
    if serde_json::to_writer(&mut *into, &line).is_ok() {
        into.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Fields;
    use super::super::record::tests::record;
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_line_is_one_line_with_the_names_of_opentelemetry() {
        let mut fields = Vec::new();
        Fields::write(&mut fields, "user-agent", b"a\"\n\xff");
        let address = Some([203, 0, 113, 7].into());
        let whole = Record { host: "[::1]:9099", address, fields: Fields(&fields), ..record(1 << 80, "/v1/a b\n") };
        let mut bytes = Vec::new();
        let entry = Entry { pillar: "connect", route: "rooms", record: whole.clone() };
        write(&entry, Some("/v1/{id}"), &mut bytes);
        let refused = Record { status: 0, denied: Some("by_policy"), end: End::Left, host: "a", ..whole.clone() };
        let refused = Record { trace: Some((9, 0)), ..refused };
        write(&Entry { pillar: "", route: "", record: refused }, None, &mut bytes);
        let broken = Record { end: End::Broken, host: "[::1]", ..whole };
        write(&Entry { pillar: "", route: "", record: broken }, None, &mut bytes);
        let lines: Vec<Value> = String::from_utf8(bytes).unwrap().lines().map(|line| line.parse().unwrap()).collect();
        let [one, other, broken] = lines.as_slice() else { panic!("{lines:?}") };
        for (name, value) in [
            ("timestamp", json!("1970-01-01T00:00:00.001Z")),
            ("http.request.method", json!("GET")),
            ("url.path", json!("/v1/a b\n")),
            ("http.route", json!("/v1/{id}")),
            ("http.response.status_code", json!(200)),
            ("server.address", json!("::1")),
            ("server.port", json!(9099)),
            ("client.address", json!("203.0.113.7")),
            ("http.request.header.user-agent", json!(["a\"\n\u{fffd}"])),
            ("trace_id", json!("00000000000000000000000000000009")),
            ("span_id", json!("000000000000000a")),
            ("portico.gas", json!("0.000003")),
            ("portico.ended", json!("complete")),
            ("error.type", Value::Null),
        ] {
            assert_eq!(one[name], value, "{name}");
        }
        assert_eq!((&other["error.type"], &other["portico.ended"]), (&json!("by_policy"), &json!("left")));
        assert!(other["trace_id"] == one["trace_id"] && other["span_id"].is_null(), "no span of ours is told");
        assert_eq!((&broken["error.type"], &broken["portico.ended"]), (&json!("broken"), &json!("broken")));
        assert_eq!((&broken["server.address"], &broken["server.port"]), (&json!("::1"), &Value::Null));
        assert_eq!((&other["http.response.status_code"], &other["portico.pillar"]), (&Value::Null, &Value::Null));
    }
}
