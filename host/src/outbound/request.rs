//! A policy's request, held against its grants: what leaves is what was compared.
//!
//! Refuses, and repairs nothing: a field that was silently dropped would leave an author believing that it was sent.

use super::{Call, Error, Ungranted};
use crate::config::OutboundGrant;
use crate::path;
use bytes::Bytes;
use http::header::{HOST, HeaderName};
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{HeaderMap, HeaderValue, Method};
use std::net::Ipv6Addr;

/// The longest URL, in bytes.
pub const LONGEST_URL: usize = 8192;
/// The most fields of a request.
pub const MOST_FIELDS: usize = 64;
/// The most bytes of all names and values of a request's fields.
pub const MOST_FIELD_BYTES: usize = 16 << 10;
/// The most bytes of a request's body.
pub const LARGEST_BODY: usize = 1 << 20;

/// Fields that name a connection or frame a message, and so are not a policy's to set.
const NOT_ITS_OWN: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Requests that one call of a policy has sent, by the position of the grant. Always to be used with the same grants.
#[derive(Debug, Default)]
pub struct Spent {
    calls: Vec<u32>,
}

impl Spent {
    /// Counts one more under a grant, if it has one left.
    fn take(&mut self, position: usize, most: u32) -> bool {
        if self.calls.len() <= position {
            self.calls.resize(position + 1, 0);
        }
        let left = self.calls[position] < most;
        self.calls[position] += u32::from(left);
        left
    }
}

/// A request as it leaves; its target has path and query alone.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) target: PathAndQuery,
    pub(super) fields: HeaderMap,
    pub(super) body: Bytes,
}

/// The first grant that covers a call and has requests left, and the call as it leaves.
pub(super) fn granted<'g>(
    grants: &'g [OutboundGrant],
    spent: &mut Spent,
    call: Call,
) -> Result<(&'g OutboundGrant, Request), Error> {
    if call.body.len() > LARGEST_BODY {
        return Err(Ungranted::Size.into());
    }
    let url = Url::read(&call.url).ok_or(Ungranted::Url)?;
    let fields = fields(call.fields)?;
    let (grant, method) = choose(grants, spent, &url, &call.method)?;
    let request = Request { method, target: url.target, fields, body: call.body.into() };
    Ok((grant, with_host(request, grant)?))
}

fn choose<'g>(
    grants: &'g [OutboundGrant],
    spent: &mut Spent,
    url: &Url,
    method: &str,
) -> Result<(&'g OutboundGrant, Method), Error> {
    // How near the nearest grant came is what an operator wants to read.
    let mut error = Error::from(Ungranted::Origin);
    for (position, grant) in grants.iter().enumerate() {
        if (grant.tls, grant.host.as_str(), grant.port) != (url.tls, url.host.as_str(), url.port) {
            continue;
        }
        if !grant.methods.iter().any(|granted| granted == method) {
            if error == Ungranted::Origin.into() {
                error = Ungranted::Method.into();
            }
            continue;
        }
        if !grant.paths.iter().any(|granted| covers(granted, url.target.path())) {
            if error != Error::BudgetExceeded {
                error = Ungranted::Path.into();
            }
            continue;
        }
        if spent.take(position, grant.calls) {
            let method = Method::from_bytes(method.as_bytes()).map_err(|_| Ungranted::Method)?;
            return Ok((grant, method));
        }
        error = Error::BudgetExceeded;
    }
    Err(error)
}

/// Whether a granted path is the asked one, or ends with `/*` and the asked one lies below it.
fn covers(granted: &str, asked: &str) -> bool {
    match granted.strip_suffix("/*") {
        Some(above) => asked.strip_prefix(above).is_some_and(|below| below.starts_with('/')),
        None => granted == asked,
    }
}

/// What a URL says, in the one spelling in which it is compared and sent.
struct Url {
    tls: bool,
    /// A name in lower case without a dot at its end, or an address; one of IPv6 without brackets.
    host: String,
    port: u16,
    target: PathAndQuery,
}

impl Url {
    /// `None` for what is no absolute URL, or could be read differently by somebody else.
    fn read(text: &str) -> Option<Self> {
        // A fragment or a space would be cut off or escaped by some; a backslash is a slash to browsers.
        let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'\\');
        if text.len() > LONGEST_URL || !text.bytes().all(plain) {
            return None;
        }
        let uri: Uri = text.parse().ok()?;
        let tls = match uri.scheme()? {
            scheme if *scheme == Scheme::HTTPS => true,
            scheme if *scheme == Scheme::HTTP => false,
            _ => return None,
        };
        // Neither user names nor an empty one: what stands before an @ is taken for the host by some.
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        let port = match authority.as_str().strip_prefix(authority.host())? {
            "" if tls => 443,
            "" => 80,
            port => port_of(port.strip_prefix(':')?)?,
        };
        let host = host_of(authority.host())?;
        let path = path::normalised(uri.path()).ok()?;
        // Some servers take what follows a semicolon out of a segment first, and resolve dots then.
        if path.split('/').any(|segment| matches!(segment.split(';').next(), Some("." | ".."))) {
            return None;
        }
        let target = match uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.into_owned(),
        };
        Some(Self { tls, host, port, target: target.parse().ok()? })
    }
}

/// Over TLS or not, host and port of a URL, as a request to it is compared with its grant; `None` for what is refused as a URL.
pub fn origin_of(url: &str) -> Option<(bool, String, u16)> {
    let Url { tls, host, port, .. } = Url::read(url)?;
    Some((tls, host, port))
}

fn port_of(digits: &str) -> Option<u16> {
    let proper = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|port| proper && *port > 0)
}

fn host_of(host: &str) -> Option<String> {
    if let Some(literal) = host.strip_prefix('[') {
        let address: Ipv6Addr = literal.strip_suffix(']')?.parse().ok()?;
        return Some(address.to_string());
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    (!name.is_empty()).then(|| name.to_ascii_lowercase())
}

fn fields(given: Vec<(String, Vec<u8>)>) -> Result<HeaderMap, Ungranted> {
    let bytes: usize = given.iter().map(|(name, value)| name.len().saturating_add(value.len())).sum();
    if given.len() > MOST_FIELDS || bytes > MOST_FIELD_BYTES {
        return Err(Ungranted::Size);
    }
    let mut fields = HeaderMap::with_capacity(given.len() + 1);
    for (name, value) in given {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Ungranted::Field)?;
        let value = HeaderValue::from_bytes(&value).map_err(|_| Ungranted::Field)?;
        if !is_its_own(name.as_str()) {
            return Err(Ungranted::Field);
        }
        fields.try_append(name, value).map_err(|_| Ungranted::Size)?;
    }
    Ok(fields)
}

/// Whether a policy may set a field; `_` counts as `-`, as CGI and its heirs take it.
fn is_its_own(name: &str) -> bool {
    let plain = name.replace('_', "-");
    !(NOT_ITS_OWN.contains(&plain.as_str()) || plain.starts_with("proxy-") || plain.starts_with("x-portico-"))
}

/// Sets the one `Host`, from the grant (RFC 9110, section 7.2).
fn with_host(mut request: Request, grant: &OutboundGrant) -> Result<Request, Ungranted> {
    let OutboundGrant { host, port, tls, .. } = grant;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let usual = if *tls { 443 } else { 80 };
    let authority = if *port == usual { host } else { format!("{host}:{port}") };
    let value = HeaderValue::try_from(authority).map_err(|_| Ungranted::Origin)?;
    request.fields.insert(HOST, value);
    Ok(request)
}

#[cfg(test)]
mod tests;
