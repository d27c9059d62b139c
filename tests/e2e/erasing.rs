//! The end of an org: what a person could be known by is gone, from every store and after a restart from every file.

use crate::harness::{DEFAULT, Gateway, Origin, request, until};
use crate::program::{Serving, Stand, output};
use serde_json::{Value, json};
use std::path::Path;

/// Stands in every name of the org that is erased, and nowhere else.
const NAME: &str = "zanzibar";

fn tell(gateway: &Gateway, path: &str, body: &Value) -> Value {
    let answer = gateway.admin("POST", path).field("content-type", "application/json").body(body.to_string()).send();
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// The files below a directory that have the name in them.
fn files_with_the_name(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for path in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(files_with_the_name(&path));
        } else if std::fs::read(&path).unwrap().windows(NAME.len()).any(|part| part == NAME.as_bytes()) {
            found.push(path);
        }
    }
    found
}

fn cli(gateway: &Gateway, arguments: &[&str]) -> std::process::Output {
    let admin = gateway.admin.to_string();
    let rest = ["--admin", admin.as_str(), "--token-file", "data/admin-token"];
    output(gateway.directory(), &[arguments, rest.as_slice()].concat())
}

/// Both of its streams.
fn told(output: &std::process::Output) -> String {
    [&output.stdout, &output.stderr].map(|stream| String::from_utf8_lossy(stream)).concat()
}

fn whole(gateway: &Gateway) -> bool {
    gateway.admin("GET", "/v1/audit/verify").send().json()["whole"] == true
}

/// An org with a key, a token and a webhook; the id of the org, and the secrets of the first two.
fn filled(gateway: &Gateway, slug: &str) -> (String, String, String) {
    let org = tell(gateway, "/v1/orgs", &json!({ "slug": slug, "name": format!("{slug} ltd") }));
    let order = json!({ "name": format!("{slug} key"), "org": slug, "scopes": ["connect"] });
    let key = tell(gateway, "/v1/keys", &order);
    let token = json!({ "name": format!("{slug} admin"), "role": "org-admin", "org": slug });
    let token = tell(gateway, "/v1/tokens", &token);
    let hook = json!({ "url": format!("https://{slug}.example/hook"), "events": ["key.revoked"], "org": slug });
    tell(gateway, "/v1/webhooks", &hook);
    (text(&org["id"]), text(&key["secret"]), text(&token["secret"]))
}

