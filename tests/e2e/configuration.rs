//! The configuration over the admin API, and what the audit log is told of what nobody asked for.

use crate::harness::{Answer, DEFAULT, Gateway, Origin, patched, request, until};
use crate::program::{Stand, output};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

fn start(origin: &Origin) -> Gateway {
    Gateway::with(origin, DEFAULT)
}

fn file(gateway: &Gateway) -> PathBuf {
    gateway.directory().join("gateway.toml")
}

fn text(gateway: &Gateway) -> String {
    fs::read_to_string(file(gateway)).expect("its configuration")
}

/// At once, so that no half of it is seen.
fn save(gateway: &Gateway, toml: &str) {
    let new = gateway.directory().join("saved.toml");
    fs::write(&new, toml).unwrap();
    fs::rename(new, file(gateway)).unwrap();
}

fn shown(gateway: &Gateway) -> Value {
    gateway.admin("GET", "/v1/config").send().json()
}

fn digest(gateway: &Gateway) -> String {
    shown(gateway)["digest"].as_str().expect("a digest").to_owned()
}

fn ask(gateway: &Gateway, what: &str, toml: &str) -> Answer {
    gateway.admin("POST", &format!("/v1/config/{what}")).field("content-type", "application/toml").body(toml).send()
}

fn apply(gateway: &Gateway, based_on: &str, toml: &str) -> Answer {
    let call = gateway.admin("POST", "/v1/config/apply").field("content-type", "application/toml");
    call.field("if-match", format!("\"{based_on}\"")).body(toml).send()
}

fn noted(gateway: &Gateway, action: &str) -> Vec<Value> {
    let page = gateway.admin("GET", &format!("/v1/audit?action={action}&limit=200")).send().json();
    page["entries"].as_array().expect("entries").clone()
}

fn name(gateway: &Gateway) -> Value {
    shown(gateway)["configuration"]["gateway"]["name"].clone()
}

#[test]
fn what_runs_is_shown_with_its_defaults_and_without_secrets() {
    let origin = Origin::echo();
    let secret = "[policies.chameleon]\nconfig = { api_token = \"hunter2\", request = {} }\n";
    let gateway = Gateway::with(&origin, &format!("{DEFAULT}{secret}"));
    let answer = gateway.admin("GET", "/v1/config").send();
    let all = answer.json();
    assert_eq!(answer.field("etag").map(|tag| tag.trim_matches('"')), all["digest"].as_str());
    assert_eq!((&all["file_digest"], &all["applied_by"]), (&all["digest"], &json!("start")));
    assert_eq!((&all["refused"], &all["generation"]), (&json!(null), &json!(gateway.generation())));
    let of = &all["configuration"];
    assert_eq!(of["pillars"]["connect"]["chain"], json!(["rate-limit", "key-auth", "gas"]));
    assert_eq!((&of["gateway"]["header_timeout"], &of["policies"]["gas"]["fuel"]), (&json!("10s"), &json!(2_000_000)));
    assert_eq!(of["secrets"]["master_key"], json!({ "file": "master.key" }));
    assert!(all["defaults"].as_array().is_some_and(|keys| keys.contains(&json!("gateway.header_timeout"))));
    assert!(!answer.text().contains("hunter2"));
    let part = gateway.admin("GET", "/v1/config?key=upstreams.origin").send().json();
    assert_eq!(part["configuration"]["connect_timeout"], "2s");
    assert_eq!(gateway.admin("GET", "/v1/config?key=pillars.nobody").send().error(), "not_found");
    assert_eq!(gateway.admin("GET", "/v1/config?colour=red").send().error(), "invalid_request");
}

