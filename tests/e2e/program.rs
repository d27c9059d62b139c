//! The program itself: its commands, its exit codes, its sentences.

use crate::harness::{Origin, components, until};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn portico(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portico"));
    command.args(arguments).current_dir(directory).env_remove("PORTICO_ADMIN_TOKEN").stdin(Stdio::null());
    command
}

pub fn output(directory: &Path, arguments: &[&str]) -> Output {
    portico(directory, arguments).output().expect("the program starts")
}

fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub struct Stand {
    directory: tempfile::TempDir,
    pub public: SocketAddr,
    pub admin: SocketAddr,
    _origin: Origin,
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
        let (public, admin) = (free(), free());
        let toml = format!(
            "[gateway]\nlisten = \"{public}\"\nworkers = 1\n[admin]\nlisten = \"{admin}\"\n[data]\ndirectory = \"data\"\n\
             [secrets]\nmaster_key = {{ file = \"master.key\" }}\n[plugins]\ndirectory = \"plugins\"\n\
             {policies}\n[upstreams.origin]\nendpoints = [\"http://{}\"]\n[pillars.connect]\nupstream = \"origin\"\n",
            origin.address
        );
        std::fs::write(directory.path().join("gateway.toml"), toml).unwrap();
        Self { directory, public, admin, _origin: origin }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn serve(&self) -> Serving {
        let log = std::fs::File::create(self.path().join("log")).unwrap();
        let child = portico(self.path(), &["serve", "--config", "gateway.toml"]).stderr(log).spawn().unwrap();
        let serving = Serving(child);
        let public = self.public;
        until("the gateway is ready", || std::net::TcpStream::connect(public).is_ok());
        serving
    }

    pub fn edit(&self, change: impl FnOnce(String) -> String) {
        let path = self.path().join("gateway.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, change(text)).unwrap();
    }
}

pub struct Serving(Child);

impl Serving {
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// KiB of memory that it holds.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs, on Linux");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
        line.split_whitespace().nth(1).expect("a number").parse().expect("KiB")
    }

    fn terminate(mut self) -> Option<i32> {
        let told = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status().unwrap();
        assert!(told.success());
        self.0.wait().unwrap().code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn it_serves_issues_keys_and_ends_in_order() {
    let stand = Stand::new();
    let serving = stand.serve();
    let issued =
        output(stand.path(), &["key", "issue", "--config", "gateway.toml", "--name", "a", "--all-scopes", "--json"]);
    assert!(issued.status.success(), "{}", told(&issued));
    let key: serde_json::Value = serde_json::from_slice(&issued.stdout).unwrap();
    let secret = key["secret"].as_str().unwrap().to_owned();
    let answer = crate::harness::request(stand.public, "GET", "/v1/connect/x").key(&secret).send();
    assert_eq!(answer.status, 200);

    let second = output(stand.path(), &["serve", "--config", "gateway.toml"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(told(&second).contains("in use by another portico"), "{}", told(&second));

    assert_eq!(serving.terminate(), Some(0));
    let log = std::fs::read_to_string(stand.path().join("log")).unwrap();
    assert!(log.contains("portico is ready") && !log.contains(&secret), "{log}");
    let token = std::fs::read_to_string(stand.path().join("data/admin-token")).unwrap();
    assert!(!log.contains(token.trim()));
}

#[test]
fn a_port_in_use_is_one_clear_sentence() {
    let stand = Stand::new();
    let _taken = std::net::TcpListener::bind(stand.public).unwrap();
    let refused = output(stand.path(), &["serve", "--config", "gateway.toml"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = told(&refused);
    assert!(said.contains(&format!("cannot listen on {}: it is in use", stand.public)), "{said}");
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
fn a_bad_file_is_refused_with_its_reason() {
    let stand = Stand::new();
    let _serving = stand.serve();
    let log = || std::fs::read_to_string(stand.path().join("log")).unwrap();
    until("it serves", || log().contains("portico is ready"));
    stand.edit(|text| text.replace("upstream = \"origin\"", "upstreem = \"origin\""));
    until("the log says why", || log().contains("was not applied") && log().contains("pillars.connect.upstreem"));
    assert_eq!(crate::harness::request(stand.public, "GET", "/v1/connect/x").send().status, 401);
    stand.edit(|text| text.replace("upstreem", "upstream").replace("key-auth", "key-auht"));
    until("the log says why", || log().contains("did you mean `key-auth`?"));
    stand.edit(|text| text.replace("key-auht", "key-auth") + "[pillars.more]\n");
    until("the good file is applied", || {
        crate::harness::request(stand.public, "GET", "/v1/more/x").send().status == 401
    });
}
