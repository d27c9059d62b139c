//! Components are exchanged while requests run: whole, or not at all.

use crate::harness::{Gateway, Origin, patched, request, until};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The guest that tells this version, in both phases.
fn version(number: &str) -> Vec<u8> {
    with_summary(number, "Tells its version.")
}

fn with_summary(number: &str, summary: &str) -> Vec<u8> {
    let descriptor = json!({ "name": "v", "version": number, "summary": summary, "response_writes": ["x-version"] });
    patched("versioned", &descriptor)
}

/// A small one of the same kind, quick to compile.
fn numbered(number: &str) -> Vec<u8> {
    let mut bytes = crate::harness::guest("numbered");
    let first = b"0.0.100000";
    let at = bytes.windows(first.len()).position(|window| window == first).expect("its version");
    bytes[at..at + first.len()].copy_from_slice(number.as_bytes());
    bytes
}

fn start(origin: &Origin, instance: &str) -> Gateway {
    let toml = format!(
        "[policies.v]\ninstance = \"{instance}\"\nconfig = {{ word = \"plain\" }}\n\
         [upstreams.origin]\nendpoints = [\"http://{}\"]\nresponse_timeout = \"10m\"\n\
         [pillars.connect]\nupstream = \"origin\"\nchain = [\"v\"]\n\
         [[pillars.connect.routes]]\npath = \"/{{*rest}}\"\nauth = \"none\"\n",
        origin.address
    );
    Gateway::start_with(&toml, &[("v", version("1.0.0"))])
}

fn place(gateway: &Gateway) -> PathBuf {
    gateway.directory().join("plugins/v.wasm")
}

/// All at once, as a careful program writes.
fn save(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    std::fs::write(&new, bytes).expect("written");
    std::fs::rename(&new, path).expect("renamed");
}

/// The version that answers; a response that two versions had a hand in has two different numbers.
fn serving(gateway: &Gateway) -> String {
    let answer = gateway.get("/v1/connect/x").send();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let numbers = answer.values("x-version");
    assert!(numbers.len() == 2 && numbers[0] == numbers[1], "{numbers:?}");
    numbers[0].to_owned()
}

fn shown(gateway: &Gateway) -> Value {
    let list = gateway.admin("GET", "/v1/plugins").send().json();
    let found = list["policies"].as_array().expect("a list").iter().find(|policy| policy["policy"] == "v");
    found.expect("the policy").clone()
}

fn history(gateway: &Gateway) -> Vec<String> {
    let history = gateway.admin("GET", "/v1/plugins/v/history").send().json();
    let events = history["events"].as_array().expect("events").iter();
    events
        .map(|event| format!("{} {}", event["what"].as_str().unwrap(), event["version"].as_str().unwrap_or("-")))
        .collect()
}

/// What was shipped, once there are so many of it: a version serves before that is written down.
fn shipped(gateway: &Gateway, count: usize) -> Vec<String> {
    let all = || history(gateway).into_iter().filter(|event| event.starts_with("shipped")).collect::<Vec<_>>();
    until("all of it is written down", || all().len() >= count);
    all()
}

fn act(gateway: &Gateway, act: &str) -> crate::harness::Answer {
    gateway.admin("POST", &format!("/v1/plugins/v/{act}")).send()
}

#[test]
fn a_saved_component_serves_however_it_was_saved() {
    let origin = Origin::echo();
    let gateway = start(&origin, "pooled");
    let path = place(&gateway);
    assert_eq!(serving(&gateway), "1.0.0");

    save(&path, &version("1.1.0"));
    until("a renamed file serves", || serving(&gateway) == "1.1.0");

    std::fs::write(&path, version("1.2.0")).unwrap();
    until("a file written in place serves", || serving(&gateway) == "1.2.0");

    let elsewhere = gateway.directory().join("elsewhere.wasm");
    std::fs::write(&elsewhere, version("1.3.0")).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    until("a link serves", || serving(&gateway) == "1.3.0");

    // As Kubernetes mounts: the files are links through `..data`, which is swapped.
    let plugins = gateway.directory().join("plugins");
    for number in ["1.4.0", "1.5.0"] {
        let generation = plugins.join(format!("..{number}"));
        std::fs::create_dir(&generation).unwrap();
        std::fs::write(generation.join("v.wasm"), version(number)).unwrap();
        std::os::unix::fs::symlink(format!("..{number}"), plugins.join("..data_tmp")).unwrap();
        std::fs::rename(plugins.join("..data_tmp"), plugins.join("..data")).unwrap();
        if number == "1.4.0" {
            std::os::unix::fs::symlink("..data/v.wasm", plugins.join("v.new")).unwrap();
            std::fs::rename(plugins.join("v.new"), &path).unwrap();
        }
        until("a swapped mount serves", || serving(&gateway) == number);
    }
    let expected: Vec<String> =
        ["1.5.0", "1.4.0", "1.3.0", "1.2.0", "1.1.0", "1.0.0"].map(|v| format!("shipped {v}")).into();
    assert_eq!(shipped(&gateway, expected.len()), expected);
}

