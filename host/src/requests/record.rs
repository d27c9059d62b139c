//! What is known of one finished request, and how it is written into bytes: on the worker, and in the store.
//!
//! Texts of a client are as it sent them here; what looks like a secret is taken out before anybody else sees a record.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bytes::{Buf, BufMut};
use http::{Method, Version};

use crate::body::End;
use crate::clock::Millis;
use crate::gas::Gas;
use crate::usage::Caller;

/// Methods that have a name here; all others are `_OTHER`, as OpenTelemetry has it.
const METHODS: [&str; 10] = ["_OTHER", "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"];

/// One finished request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// The number of its id.
    pub request: u128,
    /// When it began.
    pub at: Millis,
    /// Who called.
    pub caller: Caller,
    /// Whether with a sandbox key.
    pub sandbox: bool,
    /// The id of its trace, and that of its own span there, or 0; none in what an earlier version wrote.
    pub trace: Option<(u128, u64)>,
    /// The status that the client got; 0 where it got none.
    pub status: u16,
    /// How the answer ended.
    pub end: End,
    /// The code of the denial.
    pub denied: Option<&'a str>,
    /// Its method.
    pub method: Named,
    /// HTTP of this minor version: `HTTP/1.<minor>`.
    pub minor: u8,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// Bytes of the response body.
    pub bytes_out: u64,
    /// What was charged.
    pub gas: Gas,
    /// Units that the upstream reported.
    pub units: u64,
    /// Units of fuel that policies burnt.
    pub fuel: u64,
    /// From its head to the end of the answer.
    pub total: Duration,
    /// Until the head of the upstream's answer; zero where none was asked.
    pub upstream: Duration,
    /// In policies, save for those that follow bodies.
    pub policies: Duration,
    /// The client's address, as much of it as is told.
    pub address: Option<IpAddr>,
    /// The host that was asked.
    pub host: &'a str,
    /// The path.
    pub path: &'a str,
    /// The query, where that is told.
    pub query: Option<&'a str>,
    /// Request fields that are told.
    pub fields: Fields<'a>,
}

/// A method, as it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named(u8);

/// Fields, written one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fields<'a>(pub(super) &'a [u8]);

impl Named {
    /// How it is told.
    pub fn name(self) -> &'static str {
        METHODS.get(usize::from(self.0)).copied().unwrap_or(METHODS[0])
    }
}

impl From<&Method> for Named {
    fn from(method: &Method) -> Self {
        let known = METHODS.iter().position(|known| *known == method.as_str());
        Self(known.and_then(|position| u8::try_from(position).ok()).unwrap_or_default())
    }
}

/// The minor version of HTTP/1.
pub(super) fn minor(version: Version) -> u8 {
    u8::from(version != Version::HTTP_10)
}

impl<'a> Fields<'a> {
    /// Whether there are none.
    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Name and value of each.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let name = text(&mut rest)?;
            let length = rest.try_get_u16().ok()?;
            let (value, after) = rest.split_at_checked(length.into())?;
            rest = after;
            Some((name, value))
        })
    }

    /// Adds one to those that are written already.
    pub(super) fn write(into: &mut impl BufMut, name: &str, value: &[u8]) {
        put_text(into, name);
        // Bounded by whoever writes it.
        into.put_u16(u16::try_from(value.len()).unwrap_or_default());
        into.put_slice(value);
    }
}

const ORG: u8 = 1;
const KEY: u8 = 2;
const SANDBOX: u8 = 4;
const QUERY: u8 = 8;
const DENIED: u8 = 16;
const TRACE: u8 = 32;
/// Numbers of eight bytes that each record has.
const NUMBERS: usize = 8;

/// What a record is looked for by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Brief {
    pub(super) request: u128,
    pub(super) org: Option<u128>,
    pub(super) key: Option<u128>,
    pub(super) status: u16,
}

impl Brief {
    /// Reads no more of a record than that.
    pub(super) fn read(mut from: &[u8]) -> Option<Self> {
        let request = from.try_get_u128().ok()?;
        // Behind the time, and flags, end, method and version.
        let flags = *from.get(8)?;
        from = from.get(12..)?;
        let status = from.try_get_u16().ok()?;
        from = from.get(NUMBERS * 8..)?;
        let mut id = |flag| if flags & flag == 0 { Some(None) } else { from.try_get_u128().ok().map(Some) };
        Some(Self { request, org: id(ORG)?, key: id(KEY)?, status })
    }
}

impl<'a> Record<'a> {
    /// Writes it behind what is there.
    pub fn write(&self, into: &mut Vec<u8>) {
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let flags = flag(self.caller.org.is_some(), ORG)
            | flag(self.caller.key.is_some(), KEY)
            | flag(self.sandbox, SANDBOX)
            | flag(self.query.is_some(), QUERY)
            | flag(self.denied.is_some(), DENIED)
            | flag(self.trace.is_some(), TRACE);
        let end = match self.end {
            End::Complete => 0,
            End::Broken => 1,
            End::Left => 2,
            End::Cut => 3,
        };
        into.put_u128(self.request);
        into.put_u64(self.at.0);
        into.put_slice(&[flags, end, self.method.0, self.minor]);
        into.put_u16(self.status);
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        for number in [
            self.bytes_in,
            self.bytes_out,
            self.gas.millionths(),
            self.units,
            self.fuel,
            micros(self.total),
            micros(self.upstream),
            micros(self.policies),
        ] {
            into.put_u64(number);
        }
        self.caller.org.into_iter().chain(self.caller.key).for_each(|number| into.put_u128(number));
        if let Some((trace, span)) = self.trace {
            into.put_u128(trace);
            into.put_u64(span);
        }
        match self.address {
            None => into.put_u8(0),
            Some(IpAddr::V4(address)) => {
                into.put_u8(4);
                into.put_slice(&address.octets());
            }
            Some(IpAddr::V6(address)) => {
                into.put_u8(6);
                into.put_slice(&address.octets());
            }
        }
        self.denied.into_iter().for_each(|code| put_text(into, code));
        put_text(into, self.host);
        put_text(into, self.path);
        self.query.into_iter().for_each(|query| put_text(into, query));
        into.put_slice(self.fields.0);
    }

