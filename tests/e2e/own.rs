//! The gateway's own API: through the same policies as any pillar, and never anything of another org.

use crate::harness::{Answer, DEFAULT, Gateway, Origin, until};
use serde_json::{Value, json};

const MANAGING: [&str; 4] = ["connect", "keys:read", "keys:write", "usage:read"];

fn gateway(more: &str) -> (Origin, Gateway) {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, &format!("{DEFAULT}\n[pillars.identity]\n[pillars.pay]\n{more}"));
    (origin, gateway)
}

fn order(gateway: &Gateway, key: &str, body: &Value) -> Answer {
    tell(gateway, key, "POST", "/v1/keys", body)
}

fn tell(gateway: &Gateway, key: &str, method: &str, path: &str, body: &Value) -> Answer {
    let call = gateway.call(method, path).key(key).field("content-type", "application/json");
    call.body(body.to_string()).send()
}

/// The pointers of all that is wrong.
fn places(answer: &Answer) -> Vec<String> {
    assert_eq!((answer.status, answer.error().as_str()), (422, "invalid_request"));
    told(answer)
}

/// The pointers of all that a key does not have itself.
fn beyond(answer: &Answer) -> Vec<String> {
    assert_eq!((answer.status, answer.error().as_str()), (403, "beyond_own_bounds"));
    told(answer)
}

fn told(answer: &Answer) -> Vec<String> {
    let errors = answer.json()["errors"].as_array().expect("errors").clone();
    let place = |fault: &Value| fault["pointer"].as_str().or(fault["parameter"].as_str()).expect("a place").to_owned();
    errors.iter().map(place).collect()
}

#[test]
fn whoever_has_a_key_is_told_who_it_is() {
    let (_origin, gateway) = gateway("");
    let (id, key) = gateway.issue(json!({ "name": "me", "mode": "sandbox", "scopes": ["connect"] }));
    for path in ["/v1/me", "/v1/identity/me"] {
        let me = gateway.get(path).key(&key).send();
        assert_eq!(me.status, 200, "{}", me.text());
        assert!(me.field("ratelimit").is_some(), "it takes from the limits: {me:?}");
        assert_eq!(me.field("cache-control"), Some("no-store"));
        let me = me.json();
        assert_eq!((&me["key_id"], &me["name"], &me["mode"]), (&json!(id), &json!("me"), &json!("sandbox")));
        assert_eq!((&me["scopes"], &me["org"]["slug"]), (&json!(["connect"]), &json!("default")));
        assert_eq!((&me["quota"]["limit"], &me["balance"]), (&Value::Null, &Value::Null));
    }
    assert_eq!(gateway.call("HEAD", "/v1/me").key(&key).send().status, 200);
    assert_eq!(gateway.get("/v1/identity/others").key(&key).send().error(), "insufficient_scope");
}

#[test]
fn the_same_policies_and_the_same_guard_stand_before_it() {
    for chain in ["", "[api]\nchain = []\n"] {
        let (_origin, gateway) = gateway(chain);
        let plain = gateway.key(&["connect"]);
        for (path, with_key) in [("/v1/me", None), ("/v1/keys", Some("keys:read")), ("/v1/usage", Some("usage:read"))] {
            assert_eq!(gateway.get(path).send().error(), "missing_authorization", "{path}");
            assert_eq!(gateway.get(path).key("nonsense").send().error(), "invalid_token_shape", "{path}");
            let answer = gateway.get(path).key(&plain).send();
            match with_key {
                None => assert_eq!(answer.status, 200),
                Some(scope) => {
                    assert_eq!((answer.status, answer.error().as_str()), (403, "insufficient_scope"), "{path}");
                    assert!(answer.field("www-authenticate").is_some_and(|field| field.contains(scope)), "{answer:?}");
                }
            }
        }
        assert_eq!(gateway.get("/openapi.json").send().status, 200, "no key is needed");
        assert_eq!(gateway.get("/v1/health").send().status, 200);
    }
}

