//! How entries are written: where a row stands, what is in it, and what leads to those that expire.
//!
//! A row stands under the space, a zero byte and the key; spaces are names, so they have no zero byte and are never empty.
//! Beside it, an entry that expires has a pointer without a value under a zero byte, the space, a zero byte, when it expires
//! (most significant byte first) and the key: so what has expired in a space is one range. A pointer is a hint, and the row
//! is the truth.

use bytes::{Buf, BufMut};

use super::{Entry, MAX_KEY};
use crate::clock::Millis;

/// How values are written. Another one needs another number, and a way to read this one.
const VERSION: u8 = 1;

/// What is not the value in a row: the version, and when it expires (0: never).
const HEAD: usize = 9;

/// What a row says beside its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    /// From when on it is gone.
    pub(super) expires: Option<Millis>,
    /// Bytes of key and value.
    pub(super) bytes: u64,
}

/// Where the row of a key stands.
pub(super) fn place(space: &str, key: &str) -> Vec<u8> {
    let mut place = Vec::with_capacity(space.len() + 1 + key.len());
    place.put_slice(space.as_bytes());
    place.put_u8(0);
    place.put_slice(key.as_bytes());
    place
}

/// Space and key of a row.
pub(super) fn read_place(place: &[u8]) -> Option<(&str, &str)> {
    let end = place.iter().position(|byte| *byte == 0)?;
    let (space, key) = place.split_at_checked(end)?;
    let key = std::str::from_utf8(key.get(1..)?).ok()?;
    let whole = !space.is_empty() && (1..=MAX_KEY).contains(&key.len());
    std::str::from_utf8(space).ok().filter(|_| whole).map(|space| (space, key))
}

/// From the first row of a space to behind its last.
pub(super) fn rows(space: &str) -> (Vec<u8>, Vec<u8>) {
    let from = place(space, "");
    let mut to = space.as_bytes().to_vec();
    to.put_u8(1);
    (from, to)
}

/// A row.
pub(super) fn row(entry: &Entry) -> Vec<u8> {
    let mut row = Vec::with_capacity(HEAD + entry.value.len());
    row.put_u8(VERSION);
    row.put_u64(entry.expires.map_or(0, |at| at.0));
    row.put_slice(&entry.value);
    row
}

/// What a row of a key says; none where it is damaged.
pub(super) fn read_row<'a>(key: &str, mut row: &'a [u8]) -> Option<(Written, &'a [u8])> {
    if row.try_get_u8().ok()? != VERSION {
        return None;
    }
    let expires = Some(row.try_get_u64().ok()?).filter(|at| *at > 0).map(Millis);
    Some((Written { expires, bytes: size(key, row) }, row))
}

/// What an entry counts for: bytes of key and value.
pub(super) fn size(key: &str, value: &[u8]) -> u64 {
    u64::try_from(key.len().saturating_add(value.len())).unwrap_or(u64::MAX)
}

/// Where the pointer of a key stands.
pub(super) fn pointer(space: &str, expires: Millis, key: &str) -> Vec<u8> {
    let mut pointer = Vec::with_capacity(1 + space.len() + 1 + 8 + key.len());
    pointer.put_u8(0);
    pointer.put_slice(space.as_bytes());
    pointer.put_u8(0);
    pointer.put_u64(expires.0);
    pointer.put_slice(key.as_bytes());
    pointer
}

/// From the first pointer of a space to behind the last one of what has expired now.
pub(super) fn expired(space: &str, now: Millis) -> (Vec<u8>, Vec<u8>) {
    (pointer(space, Millis(0), ""), pointer(space, Millis(now.0.saturating_add(1)), ""))
}

/// Space, instant and key of a pointer.
pub(super) fn read_pointer(pointer: &[u8]) -> Option<(&str, Millis, &str)> {
    let rest = pointer.strip_prefix(&[0])?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    let (space, mut rest) = rest.split_at_checked(end)?;
    rest = rest.get(1..)?;
    let expires = Millis(rest.try_get_u64().ok()?);
    let space = std::str::from_utf8(space).ok().filter(|space| !space.is_empty())?;
    std::str::from_utf8(rest).ok().filter(|key| !key.is_empty()).map(|key| (space, expires, key))
}
