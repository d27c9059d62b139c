//! Directories that cannot be used: one sentence with the place and what to do, and nothing is left half started.

use crate::harness::request;
use crate::program::{Stand, output, told};
use std::fs;
use std::path::Path;

/// What `serve` or `check` says where both must refuse; one line, and the same from either.
fn refused_by_both(stand: &Stand, case: &str) -> String {
    let [checked, served] = ["check", "serve"].map(|command| {
        let refused = output(stand.path(), &[command, "--config", "gateway.toml"]);
        assert_eq!(refused.status.code(), Some(2), "{case}, {command}: {}", told(&refused));
        told(&refused)
    });
    assert_eq!(checked, served, "{case}");
    assert_eq!(checked.lines().count(), 1, "{case}: {checked}");
    for made in ["data", "master.key"] {
        assert!(!stand.path().join(made).exists(), "{case}: {made} was made");
    }
    checked
}

#[test]
fn a_plugin_directory_that_cannot_be_used_is_one_sentence() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage, &str); 4] = [
        ("missing", |plugins| fs::remove_dir_all(plugins).unwrap(), "there is no directory "),
        ("a file", |plugins| replace(plugins, |plugins| fs::write(plugins, "a file").unwrap()), " is not a directory"),
        ("a dangling link", |plugins| replace(plugins, |plugins| link("nowhere", plugins)), "there is no directory "),
        ("a loop of links", |plugins| replace(plugins, |plugins| link("plugins", plugins)), " cannot be read: "),
    ];
    for (case, damage, reason) in cases {
        let stand = Stand::new();
        damage(&stand.path().join("plugins"));
        let said = refused_by_both(&stand, case);
        for part in ["gateway.toml: plugins.directory: ", "plugins", reason, "name the one that holds the components"] {
            assert!(said.contains(part), "{case}: wanted {part:?}: {said}");
        }
    }
}

#[test]
fn a_component_that_cannot_be_read_is_one_sentence() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage, &str); 3] = [
        ("missing", |_| {}, "there is no `gas.wasm` in plugins; "),
        ("a directory", |gas| fs::create_dir(gas).unwrap(), "plugins/gas.wasm cannot be read: "),
        ("a dangling link", |gas| link("nowhere", gas), "there is no `gas.wasm` in plugins; there are: "),
    ];
    for (case, damage, reason) in cases {
        let stand = Stand::with("[policies.gas]\ngrant = { powers = [\"charge\"], maximum_charge = \"1\" }\n");
        let gas = stand.path().join("plugins/gas.wasm");
        fs::remove_file(&gas).unwrap();
        damage(&gas);
        let said = refused_by_both(&stand, case);
        assert!(said.contains("policies.gas.plugin: ") && said.contains(reason), "{case}: {said}");
        assert!(!said.contains("did you mean `gas`?"), "{case}: {said}");
    }
}

#[test]
fn a_data_directory_that_cannot_be_used_is_one_sentence() {
    let stand = Stand::with("");
    fs::write(stand.path().join("data"), "a file").unwrap();
    let refused = output(stand.path(), &["serve", "--config", "gateway.toml"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = told(&refused);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("data directory data: ") && said.contains("choose another `data.directory`"), "{said}");
    assert!(!stand.path().join("master.key").exists(), "nothing was made");
}

#[test]
fn a_data_directory_of_another_process_stays_with_it() {
    let stand = Stand::with("");
    let serving = stand.serve();
    let other = stand.path().join("other.toml");
    let text = fs::read_to_string(stand.path().join("gateway.toml")).unwrap();
    // Of its own it has everything but the data.
    fs::write(&other, text.replace("master.key", "other.key")).unwrap();

    let refused = output(stand.path(), &["serve", "--config", "other.toml"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = told(&refused);
    let expected = format!("data directory data is in use by another portico (pid {}); ", serving.id());
    assert!(said.starts_with(&expected) && said.contains("choose another `data.directory`"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(!stand.path().join("other.key").exists(), "nothing was made");

    let checked = output(stand.path(), &["check", "--config", "other.toml"]);
    assert_eq!(checked.status.code(), Some(0), "a check opens no data: {}", told(&checked));
    assert_eq!(request(serving.public, "GET", "/healthz").send().status, 200, "the first goes on");
}

fn replace(directory: &Path, with: impl FnOnce(&Path)) {
    fs::remove_dir_all(directory).unwrap();
    with(directory);
}

fn link(to: &str, at: &Path) {
    std::os::unix::fs::symlink(to, at).unwrap();
}
