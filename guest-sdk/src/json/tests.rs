//! Checks values against the usual JSON crate, and places and words of what is wrong.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Everything {
    flag: bool,
    small: i8,
    large: u64,
    float: f64,
    text: String,
    letter: char,
    list: Vec<u16>,
    pair: (u8, String),
    map: BTreeMap<String, i64>,
    nothing: Option<u8>,
    something: Option<u8>,
    unit: Shape,
    newtype: Shape,
    tuple: Shape,
    record: Shape,
    untagged: Vec<Any>,
    tagged: Tagged,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Shape {
    Unit,
    Newtype(u8),
    Tuple(u8, u8),
    Record { a: u8 },
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Any {
    Number(i64),
    Float(f64),
    Text(String),
    List(Vec<Any>),
    Map(BTreeMap<String, Any>),
    Null(()),
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    One { value: u8 },
}

const EVERYTHING: &str = r#" { "flag" : true, "small":-128,"large":18446744073709551615,"float":-1.5e3,
    "text":"a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00é😀","letter":"\u0041","list":[1,2,3],"pair":[1,"x"],
    "map":{"a/b":1,"":-1},"nothing":null,"something":7,
    "unit":"unit","newtype":{"newtype":1},"tuple":{"tuple":[1,2]},"record":{"record":{"a":1}},
    "untagged":[1,2.5,"x",[],{"k":[null]}],"tagged":{"value":3,"kind":"One"} } "#;

#[test]
fn all_values_are_read_as_the_usual_crate_reads_them() {
    let usual: Everything = serde_json::from_str(EVERYTHING).expect("it is JSON");
    assert_eq!(read::<Everything>(EVERYTHING), Ok(usual));
}

#[test]
fn what_the_usual_crate_refuses_is_refused() {
    for text in [
        "",
        " ",
        "{",
        "}",
        "[",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\" 1}",
        "nul",
        "nulll",
        "True",
        "01",
        "-",
        "-01",
        "+1",
        "1.",
        ".5",
        "1e",
        "1e+",
        "1.5.2",
        "--1",
        "\"",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u+123\"",
        "\"\\ud800\"",
        "\"\\ud800\\u0041\"",
        "\"\\udc00\"",
        "\"\n\"",
        "\"\u{1}\"",
        "1 1",
        "[1]]",
        "é",
        "\u{feff}1",
        "1e999",
        "[\"\\u00é\"]",
    ] {
        assert!(serde_json::from_str::<serde_json::Value>(text).is_err(), "{text}");
        assert!(read::<Any>(text).is_err(), "{text}");
        assert!(read::<de::IgnoredAny>(text).is_err() || text == "1e999", "{text}");
    }
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    let deep = "[".repeat(100_000);
    assert!(read::<Any>(&deep).is_err());
    assert!(read::<de::IgnoredAny>(&deep).is_err());
    assert!(read::<Any>(&("[".repeat(60) + &"]".repeat(60))).is_ok());
}

fn wrong<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> (String, String) {
    let diagnostic = read::<T>(text).expect_err("this is wrong");
    (diagnostic.pointer, diagnostic.message)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only its errors matter")]
struct Small {
    list: Vec<Item>,
    #[serde(default)]
    shape: Option<Shape>,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "only its errors matter")]
struct Item {
    #[serde(rename = "a/b~c")]
    number: u8,
}

#[test]
fn what_is_wrong_has_its_place_and_a_sentence() {
    for (text, pointer, message) in [
        ("[]", "", "an object is expected here, not a list."),
        ("{}", "", "`list` is missing here."),
        (r#"{"list":7}"#, "/list", "a list is expected here, not a number."),
        (r#"{"list":[{"a/b~c":1},{"a/b~c":"x"}]}"#, "/list/1/a~1b~0c", "a number is expected here, not a string."),
        (r#"{"list":[{"a/b~c":256}]}"#, "/list/0/a~1b~0c", "u8 is expected here, not `256`."),
        (r#"{"list":[{"a/b~c":1.5}]}"#, "/list/0/a~1b~0c", "`1.5` is no whole number of 64 bits."),
        (r#"{"list":[{}]}"#, "/list/0", "`a/b~c` is missing here."),
        (r#"{"lst":[]}"#, "/lst", "`lst` is not known here; the keys are `list`, `shape`."),
        (
            r#"{"list":[],"shape":"round"}"#,
            "/shape",
            "`round` is not known here; write `unit`, `newtype`, `tuple`, `record`.",
        ),
        (
            r#"{"list":[],"shape":{"record":{"a":true}}}"#,
            "/shape/record/a",
            "a number is expected here, not `true` or `false`.",
        ),
        (r#"{"list":[],"list":[]}"#, "/list", "`list` stands here twice."),
        (r#"{"list":[]} x"#, "", "This is no JSON: the end is expected at byte 12."),
    ] {
        let expected = (pointer.to_owned(), message.to_owned());
        assert_eq!(wrong::<Small>(text), expected, "{text}");
    }
}
