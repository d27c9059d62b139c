//! Amounts, prices and their texts.

use proptest::prelude::*;

use super::*;

#[test]
fn amounts_are_read_exactly_and_written_as_the_shortest_decimal() {
    for (text, millionths, written) in [
        ("0", 0, "0"),
        ("5", 5_000_000, "5"),
        ("0.25", 250_000, "0.25"),
        ("0.000001", 1, "0.000001"),
        ("007.10", 7_100_000, "7.1"),
        ("1.2500000000000", 1_250_000, "1.25"),
        ("18446744073709.551615", u64::MAX, "18446744073709.551615"),
    ] {
        let gas = Gas::parse(text).unwrap();
        assert_eq!((gas.millionths(), gas.to_string().as_str()), (millionths, written), "{text}");
    }
}

#[test]
fn what_is_no_amount_is_refused_with_the_reason() {
    for text in ["", ".", "5.", ".5", "-1", "+1", " 1", "1 ", "1e3", "1,5", "1.2.3", "٣", "0x1", "NaN", "1_000"] {
        assert_eq!(Gas::parse(text), Err(NotAnAmount::Malformed), "{text}");
    }
    for text in ["0.0000001", "1.0000000000000000000000001"] {
        assert_eq!(Gas::parse(text), Err(NotAnAmount::TooFine), "{text}");
    }
    for text in ["18446744073709.551616", "99999999999999999999999999999999999999999999", "1000000000000000000000000"] {
        assert_eq!(Gas::parse(text), Err(NotAnAmount::TooLarge), "{text}");
    }
}

#[test]
fn prices_of_the_list_are_exact() {
    for (price, tokens) in [
        ("0.0001", "0.01"),
        ("0.004", "0.4"),
        ("0.04", "4"),
        ("0.05", "5"),
        ("0.001", "0.1"),
        ("0.50", "50"),
        ("0.00000001", "0.000001"),
    ] {
        let gas = Gas::from_price(price, Rate::LIST).unwrap();
        assert_eq!(gas.to_string(), tokens, "{price}");
        assert_eq!(gas.cost(Rate::LIST).to_string(), price.trim_end_matches('0'));
    }
    assert_eq!(Gas::from_price("0.000000001", Rate::LIST), Err(NotAnAmount::TooFine));
    assert_eq!(Gas::from_price("0.0000000000000001", Rate::LIST), Err(NotAnAmount::TooFine));
    assert_eq!(Gas::from_price("1000000000000", Rate::LIST), Err(NotAnAmount::TooLarge));
    assert_eq!(Gas::from_price("1", Rate::parse("3").unwrap()), Err(NotAnAmount::TooFine));
    assert_eq!(Gas::from_price("6", Rate::parse("3").unwrap()).unwrap().to_string(), "2");
}

#[test]
fn a_rate_is_never_nothing() {
    assert_eq!(Rate::parse("0.01"), Ok(Rate::LIST));
    assert_eq!(Rate::LIST.to_string(), "0.01");
    assert_eq!(Rate::parse("0.00"), Err(NotAnAmount::Free));
    assert_eq!(Rate::parse("0.0000000001"), Err(NotAnAmount::TooFine));
}

#[test]
fn sums_are_checked() {
    assert_eq!(Gas::MAX.checked_add(Gas(1)), None);
    assert_eq!(Gas::ZERO.checked_sub(Gas(1)), None);
    assert_eq!(Gas(1 << 40).checked_mul(1 << 24), None);
    assert_eq!(Gas(3).checked_mul(4).and_then(|gas| gas.checked_add(Gas(1))), Some(Gas(13)));
    assert_eq!(Gas::MAX.saturating_add(Gas(1)), Gas::MAX);
    assert_eq!(Gas::MAX.cost(Rate(u64::MAX)).amount, u128::from(u64::MAX) * u128::from(u64::MAX));
}

#[test]
fn json_holds_it_as_a_string() {
    assert_eq!(serde_json::to_string(&Gas(250_000)).unwrap(), "\"0.25\"");
    assert_eq!(serde_json::from_str::<Gas>("\"0.25\"").unwrap(), Gas(250_000));
    assert!(serde_json::from_str::<Gas>("0.25").is_err());
}

proptest! {
    #[test]
    fn every_amount_is_read_back_as_written(millionths: u64) {
        let written = Gas(millionths).to_string();
        prop_assert_eq!(Gas::parse(&written), Ok(Gas(millionths)));
        prop_assert!(!written.contains('.') || !written.ends_with('0'));
    }

    #[test]
    fn every_cost_is_the_price_that_it_came_from(millionths: u64, billionths in 1..=u64::MAX) {
        let (gas, rate) = (Gas(millionths), Rate(billionths));
        let price = gas.cost(rate).to_string();
        match Gas::from_price(&price, rate) {
            Ok(again) => prop_assert_eq!(again, gas),
            // Only where the price has more digits than anyone may write.
            Err(_) => prop_assert!(price.len() > MAX_DIGITS),
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,60}", number in "[0-9]{0,40}\\.?[0-9]{0,40}") {
        for text in [text, number] {
            let _ = Gas::from_price(&text, Rate::LIST);
            let _ = Gas::from_price(&text, Rate(u64::MAX));
            let _ = Rate::parse(&text);
            if let Ok(gas) = Gas::parse(&text) {
                prop_assert_eq!(Gas::parse(&gas.to_string()), Ok(gas));
            }
        }
    }
}
