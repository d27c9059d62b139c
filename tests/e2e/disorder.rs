//! A plugin directory in disorder, and a disk that is full: what serves goes on, and what is wrong is told.

use crate::harness::{Gateway, Origin, patched, request, until};
use crate::program::{Stand, output, told};
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const OPEN: &str = "[[pillars.connect.routes]]\npath = \"/x\"\nauth = \"none\"\n";

/// A component that calls itself `v`, in this version.
fn version(number: &str) -> Vec<u8> {
    with_schema(number, &json!(""))
}

fn with_schema(number: &str, schema: &Value) -> Vec<u8> {
    let schema = schema.as_str().map_or_else(|| schema.to_string(), str::to_owned);
    let descriptor = json!({
        "name": "v", "version": number, "summary": "", "response_writes": ["x-version"], "config_schema": schema,
    });
    patched("versioned", &descriptor)
}

fn save(directory: &Path, name: &str, bytes: &[u8]) {
    let path = directory.join(format!("plugins/{name}.wasm"));
    fs::write(path.with_extension("new"), bytes).unwrap();
    fs::rename(path.with_extension("new"), &path).unwrap();
}

fn toml(origin: &Origin, chain: &str, policies: &str, more: &str) -> String {
    format!(
        "{policies}[upstreams.origin]\nendpoints = [\"http://{}\"]\n[pillars.connect]\nupstream = \"origin\"\nchain = {chain}\n{more}{OPEN}",
        origin.address
    )
}

fn start(policies: &str, more: &str) -> (Origin, Gateway) {
    let origin = Origin::echo();
    let gateway = Gateway::start_with(&toml(&origin, "[\"v\"]", policies, more), &[("v", version("1.0.0"))]);
    (origin, gateway)
}

fn versions(public: SocketAddr) -> Vec<String> {
    let answer = request(public, "GET", "/v1/connect/x").send();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.values("x-version").into_iter().map(str::to_owned).collect()
}

fn serves(gateway: &Gateway, number: &str) -> bool {
    versions(gateway.public) == [number; 2]
}

fn policies(gateway: &Gateway) -> Vec<Value> {
    gateway.admin("GET", "/v1/plugins").send().json()["policies"].as_array().expect("a list").clone()
}

