//! Gas: what a call costs, in whole millionths of a token, and what that is in currency.
//!
//! No floats anywhere, and no rounding: an amount that is not a whole number of millionths is refused, and every sum is
//! checked. Gas and money never mix: a [`Rate`] is the only way from a price to gas, and from gas to what is shown.

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Decimal places of a token.
const PLACES: u32 = 6;

/// Decimal places of a rate.
const RATE_PLACES: u32 = 9;

/// Digits that an amount may be written with, at most: enough for every amount, and few enough to never overflow below.
const MAX_DIGITS: usize = 30;

/// An amount of gas: whole millionths of a token. Written in tokens, as the shortest decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Gas(u64);

/// What one token costs: whole billionths of a unit of currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate(u64);

/// What an amount of gas is in currency. Only to be shown: it is no money, and is never summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// In units of 10 to the minus [`PLACES`] and [`RATE_PLACES`].
    amount: u128,
}

/// A text that is not an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAmount {
    /// Not a decimal number.
    #[error("not an amount; write digits with at most one point between them, for example \"5\" or \"0.25\"")]
    Malformed,
    /// More decimal places than there are.
    #[error("finer than a millionth of a token; write a coarser amount")]
    TooFine,
    /// More than can be counted.
    #[error("more than {} tokens; write a smaller amount", Gas::MAX)]
    TooLarge,
    /// A token that costs nothing.
    #[error("a token must cost something; write for example \"0.01\"")]
    Free,
}

impl Gas {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The most that can be counted.
    pub const MAX: Self = Self(u64::MAX);

    /// So many millionths of a token.
    pub const fn from_millionths(millionths: u64) -> Self {
        Self(millionths)
    }

    /// How many millionths of a token.
    pub const fn millionths(self) -> u64 {
        self.0
    }

    /// Reads an amount in tokens: `5`, `0.25`.
    ///
    /// # Errors
    /// What is wrong with it, with what to write instead.
    pub fn parse(tokens: &str) -> Result<Self, NotAnAmount> {
        let (digits, places) = decimal(tokens)?;
        scaled(digits, places, PLACES).map(Self)
    }

    /// The gas for a price in currency, exactly.
    ///
    /// # Errors
    /// The price is no amount, or it is not a whole number of millionths of a token.
    pub fn from_price(price: &str, rate: Rate) -> Result<Self, NotAnAmount> {
        let (digits, places) = decimal(price)?;
        // price / rate tokens = digits / 10^places * 10^9 / rate, times 10^6. Where the places go down, they must go evenly.
        let up = PLACES + RATE_PLACES;
        let (factor, divisor) = (10u128.pow(up.saturating_sub(places)), 10u128.pow(places.saturating_sub(up)));
        let divisor = divisor.checked_mul(rate.0.into()).ok_or(NotAnAmount::TooFine)?;
        let amount = digits.checked_mul(factor).ok_or(NotAnAmount::TooLarge)?;
        if !amount.is_multiple_of(divisor) {
            return Err(NotAnAmount::TooFine);
        }
        u64::try_from(amount / divisor).map(Self).map_err(|_| NotAnAmount::TooLarge)
    }

    /// The sum; none where it is more than can be counted.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference; none where it would be less than nothing.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// So many times this; none where it is more than can be counted.
    pub fn checked_mul(self, times: u64) -> Option<Self> {
        self.0.checked_mul(times).map(Self)
    }

    /// The sum, or the most that can be counted: for statistics, never for what is charged.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// What it is in currency, exactly.
    pub fn cost(self, rate: Rate) -> Cost {
        // 64 and 64 bits always fit.
        Cost { amount: u128::from(self.0) * u128::from(rate.0) }
    }
}

impl Rate {
    /// The list price: one token is 0.01 of the currency.
    pub const LIST: Self = Self(10_000_000);

    /// Reads what one token costs in currency: `0.01`.
    ///
    /// # Errors
    /// It is no amount, finer than a billionth, or nothing.
    pub fn parse(price: &str) -> Result<Self, NotAnAmount> {
        let (digits, places) = decimal(price)?;
        match scaled(digits, places, RATE_PLACES)? {
            0 => Err(NotAnAmount::Free),
            billionths => Ok(Self(billionths)),
        }
    }
}

/// Digits without the point, and how many of them stand behind it.
fn decimal(text: &str) -> Result<(u128, u32), NotAnAmount> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let fits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !fits(whole) || !fits(fraction) {
        return Err(NotAnAmount::Malformed);
    }
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    if fraction.len() > MAX_DIGITS / 2 {
        return Err(NotAnAmount::TooFine);
    }
    if whole.len() + fraction.len() > MAX_DIGITS {
        return Err(NotAnAmount::TooLarge);
    }
    let add = |sum, byte: u8| sum * 10 + u128::from(byte - b'0');
    let places = u32::try_from(fraction.len()).map_err(|_| NotAnAmount::TooFine)?;
    Ok((whole.bytes().chain(fraction.bytes()).fold(0, add), places))
}

/// The same amount in units of so many places.
fn scaled(digits: u128, places: u32, unit: u32) -> Result<u64, NotAnAmount> {
    let missing = unit.checked_sub(places).ok_or(NotAnAmount::TooFine)?;
    let amount = digits.checked_mul(10u128.pow(missing)).ok_or(NotAnAmount::TooLarge)?;
    u64::try_from(amount).map_err(|_| NotAnAmount::TooLarge)
}

/// Writes the shortest decimal of an amount in units of so many places.
fn write(f: &mut fmt::Formatter<'_>, amount: u128, places: u32) -> fmt::Result {
    let unit = 10u128.pow(places);
    let (whole, mut fraction, mut width) = (amount / unit, amount % unit, places as usize);
    if fraction == 0 {
        return write!(f, "{whole}");
    }
    while fraction.is_multiple_of(10) {
        fraction /= 10;
        width -= 1;
    }
    write!(f, "{whole}.{fraction:0width$}")
}

impl fmt::Display for Gas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0.into(), PLACES)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0.into(), RATE_PLACES)
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.amount, PLACES + RATE_PLACES)
    }
}

impl FromStr for Gas {
    type Err = NotAnAmount;

    fn from_str(text: &str) -> Result<Self, NotAnAmount> {
        Self::parse(text)
    }
}

impl Serialize for Gas {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Gas {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}
