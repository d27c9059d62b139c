//! `[policies.<name>.grant]`: what a policy may see, cause, keep and ask.

use std::time::Duration;

use super::origin::{Origin, origin};
use super::policy::{distinct, scope};
use crate::config::form::{Fault, duration, gas, name, shown, size};
use crate::config::read::Table;
use crate::config::suggest::{listed, nearest};
use crate::config::value::Value;
use crate::config::{Grant, OutboundGrant, StoreGrant};

const POWERS: [&str; 8] = ["deny", "respond", "forward", "rewrite-path", "take", "charge", "mint-token", "identify"];
const READS: [&str; 5] = ["authorization", "cookie", "set-cookie", "proxy-authorization", "*"];
const BODIES: [&str; 2] = ["request", "response"];
const WASI: [&str; 2] = ["clock", "random"];

/// Reads the grant of a policy of some name.
pub(super) fn grant(mut table: Table<'_>, policy: &str) -> Option<Grant> {
    let powers = table.list("powers", POWERS.len()).and_then(|items| words(&items, "power", &POWERS));
    let reads = table.list("reads", READS.len()).and_then(|items| words(&items, "field that needs a grant", &READS));
    let bodies = table.list("bodies", BODIES.len()).and_then(|items| words(&items, "body", &BODIES));
    let maximum_charge = table.text("maximum_charge", "0", gas);
    let scopes = table.list("scopes", 64).and_then(|items| distinct(&items, scope));

    let store = match table.has("store") {
        true => Some(store(table.table("store"), policy)),
        false => {
            table.known("store");
            None
        }
    };
    let outbound: Vec<_> = table.rows("outbound", 16).into_iter().map(outbound).collect();
    let wasi = table.list("wasi", WASI.len()).and_then(|items| words(&items, "part of WASI", &WASI));

    if let (Some(powers), Some(maximum)) = (&powers, maximum_charge) {
        let charges = powers.iter().any(|power| power == "charge");
        let place = table.place_of("maximum_charge");
        if maximum > 0 && !charges {
            table.report().add(
                &place,
                "has no meaning without the power charge; add \"charge\" to powers, or remove it",
                None,
            );
        }
        if charges && maximum == 0 {
            let message =
                "must be more than 0 where the power charge is granted; write for example maximum_charge = \"100\"";
            table.report().add(&place, message, None);
        }
        if table.has("scopes") && !powers.iter().any(|power| power == "identify") {
            let message = "has no meaning without the power identify; add \"identify\" to powers, or remove it";
            table.report().add(&table.place_of("scopes"), message, None);
        }
    }
    table.finish();
    let store = match store {
        Some(store) => Some(store?),
        None => None,
    };
    let outbound = outbound.into_iter().collect::<Option<_>>()?;
    let (powers, reads, bodies, maximum_charge, scopes, wasi) =
        (powers?, reads?, bodies?, maximum_charge?, scopes?, wasi?);
    Some(Grant { powers, reads, bodies, maximum_charge, scopes, store, outbound, wasi })
}

fn store(mut table: Table<'_>, policy: &str) -> Option<StoreGrant> {
    let space = table.text("space", policy, name);
    let bytes = table.text("bytes", "1MiB", size(1 << 10..=1 << 30));
    let entries = table.integer("entries", 10_000, 1..=10_000_000);
    table.finish();
    Some(StoreGrant { space: space?, bytes: bytes?, entries: entries? })
}

fn outbound(mut table: Table<'_>) -> Option<OutboundGrant> {
    let origin = table.required_text("origin", "\"https://api.example.com\"", https_origin);
    let mut methods = table.list("methods", 16).and_then(|items| distinct(&items, method));
    if let Some(methods) = methods.as_mut().filter(|methods| methods.is_empty()) {
        methods.push("GET".to_owned());
    }
    let paths = match table.value("paths", None).map_or(Some(Vec::new()), |value| distinct(&value.items(64)?, path)) {
        Some(paths) if paths.is_empty() => {
            let message = "names no path; write for example paths = [\"/v1/users/*\"], or [\"/*\"] for all";
            table.report().add(&table.place_of("paths"), message, None);
            None
        }
        paths => paths,
    };
    let calls = table.integer("calls", 1, 1..=16);
    let response = table.text("response", "64KiB", size(1..=16 << 20));
    let timeout = table.text("timeout", "1s", duration(Duration::from_millis(1)..=Duration::from_secs(60)));
    let private = table.boolean("private", false);
    table.finish();
    let Origin { tls, host, port } = origin?;
    Some(OutboundGrant {
        tls,
        host,
        port,
        methods: methods?,
        paths: paths?,
        calls: u32::try_from(calls?).ok()?,
        response: response?,
        timeout: timeout?,
        private: private?,
    })
}

fn https_origin(text: &str) -> Result<Origin, Fault> {
    const FORM: &str = "write https://host or http://host:port, such as \"https://api.example.com\"";
    match text.split_once("://") {
        Some(("https", rest)) => origin(true, rest, FORM),
        Some(("http", rest)) => origin(false, rest, FORM),
        _ => Err(Fault::from(format!("begins neither with https:// nor with http://; {FORM}"))),
    }
}

fn method(text: &str) -> Result<String, Fault> {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];
    if KNOWN.contains(&text) {
        return Ok(text.to_owned());
    }
    let message = format!("`{}` is no method; allowed: {}", shown(text), listed(KNOWN.iter().copied()));
    Err(Fault { message, meant: nearest(&text.to_ascii_uppercase(), KNOWN.iter().copied()).map(str::to_owned) })
}

/// A path as it is compared: exact, or with `/*` at its end.
fn path(text: &str) -> Result<String, Fault> {
    let fits = text.starts_with('/')
        && text.len() <= 1024
        && !text.strip_suffix("/*").unwrap_or(text).contains(['*', '?', '#', '%', '\\'])
        && text.bytes().all(|byte| byte.is_ascii_graphic())
        && !text.split('/').any(|segment| segment == "." || segment == "..");
    fits.then(|| text.to_owned()).ok_or_else(|| {
        Fault::from(format!(
            "`{}` is not a path; write \"/v1/users\", or \"/v1/users/*\" for all below it",
            shown(text)
        ))
    })
}

/// Distinct words out of those allowed.
fn words(items: &[Value<'_>], what: &str, allowed: &[&str]) -> Option<Vec<String>> {
    distinct(items, |text| {
        if allowed.contains(&text) {
            return Ok(text.to_owned());
        }
        let message = format!("`{}` is no {what}; allowed: {}", shown(text), listed(allowed.iter().copied()));
        Err(Fault { message, meant: nearest(text, allowed.iter().copied()).map(str::to_owned) })
    })
}