fn refusal(gateway: &Gateway) -> String {
    policies(gateway)[0]["refused"]["reason"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn other_files_in_the_directory_change_nothing() {
    let (_origin, gateway) = start("[policies.v]\n", "");
    let plugins = gateway.directory().join("plugins");
    let before = (gateway.generation(), refusal(&gateway));
    fs::write(plugins.join("README.md"), "what is this?").unwrap();
    fs::write(plugins.join("v.wasm.bak"), version("9.0.0")).unwrap();
    fs::write(plugins.join("v"), version("9.0.0")).unwrap();
    fs::write(plugins.join("V.wasm"), version("9.0.0")).unwrap();
    fs::write(plugins.join(".v.wasm.swp"), [0; 4096]).unwrap();
    fs::write(plugins.join("other.wasm"), "no component").unwrap();
    fs::write(plugins.join(std::ffi::OsStr::from_bytes(b"\xff\xfe.wasm")), "no name").unwrap();
    fs::write(plugins.join(format!("{}.wasm", "n".repeat(200))), "").unwrap();
    fs::create_dir_all(plugins.join("directory.wasm/v.wasm")).unwrap();
    std::os::unix::fs::symlink(".", plugins.join("loop")).unwrap();
    std::os::unix::fs::symlink("nowhere", plugins.join("dangling.wasm")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(plugins.join("socket.wasm")).unwrap();
    for number in 0..500 {
        fs::write(plugins.join(format!("{number}.txt")), "x").unwrap();
    }
    // Asked for by hand it has looked, whatever was noticed before.
    assert_eq!(gateway.admin("POST", "/v1/plugins/v/reload").send().status, 200);
    assert!(serves(&gateway, "1.0.0"));
    assert_eq!((gateway.generation(), refusal(&gateway)), before);
    save(gateway.directory(), "v", &version("2.0.0"));
    until("the next version serves", || serves(&gateway, "2.0.0"));
    let gateway = gateway.restart();
    assert!(serves(&gateway, "2.0.0"));
}

/// Each policy has the file that it names, whatever is called how in there.
#[test]
fn two_plugins_with_one_name_both_serve_and_it_is_told() {
    let stand = Stand::with("[policies.a]\n[defaults]\nchain = [\"a\"]\n");
    stand.edit(|text| text + OPEN);
    save(stand.path(), "a", &version("1.0.0"));
    let serving = stand.serve();
    assert_eq!(versions(serving.public), ["1.0.0"; 2]);
    let said = || stand.log().matches("`a.wasm` and `b.wasm` call themselves `v`").count();
    // Alone in the directory it is nobody's.
    save(stand.path(), "b", &version("2.0.0"));
    stand.edit(|text| text.replace("[defaults]\nchain = [\"a\"]", "[policies.b]\n[defaults]\nchain = [\"a\", \"b\"]"));
    until("both serve", || versions(serving.public) == ["2.0.0", "2.0.0", "1.0.0", "1.0.0"]);
    until("it is told", || said() == 1);
    let listed =
        output(stand.path(), &["plugin", "list", "--admin", &serving.admin.to_string(), "--config", "gateway.toml"]);
    let list = String::from_utf8(listed.stdout.clone()).unwrap();
    assert!(
        list.contains("a: its component calls itself `v`, as what serves for b.wasm does; its own file is a.wasm\n"),
        "{list}{}",
        told(&listed)
    );
    assert!(
        list.contains("b: its component calls itself `v`, as what serves for a.wasm does; its own file is b.wasm\n"),
        "{list}"
    );
    let checked = output(stand.path(), &["check", "--config", "gateway.toml"]);
    assert!(
        checked.status.success() && told(&checked).contains("`a.wasm` and `b.wasm` call themselves `v`"),
        "{checked:?}"
    );

    // A version of one is none of the other, and nothing is said again.
    save(stand.path(), "b", &version("3.0.0"));
    until("the next version serves", || versions(serving.public)[0] == "3.0.0");
    assert_eq!((versions(serving.public)[3].as_str(), said()), ("1.0.0", 1));
}

#[test]
fn a_version_that_drops_a_key_of_a_slot_is_refused() {
    let policy = "[policies.v]\nconfig = { word = \"plain\" }\n";
    let (_origin, gateway) = start(policy, "config.v = { tone = \"low\" }\n");
    let schema = |keys: &[&str]| {
        let keys: serde_json::Map<String, Value> =
            keys.iter().map(|key| ((*key).to_owned(), json!({ "type": "string" }))).collect();
        json!({ "type": "object", "properties": keys, "additionalProperties": false })
    };
    for (number, keys, key) in [("2.0.0", ["word", "other"], "tone"), ("2.1.0", ["tone", "other"], "word")] {
        save(gateway.directory(), "v", &with_schema(number, &schema(&keys)));
        until("it is refused", || refusal(&gateway).contains(key));
        let reason = refusal(&gateway);
        assert!(reason.contains("pillars.connect.config.v"), "the place of that slot: {reason}");
        assert!(serves(&gateway, "1.0.0"));
    }
    save(gateway.directory(), "v", &with_schema("3.0.0", &schema(&["word", "tone"])));
    until("one that knows both serves", || serves(&gateway, "3.0.0"));
}

#[test]
fn what_may_not_be_read_any_more_serves_on() {
    let stand = Stand::with("[policies.v]\n[defaults]\nchain = [\"v\"]\n");
    stand.edit(|text| text + OPEN);
    save(stand.path(), "v", &version("1.0.0"));
    let serving = stand.serve_held_to_modes();
    let token = fs::read_to_string(stand.path().join("data/admin-token")).unwrap();
    let plugins = stand.path().join("plugins");
    let permit = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for path in [plugins.join("v.wasm"), plugins.clone()] {
        permit(&path, 0);
        let answer = request(serving.admin, "POST", "/v1/plugins/v/reload").key(token.trim()).send();
        assert_eq!(answer.status, 422, "{path:?}: {}", answer.text());
        assert!(answer.text().contains("a component must be a file that this user may read"), "{}", answer.text());
        assert_eq!(versions(serving.public), ["1.0.0"; 2]);
        permit(&path, 0o755);
    }
    save(stand.path(), "v", &version("2.0.0"));
    until("the next version serves", || versions(serving.public) == ["2.0.0"; 2]);
}

#[test]
fn a_start_on_the_last_good_version_is_told_at_each_start() {
    let stand = Stand::with("[policies.v]\n[defaults]\nchain = [\"v\"]\n");
    stand.edit(|text| text + OPEN);
    save(stand.path(), "v", &version("1.0.0"));
    assert_eq!(stand.serve().terminate(), Some(0));
    save(stand.path(), "v", b"broken");
    for start in 0..2 {
        let serving = stand.serve();
        assert_eq!(versions(serving.public), ["1.0.0"; 2]);
        let log = stand.log();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let refused = lines.find(|line| line["message"].as_str().is_some_and(|said| said.contains("was refused")));
        let refused = refused.unwrap_or_else(|| panic!("start {start}: {log}"));
        assert_eq!((&refused["level"], &refused["policy"]), (&json!("ERROR"), &json!("v")), "{refused}");
        let said = refused["message"].as_str().unwrap_or_default();
        assert!(said.contains("the version before goes on") && said.contains("it is not WebAssembly"), "{said}");
        assert_eq!(serving.terminate(), Some(0));
    }
}

#[test]
fn a_directory_that_goes_and_comes_back_is_looked_at_again() {
    let (_origin, gateway) = start("[policies.v]\n", "");
    let plugins = gateway.directory().join("plugins");
    for number in ["2.0.0", "3.0.0"] {
        fs::remove_dir_all(&plugins).unwrap();
        until("it is noticed", || refusal(&gateway).contains("there is no `v.wasm`"));
        let before = versions(gateway.public);
        assert_eq!((before.len(), &before[0]), (2, &before[1]), "what served goes on");
        fs::create_dir(&plugins).unwrap();
        save(gateway.directory(), "v", &version(number));
        until("what came back serves", || serves(&gateway, number));
    }
    fs::rename(&plugins, gateway.directory().join("aside")).unwrap();
    until("it is noticed", || refusal(&gateway).contains("there is no `v.wasm`"));
    assert!(serves(&gateway, "3.0.0"));
    fs::rename(gateway.directory().join("aside"), &plugins).unwrap();
    save(gateway.directory(), "v", &version("4.0.0"));
    until("what came back serves", || serves(&gateway, "4.0.0"));
}

/// A file may get no larger than 256 KiB, as on a disk that fills while it is written: code does not fit, all else does.
#[test]
fn a_disk_that_fills_while_code_is_written_costs_the_next_start_some_time() {
    let stand = Stand::with("[policies.waits]\ndeadline = \"2s\"\n[defaults]\nchain = [\"waits\"]\n");
    stand.edit(|text| text + OPEN);
    let ask = |public| request(public, "GET", "/v1/connect/x").field("x-behaviour", "none").send().status;
    let entries = || {
        let entries = fs::read_dir(stand.path().join("data/cache")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let serving = stand.serve_within(256 << 10);
    assert_eq!(ask(serving.public), 200);
    assert!(stand.log().contains("compiled code cannot be kept in "), "{}", stand.log());
    // It is tried again with the next look, which may be at it.
    until("not even half of it is left", || entries().is_empty());
    assert_eq!(serving.terminate(), Some(0));
    let serving = stand.serve();
    assert_eq!((ask(serving.public), entries().len()), (200, 1));
}
