//! Checks periods, and that every mistake is found at its place.

use portico_sdk::testing;

use super::*;
use crate::RateLimit;

fn pointers(config: &str) -> Vec<String> {
    let slot = testing::slot("connect").build();
    let problems = testing::configure::<RateLimit>(&slot, config).expect_err("a bad configuration");
    problems.into_iter().map(|problem| problem.pointer).collect()
}

#[test]
fn periods_are_whole_and_at_most_a_day() {
    for (text, seconds) in [("1s", 1), ("60s", 60), ("1m", 60), ("24h", 86_400), ("1d", 86_400)] {
        assert_eq!(period(text), Some(Period::Seconds(seconds)), "{text}");
    }
    assert_eq!(period("month"), Some(Period::Month));
    for text in ["", "s", "0s", "1", "1w", "2d", "25h", "-1s", "+1s", "1.5s", " 1s", "99999999999s", "1é"] {
        assert_eq!(period(text), None, "{text}");
    }
}

#[test]
fn all_mistakes_are_found_at_once() {
    let config = r#"{"limits":[
        {"name":"a","subject":"key","when":"anonymous","windows":[]},
        {"name":"a","subject":"address","windows":[
            {"name":"x","quota":0,"per":"1s"},
            {"name":"x","quota":1,"per":"1w"}]}]}"#;
    assert_eq!(
        pointers(config),
        [
            "/limits/0/subject",
            "/limits/0/windows",
            "/limits/1/name",
            "/limits/1/windows/0/quota",
            "/limits/1/windows/1/name",
            "/limits/1/windows/1/per",
        ]
    );
}

#[test]
fn an_empty_list_and_a_long_one_are_refused() {
    assert_eq!(pointers(r#"{"limits":[]}"#), ["/limits"]);
    let limit =
        |n: u32| format!(r#"{{"name":"l{n}","subject":"everyone","windows":[{{"name":"sec","quota":1,"per":"1s"}}]}}"#);
    let nine: Vec<String> = (0..9).map(limit).collect();
    assert_eq!(pointers(&format!(r#"{{"limits":[{}]}}"#, nine.join(","))), [""]);
}

#[test]
fn unknown_words_are_named() {
    let config = r#"{"limits":[{"name":"a","subject":"planet","windows":[]}]}"#;
    assert_eq!(pointers(config), ["/limits/0/subject"]);
}
