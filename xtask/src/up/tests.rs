//! The lines that are printed, asked as they stand: of the configuration as it is shipped, its policies, its pillars.

use portico::plugin::Compiler;
use portico::{config, server};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::*;

#[test]
fn addresses_come_from_the_configuration() {
    let text = "[gateway]\nlisten = '127.0.0.1:7001'\n[upstreams.connect]\nendpoints = ['http://127.0.0.1:7003']\n";
    let addresses = Addresses::parse(text).unwrap();
    assert_eq!(addresses.public.port(), 7001);
    assert_eq!(addresses.admin.port(), 9100);
    assert_eq!(addresses.connect.port(), 7003);
    assert_eq!(addresses.knowledge.port(), 9202);
}

#[test]
fn the_secret_is_found_in_what_key_issue_prints() {
    assert_eq!(secret(br#"{"id":"key_1","secret":"sk_live_a"}"#).unwrap(), "sk_live_a");
    assert!(secret(b"issued").is_err());
    assert!(secret(br#"{"id":"key_1"}"#).is_err());
}

#[test]
fn the_readme_shows_what_is_printed() {
    let repository = Repository::find().unwrap();
    let addresses = Addresses::read(&repository.join(CONFIG)).unwrap();
    let readme = std::fs::read_to_string(repository.join("README.md")).unwrap();
    let printed = welcome(&addresses, "sk_live_…");
    assert!(readme.contains(&printed), "{printed}");
}

/// In each answer stands what the line is printed for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_printed_lines_work_as_they_stand() {
    let stand = Stand::start().await;
    let key = stand.key().await;
    let printed = welcome(&stand.addresses, &key);
    let lines: Vec<&str> = printed.lines().map(str::trim).filter(|line| line.starts_with("curl ")).collect();
    // What comes last stands last: an answer is read until then, as a stream has no end.
    let marks =
        [["\"key\":\"key_", "\"rooms\":[{"], ["event: tick", "\"room\":\"lobby\""], ["\"holder\":", "\"valid\":true"]];
    assert_eq!(lines.len(), marks.len(), "{printed}");
    for (line, marks) in lines.iter().zip(marks) {
        let (address, request) = as_curl_would(line);
        assert_eq!(address, stand.addresses.public, "{line}");
        let answer = http::ask_until(address, &request, marks[1]).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{line}\n{answer}");
        assert!(marks.iter().all(|mark| answer.contains(mark)), "wanted {marks:?}: {line}\n{answer}");
    }
    stand.running.stop().await;
}

#[test]
fn what_is_checked_is_what_is_printed() {
    let repository = Repository::find().unwrap();
    let addresses = Addresses::read(&repository.join(CONFIG)).unwrap();
    let printed = welcome(&addresses, "sk_live_a");
    let printed: Vec<_> = printed.lines().map(str::trim).filter(|line| line.starts_with("curl ")).collect();
    let sent = trial::all(addresses.public, "sk_live_a").map(|trial| (addresses.public, trial.request()));
    assert_eq!(printed.into_iter().map(as_curl_would).collect::<Vec<_>>(), sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_says_of_each_line_that_it_works_or_stops_at_the_first_that_does_not() {
    let stand = Stand::start().await;
    let (public, key) = (stand.addresses.public, stand.key().await);
    let mut said = Vec::new();
    try_all(public, &key, Instant::now(), |line| said.push(line)).await.unwrap_or_else(|error| panic!("{error:#}"));
    let ends = ["/v1/connect/rooms", "/v1/connect/rooms/lobby/events", "/v1/knowledge/verify/qr-4hX9mT2v"];
    assert_eq!(said.len(), 4, "{said:?}");
    for (line, end) in said.iter().zip(ends) {
        assert!(line.starts_with("200 after ") && line.ends_with(&format!(" s: GET http://{public}{end}")), "{line}");
    }
    assert!(said[3].starts_with("up after ") && said[3].ends_with(" s"), "{said:?}");

    let mut said = Vec::new();
    let wrong = try_all(public, "sk_live_wrong", Instant::now(), |line| said.push(line)).await.unwrap_err().to_string();
    assert!(
        wrong.contains("/v1/connect/rooms got 401 instead of 200: ") && wrong.contains("invalid_token_shape"),
        "{wrong}"
    );
    assert!(said.is_empty(), "{said:?}");
    stand.running.stop().await;
}

/// Pillars and gateway as `up` starts them, on free ports, with data of their own.
struct Stand {
    addresses: Addresses,
    running: server::Running,
    directory: TempDir,
}

impl Stand {
    async fn start() -> Self {
        let repository = Repository::find().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let connect = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let knowledge = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pillars = [connect.local_addr().unwrap(), knowledge.local_addr().unwrap()];
        let text = std::fs::read_to_string(repository.join(CONFIG)).unwrap();
        let path = directory.path().join("gateway.toml");
        std::fs::write(&path, moved(&text, &repository, pillars)).unwrap();
        let config = config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        let running = server::start(config, Compiler::here()).await.unwrap_or_else(|error| panic!("{error}"));
        let [connect_address, knowledge_address] = pillars;
        let (public, admin) = (running.public, running.admin);
        let addresses = Addresses { public, admin, connect: connect_address, knowledge: knowledge_address };
        tokio::spawn(pillar::serve_on(connect, Name::Connect, public));
        tokio::spawn(pillar::serve_on(knowledge, Name::Knowledge, public));
        Self { addresses, running, directory }
    }

    /// A key as `up` orders it.
    async fn key(&self) -> String {
        let token = std::fs::read_to_string(self.directory.path().join("data/admin-token")).unwrap();
        let order = json!({"name": "demo", "all_scopes": true}).to_string();
        let request = format!(
            "POST /v1/keys HTTP/1.0\r\nhost: admin\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{order}",
            token.trim(),
            order.len()
        );
        let answer = http::ask_until(self.addresses.admin, &request, "\0").await;
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
        secret(body.as_bytes()).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }
}

/// The shipped configuration with other ports and places; every pillar, route and policy stays as it is.
fn moved(text: &str, repository: &Repository, [connect, knowledge]: [SocketAddr; 2]) -> String {
    let mut table: toml::Table = text.parse().unwrap();
    let places = [
        ("gateway", "listen", "127.0.0.1:0".into()),
        ("admin", "listen", "127.0.0.1:0".into()),
        ("data", "directory", "data".into()),
        ("secrets", "master_key", toml::Table::from_iter([("file".to_owned(), "master.key".into())]).into()),
        ("plugins", "directory", repository.join("target/portico/plugins").display().to_string().into()),
    ];
    for (section, key, value) in places {
        let section = table.get_mut(section).and_then(toml::Value::as_table_mut).expect("a section");
        section.insert(key.to_owned(), value);
    }
    for (name, address) in [(Name::Connect, connect), (Name::Knowledge, knowledge)] {
        let upstream = &mut table["upstreams"][name.as_str()];
        upstream["endpoints"] = toml::Value::from(vec![format!("http://{address}")]);
    }
    table.to_string()
}

/// The request that `curl` makes of a line, and where to. Knows the options that are printed, and no other.
fn as_curl_would(line: &str) -> (SocketAddr, String) {
    let mut fields = String::new();
    let mut url = None;
    let mut words = words(line).into_iter().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            // Show the head; do not buffer: nothing of the request changes.
            "-i" | "-N" => {}
            "-H" => fields.push_str(&format!("{}\r\n", words.next().expect("a field"))),
            option if option.starts_with('-') => panic!("{option} in {line}"),
            _ => assert!(url.replace(word).is_none(), "one URL: {line}"),
        }
    }
    let url = url.expect("a URL");
    let (host, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("http://host/path");
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n{fields}Connection: close\r\n\r\n");
    (host.parse().expect("an address"), request)
}

/// The words of a line, as a shell reads them: single quotes keep spaces.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![];
    for (number, part) in line.split('\'').enumerate() {
        match number % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}