#[test]
fn limits_hold_for_it_as_for_any_pillar() {
    let origin = Origin::echo();
    let tight = DEFAULT.replace("quota = 100000, per = \"1s\"", "quota = 2, per = \"1h\"");
    let gateway = Gateway::with(&origin, &tight);
    let key = gateway.key(&["connect"]);
    let statuses = [(); 4].map(|()| gateway.get("/v1/me").key(&key).send().status);
    assert_eq!(statuses, [200, 200, 429, 429]);
    assert_eq!(gateway.get("/v1/connect/x").key(&key).send().status, 200, "by pillar, as the policy says");
}

#[test]
fn other_paths_and_methods_are_told() {
    let (_origin, gateway) = gateway("");
    let key = gateway.key(&MANAGING);
    for path in ["/v1", "/v1/meow", "/v1/prices", "/v1/me%20"] {
        assert_eq!(gateway.get(path).send().error(), "not_found", "{path}");
    }
    for path in ["/v1/me/", "/v1/me/more", "/v1/keys/a/b", "/v1/usage/never"] {
        assert_eq!(gateway.get(path).send().error(), "missing_authorization", "{path}");
        assert_eq!(gateway.get(path).key(&key).send().error(), "not_found", "{path}");
    }
    for (method, path, allow) in [
        ("POST", "/v1/me", "GET,HEAD"),
        ("PUT", "/v1/keys", "GET,HEAD,POST"),
        ("PATCH", "/v1/keys/key_00000000000000000000000000", "DELETE,GET,HEAD"),
        ("OPTIONS", "/v1/usage", "GET,HEAD"),
        ("DELETE", "/openapi.json", "GET,HEAD"),
    ] {
        let answer = gateway.call(method, path).key(&key).send();
        assert_eq!((answer.status, answer.error().as_str()), (405, "method_not_allowed"), "{method} {path}");
        let mut told: Vec<_> = answer.field("allow").expect("Allow").split(',').map(str::trim).collect();
        told.sort_unstable();
        assert_eq!(told.join(","), allow, "{method} {path}");
    }
    assert_eq!(gateway.call("QUERY", "/openapi.json").send().status, 405, "no key is needed to be told");
    assert_eq!(gateway.call("TRACE", "/v1/me").key(&key).send().status, 405);
}

#[test]
fn a_key_makes_shows_and_revokes_keys_of_its_org() {
    let (_origin, gateway) = gateway("");
    let key = gateway.key(&MANAGING);
    let made = order(&gateway, &key, &json!({"name": "ci", "scopes": ["connect"]}));
    assert_eq!(made.status, 201, "{}", made.text());
    let (document, secret) = (made.json(), made.json()["secret"].as_str().expect("a secret").to_owned());
    let place = made.field("location").expect("where it is").to_owned();
    assert_eq!(place, format!("/v1/keys/{}", document["id"].as_str().expect("an id")));
    until("it works", || gateway.get("/v1/connect/x").key(&secret).send().status == 200);
    let shown = gateway.get(&place).key(&key).send();
    assert!(!shown.text().contains(&secret) && shown.json().get("secret").is_none());
    // The operator sees the same.
    assert_eq!(gateway.admin("GET", &place).send().json(), shown.json());
    let listed = gateway.get("/v1/keys?limit=1").key(&key).send().json();
    assert_eq!(listed["keys"].as_array().map(Vec::len), Some(1), "{listed}");
    let cursor = listed["next_cursor"].as_str().expect("there are more");
    let rest = gateway.get(&format!("/v1/keys?cursor={cursor}")).key(&key).send().json();
    assert_eq!((&rest["keys"][0]["id"], &rest["next_cursor"]), (&document["id"], &Value::Null));
    assert_eq!(gateway.call("DELETE", &place).key(&secret).send().error(), "insufficient_scope");
    for _ in 0..2 {
        let gone = gateway.call("DELETE", &place).key(&key).send();
        assert_eq!((gone.status, &gone.json()["status"]), (200, &json!("revoked")));
    }
    assert_eq!(gateway.get("/v1/me").key(&secret).send().error(), "key_revoked");
    for id in ["key_00000000000000000000000000", "nonsense", "req_00000000000000000000000000"] {
        for method in ["GET", "DELETE"] {
            let answer = gateway.call(method, &format!("/v1/keys/{id}")).key(&key).send();
            assert_eq!((answer.status, answer.error().as_str()), (404, "not_found"), "{method} {id}");
        }
    }
}

