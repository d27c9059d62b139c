//! Compiling is bounded: what takes too much is refused, and nothing else waits for it longer than it must.

use crate::harness::{Answer, Gateway, Origin, guest, request, until};
use crate::program::{Serving, Stand, output};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One policy that needs nothing granted, so that any guest can stand in its place.
/// Pooled, as fresh instances are compiled for once more.
const POLICY: &str = "[policies.v]\nplugin = \"numbered\"\ninstance = \"pooled\"\n[defaults]\nchain = [\"v\"]\n";

/// A number as Wasm writes it (LEB128).
fn number(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &number(content.len()), content].concat()
}

/// A valid component with so many functions, each of so many loops around one another, with as many variables that each
/// of the loops changes: small, and too much for a compiler.
fn bomb(functions: usize, loops: usize) -> Vec<u8> {
    let mut body = [number(1), number(loops), vec![0x7f]].concat();
    for at in 0..loops {
        // loop; local.get, local.set of another one
        body.extend([&[0x03, 0x40, 0x20][..], &number(at), &[0x21], &number(1 + (at + 1) % loops)].concat());
    }
    // Back to the head of each loop, as long as the argument says so.
    body.extend([0x20, 0x00, 0x0d, 0x00, 0x0b].repeat(loops));
    body.extend([0x20, 0x01, 0x0b]);
    component(functions, &body)
}

/// A component that holds a module with so many functions of one body, from a number to a number.
fn component(functions: usize, body: &[u8]) -> Vec<u8> {
    let code = [&number(body.len()), body].concat();
    let types = section(1, &[1, 0x60, 1, 0x7f, 1, 0x7f]);
    let declared = section(3, &[number(functions), vec![0; functions]].concat());
    let bodies = section(10, &[number(functions), code.repeat(functions)].concat());
    let module = [b"\0asm\x01\0\0\0", &types[..], &declared, &bodies].concat();
    [b"\0asm\x0d\0\x01\0", &section(1, &module)[..]].concat()
}

/// A valid component with one function of so many branches, each within the one before, around as many variables: small, and
/// the compiler keeps all of them apart.
fn memory_bomb(branches: usize, variables: usize) -> Vec<u8> {
    let mut body = [number(1), number(variables), vec![0x7f]].concat();
    for at in 0..branches {
        // local.get 0, if; local.get 0, local.set of one of them
        body.extend([&[0x20, 0x00, 0x04, 0x40, 0x20, 0x00, 0x21][..], &number(1 + at % variables)].concat());
    }
    body.extend(vec![0x0b; branches]);
    body.extend([0x20, 0x01, 0x0b]);
    component(1, &body)
}

/// Takes more than a minute of processor time to compile, also where the compiler was built to be quick.
fn slow_bomb() -> Vec<u8> {
    bomb(60, 1500)
}

fn save(stand: &Stand, bytes: &[u8]) {
    let path = stand.path().join("plugins/numbered.wasm");
    let new = path.with_extension("new");
    std::fs::write(&new, bytes).unwrap();
    std::fs::rename(&new, &path).unwrap();
}

/// The guest that tells its version, as another version.
fn numbered(number: &str) -> Vec<u8> {
    let mut bytes = guest("numbered");
    let first = b"0.0.100000";
    let at = bytes.windows(first.len()).position(|window| window == first).unwrap();
    bytes[at..at + first.len()].copy_from_slice(number.as_bytes());
    bytes
}

fn admin(stand: &Stand, serving: &Serving, method: &str, target: &str) -> Answer {
    let token = std::fs::read_to_string(stand.path().join("data/admin-token")).unwrap();
    request(serving.admin, method, target).key(token.trim()).send()
}

fn shown(stand: &Stand, serving: &Serving) -> Value {
    admin(stand, serving, "GET", "/v1/plugins").json()["policies"][0].clone()
}

