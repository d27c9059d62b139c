//! Backups of a gateway that serves: under load, put back, and found as they were.

use crate::harness::{DEFAULT, Receiver, request, until};
use crate::program::{Serving, Stand, output, told};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const HOOKS: &str = "\n[webhooks]\nprivate = [\"127.0.0.0/8\"]\nretry = \"20ms\"\nlongest_retry = \"1s\"\nattempts = 100\ntimeout = \"1m\"\n";

struct Taken {
    stand: Stand,
    /// The token of the super-admin: it is not in a backup, and goes on to work.
    token: String,
}

impl Taken {
    fn ask(&self, serving: &Serving, method: &str, target: &str, body: &Value) -> Value {
        let asked = request(serving.admin, method, target).key(&self.token).field("content-type", "application/json");
        let answer = asked.body(if body.is_null() { String::new() } else { body.to_string() }).send();
        assert!(answer.status < 300, "{target}: {}", answer.text());
        answer.json()
    }

    fn get(&self, serving: &Serving, target: &str) -> Value {
        self.ask(serving, "GET", target, &Value::Null)
    }

    /// Runs a command against the gateway.
    fn portico(&self, serving: &Serving, arguments: &[&str]) -> std::process::Output {
        let admin = serving.admin.to_string();
        std::fs::write(self.stand.path().join("token"), &self.token).unwrap();
        let target = ["--config", "gateway.toml", "--admin", &admin, "--token-file", "token"];
        output(self.stand.path(), &[arguments, &target].concat())
    }