#[test]
fn a_key_changes_itself_and_what_is_within_it_and_the_log_says_which_key_did() {
    let (_origin, gateway) = gateway("");
    let (id, key) = gateway.issue(json!({ "name": "manages", "scopes": MANAGING }));
    let made = order(&gateway, &key, &json!({"name": "ci", "scopes": ["connect", "usage:read"]})).json();
    let text = |document: &Value, member: &str| document[member].as_str().expect(member).to_owned();
    let (ci, old) = (text(&made, "id"), text(&made, "secret"));
    let place = format!("/v1/keys/{ci}");
    let rotate = |body: &Value| tell(&gateway, &key, "POST", &format!("{place}/rotate"), body);
    let status = |secret: &str| gateway.get("/v1/connect/x").key(secret).send().status;

    let rotated = gateway.call("POST", &format!("{place}/rotate")).key(&key).send();
    assert_eq!(rotated.status, 200, "no body is needed: {}", rotated.text());
    let young = text(&rotated.json(), "secret");
    assert_eq!(rotated.json()["previous_secret"]["last_four"], old[old.len() - 4..]);
    assert_eq!((status(&old), status(&young)), (200, 200));
    let again = rotate(&json!({"overlap": 0}));
    assert_eq!((again.status, again.error().as_str()), (409, "rotation_in_progress"));
    assert_eq!(again.json()["until"], rotated.json()["previous_secret"]["ends_at"]);
    assert_eq!(places(&rotate(&json!({"overlap": -1, "force": "yes", "x": 1}))), ["/x", "/overlap", "/force"]);
    let last = text(&rotate(&json!({"overlap": 0, "force": true})).json(), "secret");
    assert_eq!((status(&old), status(&young), status(&last)), (401, 401, 200));

    let scope = |of: &str, body: &Value| tell(&gateway, &key, "PATCH", &format!("/v1/keys/{of}/scope"), body);
    assert_eq!(scope(&ci, &json!({"scopes": ["connect"]})).json()["scopes"], json!(["connect"]));
    assert_eq!(beyond(&scope(&ci, &json!({"scopes": ["connect", "pay"]}))), ["/scopes/1"]);
    assert_eq!(places(&scope(&ci, &json!({"scopes": ["konnect"]}))), ["/scopes/0"]);
    let (mighty, _) = gateway.issue(json!({ "name": "mighty", "scopes": ["connect", "pay"] }));
    for (method, path) in [("DELETE", ""), ("POST", "/rotate")] {
        let answer = gateway.call(method, &format!("/v1/keys/{mighty}{path}")).key(&key).send();
        assert_eq!((answer.status, answer.error().as_str()), (403, "beyond_own_bounds"), "{method}");
    }
    assert_eq!(scope(&id, &json!({"scopes": ["connect"]})).status, 200, "it narrows itself");
    assert_eq!(scope(&id, &json!({"scopes": ["connect"]})).error(), "insufficient_scope");

    let log = gateway.admin("GET", &format!("/v1/audit?object={ci}")).send().json();
    let entries = log["entries"].as_array().expect("entries");
    let actions: Vec<_> = entries.iter().map(|entry| entry["action"].as_str().unwrap_or_default()).collect();
    assert_eq!(actions, ["key.scoped", "key.rotated", "key.rotated", "key.issued"]);
    for entry in entries {
        let actor = &entry["actor"];
        assert_eq!((&actor["kind"], &actor["id"], &actor["address"]), (&json!("key"), &json!(id), &json!("127.0.0.1")));
    }
    assert_eq!(gateway.admin("GET", "/v1/audit/verify").send().json()["whole"], true);
}

