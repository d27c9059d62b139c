//! The written forms of single values: text in, typed value or the sentence that says how to write it.
//!
//! Pure, and exact: no floats but for a ratio, and what does not fit is refused, never rounded.

use super::Ratio;
use crate::gas::Gas;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Why a text is not a value of its form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// What is wrong, and what is allowed.
    pub message: String,
    /// What was probably meant, as one would write it.
    pub meant: Option<String>,
}

impl<S: Into<String>> From<S> for Fault {
    fn from(message: S) -> Self {
        Self { message: message.into(), meant: None }
    }
}

const TIME_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// `20ms`, `5s`, `1m`, `2h`, `1d`.
pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&str) -> Result<Duration, Fault> {
    move |text| {
        let millis = quantity(text, &TIME_UNITS).ok_or_else(|| {
            Fault::from(format!(
                "`{}` is not a duration; write a whole number and ms, s, m, h or d, such as \"5s\"",
                shown(text)
            ))
        })?;
        let value = Duration::from_millis(millis);
        within(value, &range, |value| written(value.as_millis() as u64, &TIME_UNITS))
    }
}

/// `512B`, `64KiB`, `16MiB`, `1GiB`: bytes.
pub(super) fn size(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<usize, Fault> {
    move |text| {
        let bytes = quantity(text, &SIZE_UNITS).ok_or_else(|| Fault {
            message: format!(
                "`{}` is not a size; write a whole number and B, KiB, MiB or GiB, such as \"16MiB\"",
                shown(text)
            ),
            meant: meant_size(text),
        })?;
        let bytes = within(bytes, &range, |bytes| written(*bytes, &SIZE_UNITS))?;
        usize::try_from(bytes).map_err(|_| Fault::from("is more than this machine can address"))
    }
}

/// A number from 0 to 1, as a part of all ids.
pub(super) fn ratio(text: &str) -> Result<Ratio, Fault> {
    // TOML writes numbers with underscores, too.
    let number = text.replace('_', "").parse::<f64>().ok().filter(|number| (0.0..=1.0).contains(number));
    let number = number.ok_or_else(|| Fault::from(format!("{} is out of range; allowed is 0 to 1", shown(text))))?;
    // Whole at 1, and rounded by less than any id is apart from the next.
    Ok(Ratio((number * Ratio::WHOLE as f64) as u64))
}

/// Tokens as a decimal number (`5`, `0.25`), in millionths of a token.
pub(super) fn gas(text: &str) -> Result<u64, Fault> {
    match Gas::parse(text) {
        Ok(gas) => Ok(gas.millionths()),
        Err(error) => Err(Fault::from(format!("`{}` is {error}", shown(text)))),
    }
}

/// A name: lower-case letters, digits and hyphens, from a letter to a letter or digit, at most 64.
pub(super) fn name(text: &str) -> Result<String, Fault> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = text.len() <= 64
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.bytes().all(inner);
    if fits {
        return Ok(text.to_owned());
    }
    let meant: String =
        text.trim().chars().take(64).map(|c| if c == '_' { '-' } else { c.to_ascii_lowercase() }).collect();
    Err(Fault {
        message: format!(
            "`{}` is not a name; use 1 to 64 lower-case letters, digits and hyphens, from a letter to a letter or digit",
            shown(text)
        ),
        meant: (meant != text && name(&meant).is_ok()).then_some(meant),
    })
}

/// Something that a person reads: 1 to so many characters, no control characters.
pub(super) fn words(most: usize) -> impl Fn(&str) -> Result<String, Fault> {
    move |text| {
        let fits = !text.trim().is_empty() && text.chars().count() <= most && !text.chars().any(char::is_control);
        fits.then(|| text.to_owned())
            .ok_or_else(|| Fault::from(format!("must be 1 to {most} characters, without control characters")))
    }
}

/// As many bytes, milliseconds or other units as a whole number with one unit says.
fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// The shortest exact way to write a quantity.
fn written(value: u64, units: &[(&str, u64)]) -> String {
    let fitting = units.iter().find(|(_, factor)| value > 0 && value.is_multiple_of(*factor));
    match fitting.or(units.iter().rev().find(|(name, _)| *name == "s" || *name == "B")) {
        Some((unit, factor)) => format!("{}{unit}", value / factor),
        None => value.to_string(),
    }
}

