//! `[telemetry]`: what is told of each finished request, but for its traces.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use crate::config::form::{Fault, duration, shown, size};
use crate::config::read::Table;
use crate::config::{Access, AddressShown, RequestLog, Telemetry, names_secret};

/// How long a record may stay.
const RETENTION: RangeInclusive<Duration> = Duration::from_secs(3600)..=Duration::from_secs(400 * 86_400);
/// Bytes of records.
const SIZE: RangeInclusive<u64> = 1 << 20..=1 << 40;
/// Request fields that a record may have.
const MOST_HEADERS: usize = 8;
/// Fields that hold credentials, whatever their names say.
const NEVER: [&str; 2] = ["cookie", "set-cookie"];
/// Fields that hold addresses of clients.
const ADDRESSES: [&str; 9] = [
    "x-forwarded-for",
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
];

/// Reads `[telemetry]`.
pub(super) fn telemetry(mut table: Table<'_>, base: &Path) -> Option<Telemetry> {
    let shown = [("off", AddressShown::Off), ("network", AddressShown::Network), ("full", AddressShown::Full)];
    let address = table.choice("address", "off", &shown);
    let query = table.boolean("query", false);
    let headers = table.list("headers", MOST_HEADERS).and_then(|items| {
        // Where the address is wrong, it is said of that alone.
        let tells_addresses = address.is_none_or(|address| address == AddressShown::Full);
        let names: Vec<_> = items.iter().map(|item| item.text(|text| header(text, tells_addresses))).collect();
        names.into_iter().collect::<Option<Vec<_>>>()
    });
    let access = access(table.table("access"), base);
    let requests = requests(table.table("requests"));
    let traces = super::traces::traces(table.table("traces"), base);
    table.finish();
    let (access, requests, traces) = (access?, requests?, traces?);
    Some(Telemetry { address: address?, query: query?, headers: headers?, access, requests, traces })
}

fn access(mut table: Table<'_>, base: &Path) -> Option<Access> {
    let to = table.choice("to", "off", &[("off", 0), ("stdout", 1), ("file", 2)]);
    let file = table.text("file", "access.log", super::path_from(base));
    table.finish();
    Some(match to? {
        0 => Access::Off,
        1 => Access::Stdout,
        _ => Access::File(file?),
    })
}

fn requests(mut table: Table<'_>) -> Option<RequestLog> {
    let keep = table.boolean("keep", true);
    let retention = table.text("retention", "30d", duration(RETENTION));
    let size = table.text("size", "1GiB", size(SIZE));
    table.finish();
    Some(RequestLog { keep: keep?, retention: retention?, size: u64::try_from(size?).ok()? })
}

/// The name of a request field that may be told.
fn header(text: &str, tells_addresses: bool) -> Result<String, Fault> {
    let name = text.to_ascii_lowercase();
    let is_name = (1..=64).contains(&name.len()) && http::HeaderName::from_bytes(name.as_bytes()).is_ok();
    if !is_name {
        return Err(Fault::from(format!("`{}` is not the name of a field of at most 64 characters", shown(text))));
    }
    if names_secret(&name) || NEVER.contains(&name.as_str()) || name.starts_with("x-portico-") {
        return Err(Fault::from(format!("`{}` holds credentials by its name, and is never told", shown(text))));
    }
    if !tells_addresses && ADDRESSES.contains(&name.as_str()) {
        let why = "holds an address; write `telemetry.address = \"full\"` to have it told";
        return Err(Fault::from(format!("`{}` {why}", shown(text))));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_no_field_to_tell() {
        assert_eq!(header("User-Agent", false), Ok("user-agent".to_owned()));
        for odd in ["", "a b", "Authorization", "cookie", "Set-Cookie", "X-Portico-Assertion", "x-portico-else"] {
            assert!(header(odd, true).is_err(), "{odd}");
        }
        for odd in ["X-Auth-Token", "x-csrf-token", "x-amz-security-token", "dpop", "x-api-key", "webhook-signature"] {
            assert!(header(odd, true).is_err(), "{odd}");
        }
    }

    #[test]
    fn fields_with_addresses_are_told_where_addresses_are() {
        for name in ADDRESSES {
            assert_eq!((header(name, true), header(name, false).is_err()), (Ok(name.to_owned()), true));
        }
    }
}
