//! Replaces path prefixes, segment by segment.

use portico_sdk::Setup;
use serde::Deserialize;

/// A prefix, and what the upstream gets in its place.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prefix {
    from: String,
    to: String,
}

/// All prefixes, the longest first. Without slashes at their ends.
#[derive(Debug)]
pub struct Rewrites(Vec<Prefix>);

impl Rewrites {
    /// The configured prefixes. What is wrong is reported to `setup`.
    pub fn new(prefixes: Vec<Prefix>, setup: &mut Setup<'_>) -> Self {
        let mut sorted: Vec<Prefix> = Vec::with_capacity(prefixes.len());
        for (at, prefix) in prefixes.into_iter().enumerate() {
            for (key, path) in [("from", &prefix.from), ("to", &prefix.to)] {
                if !path.starts_with('/') {
                    let message = format!("`{path}` is no path; begin it with `/`.");
                    setup.problem(format!("/rewrite/{at}/{key}"), message);
                }
            }
            let trimmed = |path: String| path.trim_end_matches('/').to_owned();
            let prefix = Prefix { from: trimmed(prefix.from), to: trimmed(prefix.to) };
            if sorted.iter().any(|earlier| earlier.from == prefix.from) {
                let message = format!("`{}` is replaced already; keep one of the two.", prefix.from);
                setup.problem(format!("/rewrite/{at}/from"), message);
            }
            sorted.push(prefix);
        }
        sorted.sort_by_key(|prefix| std::cmp::Reverse(prefix.from.len()));
        Self(sorted)
    }

    /// The path that the upstream gets; `None` where none of the prefixes fits.
    pub fn rewrite(&self, path: &str) -> Option<String> {
        self.0.iter().find_map(|prefix| {
            let rest = path.strip_prefix(prefix.from.as_str())?;
            match rest.as_bytes().first() {
                None if prefix.to.is_empty() => Some("/".to_owned()),
                None | Some(b'/') => Some(format!("{}{rest}", prefix.to)),
                Some(_) => None,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use portico_sdk::testing;

    use super::*;

    fn rewrite(prefixes: &[(&str, &str)], path: &str) -> Option<String> {
        let prefix = |&(from, to): &(&str, &str)| Prefix { from: from.to_owned(), to: to.to_owned() };
        let slot = testing::slot("connect").build();
        let mut setup = Setup::new(&slot);
        Rewrites::new(prefixes.iter().map(prefix).collect(), &mut setup).rewrite(path)
    }

    #[test]
    fn the_longest_prefix_that_ends_at_a_segment_is_replaced() {
        let both = [("/v1/connect", "/"), ("/v1/connect/rooms", "/spaces/")];
        for (path, expected) in [
            ("/v1/connect/rooms", Some("/spaces")),
            ("/v1/connect/rooms/7", Some("/spaces/7")),
            ("/v1/connect/roomy", Some("/roomy")),
            ("/v1/connect", Some("/")),
            ("/v1/connect/", Some("/")),
            ("/v1/connected", None),
            ("/v2", None),
        ] {
            assert_eq!(rewrite(&both, path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn the_root_fits_everything() {
        assert_eq!(rewrite(&[("/", "/api")], "/rooms").as_deref(), Some("/api/rooms"));
    }
}