/// A secret that others saw is no key to the key, once it was rotated away.
#[test]
fn the_secret_before_the_present_one_calls_and_manages_no_keys() {
    let (_origin, gateway) = gateway("");
    let (id, old) = gateway.issue(json!({ "name": "manages", "scopes": MANAGING }));
    let other = order(&gateway, &old, &json!({"name": "ci", "scopes": ["connect"]})).json()["id"].clone();
    let other = other.as_str().expect("an id");
    let rotated = gateway.call("POST", &format!("/v1/keys/{id}/rotate")).key(&old).send().json();
    let young = rotated["secret"].as_str().expect("a secret");
    for (method, path, body) in [
        ("POST", format!("/v1/keys/{id}/rotate"), json!({"force": true, "overlap": 0})),
        ("POST", format!("/v1/keys/{other}/rotate"), json!({})),
        ("PATCH", format!("/v1/keys/{id}/scope"), json!({"scopes": ["connect"]})),
        ("POST", "/v1/keys".to_owned(), json!({"name": "more", "all_scopes": true})),
        ("DELETE", format!("/v1/keys/{other}"), json!({})),
    ] {
        let answer = tell(&gateway, &old, method, &path, &body);
        assert_eq!((answer.status, answer.error().as_str()), (403, "secret_replaced"), "{method} {path}");
    }
    assert_eq!(gateway.get("/v1/connect/x").key(&old).send().status, 200);
    assert_eq!(gateway.get("/v1/keys").key(&old).send().status, 200);
    assert_eq!(order(&gateway, young, &json!({"name": "more", "scopes": ["connect"]})).status, 201);
    assert_eq!(gateway.call("DELETE", &format!("/v1/keys/{id}")).key(&old).send().status, 200, "it ends itself");
    assert_eq!(gateway.get("/v1/me").key(young).send().error(), "key_revoked");
}

#[test]
fn a_key_makes_only_keys_within_itself() {
    let (_origin, gateway) = gateway("");
    let soon = portico::clock::Clock::system().now().plus(std::time::Duration::from_secs(3600));
    let (_, bound) = gateway.issue(json!({
        "name": "bound", "mode": "live", "scopes": MANAGING, "networks": ["127.0.0.0/8"], "expires_at": soon.to_string(),
    }));
    let later = soon.plus(std::time::Duration::from_secs(1));
    let beyond = json!({
        "name": "x", "mode": "sandbox", "scopes": ["connect", "pay"], "networks": ["127.0.0.1", "10.0.0.0/8"],
        "expires_at": later.to_string(),
    });
    assert_eq!(self::beyond(&order(&gateway, &bound, &beyond)), ["/mode", "/scopes/1", "/expires_at", "/networks/1"]);
    let within = order(&gateway, &bound, &json!({"name": "x", "all_scopes": true}));
    assert_eq!(within.status, 201, "{}", within.text());
    let made = within.json();
    assert_eq!((&made["scopes"], &made["networks"]), (&json!(MANAGING), &json!(["127.0.0.0/8"])));
    assert_eq!(made["expires_at"], soon.to_string());
    // A sandbox key has nothing to do with live ones.
    let (live, _) = gateway.issue(json!({ "name": "l", "mode": "live", "scopes": ["connect"] }));
    let sandbox = gateway.issue(json!({ "name": "s", "mode": "sandbox", "scopes": MANAGING })).1;
    assert_eq!(gateway.call("DELETE", &format!("/v1/keys/{live}")).key(&sandbox).send().error(), "not_found");
    let seen = gateway.get("/v1/keys").key(&sandbox).send().json();
    assert!(seen["keys"].as_array().expect("keys").iter().all(|key| key["mode"] == "sandbox"), "{seen}");
    assert_eq!(order(&gateway, &sandbox, &json!({"name": "t", "scopes": ["connect"]})).json()["mode"], "sandbox");
}

