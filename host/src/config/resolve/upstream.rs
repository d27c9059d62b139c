//! `[upstreams.<name>]`: named groups of endpoints.
//!
//! An endpoint is never repeated in a message as it was written: it may hold a password that somebody put there.

use std::sync::Arc;
use std::time::Duration;

use super::origin::origin;
use crate::config::form::{Fault, duration, name};
use crate::config::read::Entry;
use crate::config::value::Value;
use crate::config::{Endpoint, Upstream};

/// Reads one upstream.
pub(super) fn upstream(entry: Entry<'_>) -> Option<Upstream> {
    let Entry { name: group, mut table } = entry;
    let endpoints = match table.value("endpoints", None) {
        Some(value) => value.items(256).and_then(|items| endpoints(&value, &items)),
        None => {
            table.problem("has no endpoints; write for example endpoints = [\"http://127.0.0.1:9201\"]");
            None
        }
    };
    let connect_timeout = table.text("connect_timeout", "2s", duration(MILLI..=Duration::from_secs(60)));
    let response_timeout = table.text("response_timeout", "30s", duration(MILLI..=Duration::from_secs(3600)));
    let idle_timeout = table.text("idle_timeout", "60s", duration(Duration::from_secs(1)..=Duration::from_secs(3600)));
    let connections = table.integer("connections", 1024, 1..=65_536);
    table.finish();
    Some(Upstream {
        name: name(group).ok()?,
        endpoints: endpoints?,
        connect_timeout: connect_timeout?,
        response_timeout: response_timeout?,
        idle_timeout: idle_timeout?,
        connections: usize::try_from(connections?).ok()?,
    })
}

const MILLI: Duration = Duration::from_millis(1);

fn endpoints(list: &Value<'_>, items: &[Value<'_>]) -> Option<Vec<Endpoint>> {
    if items.is_empty() {
        return list.wrong("is empty; name at least one endpoint, such as \"http://127.0.0.1:9201\"");
    }
    let mut found: Vec<Endpoint> = Vec::with_capacity(items.len());
    let mut whole = true;
    for item in items {
        match item.text(endpoint) {
            Some(endpoint) if found.contains(&endpoint) => {
                let _: Option<()> = item.wrong("stands here twice; remove one");
            }
            Some(endpoint) => found.push(endpoint),
            None => whole = false,
        }
    }
    whole.then_some(found)
}

/// `http://host:port`, with nothing after it; port 80 where none is given (RFC 9110, section 4.2.1).
fn endpoint(text: &str) -> Result<Endpoint, Fault> {
    const FORM: &str = "write http://host:port, such as \"http://127.0.0.1:9201\"";
    let origin = match text.split_once("://") {
        Some(("https", _)) => {
            return Err(Fault::from("asks for TLS to the upstream, which is not there yet; use http://"));
        }
        Some(("http", rest)) => origin(false, rest, FORM)?,
        Some(_) => return Err(Fault::from(format!("has another scheme than http://; {FORM}"))),
        None => return Err(Fault::from(format!("does not begin with http://; {FORM}"))),
    };
    let authority = Arc::from(origin.authority());
    Ok(Endpoint { authority, host: origin.host, port: origin.port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (String, String, u16) {
        let it = endpoint(text).expect("an endpoint");
        (it.authority.to_string(), it.host, it.port)
    }

    #[test]
    fn endpoints_are_hosts_with_ports() {
        assert_eq!(parts("http://127.0.0.1:9201"), ("127.0.0.1:9201".into(), "127.0.0.1".into(), 9201));
        assert_eq!(parts("http://Rooms.internal/"), ("rooms.internal:80".into(), "rooms.internal".into(), 80));
        assert_eq!(parts("http://[::1]:8080"), ("[::1]:8080".into(), "::1".into(), 8080));
        assert_eq!(parts("http://[::1]"), ("[::1]:80".into(), "::1".into(), 80));
    }

    #[test]
    fn other_urls_are_refused() {
        let odd = [
            "",
            "127.0.0.1:1",
            "http://",
            "http://:1",
            "http://a:",
            "http://a:0",
            "http://a:65536",
            "http://a:+1",
            "http://a:1/x",
            "http://a:1?x",
            "ftp://a",
            "http://a b",
            "http://::1:80",
            "http://[::1",
            "http://[x]:1",
            "http://[::1]x",
            "http://1.2.3:1",
            "http://256.1.1.1",
            "http://-a",
            "http://a..b",
            "http://ä",
        ];
        for text in odd {
            assert!(endpoint(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_is_not_repeated() {
        let fault = endpoint("http://ops:hunter2@rooms:80").expect_err("refused");
        assert!(!fault.message.contains("hunter2"), "{}", fault.message);
    }
}
