//! Records as bytes: what one says about a call, and how a whole one is told from anything else.
//!
//! A record stands alone: names and codes are in it as text, so that it can be read after a restart with another
//! configuration, and whatever else of its segment is lost. Only its checksum, over all of it, says that it is whole.
//!
//! | bytes | what (least significant byte first) |
//! | --- | --- |
//! | 0..4 | CRC-32 of all that follows |
//! | 4..6 | length of the whole record: a multiple of 8 |
//! | 6 | 0xa7 |
//! | 7 | 1: open, 2: close of earlier versions, 3: close |
//! | 8..16, 16..24 | epoch, sequence |
//! | 24..72, 72..80 | request, org, key; when it began, in milliseconds since 1970 |
//! | 80..88 | 1 where there is an org, 2 where there is a key; the number of policies; lengths of pillar, rule and code |
//! | 88..128 | of a close: bytes in, bytes out, gas, fuel, status |
//! | 128..144 | of a close, but not of earlier versions: units, microseconds of the upstream |
//! | | pillar, rule, code; of each policy one byte of length, its name, its fuel; zeros up to a multiple of 8 |

use crate::clock::Millis;
use crate::gas::Gas;
use crate::usage::{Caller, Counts, Usage};

/// Records begin at multiples of this.
pub(super) const ALIGN: usize = 8;
/// Bytes before what differs between kinds.
pub(super) const HEAD: usize = 88;
const AMOUNTS: usize = 56;
/// Those of earlier versions.
const FEWER_AMOUNTS: usize = 40;
const MARKER: u8 = 0xa7;
const OPEN: u8 = 1;
const SHORT_CLOSE: u8 = 2;
const CLOSE: u8 = 3;
/// The longest name that is written; those of the configuration are shorter.
const LONGEST: usize = 1024;
/// The longest code that is written.
pub(super) const LONGEST_CODE: usize = 64;
/// The longest name of a policy that is written; those of the configuration are no longer.
const LONGEST_POLICY: usize = 64;

/// Names of a pillar and of a rule in it, as they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Label {
    pillar: u16,
    route: u16,
    text: Box<[u8]>,
}

/// A call, as both kinds of records name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Number of the request's id.
    pub request: u128,
    /// Who called.
    pub caller: Caller,
    /// When it began.
    pub at: Millis,
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The start of the gateway that wrote it.
    pub epoch: u64,
    /// Its number in that epoch, from 1 on.
    pub sequence: u64,
    /// The call.
    pub call: Call,
    /// Name of the pillar.
    pub pillar: &'a str,
    /// Name of the rule.
    pub route: &'a str,
    /// How the call ended; `None` in the record that it began.
    pub end: Option<Ended<'a>>,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended<'a> {
    /// The status that the client got; 0 where it got none.
    pub status: u16,
    /// The code of the denial.
    pub denied: Option<&'a str>,
    /// Bytes of the request body.
    pub bytes_in: u64,
    /// Bytes of the response body.
    pub bytes_out: u64,
    /// What was charged.
    pub gas: Gas,
    /// Units that the upstream reported.
    pub units: u64,
    /// Microseconds until the upstream had begun its answer.
    pub upstream_us: u64,
    /// Units of fuel that policies burnt.
    pub fuel: u64,
    /// The same by policy.
    pub burnt: Burnt<'a>,
}

/// Fuel by policy, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Burnt<'a> {
    policies: u8,
    text: &'a [u8],
}

impl<'a> Burnt<'a> {
    /// Writes what a policy burnt behind what is there.
    pub(super) fn write(into: &mut Vec<u8>, policy: &str, fuel: u64) {
        let name = cut(policy, LONGEST_POLICY);
        // Cut far below that.
        into.push(u8::try_from(name.len()).unwrap_or_default());
        into.extend_from_slice(name.as_bytes());
        into.extend_from_slice(&fuel.to_le_bytes());
    }

    /// Bytes of what [`Self::write`] writes for this policy.
    pub(super) fn size(policy: &str) -> usize {
        1 + cut(policy, LONGEST_POLICY).len() + 8
    }

    /// What was written, of so many policies.
    pub(super) fn of(policies: usize, text: &'a [u8]) -> Self {
        // There are at most `MOST_POLICIES`.
        Self { policies: u8::try_from(policies).unwrap_or_default(), text }
    }

    /// Reads so many, and what is behind them.
    fn read(policies: u8, from: &'a [u8]) -> Option<Self> {
        let mut rest = from;
        for _ in 0..policies {
            rest = Self::first(rest)?.1;
        }
        Some(Self { policies, text: from.get(..from.len() - rest.len())? })
    }

