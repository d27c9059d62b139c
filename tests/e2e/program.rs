//! The program itself: its commands, its exit codes, its sentences.

use crate::harness::{Origin, components, request, secrets, until};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn portico(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portico"));
    command.args(arguments).current_dir(directory).env_remove("PORTICO_ADMIN_TOKEN").stdin(Stdio::null());
    command
}

pub fn output(directory: &Path, arguments: &[&str]) -> Output {
    let output = portico(directory, arguments).output().expect("the program starts");
    secrets::note_all(&output.stdout);
    assert_eq!(secrets::found_in(&output.stderr), None, "`portico {arguments:?}` complains of a secret");
    output
}

/// A directory with a configuration, plugins and an origin; the program's listeners take any free port.
pub struct Stand {
    directory: tempfile::TempDir,
    pub origin: Origin,
}

impl Stand {
    pub fn new() -> Self {
        Self::with(crate::harness::DEFAULT)
    }

    /// With these policies and defaults.
    pub fn with(policies: &str) -> Self {
        let origin = Origin::echo();
        let directory = tempfile::TempDir::new().unwrap();
        std::fs::create_dir(directory.path().join("plugins")).unwrap();
        components(&directory.path().join("plugins"));
        let toml = format!(
            "[gateway]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n[data]\ndirectory = \"data\"\n[journal]\nsegment_size = \"256KiB\"\n\
             [secrets]\nmaster_key = {{ file = \"master.key\" }}\n[plugins]\ndirectory = \"plugins\"\n\
             {policies}\n[upstreams.origin]\nendpoints = [\"http://{}\"]\n[pillars.connect]\nupstream = \"origin\"\n",
            origin.address
        );
        std::fs::write(directory.path().join("gateway.toml"), toml).unwrap();
        Self { directory, origin }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Starts the program; it is ready later.
    pub fn begin(&self) -> Serving {
        let log = std::fs::File::create(self.path().join("log")).unwrap();
        let child = portico(self.path(), &["serve", "--config", "gateway.toml"]).stderr(log).spawn().unwrap();
        Serving::starting(child)
    }

    /// Starts the program and waits until it says that it is ready, and where.
    pub fn serve(&self) -> Serving {
        self.ready(self.begin())
    }

    /// As [`Self::serve`], where no file can be written beyond so many bytes.
    pub fn serve_within(&self, bytes: u64) -> Serving {
        let log = std::fs::File::create(self.path().join("log")).unwrap();
        // In units of 512 bytes; who ignores the signal gets an error, as from a disk that is full.
        let limited = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" serve --config gateway.toml", bytes / 512);
        let mut command = Command::new("sh");
        command.args(["-c", &limited, env!("CARGO_BIN_EXE_portico")]).current_dir(self.path()).stdin(Stdio::null());
        let child = command.env_remove("PORTICO_ADMIN_TOKEN").stderr(log).spawn().unwrap();
        self.ready(Serving::starting(child))
    }

    /// As [`Self::serve`], where what a file's mode says holds for the superuser too.
    pub fn serve_held_to_modes(&self) -> Serving {
        let log = std::fs::File::create(self.path().join("log")).unwrap();
        let program = env!("CARGO_BIN_EXE_portico");
        let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
        let mut command = Command::new(if is_root { "setpriv" } else { program });
        if is_root {
            command.args(["--bounding-set", "-dac_override,-dac_read_search", program]);
        }
        command.args(["serve", "--config", "gateway.toml"]).current_dir(self.path()).stdin(Stdio::null());
        let child = command.env_remove("PORTICO_ADMIN_TOKEN").stderr(log).spawn().unwrap();
        self.ready(Serving::starting(child))
    }

    fn ready(&self, mut serving: Serving) -> Serving {
        until("the gateway is ready", || {
            let ended = serving.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", self.log());
            let lines = self.log();
            let mut lines = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
            let Some(ready) = lines.find(|line| line["message"] == "portico is ready") else { return false };
            let address = |name: &str| ready[name].as_str().expect("an address").parse().expect("an address");
            (serving.public, serving.admin) = (address("public"), address("admin"));
            true
        });
        let read = |name: &str| std::fs::read_to_string(self.path().join(name));
        // Of the environment, or taken away, in some tests.
        let _ = read("master.key").map(|key| secrets::note_hex(&key));
        let _ = read("data/admin-token").map(|token| secrets::note(token.trim()));
        serving
    }

