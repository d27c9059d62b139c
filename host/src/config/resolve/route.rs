//! `[[pillars.<name>.routes]]`: the rules of one pillar.
//!
//! Two rules never match the same request: one that could not be reached, or only by chance, is a problem.

use std::collections::HashMap;

use matchit::{InsertError, Router};

use crate::config::form::{Fault, shown};
use crate::config::problem::Place;
use crate::config::read::Table;
use crate::config::resolve::policy::distinct;
use crate::config::resolve::{Names, chain};
use crate::config::{Overlays, Rule};

/// Rules in one pillar, at most.
pub(super) const MOST: usize = 100_000;

/// Reads the rules, and adds the one for all other paths.
pub(super) fn rules(rows: Vec<Table<'_>>, pillars: Option<&[String]>, names: &Names<'_>) -> Option<Vec<Rule>> {
    let count = rows.len();
    let mut known = Known::default();
    let mut rules: Vec<Rule> = rows.into_iter().filter_map(|row| rule(row, pillars, names, &mut known)).collect();
    if rules.len() < count {
        return None;
    }
    let (chain, config) = (None, Overlays::new());
    rules.push(Rule { name: "*".to_owned(), path: None, methods: Vec::new(), auth: true, chain, config });
    Some(rules)
}

/// What earlier rules of the pillar took.
#[derive(Default)]
struct Known {
    names: HashMap<String, Place>,
    paths: HashMap<String, Taken>,
    tree: Router<()>,
}

/// The methods that are taken on one path.
struct Taken {
    first: Place,
    all: Option<Place>,
    methods: HashMap<String, Place>,
}

impl Taken {
    fn clash(&self, methods: &[String]) -> Option<&Place> {
        let all = self.all.as_ref().or(methods.is_empty().then_some(&self.first));
        all.or_else(|| methods.iter().find_map(|method| self.methods.get(method)))
    }

    fn add(&mut self, methods: &[String], place: &Place) {
        if methods.is_empty() {
            self.all.get_or_insert_with(|| place.clone());
        }
        for method in methods {
            self.methods.entry(method.clone()).or_insert_with(|| place.clone());
        }
    }
}

fn rule(mut table: Table<'_>, pillars: Option<&[String]>, names: &Names<'_>, known: &mut Known) -> Option<Rule> {
    let path = table.required_text("path", "\"/rooms/{id}\"", path);
    let methods = table.list("methods", 16).and_then(|items| distinct(&items, method));
    if table.has("methods") && methods.as_ref().is_some_and(Vec::is_empty) {
        table.report().add(
            &table.place_of("methods"),
            "is empty; name the methods, or leave the key out for all of them",
            None,
        );
    }
    let auth = table.choice("auth", "required", &[("required", true), ("none", false)]);
    let default = match (&path, &methods) {
        (Some(path), Some(methods)) if methods.is_empty() => path.clone(),
        (Some(path), Some(methods)) => format!("{} {path}", methods.join(",")),
        _ => String::new(),
    };
    let given = table.has("name");
    let name = table.text("name", &default, |text| if given { name(text) } else { Ok(text.to_owned()) });

    let place = table.place_of("path");
    if let (Some(path), Some(methods)) = (&path, &methods) {
        known.path(&table, path, methods, &place);
    }
    // Without a path there is no default name that could clash.
    if let (Some(name), true) = (&name, given || path.is_some() && methods.is_some()) {
        known.name(&table, name, given, &place);
    }
    let own_chain = match table.value("chain", None) {
        Some(value) => value.items(chain::LONGEST).and_then(|items| chain::chain(&items, names)).map(Some),
        None => Some(None),
    };
    let in_force = own_chain.as_ref().and_then(|own| own.as_deref().or(pillars));
    let config = chain::config(table.table("config"), in_force, "route", names);
    table.finish();
    let (chain, config) = (own_chain?, config?);
    Some(Rule { chain, config, name: name?, path: Some(path?), methods: methods?, auth: auth? })
}

impl Known {
    fn name(&mut self, table: &Table<'_>, name: &str, given: bool, path: &Place) {
        let place = if given { table.place_of("name") } else { path.clone() };
        match self.names.get(name) {
            // A name that came from the same path and methods has been told as a clash of the two.
            Some(_) if !given => {}
            Some(first) => {
                let line = table.report().line(first);
                let message = format!(
                    "the route in line {line} has the name `{}` already; names are unique in a pillar",
                    shown(name)
                );
                table.report().add(&place, message, None);
            }
            None => {
                self.names.insert(name.to_owned(), place);
            }
        }
    }

