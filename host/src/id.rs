//! Ids: a prefix that says of what, and 26 characters that sort by time.
//!
//! An id is a number of 128 bits, 48 of milliseconds and 80 of chance, in the lower-case base 32 of Crockford. It names,
//! and never grants: whoever can guess one has gained nothing.

use std::cell::Cell;
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::ops::Deref;
use std::str::FromStr;

use http::HeaderValue;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::clock::Millis;

const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const PREFIX_LENGTH: usize = 4;
const CHANCE_BITS: u32 = 80;

/// Length of every id as text: prefix and number.
pub const LENGTH: usize = PREFIX_LENGTH + 26;

/// Of what an id is.
pub trait Kind: Copy + Eq + Ord + Hash + fmt::Debug + Send + Sync + 'static {
    /// What its text begins with.
    const PREFIX: &'static [u8; PREFIX_LENGTH];
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $prefix:literal, $(#[$alias_doc:meta])* $alias:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $kind {}

        impl Kind for $kind {
            const PREFIX: &'static [u8; PREFIX_LENGTH] = $prefix;
        }

        $(#[$alias_doc])*
        pub type $alias = Id<$kind>;
    )*};
}

kinds! {
    /// Kind of [`KeyId`].
    OfKey = b"key_", /// The id of a key: `key_…`.
    KeyId;
    /// Kind of [`OrgId`].
    OfOrg = b"org_", /// The id of an org: `org_…`.
    OrgId;
    /// Kind of [`RequestId`].
    OfRequest = b"req_", /// The id of a request: `req_…`, as in `x-request-id`.
    RequestId;
    /// Kind of [`TokenId`].
    OfToken = b"tok_", /// The id of a token of the admin API: `tok_…`.
    TokenId;
    /// Kind of [`WebhookId`].
    OfWebhook = b"whk_", /// The id of a webhook: `whk_…`.
    WebhookId;
    /// Kind of [`EventId`].
    OfEvent = b"evt_", /// The id of an event that webhooks are told of: `evt_…`.
    EventId;
}

/// An id; ids of one kind compare by the time at which they were made, then by chance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id<K> {
    number: u128,
    kind: PhantomData<K>,
}

/// Text that is not an id of the kind that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id of this kind")]
pub struct NotAnId;

/// The operating system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes; check that /dev/urandom can be read")]
pub struct NoRandomness;

/// Random bytes from the operating system: for ids, tokens, keys and seeds.
pub fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

impl<K: Kind> Id<K> {
    /// A new id with the operating system's chance: for whatever is made rarely.
    pub fn fresh(now: Millis) -> Result<Self, NoRandomness> {
        Ok(Self::at(now, u128::from_be_bytes(random()?)))
    }

    /// The id with this number.
    pub const fn from_number(number: u128) -> Self {
        Self { number, kind: PhantomData }
    }

    /// The number; it sorts as the text does.
    pub fn number(self) -> u128 {
        self.number
    }

    /// The text, on the stack.
    pub fn text(self) -> Text {
        let mut text = [0; LENGTH];
        self.write(&mut text);
        Text(text)
    }

    /// Writes the text into a buffer of exactly its length.
    pub fn write(self, buffer: &mut [u8; LENGTH]) {
        let (prefix, digits) = buffer.split_at_mut(PREFIX_LENGTH);
        prefix.copy_from_slice(K::PREFIX);
        // Words of 50 bits, ten digits each: shifting the whole number for every digit costs three times as much.
        for (chunk, shift) in digits.rchunks_mut(10).zip([0, 50, 100]) {
            let mut word = (self.number >> shift) as u64;
            for digit in chunk.iter_mut().rev() {
                *digit = DIGITS[(word & 31) as usize];
                word >>= 5;
            }
        }
    }

    fn at(now: Millis, chance: u128) -> Self {
        Self::from_number(u128::from(now.0) << CHANCE_BITS | chance & ((1 << CHANCE_BITS) - 1))
    }
}

impl RequestId {
    /// The id as the value of a field; allocates once.
    pub fn as_header(self) -> HeaderValue {
        HeaderValue::from_bytes(&self.text().0).expect("an id is letters, digits and an underscore")
    }
}

impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text())
    }
}

impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl<K: Kind> FromStr for Id<K> {
    type Err = NotAnId;

    /// Accepts exactly what [`Id::text`] writes, so that one id has one spelling.
    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let digits = text.as_bytes().strip_prefix(K::PREFIX).ok_or(NotAnId)?;
        // 26 digits hold 130 bits: the first may only use three of its five.
        if digits.len() != LENGTH - PREFIX_LENGTH || digits[0] > b'7' {
            return Err(NotAnId);
        }
        let mut number = 0;
        for digit in digits {
            let value = DIGITS.iter().position(|known| known == digit).ok_or(NotAnId)?;
            number = number << 5 | value as u128;
        }
        Ok(Self::from_number(number))
    }
}

impl<K: Kind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

impl<'de, K: Kind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// The text of an id, on the stack; reads as a `str`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text([u8; LENGTH]);

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).expect("an id is letters, digits and an underscore")
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// One worker's source of request ids: no system call, no lock and no allocation for each.
///
/// Two of its ids never have the same chance; those of two workers differ in the bits that each worker drew.
#[derive(Debug)]
pub struct RequestIds {
    worker: u16,
    base: u64,
    count: Cell<u64>,
}

impl RequestIds {
    /// A source with bits of its own from the operating system.
    pub fn new() -> Result<Self, NoRandomness> {
        let bits = u128::from_be_bytes(random()?);
        Ok(Self { worker: (bits >> 64) as u16, base: bits as u64, count: Cell::new(0) })
    }

    /// The next id.
    pub fn next(&self, now: Millis) -> RequestId {
        let count = self.count.get();
        self.count.set(count.wrapping_add(1));
        // The mixing maps each count to another word, so ids stay unique without looking consecutive.
        let word = mixed(self.base.wrapping_add(count));
        RequestId::at(now, u128::from(self.worker) << 64 | u128::from(word))
    }
}

/// A bijection on words that spreads neighbours apart: xor-shifts and odd factors, each of them reversible.
fn mixed(word: u64) -> u64 {
    let word = (word ^ word >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 29).wrapping_mul(0xd6e8_feb8_6659_fd93);
    word ^ word >> 32
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_has_one_known_spelling() {
        assert_eq!(KeyId::from_number(0).to_string(), "key_00000000000000000000000000");
        assert_eq!(OrgId::from_number(u128::MAX).to_string(), "org_7zzzzzzzzzzzzzzzzzzzzzzzzz");
        assert_eq!(
            RequestId::from_number(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210).to_string(),
            "req_014d2pf2dbsqqzxq5tk1v58cgg"
        );
    }

    #[test]
    fn what_is_not_exactly_an_id_is_refused() {
        let good = KeyId::from_number(77).to_string();
        assert_eq!(good.parse::<KeyId>(), Ok(KeyId::from_number(77)));
        assert_eq!(good.parse::<OrgId>(), Err(NotAnId));
        let too_large = "key_80000000000000000000000000";
        for text in ["", "key_", &good[..29], &format!("{good}0"), &good.to_uppercase(), too_large] {
            assert_eq!(text.parse::<KeyId>(), Err(NotAnId), "{text}");
        }
        assert_eq!(good.replace('0', "u").parse::<KeyId>(), Err(NotAnId));
    }

    #[test]
    fn request_ids_sort_by_time_and_never_repeat() {
        let ids = RequestIds::new().unwrap();
        let other = RequestIds::new().unwrap();
        let now = Millis(1_795_315_200_000);
        let mut seen = HashSet::new();
        for _ in 0..20_000 {
            assert!(seen.insert(ids.next(now)));
            assert!(seen.insert(other.next(now)));
        }
        let later = ids.next(Millis(now.0 + 1));
        assert!(seen.iter().all(|id| *id < later && id.to_string() < later.to_string()));
        assert_eq!(later.as_header(), later.to_string());
        assert!(later.as_header().to_str().unwrap().starts_with("req_"));
    }

    proptest! {
        #[test]
        fn every_number_survives_its_text(number: u128) {
            let id = KeyId::from_number(number);
            prop_assert_eq!(id.text().parse::<KeyId>(), Ok(id));
            prop_assert_eq!(id.number(), number);
        }

        #[test]
        fn any_text_is_refused_or_is_the_only_spelling(text in "(key_)?[0-9a-zA-Z]{20,28}|\\PC*") {
            if let Ok(id) = text.parse::<KeyId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
