use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::response::{IntoResponse, Response};
use axum::{Extension, middleware};
use clap::Parser;

use super::*;
use crate::api::tests::Running;
use crate::api::{Act, ActError, Actor, By, PluginControl, plugin_routes};
use crate::audit::Who;
use crate::problem::Problem;

const DIGEST: &str = "3f2a41c09b7d5e6f3f2a41c09b7d5e6f3f2a41c09b7d5e6f3f2a41c09b7d5e6f";
const NEWER: &str = "aa00bb11cc22dd33aa00bb11cc22dd33aa00bb11cc22dd33aa00bb11cc22dd33";

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    plugin: PluginArgs,
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

/// Shows two policies, carries out what makes sense for them, and remembers what was wanted.
#[derive(Default)]
struct Stage {
    wanted: Mutex<Vec<(String, Act)>>,
}

fn serving(state: &str, version: &str, refused: Value) -> Value {
    json!({
        "policy": "gas", "state": state, "version": version, "digest": DIGEST, "instances": "primed",
        "calls": 1200,
        "failures": { "trap": 2, "deadline": 3 }, "refused": refused,
        "quarantine": { "callers": 3, "with_key_until": null, "without_key_until": null, "answered": 40 },
    })
}

fn out_of_chains() -> Value {
    json!({ "policy": "limits/all", "state": "disabled", "digest": null, "refused": null })
}

fn refusal() -> Value {
    json!({ "at": "2026-03-01T10:00:00.000Z", "what": "refused", "digest": NEWER, "version": null,
        "reason": "it wants the power `deny`\nit is \u{1b}[31mred" })
}

impl PluginControl for Stage {
    fn list(&self) -> Value {
        json!({ "generation": 7, "policies": [serving("serving", "1.2.0", refusal()), out_of_chains()] })
    }

    fn history(&self, policy: &str) -> Option<Value> {
        let rolled_back = json!({ "at": "2026-03-02T09:00:00.000Z", "what": "rolled_back", "digest": DIGEST,
            "version": "1.2.0" });
        (policy == "gas").then(|| json!({ "policy": "gas", "versions": [], "events": [rolled_back, refusal()] }))
    }

    fn act(&self, policy: &str, act: Act, _: Who) -> Result<Value, ActError> {
        self.wanted.lock().unwrap().push((policy.to_owned(), act.clone()));
        match (policy, act) {
            ("limits/all", Act::Disable) => Ok(out_of_chains()),
            ("gas", Act::Enable) => Ok(serving("serving", "1.2.0", Value::Null)),
            ("gas", Act::Rollback(Some(digest))) if !DIGEST.starts_with(&digest) => {
                Err(ActError::NoVersion("there is no such version".into()))
            }
            ("gas", Act::Rollback(Some(_))) => Ok(serving("held", "1.1.0", Value::Null)),
            ("gas", Act::Rollback(None)) => Ok(serving("serving", "1.2.0", refusal())),
            ("gas", Act::Reload) => Err(ActError::Refused(vec!["one reason".into(), "another reason".into()])),
            _ => Err(ActError::Unknown),
        }
    }
}

/// What the whole admin API does with a refusal.
async fn worded(response: Response) -> Response {
    match response.extensions().get::<Problem>() {
        Some(problem) => (response.status(), problem.clone().instance("req_1").to_bytes()).into_response(),
        None => response,
    }
}

/// The routes as they are, over a [`Stage`]; ends with the runtime of its test.
async fn start() -> (SocketAddr, Arc<Stage>) {
    let stage = Arc::new(Stage::default());
    let api = Running::start().await;
    let admin = Actor { by: By::SuperAdmin, address: None };
    let router = plugin_routes(stage.clone(), Arc::new(api.audit.clone()), api.clock.clone());
    let router = router.layer(Extension(admin)).layer(middleware::map_response(worded));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let _api = api;
        crate::api::serve(listener, router, std::future::pending()).await
    });
    (address, stage)
}

