//! Rows of usage as bytes: keys whose order is that of org, day and key, and sums in the version of now and the one before.
//!
//! A key is org, day, key, pillar and rule, numbers most significant byte first: so one org's month is one range.

use std::sync::Arc;

use bytes::{Buf, BufMut};

use super::{Caller, Counts, Day, Mark, Record, Statuses};
use crate::gas::Gas;

/// How values are written. Another one needs another number, and a way to read this one.
pub(super) const VERSION: u8 = 2;
/// How they were written without units, time of upstreams and fuel by policy; how marks are.
pub(super) const FIRST: u8 = 1;

/// What keys of marks begin with: after those of all rows, which begin with 0 or 1.
pub(super) const MARKS: u8 = 2;

/// What a key says.
pub(super) struct Place {
    pub(super) caller: Caller,
    pub(super) day: Day,
    pub(super) pillar: Arc<str>,
    pub(super) route: Arc<str>,
}

/// Where the rows of an org begin that are of this day or later.
pub(super) fn start_of(org: Option<u128>, day: Day) -> Vec<u8> {
    let mut key = Vec::with_capacity(64);
    put_number(&mut key, org);
    key.put_u32(day.0);
    key
}

/// The key of a row.
pub(super) fn key_of(record: &Record) -> Vec<u8> {
    let mut key = start_of(record.caller.org, record.day);
    put_number(&mut key, record.caller.key);
    put_text(&mut key, &record.pillar);
    put_text(&mut key, &record.route);
    key
}

/// What a key says, where it is one of a row.
pub(super) fn place(mut key: &[u8]) -> Option<Place> {
    let org = number(&mut key)?;
    let day = Day(key.try_get_u32().ok()?);
    let caller = Caller { org, key: number(&mut key)? };
    Some(Place { caller, day, pillar: text(&mut key)?.into(), route: text(&mut key)?.into() })
}

/// A mark, as key and value.
pub(super) fn row_of(mark: &Mark) -> (Vec<u8>, Vec<u8>) {
    let (mut key, mut value) = (vec![MARKS], vec![FIRST]);
    key.put_u32(mark.lane);
    [mark.epoch, mark.sequence, mark.floor].into_iter().for_each(|number| value.put_u64(number));
    (key, value)
}

/// What such a pair says.
pub(super) fn mark(mut key: &[u8], mut value: &[u8]) -> Option<Mark> {
    if key.try_get_u8().ok()? != MARKS || value.try_get_u8().ok()? != FIRST {
        return None;
    }
    let lane = key.try_get_u32().ok()?;
    let mut number = || value.try_get_u64().ok();
    Some(Mark { lane, epoch: number()?, sequence: number()?, floor: number()? })
}

/// As one byte, and sixteen more where there is a number.
pub(super) fn put_number(into: &mut Vec<u8>, number: Option<u128>) {
    into.put_u8(number.is_some().into());
    if let Some(number) = number {
        into.put_u128(number);
    }
}

/// Reads what [`put_number`] wrote.
pub(super) fn number(from: &mut &[u8]) -> Option<Option<u128>> {
    match from.try_get_u8().ok()? {
        0 => Some(None),
        1 => from.try_get_u128().ok().map(Some),
        _ => None,
    }
}

/// As two bytes of length, and the text: names and codes are bounded far below that.
pub(super) fn put_text(into: &mut Vec<u8>, text: &str) {
    let fits = text.floor_char_boundary(text.len().min(u16::MAX.into()));
    let text = text.get(..fits).unwrap_or_default();
    into.put_u16(u16::try_from(text.len()).unwrap_or_default());
    into.put_slice(text.as_bytes());
}

fn text<'a>(from: &mut &'a [u8]) -> Option<&'a str> {
    let length = from.try_get_u16().ok()?;
    let (text, rest) = from.split_at_checked(length.into())?;
    *from = rest;
    std::str::from_utf8(text).ok()
}

/// Sums, in the version of now.
pub(super) fn value_of(counts: &Counts) -> Vec<u8> {
    let Statuses { switched, succeeded, redirected, refused, failed } = counts.statuses;
    let Counts { calls, bytes_in, bytes_out, gas, units, upstream_us, fuel, .. } = *counts;
    let gas = gas.millionths();
    let mut value = Vec::with_capacity(192);
    value.put_u8(VERSION);
    let of_first = [calls, switched, succeeded, redirected, refused, failed, bytes_in, bytes_out, gas, fuel];
    of_first.into_iter().chain([units, upstream_us]).for_each(|number| value.put_u64(number));
    // Fewer than `MAX_CODES` each.
    value.put_u16(u16::try_from(counts.denied.len()).unwrap_or(u16::MAX));
    for (name, number) in counts.denied.iter().chain(&counts.fuel_by_policy) {
        put_text(&mut value, name);
        value.put_u64(*number);
    }
    value
}

/// Sums, in any version.
pub(super) fn counts(mut value: &[u8]) -> Option<Counts> {
    let version = value.try_get_u8().ok().filter(|version| (FIRST..=VERSION).contains(version))?;
    let is_first = version == FIRST;
    let mut numbers = [0; 12];
    for number in numbers.iter_mut().take(if is_first { 10 } else { 12 }) {
        *number = value.try_get_u64().ok()?;
    }
    let [calls, switched, succeeded, redirected, refused, failed, bytes_in, bytes_out, gas, fuel, units, upstream_us] =
        numbers;
    let codes = if is_first { usize::MAX } else { value.try_get_u16().ok()?.into() };
    let (mut denied, mut fuel_by_policy) = (Vec::new(), Vec::new());
    while value.has_remaining() {
        let named = (text(&mut value)?.into(), value.try_get_u64().ok()?);
        if denied.len() < codes { denied.push(named) } else { fuel_by_policy.push(named) }
    }
    if !is_first && denied.len() < codes {
        return None;
    }
    let statuses = Statuses { switched, succeeded, redirected, refused, failed };
    let gas = Gas::from_millionths(gas);
    Some(Counts { calls, statuses, denied, bytes_in, bytes_out, gas, units, upstream_us, fuel, fuel_by_policy })
}
