//! Scheme, host and port, as they stand in URLs without a path.

use crate::config::form::Fault;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Where requests can be sent (RFC 6454, section 4).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// Over TLS.
    pub tls: bool,
    /// A name in lower case, or an address; one of IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Origin {
    /// `host:port`.
    pub(super) fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

/// What follows the `://` of a URL that has nothing after its port. The usual port where none is given (RFC 9110, section 4.2).
/// The form is how to write it, for whoever did not.
pub(super) fn origin(tls: bool, rest: &str, form: &str) -> Result<Origin, Fault> {
    if rest.contains('@') {
        return Err(Fault::from("holds a user name or password, which would be ignored; remove all up to the @"));
    }
    let usual = if tls { "443" } else { "80" };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        return Err(Fault::from(format!("goes on after the port; a path does not belong here; {form}")));
    }
    let (host, port) = match authority.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':').or(port.is_empty().then_some(usual))),
        None => authority.split_once(':').map_or((authority, Some(usual)), |(host, port)| (host, Some(port))),
    };
    let digits = |port: &&str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.filter(digits).and_then(|port| port.parse::<u16>().ok()).filter(|port| *port > 0);
    let Some(port) = port else {
        return Err(Fault::from(format!("has no port from 1 to 65535; {form}")));
    };
    let v6 = host.parse::<Ipv6Addr>().ok().filter(|_| authority.starts_with('['));
    if v6.is_none() && (authority.starts_with('[') || !is_host(host)) {
        return Err(Fault::from(format!("has no proper host; {form}")));
    }
    let host = v6.map_or_else(|| host.to_ascii_lowercase(), |address| address.to_string());
    Ok(Origin { tls, host, port })
}

/// An IPv4 address, or a name of at most 253 characters in labels of at most 63 (RFC 1123, section 2.1).
pub(super) fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    // What ends in a number is meant as an address, and must be a whole one.
    let numeric = host.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    host.len() <= 253 && host.split('.').all(label) && (!numeric || host.parse::<Ipv4Addr>().is_ok())
}
