//! What happens to keys after they were issued, over HTTP: rotation, scopes, import, peppers; and what is noted of it.

use super::*;

fn place(key: &Value) -> String {
    format!("/v1/keys/{}", key["id"].as_str().unwrap())
}

fn secret(key: &Value) -> &str {
    key["secret"].as_str().unwrap()
}

fn pointers(answer: &Answer) -> Vec<String> {
    let faults = answer.body["errors"].as_array().unwrap();
    faults.iter().map(|fault| fault["pointer"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_rotated_key_has_two_secrets_for_a_while() {
    let api = Running::start().await;
    let old = api.issue(json!({"name": "demo", "scopes": ["pay"]})).await;
    let rotate = format!("{}/rotate", place(&old));
    let young = api.admin("POST", &rotate, Some(json!({"overlap": 60}))).await;
    assert_eq!((young.status.as_u16(), &young.body["id"]), (200, &old["id"]));
    assert_eq!(young.body["previous_secret"]["ends_at"], "2026-11-22T00:01:00.000Z");
    assert!(api.resolve(secret(&old)).valid().is_some() && api.resolve(secret(&young.body)).valid().is_some());
    let again = api.admin("POST", &rotate, None).await;
    assert_eq!((again.status.as_u16(), again.code()), (409, "rotation_in_progress"));
    assert_eq!(again.body["until"], "2026-11-22T00:01:00.000Z");
    let forced = api.admin("POST", &rotate, Some(json!({"force": true, "overlap": 0}))).await;
    assert_eq!((forced.status.as_u16(), &forced.body["previous_secret"]), (200, &Value::Null));
    assert!(api.resolve(secret(&old)).valid().is_none() && api.resolve(secret(&young.body)).valid().is_none());
    assert!(api.resolve(secret(&forced.body)).valid().is_some());
    let default = api.admin("POST", &rotate, None).await.body;
    assert_eq!(default["previous_secret"]["ends_at"], "2026-11-23T00:00:00.000Z");
    api.admin("DELETE", &place(&old), None).await;
    for (method, path, body) in
        [("POST", &rotate, None), ("PATCH", &format!("{}/scope", place(&old)), Some(json!({"scopes": ["pay"]})))]
    {
        let answer = api.admin(method, path, body).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (409, "key_not_active"));
    }
}

#[tokio::test]
async fn a_body_about_a_key_that_makes_no_sense_changes_nothing() {
    let api = Running::start().await;
    let key = api.issue(json!({"name": "demo", "scopes": ["pay"]})).await;
    for (method, end, body, expected) in [
        ("POST", "rotate", json!({"overlap": -1, "force": "yes", "until": 1}), &["/until", "/overlap", "/force"][..]),
        ("POST", "rotate", json!({"overlap": 2_592_001}), &["/overlap"]),
        ("POST", "rotate", json!({"overlap": 1.5}), &["/overlap"]),
        ("POST", "rotate", json!({"overlap": "1h"}), &["/overlap"]),
        ("PATCH", "scope", json!({}), &["/scopes"]),
        ("PATCH", "scope", json!({"scopes": ["pya", 7], "name": "n"}), &["/name", "/scopes/1", "/scopes/0"]),
    ] {
        let answer = api.admin(method, &format!("{}/{end}", place(&key)), Some(body.clone())).await;
        assert_eq!(
            (answer.status.as_u16(), pointers(&answer)),
            (422, expected.iter().map(ToString::to_string).collect()),
            "{body}"
        );
    }
    assert!(api.resolve(secret(&key)).valid().unwrap().holds("pay"));
    let unknown = crate::id::KeyId::from_number(1);
    for (method, end) in [("POST", "rotate"), ("PATCH", "scope")] {
        let answer = api.admin(method, &format!("/v1/keys/{unknown}/{end}"), Some(json!({"scopes": ["pay"]}))).await;
        assert_eq!(answer.status, 404);
    }
}

#[tokio::test]
async fn another_set_of_scopes_holds_at_once() {
    let api = Running::start().await;
    let key = api.issue(json!({"name": "demo", "scopes": ["pay"]})).await;
    let held = api.resolve(secret(&key)).valid().unwrap().clone();
    let answer =
        api.admin("PATCH", &format!("{}/scope", place(&key)), Some(json!({"scopes": ["connect", "usage:read"]}))).await;
    assert_eq!(answer.body["scopes"], json!(["connect", "usage:read"]));
    assert!(held.holds("connect") && !held.holds("pay") && !held.holds("usage:read"));
}

fn old(number: usize) -> Value {
    json!({"secret": format!("sk_live_of_another_system_{number:08}"), "name": format!("old {number}"), "scopes": ["pay"]})
}

#[tokio::test]
async fn keys_of_another_system_come_in_all_or_none() {
    let api = Running::start().await;
    let first = api.admin("POST", "/v1/keys/import", Some(json!({"keys": [old(1), old(2)]}))).await;
    assert_eq!(first.status, 201, "{}", first.body);
    let text = first.body.to_string();
    assert!(!text.contains("of_another_system"), "{text}");
    assert_eq!(
        api.resolve("sk_live_of_another_system_00000001").valid().unwrap().id.to_string(),
        first.body["keys"][0]["id"].as_str().unwrap()
    );

    let mut wrong = old(5);
    wrong["scopes"] = json!(["pya"]);
    wrong["org"] = json!("nobody");
    let body = json!({"keys": [old(3), old(1), old(3), wrong, 7]});
    let refused = api.admin("POST", "/v1/keys/import", Some(body)).await;
    let expected = ["/keys/3/org", "/keys/3/scopes/0", "/keys/4", "/keys/1/secret", "/keys/2/secret"];
    assert_eq!((refused.status.as_u16(), pointers(&refused)), (422, expected.map(str::to_owned).to_vec()));
    assert!(!refused.body.to_string().contains("of_another_system"));
    assert!(api.resolve("sk_live_of_another_system_00000003").valid().is_none());

    let body = json!({"keys": [old(3), old(1)], "skip_duplicates": true, "dry_run": true});
    let tried = api.admin("POST", "/v1/keys/import", Some(body.clone())).await;
    assert_eq!(
        (tried.status.as_u16(), &tried.body["skipped"], &tried.body["importable"]),
        (200, &json!([1]), &json!(1))
    );
    let mut body = body;
    body["dry_run"] = json!(false);
    let done = api.admin("POST", "/v1/keys/import", Some(body)).await;
    assert_eq!((done.status.as_u16(), done.body["keys"].as_array().unwrap().len()), (201, 1));
    for body in
        [json!({}), json!({"keys": []}), json!({"keys": "x"}), json!({"keys": vec![7; 501]}), json!({"keys": [{}]})]
    {
        assert_eq!(api.admin("POST", "/v1/keys/import", Some(body)).await.status, 422);
    }
}

#[tokio::test]
async fn peppers_are_made_counted_and_retired() {
    let api = Running::start().await;
    let key = api.issue(json!({"name": "demo", "scopes": ["pay"]})).await;
    let shown =
        |one: u64, two: u64| json!({"peppers": [{"version": 2, "secrets": two}, {"version": 1, "secrets": one}]});
    let made = api.admin("POST", "/v1/peppers", None).await;
    assert_eq!((made.status.as_u16(), &made.body), (201, &shown(1, 0)));
    for (version, status, code) in
        [("1", 409, "pepper_in_use"), ("2", 409, "pepper_in_use"), ("3", 404, "not_found"), ("x", 404, "not_found")]
    {
        let answer = api.admin("DELETE", &format!("/v1/peppers/{version}"), None).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{version}");
    }
    assert!(api.resolve(secret(&key)).valid().is_some());
    api.issuer.save_moves().await.unwrap();
    assert_eq!(api.admin("GET", "/v1/peppers", None).await.body, shown(0, 1));
    let retired = api.admin("DELETE", "/v1/peppers/1", None).await;
    assert_eq!(retired.body, json!({"peppers": [{"version": 2, "secrets": 1}]}));
    assert!(api.resolve(secret(&key)).valid().is_some());
}

#[tokio::test]
async fn every_change_is_in_the_log_and_no_secret_is() {
    let api = Running::start().await;
    let key = api.issue(json!({"name": "demo", "scopes": ["pay"]})).await;
    let rotated = api.admin("POST", &format!("{}/rotate", place(&key)), None).await.body;
    api.admin("PATCH", &format!("{}/scope", place(&key)), Some(json!({"scopes": ["connect"]}))).await;
    api.admin("DELETE", &place(&key), None).await;
    api.admin("POST", "/v1/keys/import", Some(json!({"keys": [old(1)]}))).await;
    api.admin("POST", "/v1/orgs", Some(json!({"slug": "acme"}))).await;
    let token =
        api.admin("POST", "/v1/tokens", Some(json!({"name": "n", "role": "auditor", "org": "acme"}))).await.body;
    api.admin("POST", "/v1/peppers", None).await;
    let log = api.admin("GET", "/v1/audit?limit=200", None).await.body;
    let entries = log["entries"].as_array().unwrap();
    let actions: Vec<&str> = entries.iter().rev().map(|entry| entry["action"].as_str().unwrap()).collect();
    let expected = [
        "audit.begun",
        "org.created",
        "key.issued",
        "key.rotated",
        "key.scoped",
        "key.revoked",
        "key.imported",
        "org.created",
        "token.issued",
        "pepper.made",
        "pepper.made",
    ];
    assert_eq!(actions, expected);
    let scoped = &entries[entries.len() - 5];
    assert_eq!((&scoped["before"]["scopes"], &scoped["after"]["scopes"]), (&json!(["pay"]), &json!(["connect"])));
    assert_eq!((&scoped["actor"]["kind"], &scoped["actor"]["address"]), (&"super_admin".into(), &"127.0.0.1".into()));
    assert_eq!((&scoped["on"], &scoped["org"]), (&json!([key["id"]]), &key["org"]["id"]));
    for secret in [secret(&key), secret(&rotated), secret(&token), "of_another_system"] {
        assert!(!log.to_string().contains(&secret[8..17]), "{log}");
    }
    let verdict = api.admin("GET", "/v1/audit/verify", None).await.body;
    assert_eq!((&verdict["whole"], &verdict["head"]["sequence"]), (&true.into(), &11.into()));

    let of_keys = api
        .admin("GET", &format!("/v1/audit?action=key&object={}&limit=2", key["id"].as_str().unwrap()), None)
        .await
        .body;
    assert_eq!(of_keys["entries"].as_array().unwrap().len(), 2);
    let next = of_keys["next_cursor"].as_str().unwrap();
    let rest = api
        .admin("GET", &format!("/v1/audit?action=key&object={}&cursor={next}", key["id"].as_str().unwrap()), None)
        .await
        .body;
    assert_eq!((rest["entries"].as_array().unwrap().len(), &rest["next_cursor"]), (2, &Value::Null));
    let wrong = api.admin("GET", "/v1/audit?since=x&until=1&cursor=-1&limit=0&who=me", None).await;
    assert_eq!((wrong.status.as_u16(), wrong.body["errors"].as_array().unwrap().len()), (422, 5));
}

#[tokio::test]
async fn a_log_that_was_written_to_is_told_and_no_change_is_made_any_more() {
    let api = Running::start().await;
    let key = api.issue(json!({"name": "demo", "scopes": ["pay"]})).await;
    api.audit.spoil_end();
    let verdict = api.admin("GET", "/v1/audit/verify", None).await.body;
    assert_eq!(
        (&verdict["whole"], &verdict["broken_at"], &verdict["fault"]),
        (&false.into(), &3.into(), &"end".into())
    );
    let refused = api.admin("POST", "/v1/keys", Some(json!({"name": "n", "scopes": ["pay"]}))).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (503, "store_unavailable"));
    // What nobody may use any more is refused in memory all the same.
    assert_eq!(api.admin("DELETE", &place(&key), None).await.status, 503);
    assert!(matches!(api.resolve(secret(&key)), Credential::Revoked(_)));
}
