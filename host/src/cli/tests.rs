//! Orgs, tokens, the audit log and imports from the command line, against a running admin API.

use clap::{Parser, Subcommand};
use serde_json::Value;

use super::{Exit, audit, key, org, token, webhook};
use crate::api::tests::Running;

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    noun: Noun,
}

#[derive(Debug, Subcommand)]
enum Noun {
    Key(key::KeyArgs),
    Org(org::OrgArgs),
    Token(token::TokenArgs),
    Audit(audit::AuditArgs),
    Webhook(webhook::WebhookArgs),
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
async fn run(api: &Running, line: &str) -> Ended {
    let (admin, file) = (api.address.to_string(), api.token_file());
    let target = ["--admin", &admin, "--token-file", file.to_str().unwrap()];
    let words = std::iter::once("portico").chain(line.split_whitespace()).chain(target);
    let line = Line::try_parse_from(words).unwrap();
    let run = move || {
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let exit = match &line.noun {
            Noun::Key(args) => key::run_with(args, None, &mut out, &mut errors),
            Noun::Org(args) => org::run_with(args, None, &mut out, &mut errors),
            Noun::Token(args) => token::run_with(args, None, &mut out, &mut errors),
            Noun::Audit(args) => audit::run_with(args, None, &mut out, &mut errors),
            Noun::Webhook(args) => webhook::run_with(args, None, &mut out, &mut errors),
        };
        let [out, errors] = [out, errors].map(|bytes| String::from_utf8(bytes).unwrap());
        Ended { exit, out, errors }
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test]
async fn orgs_and_tokens_are_made_listed_and_ended() {
    let api = Running::start().await;
    let made = run(&api, "org create acme --name Acme --json").await.json();
    assert_eq!((&made["slug"], &made["name"]), (&"acme".into(), &"Acme".into()));
    let taken = run(&api, "org create acme").await;
    assert!(taken.exit == Exit::Refused && taken.errors.contains("slug_taken"), "{taken:?}");
    assert!(run(&api, "org rename acme --slug acme-2").await.out.contains(" acme-2 "));
    assert_eq!(run(&api, "org list").await.out.lines().count(), 3);
    assert!(run(&api, "org show acme-2").await.out.contains("Acme"));

    let token = run(&api, "token create --name ci --role member --org acme-2").await;
    assert!(token.out.contains("member of the org acme-2") && token.out.contains("pat_"), "{token:?}");
    let listed = run(&api, "token list --org acme-2 --json").await.json();
    let id = listed["tokens"][0]["id"].as_str().unwrap();
    assert!(run(&api, &format!("token revoke {id}")).await.out.starts_with(&format!("Revoked {id} (ci) at ")));
    assert!(run(&api, "token list").await.out.contains(" revoked "));
    let refused = run(&api, "token create --name ci --role root").await;
    assert!(refused.errors.contains("/role: ") && refused.errors.contains("/org: "), "{refused:?}");
}

#[tokio::test]
async fn a_key_is_rotated_scoped_and_its_pepper_exchanged() {
    let api = Running::start().await;
    let key = run(&api, "key issue --name demo --scope pay --json").await.json();
    let id = key["id"].as_str().unwrap();
    let rotated = run(&api, &format!("key rotate {id} --overlap 60")).await;
    assert!(rotated.out.contains("sk_live_") && rotated.out.contains("until 2026-11-22T00:01:00.000Z"), "{rotated:?}");
    let again = run(&api, &format!("key rotate {id}")).await;
    assert!(again.exit == Exit::Refused && again.errors.contains("rotation_in_progress"));
    assert!(run(&api, &format!("key rotate {id} --force --overlap 0")).await.out.contains("works no more"));
    let scoped = run(&api, &format!("key scope {id} --scope connect,keys:read")).await;
    assert!(scoped.out.ends_with("has these scopes: connect keys:read.\n"), "{scoped:?}");
    assert!(run(&api, "key rotate-pepper").await.out.contains("2        0\n"));
    assert!(run(&api, "key retire-pepper 1").await.errors.contains("pepper_in_use"));
    assert_eq!(run(&api, "key peppers --json").await.json()["peppers"][1]["secrets"], 1);
}

#[tokio::test]
async fn the_log_is_listed_and_verified_and_a_broken_one_ends_with_1() {
    let api = Running::start().await;
    run(&api, "org create acme").await;
    let listed = run(&api, "audit list --action org").await;
    let lines: Vec<&str> = listed.out.lines().collect();
    assert!(lines.len() == 3 && lines[1].contains("super_admin") && lines[2].contains("gateway"), "{listed:?}");
    assert_eq!(run(&api, "audit list --limit 1 --json").await.json()["entries"][0]["sequence"], 3);
    let whole = run(&api, "audit verify").await;
    assert!(whole.exit == Exit::Done && whole.out.starts_with("The audit log is whole: 3 entries"), "{whole:?}");
    api.audit.spoil_end();
    let broken = run(&api, "audit verify").await;
    assert_eq!((broken.exit, broken.out.as_str()), (Exit::Refused, ""));
    assert!(broken.errors.contains("broken at entry 3: the end of the log"), "{broken:?}");
    let broken = run(&api, "audit verify --json").await;
    assert_eq!((broken.exit, &broken.json()["whole"]), (Exit::Refused, &false.into()));
}

fn line(number: usize) -> String {
    format!(r#"{{"secret":"sk_live_of_another_system_{number:08}","name":"old {number}","scopes":["pay"]}}"#)
}

#[tokio::test]
async fn a_file_of_keys_comes_in_and_again_with_those_that_are_new() {
    let api = Running::start().await;
    let file = api.place.path().join("keys.jsonl");
    let import = format!("key import {}", file.display());
    let lines: Vec<String> = (0..450).map(line).collect();
    std::fs::write(&file, format!("{}\n\n", lines.join("\n"))).unwrap();
    let done = run(&api, &import).await;
    assert_eq!((done.exit, done.out.as_str()), (Exit::Done, "Imported 450 keys.\n"), "{done:?}");
    assert_eq!(done.errors, "imported 200 of 450\nimported 400 of 450\n");
    assert!(api.resolve("sk_live_of_another_system_00000449").valid().is_some());

    std::fs::write(&file, [line(1), line(450), line(450)].join("\n")).unwrap();
    let told = run(&api, &import).await;
    assert_eq!(told.exit, Exit::Refused);
    assert!(told.errors.contains("line 1: secret: This secret is there already, as key_"), "{told:?}");
    assert!(told.errors.contains("line 3: secret: This secret is there already, in line 2."), "{told:?}");
    let done = run(&api, &format!("{import} --skip-duplicates --json")).await.json();
    assert_eq!((&done["imported"], &done["skipped"]), (&1.into(), &1.into()));
}

#[tokio::test]
async fn everything_that_is_wrong_with_a_file_comes_at_once_and_nothing_is_imported() {
    let api = Running::start().await;
    let file = api.place.path().join("keys.jsonl");
    let import = format!("key import {}", file.display());
    let long = format!("{{\"name\":\"{}\"}}", "x".repeat(20_000));
    let lines = [
        line(1),
        "{".into(),
        "[]".into(),
        long,
        line(2).replace("pay", "pya"),
        line(3),
        r#"{"secret":"sk_live_x"}"#.into(),
    ];
    std::fs::write(&file, lines.join("\n")).unwrap();
    let refused = run(&api, &import).await;
    assert_eq!(refused.exit, Exit::Refused);
    let told: Vec<&str> = refused.errors.lines().skip(1).map(|line| line.trim().split(": ").next().unwrap()).collect();
    assert_eq!(told, ["line 2", "line 3", "line 4", "line 5", "line 7", "line 7", "line 7"], "{refused:?}");
    assert!(!refused.errors.contains("of_another_system") && !refused.errors.contains("sk_live_x"));
    assert_eq!(api.ring.hot(), 0);
    let missing = run(&api, "key import no-such-file").await;
    assert!(missing.exit == Exit::Usage && missing.errors.contains("cannot read no-such-file"));
}

#[tokio::test]
async fn webhooks_are_made_listed_changed_tested_and_deleted() {
    let api = Running::start().await;
    let made = run(
        &api,
        "webhook create --url https://hooks.example.com/ --event key.revoked,key.created --event quota.reached",
    )
    .await;
    assert_eq!(made.exit, Exit::Done, "{made:?}");
    assert!(made.out.contains("  whsec_") && made.out.contains("not shown again"), "{made:?}");
    let listed = run(&api, "webhook list --org default --json").await.json();
    let id = listed["webhooks"][0]["id"].as_str().unwrap().to_owned();
    assert!(
        made.out
            .starts_with(&format!("Made {id}, which is enabled: key.created key.revoked quota.reached to https://"))
    );
    let table = run(&api, "webhook list").await.out;
    assert!(table.starts_with("ID ") && table.contains(&id) && !table.contains("whsec_"), "{table}");
    assert_eq!(run(&api, &format!("webhook show {id} --json")).await.json(), listed["webhooks"][0]);

    let sent = run(&api, &format!("webhook test {id}")).await.out;
    assert!(sent.contains("evt_") && sent.contains(&format!("portico webhook deliveries {id}")), "{sent}");
    let rotated = run(&api, &format!("webhook rotate {id} --overlap 60 --json")).await.json();
    assert!(rotated["secret"].as_str().unwrap().starts_with("whsec_"));
    let again = run(&api, &format!("webhook rotate {id}")).await;
    assert_eq!((again.exit, again.errors.contains("rotation_in_progress")), (Exit::Refused, true), "{again:?}");
    let changed = run(&api, &format!("webhook change {id} --disable --event key.expired --json")).await.json();
    assert_eq!((&changed["status"], &changed["events"]), (&"disabled".into(), &serde_json::json!(["key.expired"])));
    let deliveries = run(&api, &format!("webhook deliveries {id}")).await.out;
    assert!(deliveries.starts_with("AT ") && deliveries.ends_with("0 more wait for an attempt.\n"), "{deliveries}");
    assert!(run(&api, &format!("webhook delete {id}")).await.out.starts_with(&format!("Deleted {id}")));
    let gone = run(&api, &format!("webhook show {id}")).await;
    assert_eq!((gone.exit, gone.errors.contains("not_found")), (Exit::Refused, true), "{gone:?}");
    let wrong = run(&api, "webhook create --url http://a --event b").await;
    assert!(
        wrong.exit == Exit::Refused && wrong.errors.contains("/url") && wrong.errors.contains("/events/0"),
        "{wrong:?}"
    );
}
