//! `[gateway]` and `[admin]`: where the gateway listens, and what it calls itself.
//!
//! The admin listener stays on this machine unless the file says otherwise in so many words.

use std::net::SocketAddr;
use std::thread::available_parallelism;
use std::time::Duration;

use crate::config::form::{Fault, duration, shown, words};
use crate::config::read::Table;
use crate::config::{Admin, Gateway};

/// Reads `[gateway]`.
pub(super) fn gateway(mut table: Table<'_>) -> Option<Gateway> {
    let name = table.text("name", "Portico", words(64));
    let listen = table.text("listen", "127.0.0.1:9099", address);
    let workers = table.integer("workers", 0, 0..=1024);
    let developer_docs = table.text("developer_docs", "/", link);
    let header_timeout = table.text("header_timeout", "10s", duration(Duration::from_millis(100)..=MINUTES_5));
    let drain_timeout = table.text("drain_timeout", "30s", duration(Duration::ZERO..=Duration::from_secs(3600)));
    let issuer = table.text("issuer", "portico", issuer);
    table.finish();

    let workers = match workers? {
        0 => available_parallelism().map_or(1, usize::from),
        given => usize::try_from(given).ok()?,
    };
    Some(Gateway {
        name: name?,
        listen: listen?,
        workers,
        developer_docs: developer_docs?,
        header_timeout: header_timeout?,
        drain_timeout: drain_timeout?,
        issuer: issuer?,
    })
}

const MINUTES_5: Duration = Duration::from_secs(300);

/// Reads `[admin]`.
pub(super) fn admin(mut table: Table<'_>, gateway: Option<&Gateway>) -> Option<Admin> {
    let listen = table.text("listen", "127.0.0.1:9100", address);
    let allow_remote = table.boolean("allow_remote", false);
    let place = table.place_of("listen");
    let report = table.report();
    table.finish();

    let listen = listen?;
    if !listen.ip().is_loopback() && allow_remote == Some(false) {
        let message = format!(
            "{listen} can be reached from other machines; use 127.0.0.1, or say admin.allow_remote = true if that is meant"
        );
        report.add(&place, message, None);
    }
    if gateway.is_some_and(|gateway| same_socket(gateway.listen, listen)) {
        report.add(
            &place,
            format!("{listen} is taken by gateway.listen already; give the two listeners different ports"),
            None,
        );
    }
    Some(Admin { listen })
}

/// Whether the second of two listeners would find its address in use. Port 0 is a new one each time.
fn same_socket(one: SocketAddr, other: SocketAddr) -> bool {
    let overlap = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && overlap
}

fn address(text: &str) -> Result<SocketAddr, Fault> {
    text.parse().map_err(|_| {
        let port = text.strip_prefix(':').or(text.strip_prefix("localhost:")).unwrap_or(text);
        let meant = port.parse::<u16>().ok().map(|port| format!("127.0.0.1:{port}"));
        let message =
            format!("`{}` is not an address; write an IP address and a port, such as \"127.0.0.1:9099\"", shown(text));
        Fault { message, meant }
    })
}

/// A link that can be given to clients: `http(s)://…`, or a path on the gateway itself.
fn link(text: &str) -> Result<String, Fault> {
    let graphic = text.len() <= 2048 && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\`".contains(&byte));
    let begins = text.starts_with('/')
        || ["http://", "https://"].iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
    (graphic && begins)
        .then(|| text.to_owned())
        .ok_or_else(|| Fault::from("is not a link; write an http:// or https:// URL, or a path from /"))
}

/// A StringOrURI of RFC 7519, section 2: with a colon it must be a URI.
fn issuer(text: &str) -> Result<String, Fault> {
    let graphic = !text.is_empty() && text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_graphic());
    let scheme = text.split_once(':').map(|(scheme, _)| scheme);
    let fits = scheme.is_none_or(|scheme| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    });
    (graphic && fits).then(|| text.to_owned()).ok_or_else(|| {
        Fault::from("is not an issuer; write a URL, or a word without spaces and colons, of at most 256 characters")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_clash_on_the_same_port_of_overlapping_addresses() {
        let clash =
            |one: &str, other: &str| same_socket(one.parse().expect("an address"), other.parse().expect("an address"));
        assert!(clash("127.0.0.1:1", "127.0.0.1:1"));
        assert!(clash("0.0.0.0:1", "127.0.0.1:1"));
        assert!(!clash("127.0.0.1:1", "127.0.0.1:2"));
        assert!(!clash("127.0.0.1:1", "127.0.0.2:1"));
        assert!(!clash("127.0.0.1:0", "127.0.0.1:0"));
    }

    #[test]
    fn addresses_that_are_nearly_right_are_completed() {
        for odd in ["9099", ":9099", "localhost:9099"] {
            assert_eq!(address(odd).expect_err("odd").meant.as_deref(), Some("127.0.0.1:9099"), "{odd}");
        }
        assert_eq!(address("example.org:80").expect_err("a name").meant, None);
    }

    #[test]
    fn issuers_and_links() {
        assert!(issuer("portico").is_ok() && issuer("https://portico.example").is_ok() && issuer("urn:x:y").is_ok());
        assert!(issuer("").is_err() && issuer("a b").is_err() && issuer("1:2").is_err());
        assert!(link("/docs").is_ok() && link("https://docs.example/x").is_ok());
        assert!(link("javascript:alert(1)").is_err() && link("https://").is_err() && link("/\"><script>").is_err());
    }
}
