//! Gateway, SDK and policies share only `wit/`: none of them depends on another's crate, but policies on the SDK.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use toml::Table;

use super::Finding;

/// Which part of the repository a package belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Gateway,
    Sdk,
    Policy,
}

impl Part {
    /// Whether its packages may depend on packages of that part.
    fn may_use(self, other: Part) -> bool {
        self == Part::Policy && other == Part::Sdk
    }

    fn name(self) -> &'static str {
        match self {
            Part::Gateway => "the gateway",
            Part::Sdk => "the SDK",
            Part::Policy => "a policy",
        }
    }
}

struct Package {
    part: Part,
    /// Relative to the root.
    manifest: String,
    name: String,
    table: Table,
}

/// Checks the manifests of all packages of the three parts.
pub fn check(root: &Path) -> Result<Vec<Finding>> {
    let mut packages = Vec::new();
    packages.extend(package(root, "host", Part::Gateway)?);
    packages.extend(package(root, "guest-sdk", Part::Sdk)?);
    if let Ok(entries) = fs::read_dir(root.join("plugins")) {
        for entry in entries {
            let directory = format!("plugins/{}", entry?.file_name().to_string_lossy());
            packages.extend(package(root, &directory, Part::Policy)?);
        }
    }
    Ok(packages.iter().flat_map(|package| forbidden(package, &packages)).collect())
}

fn package(root: &Path, directory: &str, part: Part) -> Result<Option<Package>> {
    let manifest = format!("{directory}/Cargo.toml");
    let Ok(text) = fs::read_to_string(root.join(&manifest)) else { return Ok(None) };
    let table: Table = text.parse().with_context(|| format!("{manifest} is not TOML"))?;
    let name = table.get("package").and_then(|package| package.get("name")).and_then(|name| name.as_str());
    let name = name.with_context(|| format!("{manifest} names no package"))?.to_owned();
    Ok(Some(Package { part, manifest, name, table }))
}

fn forbidden(package: &Package, packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for dependency in dependencies(&package.table) {
        let other = packages.iter().find(|other| other.name == dependency);
        if let Some(other) = other.filter(|other| !package.part.may_use(other.part)) {
            let rule = format!(
                "{} depends on {} (`{dependency}`); they share only wit/",
                package.part.name(),
                other.part.name()
            );
            findings.push(Finding::error(&package.manifest, rule));
        }
    }
    findings
}

/// The packages that a manifest names under any kind of dependency, for any target.
fn dependencies(table: &Table) -> Vec<String> {
    let targets = table.get("target").and_then(|targets| targets.as_table());
    let targets = targets.into_iter().flat_map(|targets| targets.values().filter_map(|target| target.as_table()));
    let mut names = Vec::new();
    for table in [table].into_iter().chain(targets) {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, dependency) in table.get(kind).and_then(|kind| kind.as_table()).into_iter().flatten() {
                let renamed = dependency.get("package").and_then(|package| package.as_str());
                names.push(renamed.unwrap_or(name).to_owned());
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_use_the_sdk_and_nobody_else_uses_anybody() {
        let root = tempfile::tempdir().unwrap();
        let write = |directory: &str, text: &str| {
            fs::create_dir_all(root.path().join(directory)).unwrap();
            fs::write(root.path().join(directory).join("Cargo.toml"), text).unwrap();
        };
        write("host", "[package]\nname = 'portico-gateway'\n[dev-dependencies]\ngas = { path = '../plugins/gas' }\n");
        write("guest-sdk", "[package]\nname = 'portico-sdk'\n[dependencies]\nhost = { package = 'portico-gateway' }\n");
        write("plugins/gas", "[package]\nname = 'gas'\n[dependencies]\nportico-sdk.workspace = true\nserde = '1'\n");
        write("plugins/canary", "[package]\nname = 'canary'\n[target.'cfg(unix)'.dependencies]\ngas = '1'\n");
        let mut places: Vec<String> = check(root.path()).unwrap().into_iter().map(|finding| finding.place).collect();
        places.sort();
        assert_eq!(places, ["guest-sdk/Cargo.toml", "host/Cargo.toml", "plugins/canary/Cargo.toml"]);
    }
}