#[test]
fn another_one_is_checked_and_compared_and_nothing_is_applied() {
    let origin = Origin::echo();
    let gateway = start(&origin);
    let (before, now) = (shown(&gateway), text(&gateway));
    let good =
        now.replace("drain_timeout = \"1s\"", "drain_timeout = \"2s\"\nname = \"Other\"").replace("256KiB", "512KiB");
    let fits = ask(&gateway, "check", &good).json();
    assert_eq!((&fits["fits"], &fits["needs_restart"]), (&json!(true), &json!(["journal"])), "{fits}");

    let bad = good.replace("grant.powers = [\"charge\"]", "grant.powers = [\"charg\"]\ncolour = 1");
    let told = ask(&gateway, "check", &bad).json();
    assert_eq!((&told["fits"], &told["count"]), (&json!(false), &json!(2)), "{told}");
    let offline = gateway.directory().join("bad.toml");
    fs::write(&offline, &bad).unwrap();
    let by_program = output(gateway.directory(), &["check", "--config", "bad.toml"]);
    for problem in told["problems"].as_array().expect("problems") {
        let line = format!(":{}:{}: {}: ", problem["line"], problem["column"], problem["path"].as_str().unwrap());
        assert!(String::from_utf8_lossy(&by_program.stderr).contains(&line), "{line}");
    }
    // What only the components know.
    let unfit = ask(&gateway, "check", &now.replace("grant.powers = [\"deny\"]", "grant.powers = []")).json();
    assert_eq!(
        (&unfit["fits"], unfit["problems"][0]["path"].as_str()),
        (&json!(false), Some("policies.key-auth.grant.powers")),
        "{unfit}"
    );

    let diff = ask(&gateway, "diff", &good).json();
    let row = |key: &str, old: &str, new: &str, restart: bool| json!({ "key": key, "old": old, "new": new, "needs_restart": restart });
    let expected = json!([
        row("gateway.drain_timeout", "1s", "2s", false),
        row("gateway.name", "Portico", "Other", false),
        row("journal.segment_size", "256KiB", "512KiB", true),
    ]);
    assert_eq!((&diff["changes"], &diff["based_on"]), (&expected, &before["digest"]), "{diff}");
    assert_eq!(ask(&gateway, "diff", &bad).error(), "configuration_refused");
    assert_eq!((shown(&gateway), text(&gateway)), (before, now), "nothing has changed");
}

#[test]
fn one_is_applied_and_written_where_it_was_made_from_what_runs() {
    let origin = Origin::echo();
    let gateway = start(&origin);
    let (first, generation, now) = (digest(&gateway), gateway.generation(), text(&gateway));
    let other = now.replace("[gateway]", "[gateway]\nname = \"Other\"");
    assert_eq!(ask(&gateway, "apply", &other).error(), "digest_needed");
    assert_eq!(apply(&gateway, "abc", &other).error(), "malformed_digest");
    let stale = apply(&gateway, &"0".repeat(64), &other);
    assert_eq!(
        (stale.status, stale.error().as_str(), &stale.json()["running"]),
        (412, "configuration_changed", &json!(first))
    );
    let refused = apply(&gateway, &first, &other.replace("[gateway]", "[gatway]"));
    assert_eq!((refused.status, refused.error().as_str()), (422, "configuration_refused"));
    assert!(refused.json()["problems"][0]["line"].as_u64().is_some_and(|line| line > 0), "{}", refused.text());
    assert_eq!((text(&gateway), digest(&gateway)), (now.clone(), first.clone()));

    let applied = apply(&gateway, &first, &other).json();
    assert_eq!((&applied["generation"], &applied["before"]), (&json!(generation + 1), &json!(first)), "{applied}");
    assert_eq!((text(&gateway), name(&gateway)), (other.clone(), json!("Other")));
    let after = shown(&gateway);
    assert_eq!(
        (&after["digest"], &after["applied_by"], &after["actor"]["kind"]),
        (&applied["digest"], &json!("api"), &json!("super_admin"))
    );
    assert_eq!(apply(&gateway, &first, &now).error(), "configuration_changed", "the one before is not what runs");

    let entries = noted(&gateway, "configuration.applied");
    let outcomes: Vec<&str> = entries.iter().filter_map(|entry| entry["after"]["outcome"].as_str()).collect();
    assert_eq!(outcomes, ["failed", "begun", "done", "begun", "failed", "begun", "failed", "begun"], "{entries:?}");
    let is = &entries[2]["after"]["is"];
    assert_eq!((&is["before"]["digest"], &is["after"]["digest"]), (&json!(first), &applied["digest"]));
    assert_eq!(
        (&is["after"]["changed"], &is["after"]["generation"]),
        (&json!(["gateway.name"]), &json!(generation + 1))
    );
    // The watcher finds what is there already: nobody else is noted until something is saved.
    save(&gateway, &format!("{now}# saved"));
    until("what was saved is noted", || noted(&gateway, "configuration.applied")[0]["actor"]["kind"] == "gateway");
    assert_eq!(name(&gateway), "Portico");
    let by_file = &noted(&gateway, "configuration.applied")[0];
    assert_eq!(
        (&by_file["before"]["digest"], &by_file["before"]["generation"]),
        (&applied["digest"], &applied["generation"])
    );
    assert_eq!(by_file["after"]["by"], "file");
}