#[test]
fn an_erased_org_is_gone_from_answers_at_once_and_from_files_after_a_restart() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let (id, key, token) = filled(&gateway, NAME);
    let (other, other_key, _) = filled(&gateway, "other");
    for (key, path) in [(&key, NAME), (&key, NAME), (&other_key, "other")] {
        assert_eq!(gateway.get(&format!("/v1/connect/{path}-room")).key(key).send().status, 200);
    }
    let requests = |gateway: &Gateway, org: &str| {
        let found = gateway.admin("GET", &format!("/v1/requests?org={org}")).send().json();
        found["requests"].as_array().map_or(0, Vec::len)
    };
    let calls = |gateway: &Gateway, org: &str| {
        gateway.admin("GET", &format!("/v1/usage?org={org}")).send().json()["total"]["calls"].as_u64()
    };
    until("requests and usage show", || (requests(&gateway, &id), calls(&gateway, &id)) == (2, Some(2)));
    until("all of it is on the disk", || !files_with_the_name(&gateway.directory().join("data")).is_empty());

    let erased = cli(&gateway, &["org", "erase", NAME, "--yes"]);
    assert!(erased.status.success(), "{}", told(&erased));
    let said = told(&erased);
    for sentence in ["1 keys, 1 tokens, 1 webhooks", "2 requests", "backups that were taken before", &id] {
        assert!(said.contains(sentence), "{sentence}: {said}");
    }
    assert!(!said.contains("written by an earlier version"), "{said}");
    assert_eq!(gateway.get("/v1/connect/x").key(&key).send().status, 401);
    assert_eq!(request(gateway.admin, "GET", "/v1/orgs").key(&token).send().status, 401);
    let shown = gateway.admin("GET", &format!("/v1/orgs/{id}")).send().json();
    assert_eq!((&shown["status"], &shown["name"], &shown["slug"]), (&json!("erased"), &Value::Null, &Value::Null));
    assert!(shown["erased_at"].is_string() && shown["erased"]["audit_values"].as_u64() > Some(3), "{shown}");
    assert_eq!(gateway.admin("GET", &format!("/v1/orgs/{NAME}")).send().status, 404);
    for (method, path, order) in [
        ("POST", "/v1/keys", json!({ "name": "new", "org": id, "all_scopes": true })),
        (
            "POST",
            "/v1/keys/import",
            json!({ "keys": [{ "secret": format!("sk_live_{}", "a".repeat(40)), "name": "new", "org": id, "all_scopes": true }] }),
        ),
        ("POST", "/v1/tokens", json!({ "name": "new", "org": id, "role": "member" })),
        ("POST", "/v1/webhooks", json!({ "url": "https://new.example/", "events": ["key.revoked"], "org": id })),
        ("PATCH", &format!("/v1/orgs/{id}"), json!({ "name": "new" })),
    ] {
        let asked = gateway.admin(method, path).field("content-type", "application/json");
        let refused = asked.body(order.to_string()).send();
        assert_eq!((refused.status, refused.error()), (409, "org_erased".to_owned()), "{path}: {}", refused.text());
    }

    // What stays are ids and sums; of the other org all.
    let check = |gateway: &Gateway| {
        assert!(whole(gateway));
        assert_eq!((requests(gateway, &id), calls(gateway, &id), requests(gateway, &other)), (0, Some(2), 1));
        assert_eq!(gateway.get("/v1/connect/x").key(&key).send().status, 401);
        let exported = cli(gateway, &["org", "export", &id]);
        assert!(exported.status.success(), "{}", told(&exported));
        let lines = String::from_utf8(exported.stdout).unwrap();
        assert!(!lines.contains(NAME) && lines.contains("\"usage\"") && lines.contains("org.erased"), "{lines}");
        assert!(lines.contains("\"erased\":[\"/actor/address\""), "{lines}");
        for kind in ["key", "token", "webhook", "request"] {
            assert!(!lines.contains(&format!("{{\"kind\":\"{kind}\"")), "{kind}: {lines}");
        }
        let others = told(&cli(gateway, &["org", "export", "other"]));
        assert!(others.contains("other ltd") && others.contains("other key") && others.contains("other.example"));
        let listed = told(&cli(gateway, &["audit", "list", "--limit", "500", "--json"]));
        assert!(!listed.contains(NAME) && listed.contains("other key"), "{listed}");
    };
    check(&gateway);
    let gateway = gateway.restart();
    assert_eq!(gateway.get("/v1/connect/other-room").key(&other_key).send().status, 200);
    until("the request shows", || requests(&gateway, &other) == 2);
    assert_eq!(files_with_the_name(&gateway.directory().join("data")), Vec::<std::path::PathBuf>::new());
    assert!(gateway.directory().join("data/store").exists() && !gateway.directory().join("data/rewrite").exists());
    // Again is the same answer; and the name is free.
    let again = cli(&gateway, &["org", "erase", &id]);
    assert!(told(&again).contains("1 keys, 1 tokens, 1 webhooks"), "{}", told(&again));
    tell(&gateway, "/v1/orgs", &json!({ "slug": NAME }));
}