    /// What the program has said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("log")).unwrap()
    }

    pub fn edit(&self, change: impl FnOnce(String) -> String) {
        let path = self.path().join("gateway.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, change(text)).unwrap();
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let data = self.path().join("data");
        let mut found = secrets::found_below(&data, &[&data.join("admin-token")]);
        for name in ["log", "access.log"] {
            let bytes = std::fs::read(self.path().join(name)).unwrap_or_default();
            found.extend(secrets::found_in(&bytes).map(|what| format!("{name}: {what}")));
        }
        assert!(found.is_empty(), "secrets are where none may be: {found:#?}");
    }
}

/// The running program; ends when it is dropped.
pub struct Serving {
    child: Child,
    pub public: SocketAddr,
    pub admin: SocketAddr,
}

impl Serving {
    fn starting(child: Child) -> Self {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { child, public: nowhere, admin: nowhere }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// KiB of memory that it holds.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs, on Linux");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
        line.split_whitespace().nth(1).expect("a number").parse().expect("KiB")
    }

    /// Tells it to end; its exit code.
    pub fn terminate(mut self) -> Option<i32> {
        // The shell's own: a bare machine has no program of that name.
        let told = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &self.id().to_string()]).status().unwrap();
        assert!(told.success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn it_serves_issues_keys_and_ends_in_order() {
    let stand = Stand::new();
    let serving = stand.serve();
    // Commands learn from the file where the gateway is, so that file must name the port that it took.
    let text = std::fs::read_to_string(stand.path().join("gateway.toml")).unwrap();
    let known = text.replace("[admin]\nlisten = \"127.0.0.1:0\"", &format!("[admin]\nlisten = \"{}\"", serving.admin));
    std::fs::write(stand.path().join("known.toml"), known).unwrap();
    let issued =
        output(stand.path(), &["key", "issue", "--config", "known.toml", "--name", "a", "--all-scopes", "--json"]);
    assert!(issued.status.success(), "{}", told(&issued));
    let key: serde_json::Value = serde_json::from_slice(&issued.stdout).unwrap();
    let secret = key["secret"].as_str().unwrap().to_owned();
    let answer = request(serving.public, "GET", "/v1/connect/x").key(&secret).send();
    assert_eq!(answer.status, 200);

    let second = output(stand.path(), &["serve", "--config", "gateway.toml"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(told(&second).contains("in use by another portico"), "{}", told(&second));

    assert_eq!(serving.terminate(), Some(0));
    let log = stand.log();
    assert!(log.contains("portico is ready") && !log.contains(&secret), "{log}");
    let token = std::fs::read_to_string(stand.path().join("data/admin-token")).unwrap();
    assert!(!log.contains(token.trim()));
}

#[test]
fn a_port_in_use_is_one_clear_sentence() {
    let stand = Stand::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    stand.edit(|text| text.replacen("127.0.0.1:0", &address.to_string(), 1));
    let refused = output(stand.path(), &["serve", "--config", "gateway.toml"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = told(&refused);
    assert!(said.contains(&format!("cannot listen on {address}: it is in use")), "{said}");
}

#[test]
fn check_tells_all_that_is_wrong() {
    let stand = Stand::new();
    let fine = output(stand.path(), &["check", "--config", "gateway.toml"]);
    assert_eq!(fine.status.code(), Some(0), "{}", told(&fine));
    assert!(!stand.path().join("data").exists(), "a check starts nothing");

    stand.edit(|text| text.replace("upstream = \"origin\"", "upstream = \"orgin\"\nstrip = 1"));
    let wrong = output(stand.path(), &["check", "--config", "gateway.toml"]);
    assert_eq!(wrong.status.code(), Some(2));
    let said = told(&wrong);
    assert!(said.contains("did you mean `origin`?") && said.contains("pillars.connect.strip"), "{said}");

    stand.edit(|_| "[gateway]\nlisten = \n".into());
    let broken = output(stand.path(), &["check", "--config", "gateway.toml"]);
    assert!(told(&broken).contains("gateway.toml:2:"), "line and column: {}", told(&broken));
    let missing = output(stand.path(), &["check", "--config", "nowhere.toml"]);
    assert_eq!((missing.status.code(), told(&missing).lines().count()), (Some(2), 1));
}

#[test]
fn check_tells_when_its_word_cannot_be_printed() {
    let stand = Stand::new();
    let check = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_portico")]).current_dir(stand.path()).stdin(Stdio::null());
        command.output().expect("a shell")
    };
    let full = check("exec \"$0\" check --config gateway.toml > /dev/full");
    assert_eq!(full.status.code(), Some(1), "{}", told(&full));
    assert!(told(&full).contains("is fine, and that cannot be printed: No space left"), "{}", told(&full));
    // Nobody reads it: the pipe is closed before a word is said. What is wrong can be told nobody, and is a code.
    let closed = check("{ \"$0\" check --config gateway.toml; echo $? >&2; } | true");
    assert_eq!(told(&closed), "0\n");
    let wrong = check("\"$0\" check --config nowhere.toml 2> /dev/full; echo $?");
    assert_eq!(wrong.stdout, b"2\n");
}

#[test]
fn a_bad_file_is_refused_with_its_reason_and_the_running_one_stays() {
    let stand = Stand::new();
    std::fs::write(stand.path().join("plugins/garbage.wasm"), "garbage").unwrap();
    let serving = stand.serve();
    let good = std::fs::read_to_string(stand.path().join("gateway.toml")).unwrap();
    let status = |path: &str| request(serving.public, "GET", path).send().status;
    let token = std::fs::read_to_string(stand.path().join("data/admin-token")).unwrap();
    let generation = || {
        let asked = request(serving.admin, "GET", "/v1/plugins").key(token.trim());
        asked.send().json()["generation"].as_u64().expect("a generation")
    };
    let before = generation();
    for (bad, reason) in [
        (good.replace("upstream = \"origin\"", "upstreem = \"origin\""), "pillars.connect.upstreem"),
        ("this is not TOML".into(), "gateway.toml:1:"),
        (format!("{good}[policies.gas]\n"), "`gas` is there already"),
        (good.replace("maximum_charge = \"1000\"", "maximum_charge = \"0\""), "policies.gas.grant"),
        (good.replace("key-auth", "key-auht"), "did you mean `key-auth`?"),
        (format!("{good}[policies.garbage]\n"), "`garbage.wasm` cannot be used"),
    ] {
        stand.edit(|_| bad);
        until(&format!("the log says {reason}"), || stand.log().contains(reason));
        assert_eq!((status("/v1/connect/x"), generation()), (401, before), "{reason}");
    }
    stand.edit(|_| good + "[pillars.more]\n");
    until("the good file is applied", || status("/v1/more/x") == 401);
    assert_eq!(generation(), before + 1);
}

#[test]
fn operators_see_and_change_plugins() {
    let stand = Stand::new();
    let serving = stand.serve();
    let admin = serving.admin.to_string();
    let plugin = |arguments: &[&str]| {
        let target = ["--config", "gateway.toml", "--admin", &admin];
        output(stand.path(), &[&["plugin"], arguments, &target].concat())
    };
    let said = |arguments: &[&str]| {
        let ended = plugin(arguments);
        assert!(ended.status.success(), "{arguments:?}: {}", told(&ended));
        String::from_utf8(ended.stdout).unwrap()
    };
    let states = || {
        let listed = said(&["list"]);
        let cells = listed.lines().skip(1).map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
        cells.collect::<Vec<_>>()
    };
    assert_eq!(states(), ["gas serving", "key-auth serving", "rate-limit serving"]);

    assert_eq!(said(&["disable", "gas"]), "`gas` is out of its chains.\n");
    assert_eq!(states(), ["gas disabled", "key-auth serving", "rate-limit serving"]);
    let enabled = said(&["enable", "gas"]);
    let parse = |text: String| serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
    let gas = parse(said(&["list", "--json"]))["policies"][0].clone();
    let (version, digest) = (gas["version"].as_str().unwrap(), gas["digest"].as_str().unwrap());
    assert_eq!(enabled, format!("`gas` serves version {version} ({}).\n", &digest[..12]));
    assert_eq!(states(), ["gas serving", "key-auth serving", "rate-limit serving"]);

    let history = said(&["history", "gas"]);
    let happened: Vec<&str> = history.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(happened, ["enabled", "disabled", "shipped"], "{history}");
    assert_eq!(parse(said(&["reload", "gas", "--json"]))["digest"], digest);

    let alone = plugin(&["rollback", "gas"]);
    assert_eq!(alone.status.code(), Some(1));
    assert!(told(&alone).contains("there is no version of `gas` to go back to."), "{}", told(&alone));
    let refused = plugin(&["rollback", "gas", "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&refused.stderr).expect("JSON");
    assert_eq!((refused.status.code(), document["error"].as_str()), (Some(1), Some("no_earlier_version")));
}