#[test]
fn what_was_saved_and_cannot_run_is_told_and_not_overwritten() {
    let origin = Origin::echo();
    let gateway = start(&origin);
    let (first, now) = (digest(&gateway), text(&gateway));
    save(&gateway, &now.replace("[gateway]", "[gateway]\ntoken = \"hunter2\""));
    until("it is refused", || !shown(&gateway)["refused"].is_null());
    let told = shown(&gateway);
    assert_eq!(
        (&told["digest"], &told["refused"]["by"], &told["refused"]["problems"][0]["path"]),
        (&json!(first), &json!("file"), &json!("gateway.token"))
    );
    assert_ne!(told["file_digest"], told["digest"]);
    assert_eq!(apply(&gateway, &first, &now).error(), "configuration_changed");
    let entries = noted(&gateway, "configuration.refused");
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!(
        (&entries[0]["after"]["problems_at"], &entries[0]["after"]["refused"]),
        (&json!(["gateway.token"]), &told["file_digest"])
    );
    assert!(!entries[0].to_string().contains("hunter2"));
    save(&gateway, &format!("{now}# mended"));
    until("it is forgotten", || shown(&gateway)["refused"].is_null());
    let last = &noted(&gateway, "configuration.applied")[0];
    assert_eq!(
        (&last["after"]["changed"], &last["before"]["generation"]),
        (&json!([]), &last["after"]["generation"]),
        "other words only"
    );
    assert_eq!(digest(&gateway), last["after"]["digest"].as_str().unwrap());
}

#[test]
fn a_file_that_cannot_be_written_refuses_the_change() {
    let origin = Origin::echo();
    let gateway = start(&origin);
    let (first, now) = (digest(&gateway), text(&gateway));
    // Whoever runs tests may be allowed to write anything; so that where it writes first is taken.
    fs::create_dir_all(gateway.directory().join(".gateway.toml.new/taken")).unwrap();
    let refused = apply(&gateway, &first, &now.replace("[gateway]", "[gateway]\nname = \"Other\""));
    assert_eq!((refused.status, refused.error().as_str()), (409, "configuration_not_writable"), "{}", refused.text());
    assert_eq!((text(&gateway), digest(&gateway), name(&gateway)), (now, first, json!("Portico")));
    assert_eq!(noted(&gateway, "configuration.applied")[0]["after"]["outcome"], "failed");
}