    fn first(from: &'a [u8]) -> Option<((&'a str, u64), &'a [u8])> {
        let (length, rest) = from.split_first()?;
        let (name, rest) = rest.split_at_checked((*length).into())?;
        let (fuel, rest) = rest.split_at_checked(8)?;
        Some(((std::str::from_utf8(name).ok()?, u64::from_le_bytes(array(fuel))), rest))
    }

    /// Each policy with what it burnt.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, u64)> {
        let mut rest = self.text;
        std::iter::from_fn(move || {
            let (one, after) = Self::first(rest)?;
            rest = after;
            Some(one)
        })
    }
}

impl Label {
    /// Of two names.
    pub(super) fn new(pillar: &str, route: &str) -> Self {
        let (pillar, route) = (cut(pillar, LONGEST), cut(route, LONGEST));
        let text = [pillar.as_bytes(), route.as_bytes()].concat().into_boxed_slice();
        // Both are cut far below that.
        let length = |name: &str| u16::try_from(name.len()).unwrap_or_default();
        Self { pillar: length(pillar), route: length(route), text }
    }

    /// Bytes of the record that a call began.
    pub(super) fn open_size(&self) -> usize {
        (HEAD + self.text.len()).next_multiple_of(ALIGN)
    }

    /// The most bytes of the record that a call ended, with so many about policies.
    pub(super) fn close_size(&self, burnt: usize) -> usize {
        (HEAD + AMOUNTS + self.text.len() + LONGEST_CODE + burnt).next_multiple_of(ALIGN)
    }
}

impl<'a> Ended<'a> {
    /// What of a usage is no part of the call's name, with the fuel by policies that have names.
    pub fn of(usage: &Usage<'a>, burnt: Burnt<'a>) -> Self {
        let Usage { status, denied, bytes_in, bytes_out, gas, units, upstream_us, fuel, .. } = *usage;
        Self { status, denied, bytes_in, bytes_out, gas, units, upstream_us, fuel, burnt }
    }
}

impl Entry<'_> {
    /// Adds the call to the sums of its row. One without an end was interrupted: it counts, has no status, and is not charged.
    pub(super) fn count(&self, counts: &mut Counts) {
        counts.count(&Usage {
            caller: self.call.caller,
            pillar: crate::usage::Pillar::NONE,
            route: crate::usage::Route::NONE,
            at: self.call.at,
            status: self.end.map_or(0, |end| end.status),
            denied: self.end.and_then(|end| end.denied),
            bytes_in: self.end.map_or(0, |end| end.bytes_in),
            bytes_out: self.end.map_or(0, |end| end.bytes_out),
            gas: self.end.map_or(Gas::ZERO, |end| end.gas),
            units: self.end.map_or(0, |end| end.units),
            upstream_us: self.end.map_or(0, |end| end.upstream_us),
            fuel: self.end.map_or(0, |end| end.fuel),
            fuel_by_policy: &[],
        });
        let burnt = self.end.map(|end| end.burnt).unwrap_or_default();
        burnt.iter().for_each(|(policy, fuel)| counts.burn(policy, fuel));
    }
}