#[test]
fn a_slow_copy_is_never_loaded_by_half() {
    use std::io::Write;
    let origin = Origin::echo();
    let gateway = start(&origin, "pooled");
    let bytes = version("2.0.0");
    let mut file = std::fs::File::create(place(&gateway)).unwrap();
    for part in bytes.chunks(bytes.len() / 8) {
        file.write_all(part).unwrap();
        file.flush().unwrap();
        // Longer than a change takes to be noticed.
        std::thread::sleep(std::time::Duration::from_millis(80));
        assert_eq!(serving(&gateway), "1.0.0");
    }
    drop(file);
    until("the whole file serves", || serving(&gateway) == "2.0.0");
    // A busy machine may hold the writer up for longer than a file has to be quiet: then a half was looked at, and refused.
    assert_eq!(shipped(&gateway, 2), ["shipped 2.0.0", "shipped 1.0.0"]);
}

#[test]
fn what_does_not_fit_is_refused_and_the_old_version_stays() {
    let origin = Origin::echo();
    let gateway = start(&origin, "pooled");
    let generation = gateway.generation();
    let powers =
        json!({ "name": "v", "version": "2.0.0", "summary": "", "powers": ["deny"], "response_writes": ["x-version"] });
    let forgets = with_summary("2.1.0", "wants other");
    for (bytes, reason) in [
        (b"garbage".to_vec(), "not WebAssembly"),
        (version("2.0.0")[..20_000].to_vec(), "does not compile"),
        (patched("versioned", &powers), "wants the power `deny`"),
        (crate::harness::guest("forgetful"), "differently"),
        (crate::harness::guest("imports-unknown"), "imports `"),
        (forgets, "this version needs `other` in its configuration"),
    ] {
        save(&place(&gateway), &bytes);
        until(reason, || shown(&gateway)["refused"]["reason"].as_str().is_some_and(|told| told.contains(reason)));
        assert_eq!(serving(&gateway), "1.0.0");
        assert_eq!(gateway.generation(), generation);
    }
    assert!(history(&gateway).len() == 7, "{:?}", history(&gateway));
    // Asked for by hand, the answer says the same.
    let answer = act(&gateway, "reload");
    assert_eq!((answer.status, answer.error().as_str()), (422, "plugin_refused"), "{}", answer.text());
    assert!(answer.text().contains("this version needs `other`"), "{}", answer.text());
    save(&place(&gateway), &version("3.0.0"));
    until("a good one serves", || serving(&gateway) == "3.0.0");
    until("that is noted", || shown(&gateway)["refused"].is_null());
}