/// Runs a command line as a process would, off the runtime's thread.
async fn run_line(admin: SocketAddr, line: &str) -> Ended {
    let admin = admin.to_string();
    let words = std::iter::once("plugin").chain(line.split_whitespace()).chain(["--admin", &admin]);
    let args = Line::try_parse_from(words).unwrap().plugin;
    let run = move || {
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let exit = run_with(&args, Some("pat_any".to_owned()), &mut out, &mut errors);
        let [out, errors] = [out, errors].map(|bytes| String::from_utf8(bytes).unwrap());
        Ended { exit, out, errors }
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test]
async fn policies_are_listed_with_what_was_refused() {
    let (admin, stage) = start().await;
    let listed = run_line(admin, "list").await;
    assert_eq!((listed.exit, listed.errors.as_str()), (Exit::Done, ""));
    let expected = "\
POLICY      STATE     VERSION  DIGEST        INSTANCES  CALLS  FAILURES  QUARANTINE
gas         serving   1.2.0    3f2a41c09b7d  primed     1200   5         3 callers
limits/all  disabled  -        -             -          -      -         -
gas: aa00bb11cc22 was refused at 2026-03-01T10:00:00.000Z:
  it wants the power `deny`
  it is ?[31mred
";
    assert_eq!(listed.out, expected);
    assert_eq!(run_line(admin, "list --json").await.json(), stage.list());
}

#[test]
fn files_whose_components_have_one_name_are_told() {
    let told = |namesakes: Value| {
        let mut out = Vec::new();
        let policy = json!({ "policy": "b", "file": "b.wasm", "plugin": "v", "namesakes": namesakes });
        write_namesakes(&policy, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        told(json!(["a.wasm", "c.wasm"])),
        "b: its component calls itself `v`, as what serves for a.wasm and c.wasm does; its own file is b.wasm\n"
    );
    assert_eq!((told(json!([])), told(Value::Null)), (String::new(), String::new()));
}

#[tokio::test]
async fn history_is_told_with_its_reasons() {
    let (admin, stage) = start().await;
    let told = run_line(admin, "history gas").await;
    let expected = "\
TIME                      WHAT         VERSION  DIGEST
2026-03-02T09:00:00.000Z  rolled back  1.2.0    3f2a41c09b7d
2026-03-01T10:00:00.000Z  refused      -        aa00bb11cc22
  it wants the power `deny`
  it is ?[31mred
";
    assert_eq!((told.exit, told.out.as_str()), (Exit::Done, expected), "{told:?}");
    assert_eq!(run_line(admin, "history gas --json").await.json(), stage.history("gas").unwrap());
}

#[tokio::test]
async fn an_act_says_what_serves_now() {
    let (admin, stage) = start().await;
    let serves = "`gas` serves version 1.2.0 (3f2a41c09b7d).\n";
    let another_serves = format!(
        "{serves}gas: aa00bb11cc22 was refused at 2026-03-01T10:00:00.000Z:\n  it wants the power `deny`\n  it is ?[31mred\n"
    );
    for (line, sentence) in [
        ("disable limits/all", "`limits/all` is out of its chains.\n"),
        ("enable gas", serves),
        ("rollback gas --to 3f2a41c0", "`gas` serves version 1.1.0 (3f2a41c09b7d) and is held to it.\n"),
        ("rollback gas", &another_serves),
    ] {
        let ended = run_line(admin, line).await;
        assert_eq!((ended.exit, ended.out.as_str()), (Exit::Done, sentence), "{ended:?}");
    }
    let json = run_line(admin, "enable gas --json").await.json();
    assert_eq!(json, serving("serving", "1.2.0", Value::Null));
    let wanted = [
        ("limits/all", Act::Disable),
        ("gas", Act::Enable),
        ("gas", Act::Rollback(Some("3f2a41c0".to_owned()))),
        ("gas", Act::Rollback(None)),
        ("gas", Act::Enable),
    ];
    assert_eq!(*stage.wanted.lock().unwrap(), wanted.map(|(policy, act)| (policy.to_owned(), act)));
}

#[test]
fn whoever_waits_is_told_in_a_few_words() {
    let until = "2026-03-01T10:00:00.000Z";
    for (callers, with_key, without_key, told) in [
        (0, None, None, "-"),
        (1, None, None, "1 caller"),
        (9, Some(until), None, "all with a key"),
        (9, None, Some(until), "all without a key"),
        (9, Some(until), Some(until), "all"),
    ] {
        let waits = json!({ "callers": callers, "with_key_until": with_key, "without_key_until": without_key });
        assert_eq!(quarantine(&json!({ "quarantine": waits })), told);
    }
}

#[test]
fn a_component_without_a_digest_is_refused_by_its_policy() {
    let mut refused = refusal();
    refused["digest"] = Value::Null;
    let mut out = Vec::new();
    write_refusal(&serving("serving", "1.2.0", refused), &mut out).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert!(out.starts_with("gas: its component was refused at 2026-03-01T10:00:00.000Z:\n"), "{out}");
}

#[tokio::test]
async fn a_refusal_ends_with_1_and_its_reasons() {
    let (admin, stage) = start().await;
    let refused = run_line(admin, "reload gas").await;
    assert_eq!((refused.exit, refused.out.as_str()), (Exit::Refused, ""));
    let told: Vec<&str> = refused.errors.lines().collect();
    assert!(told[0].starts_with("portico: There are 2 reasons;") && told[0].contains("plugin_refused"), "{told:?}");
    assert_eq!(told[1..], ["  one reason", "  another reason"]);
    let as_json = run_line(admin, "reload gas --json").await;
    let document: Value = serde_json::from_str(&as_json.errors).unwrap();
    assert_eq!((document["error"].as_str(), as_json.out.as_str()), (Some("plugin_refused"), ""));

    for (line, code) in [
        ("rollback gas --to ffffffff", "no_earlier_version"),
        ("rollback gas --to 3f2a", "invalid_request"),
        ("history nobody", "not_found"),
        ("reload ../keys", "not_found"),
        ("enable gas?a", "not_found"),
    ] {
        let refused = run_line(admin, line).await;
        assert_eq!((refused.exit, refused.out.as_str()), (Exit::Refused, ""), "{line}");
        assert!(refused.errors.contains(code), "{line}: {refused:?}");
    }
    let odd: Vec<String> = stage.wanted.lock().unwrap().iter().skip(3).map(|(policy, _)| policy.clone()).collect();
    assert_eq!(odd, ["../keys", "gas?a"], "a name is one segment of the path, whatever is in it");
}

#[test]
fn a_line_that_makes_no_sense_is_refused_before_anything_is_asked() {
    for line in [
        "plugin",
        "plugin list gas",
        "plugin history",
        "plugin reload",
        "plugin enable gas --to 3f2a41c0",
        "plugin rollback --to 3f2a41c0",
    ] {
        assert!(Line::try_parse_from(line.split(' ')).is_err(), "{line}");
    }
}
