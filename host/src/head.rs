//! Heads of requests and responses: checked on the way in, cleaned on the way through.
//!
//! What names a connection never crosses the gateway (RFC 9110, section 7.6.1), and neither does the client's credential
//! or anything under the gateway's own name.

mod context;

pub use context::{Context, SpanId, TraceId};

use crate::path;
use http::header::{self, CONNECTION, HOST, HeaderName};
use http::request::Parts;
use http::{HeaderMap, Method, Version};
use smallvec::SmallVec;
use std::borrow::Cow;

/// The gateway's own fields.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The signed word on who calls.
pub const X_PORTICO_ASSERTION: HeaderName = HeaderName::from_static("x-portico-assertion");
/// What an upstream reports to be charged by.
pub const X_PORTICO_UNITS: HeaderName = HeaderName::from_static("x-portico-units");
/// The address of the client.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// How the client came.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// What the limits of a route are (draft-ietf-httpapi-ratelimit-headers).
pub const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// How they stand.
pub const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// W3C Trace Context.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Fields that belong to one connection, or that only the gateway says.
const NEVER_FORWARDED: [&str; 14] = [
    "authorization",
    "connection",
    "expect",
    "forwarded",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-real-ip",
];

/// The authority of a request, from its target or its one `Host` field (RFC 9112, section 3.2).
///
/// # Errors
/// Why the request is malformed.
pub fn authority(parts: &Parts) -> Result<&str, &'static str> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => return Err("it has more than one Host"),
        (Some(host), None) => host.to_str().map_err(|_| "its Host is not a host")?,
        (None, _) if parts.version < Version::HTTP_11 => "",
        (None, _) => return Err("it has no Host"),
    };
    if !host.is_empty() || parts.version >= Version::HTTP_11 {
        valid_host(host)?;
    }
    match parts.uri.authority() {
        Some(target) if target.as_str().contains('@') => Err("its target has userinfo"),
        Some(target) if !target.as_str().eq_ignore_ascii_case(host) => Err("its target and its Host differ"),
        _ => Ok(host),
    }
}

fn valid_host(host: &str) -> Result<(), &'static str> {
    const WRONG: &str = "its Host is not a host with an optional port";
    let simple = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    if port.is_some_and(|port| !is_port(port)) || name.is_empty() {
        return Err(WRONG);
    }
    if name.bytes().all(simple) {
        return Ok(());
    }
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).ok_or(WRONG)?;
    literal.parse::<std::net::Ipv6Addr>().map(|_| ()).map_err(|_| WRONG)
}

/// The normalised path of a request.
///
/// # Errors
/// Why the request is malformed.
pub fn normalised_path(parts: &Parts) -> Result<Cow<'_, str>, path::PathError> {
    path::normalised(parts.uri.path())
}

/// Removes from a request what must not reach an upstream.
pub fn clean_request(headers: &mut HeaderMap) {
    clean(headers, |name| {
        NEVER_FORWARDED.contains(&name) || name.starts_with("x-portico-") || name.starts_with("x-forwarded-")
    });
}

/// Removes from a response what must not reach a client.
pub fn clean_response(headers: &mut HeaderMap) {
    const NEVER_ANSWERED: [&str; 7] = [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    // A body in chunks has no length but theirs (RFC 9112, section 6.3).
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    clean(headers, |name| NEVER_ANSWERED.contains(&name) || name.starts_with("x-portico-"));
}

/// Removes what was said of the bytes of a body that others have taken the place of: its length, its digests, and what
/// caches know it and its parts by (RFC 9110, sections 8.6, 8.8.3 and 14.3; RFC 9530).
pub fn forget_bytes(headers: &mut HeaderMap) {
    for name in ["content-length", "content-md5", "digest", "content-digest", "repr-digest", "etag", "accept-ranges"] {
        headers.remove(name);
    }
}

fn clean(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let mut gone: SmallVec<[HeaderName; 8]> = SmallVec::new();
    for name in headers.keys() {
        // Most fields of a request can be told by their first letter.
        let name_text = name.as_str();
        if may_be_unwanted(name_text) && (unwanted(name_text) || is_disguised(name_text, &unwanted)) {
            gone.push(name.clone());
        }
    }
    if headers.contains_key(CONNECTION) {
        // As bytes: one odd byte must not carry the names beside it across.
        let named = headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let named = named.map(<[u8]>::trim_ascii);
        // Naming these would take the message's own meaning away; they stay (RFC 9110, 7.6.1).
        let own = |name: &HeaderName| *name == HOST || *name == header::CONTENT_LENGTH || *name == header::CONTENT_TYPE;
        let named: SmallVec<[HeaderName; 4]> =
            named.filter_map(|name| HeaderName::from_bytes(name).ok()).filter(|name| !own(name)).collect();
        gone.extend(named);
    }
    for name in gone {
        headers.remove(name);
    }
}

/// Whether a name becomes an unwanted one where `_` and `-` are taken for the same, as CGI and its heirs do.
fn is_disguised(name: &str, unwanted: &impl Fn(&str) -> bool) -> bool {
    if !name.contains('_') {
        return false;
    }
    let plain = name.replace('_', "-");
    unwanted(&plain) || plain == X_REQUEST_ID.as_str() || plain == TRACEPARENT.as_str()
}

fn may_be_unwanted(name: &str) -> bool {
    matches!(name.as_bytes().first(), Some(b'a' | b'c' | b'e' | b'f' | b'h' | b'k' | b'p' | b't' | b'u' | b'x'))
}

/// Methods that the gateway passes on to nobody.
pub fn is_refused_method(method: &Method) -> bool {
    // CONNECT asks for a tunnel, TRACE for the client's own credential in a body.
    matches!(*method, Method::CONNECT | Method::TRACE)
}

#[cfg(test)]
mod tests;
