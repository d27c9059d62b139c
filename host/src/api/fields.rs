//! A JSON object read field by field, with everything that is wrong collected under its JSON pointer.
//!
//! `null` is as good as a field that is not there. Knows no store and no meaning.

use serde_json::{Map, Value};

use crate::clock::Millis;
use crate::problem::{Fault, token};

/// The longest name that something may be given.
const LONGEST_NAME: usize = 100;

/// An object that is being read.
pub(super) struct Fields<'a> {
    body: &'a Map<String, Value>,
    /// The pointer of the object itself.
    place: String,
    pub(super) faults: Vec<Fault>,
}

impl<'a> Fields<'a> {
    /// Begins to read a body, which may have these fields and no others.
    pub(super) fn of(body: &'a Map<String, Value>, known: &[&str]) -> Self {
        Self::at(String::new(), body, known)
    }

    /// As [`Self::of`], for an object at this pointer in a body.
    pub(super) fn at(place: String, body: &'a Map<String, Value>, known: &[&str]) -> Self {
        let mut fields = Self { body, place, faults: Vec::new() };
        for field in body.keys().filter(|field| !known.contains(&field.as_str())) {
            let detail = match nearest(field, known.iter().copied()) {
                Some(near) => format!("There is no such field; did you mean `{near}`?"),
                None => format!("There is no such field; there are {}.", known.join(", ")),
            };
            fields.fault(&token(field), detail);
        }
        fields
    }

    /// Notes what is wrong at a pointer within the object.
    pub(super) fn fault(&mut self, pointer: &str, detail: impl Into<String>) {
        self.faults.push(Fault::at(format!("{}{pointer}", self.place), detail));
    }

    /// The value of a field.
    pub(super) fn value(&self, field: &str) -> Option<&'a Value> {
        self.body.get(field).filter(|value| !value.is_null())
    }

    /// A string.
    pub(super) fn text(&mut self, field: &str) -> Option<&'a str> {
        let value = self.value(field)?;
        if value.as_str().is_none() {
            self.fault(&token(field), "This must be a string.");
        }
        value.as_str()
    }

    /// True or false; false where it is not there.
    pub(super) fn flag(&mut self, field: &str) -> bool {
        match self.value(field) {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(_) => {
                self.fault(&token(field), "This must be true or false.");
                false
            }
        }
    }

    /// A whole number from 0 to this.
    pub(super) fn number(&mut self, field: &str, most: u64) -> Option<u64> {
        let value = self.value(field)?;
        let number = value.as_u64().filter(|number| *number <= most);
        if number.is_none() {
            self.fault(&token(field), format!("This must be a whole number from 0 to {most}."));
        }
        number
    }

    /// The strings of a list, each with its pointer. An empty list is a fault in the words of `if_empty`.
    pub(super) fn texts(&mut self, field: &str, most: usize, if_empty: &str) -> Option<Vec<(String, &'a str)>> {
        let Some(list) = self.value(field)?.as_array() else {
            self.fault(&token(field), "This must be a list of strings.");
            return Some(Vec::new());
        };
        if list.is_empty() {
            self.fault(&token(field), if_empty);
        }
        if list.len() > most {
            self.fault(&token(field), format!("There may be {most} at most."));
            return Some(Vec::new());
        }
        let mut texts = Vec::new();
        for (at, value) in list.iter().enumerate() {
            let pointer = format!("{}/{at}", token(field));
            match value.as_str() {
                Some(text) => texts.push((pointer, text)),
                None => self.fault(&pointer, "This must be a string."),
            }
        }
        Some(texts)
    }

    /// A name for people; a fault where something is wrong with it.
    pub(super) fn optional_name(&mut self) -> Option<&'a str> {
        let before = self.faults.len();
        let name = self.text("name");
        let good = name.is_some_and(|name| {
            (1..=LONGEST_NAME).contains(&name.chars().count())
                && name.trim() == name
                && !name.chars().any(char::is_control)
        });
        if !good && self.value("name").is_some() && self.faults.len() == before {
            self.fault("/name", NAME);
        }
        name.filter(|_| good)
    }

    /// As [`Self::optional_name`], where there must be one.
    pub(super) fn name(&mut self) -> &'a str {
        if self.value("name").is_none() {
            self.fault("/name", NAME);
        }
        self.optional_name().unwrap_or_default()
    }

    /// An instant to come.
    pub(super) fn instant_to_come(&mut self, field: &str, now: Millis) -> Option<Millis> {
        let end = self.text(field)?.parse::<Millis>();
        match end {
            Ok(end) if end > now => return Some(end),
            Ok(_) => self.fault(&token(field), "This is over already; name a time to come."),
            Err(error) => self.fault(&token(field), format!("This is {error}.")),
        }
        None
    }
}

const NAME: &str = "Give a name of 1 to 100 characters, without control characters or spaces around it.";

/// The word that was probably meant.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A word of any length may come; comparing long ones would cost more than the answer is worth.
    let word = Some(word).filter(|word| word.len() <= 64)?;
    known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(word, known), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}