    /// Has the next start serve on another data directory.
    fn turn_to(&self, directory: &str) {
        self.stand.edit(|toml| toml.replace("directory = \"data\"", &format!("directory = \"{directory}\"")));
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// Asks until told to end; how many answers came whole.
fn client(to: SocketAddr, key: &str, ended: &AtomicBool, seen: &Mutex<HashSet<String>>) {
    let Ok(mut stream) = TcpStream::connect(to) else { return };
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let head = format!("GET /v1/connect/empty HTTP/1.1\r\nhost: gateway.test\r\nauthorization: Bearer {key}\r\n\r\n");
    while !ended.load(Ordering::SeqCst) {
        stream.write_all(head.as_bytes()).unwrap();
        let (mut id, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            match line.trim_end().split_once(": ") {
                Some(("x-request-id", value)) => id = value.to_owned(),
                Some(("content-length", value)) => length = value.parse().unwrap(),
                _ => {}
            }
            if line == "\r\n" {
                break;
            }
        }
        reader.read_exact(&mut vec![0; length]).unwrap();
        seen.lock().unwrap().insert(id);
    }
}

fn calls(usage: &Value) -> u64 {
    usage["total"]["calls"].as_u64().unwrap_or_else(|| panic!("{usage}"))
}

/// Every file below a directory.
fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn a_backup_under_load_is_the_gateway_of_one_moment_when_it_is_put_back() {
    let stand = Stand::with(DEFAULT);
    stand.edit(|toml| format!("{}{HOOKS}", toml.replace("[journal]\n", "[journal]\nsegments = 4\n")));
    let serving = stand.serve();
    let token = std::fs::read_to_string(stand.path().join("data/admin-token")).unwrap().trim().to_owned();
    let taken = Taken { stand, token };
    let issue = |serving: &Serving, name: &str| {
        let key =
            taken.ask(serving, "POST", "/v1/keys", &json!({ "name": name, "mode": "live", "scopes": ["connect"] }));
        (text(&key["id"]), text(&key["secret"]), text(&key["org"]["id"]))
    };
    // A webhook that nobody hears: its messages wait.
    let mut receiver = Receiver::deaf();
    let hook =
        taken.ask(&serving, "POST", "/v1/webhooks", &json!({ "url": receiver.url(), "events": ["key.created"] }));
    let (_, key, org) = issue(&serving, "load");
    let (revoked, gone, _) = issue(&serving, "gone");
    let revoke = request(serving.admin, "DELETE", &format!("/v1/keys/{revoked}")).key(&taken.token).send();
    assert_eq!(revoke.status, 200, "{}", revoke.text());

    let (ended, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(HashSet::new())));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let (ended, seen, key, to) = (ended.clone(), seen.clone(), key.clone(), serving.public);
            std::thread::spawn(move || client(to, &key, &ended, &seen))
        })
        .collect();
    until("there was load", || seen.lock().unwrap().len() > 300);
    // One of them, which is in the request log by then.
    let known = seen.lock().unwrap().iter().next().unwrap().clone();
    let is_told = |serving: &Serving| {
        request(serving.admin, "GET", &format!("/v1/usage/requests/{known}")).key(&taken.token).send().status == 200
    };
    until("a request is in the log", || is_told(&serving));
    let before = seen.lock().unwrap().len() as u64;
    let backed = taken.portico(&serving, &["backup", "one.backup", "--json"]);
    assert!(backed.status.success(), "{}", told(&backed));
    let after = seen.lock().unwrap().len() as u64;
    until("more load than before", || seen.lock().unwrap().len() as u64 > after + 300);
    ended.store(true, Ordering::SeqCst);
    clients.into_iter().for_each(|client| client.join().unwrap());
    let backed: Value = serde_json::from_slice(&backed.stdout).unwrap();
    let file = taken.stand.path().join("one.backup");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    // What came after the moment: a key that the backup does not know.
    let (late, late_secret, _) = issue(&serving, "late");
    let bytes = std::fs::read(&file).unwrap();
    let head = text(&taken.get(&serving, "/v1/audit/verify")["head"]["hash"]);
    assert_eq!(serving.terminate(), Some(0));

    // No secret is in it, nor the files that are kept out.
    let master = std::fs::read_to_string(taken.stand.path().join("master.key")).unwrap();
    let secrets = [&key, &gone, &text(&hook["secret"]), &taken.token, &master.trim().to_owned()];
    for secret in secrets {
        assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "a secret is in the backup");
    }
    let restored =
        output(taken.stand.path(), &["restore", "one.backup", "--into", "again", "--config", "gateway.toml", "--json"]);
    assert!(restored.status.success(), "{}", told(&restored));
    let restored: Value = serde_json::from_slice(&restored.stdout).unwrap();
    assert_eq!(restored["backup"]["digest"], backed["backup"]["digest"]);
    assert_eq!(restored["backup"]["signed"], true);
    assert!(restored["backup"]["segments"].as_u64() > Some(0), "{restored}");
    let again = taken.stand.path().join("again");
    assert!(!again.join("admin-token").exists() && files(&again).iter().all(|file| !file.ends_with("master.key")));

    taken.turn_to("again");
    let serving = taken.stand.serve();
    assert!(is_told(&serving), "the request log is in the backup");
    let usage = taken.get(&serving, &format!("/v1/usage?org={org}"));
    // One client may have been under way each.
    assert!((before..=after + 3).contains(&calls(&usage)), "{before} <= {} <= {after} + 3", calls(&usage));
    let status =
        |serving: &Serving, secret: &str| request(serving.public, "GET", "/v1/connect/empty").key(secret).send().status;
    assert_eq!(status(&serving, &key), 204);
    until("the call shows", || calls(&taken.get(&serving, &format!("/v1/usage?org={org}"))) == calls(&usage) + 1);
    let verified = taken.portico(&serving, &["audit", "verify"]);
    assert!(verified.status.success(), "{}", told(&verified));
    let entries = taken.get(&serving, "/v1/audit?limit=100")["entries"].clone();
    let actions: Vec<String> = entries.as_array().unwrap().iter().map(|entry| text(&entry["action"])).collect();
    // Another file and another place are another configuration, and its start says so.
    let of_then = actions.iter().find(|action| !action.starts_with("configuration."));
    assert_eq!(of_then.map(String::as_str), Some("backup.taken"), "the last of that moment: {actions:?}");
    assert_ne!(text(&taken.get(&serving, "/v1/audit/verify")["head"]["hash"]), head);
    let keys = taken.get(&serving, "/v1/keys").to_string();
    assert!(keys.contains(&revoked) && !keys.contains(&late));
    // What waited for the webhook comes now, from the restored one.
    receiver.listen();
    let messages = receiver.wait(2);
    assert!(messages.iter().all(|message| message.signatures_by(&text(&hook["secret"])) == 1));
    drop(serving);
    // Another start counts nothing anew: what the journal brought is in the sums.
    let serving = taken.stand.serve();
    let now = calls(&taken.get(&serving, &format!("/v1/usage?org={org}")));
    assert_eq!(now, calls(&usage) + 1);
    assert_eq!([&key, &gone, &late_secret].map(|secret| status(&serving, secret)), [204, 401, 401]);
}