#[test]
fn every_mistake_in_a_body_is_told_at_once() {
    let (_origin, gateway) = gateway("");
    let key = gateway.key(&MANAGING);
    let wrong = json!({
        "name": "", "mode": "real", "scopes": ["connct", 7], "expires_at": "2001-01-01T00:00:00Z", "networks": ["here"],
        "org": "nobody", "colour": "red",
    });
    let mut told = places(&order(&gateway, &key, &wrong));
    told.sort_unstable();
    assert_eq!(told, ["/colour", "/expires_at", "/mode", "/name", "/networks/0", "/org", "/scopes/0", "/scopes/1"]);
    for (field, bad) in [
        ("name", json!(null)),
        ("name", json!(7)),
        ("name", json!("x".repeat(101))),
        ("mode", json!(1)),
        ("scopes", json!(null)),
        ("scopes", json!([])),
        ("scopes", json!("connect")),
        ("all_scopes", json!("yes")),
        ("expires_at", json!(0)),
        ("expires_at", json!("tomorrow")),
        ("networks", json!([])),
        ("networks", json!({})),
        ("networks", json!(["10.0.0.1/8"])),
        ("networks", json!(vec!["10.0.0.1"; 33])),
    ] {
        let mut body = json!({"name": "x", "scopes": ["connect"]});
        body[field] = bad;
        let told = places(&order(&gateway, &key, &body));
        assert!(told.iter().all(|place| place.starts_with(&format!("/{field}"))), "{body}: {told:?}");
    }
    let send = |kind: &str, body: &[u8]| {
        gateway.call("POST", "/v1/keys").key(&key).field("content-type", kind).body(body).send()
    };
    assert_eq!(send("text/plain", b"{}").error(), "unsupported_media_type");
    assert_eq!(send("application/json", b"{").error(), "malformed_json");
    assert_eq!(send("application/json", b"\xff").error(), "malformed_json");
    assert_eq!(places(&send("application/json", b"[]")), [""]);
    let large = send("application/json", &vec![b' '; (64 << 10) + 1]);
    assert_eq!((large.status, large.error().as_str()), (413, "request_body_too_large"));
    for query in ["?limit=0", "?limit=201", "?limit=x", "?cursor=x", "?who=me", "?org=nobody"] {
        assert_eq!(gateway.get(&format!("/v1/keys{query}")).key(&key).send().status, 422, "{query}");
    }
}

#[test]
fn usage_is_told_by_month_and_own_calls_cost_nothing() {
    let (_origin, gateway) = gateway("");
    let key = gateway.key(&MANAGING);
    assert_eq!(gateway.get("/v1/connect/x").key(&key).send().status, 200);
    let usage = || gateway.get("/v1/usage").key(&key).send().json();
    until("the call is counted", || usage()["by_pillar"]["connect"]["calls"] == 1);
    until("so are its own", || usage()["by_pillar"]["portico"]["calls"].as_u64() > Some(1));
    let usage = usage();
    assert_eq!(
        (&usage["by_pillar"]["connect"]["gas"], &usage["by_pillar"]["connect"]["cost"]),
        (&json!("1"), &json!("0.01"))
    );
    assert_eq!((&usage["by_pillar"]["portico"]["gas"], &usage["currency"]), (&json!("0"), &json!("USD")));
    let period = usage["period"].as_str().expect("a month").to_owned();
    let other = gateway.get("/v1/usage?month=2001-02").key(&key).send().json();
    assert_eq!((&other["period"], &other["total"]["calls"]), (&json!("2001-02"), &json!(0)));
    for query in ["?month=2026", "?month=", "?year=2026"] {
        assert_eq!(gateway.get(&format!("/v1/usage{query}")).key(&key).send().status, 422, "{query}");
    }
    let history = gateway.get("/v1/usage/history").key(&key).send().json();
    let months = history["months"].as_array().expect("months");
    assert_eq!((months.len(), &months[0]["period"]), (12, &json!(period)));
    assert!(months[0]["total"]["calls"].as_u64() > Some(1), "{history}");
    assert!(gateway.get("/v1/me").key(&key).send().json()["quota"]["calls_this_month"].as_u64() > Some(1));
}

