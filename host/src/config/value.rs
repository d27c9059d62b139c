//! One value of the file, typed on request, with the problem it is where the type is another.

use toml::Spanned;
use toml::de::DeValue;

use super::Ratio;
use super::form::{self, Fault};
use super::problem::{Place, Report};
use super::read::Table;
use super::suggest::did_you_mean;

/// A value, with its place.
pub(super) struct Value<'d> {
    /// Where problems go.
    pub report: &'d Report<'d>,
    /// Where it stands.
    pub place: Place,
    /// What it is.
    pub node: &'d DeValue<'d>,
}

impl<'d> Value<'d> {
    /// A text of some form.
    pub(super) fn text<T>(&self, form: impl Fn(&str) -> Result<T, Fault>) -> Option<T> {
        self.text_such_as("", form)
    }

    /// A text of some form, of which there is an example.
    pub(super) fn text_such_as<T>(&self, example: &str, form: impl Fn(&str) -> Result<T, Fault>) -> Option<T> {
        let DeValue::String(text) = self.node else {
            let such_as = if example.is_empty() { String::new() } else { format!(" such as \"{example}\"") };
            return self.wrong(format!("must be a text in quotes{such_as}, not {}", self.kind()));
        };
        form(text).map_err(|fault| self.fault(fault)).ok()
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Option<bool> {
        match self.node {
            DeValue::Boolean(value) => Some(*value),
            _ => self.wrong(format!("must be true or false, without quotes, not {}", self.kind())),
        }
    }

    /// A number from 0 to 1.
    pub(super) fn ratio(&self) -> Option<Ratio> {
        let number = match self.node {
            DeValue::Float(number) => number.as_str(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            _ => return self.wrong(format!("must be a number from 0 to 1 such as 0.01, not {}", self.kind())),
        };
        form::ratio(number).map_err(|fault| self.fault(fault)).ok()
    }

    /// Whether it is a table.
    pub(super) fn is_table(&self) -> bool {
        self.node.is_table()
    }

    /// The items of a list of at most so many.
    pub(super) fn items(&self, most: usize) -> Option<Vec<Value<'d>>> {
        let DeValue::Array(items) = self.node else {
            return self.wrong(format!("must be a list in square brackets, not {}", self.kind()));
        };
        if items.len() > most {
            return self.wrong(format!("holds {} items; allowed are at most {most}", items.len()));
        }
        let item = |(index, node): (usize, &'d Spanned<DeValue<'d>>)| Value {
            report: self.report,
            place: self.place.item(index, node.span().start),
            node: node.get_ref(),
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// The table that it is.
    pub(super) fn into_table(self) -> Option<Table<'d>> {
        match self.node {
            DeValue::Table(entries) => Some(Table::at(self.report, self.place, Some(entries))),
            _ => self.wrong(format!("must be a table, not {}", self.kind())),
        }
    }

    /// Adds a problem with this value.
    pub(super) fn wrong<T>(&self, message: impl Into<String>) -> Option<T> {
        self.report.add(&self.place, message, None);
        None
    }

    /// Adds a problem with this value, and what was probably meant.
    pub(super) fn fault(&self, fault: Fault) {
        self.report.add(&self.place, fault.message, fault.meant.as_deref().map(did_you_mean));
    }

    /// What it is, with its article.
    pub(super) fn kind(&self) -> &'static str {
        match self.node {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        }
    }

    /// As written, without quotes: what `reference.toml` is compared by.
    #[cfg(test)]
    pub(super) fn plain(&self) -> String {
        match self.node {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Array(items) if items.is_empty() => "[]".to_owned(),
            _ => "…".to_owned(),
        }
    }
}