    fn path(&mut self, table: &Table<'_>, path: &str, methods: &[String], place: &Place) {
        let report = table.report();
        if let Some(taken) = self.paths.get_mut(path) {
            if let Some(first) = taken.clash(methods) {
                let line = report.line(first);
                report.add(
                    place,
                    format!("the route in line {line} has this path already, for a method in common; keep one of them"),
                    None,
                );
            }
            taken.add(methods, place);
            return;
        }
        match self.tree.insert(path, ()) {
            Ok(()) => {
                let mut taken = Taken { first: place.clone(), all: None, methods: HashMap::new() };
                taken.add(methods, place);
                self.paths.insert(path.to_owned(), taken);
            }
            Err(InsertError::Conflict { with }) => {
                let message = format!(
                    "matches the same paths as `{}`; give its parameters the same names, or change one of the two",
                    shown(&with)
                );
                report.add(place, message, None);
            }
            Err(InsertError::InvalidParamSegment) => {
                report.add(place, "has two parameters between two slashes; one is allowed, such as /{id}", None);
            }
            Err(InsertError::InvalidCatchAll) => {
                report.add(place, "has a {*rest} before its end; it stands alone after the last slash", None);
            }
            Err(_) => report.add(place, PARAMETER, None),
        }
    }
}

const PARAMETER: &str = "has a parameter that is not written {name} or {*name}, with both braces and a name";

/// A path pattern below the prefix, as the router understands it.
fn path(text: &str) -> Result<String, Fault> {
    if !text.starts_with('/') {
        let meant =
            (!text.is_empty() && text.len() <= 64).then(|| format!("/{text}")).filter(|meant| path(meant).is_ok());
        return Err(Fault { message: "must begin with a slash; it is the path below the prefix".to_owned(), meant });
    }
    if text.len() > 1024 {
        return Err(Fault::from("is longer than 1024 bytes"));
    }
    for (at, byte) in text.bytes().enumerate() {
        let fits = byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@{}".contains(&byte) || byte == b'%';
        if !fits {
            return Err(Fault::from(format!(
                "has a `{}`, which no path holds as it is; write it as % and two upper-case hexadecimal digits",
                shown(&text[at..].chars().take(1).collect::<String>())
            )));
        }
        if byte == b'%' && !stays_encoded(&text[at + 1..]) {
            return Err(Fault::from(
                "has a % that no normalised path has; write letters, digits and -._~!$&'()*+,;=:@ as they are, other characters as % \
                 and two upper-case hexadecimal digits, and no encoded slash, backslash, % or control character",
            ));
        }
    }
    if text.contains("//") || text.split('/').any(|segment| segment == "." || segment == "..") {
        return Err(Fault::from("has an empty segment, `.` or `..`, which no request has after it was normalised"));
    }
    if text.contains("{{") || text.contains("}}") {
        return Err(Fault::from(PARAMETER));
    }
    let mut names: Vec<&str> = text.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect();
    if names.iter().any(|name| !is_parameter(name)) {
        return Err(Fault::from("names a parameter oddly; use letters, digits and `_`, such as {id} or {*rest}"));
    }
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Fault::from("names two parameters alike; give each its own name"));
    }
    Ok(text.to_owned())
}

/// Whether the two digits after a `%` are an encoding that requests keep when they are normalised.
fn stays_encoded(digits: &str) -> bool {
    let upper = |byte: &u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(byte);
    let pair = digits.get(..2).filter(|pair| pair.as_bytes().iter().all(upper));
    pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).is_some_and(|byte| {
        !byte.is_ascii_alphanumeric() && !b"-._~/\\%!$&'()*+,;=:@".contains(&byte) && !byte.is_ascii_control()
    })
}

fn is_parameter(name: &str) -> bool {
    let name = name.strip_prefix('*').unwrap_or(name);
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A method: a token (RFC 9110, section 9.1), in upper case.
fn method(text: &str) -> Result<String, Fault> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || text.len() > 32 || !text.bytes().all(token) {
        return Err(Fault::from(format!("`{}` is not a method; write for example \"GET\"", shown(text))));
    }
    let upper = text.to_ascii_uppercase();
    if upper != text {
        return Err(Fault { message: format!("`{text}` is not in upper case"), meant: Some(upper) });
    }
    Ok(upper)
}

/// The name of a rule: lower-case words with hyphens, joined by dots.
fn name(text: &str) -> Result<String, Fault> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    let fits = (1..=64).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && text.bytes().all(inner);
    fits.then(|| text.to_owned()).ok_or_else(|| {
        let message = format!(
            "`{}` is not a route's name; use 1 to 64 lower-case letters, digits, dots and hyphens, such as \"rooms.list\"",
            shown(text)
        );
        Fault { message, meant: None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_encodings_that_normalised_paths_keep_are_taken() {
        for kept in ["/%C3%A4", "/a%20b", "/%7B"] {
            assert!(path(kept).is_ok(), "{kept}");
        }
        for gone in ["/%", "/%4", "/%41", "/%c3", "/%2F", "/%5C", "/%25", "/%00", "/%7F", "/%+1", "/%é"] {
            assert!(path(gone).is_err(), "{gone}");
        }
    }
}
