//! Walks a parsed TOML table key by key, typed, and goes on after every mistake.
//!
//! A getter answers `None` only after it has added a problem, so that callers can read everything first and give up
//! at the end. A key that nobody asked for is a problem, too.

use std::ops::RangeInclusive;

use toml::de::{DeTable, DeValue};

use super::Ratio;
use super::form::{self, Fault, shown};
use super::problem::{Place, Report};
use super::suggest::{did_you_mean, listed, nearest};
use super::value::Value;

/// A table that is being read.
pub(super) struct Table<'d> {
    report: &'d Report<'d>,
    place: Place,
    entries: Option<&'d DeTable<'d>>,
    asked: Vec<&'static str>,
}

/// A table of a name's own, as in `[policies.<name>]`.
pub(super) struct Entry<'d> {
    /// The name; a problem has been added where it is not a proper one.
    pub name: &'d str,
    /// Its table.
    pub table: Table<'d>,
}

impl<'d> Table<'d> {
    /// A table at some place; without entries, one that is not there.
    pub(super) fn at(report: &'d Report<'d>, place: Place, entries: Option<&'d DeTable<'d>>) -> Self {
        Self { report, place, entries, asked: Vec::new() }
    }

    /// The value of a key, if it is there. From now on the key is a known one.
    pub(super) fn value(&mut self, key: &'static str, default: Option<&str>) -> Option<Value<'d>> {
        self.note(key, default, false);
        self.peek(key)
    }

    /// Makes a key a known one. Its default may be one that is written in quotes.
    fn note(&mut self, key: &'static str, default: Option<&str>, in_quotes: bool) {
        self.asked.push(key);
        if let Some(default) = default.filter(|_| !self.has(key)) {
            self.report.note_default(&self.place, key, default, in_quotes);
        }
        #[cfg(test)]
        self.report.asked.borrow_mut().push(super::problem::Asked {
            path: self.place.key(key, 0).path,
            default: default.map(str::to_owned),
            written: self.peek(key).map(|value| value.plain()),
        });
    }

    fn peek(&self, key: &str) -> Option<Value<'d>> {
        let node = self.entries?.get(key)?;
        let place = self.place.key(key, node.span().start);
        Some(Value { report: self.report, place, node: node.get_ref() })
    }

    /// A text of some form, or its default, which is written as it would be in the file.
    pub(super) fn text<T>(
        &mut self,
        key: &'static str,
        default: &str,
        form: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        self.note(key, Some(default), true);
        match self.peek(key) {
            Some(value) => value.text_such_as(default, form),
            // A default that does not fit follows from another mistake (a policy's odd name), which has been told.
            None => form(default).ok(),
        }
    }