#[test]
fn operators_go_back_and_forth() {
    let origin = Origin::echo();
    let gateway = start(&origin, "fresh");
    for number in ["2.0.0", "3.0.0"] {
        save(&place(&gateway), &version(number));
        until("it serves", || serving(&gateway) == number);
    }
    assert_eq!(act(&gateway, "rollback").status, 200);
    assert_eq!(serving(&gateway), "2.0.0");
    assert_eq!(shown(&gateway)["state"], "held");

    // It stays so over a restart, until something else is saved.
    let gateway = gateway.restart();
    assert_eq!((serving(&gateway).as_str(), shown(&gateway)["state"].as_str()), ("2.0.0", Some("held")));
    let first = history_digest(&gateway, "1.0.0");
    let named = gateway.admin("POST", "/v1/plugins/v/rollback").field("content-type", "application/json");
    assert_eq!(named.body(json!({ "digest": &first[..12] }).to_string()).send().status, 200);
    assert_eq!(serving(&gateway), "1.0.0");
    save(&place(&gateway), &version("4.0.0"));
    until("the next one serves", || serving(&gateway) == "4.0.0");

    // Twice back is two versions back, and beyond the first there is nothing.
    for number in ["3.0.0", "2.0.0", "1.0.0"] {
        assert_eq!(act(&gateway, "rollback").status, 200);
        assert_eq!(serving(&gateway), number);
    }
    let answer = act(&gateway, "rollback");
    assert_eq!((answer.status, answer.error().as_str()), (409, "no_earlier_version"), "{}", answer.text());
    assert_eq!(act(&gateway, "reload").status, 200);
    assert_eq!(serving(&gateway), "4.0.0");

    // A broken file is refused and ends no hold; the version itself, in the directory, does.
    assert_eq!(act(&gateway, "rollback").status, 200);
    save(&place(&gateway), b"broken");
    until("it is refused", || shown(&gateway)["refused"].is_object());
    assert_eq!((serving(&gateway).as_str(), shown(&gateway)["state"].as_str()), ("3.0.0", Some("held")));
    save(&place(&gateway), &version("3.0.0"));
    until("the hold is over", || shown(&gateway)["state"] == "serving");
    save(&place(&gateway), &version("4.0.0"));
    until("what was gone back from is a new one again", || serving(&gateway) == "4.0.0");

    // A hold whose version is gone from the disk does not bring back what was gone back from.
    assert_eq!(act(&gateway, "rollback").status, 200);
    let kept = gateway.directory().join("data/plugins").join(format!("{}.wasm", history_digest(&gateway, "3.0.0")));
    let gateway = gateway.restart_cold_after(|| std::fs::remove_file(&kept).unwrap());
    // Also after the look that follows a start: this one waits for it.
    let answer = act(&gateway, "enable");
    assert_eq!((answer.status, serving(&gateway).as_str()), (200, "2.0.0"), "{}", answer.text());
    save(&place(&gateway), &version("5.0.0"));
    until("a new one serves", || serving(&gateway) == "5.0.0");

    assert_eq!(act(&gateway, "disable").status, 200);
    assert_eq!(shown(&gateway)["state"], "disabled");
    let gateway = gateway.restart();
    let passed = gateway.get("/v1/connect/x").send();
    assert_eq!((passed.status, passed.values("x-version").len()), (200, 0));
    assert_eq!(act(&gateway, "enable").status, 200);
    assert_eq!(serving(&gateway), "5.0.0");

    assert_eq!(gateway.admin("POST", "/v1/plugins/nobody/reload").send().status, 404);
    assert_eq!(gateway.admin("GET", "/v1/plugins/nobody/history").send().status, 404);
    // A body that is not said to be JSON is refused, and never overlooked.
    let unsaid = gateway.admin("POST", "/v1/plugins/v/rollback").body(json!({ "digest": first }).to_string()).send();
    assert_eq!((unsaid.status, serving(&gateway).as_str()), (415, "5.0.0"));
    let odd = gateway.admin("POST", "/v1/plugins/v/rollback").field("content-type", "application/json");
    assert_eq!(odd.body(r#"{"digest": "x", "other": 1}"#).send().json()["errors"].as_array().unwrap().len(), 2);
}

fn history_digest(gateway: &Gateway, version: &str) -> String {
    let mut digest = None;
    until("the version is written down", || {
        let history = gateway.admin("GET", "/v1/plugins/v/history").send().json();
        let versions = history["versions"].as_array().expect("versions").iter();
        let mut found = versions.filter(|known| known["version"] == version);
        digest = found.next().map(|known| known["digest"].as_str().expect("a digest").to_owned());
        digest.is_some()
    });
    digest.expect("a digest")
}

#[test]
fn a_start_with_a_broken_newest_version_comes_up_on_the_last_good_one() {
    let origin = Origin::echo();
    let gateway = start(&origin, "pooled");
    save(&place(&gateway), &version("2.0.0"));
    until("it serves", || serving(&gateway) == "2.0.0");
    let path = place(&gateway);
    let gateway = gateway.restart_after(|| save(&path, b"broken"));
    assert_eq!(serving(&gateway), "2.0.0");
    assert!(shown(&gateway)["refused"]["reason"].as_str().unwrap().contains("not WebAssembly"));
    // Also with nothing there at all.
    let plugins = gateway.directory().join("plugins");
    let gateway = gateway.restart_after(|| std::fs::remove_dir_all(&plugins).unwrap());
    assert_eq!(serving(&gateway), "2.0.0");
    std::fs::create_dir(place(&gateway).parent().unwrap()).unwrap();
    save(&place(&gateway), &version("3.0.0"));
    until("the directory came back", || serving(&gateway) == "3.0.0");
}

#[test]
fn swaps_lose_no_request_and_mix_no_versions() {
    const SWAPS: u64 = 10;
    const CALLERS: usize = 4;
    let origin = Origin::echo();
    let gateway = start(&origin, "pooled");
    let public = gateway.public;
    let stop = Arc::new(AtomicBool::new(false));
    let answers = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (stop, answers) = (stop.clone(), answers.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let answer = request(public, "GET", "/v1/connect/x").send();
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    let numbers = answer.values("x-version");
                    assert!(numbers.len() == 2 && numbers[0] == numbers[1], "{numbers:?}");
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for number in 1..=SWAPS {
        let number = format!("1.0.{number}");
        save(&place(&gateway), &version(&number));
        until("the swap is done", || serving(&gateway) == number);
    }
    stop.store(true, Ordering::Relaxed);
    callers.into_iter().for_each(|caller| caller.join().expect("no request was lost"));
    assert!(answers.load(Ordering::Relaxed) > SWAPS);
    assert_eq!(shown(&gateway)["failures"], json!({}));
}

/// Where the code of each policy came from: how often it was compiled, and how often it was in the cache.
fn code(gateway: &Gateway) -> (usize, usize) {
    let list = gateway.admin("GET", "/v1/plugins").send().json();
    let policies = list["policies"].as_array().expect("a list").clone();
    let from = |place: &str| policies.iter().filter(|policy| policy["code"] == place).count();
    (from("compiled"), from("cached"))
}

#[test]
fn a_warm_start_compiles_nothing_and_trusts_no_changed_entry() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, crate::harness::DEFAULT);
    assert_eq!(code(&gateway), (3, 0));
    let cache = gateway.directory().join("data/cache");
    let entries =
        || -> Vec<PathBuf> { std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect() };
    assert_eq!(entries().len(), 3);
    let gateway = gateway.restart_cold_after(|| {});
    assert_eq!(code(&gateway), (0, 3));
    let key = gateway.key(&["connect"]);
    assert_eq!(gateway.get("/v1/connect/x").key(&key).send().status, 200);

    let gateway = gateway.restart_cold_after(|| {
        let victim = &entries()[0];
        let mut bytes = std::fs::read(victim).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(victim, bytes).unwrap();
    });
    assert_eq!(code(&gateway), (1, 2));
    // It was replaced by a good one.
    let gateway = gateway.restart_cold_after(|| {});
    assert_eq!(code(&gateway), (0, 3));
    // A disk that takes no code is no reason not to start: a file stands where the directory should be.
    let gateway = gateway.restart_cold_after(|| {
        std::fs::remove_dir_all(&cache).unwrap();
        std::fs::write(&cache, "in the way").unwrap();
    });
    assert_eq!(code(&gateway), (3, 0));
}

#[test]
fn a_directory_that_is_not_there_is_not_applied() {
    let origin = Origin::echo();
    let gateway = start(&origin, "pooled");
    let path = gateway.directory().join("gateway.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let generation = gateway.generation();
    std::fs::write(&path, text.replace("directory = \"plugins\"", "directory = \"plugnis\"")).unwrap();
    // Nothing to wait for when nothing happens: a good file after it proves that it was looked at.
    std::fs::write(gateway.directory().join("next.toml"), format!("{text}\n[pillars.more]\n")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(gateway.generation(), generation);
    std::fs::rename(gateway.directory().join("next.toml"), &path).unwrap();
    until("the good file is applied", || gateway.generation() > generation);
    assert_eq!(gateway.generation(), generation + 1, "and nothing before it");
    assert_eq!(serving(&gateway), "1.0.0");
}

#[test]
fn a_pipe_in_the_place_of_a_component_holds_nothing_up() {
    let origin = Origin::echo();
    let gateway = start(&origin, "pooled");
    let pipe = gateway.directory().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    std::fs::rename(&pipe, place(&gateway)).unwrap();
    until("it is refused", || {
        shown(&gateway)["refused"]["reason"].as_str().is_some_and(|told| told.contains("not a file"))
    });
    assert_eq!(serving(&gateway), "1.0.0");
    save(&place(&gateway), &version("2.0.0"));
    until("a component serves", || serving(&gateway) == "2.0.0");
}

#[test]
fn versions_that_slow_requests_hold_leave_room_for_new_ones() {
    use std::io::{Read, Write};
    let origin = Origin::echo();
    let gateway = start(&origin, "pooled").restart_cold_after(|| {});
    // More versions than the engine has room for instances, each with a request that waits for its upstream.
    let mut waiting = Vec::new();
    for number in 100_001..=100_070 {
        let number = format!("0.0.{number}");
        let mut slow = std::net::TcpStream::connect(gateway.public).unwrap();
        slow.write_all(b"GET /v1/connect/slow/600000 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        waiting.push(slow);
        save(&place(&gateway), &numbered(&number));
        until("it serves", || serving(&gateway) == number);
    }
    assert_eq!(shown(&gateway)["refused"], Value::Null);
    let mut byte = [0];
    waiting[0].set_nonblocking(true).unwrap();
    assert!(waiting[0].read(&mut byte).is_err(), "the first of them still waits");
}
