//! What is wrong with a configuration, in one sentence for whoever wrote it.
//!
//! Overrides what serde would say wherever that would print a float, so that the code for it is not linked.

use std::fmt::Display;

use serde::de::{self, Expected, Unexpected};

use super::scan::Kind;

/// One sentence.
#[derive(Debug)]
pub(super) struct Error(String);

impl Error {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// Another kind of value than is expected here.
    pub(super) fn kind(found: Kind, expected: &str) -> Self {
        Self(format!("{expected} is expected here, not {}.", found.name()))
    }
}

impl Display for Error {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self(format!("{expected} is expected here, not {}.", name(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self(format!("{expected} is expected here, not {}.", name(found)))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self(format!("`{variant}` is not known here; write {}.", all(expected)))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        match expected {
            [] => Self(format!("`{field}` is not known; there are no keys here.")),
            _ => Self(format!("`{field}` is not known here; the keys are {}.", all(expected))),
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Self(format!("`{field}` is missing here."))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self(format!("`{field}` stands here twice."))
    }
}

fn all(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

fn name(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Unsigned(number) => format!("`{number}`"),
        Unexpected::Signed(number) => format!("`{number}`"),
        Unexpected::Str(text) => format!("`{text}`"),
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Float(_) => "a number with a fraction".to_owned(),
        Unexpected::Seq => Kind::List.name().to_owned(),
        Unexpected::Map => Kind::Object.name().to_owned(),
        Unexpected::Unit | Unexpected::Option => Kind::Null.name().to_owned(),
        _ => "this".to_owned(),
    }
}
