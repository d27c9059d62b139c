//! Checks that scripts say what the README shows.

use portico_sdk::{Change, Edit, Period};

use super::*;

/// The block of the README that shows every key.
fn example() -> Script {
    let readme = include_str!("../../README.md");
    let json = readme.split("```json\n").nth(3).expect("a third block");
    Script::read(json.split("```").next().expect("its end")).expect("a script")
}

#[test]
fn the_example_of_the_readme_is_a_script() {
    let script = example();
    let plan = script.plan().expect("no diagnostics");
    assert_eq!(plan.scopes, ["connect"]);
    assert_eq!(plan.limits[0].windows[0].per, Period::Seconds(1));
    assert_eq!(plan.limits[0].windows[1].per, Period::Month);
    let verdict = script.answer(None, "rooms.list").verdict();
    assert_eq!(verdict.action, Action::Forward(0));
    assert_eq!(verdict.request_edits[1], Edit::append(0, vec![255, 0]));
    assert_eq!(verdict.request_edits[2].change, Change::Remove);
    assert_eq!(verdict.takes[0].cost, 1);
    assert!(verdict.identity.is_some() && verdict.token.is_some());
    assert_eq!(script.response.after().edits, [Edit::append(0, "first")]);
}

#[test]
fn a_field_goes_before_a_route_and_a_route_before_the_rest() {
    let json = r#"{"request":{"path":"/a"},"by_route":{"r":{"path":"/b"}},"by_field":{"v":{"path":"/c"}}}"#;
    let script = Script::read(json).expect("a script");
    let path = |field: Option<&[u8]>, route| script.answer(field, route).verdict().path;
    assert_eq!(path(None, "other").as_deref(), Some("/a"));
    assert_eq!(path(Some(b"unknown"), "r").as_deref(), Some("/b"));
    assert_eq!(path(Some(b"v"), "r").as_deref(), Some("/c"));
}

#[test]
fn diagnostics_refuse_the_slot() {
    let script = Script::read(r#"{"diagnostics":[["/a","Wrong."]]}"#).expect("a script");
    assert_eq!(script.plan(), Err(vec![Diagnostic::new("/a", "Wrong.")]));
    assert!(Script::read(r#"{"unknown":1}"#).is_err());
}
