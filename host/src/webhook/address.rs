//! Where a receiver is, and whether messages may go there as far as its address alone tells.
//!
//! Looks up no name: what a name leads to is checked when a message is sent, each time.

use std::net::IpAddr;
use std::time::Duration;

use super::LONGEST_URL;
use crate::address::is_public;
use crate::config::{OutboundGrant, Webhooks};
use crate::outbound::origin_of;

/// The most bytes of an answer that are read.
const LARGEST_ANSWER: usize = 64 << 10;

/// Why no message goes to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nothing that could be asked.
    #[error(
        "This is no URL that can be sent to; write for example https://hooks.example.com/portico, of at most 2048 bytes, without a user name and without `#`."
    )]
    Form,
    /// In the clear.
    #[error("Messages go over TLS only; write an https URL, or have the operator open this host for http.")]
    InTheClear,
    /// Not on the public Internet.
    #[error("This address is not on the public Internet, and the operator has not opened it.")]
    Private,
}

/// Checks the address of a receiver.
///
/// # Errors
/// Why no message would go there.
pub fn check(url: &str, settings: &Webhooks) -> Result<(), Refused> {
    grant(url, settings).map(drop)
}

/// What a message to this address needs: leave to send to this origin, and to no other.
pub(super) fn grant(url: &str, settings: &Webhooks) -> Result<OutboundGrant, Refused> {
    let (tls, host, port) =
        Some(url).filter(|url| url.len() <= LONGEST_URL).and_then(origin_of).ok_or(Refused::Form)?;
    let private = settings.opens(&host);
    if !private {
        let address: Option<IpAddr> = host.parse().ok();
        let local = host == "localhost" || host.ends_with(".localhost");
        if local || address.is_some_and(|address| !is_public(address)) {
            return Err(Refused::Private);
        }
        if !tls {
            return Err(Refused::InTheClear);
        }
    }
    Ok(OutboundGrant {
        tls,
        host,
        port,
        methods: vec!["POST".to_owned()],
        paths: vec!["/*".to_owned()],
        calls: 1,
        response: LARGEST_ANSWER,
        timeout: settings.timeout.max(Duration::from_millis(1)),
        private,
    })
}

/// An address as it may stand in the audit log: where it is, and nothing of its path and query. For many receivers these are the
/// secret by which they know who may write to them.
pub(super) fn shown(url: &str) -> String {
    let Some((tls, host, port)) = origin_of(url) else { return "…".to_owned() };
    let (scheme, usual) = if tls { ("https", 443) } else { ("http", 80) };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    if port == usual { format!("{scheme}://{host}") } else { format!("{scheme}://{host}:{port}") }
}