/// Writes a record over whatever is in the buffer.
pub(super) fn encode(
    buffer: &mut Vec<u8>,
    (epoch, sequence): (u64, u64),
    call: &Call,
    label: &Label,
    end: Option<&Ended<'_>>,
) {
    let code = end.and_then(|end| end.denied).map_or("", |code| cut(code, LONGEST_CODE));
    let amounts = if end.is_some() { AMOUNTS } else { 0 };
    let burnt = end.map(|end| end.burnt).unwrap_or_default();
    let length = (HEAD + amounts + label.text.len() + code.len() + burnt.text.len()).next_multiple_of(ALIGN);
    buffer.clear();
    buffer.resize(length, 0);
    let (head, rest) = buffer.split_at_mut(HEAD);
    // Names and codes are cut to a few KiB.
    head[4..6].copy_from_slice(&u16::try_from(length).unwrap_or_default().to_le_bytes());
    head[6] = MARKER;
    head[7] = if end.is_some() { CLOSE } else { OPEN };
    head[8..16].copy_from_slice(&epoch.to_le_bytes());
    head[16..24].copy_from_slice(&sequence.to_le_bytes());
    head[24..40].copy_from_slice(&call.request.to_le_bytes());
    head[40..56].copy_from_slice(&call.caller.org.unwrap_or_default().to_le_bytes());
    head[56..72].copy_from_slice(&call.caller.key.unwrap_or_default().to_le_bytes());
    head[72..80].copy_from_slice(&call.at.0.to_le_bytes());
    head[80] = u8::from(call.caller.org.is_some()) | u8::from(call.caller.key.is_some()) << 1;
    head[81] = burnt.policies;
    head[82..84].copy_from_slice(&label.pillar.to_le_bytes());
    head[84..86].copy_from_slice(&label.route.to_le_bytes());
    head[86..88].copy_from_slice(&u16::try_from(code.len()).unwrap_or_default().to_le_bytes());
    let (figures, text) = rest.split_at_mut(amounts);
    if let Some(end) = end {
        let status = u64::from(end.status);
        let numbers = [end.bytes_in, end.bytes_out, end.gas.millionths(), end.fuel, status, end.units, end.upstream_us];
        for (place, number) in figures.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
    }
    let (names, rest) = text.split_at_mut(label.text.len());
    names.copy_from_slice(&label.text);
    let (said, rest) = rest.split_at_mut(code.len());
    said.copy_from_slice(code.as_bytes());
    rest[..burnt.text.len()].copy_from_slice(burnt.text);
    let sum = crc32fast::hash(&buffer[4..]);
    buffer[..4].copy_from_slice(&sum.to_le_bytes());
}

/// The length of the whole record that these bytes begin with.
pub(super) fn length(bytes: &[u8]) -> usize {
    bytes.get(4..6).map_or(0, |length| usize::from(u16::from_le_bytes(array(length))))
}

/// The record that these bytes begin with, and its length; `None` where no whole one is there.
pub(super) fn decode(bytes: &[u8]) -> Option<(Entry<'_>, usize)> {
    let head = bytes.get(..HEAD)?;
    let length = usize::from(u16::from_le_bytes(array(&head[4..6])));
    let amounts = match (head[6], head[7]) {
        (MARKER, OPEN) => 0,
        (MARKER, SHORT_CLOSE) => FEWER_AMOUNTS,
        (MARKER, CLOSE) => AMOUNTS,
        _ => return None,
    };
    let record = bytes.get(..length).filter(|record| record.len() >= HEAD && length.is_multiple_of(ALIGN))?;
    if crc32fast::hash(&record[4..]).to_le_bytes() != head[..4] {
        return None;
    }
    let number = |at: usize| u64::from_le_bytes(array(&head[at..at + 8]));
    let id = |at: usize| u128::from_le_bytes(array(&head[at..at + 16]));
    let text = |at: usize| usize::from(u16::from_le_bytes(array(&head[at..at + 2])));
    let caller = Caller { org: (head[80] & 1 != 0).then(|| id(40)), key: (head[80] & 2 != 0).then(|| id(56)) };
    let (figures, rest) = record[HEAD..].split_at_checked(amounts)?;
    let (pillar, rest) = rest.split_at_checked(text(82))?;
    let (route, rest) = rest.split_at_checked(text(84))?;
    let (code, rest) = rest.split_at_checked(text(86))?;
    let code = std::str::from_utf8(code).ok()?;
    let burnt = Burnt::read(if amounts == AMOUNTS { head[81] } else { 0 }, rest)?;
    let figure = |at: usize| figures.get(at * 8..at * 8 + 8).map_or(0, |figure| u64::from_le_bytes(array(figure)));
    let entry = Entry {
        epoch: number(8),
        sequence: number(16),
        call: Call { request: id(24), caller, at: Millis(number(72)) },
        pillar: std::str::from_utf8(pillar).ok()?,
        route: std::str::from_utf8(route).ok()?,
        end: (amounts > 0).then(|| Ended {
            status: u16::try_from(figure(4)).unwrap_or_default(),
            denied: (!code.is_empty()).then_some(code),
            bytes_in: figure(0),
            bytes_out: figure(1),
            gas: Gas::from_millionths(figure(2)),
            units: figure(5),
            upstream_us: figure(6),
            fuel: figure(3),
            burnt,
        }),
    };
    Some((entry, length))
}

/// So many bytes, which the caller has measured out.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("a slice of this length was taken")
}

fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_and_nothing_else_is(
            (stamp, request, org, key) in any::<((u64, u64), u128, Option<u128>, Option<u128>)>(),
            (pillar, route, code) in ("\\PC{0,40}", "\\PC{0,90}", "[a-z_]{1,30}"),
            (at, numbers, status, kind, after) in any::<(u64, [u64; 6], u16, u8, [u8; 9])>(),
            policies in prop::collection::vec(("[a-z-]{1,64}", any::<u64>()), 0..8),
            (damage, bit) in any::<(prop::sample::Index, u8)>(),
        ) {
            let call = Call { request, caller: Caller { org, key }, at: Millis(at) };
            let [bytes_in, bytes_out, gas, fuel, units, upstream_us] = numbers;
            let mut text = Vec::new();
            policies.iter().for_each(|(policy, fuel)| Burnt::write(&mut text, policy, *fuel));
            let size = policies.iter().map(|(policy, _)| Burnt::size(policy)).sum();
            let burnt = Burnt::of(policies.len(), &text);
            let denied = (kind & 1 == 0).then_some(code.as_str());
            let gas = Gas::from_millionths(gas);
            let ended = Ended { status, denied, bytes_in, bytes_out, gas, units, upstream_us, fuel, burnt };
            let end = (kind & 2 == 0).then_some(ended);
            let label = Label::new(&pillar, &route);
            let mut bytes = vec![0xff; 7];
            encode(&mut bytes, stamp, &call, &label, end.as_ref());
            let length = bytes.len();
            let most = if end.is_some() { label.close_size(size) } else { label.open_size() };
            prop_assert!(length <= most);
            bytes.extend(after);
            let expected = Entry { epoch: stamp.0, sequence: stamp.1, call, pillar: &pillar, route: &route, end };
            prop_assert_eq!(decode(&bytes), Some((expected, length)));
            let read: Vec<_> = burnt.iter().map(|(policy, fuel)| (policy.to_owned(), fuel)).collect();
            prop_assert_eq!(read, policies);
            prop_assert_eq!(decode(&bytes[..length - 1]), None);
            bytes[damage.index(length)] ^= 1 << (bit & 7);
            prop_assert_eq!(decode(&bytes), None);
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0u8..5, whole: bool) {
            if whole && bytes.len() >= HEAD {
                let length = bytes.len() / ALIGN * ALIGN;
                bytes[4..6].copy_from_slice(&(length as u16).to_le_bytes());
                (bytes[6], bytes[7]) = (MARKER, kind);
                let sum = crc32fast::hash(&bytes[4..length]);
                bytes[..4].copy_from_slice(&sum.to_le_bytes());
            }
            let _ = decode(&bytes);
        }
    }

    /// As the version before wrote it: with neither units, time of the upstream nor policies.
    #[test]
    fn what_earlier_versions_wrote_is_read() {
        let label = Label::new("connect", "rooms");
        let call = Call { request: 5, caller: Caller { org: Some(1), key: Some(2) }, at: Millis(3) };
        let mut earlier = Vec::new();
        encode(&mut earlier, (1, 9), &call, &label, None);
        let names = earlier.split_off(HEAD);
        for number in [10_u64, 1000, 7, 900, 429] {
            earlier.extend_from_slice(&number.to_le_bytes());
        }
        earlier.extend_from_slice(&names[..label.text.len()]);
        earlier.extend_from_slice(b"rate_limited");
        earlier.resize(earlier.len().next_multiple_of(ALIGN), 0);
        let length = u16::try_from(earlier.len()).unwrap();
        earlier[4..6].copy_from_slice(&length.to_le_bytes());
        (earlier[7], earlier[86]) = (SHORT_CLOSE, 12);
        let sum = crc32fast::hash(&earlier[4..]);
        earlier[..4].copy_from_slice(&sum.to_le_bytes());
        let (entry, read) = decode(&earlier).unwrap();
        let end = entry.end.unwrap();
        assert_eq!((read, entry.pillar, entry.route, entry.call), (earlier.len(), "connect", "rooms", call));
        assert_eq!((end.bytes_in, end.bytes_out, end.gas, end.fuel), (10, 1000, Gas::from_millionths(7), 900));
        assert_eq!((end.status, end.denied, end.units, end.upstream_us), (429, Some("rate_limited"), 0, 0));
        assert_eq!(end.burnt.iter().count(), 0);
    }

    #[test]
    fn names_that_are_too_long_are_cut_where_a_character_ends() {
        let long = "é".repeat(2000);
        let label = Label::new(&long, &long);
        let call = Call { request: 1, caller: Caller::ANONYMOUS, at: Millis(2) };
        let mut bytes = Vec::new();
        encode(&mut bytes, (1, 1), &call, &label, None);
        let (entry, _) = decode(&bytes).unwrap();
        assert_eq!((entry.pillar, entry.route), (&long[..LONGEST], &long[..LONGEST]));
    }
}
