//! A key as it is written: a byte that says how, then its parts in a fixed order, without a name for each: there may be ten million.
//!
//! A later version reads what this one wrote, and this one what was written before, which was JSON. Half a record is none.

mod json;

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Digest, Digested, Kept, Key, Mode, Previous, Scopes, Terms};
use crate::clock::Millis;
use crate::id::{KeyId, OrgId};

/// Never what JSON begins with.
const VERSION: u8 = 1;
const SANDBOX: u8 = 1;
const EXPIRES: u8 = 1 << 1;
const REVOKED: u8 = 1 << 2;
const ROTATED: u8 = 1 << 3;
const PREVIOUS: u8 = 1 << 4;
const MADE_BY: u8 = 1 << 5;
const ALL: u8 = (1 << 6) - 1;

pub(super) fn encoded(kept: &Kept) -> Vec<u8> {
    let Kept { key, name, created, secret, previous, rotated, maker } = kept;
    let (expires, revoked, scopes) = (key.expires(), key.revoked(), key.scopes());
    let flag = |is_there: bool, flag: u8| if is_there { flag } else { 0 };
    let flags = flag(key.mode == Mode::Sandbox, SANDBOX)
        | flag(expires.is_some(), EXPIRES)
        | flag(revoked.is_some(), REVOKED)
        | flag(rotated.is_some(), ROTATED)
        | flag(previous.is_some(), PREVIOUS)
        | flag(maker.is_some(), MADE_BY);
    let mut bytes = Vec::with_capacity(128);
    bytes.extend([VERSION, flags]);
    bytes.extend(key.org.number().to_be_bytes());
    bytes.extend(created.0.to_be_bytes());
    put_secret(&mut bytes, secret);
    for instant in [expires, revoked, *rotated].into_iter().flatten() {
        bytes.extend(instant.0.to_be_bytes());
    }
    if let Some(Previous { secret, until }) = previous {
        put_secret(&mut bytes, secret);
        bytes.extend(until.0.to_be_bytes());
    }
    put_text(&mut bytes, name);
    put_text(&mut bytes, scopes.as_str());
    if let Some(maker) = maker {
        put_text(&mut bytes, maker);
    }
    bytes.extend((key.networks().len() as u32).to_be_bytes());
    for network in key.networks() {
        match network.addr() {
            IpAddr::V4(address) => bytes.extend([&[4, network.prefix_len()], &address.octets()[..]].concat()),
            IpAddr::V6(address) => bytes.extend([&[6, network.prefix_len()], &address.octets()[..]].concat()),
        }
    }
    bytes
}

fn put_secret(bytes: &mut Vec<u8>, secret: &Digested) {
    bytes.extend(secret.last_four);
    bytes.extend(secret.pepper.to_be_bytes());
    bytes.extend(secret.digest.as_bytes());
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u32).to_be_bytes());
    bytes.extend(text.as_bytes());
}

/// Nothing where any part makes no sense: half a record could be a key without its bounds.
pub(super) fn decoded(id: KeyId, bytes: &[u8]) -> Option<Kept> {
    match bytes.split_first()? {
        (&VERSION, rest) => read(id, Reader(rest)),
        (b'{', _) => json::decoded(id, bytes),
        _ => None,
    }
}

fn read(id: KeyId, mut reader: Reader<'_>) -> Option<Kept> {
    let [flags] = reader.take()?;
    if flags & !ALL != 0 {
        return None;
    }
    let has = |flag: u8| flags & flag != 0;
    let org = OrgId::from_number(u128::from_be_bytes(reader.take()?));
    let created = reader.instant()?;
    let secret = reader.secret()?;
    let [expires, revoked, rotated] = reader.instants([EXPIRES, REVOKED, ROTATED].map(has))?;
    let previous = match has(PREVIOUS) {
        true => Some(Previous { secret: reader.secret()?, until: reader.instant()? }),
        false => None,
    };
    let name = reader.text()?.into();
    let scopes = reader.text()?;
    let maker = if has(MADE_BY) { Some(reader.text()?.into()) } else { None };
    let mut networks = Vec::new();
    for _ in 0..u32::from_be_bytes(reader.take()?) {
        networks.push(reader.network()?);
    }
    if !reader.0.is_empty() {
        return None;
    }
    let mode = if has(SANDBOX) { Mode::Sandbox } else { Mode::Live };
    let terms = Terms { name: Box::default(), mode, networks: networks.into(), expires };
    let key = Key::new(id, org, terms, Scopes::written(scopes)?);
    if let Some(revoked) = revoked {
        key.revoke(revoked);
    }
    if let Some(Previous { until, .. }) = previous {
        key.rotated(until);
    }
    Some(Kept { key: Arc::new(key), name, created, secret, previous, rotated, maker })
}

