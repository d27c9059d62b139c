//! A key as it was written until records became shorter: JSON. Only read.

use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;

use crate::clock::Millis;
use crate::id::{KeyId, OrgId};
use crate::key::{Digest, Digested, Kept, Key, Mode, Previous, Scopes, Terms};

#[derive(Deserialize)]
struct Record {
    org: OrgId,
    name: Box<str>,
    mode: Mode,
    scopes: Vec<String>,
    #[serde(default)]
    networks: Vec<String>,
    created: Millis,
    #[serde(default)]
    expires: Option<Millis>,
    #[serde(default)]
    revoked: Option<Millis>,
    #[serde(flatten)]
    secret: Written,
    #[serde(default)]
    previous: Option<WrittenPrevious>,
    #[serde(default)]
    rotated: Option<Millis>,
    #[serde(default)]
    maker: Option<Box<str>>,
}

#[derive(Deserialize)]
struct Written {
    last_four: String,
    pepper: u32,
    digest: Vec<u8>,
}

#[derive(Deserialize)]
struct WrittenPrevious {
    #[serde(flatten)]
    secret: Written,
    until: Millis,
}

/// Nothing where any part makes no sense: half a record could be a key without its bounds.
pub(super) fn decoded(id: KeyId, bytes: &[u8]) -> Option<Kept> {
    let record: Record = serde_json::from_slice(bytes).ok()?;
    let networks: Result<Box<[IpNet]>, _> = record.networks.iter().map(|text| text.parse()).collect();
    let (name, created) = (record.name, record.created);
    let terms = Terms { name: Box::default(), mode: record.mode, networks: networks.ok()?, expires: record.expires };
    let scopes = Scopes::new(record.scopes.iter().map(String::as_str));
    let key = Key::new(id, record.org, terms, scopes);
    if let Some(revoked) = record.revoked {
        key.revoke(revoked);
    }
    let previous = match record.previous {
        Some(previous) => Some(Previous { secret: read(previous.secret)?, until: previous.until }),
        None => None,
    };
    if let Some(previous) = previous {
        key.rotated(previous.until);
    }
    let secret = read(record.secret)?;
    Some(Kept { key: Arc::new(key), name, created, secret, previous, rotated: record.rotated, maker: record.maker })
}

fn read(written: Written) -> Option<Digested> {
    let last_four = written.last_four.as_bytes().try_into().ok()?;
    Some(Digested { digest: Digest::new(written.digest.try_into().ok()?), pepper: written.pepper, last_four })
}
