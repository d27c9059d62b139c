//! Reads prices, exactly: decimal strings to integer millionths of a token, without floats and without rounding.

use portico_sdk::{Charge, Setup};
use serde::Deserialize;

/// A price as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceConfig {
    /// In tokens.
    gas: Option<String>,
    /// In dollars; one token is $0.01.
    price: Option<String>,
    #[serde(default)]
    per: Per,
    max_units: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Per {
    #[default]
    Request,
    Unit,
    Kib,
}

/// Decimals of a token that a millionth has.
const GAS_DECIMALS: usize = 6;
/// Decimals of a dollar that a millionth of a token has: one token is $0.01, which is two decimals more.
const PRICE_DECIMALS: usize = GAS_DECIMALS + 2;

/// The charge; `None` where it is free, or where something is wrong, which is reported to `setup`.
pub fn resolve(price: &PriceConfig, place: &str, setup: &mut Setup<'_>) -> Option<Charge> {
    let (key, written, decimals) = match (&price.gas, &price.price) {
        (Some(gas), None) => ("gas", gas, GAS_DECIMALS),
        (None, Some(price)) => ("price", price, PRICE_DECIMALS),
        _ => {
            setup.problem(place, "Write either `gas` (tokens) or `price` (dollars), and not both.");
            return None;
        }
    };
    let gas = match millionths(written, decimals) {
        Ok(gas) => gas,
        Err(why) => {
            setup.problem(format!("{place}/{key}"), format!("`{written}` cannot be charged: {why}."));
            return None;
        }
    };
    let charge = match (price.per, price.max_units) {
        (Per::Request, None) => Charge::per_request(gas),
        (Per::Request, Some(_)) => {
            setup.problem(
                format!("{place}/max_units"),
                "A request is charged once; leave `max_units` out, or write `per = \"unit\"` or `per = \"kib\"`.",
            );
            return None;
        }
        (_, None | Some(0)) => {
            setup.problem(
                format!("{place}/max_units"),
                "Say with `max_units` (at least 1) how many are charged at most.",
            );
            return None;
        }
        (Per::Unit, Some(most)) => Charge::per_unit(gas, most),
        (Per::Kib, Some(most)) => Charge::per_kibibyte(gas, most),
    };
    match charge.most() {
        Some(most) => setup.charges_at_most(most),
        None => setup.problem(
            format!("{place}/max_units"),
            "This many units at this price are more than can be counted; write less.",
        ),
    }
    (gas > 0).then_some(charge)
}

/// A decimal string as an integer of its `decimals`th decimal.
fn millionths(text: &str, decimals: usize) -> Result<u64, &'static str> {
    let (whole, fraction) = match text.split_once('.') {
        Some((_, "")) => return Err("write a digit after the point"),
        Some(parts) => parts,
        None => (text, ""),
    };
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return Err("write digits with at most one point, such as `5` or `0.25`");
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > decimals {
        return Err("it is finer than a millionth of a token");
    }
    let padding = std::iter::repeat_n(b'0', decimals - fraction.len());
    let mut total: u64 = 0;
    for digit in whole.bytes().chain(fraction.bytes()).chain(padding) {
        let next = total.checked_mul(10);
        let next = next.and_then(|total| total.checked_add(u64::from(digit - b'0')));
        total = next.ok_or("it is more than can be counted")?;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use portico_sdk::testing;

    use super::*;
    use crate::Gas;

    fn pointers(price: &str) -> Vec<String> {
        let slot = testing::slot("connect").build();
        let config = format!(r#"{{"default":{price}}}"#);
        let problems = testing::configure::<Gas>(&slot, &config).expect_err("a bad price");
        problems.into_iter().map(|problem| problem.pointer).collect()
    }

    #[test]
    fn tokens_and_dollars_are_exact() {
        for (text, gas) in [
            ("5", 5_000_000),
            ("0.25", 250_000),
            ("0.000001", 1),
            ("007.10", 7_100_000),
            ("0", 0),
            ("1.0000000000", 1_000_000),
            ("18446744073709.551615", u64::MAX),
        ] {
            assert_eq!(millionths(text, GAS_DECIMALS), Ok(gas), "{text}");
        }
        // E-mail, video, SMS, certificate and shipment of the price list.
        for (text, gas) in [
            ("0.0001", 10_000),
            ("0.004", 400_000),
            ("0.04", 4_000_000),
            ("0.05", 5_000_000),
            ("0.50", 50_000_000),
            ("0.00000001", 1),
        ] {
            assert_eq!(millionths(text, PRICE_DECIMALS), Ok(gas), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_or_too_fine_or_too_much_is_refused() {
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1e3",
            "1,5",
            "0x10",
            " 1",
            "1.2.3",
            "١",
            "0.0000001",
            "18446744073709.551616",
            "99999999999999999999999",
        ] {
            assert!(millionths(text, GAS_DECIMALS).is_err(), "{text}");
        }
    }

    #[test]
    fn mistakes_are_found_at_their_place() {
        assert_eq!(pointers("{}"), ["/default"]);
        assert_eq!(pointers(r#"{"gas":"1","price":"1"}"#), ["/default"]);
        assert_eq!(pointers(r#"{"gas":"0.0000001"}"#), ["/default/gas"]);
        assert_eq!(pointers(r#"{"price":"0.000000001"}"#), ["/default/price"]);
        assert_eq!(pointers(r#"{"gas":1}"#), ["/default/gas"]);
        assert_eq!(pointers(r#"{"gas":"1","per":"day"}"#), ["/default/per"]);
        assert_eq!(pointers(r#"{"gas":"1","per":"unit"}"#), ["/default/max_units"]);
        assert_eq!(pointers(r#"{"gas":"1","max_units":2}"#), ["/default/max_units"]);
        assert_eq!(pointers(r#"{"gas":"18446744073709","per":"unit","max_units":2}"#), ["/default/max_units"]);
    }
}
