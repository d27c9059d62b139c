//! Every configuration that is shipped fits the policies that are shipped, as `portico check` sees it.

use crate::harness::components;
use crate::program::{output, told};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the configurations name a plugin that their reader would bring: what stands in for it.
const STAND_INS: [(&str, &str); 2] = [
    // The example for authors is configured as the shipped example of a plugin of a third party.
    ("my-policy", "canary"),
    // The reference shows keys, and asks nothing of its plugin.
    ("example", "reader"),
];

#[test]
fn every_shipped_configuration_fits_the_built_policies() {
    let directory = tempfile::TempDir::new().unwrap();
    let plugins = directory.path().join("plugins");
    fs::create_dir(&plugins).unwrap();
    components(&plugins);
    for (name, built) in STAND_INS {
        fs::copy(plugins.join(format!("{built}.wasm")), plugins.join(format!("{name}.wasm"))).unwrap();
    }
    let documents = directory.path().join("openapi");
    fs::create_dir(&documents).unwrap();
    // The reference has none of its own: it only shows how to name one.
    for (name, shipped) in [("connect", "connect"), ("knowledge", "knowledge"), ("example", "connect")] {
        let shipped = repository().join(format!("config/openapi/{shipped}.json"));
        fs::copy(shipped, documents.join(format!("{name}.json"))).unwrap();
    }
    let shipped = shipped();
    assert!(shipped.len() >= 6, "gateway, reference and an example for each kind of people: {shipped:?}");
    for file in shipped {
        let name = file.file_name().expect("a name").to_str().expect("a name");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(directory.path().join(name), with_plugins(&text)).unwrap();
        let checked = output(directory.path(), &["check", "--config", name]);
        assert_eq!(checked.status.code(), Some(0), "{name}: {}", told(&checked));
        let said = String::from_utf8_lossy(&checked.stdout);
        // As many as stand there, so that nothing was passed over.
        let policies =
            text.parse::<toml::Table>().unwrap().get("policies").map_or(0, |all| all.as_table().unwrap().len());
        let policies = if policies == 1 { "1 policy".to_owned() } else { format!("{policies} policies") };
        assert!(said.contains(": fine, ") && said.contains(&format!("behind {policies}")), "{name}: {said}");
    }
}

/// As it stands in the repository: only its own relative paths can be right there.
#[test]
fn the_gateway_of_up_finds_its_policies_where_they_are_built() {
    let config = repository().join("config");
    let fine = output(&config, &["check", "--config", "gateway.toml"]);
    assert_eq!(fine.status.code(), Some(0), "{}", told(&fine));
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn shipped() -> Vec<PathBuf> {
    let files =
        |directory: &str| fs::read_dir(repository().join(directory)).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> = files("config").chain(files("config/examples")).collect();
    all.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    all.sort();
    all
}

/// The same with the plugins of the test, and with time for a busy machine; all else as it is.
fn with_plugins(text: &str) -> String {
    let mut table: toml::Table = text.parse().unwrap();
    if let Some(plugins) = table.get_mut("plugins") {
        plugins["directory"] = "plugins".into();
    }
    for (_, policy) in table.get_mut("policies").and_then(toml::Value::as_table_mut).into_iter().flatten() {
        policy.as_table_mut().unwrap().insert("deadline".into(), "10s".into());
    }
    table.to_string()
}