#[test]
fn bodies_are_bounded_and_only_whoever_may_everything_comes_in() {
    let origin = Origin::echo();
    let gateway = start(&origin);
    let large = format!("# {}\n", "x".repeat(4 << 20));
    for what in ["check", "diff"] {
        assert_eq!(ask(&gateway, what, &large).error(), "request_body_too_large", "{what}");
        for empty in ["", " \n"] {
            let refused = ask(&gateway, what, empty);
            assert!(refused.status == 422 || refused.json()["fits"] == false, "{what} {empty:?}: {refused:?}");
        }
        let json = gateway
            .admin("POST", &format!("/v1/config/{what}"))
            .field("content-type", "application/json")
            .body("{}")
            .send();
        assert_eq!(json.error(), "unsupported_media_type");
    }
    let call = gateway.admin("POST", "/v1/config/check").field("content-type", "application/toml");
    assert_eq!(call.body(b"a = \"\xff\"").send().error(), "not_utf8");
    assert_eq!(apply(&gateway, &digest(&gateway), &large).error(), "request_body_too_large");
    assert_eq!(apply(&gateway, &digest(&gateway), "\n").status, 422);
    let body = json!({ "name": "t", "role": "org-admin", "org": "default" }).to_string();
    let token = gateway.admin("POST", "/v1/tokens").field("content-type", "application/json").body(body).send().json();
    let token = token["secret"].as_str().expect("a secret");
    for (method, path) in [
        ("GET", "/v1/config"),
        ("POST", "/v1/config/check"),
        ("POST", "/v1/config/diff"),
        ("POST", "/v1/config/apply"),
        ("GET", "/v1/limits?everyone=true"),
        ("POST", "/v1/limits/reset"),
    ] {
        assert_eq!(request(gateway.admin, method, path).key(token).send().error(), "insufficient_role", "{path}");
        assert_eq!(request(gateway.admin, method, path).send().error(), "missing_authorization", "{path}");
    }
}

#[test]
fn components_that_nobody_asked_for_are_noted() {
    let version = |number: &str| {
        patched(
            "versioned",
            &json!({ "name": "v", "version": number, "summary": "", "response_writes": ["x-version"] }),
        )
    };
    let origin = Origin::echo();
    let toml = format!(
        "[policies.v]\nconfig = {{ word = \"plain\" }}\n[upstreams.origin]\nendpoints = [\"http://{}\"]\n\
         [pillars.connect]\nupstream = \"origin\"\nchain = [\"v\"]\n",
        origin.address
    );
    let gateway = Gateway::start_with(&toml, &[("v", version("1.0.0"))]);
    let serving =
        |gateway: &Gateway| gateway.admin("GET", "/v1/plugins").send().json()["policies"][0]["digest"].clone();
    let (path, first, generation) =
        (gateway.directory().join("plugins/v.wasm"), serving(&gateway), gateway.generation());
    assert!(noted(&gateway, "plugin").is_empty(), "a first start swaps nothing");
    let save = |bytes: &[u8]| {
        fs::write(path.with_extension("new"), bytes).unwrap();
        fs::rename(path.with_extension("new"), &path).unwrap();
    };
    save(&version("2.0.0"));
    until("the swap is noted", || noted(&gateway, "plugin.swapped").len() == 1);
    let swap = noted(&gateway, "plugin.swapped").remove(0);
    let second = serving(&gateway);
    assert_eq!((&swap["actor"]["kind"], &swap["on"]), (&json!("gateway"), &json!(["v"])));
    assert_eq!((&swap["before"]["digest"], &swap["after"]["digest"]), (&first, &second));
    assert_eq!((&swap["after"]["generation"], &swap["after"]["by"]), (&json!(generation + 1), &json!("plugins")));

    save(b"garbage");
    until("the refusal is noted", || noted(&gateway, "plugin.refused").len() == 1);
    let refusal = noted(&gateway, "plugin.refused").remove(0);
    assert_eq!((&refusal["before"]["digest"], &refusal["after"]["digest"]), (&second, &second));
    assert!(refusal["after"]["refused"].is_string() && refusal["after"]["refused"] != second, "{refusal}");

    // Whoever asks for it is named.
    assert_eq!(gateway.admin("POST", "/v1/plugins/v/rollback").send().status, 200);
    let swap = noted(&gateway, "plugin.swapped").remove(0);
    assert_eq!(
        (&swap["actor"]["kind"], &swap["after"]["digest"], &swap["after"]["by"]),
        (&json!("super_admin"), &first, &json!("api"))
    );

    let gateway = gateway.restart_after(|| save(&version("3.0.0")));
    let swap = noted(&gateway, "plugin.swapped").remove(0);
    assert_eq!(
        (&swap["before"]["digest"], &swap["after"]["digest"], &swap["after"]["by"]),
        (&first, &serving(&gateway), &json!("start"))
    );
    assert_eq!(gateway.admin("GET", "/v1/audit/verify").send().json()["whole"], true);
    let metrics = gateway.admin("GET", "/metrics").send().text();
    assert!(metrics.contains("portico_audit_unwritten_entries_total 0"), "{metrics}");
}

