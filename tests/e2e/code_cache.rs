//! What is compiled once is not compiled again: neither for a second policy, nor by the next start.

use crate::harness::{Gateway, Origin, cold_catalog, guest, until};
use portico::plugin::{Catalog, Compiler, Engines};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// The guest that tells its version, as another version.
fn numbered(number: &str) -> Vec<u8> {
    let mut bytes = guest("numbered");
    let first = b"0.0.100000";
    let at = bytes.windows(first.len()).position(|window| window == first).expect("its version");
    bytes[at..at + first.len()].copy_from_slice(number.as_bytes());
    bytes
}

/// A gateway with these policies, and with this version as the plugin of all of them.
fn start(catalog: Arc<Catalog>, origin: &Origin, policies: &str, chain: &str, number: &str) -> Gateway {
    let toml = format!(
        "{policies}[upstreams.origin]\nendpoints = [\"http://{}\"]\n[pillars.connect]\nupstream = \"origin\"\n\
         chain = [{chain}]\n[[pillars.connect.routes]]\npath = \"/x\"\nauth = \"none\"\n",
        origin.address
    );
    Gateway::try_start_on(catalog, &toml, &[("numbered", numbered(number))]).unwrap_or_else(|error| panic!("{error}"))
}

fn save(gateway: &Gateway, number: &str) {
    let path = gateway.directory().join("plugins/numbered.wasm");
    std::fs::write(path.with_extension("new"), numbered(number)).unwrap();
    std::fs::rename(path.with_extension("new"), path).unwrap();
}

/// Whether all policies have this version.
fn all_serve(gateway: &Gateway, number: &str) -> bool {
    let list = gateway.admin("GET", "/v1/plugins").send().json();
    list["policies"].as_array().expect("a list").iter().all(|policy| policy["version"] == number)
}

/// A compiler that writes down how each of its processes was started.
struct Counting(tempfile::TempDir);

impl Counting {
    fn new() -> Self {
        let directory = tempfile::TempDir::new().unwrap();
        // Another process writes it: a file that this one has open for writing could not be started, as a child of another
        // test may hold it for a moment.
        let mut writer = Command::new("sh");
        writer.args(["-c", "cat > \"$0\" && chmod 700 \"$0\""]).arg(directory.path().join("program"));
        let mut writer = writer.stdin(Stdio::piped()).spawn().unwrap();
        let compiler = env!("CARGO_BIN_EXE_portico");
        let script = format!("#!/bin/sh\necho \"$@\" >> \"${{0%program}}started\"\nexec '{compiler}' \"$@\"\n");
        writer.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(writer.wait().unwrap().success());
        Self(directory)
    }

    fn catalog(&self) -> Arc<Catalog> {
        let compiler = Compiler::at(self.0.path().join("program"));
        Arc::new(Catalog::new(Engines::start(64, compiler).expect("an engine")))
    }

    /// How many were started ahead of a component, and how many for one.
    fn started(&self) -> (usize, usize) {
        let started = std::fs::read_to_string(self.0.path().join("started")).unwrap_or_default();
        let ahead = started.lines().filter(|line| line.contains("--ahead")).count();
        (ahead, started.lines().count() - ahead)
    }
}

#[test]
fn a_component_is_compiled_once_for_all_that_use_it() {
    let (origin, counting) = (Origin::echo(), Counting::new());
    let policy = |name: &str, memory: &str| {
        format!("[policies.{name}]\nplugin = \"numbered\"\ninstance = \"pooled\"\nmemory = \"{memory}\"\n")
    };
    let policies = [policy("a", "4MiB"), policy("b", "8MiB"), policy("c", "16MiB")].concat();
    let gateway = start(counting.catalog(), &origin, &policies, "\"a\", \"b\", \"c\"", "0.0.100001");
    assert!(all_serve(&gateway, "0.0.100001"));
    assert_eq!(counting.started().1, 1);
    // Each look at the components has a child stand ready, once one was compiled.
    assert_eq!(gateway.admin("POST", "/v1/plugins/a/reload").send().status, 200);
    until("one stands ready", || counting.started().0 == 1);
    save(&gateway, "0.0.100002");
    until("it serves", || all_serve(&gateway, "0.0.100002"));
    assert_eq!(counting.started().1, 1, "the one that stood ready compiled it, for all three");
    assert_eq!(gateway.get("/v1/connect/x").send().status, 200);
}

#[test]
fn code_is_written_once_it_was_compiled_and_again_where_that_failed() {
    let origin = Origin::echo();
    let policy = "[policies.v]\nplugin = \"numbered\"\ninstance = \"pooled\"\n";
    let gateway = start(cold_catalog(), &origin, policy, "\"v\"", "0.0.100001");
    let cache = gateway.directory().join("data/cache");
    let entries =
        || -> Vec<PathBuf> { std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect() };
    // Whoever asks for a look has waited for the end of the one before.
    let look = || assert_eq!(gateway.admin("POST", "/v1/plugins/v/reload").send().status, 200);
    assert_eq!(entries().len(), 1);

    // What serves was not compiled by this change.
    std::fs::remove_file(&entries()[0]).unwrap();
    let generation = gateway.generation();
    let path = gateway.directory().join("gateway.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text + "[pillars.more]\n").unwrap();
    until("it is applied", || gateway.generation() > generation);
    look();
    assert_eq!(entries().len(), 0);

    // A file stands where the directory should be.
    let aside = gateway.directory().join("aside");
    std::fs::rename(&cache, &aside).unwrap();
    std::fs::write(&cache, "in the way").unwrap();
    save(&gateway, "0.0.100002");
    until("it serves", || all_serve(&gateway, "0.0.100002"));
    look();
    std::fs::remove_file(&cache).unwrap();
    std::fs::rename(&aside, &cache).unwrap();
    assert_eq!(entries().len(), 0);
    look();
    assert_eq!(entries().len(), 1);
    let gateway = gateway.restart_without_compiler();
    assert!(all_serve(&gateway, "0.0.100002"));
}
