//! All that is kept of one org, and nothing of another.

use crate::harness::{DEFAULT, Gateway, Origin, until};
use crate::program::{output, told};
use serde_json::{Value, json};

fn tell(gateway: &Gateway, path: &str, body: &Value) -> Value {
    let answer = gateway.admin("POST", path).field("content-type", "application/json").body(body.to_string()).send();
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// The command, with the super-admin's token or another one.
fn export(gateway: &Gateway, org: &str, token: Option<&str>) -> std::process::Output {
    let directory = gateway.directory();
    let file = match token {
        Some(token) => {
            std::fs::write(directory.join("token"), token).unwrap();
            "token"
        }
        None => "data/admin-token",
    };
    let admin = gateway.admin.to_string();
    output(directory, &["org", "export", org, "--admin", &admin, "--token-file", file])
}

#[test]
fn an_export_has_all_of_an_org_without_secrets_and_nothing_of_others() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let mut secrets = Vec::new();
    let mut keys = Vec::new();
    for slug in ["acme", "other"] {
        tell(&gateway, "/v1/orgs", &json!({ "slug": slug, "name": format!("{slug} Ltd") }));
        for number in 0..3 {
            let key = tell(
                &gateway,
                "/v1/keys",
                &json!({ "name": format!("{slug} {number}"), "org": slug, "scopes": ["connect"] }),
            );
            secrets.push(text(&key["secret"]));
            keys.push((slug, text(&key["id"])));
        }
        let token = json!({ "name": format!("{slug} admin"), "role": "org-admin", "org": slug });
        secrets.push(text(&tell(&gateway, "/v1/tokens", &token)["secret"]));
        let hook = json!({ "url": format!("https://{slug}.example/hook"), "events": ["key.revoked"], "org": slug });
        secrets.push(text(&tell(&gateway, "/v1/webhooks", &hook)["secret"]));
    }
    let path = |number: usize| format!("/v1/connect/rooms-{number}");
    // The keys of both orgs, and their tokens at 3 and 8.
    for (number, secret) in [0, 1, 2, 5, 6].into_iter().enumerate() {
        assert_eq!(gateway.get(&path(number)).key(&secrets[secret]).send().status, 200);
    }
    let lines = || -> Vec<Value> {
        let exported = export(&gateway, "acme", None);
        assert!(exported.status.success(), "{}", told(&exported));
        let text = String::from_utf8(exported.stdout).unwrap();
        assert!(secrets.iter().all(|secret| !text.contains(secret.as_str())));
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let of = |lines: &[Value], kind: &str| -> Vec<Value> {
        lines.iter().filter(|line| line["kind"] == kind).cloned().collect()
    };
    until("usage and requests show", || {
        let lines = lines();
        of(&lines, "request").len() == 3 && of(&lines, "usage").first().is_some_and(|it| it["total"]["calls"] == 3)
    });
    let lines = lines();
    assert_eq!(
        (&lines[0]["kind"], &lines[0]["slug"], &lines[0]["name"]),
        (&json!("org"), &json!("acme"), &json!("acme Ltd"))
    );
    let last = lines.last().unwrap();
    assert_eq!((last["kind"].as_str(), last["lines"].as_u64()), (Some("end"), Some(lines.len() as u64 - 1)));
    let ids: Vec<String> = of(&lines, "key").iter().map(|key| text(&key["id"])).collect();
    let expected: Vec<String> = keys.iter().filter(|(org, _)| *org == "acme").map(|(_, id)| id.clone()).collect();
    assert_eq!(ids, expected);
    assert_eq!((of(&lines, "token").len(), of(&lines, "webhook").len()), (1, 1));
    assert_eq!(of(&lines, "webhook")[0]["url"], "https://acme.example/hook");
    let mut paths: Vec<String> = of(&lines, "request").iter().map(|request| text(&request["path"])).collect();
    paths.sort_unstable();
    assert_eq!(paths, [path(0), path(1), path(2)]);
    let actions: Vec<String> = of(&lines, "audit").iter().map(|entry| text(&entry["action"])).collect();
    assert_eq!(actions[0], "org.exported", "newest first");
    for action in ["org.created", "key.issued", "token.issued", "webhook.created"] {
        assert!(actions.iter().any(|it| it == action), "{action}: {actions:?}");
    }
    let all = lines.iter().map(Value::to_string).collect::<String>();
    assert!(!all.contains("other Ltd") && !all.contains("other.example"));
}

#[test]
fn an_export_is_for_those_who_may_read_all_of_it() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    for slug in ["acme", "other"] {
        tell(&gateway, "/v1/orgs", &json!({ "slug": slug }));
    }
    let token = |role: &str| {
        text(&tell(&gateway, "/v1/tokens", &json!({ "name": role, "role": role, "org": "acme" }))["secret"])
    };
    let (admin, auditor, member) = (token("org-admin"), token("auditor"), token("member"));
    for allowed in [&admin, &auditor] {
        let exported = export(&gateway, "acme", Some(allowed));
        assert!(exported.status.success(), "{}", told(&exported));
        // Another org's is not there.
        let refused = export(&gateway, "other", Some(allowed));
        assert_eq!((refused.status.code(), refused.stdout.len()), (Some(1), 0));
        assert!(told(&refused).contains("(not_found, req_"), "{}", told(&refused));
    }
    let refused = export(&gateway, "acme", Some(&member));
    assert!(told(&refused).contains("(insufficient_role, req_"), "{}", told(&refused));
    let unknown = export(&gateway, "nobody", None);
    assert!(told(&unknown).contains("(not_found, req_"), "{}", told(&unknown));
}
