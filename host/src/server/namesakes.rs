//! Components that call themselves the same, and belong to different files of the plugin directory.
//!
//! Decides nothing. A policy has the component of the file that its `plugin` names, or an earlier version of that, whatever it
//! calls itself; so all of them serve. It is told, as whoever saved one beside the other may have meant to replace it. Files that no policy names are
//! not looked into.

use crate::snapshot::Snapshot;
use std::collections::{BTreeMap, BTreeSet};

/// Files by the name that is in them; only names that stand in several.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Namesakes(BTreeMap<String, BTreeSet<String>>);

impl Namesakes {
    /// Those among the policies that serve.
    pub(super) fn among(snapshot: &Snapshot) -> Self {
        let named = snapshot.policies.iter().filter_map(|policy| {
            let written = snapshot.config.policies.get(&*policy.name)?;
            Some((policy.component.declared.name.clone(), written.plugin.clone()))
        });
        Self::of(named)
    }

    /// From pairs of a name and the plugin that is called so.
    fn of(named: impl Iterator<Item = (String, String)>) -> Self {
        let mut files = BTreeMap::<_, BTreeSet<_>>::new();
        for (name, plugin) in named {
            files.entry(name).or_default().insert(format!("{plugin}.wasm"));
        }
        files.retain(|_, files| files.len() > 1);
        Self(files)
    }

    /// The other files for which a component of this name serves.
    pub(super) fn beside(&self, name: &str, plugin: &str) -> Vec<&str> {
        let own = format!("{plugin}.wasm");
        let files = self.0.get(name).into_iter().flatten();
        files.map(String::as_str).filter(|file| *file != own).collect()
    }

    /// What to tell an operator.
    pub(super) fn sentences(&self) -> Vec<String> {
        let sentence = |(name, files): (&String, &BTreeSet<String>)| {
            let files: Vec<String> = files.iter().map(|file| format!("`{file}`")).collect();
            format!(
                "the components that serve for {} call themselves `{name}`: each policy has the file that its `plugin` names, or a kept version of \
                 it; one that was to replace the other has to be saved under the other's name",
                files.join(" and ")
            )
        };
        self.0.iter().map(sentence).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_policies_with_one_file_are_no_namesakes() {
        let among = |named: &[(&str, &str)]| {
            Namesakes::of(named.iter().map(|(name, plugin)| ((*name).to_owned(), (*plugin).to_owned())))
        };
        assert!(among(&[("v", "a"), ("v", "a"), ("w", "b")]).sentences().is_empty());
        let both = among(&[("v", "a"), ("v", "b"), ("v", "a"), ("w", "c")]);
        assert_eq!((both.beside("v", "a"), both.beside("w", "c")), (vec!["b.wasm"], vec![]));
        let told = both.sentences();
        assert!(
            told.len() == 1
                && told[0].starts_with("the components that serve for `a.wasm` and `b.wasm` call themselves `v`: ")
        );
    }
}