    /// A text that may be missing: `Some(None)` where it is.
    pub(super) fn optional_text<T>(
        &mut self,
        key: &'static str,
        form: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<Option<T>> {
        match self.value(key, None) {
            Some(value) => value.text(form).map(Some),
            None => Some(None),
        }
    }

    /// A text that must be there.
    pub(super) fn required_text<T>(
        &mut self,
        key: &'static str,
        example: &str,
        form: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        match self.value(key, None) {
            Some(value) => value.text(form),
            None => {
                self.missing(key, example);
                None
            }
        }
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, default: &str, choices: &[(&str, T)]) -> Option<T> {
        self.text(key, default, |text| {
            let words = choices.iter().map(|(word, _)| *word);
            match choices.iter().find(|(word, _)| *word == text) {
                Some((_, chosen)) => Ok(*chosen),
                None => Err(Fault {
                    message: format!("`{}` is not possible here; allowed: {}", shown(text), listed(words.clone())),
                    meant: nearest(text, words).map(str::to_owned),
                }),
            }
        })
    }

    /// A whole number within bounds.
    pub(super) fn integer(&mut self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> Option<u64> {
        let Some(value) = self.value(key, Some(&default.to_string())) else { return Some(default) };
        let allowed = || format!("{} to {}", range.start(), range.end());
        let DeValue::Integer(integer) = value.node else {
            return value.wrong(format!("must be a whole number from {}, not {}", allowed(), value.kind()));
        };
        match u64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => value.wrong(format!("{} is out of range; allowed is {}", shown(&integer.to_string()), allowed())),
        }
    }

    /// A number from 0 to 1.
    pub(super) fn ratio(&mut self, key: &'static str, default: &str) -> Option<Ratio> {
        match self.value(key, Some(default)) {
            Some(value) => value.ratio(),
            None => form::ratio(default).ok(),
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, key: &'static str, default: bool) -> Option<bool> {
        match self.value(key, Some(if default { "true" } else { "false" })) {
            Some(value) => value.boolean(),
            None => Some(default),
        }
    }

    /// The items of a list of at most so many; none where the key is missing.
    pub(super) fn list(&mut self, key: &'static str, most: usize) -> Option<Vec<Value<'d>>> {
        match self.value(key, Some("[]")) {
            Some(value) => value.items(most),
            None => Some(Vec::new()),
        }
    }

    /// A table within; an empty one where the key is missing, so that its own keys are known all the same.
    pub(super) fn table(&mut self, key: &'static str) -> Table<'d> {
        self.note(key, None, false);
        let nothing = Table::at(self.report, self.place.key(key, self.place.offset), None);
        self.within(key).unwrap_or(nothing)
    }

    /// The tables of a table, each under a name of its own, in the order of the names.
    pub(super) fn named(&mut self, key: &'static str, most: usize) -> Vec<Entry<'d>> {
        let table = self.table(key);
        let entries = table.entries.into_iter().flatten();
        if table.entries.is_some_and(|entries| entries.len() > most) {
            table.problem(format!("holds more than {most} tables; split the configuration"));
        }
        let mut found = Vec::new();
        for (word, _) in entries {
            let name = word.get_ref().as_ref();
            if let Err(fault) = form::name(name) {
                let place = table.place.key(name, word.span().start);
                self.report.add(&place, fault.message, fault.meant.as_deref().map(did_you_mean));
            }
            found.extend(table.within(name).map(|table| Entry { name, table }));
        }
        found
    }

    /// The tables of a list of tables, as in `[[pillars.connect.routes]]`.
    pub(super) fn rows(&mut self, key: &'static str, most: usize) -> Vec<Table<'d>> {
        self.note(key, None, false);
        let Some(value) = self.peek(key) else { return Vec::new() };
        let items = value.items(most).unwrap_or_default();
        items.into_iter().filter_map(Value::into_table).collect()
    }

    /// The keys that are there, whatever they are.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'d str> {
        self.entries.into_iter().flatten().map(|(key, _)| key.get_ref().as_ref())
    }

    /// A table within, under any name; `None` where it is missing or something else.
    pub(super) fn within(&self, key: &str) -> Option<Table<'d>> {
        let mut table = self.peek(key)?.into_table()?;
        // The name of a table is where it begins for a reader; the value of an implicit one begins elsewhere.
        table.place.offset = self.offset_of(key);
        Some(table)
    }

    /// The place of a key's value; of the table itself where the key is missing.
    pub(super) fn place_of(&self, key: &str) -> Place {
        let missing = || self.place.key(key, self.place.offset);
        self.peek(key).map_or_else(missing, |value| value.place)
    }

    /// Marks a key as known without reading it.
    pub(super) fn known(&mut self, key: &'static str) {
        self.note(key, None, false);
    }

    /// Whether the key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.is_some_and(|entries| entries.contains_key(key))
    }

    /// Whether the key is there, and a table.
    pub(super) fn is_table(&self, key: &str) -> bool {
        self.peek(key).is_some_and(|value| value.node.is_table())
    }

    /// The entries as JSON.
    pub(super) fn json(&self) -> Option<serde_json::Map<String, serde_json::Value>> {
        match self.entries {
            Some(entries) => super::json::table(self.report, &self.place, entries),
            None => Some(serde_json::Map::new()),
        }
    }

    /// Adds a problem of the table as a whole.
    pub(super) fn problem(&self, message: impl Into<String>) {
        self.report.add(&self.place, message, None);
    }

    /// Where problems go.
    pub(super) fn report(&self) -> &'d Report<'d> {
        self.report
    }

    /// Adds a problem for each key that nobody asked for.
    pub(super) fn finish(self) {
        let known = || self.asked.iter().copied();
        for (key, _) in self.entries.into_iter().flatten() {
            let word = key.get_ref().as_ref();
            if self.asked.contains(&word) {
                continue;
            }
            let place = self.place.key(word, key.span().start);
            let meant = if self.report.is_full() { None } else { nearest(word, known()) };
            let message = match meant {
                Some(_) => "unknown key".to_owned(),
                None => format!("unknown key; known here: {}", listed(known())),
            };
            self.report.add(&place, message, meant.map(did_you_mean));
        }
    }

    fn missing(&self, key: &'static str, example: &str) {
        let place = self.place.key(key, self.place.offset);
        self.report.add(&place, format!("is missing; write for example {key} = {example}"), None);
    }

    fn offset_of(&self, key: &str) -> usize {
        let word = self.entries.and_then(|entries| entries.get_key_value(key));
        word.map_or(self.place.offset, |(word, _)| word.span().start)
    }
}