#[test]
fn calls_that_only_the_journal_knows_are_in_a_backup_once() {
    let stand = Stand::with(DEFAULT);
    let serving = stand.serve();
    let token = std::fs::read_to_string(stand.path().join("data/admin-token")).unwrap().trim().to_owned();
    let taken = Taken { stand, token };
    let key = taken.ask(&serving, "POST", "/v1/keys", &json!({ "name": "a", "mode": "live", "scopes": ["connect"] }));
    let (secret, org) = (text(&key["secret"]), text(&key["org"]["id"]));
    let mut rounds = 0;
    // Backups right behind answers: the store does not have these calls yet, or just has.
    for round in 1..=6_u64 {
        for _ in 0..5 {
            assert_eq!(request(serving.public, "GET", "/v1/connect/empty").key(&secret).send().status, 204);
        }
        let backed = taken.portico(&serving, &["backup", &format!("{round}.backup")]);
        assert!(backed.status.success(), "{}", told(&backed));
        rounds = round;
    }
    assert_eq!(serving.terminate(), Some(0));
    let mut before = "data".to_owned();
    for round in 1..=rounds {
        let into = format!("again-{round}");
        let restored = output(taken.stand.path(), &["restore", &format!("{round}.backup"), "--into", &into]);
        assert!(restored.status.success(), "{}", told(&restored));
        taken.stand.edit(|toml| toml.replace(&format!("directory = \"{before}\""), &format!("directory = \"{into}\"")));
        before = into;
        let serving = taken.stand.serve();
        assert_eq!(calls(&taken.get(&serving, &format!("/v1/usage?org={org}"))), 5 * round, "round {round}");
    }
}