/// Processes that compile for the gateway, or stand ready to: their directories under `/proc`.
fn compiling(serving: &Serving) -> Vec<PathBuf> {
    let parent = serving.id().to_string();
    let is_child = |process: &PathBuf| {
        let stat = std::fs::read_to_string(process.join("stat")).unwrap_or_default();
        // State and parent follow the name, which may hold anything.
        let mut rest = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        rest.next().is_some_and(|state| state != "Z") && rest.next() == Some(&parent)
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    all.filter(is_child).collect()
}

fn the_child(serving: &Serving) -> PathBuf {
    until("it is being compiled", || compiling(serving).len() == 1);
    compiling(serving).remove(0)
}

/// The one that was started ahead of what it is to compile.
fn the_ready_one(serving: &Serving) -> PathBuf {
    let is_ahead = |child: &PathBuf| {
        std::fs::read_to_string(child.join("cmdline")).is_ok_and(|line| line.split('\0').any(|word| word == "--ahead"))
    };
    let mut found = None;
    until("one stands ready", || {
        found = compiling(serving).into_iter().find(is_ahead);
        found.is_some()
    });
    found.expect("it was found")
}

/// Processor time that a child has had.
fn busy(child: &Path) -> Duration {
    let stat = std::fs::read_to_string(child.join("stat")).unwrap_or_default();
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    // Linux tells a hundred in a second, whatever its own clock does.
    Duration::from_millis(ticks * 10)
}

fn gone(child: &Path) -> bool {
    let stat = std::fs::read_to_string(child.join("stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

#[test]
fn what_takes_too_much_is_refused_and_the_old_version_serves() {
    let stand = Stand::with(POLICY);
    let serving = stand.serve();
    let first = shown(&stand, &serving)["version"].clone();
    let plain = std::fs::read_to_string(stand.path().join("gateway.toml")).unwrap();
    let bound = |with: &str| {
        let before = stand.log().matches("applied ").count();
        stand.edit(|_| plain.replace("[plugins]\n", &format!("[plugins]\n{with}\n")));
        until("the bound is applied", || stand.log().matches("applied ").count() > before);
    };
    for (with, bytes, reason) in [
        (
            // So much memory that a fast machine does not come to that bound first.
            "compile_time = \"2s\"\ncompile_memory = \"4GiB\"",
            slow_bomb(),
            "`numbered.wasm` cannot be used: it takes longer than 2s to compile; make",
        ),
        (
            "compile_memory = \"128MiB\"",
            memory_bomb(10_000, 40_000),
            "`numbered.wasm` cannot be used: it takes more than 128 MiB of memory to compile; make",
        ),
    ] {
        bound(with);
        let ready = the_ready_one(&serving);
        save(&stand, &bytes);
        until(reason, || {
            shown(&stand, &serving)["refused"]["reason"].as_str().is_some_and(|told| told.contains(reason))
        });
        assert_eq!(shown(&stand, &serving)["version"], first);
        assert_eq!(request(serving.public, "GET", "/v1/connect/x").send().status, 401, "its guard answers");
        let history = admin(&stand, &serving, "GET", "/v1/plugins/v/history").json();
        let told = history["events"][0]["reason"].as_str().unwrap();
        assert!(told.contains(reason), "{history}");
        until("the log has it", || stand.log().contains(reason));
        assert!(compiling(&serving).len() <= 1 && gone(&ready), "at most the next one stands ready");
        // With other bounds it would be tried again.
        save(&stand, &guest("numbered"));
    }
    bound("");
    save(&stand, &numbered("0.0.100001"));
    until("a good one serves", || shown(&stand, &serving)["version"] == "0.0.100001");
    until("nothing is refused any more", || shown(&stand, &serving)["refused"].is_null());
}

#[test]
fn a_child_is_bounded_and_ends_with_what_it_is_for() {
    let stand = Stand::with(POLICY);
    let serving = stand.serve();
    let child = the_ready_one(&serving);
    save(&stand, &slow_bomb());
    until("it compiles", || busy(&child) > Duration::from_secs(1));
    until("it has bounded itself", || {
        let limits = std::fs::read_to_string(child.join("limits")).unwrap();
        let limit = |name: &str| {
            let line = limits.lines().find(|line| line.starts_with(name)).expect("a limit");
            line[name.len()..].split_whitespace().next().expect("a number").to_owned()
        };
        ["Max cpu time", "Max data size", "Max core file size", "Max file size", "Max open files"].map(limit)
            // It made itself ready within a second, which is not the component's.
            == ["121", "1073741824", "0", "0", "16"]
    });
    // What this process was given itself is everybody's; the gateway has more open than that, and passes nothing on.
    let files = |process: &Path| -> Vec<PathBuf> {
        let files = std::fs::read_dir(process.join("fd")).unwrap().flatten();
        files.filter_map(|file| std::fs::read_link(file.path()).ok()).collect()
    };
    let given = files(Path::new("/proc/self"));
    let own: Vec<PathBuf> = files(&child).into_iter().filter(|file| !given.contains(file)).collect();
    assert!(own.len() == 3 && own.iter().all(|file| file.to_string_lossy().starts_with("pipe:")), "{own:?}");
    let environment = std::fs::read_to_string(child.join("environ")).unwrap();
    let names = environment.split_terminator('\0').map(|variable| variable.split('=').next().unwrap_or_default());
    assert_eq!(names.collect::<Vec<_>>(), ["MIMALLOC_ARENA_EAGER_COMMIT", "RAYON_NUM_THREADS"]);

    // Another file in its place: nobody wants the first one any more.
    save(&stand, &numbered("0.0.100002"));
    until("the next one serves", || shown(&stand, &serving)["version"] == "0.0.100002");
    assert!(gone(&child));
    let history = admin(&stand, &serving, "GET", "/v1/plugins/v/history").json();
    // The swap itself may not be written down yet.
    let refused = history["events"].as_array().unwrap().iter().find(|event| event["what"] == "refused");
    let told = refused.expect("a refusal")["reason"].as_str().unwrap();
    assert!(told.ends_with("it was not compiled to the end: another file took its place meanwhile"), "{told}");

    // The end of the gateway, in order and without.
    let child = the_ready_one(&serving);
    save(&stand, &slow_bomb());
    until("it compiles", || busy(&child) > Duration::from_secs(1));
    assert_eq!(serving.terminate(), Some(0));
    assert!(gone(&child));
    let serving = stand.begin();
    let child = the_child(&serving);
    drop(serving);
    until("the child has ended with the gateway", || gone(&child));
    // Told to end before it was ready: it need not compile to the end.
    let serving = stand.begin();
    let child = the_child(&serving);
    assert_eq!(serving.terminate(), Some(0));
    until("the child has ended with the gateway", || gone(&child));
}

#[test]
fn one_child_stands_ready_and_ends_with_the_gateway() {
    let stand = Stand::with(POLICY);
    let serving = stand.serve();
    let first = the_ready_one(&serving);
    save(&stand, &numbered("0.0.100004"));
    until("it serves", || shown(&stand, &serving)["version"] == "0.0.100004");
    assert!(!first.exists(), "it compiled, and nothing of it stays");
    let second = the_ready_one(&serving);
    assert_eq!(compiling(&serving), std::slice::from_ref(&second));
    assert_eq!(serving.terminate(), Some(0));
    assert!(gone(&second));

    // Nothing was compiled yet: none stands ready.
    let serving = stand.serve();
    assert_eq!(shown(&stand, &serving)["code"], "cached");
    assert_eq!(compiling(&serving).len(), 0, "none stands ready");
    save(&stand, &numbered("0.0.100005"));
    until("it serves", || shown(&stand, &serving)["version"] == "0.0.100005");
    let ready = the_ready_one(&serving);
    drop(serving);
    until("it has ended with the gateway", || gone(&ready));

    // By hand, without a component; with memory enough for an allocator that nobody has told to be modest.
    let output = output(stand.path(), &["compile-one", "--ahead", "60", "68719476736"]);
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn what_is_in_the_cache_starts_no_child() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, crate::harness::DEFAULT);
    let key = gateway.key(&["connect"]);
    assert_eq!(gateway.get("/v1/connect/x").key(&key).send().status, 200);
    // With a compiler that does not exist.
    let gateway = gateway.restart_without_compiler();
    assert_eq!(gateway.get("/v1/connect/x").key(&key).send().status, 200);
    let path = gateway.directory().join("plugins/gas.wasm");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, numbered("0.0.100003")).unwrap();
    until("a new one is refused", || {
        let list = gateway.admin("GET", "/v1/plugins").send().json();
        list["policies"][0]["refused"]["reason"].as_str().is_some_and(|told| {
            told.contains(
                "`gas.wasm` cannot be used: it could not be compiled: the compiler's process cannot be started",
            )
        })
    });
    assert_eq!(gateway.get("/v1/connect/x").key(&key).send().status, 200);
}
