//! The cursor of usage in detail: the last sum of a page, as letters that mean nothing to whoever gives them back.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Buf, BufMut};

use crate::usage::{Day, Group};

const DAY: u8 = 1;
const KEY: u8 = 2;
const HAS_KEY: u8 = 4;
const PILLAR: u8 = 8;
const ROUTE: u8 = 16;

/// The last sum of a page.
pub(super) struct Cursor(pub(super) Group);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Group { day, key, pillar, route } = &self.0;
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let mut bytes = vec![
            flag(day.is_some(), DAY)
                | flag(key.is_some(), KEY)
                | flag(key.flatten().is_some(), HAS_KEY)
                | flag(pillar.is_some(), PILLAR)
                | flag(route.is_some(), ROUTE),
        ];
        day.iter().for_each(|day| bytes.put_u32(day.0));
        key.flatten().iter().for_each(|key| bytes.put_u128(*key));
        for name in [pillar, route].into_iter().flatten() {
            // Names are bounded far below that.
            bytes.put_u16(u16::try_from(name.len()).unwrap_or_default());
            bytes.put_slice(name.as_bytes());
        }
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(drop)?;
        read(&bytes).map(Self).ok_or(())
    }
}

fn read(mut bytes: &[u8]) -> Option<Group> {
    let from = &mut bytes;
    let flags = from.try_get_u8().ok()?;
    let has = |flag| flags & flag != 0;
    let day = if has(DAY) { Some(Day(from.try_get_u32().ok()?)) } else { None };
    let number = if has(HAS_KEY) { Some(from.try_get_u128().ok()?) } else { None };
    let pillar = if has(PILLAR) { Some(name(from)?) } else { None };
    let route = if has(ROUTE) { Some(name(from)?) } else { None };
    from.is_empty().then_some(Group { day, key: has(KEY).then_some(number), pillar, route })
}

fn name(from: &mut &[u8]) -> Option<Arc<str>> {
    let length = from.try_get_u16().ok()?;
    let (name, rest) = from.split_at_checked(length.into())?;
    *from = rest;
    std::str::from_utf8(name).ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            day: Option<u32>,
            key: Option<Option<u128>>,
            pillar in prop::option::of("[a-z-]{1,64}"),
            route in prop::option::of("\\PC{0,40}"),
        ) {
            let group = Group { day: day.map(Day), key, pillar: pillar.map(Into::into), route: route.map(Into::into) };
            let read = Cursor(group.clone()).to_string().parse::<Cursor>();
            prop_assert_eq!(read.ok().map(|cursor| cursor.0), Some(group));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[A-Za-z0-9_-]{0,60}") {
            let _ = text.parse::<Cursor>();
        }
    }
}