/// What a verdict can cause elsewhere, it cannot cause here: there is no way out, and none to another rule.
#[test]
fn no_policy_leads_past_the_rules() {
    let (origin, other) = (Origin::echo(), Origin::echo());
    let config = json!({
        "plan": { "targets": ["other"] },
        "by_field": {
            "forward": { "forward": 0, "path": "/v1/keys" },
            "path": { "path": "/v1/keys" },
            "mark": { "response_edits": [{ "set": [0, "seen"] }] },
            "deny": { "deny": { "status": 418, "code": "teapot", "message": "Short and stout." } },
            "identify": { "identity": { "org": "org_x", "subject": "user-7", "mode": "live", "scopes": ["keys:read"] } },
        },
    });
    let powers = ["deny", "forward", "rewrite-path", "identify"];
    let descriptor = json!({ "powers": powers, "reads": ["x-case"], "response_writes": ["x-mark"] });
    let more = format!(
        "grant.scopes = [\"keys:read\"]\n[upstreams.other]\nendpoints = [\"http://{}\"]\n[api]\nchain = [\"lizard\"]\n",
        other.address
    );
    let gateway = crate::powers::chameleon(&origin, descriptor, &config, &powers, &more);
    let key = gateway.key(&["connect"]);
    let ask = |path: &str, case: &str| gateway.get(path).key(&key).field("x-case", case).send();
    for case in ["none", "forward", "path"] {
        let me = ask("/v1/me", case);
        assert_eq!((me.status, &me.json()["name"]), (200, &json!("test")), "{case}: {}", me.text());
    }
    assert_eq!((origin.requests(), other.requests()), (0, 0), "nothing of it reaches an upstream");
    let marked = ask("/v1/me", "mark");
    assert_eq!((marked.status, marked.field("x-mark")), (200, Some("seen")));
    assert_eq!(ask("/v1/keys", "none").error(), "insufficient_scope");
    assert_eq!(ask("/v1/me", "deny").error(), "teapot");
    let vouched = |path: &str| gateway.get(path).field("x-case", "identify").send();
    let me = vouched("/v1/me").json();
    assert_eq!((&me["key_id"], &me["name"], &me["quota"]), (&Value::Null, &json!("user-7"), &Value::Null), "{me}");
    assert_eq!(vouched("/v1/keys").error(), "key_needed", "what belongs to an org needs a key of it");
    assert_eq!(vouched("/v1/usage").error(), "insufficient_scope");
}

#[test]
fn the_document_is_the_same_until_something_changes() {
    let (_origin, gateway) = gateway("");
    for (path, media) in [("/openapi.json", "application/json"), ("/openapi.yaml", "application/yaml")] {
        let first = gateway.get(path).send();
        assert_eq!((first.status, first.field("content-type")), (200, Some(media)));
        let etag = first.field("etag").expect("a digest").to_owned();
        for known in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
            let again = gateway.get(path).field("if-none-match", &known).send();
            assert_eq!((again.status, again.body.len(), again.field("etag")), (304, 0, Some(&*etag)), "{known}");
        }
        assert_eq!(gateway.get(path).field("if-none-match", "\"x\"").send().status, 200);
        let head = gateway.call("HEAD", path).send();
        assert_eq!((head.status, head.body.len()), (200, 0));
    }
    let document = gateway.get("/openapi.json").send().json();
    assert_eq!(document["openapi"].as_str().map(|version| &version[..4]), Some("3.1."));
}

/// Both ways: what is documented answers, and what is not does not.
#[test]
fn every_documented_operation_answers_and_no_other() {
    let (_origin, gateway) = gateway("");
    let key = gateway.key(&MANAGING);
    let document = gateway.get("/openapi.json").send().json();
    let paths = document["paths"].as_object().expect("paths");
    assert!(paths.len() > 10, "{paths:?}");
    for (path, item) in paths {
        let target = path.replace("{id}", "key_00000000000000000000000000");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let answer = gateway.call(method, &target).key(&key).send();
            let documented = &item[method.to_ascii_lowercase()];
            assert_eq!(answer.status == 405, documented.is_null(), "{method} {path}: {answer:?}");
            if let Some(responses) = documented["responses"].as_object() {
                assert!(responses.contains_key(&answer.status.to_string()), "{method} {path}: {answer:?}");
            }
            assert!(answer.field("x-request-id").is_some_and(|id| id.starts_with("req_")));
        }
    }
}
