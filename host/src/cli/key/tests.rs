use std::net::SocketAddr;
use std::path::Path;

use clap::Parser;

use super::*;
use crate::api::tests::Running;
use crate::credential::Credential;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug)]
struct Ended {
    exit: Exit,
    out: String,
    errors: String,
}

impl Ended {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs a command line as a process would, off the runtime's thread.
async fn run_line(config: &Path, line: &str, token: Option<&str>) -> Ended {
    let config = config.to_str().unwrap();
    let words = std::iter::once("key").chain(line.split_whitespace()).chain(["--config", config]);
    let args = Line::try_parse_from(words).unwrap().key;
    let token = token.map(str::to_owned);
    let run = move || {
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let exit = run_with(&args, token, &mut out, &mut errors);
        let [out, errors] = [out, errors].map(|bytes| String::from_utf8(bytes).unwrap());
        Ended { exit, out, errors }
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn write_config(place: &Path, listen: SocketAddr) -> std::path::PathBuf {
    let path = place.join("gateway.toml");
    let text = format!("[admin]\nlisten = \"{listen}\"\n\n[data]\ndirectory = \"data\"\n");
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn a_key_is_issued_listed_shown_and_revoked() {
    let api = Running::start().await;
    let config = write_config(api.place.path(), api.address);
    let issued = run_line(&config, "issue --name demo --all-scopes --json", None).await;
    assert_eq!((issued.exit, issued.errors.as_str()), (Exit::Done, ""));
    let key = issued.json();
    let (id, secret) = (key["id"].as_str().unwrap(), key["secret"].as_str().unwrap());
    assert!(api.resolve(secret).valid().unwrap().holds("connect"));

    api.clock.advance(std::time::Duration::from_millis(1));
    let second =
        "issue --name two --scope pay,connect --mode sandbox --network 10.0.0.0/8 --expires-at 2030-01-01T00:00:00Z";
    let second = run_line(&config, second, None).await;
    assert!(second.out.contains("sk_sandbox_") && second.out.contains("not shown again"), "{second:?}");

    let listed = run_line(&config, "list", None).await;
    let lines: Vec<&str> = listed.out.lines().collect();
    assert_eq!(lines.len(), 3, "{listed:?}");
    assert!(lines[0].starts_with("ID") && lines[1].starts_with(id) && lines[2].contains(" two "));
    assert!(!listed.out.contains(&secret[8..20]));
    let limited = run_line(&config, "list --limit 1 --org default --json", None).await.json();
    assert_eq!(limited["keys"].as_array().unwrap().len(), 1);

    let shown = run_line(&config, &format!("show {id}"), None).await;
    assert!(shown.out.contains("networks   all\n"), "{shown:?}");
    let revoked = run_line(&config, &format!("revoke {id}"), None).await;
    assert_eq!(revoked.exit, Exit::Done);
    assert!(matches!(api.resolve(secret), Credential::Revoked(_)));
    let shown = run_line(&config, &format!("show {id} --json"), None).await;
    assert_eq!(shown.json()["status"], "revoked");
}

#[tokio::test]
async fn a_refusal_ends_with_1_and_lists_what_is_wrong() {
    let api = Running::start().await;
    let config = write_config(api.place.path(), api.address);
    let line = "issue --name demo --scope conect --network home";
    let refused = run_line(&config, line, None).await;
    assert_eq!(refused.exit, Exit::Refused);
    assert!(refused.errors.contains("/scopes/0: There is no such scope; did you mean `connect`?"), "{refused:?}");
    assert!(refused.errors.contains("/networks/0: "));
    let as_json = run_line(&config, &format!("{line} --json"), None).await;
    let document: Value = serde_json::from_str(&as_json.errors).unwrap();
    assert_eq!((document["error"].as_str(), as_json.out.as_str()), (Some("invalid_request"), ""));
    for line in ["show key_nobody", "revoke ../orgs", "show %2e%2e?a"] {
        let refused = run_line(&config, line, None).await;
        assert_eq!(refused.exit, Exit::Refused, "{line}");
        assert!(refused.errors.contains("not_found"), "{refused:?}");
    }
}

#[tokio::test]
async fn the_token_comes_from_the_file_that_is_named_or_the_environment_or_the_data() {
    let api = Running::start().await;
    let config = write_config(api.place.path(), api.address);
    let wrong = run_line(&config, "list", Some("pat_wrong")).await;
    assert_eq!(wrong.exit, Exit::Refused);
    assert!(wrong.errors.contains("invalid_admin_token") && !wrong.errors.contains("pat_wrong"));
    let file = format!("list --token-file {}", api.token_file().display());
    assert_eq!(run_line(&config, &file, Some("pat_wrong")).await.exit, Exit::Done);
    // With an address and a token nothing else is needed.
    let elsewhere = format!("{file} --admin {}", api.address);
    assert_eq!(run_line(Path::new("no-such-file.toml"), &elsewhere, None).await.exit, Exit::Done);
    for (line, token) in
        [("list", Some("with\nnewline")), ("list", Some(" ")), ("list --token-file no-such-file", None)]
    {
        let usage = run_line(&config, line, token).await;
        assert_eq!(usage.exit, Exit::Usage, "{usage:?}");
        assert!(usage.errors.starts_with("portico: "));
    }
    assert_eq!(run_line(Path::new("no-such-file.toml"), "list", None).await.exit, Exit::Usage);
}

#[tokio::test]
async fn a_gateway_that_does_not_run_is_one_clear_sentence() {
    let place = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = write_config(place.path(), free);
    let ended = run_line(&config, "list", Some("pat_any")).await;
    assert_eq!(ended.exit, Exit::Refused);
    assert!(ended.errors.starts_with(&format!("portico: no gateway answers at {free}; start one with")));
}

#[test]
fn a_line_that_makes_no_sense_is_refused_before_anything_is_asked() {
    for line in [
        "key issue --name a",
        "key issue --all-scopes",
        "key issue --name a --all-scopes --scope pay",
        "key issue --name a --all-scopes --mode test",
        "key list --limit many",
        "key show",
        "key",
    ] {
        assert!(Line::try_parse_from(line.split(' ')).is_err(), "{line}");
    }
}