    /// Reads one, to the end of these bytes.
    pub fn read(mut from: &'a [u8]) -> Option<Self> {
        let from = &mut from;
        let (request, at) = (from.try_get_u128().ok()?, Millis(from.try_get_u64().ok()?));
        let mut head = [0; 4];
        from.try_copy_to_slice(&mut head).ok()?;
        let [flags, end, method, minor] = head;
        let status = from.try_get_u16().ok()?;
        let mut numbers = [0; NUMBERS];
        for number in &mut numbers {
            *number = from.try_get_u64().ok()?;
        }
        let [bytes_in, bytes_out, gas, units, fuel, total, upstream, policies] = numbers;
        let mut id = |flag| if flags & flag == 0 { Some(None) } else { from.try_get_u128().ok().map(Some) };
        let caller = Caller { org: id(ORG)?, key: id(KEY)? };
        let trace = match id(TRACE)? {
            Some(trace) => Some((trace, from.try_get_u64().ok()?)),
            None => None,
        };
        let address = match from.try_get_u8().ok()? {
            0 => None,
            4 => Some(Ipv4Addr::from(from.try_get_u32().ok()?).into()),
            6 => Some(Ipv6Addr::from(from.try_get_u128().ok()?).into()),
            _ => return None,
        };
        Some(Self {
            request,
            at,
            caller,
            sandbox: flags & SANDBOX != 0,
            trace,
            status,
            end: match end {
                0 => End::Complete,
                1 => End::Broken,
                2 => End::Left,
                3 => End::Cut,
                _ => return None,
            },
            denied: if flags & DENIED == 0 { None } else { Some(text(from)?) },
            method: Named(method),
            minor,
            bytes_in,
            bytes_out,
            gas: Gas::from_millionths(gas),
            units,
            fuel,
            total: Duration::from_micros(total),
            upstream: Duration::from_micros(upstream),
            policies: Duration::from_micros(policies),
            address,
            host: text(from)?,
            path: text(from)?,
            query: if flags & QUERY == 0 { None } else { Some(text(from)?) },
            fields: Fields(from),
        })
    }
}

/// As two bytes of length, and the text, as much of it as that can tell.
pub(super) fn put_text(into: &mut impl BufMut, text: &str) {
    let text = &text[..text.floor_char_boundary(usize::from(u16::MAX))];
    into.put_u16(u16::try_from(text.len()).unwrap_or_default());
    into.put_slice(text.as_bytes());
}

pub(super) fn text<'a>(from: &mut &'a [u8]) -> Option<&'a str> {
    let length = from.try_get_u16().ok()?;
    let (text, rest) = from.split_at_checked(length.into())?;
    *from = rest;
    std::str::from_utf8(text).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A record with these texts.
    pub(crate) fn record<'a>(request: u128, path: &'a str) -> Record<'a> {
        Record {
            request,
            at: Millis(u64::try_from(request >> 80).unwrap_or(u64::MAX)),
            caller: Caller { org: Some(7), key: Some(8) },
            sandbox: false,
            trace: Some((9, 10)),
            status: 200,
            end: End::Complete,
            denied: None,
            method: Named::from(&Method::GET),
            minor: 1,
            bytes_in: 1,
            bytes_out: 2,
            gas: Gas::from_millionths(3),
            units: 9,
            fuel: 4,
            total: Duration::from_micros(5),
            upstream: Duration::from_micros(6),
            policies: Duration::from_micros(7),
            address: None,
            host: "gateway.test",
            path,
            query: None,
            fields: Fields::default(),
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            (request, org, key) in any::<(u128, Option<u128>, Option<u128>)>(),
            (path, query, denied) in ("\\PC{0,40}", proptest::option::of("\\PC{0,9}"), proptest::option::of("[a-z_]{1,9}")),
            (sandbox, status, address) in any::<(bool, u16, Option<u32>)>(),
            trace in any::<Option<(u128, u64)>>(),
            end in proptest::sample::select(vec![End::Complete, End::Broken, End::Left, End::Cut]),
            value in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut fields = Vec::new();
            Fields::write(&mut fields, "user-agent", &value);
            let whole = Record {
                caller: Caller { org, key },
                sandbox,
                trace,
                status,
                end,
                address: address.map(|bits| Ipv4Addr::from(bits).into()),
                query: query.as_deref(),
                denied: denied.as_deref(),
                fields: Fields(&fields),
                ..record(request, &path)
            };
            let mut bytes = Vec::new();
            whole.write(&mut bytes);
            let read = Record::read(&bytes);
            prop_assert_eq!(read.as_ref(), Some(&whole));
            prop_assert_eq!(Brief::read(&bytes), Some(Brief { request, org, key, status }));
            prop_assert_eq!(whole.fields.iter().collect::<Vec<_>>(), vec![("user-agent", &value[..])]);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Brief::read(&bytes);
            if let Some(record) = Record::read(&bytes) {
                record.fields.iter().count();
            }
        }
    }

    #[test]
    fn methods_that_nobody_knows_are_one() {
        let named = |text: &str| Named::from(&Method::from_bytes(text.as_bytes()).unwrap()).name();
        assert_eq!([named("GET"), named("TRACE"), named("QUERY"), named("get")], ["GET", "TRACE", "_OTHER", "_OTHER"]);
    }
}