/// What is left of a record.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn instant(&mut self) -> Option<Millis> {
        self.take().map(|bytes| Millis(u64::from_be_bytes(bytes)))
    }

    fn instants(&mut self, are_there: [bool; 3]) -> Option<[Option<Millis>; 3]> {
        let mut instants = [None; 3];
        for (instant, is_there) in instants.iter_mut().zip(are_there) {
            if is_there {
                *instant = Some(self.instant()?);
            }
        }
        Some(instants)
    }

    fn secret(&mut self) -> Option<Digested> {
        let (last_four, pepper) = (self.take()?, u32::from_be_bytes(self.take()?));
        Some(Digested { digest: Digest::new(self.take()?), pepper, last_four })
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(u32::from_be_bytes(self.take()?)).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn network(&mut self) -> Option<IpNet> {
        let [family, prefix] = self.take()?;
        let address = match family {
            4 => IpAddr::from(self.take::<4>()?),
            6 => IpAddr::from(self.take::<16>()?),
            _ => return None,
        };
        IpNet::new(address, prefix).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: KeyId = KeyId::from_number(7);

    fn kept(number: u64, texts: [&str; 2], parts: u8) -> Kept {
        let has = |part: u8| parts & 1 << part != 0;
        let instant = |part: u8| has(part).then_some(Millis(number.saturating_add(u64::from(part))));
        let mode = if has(0) { Mode::Sandbox } else { Mode::Live };
        let networks: &[&str] = if has(1) { &["10.0.0.0/8", "2001:db8::/32"] } else { &[] };
        let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        let terms = Terms { name: texts[0].into(), mode, networks, expires: instant(2) };
        let key = Key::new(ID, OrgId::from_number(u128::from(number)), terms, Scopes::new(texts[1].split(' ')));
        if let Some(revoked) = instant(3) {
            key.revoke(revoked);
        }
        let secret =
            |byte: u8| Digested { digest: Digest::new([byte; 32]), pepper: number as u32, last_four: *b"wXyZ" };
        let previous = instant(4).map(|until| Previous { secret: secret(9), until });
        if let Some(Previous { until, .. }) = previous {
            key.rotated(until);
        }
        let maker = has(6).then(|| texts[1].into());
        let (key, name) = (Arc::new(key), texts[0].into());
        Kept { key, name, created: Millis(number), secret: secret(8), previous, rotated: instant(5), maker }
    }

    /// As a version before this one wrote it.
    #[test]
    fn what_was_written_as_json_is_read_and_written_shorter() {
        let digest = |byte: u8| serde_json::json!(vec![byte; 32]);
        let json = serde_json::json!({
            "org": OrgId::from_number(3), "name": "ci", "mode": "sandbox", "scopes": ["connect", "pay"],
            "networks": ["10.0.0.0/8"], "created": Millis(1_000), "expires": Millis(9_000), "revoked": Millis(8_000),
            "last_four": "wXyZ", "pepper": 2, "digest": digest(8),
            "previous": { "last_four": "aBcD", "pepper": 1, "digest": digest(9), "until": Millis(5_000) },
            "rotated": Millis(4_000), "maker": "tok_1",
        });
        let json = json.to_string().into_bytes();
        let read = decoded(ID, &json).unwrap();
        let key = &read.key;
        assert_eq!((key.org, key.mode, &*read.name), (OrgId::from_number(3), Mode::Sandbox, "ci"));
        assert_eq!((key.scopes().as_str(), key.networks().len(), read.created), ("connect pay", 1, Millis(1_000)));
        assert_eq!((key.expires(), key.revoked()), (Some(Millis(9_000)), Some(Millis(8_000))));
        assert_eq!((read.secret.pepper, read.previous.unwrap().secret.pepper), (2, 1));
        let written = encoded(&read);
        assert!(written.len() < json.len() / 2, "{} and {}", written.len(), json.len());
        assert_eq!(encoded(&decoded(ID, &written).unwrap()), written);
        assert_eq!(format!("{read:?}"), format!("{:?}", decoded(ID, &written).unwrap()));
        assert!(decoded(ID, &json[..json.len() - 1]).is_none());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_it_was_and_half_of_it_is_nothing(
            number: u64, name in "\\PC{0,20}", scopes in "[a-z:]{1,9}( [a-z:]{1,9}){0,3}", parts in 0..128_u8, cut: usize,
        ) {
            let kept = kept(number, [&name, &scopes], parts);
            let bytes = encoded(&kept);
            let read = decoded(ID, &bytes).unwrap();
            prop_assert_eq!(format!("{read:?}"), format!("{kept:?}"));
            prop_assert!(decoded(ID, &bytes[..cut % bytes.len()]).is_none());
            prop_assert!(decoded(ID, &[&bytes[..], &[0]].concat()).is_none());
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes: Vec<u8>) {
            let _ = decoded(ID, &bytes);
            let _ = decoded(ID, &[&[VERSION][..], &bytes].concat());
        }
    }
}