fn within<T: PartialOrd>(value: T, range: &RangeInclusive<T>, show: impl Fn(&T) -> String) -> Result<T, Fault> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(Fault::from(format!(
        "{} is out of range; allowed is {} to {}",
        show(&value),
        show(range.start()),
        show(range.end())
    )))
}

/// `16MB`, `16mb`, `16 MiB` and `16M` are all meant to be `16MiB`.
fn meant_size(text: &str) -> Option<String> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    let unit = text.get(digits.len()..)?.trim().to_ascii_lowercase();
    let (unit, _) = SIZE_UNITS.iter().find(|(name, _)| {
        let name = name.to_ascii_lowercase();
        unit == name || unit == name.replace('i', "") || unit == name[..1]
    })?;
    (!digits.is_empty() && digits.len() < 16).then(|| format!("{digits}{unit}"))
}

/// A text as it may stand in a message: short, and on one line.
pub(super) fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(64).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(64).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_duration(text: &str) -> Result<Duration, Fault> {
        duration(Duration::ZERO..=Duration::MAX)(text)
    }

    #[test]
    fn durations() {
        assert_eq!(any_duration("20ms"), Ok(Duration::from_millis(20)));
        assert_eq!(any_duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(any_duration("1m"), Ok(Duration::from_secs(60)));
        assert_eq!(any_duration("0s"), Ok(Duration::ZERO));
        for odd in
            ["", "5", "s", "5 s", "-5s", "5.5s", "5S", "5sec", "99999999999999999999s", "18446744073709551615h", "٥s"]
        {
            assert!(any_duration(odd).is_err(), "{odd}");
        }
        let bounded = duration(Duration::from_millis(5)..=Duration::from_secs(10))("1m").expect_err("too long");
        assert_eq!(bounded.message, "1m is out of range; allowed is 5ms to 10s");
        let nothing = duration(Duration::from_millis(5)..=Duration::from_secs(10))("0ms").expect_err("too short");
        assert_eq!(nothing.message, "0s is out of range; allowed is 5ms to 10s");
    }

    #[test]
    fn sizes() {
        let any = size(0..=u64::MAX);
        assert_eq!(any("16MiB"), Ok(16 << 20));
        assert_eq!(any("512B"), Ok(512));
        for meant in ["16MB", "16mb", "16 MiB", "16M", "16mib"] {
            assert_eq!(any(meant).expect_err("not exact").meant.as_deref(), Some("16MiB"), "{meant}");
        }
        assert_eq!(any("x").expect_err("none").meant, None);
    }

    #[test]
    fn gas_is_exact() {
        assert_eq!(gas("5"), Ok(5_000_000));
        assert_eq!(gas("0.25"), Ok(250_000));
        assert_eq!(gas("0.000001"), Ok(1));
        assert_eq!(gas("1.0000000000"), Ok(1_000_000));
        assert_eq!(gas("18446744073709.551615"), Ok(u64::MAX));
        for odd in ["", ".", "5.", ".5", "-1", "+1", "1e3", "1,5", " 1", "0.0000001", "18446744073709.551616", "٥"] {
            assert!(gas(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn names() {
        for good in ["a", "rate-limit", "v2", &"a".repeat(64)] {
            assert!(name(good).is_ok(), "{good}");
        }
        for odd in ["", "-a", "a-", "2a", "a b", "ä", &"a".repeat(65)] {
            assert!(name(odd).is_err(), "{odd}");
        }
        assert_eq!(name("Rate_Limit").expect_err("odd").meant.as_deref(), Some("rate-limit"));
    }

    proptest! {
        #[test]
        fn gas_reads_back_what_was_written(value: u64) {
            let text = format!("{}.{:06}", value / 1_000_000, value % 1_000_000);
            prop_assert_eq!(gas(&text), Ok(value));
        }

        #[test]
        fn quantities_read_back_what_was_written(value in 0_u64..u64::MAX / 2) {
            prop_assert_eq!(quantity(&written(value, &SIZE_UNITS), &SIZE_UNITS), Some(value));
            let time = written(value, &TIME_UNITS);
            prop_assert_eq!(quantity(&time, &TIME_UNITS), Some(value));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = (any_duration(&text).is_ok(), size(0..=9)(&text).is_ok(), gas(&text).is_ok(), name(&text).is_ok());
        }
    }
}