#[test]
fn only_whoever_runs_the_gateway_erases_and_says_twice_what_is_meant() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let (id, key, token) = filled(&gateway, "acme");
    let (other, ..) = filled(&gateway, "other");
    let ask = |token: Option<&str>, org: &str, body: &Value| {
        let path = format!("/v1/orgs/{org}/erase");
        let asked = match token {
            Some(token) => request(gateway.admin, "POST", &path).key(token),
            None => gateway.admin("POST", &path),
        };
        asked.field("content-type", "application/json").body(body.to_string()).send()
    };
    let mut tokens = vec![token];
    for role in ["member", "auditor"] {
        tokens
            .push(text(&tell(&gateway, "/v1/tokens", &json!({ "name": "t", "role": role, "org": "acme" }))["secret"]));
    }
    for token in &tokens {
        for org in [&id, &other] {
            let refused = ask(Some(token), org, &json!({ "confirm": org }));
            assert_eq!((refused.status, refused.error()), (403, "insufficient_role".to_owned()));
        }
    }
    for (org, body, status) in [
        (id.as_str(), json!({}), 422),
        (&id, json!({ "confirm": "acme" }), 422),
        (&id, json!({ "confirm": other }), 422),
        (&id, json!({ "confirm": id, "force": true }), 422),
        (&id, json!({ "confirm": null }), 422),
        ("nobody", json!({ "confirm": id }), 404),
    ] {
        assert_eq!(ask(None, org, &body).status, status, "{org} {body}");
    }
    let default = gateway.admin("GET", "/v1/orgs/default").send().json();
    let refused = ask(None, "default", &json!({ "confirm": default["id"] }));
    assert_eq!((refused.status, refused.error()), (409, "org_default".to_owned()));
    // The command asks, and nobody is there.
    let unsaid = cli(&gateway, &["org", "erase", "acme"]);
    assert_eq!((unsaid.status.code(), told(&unsaid).contains("--yes")), (Some(2), true), "{}", told(&unsaid));
    assert_eq!(gateway.get("/v1/connect/x").key(&key).send().status, 200, "nothing happened");
    let erased = ask(None, "acme", &json!({ "confirm": id }));
    assert_eq!((erased.status, &erased.json()["status"]), (200, &json!("erased")));
}

fn admin(stand: &Stand, serving: &Serving, method: &str, path: &str, body: &Value) -> Value {
    let token = std::fs::read_to_string(stand.path().join("data/admin-token")).unwrap();
    let asked = request(serving.admin, method, path).key(token.trim()).field("content-type", "application/json");
    asked.body(body.to_string()).send().json()
}

#[test]
fn whoever_is_killed_in_the_middle_goes_on_with_it() {
    let stand = Stand::with(DEFAULT);
    let mut serving = stand.serve();
    let mut in_the_middle = 0;
    for round in 0.. {
        if in_the_middle == 3 {
            break;
        }
        assert!(round < 40, "it was always done, or had not begun");
        let mut keys = Vec::new();
        let slug = format!("{NAME}-{round}");
        let org = text(&admin(&stand, &serving, "POST", "/v1/orgs", &json!({ "slug": slug }))["id"]);
        for number in 0..20 {
            let order = json!({ "name": format!("{slug} {number}"), "org": slug, "scopes": ["connect"] });
            keys.push(text(&admin(&stand, &serving, "POST", "/v1/keys", &order)["secret"]));
        }
        let token = std::fs::read_to_string(stand.path().join("data/admin-token")).unwrap();
        let (to, path, body) = (serving.admin, format!("/v1/orgs/{org}/erase"), json!({ "confirm": org }).to_string());
        // Nobody hears the answer.
        let asked = std::thread::spawn(move || {
            let asked = request(to, "POST", &path).key(token.trim()).field("content-type", "application/json");
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| asked.body(body).send()));
        });
        let status = |serving: &Serving| {
            text(&admin(&stand, serving, "GET", &format!("/v1/orgs/{org}"), &Value::Null)["status"])
        };
        until("it has begun", || status(&serving) != "active");
        drop(serving);
        asked.join().unwrap();
        serving = stand.serve();
        for key in &keys {
            assert_eq!(request(serving.public, "GET", "/v1/connect/x").key(key).send().status, 401);
        }
        until("it is erased", || status(&serving) == "erased");
        in_the_middle += u32::from(stand.log().contains("goes on with erasing an org"));
        let verdict = admin(&stand, &serving, "GET", "/v1/audit/verify", &Value::Null);
        assert_eq!(verdict["whole"], true, "{verdict}");
    }
    assert_eq!(serving.terminate(), Some(0));
    let serving = stand.serve();
    assert_eq!(files_with_the_name(&stand.path().join("data")), Vec::<std::path::PathBuf>::new());
    assert_eq!(serving.terminate(), Some(0));
}