#[test]
fn the_commands_say_the_same_and_a_signal_has_the_file_looked_at() {
    let stand = Stand::new();
    let serving = stand.serve();
    let admin = serving.admin.to_string();
    let run = |arguments: &[&str]| {
        let ended = output(stand.path(), &[arguments, &["--config", "gateway.toml", "--admin", &admin]].concat());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (ended.status.code(), text(&ended.stdout), text(&ended.stderr))
    };
    let all = run(&["config", "show"]);
    assert_eq!((all.0, all.2.as_str()), (Some(0), ""), "{}", all.1);
    assert!(
        all.1.contains("gateway.header_timeout = \"10s\"  # default") && all.1.contains("gateway.workers = 1\n"),
        "{}",
        all.1
    );
    let part = run(&["config", "show", "upstreams.origin", "--json"]).1;
    assert_eq!(serde_json::from_str::<Value>(&part).unwrap()["configuration"]["idle_timeout"], "60s");

    let now = fs::read_to_string(stand.path().join("gateway.toml")).unwrap();
    let other = stand.path().join("other.toml");
    fs::write(&other, now.replace("[gateway]", "[gateway]\nname = \"Other\"")).unwrap();
    assert_eq!(run(&["config", "check", "other.toml"]).1, "other.toml: fits the running gateway\n");
    let diff = run(&["config", "diff", "other.toml"]).1;
    assert_eq!(diff, "KEY           OLD        NEW      RESTART\ngateway.name  \"Portico\"  \"Other\"\n");
    let stale = run(&["config", "apply", "other.toml", "--based-on", &"0".repeat(64)]);
    assert!(stale.0 == Some(1) && stale.2.contains("configuration_changed"), "{stale:?}");
    let applied = run(&["config", "apply", "other.toml"]);
    assert!(applied.0 == Some(0) && applied.1.starts_with("Runs as generation "), "{applied:?}");
    assert_eq!(fs::read(&other).unwrap(), fs::read(stand.path().join("gateway.toml")).unwrap());
    assert_eq!(run(&["config", "diff", "gateway.toml"]).1, "It means the same as what runs.\n");
    fs::write(&other, "[gatway]\n").unwrap();
    let bad = run(&["config", "check", "other.toml"]);
    assert!(
        bad.0 == Some(2) && bad.2.contains("other.toml:1:2: gatway: unknown key; did you mean `gateway`?"),
        "{bad:?}"
    );
    let missing = run(&["config", "apply", "none.toml"]);
    assert!(missing.0 == Some(2) && missing.2.contains("cannot read none.toml"), "{missing:?}");

    let limits = run(&["limit", "show", "--address", "127.0.0.1"]);
    assert!(limits.0 == Some(0) && limits.1.starts_with("POLICY  LIMIT  PILLAR"), "{limits:?}");
    assert!(run(&["limit", "reset", "--everyone"]).1.ends_with("0 limits were filled anew.\n"));

    let told = std::process::Command::new("sh").args(["-c", "kill -HUP \"$0\"", &serving.id().to_string()]).status();
    assert!(told.expect("a shell").success());
    until("the signal is followed", || stand.log().matches("applied gateway.toml").count() >= 2);
}
