//! A key as it is written: JSON, so that a later version reads what this one wrote, and this one what was written before.

use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Digest, Digested, Kept, Key, Mode, Previous, Scopes, Terms};
use crate::clock::Millis;
use crate::id::{KeyId, OrgId};

#[derive(Serialize, Deserialize)]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<WrittenPrevious>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rotated: Option<Millis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    maker: Option<Box<str>>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    last_four: String,
    pepper: u32,
    digest: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct WrittenPrevious {
    #[serde(flatten)]
    secret: Written,
    until: Millis,
}

pub(super) fn encoded(kept: &Kept) -> Vec<u8> {
    let key = &kept.key;
    let record = Record {
        org: key.org,
        name: kept.name.clone(),
        mode: key.mode,
        scopes: key.scopes().iter().map(str::to_owned).collect(),
        networks: key.networks().iter().map(IpNet::to_string).collect(),
        created: kept.created,
        expires: key.expires(),
        revoked: key.revoked(),
        secret: written(&kept.secret),
        previous: kept
            .previous
            .map(|previous| WrittenPrevious { secret: written(&previous.secret), until: previous.until }),
        rotated: kept.rotated,
        maker: kept.maker.clone(),
    };
    serde_json::to_vec(&record).expect("a record is strings and numbers")
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

fn written(secret: &Digested) -> Written {
    Written {
        last_four: String::from_utf8_lossy(&secret.last_four).into_owned(),
        pepper: secret.pepper,
        digest: secret.digest.as_bytes().to_vec(),
    }
}

fn read(written: Written) -> Option<Digested> {
    let last_four = written.last_four.as_bytes().try_into().ok()?;
    Some(Digested { digest: Digest::new(written.digest.try_into().ok()?), pepper: written.pepper, last_four })
}
