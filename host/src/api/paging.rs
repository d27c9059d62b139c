//! The parameters of lists: `cursor`, `limit`, and those that one list has beyond. What is wrong is collected by name.

use axum::extract::Query;
use axum::http::Uri;

use super::Refusal;
use crate::problem::Fault;

const DEFAULT_LIMIT: usize = 50;
const LARGEST_LIMIT: usize = 200;

/// The parameters of one request for a list.
pub(super) struct Paging {
    /// The `next_cursor` of the page before.
    pub(super) cursor: Option<String>,
    /// How many are wanted at most.
    pub(super) limit: usize,
    /// The further ones, of those that there are.
    more: Vec<(String, String)>,
    pub(super) faults: Vec<Fault>,
}

impl Paging {
    /// Reads a query in which there may be these parameters beyond `cursor` and `limit`.
    pub(super) fn of(uri: &Uri, known: &[&str]) -> Self {
        let mut paging = Self { cursor: None, limit: DEFAULT_LIMIT, more: Vec::new(), faults: Vec::new() };
        let Query(parameters) = Query::<Vec<(String, String)>>::try_from_uri(uri).unwrap_or_default();
        for (name, value) in parameters {
            match name.as_str() {
                "cursor" => paging.cursor = Some(value),
                "limit" => match value.parse() {
                    Ok(wanted @ 1..=LARGEST_LIMIT) => paging.limit = wanted,
                    _ => paging.faults.push(Fault::of(name, "Give a number from 1 to 200.")),
                },
                other if known.contains(&other) => paging.more.push((name, value)),
                _ => {
                    let known = known.iter().map(|name| format!("{name}, ")).collect::<String>();
                    let detail = format!("There is no such parameter; there are {known}cursor and limit.");
                    paging.faults.push(Fault::of(name, detail));
                }
            }
        }
        paging
    }

    /// The value of a further parameter.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.more.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    /// The value of a further parameter, where it is one of its kind.
    pub(super) fn parsed<T: std::str::FromStr>(&mut self, name: &'static str, otherwise: &str) -> Option<T> {
        let parsed = self.text(name)?.parse().ok();
        if parsed.is_none() {
            self.faults.push(Fault::of(name, otherwise));
        }
        parsed
    }

    /// The cursor, where it is one of this list.
    pub(super) fn after<T: std::str::FromStr>(&mut self) -> Option<T> {
        let after = self.cursor.as_ref()?.parse().ok();
        if after.is_none() {
            self.faults.push(Fault::of("cursor", "Give the `next_cursor` of the page before."));
        }
        after
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// 422 with everything that is wrong.
    pub(super) fn checked(self) -> Result<usize, Refusal> {
        if self.faults.is_empty() { Ok(self.limit) } else { Err(Refusal::invalid(self.faults)) }
    }
}