#[test]
fn a_backup_that_is_not_whole_is_one_sentence_and_a_code() {
    let stand = Stand::new();
    let serving = stand.serve();
    let token = std::fs::read_to_string(stand.path().join("data/admin-token")).unwrap().trim().to_owned();
    let taken = Taken { stand, token };
    let directory = taken.stand.path().join("backups");
    std::fs::create_dir(&directory).unwrap();
    let backed = taken.portico(&serving, &["backup", "backups"]);
    assert!(backed.status.success(), "{}", told(&backed));
    let found = files(&directory);
    let [file] = found.as_slice() else { panic!("{found:?}") };
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("portico-20") && name.ends_with("Z.backup"), "{name}");
    let bytes = std::fs::read(file).unwrap();
    let verify = |bytes: &[u8], more: &[&str]| {
        std::fs::write(taken.stand.path().join("broken"), bytes).unwrap();
        output(taken.stand.path(), &[&["restore", "--verify", "broken"], more].concat())
    };
    let fine = verify(&bytes, &["--config", "gateway.toml"]);
    assert!(fine.status.success(), "{}", told(&fine));
    assert!(String::from_utf8_lossy(&fine.stdout).starts_with("The backup is whole: the state at 20"));
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 4;
    let twice = [&bytes[..], &bytes[..]].concat();
    let cases: [(&[u8], &str); 5] = [
        (&bytes[..bytes.len() - 1], "it was cut off: it ends after"),
        (&bytes[..bytes.len() / 3], "it was cut off: it ends after"),
        (&flipped, "it is damaged behind byte"),
        (&twice, "there are bytes behind its end"),
        (b"something else", "it is no backup of a gateway"),
    ];
    for (broken, sentence) in cases {
        let refused = verify(broken, &[]);
        let said = told(&refused);
        assert_eq!((refused.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        assert!(said.starts_with("portico: the backup broken is not used: ") && said.contains(sentence), "{said}");
    }
    // Another master key.
    std::fs::write(taken.stand.path().join("other.key"), "ab".repeat(32)).unwrap();
    std::fs::set_permissions(taken.stand.path().join("other.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let toml = std::fs::read_to_string(taken.stand.path().join("gateway.toml")).unwrap();
    std::fs::write(taken.stand.path().join("other.toml"), toml.replace("master.key", "other.key")).unwrap();
    let other = verify(&bytes, &["--config", "other.toml"]);
    assert_eq!(other.status.code(), Some(1));
    assert!(told(&other).contains("it was not taken under this master key"), "{}", told(&other));
    // Places that are taken.
    let into = |place: &str| output(taken.stand.path(), &["restore", file.to_str().unwrap(), "--into", place]);
    assert!(told(&into("data")).contains("data is the data directory of a running gateway"), "{}", told(&into("data")));
    assert!(told(&into("plugins")).contains("plugins is not empty"), "{}", told(&into("plugins")));
    let again = taken.portico(&serving, &["backup", file.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(1));
    assert!(told(&again).contains("is there already; choose another name"), "{}", told(&again));
    // Only for those who may see everything.
    let order = json!({ "name": "auditor", "role": "org-admin", "org": "default" });
    let other = taken.ask(&serving, "POST", "/v1/tokens", &order);
    let refused = request(serving.admin, "POST", "/v1/backup").key(&text(&other["secret"])).send();
    assert_eq!((refused.status, refused.json()["error"].as_str().unwrap()), (403, "insufficient_role"));
}

/// Whoever takes it goes away, does not read, or is killed: the gateway goes on, and the next one is whole.
#[test]
fn a_backup_that_nobody_finishes_holds_up_nothing() {
    let stand = Stand::new();
    let serving = stand.serve();
    let token = std::fs::read_to_string(stand.path().join("data/admin-token")).unwrap().trim().to_owned();
    let taken = Taken { stand, token };
    let head = format!("POST /v1/backup HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n\r\n", taken.token);
    let begin = || {
        let mut begun = None;
        // The one before may not have noticed yet that nobody takes it.
        until("a backup begins", || {
            let mut stream = TcpStream::connect(serving.admin).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            let mut first = [0; 17];
            stream.read_exact(&mut first).unwrap();
            begun = (&first == b"HTTP/1.1 200 OK\r\n").then_some(stream);
            begun.is_some()
        });
        begun.unwrap()
    };
    let issued = AtomicUsize::new(0);
    let issue = || {
        let name = format!("key {}", issued.fetch_add(1, Ordering::SeqCst));
        taken.ask(&serving, "POST", "/v1/keys", &json!({ "name": name, "mode": "live", "scopes": ["connect"] }));
    };
    for _ in 0..3 {
        let stream = begin();
        issue();
        drop(stream);
        issue();
    }
    until("the next one is whole", || {
        let _ = std::fs::remove_file(taken.stand.path().join("last.backup"));
        taken.portico(&serving, &["backup", "last.backup"]).status.success()
    });
    // A restore that is killed leaves nothing of that name but a whole one, and can be run again.
    let mut restoring = std::process::Command::new(env!("CARGO_BIN_EXE_portico"))
        .args(["restore", "last.backup", "--into", "again"])
        .current_dir(taken.stand.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let place = |name: &str| taken.stand.path().join(name);
    until("it is in the middle", || place("again.restoring/store").exists() || place("again").exists());
    restoring.kill().unwrap();
    restoring.wait().unwrap();
    if !place("again").exists() {
        let restored = output(taken.stand.path(), &["restore", "last.backup", "--into", "again"]);
        assert!(restored.status.success(), "{}", told(&restored));
    }
    assert!(!place("again.restoring").exists());
    assert_eq!(serving.terminate(), Some(0));
    taken.turn_to("again");
    let serving = taken.stand.serve();
    let keys = taken.get(&serving, "/v1/keys?limit=200")["keys"].as_array().unwrap().len();
    assert_eq!(keys, issued.load(Ordering::SeqCst));
}
