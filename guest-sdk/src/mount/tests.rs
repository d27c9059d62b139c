//! Checks that slots keep their own policy, and that every problem is reported at its place.

use serde::Deserialize;

use super::*;
use crate::{About, export, testing};

/// Refuses the word "bad"; keeps any other.
#[derive(Debug)]
struct Word(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    word: String,
    #[serde(default)]
    list: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    #[serde(rename = "a/b~c")]
    number: u8,
}

impl Policy for Word {
    type Config = Config;
    const ABOUT: About = About::new("word", "1.0.0", "Keeps a word.");

    fn configure(config: Config, setup: &mut Setup<'_>) -> Result<Self, Diagnostic> {
        for item in config.list.iter().filter(|item| item.number == 0) {
            setup.problem("/list", format!("{} is too small.", item.number));
        }
        if config.word == "bad" {
            return Err(Diagnostic::new("/word", "This word is bad; take another one."));
        }
        setup.look_for("words");
        Ok(Self(config.word))
    }

    fn on_request(&self, _request: &Request) -> Verdict {
        Verdict::next().note("word", &self.0)
    }
}

export!(Word);

fn pointers(config: &str) -> Vec<String> {
    let refused = configure::<Word>(&testing::slot("connect").build(), config);
    let problems = refused.expect_err("this configuration is wrong");
    problems.into_iter().map(|problem| problem.pointer).collect()
}

fn ask(slot: u32) -> Verdict {
    <Exported<Word> as policy::Guest>::on_request(testing::request().slot(slot).build())
}

fn set(slot: u32, config: &str) -> Result<Plan, Vec<Diagnostic>> {
    let place = testing::slot("connect").build();
    <Exported<Word> as policy::Guest>::configure(slot, place, config.to_owned())
}

#[test]
fn each_slot_has_its_own_and_a_refused_one_changes_nothing() {
    let plan = set(3, r#"{"word":"three"}"#).expect("a good configuration");
    assert_eq!(plan.scopes, ["words"]);
    set(0, r#"{"word":"zero"}"#).expect("a good configuration");
    assert_eq!(ask(3).notes[0].1, "three");
    assert_eq!(ask(0).notes[0].1, "zero");
    set(3, r#"{"word":"bad"}"#).expect_err("a bad word");
    assert_eq!(ask(3).notes[0].1, "three");
    set(3, r#"{"word":"third"}"#).expect("a good configuration");
    assert_eq!(ask(3).notes[0].1, "third");
}

#[test]
fn an_absurd_slot_number_is_refused() {
    set(u32::MAX, r#"{"word":"far"}"#).expect_err("no such slot");
}

#[test]
#[should_panic(expected = "configures a slot before")]
fn an_unconfigured_slot_is_never_let_pass() {
    ask(9);
}

#[test]
fn problems_point_at_their_place() {
    assert_eq!(pointers(r#"{"word":7}"#), ["/word"]);
    assert_eq!(pointers(r#"{"word":"x","list":[{"a/b~c":1},{"a/b~c":"y"}]}"#), ["/list/1/a~1b~0c"]);
    assert_eq!(pointers(r#"{"word":"x","wrod":1}"#), ["/wrod"]);
    assert_eq!(pointers("{}"), [""]);
    assert_eq!(pointers(""), [""]);
    assert_eq!(pointers(r#"{"word":"x"} trailing"#), [""]);
}

#[test]
fn reported_and_returned_problems_all_arrive() {
    let both = r#"{"word":"bad","list":[{"a/b~c":0},{"a/b~c":0}]}"#;
    assert_eq!(pointers(both), ["/list", "/list", "/word"]);
    assert_eq!(pointers(r#"{"word":"x","list":[{"a/b~c":0}]}"#), ["/list"]);
}

#[test]
fn messages_say_what_to_write() {
    let place = testing::slot("connect").build();
    let problems = configure::<Word>(&place, r#"{"word":7}"#).expect_err("a number");
    assert_eq!(problems[0].message, "a string is expected here, not a number.");
}
