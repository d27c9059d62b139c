//! The best rule for a path and a method. Generic over what a rule carries: routing cannot know policies.
//!
//! The longest prefix wins; below it, an explicit rule for path and method wins over the rule for all else. Method and
//! path are matched together, so a rule that opens one method never opens another.

use http::Method;
use rustc_hash::FxHashMap;

/// A table of prefixes with their rules.
#[derive(Debug)]
pub struct Table<T> {
    groups: FxHashMap<String, Group<T>>,
    longest: usize,
}

/// What the rules of one path carry, by their methods.
type ByMethod<T> = Vec<(Vec<Method>, T)>;

#[derive(Debug)]
struct Group<T> {
    rules: matchit::Router<ByMethod<T>>,
    rest: T,
}

/// One rule as it is given.
#[derive(Debug, Clone)]
pub struct Rule<T> {
    /// Path below the prefix, in matchit's syntax.
    pub path: String,
    /// Empty for all.
    pub methods: Vec<Method>,
    /// What it carries.
    pub payload: T,
}

/// A path pattern that cannot stand beside the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the path {path:?} cannot be routed: {reason}")]
pub struct RouteError {
    /// The pattern.
    pub path: String,
    /// Why not.
    pub reason: String,
}

/// A rule that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<T> {
    /// What the rule carries.
    pub payload: T,
    /// Length of the prefix, in bytes.
    pub prefix: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { groups: FxHashMap::default(), longest: 0 }
    }
}

impl<T: Copy> Table<T> {
    /// Adds a prefix with its rules; `rest` is for every path and method that no rule matches.
    ///
    /// # Errors
    /// The first pattern that cannot be routed.
    pub fn add(&mut self, prefix: &str, rules: Vec<Rule<T>>, rest: T) -> Result<(), RouteError> {
        let mut paths: Vec<(String, ByMethod<T>)> = Vec::new();
        for rule in rules {
            match paths.iter_mut().find(|(path, _)| *path == rule.path) {
                Some((_, methods)) => methods.push((rule.methods, rule.payload)),
                None => paths.push((rule.path, vec![(rule.methods, rule.payload)])),
            }
        }
        let mut router = matchit::Router::new();
        for (path, methods) in paths {
            let insert = router.insert(&path, methods);
            insert.map_err(|error| RouteError { path, reason: error.to_string() })?;
        }
        self.longest = self.longest.max(prefix.len());
        self.groups.insert(prefix.to_owned(), Group { rules: router, rest });
        Ok(())
    }

    /// The rule for a normalised path and a method.
    pub fn find(&self, path: &str, method: &Method) -> Option<Found<T>> {
        let (prefix, group) = self.group(path)?;
        let below = &path[prefix..];
        let below = if below.is_empty() { "/" } else { below };
        let rule = group.rules.at(below).ok().and_then(|at| {
            at.value
                .iter()
                .find(|(methods, _)| methods.is_empty() || methods.contains(method))
                .map(|(_, payload)| *payload)
        });
        Some(Found { payload: rule.unwrap_or(group.rest), prefix })
    }

    /// The group with the longest prefix that ends where a segment of the path does.
    fn group(&self, path: &str) -> Option<(usize, &Group<T>)> {
        let reach = path.len().min(self.longest);
        let ends = |&end: &usize| end == path.len() || path.as_bytes()[end] == b'/';
        (1..=reach).rev().filter(ends).find_map(|end| self.groups.get(&path[..end]).map(|group| (end, group)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table() -> Table<&'static str> {
        let rule =
            |path: &str, methods: &[Method], payload| Rule { path: path.into(), methods: methods.into(), payload };
        let mut table = Table::default();
        let rules = vec![
            rule("/rooms", &[Method::GET], "list"),
            rule("/rooms", &[Method::POST], "create"),
            rule("/rooms/{id}", &[], "room"),
            rule("/files/{*path}", &[Method::GET], "file"),
        ];
        table.add("/v1/connect", rules, "connect").unwrap();
        table.add("/v1/connect/deep", vec![], "deep").unwrap();
        table.add("/v1/pay", vec![], "pay").unwrap();
        table
    }

    #[test]
    fn the_longest_prefix_and_the_explicit_rule_win() {
        let table = table();
        let find = |method, path| table.find(path, &method).map(|found| found.payload);
        assert_eq!(find(Method::GET, "/v1/connect/rooms"), Some("list"));
        assert_eq!(find(Method::POST, "/v1/connect/rooms"), Some("create"));
        assert_eq!(find(Method::DELETE, "/v1/connect/rooms"), Some("connect"));
        assert_eq!(find(Method::DELETE, "/v1/connect/rooms/7"), Some("room"));
        assert_eq!(find(Method::GET, "/v1/connect/files/a/b"), Some("file"));
        assert_eq!(find(Method::GET, "/v1/connect"), Some("connect"));
        assert_eq!(find(Method::GET, "/v1/connect/"), Some("connect"));
        assert_eq!(find(Method::GET, "/v1/connect/deep/x"), Some("deep"));
        assert_eq!(find(Method::GET, "/v1/connection"), None);
        assert_eq!(find(Method::GET, "/v1"), None);
        assert_eq!(find(Method::GET, "/"), None);
    }

    proptest! {
        /// Against a naive oracle: try every prefix, longest first.
        #[test]
        fn prefixes_match_like_the_oracle(
            prefixes in proptest::collection::btree_set("(/[ab]{1,2}){1,3}", 0..6),
            path in "(/[ab]{0,2}){1,4}",
        ) {
            let mut table = Table::default();
            let prefixes: Vec<String> = prefixes.into_iter().collect();
            for (number, prefix) in prefixes.iter().enumerate() {
                table.add(prefix, vec![], number).unwrap();
            }
            let covers = |prefix: &&String| path == **prefix || path.starts_with(&format!("{prefix}/"));
            let oracle = prefixes.iter().filter(covers).max_by_key(|prefix| prefix.len());
            let expected = oracle.and_then(|best| prefixes.iter().position(|prefix| prefix == best));
            prop_assert_eq!(table.find(&path, &Method::GET).map(|found| found.payload), expected);
        }
    }
}
