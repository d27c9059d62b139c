//! What is wrong with a configuration: every problem with its place, collected instead of returned at the first.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::path::{Path, PathBuf};

use super::form::shown;

/// So many problems are told; the rest is only counted.
const TOLD: usize = 200;

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Problem {
    /// Line, from 1; 0 where the problem is not at a place in the file.
    pub line: usize,
    /// Column in characters, from 1; 0 where the problem is not at a place in the file.
    pub column: usize,
    /// Key path, for example `pillars.connect.routes[0].path`; empty for the file as a whole.
    pub path: String,
    /// What is wrong, and what is allowed.
    pub message: String,
    /// What was probably meant, for example ``did you mean `upstream`?``
    pub suggestion: Option<String>,
}

impl Problem {
    /// A problem of what the file leads to, with the key path that it comes from.
    pub fn at(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { line: 0, column: 0, path: path.into(), message: message.into(), suggestion: None }
    }

    /// The same, with what was probably meant.
    #[must_use]
    pub fn suggesting(self, suggestion: String) -> Self {
        Self { suggestion: Some(suggestion), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(out, "{}: ", self.path)?;
        }
        out.write_str(&self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(out, "; {suggestion}"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with one file, in the order of the file. Displays as one line for each problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    file: PathBuf,
    list: Vec<Problem>,
    untold: usize,
}

impl Problems {
    /// One problem of the file as a whole.
    pub(super) fn of_file(file: &Path, message: String) -> Self {
        let problem = Problem::at("", message);
        Self { file: file.to_owned(), list: vec![problem], untold: 0 }
    }

    /// The file that they are about.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The problems; at least one, at most 200.
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// How many there are, counting those beyond the 200 that are listed.
    pub fn count(&self) -> usize {
        self.list.len() + self.untold
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                out.write_str("\n")?;
            }
            write!(out, "{}:", self.file.display())?;
            if problem.line > 0 {
                write!(out, "{}:{}:", problem.line, problem.column)?;
            }
            write!(out, " {problem}")?;
        }
        if self.untold > 0 {
            write!(out, "\n{}: and {} more problems", self.file.display(), self.untold)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Where something stands in the file.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The key path.
    pub path: String,
    /// Bytes from the start of the text.
    pub offset: usize,
}

impl Place {
    /// The file as a whole, or where in it something is not even TOML.
    pub(super) fn of_file(offset: usize) -> Self {
        Self { path: String::new(), offset }
    }

    /// A key within, quoted in the path where it must be.
    pub(super) fn key(&self, key: &str, offset: usize) -> Self {
        let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let plain = (1..=64).contains(&key.len()) && key.bytes().all(bare);
        let key = if plain { key.to_owned() } else { format!("{:?}", shown(key)) };
        let path = if self.path.is_empty() { key } else { format!("{}.{key}", self.path) };
        Self { path, offset }
    }

    /// An item within.
    pub(super) fn item(&self, index: usize, offset: usize) -> Self {
        Self { path: format!("{}[{index}]", self.path), offset }
    }
}

/// Collects problems while a text is read.
pub(super) struct Report<'d> {
    text: &'d str,
    lines: OnceCell<Vec<usize>>,
    list: RefCell<Vec<Problem>>,
    untold: Cell<usize>,
    /// Keys that are not written, where somebody wants to know their defaults.
    missing: Option<RefCell<Vec<Missing>>>,
    /// Every key that the reader asked for: what `reference.toml` is held against.
    #[cfg(test)]
    pub asked: RefCell<Vec<Asked>>,
}

/// A key that is not written, with what it has instead.
#[derive(Debug)]
pub(super) struct Missing {
    /// Its path.
    pub key: String,
    /// As it would be written.
    pub default: serde_json::Value,
}

/// One key that the reader asked for.
#[cfg(test)]
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub path: String,
    /// As it would be written in the file; `None` where there is no default.
    pub default: Option<String>,
    /// As it is written in the file.
    pub written: Option<String>,
}

impl<'d> Report<'d> {
    pub(super) fn new(text: &'d str) -> Self {
        Self {
            text,
            lines: OnceCell::new(),
            list: RefCell::default(),
            untold: Cell::new(0),
            missing: None,
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    /// As [`Self::new`]; the defaults of keys that are not written are noted, too.
    pub(super) fn noting_defaults(text: &'d str) -> Self {
        Self { missing: Some(RefCell::default()), ..Self::new(text) }
    }

    /// Notes the default of a key that is not written, if anybody wants to know: a text `in_quotes`, or another value.
    pub(super) fn note_default(&self, place: &Place, key: &str, default: &str, in_quotes: bool) {
        let Some(missing) = &self.missing else { return };
        let text = || serde_json::Value::String(default.to_owned());
        let default = if in_quotes { text() } else { serde_json::from_str(default).unwrap_or_else(|_| text()) };
        missing.borrow_mut().push(Missing { key: place.key(key, 0).path, default });
    }

    /// What was noted of defaults.
    pub(super) fn missing(&self) -> Vec<Missing> {
        self.missing.as_ref().map(RefCell::take).unwrap_or_default()
    }

    /// Notes one problem.
    pub(super) fn add(&self, place: &Place, message: impl Into<String>, suggestion: Option<String>) {
        if self.is_full() {
            self.untold.set(self.untold.get() + 1);
            return;
        }
        let (line, column) = self.position(place.offset);
        let (path, message) = (place.path.clone(), message.into());
        self.list.borrow_mut().push(Problem { line, column, path, message, suggestion });
    }

    /// Whether further problems are only counted, so that nobody need look for suggestions.
    pub(super) fn is_full(&self) -> bool {
        self.list.borrow().len() >= TOLD
    }

    /// The line of a place, from 1.
    pub(super) fn line(&self, place: &Place) -> usize {
        self.position(place.offset).0
    }

    /// The problems, if there are any.
    pub(super) fn finish(self, file: &Path) -> Option<Problems> {
        let mut list = self.list.into_inner();
        list.sort();
        (!list.is_empty()).then(|| Problems { file: file.to_owned(), list, untold: self.untold.get() })
    }

    /// Line and column, both from 1, of a byte in the text.
    fn position(&self, offset: usize) -> (usize, usize) {
        let starts = self.lines.get_or_init(|| {
            let after_breaks = self.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
            std::iter::once(0).chain(after_breaks).collect()
        });
        let line = starts.partition_point(|start| *start <= offset).max(1);
        let start = starts[line - 1];
        let before = self.text.as_bytes().get(start..offset).unwrap_or_default();
        // Counted in characters, as editors do; bytes that continue a character do not count.
        let column = before.iter().filter(|byte| (**byte & 0xc0) != 0x80).count() + 1;
        (line, column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_from_one() {
        let report = Report::new("a\nöß = 1\n");
        assert_eq!(report.position(0), (1, 1));
        assert_eq!(report.position(1), (1, 2));
        assert_eq!(report.position(2), (2, 1));
        assert_eq!(report.position(6), (2, 3));
        assert_eq!(report.position(999), (3, 1));
    }

    #[test]
    fn problems_beyond_the_bound_are_counted() {
        let report = Report::new("");
        for _ in 0..TOLD + 7 {
            report.add(&Place { path: "a".into(), offset: 0 }, "wrong", None);
        }
        let problems = report.finish(Path::new("x.toml")).expect("some");
        assert_eq!((problems.list().len(), problems.count()), (TOLD, TOLD + 7));
        assert!(problems.to_string().ends_with("x.toml: and 7 more problems"));
    }
}
