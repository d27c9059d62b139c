//! Webhooks over HTTP: what is refused, and who sees which.

use super::*;

const URL: &str = "https://hooks.example.com/in";

/// The pointers of all that is wrong.
fn places(answer: &Answer) -> Vec<String> {
    assert_eq!((answer.status.as_u16(), answer.code()), (422, "invalid_request"), "{}", answer.body);
    let errors = answer.body["errors"].as_array().unwrap().iter();
    errors.map(|fault| fault["pointer"].as_str().or(fault["parameter"].as_str()).unwrap().to_owned()).collect()
}

impl Running {
    async fn webhook(&self, body: Value) -> Value {
        let answer = self.admin("POST", "/v1/webhooks", Some(body)).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.body
    }
}

#[tokio::test]
async fn a_webhook_is_made_shown_changed_rotated_and_deleted_and_its_secret_is_in_two_answers() {
    let api = Running::start().await;
    let body = json!({"url": URL, "events": ["quota.reached", "key.revoked", "key.revoked"]});
    let answer = api.admin("POST", "/v1/webhooks", Some(body)).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let place = answer.header("location").to_owned();
    let id = answer.body["id"].as_str().unwrap();
    assert!(id.starts_with("whk_") && place == format!("/v1/webhooks/{id}"), "{place}");
    let secret = answer.body["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("whsec_") && secret.len() == 50, "{}", secret.len());
    let shown = api.admin("GET", &place, None).await.body;
    assert_eq!((&shown["events"], &shown["status"]), (&json!(["key.revoked", "quota.reached"]), &json!("enabled")));
    assert_eq!(
        (&shown["org"]["slug"], &shown["mode"], &shown["url"]),
        (&json!("default"), &json!("live"), &json!(URL))
    );
    assert_eq!(api.admin("GET", "/v1/webhooks", None).await.body, json!({"webhooks": [shown], "next_cursor": null}));

    let edit = json!({"url": "https://other.example.com/", "enabled": false});
    let changed = api.admin("PATCH", &place, Some(edit)).await;
    assert_eq!((changed.status.as_u16(), &changed.body["status"]), (200, &json!("disabled")));
    let test = api.admin("POST", &format!("{place}/test"), None).await;
    assert_eq!((test.status.as_u16(), test.code()), (409, "webhook_disabled"));
    let changed = api.admin("PATCH", &place, Some(json!({"enabled": true, "events": ["key.created"]}))).await.body;
    assert_eq!((&changed["status"], &changed["events"]), (&json!("enabled"), &json!(["key.created"])));
    let test = api.admin("POST", &format!("{place}/test"), None).await;
    assert!(test.status == 202 && test.body["event"].as_str().unwrap().starts_with("evt_"), "{}", test.body);

    let rotated = api.admin("POST", &format!("{place}/rotate"), None).await;
    let second = rotated.body["secret"].as_str().unwrap().to_owned();
    assert_eq!(rotated.body["previous_secret_ends_at"], "2026-11-23T00:00:00.000Z");
    assert_ne!(second, secret);
    let again = api.admin("POST", &format!("{place}/rotate"), Some(json!({"overlap": 0}))).await;
    assert_eq!((again.status.as_u16(), again.code()), (409, "rotation_in_progress"));
    assert_eq!(again.body["until"], "2026-11-23T00:00:00.000Z");
    let forced = api.admin("POST", &format!("{place}/rotate"), Some(json!({"overlap": 0, "force": true}))).await;
    assert_eq!((forced.status.as_u16(), &forced.body["previous_secret_ends_at"]), (200, &Value::Null));

    let deliveries = api.admin("GET", &format!("{place}/deliveries"), None).await;
    assert_eq!((deliveries.status.as_u16(), deliveries.body), (200, json!({"deliveries": [], "waiting": 0})));
    let seen = api.admin("GET", "/v1/audit?action=webhook", None).await.body.to_string();
    let listed = api.admin("GET", "/v1/webhooks", None).await.body.to_string();
    for secret in [&secret, &second, forced.body["secret"].as_str().unwrap()] {
        assert!(!seen.contains(&secret[6..30]) && !listed.contains(&secret[6..30]));
    }
    assert_eq!(api.admin("DELETE", &place, None).await.status, 200);
    for (method, below) in [("GET", ""), ("DELETE", ""), ("POST", "/test"), ("GET", "/deliveries"), ("POST", "/rotate")]
    {
        let answer = api.admin(method, &format!("{place}{below}"), None).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (404, "not_found"), "{method} {below}");
    }
    let actions = api.admin("GET", "/v1/audit?action=webhook", None).await.body;
    let actions: Vec<_> =
        actions["entries"].as_array().unwrap().iter().map(|it| it["action"].as_str().unwrap()).collect();
    let expected = ["deleted", "rotated", "rotated", "changed", "changed", "created"].map(|it| format!("webhook.{it}"));
    assert_eq!(actions, expected);
}

#[tokio::test]
async fn all_that_is_wrong_with_an_order_is_told_at_once() {
    let api = Running::start().await;
    for (body, wrong) in [
        (json!({}), vec!["/url", "/events"]),
        (json!({"url": null, "events": null}), vec!["/url", "/events"]),
        (
            json!({"url": 7, "events": ["key.revoke", 8, "webhook.test"], "enabled": "yes", "org": "nobody", "name": "a"}),
            vec!["/name", "/url", "/events/1", "/events/0", "/events/2", "/enabled", "/org"],
        ),
        (json!({"url": "http://hooks.example.com/", "events": []}), vec!["/url", "/events"]),
        (json!({"url": "https://127.0.0.1/", "events": "key.revoked"}), vec!["/url", "/events"]),
        (json!({"url": "https://metadata@hooks.example.com/", "events": ["key.revoked"]}), vec!["/url"]),
        (json!({"url": format!("https://a.example/{}", "a".repeat(3000)), "events": ["key.revoked"]}), vec!["/url"]),
        (json!({"url": URL, "events": vec!["key.revoked"; 10]}), vec!["/events"]),
    ] {
        let mut told = places(&api.admin("POST", "/v1/webhooks", Some(body.clone())).await);
        told.sort();
        let mut wrong: Vec<String> = wrong.into_iter().map(str::to_owned).collect();
        wrong.sort();
        assert_eq!(told, wrong, "{body}");
    }
    let near = api.admin("POST", "/v1/webhooks", Some(json!({"url": URL, "events": ["key.revokt"]}))).await;
    assert!(near.body["message"].as_str().unwrap().contains("did you mean `key.revoked`?"), "{}", near.body);
    // What the operator opened may be private, and without TLS.
    let hook = api.webhook(json!({"url": "http://10.1.2.3:8080/", "events": ["key.revoked"]})).await;
    let place = format!("/v1/webhooks/{}", hook["id"].as_str().unwrap());
    for (body, wrong) in [
        (
            json!({"url": "https://localhost/", "events": ["nothing"], "org": "default"}),
            vec!["/org", "/url", "/events/0"],
        ),
        (json!({"enabled": 1}), vec!["/enabled"]),
    ] {
        assert_eq!(places(&api.admin("PATCH", &place, Some(body.clone())).await), wrong, "{body}");
    }
    let rotate =
        api.admin("POST", &format!("{place}/rotate"), Some(json!({"overlap": -1, "force": 7, "more": 1}))).await;
    assert_eq!(places(&rotate), ["/more", "/overlap", "/force"]);
    assert_eq!(places(&api.admin("GET", "/v1/webhooks?limit=0&org=nobody&a=b", None).await).len(), 3);
    assert_eq!(api.admin("GET", &place, None).await.body["url"], "http://10.1.2.3:8080/", "nothing was done");
}

#[tokio::test]
async fn webhooks_of_another_org_of_live_keys_and_of_operators_are_not_there_for_others() {
    let api = Running::start().await;
    api.admin("POST", "/v1/orgs", Some(json!({"slug": "acme"}))).await;
    let scopes = json!(["webhooks:write"]);
    let key = |org: &str, mode: &str| json!({"name": "k", "org": org, "mode": mode, "scopes": scopes});
    let (own, other, sandbox) = (
        api.issue(key("acme", "live")).await,
        api.issue(key("default", "live")).await,
        api.issue(key("acme", "sandbox")).await,
    );
    let order = json!({"url": URL, "events": ["key.revoked"]});
    let made = api.as_key(&own, "POST", "/v1/webhooks", Some(order.clone())).await;
    assert_eq!((made.status.as_u16(), &made.body["org"]["slug"]), (201, &json!("acme")), "{}", made.body);
    assert_eq!(made.body["created_by"], own["id"]);
    let tried = api.as_key(&sandbox, "POST", "/v1/webhooks", Some(order.clone())).await.body;
    assert_eq!(tried["mode"], "sandbox");
    let operators = api.webhook(json!({"url": URL, "events": ["plugin.refused"], "org": "acme"})).await;
    let again = api.as_key(&own, "POST", "/v1/webhooks", Some(order.clone())).await;
    assert_eq!((again.status.as_u16(), again.code()), (409, "webhook_exists"));
    let refused = json!({"url": URL, "events": ["plugin.swapped"], "org": "default"});
    assert_eq!(places(&api.as_key(&own, "POST", "/v1/webhooks", Some(refused)).await), ["/events/0", "/org"]);

    let place = |hook: &Value| format!("/v1/webhooks/{}", hook["id"].as_str().unwrap());
    let (live, tried, operators) = (place(&made.body), place(&tried), place(&operators));
    for (key, sees, not) in [
        (&own, vec![&live, &tried], vec![&operators]),
        (&sandbox, vec![&tried], vec![&live, &operators]),
        (&other, vec![], vec![&live, &tried, &operators]),
    ] {
        let listed = api.as_key(key, "GET", "/v1/webhooks", None).await.body;
        assert_eq!(listed["webhooks"].as_array().unwrap().len(), sees.len(), "{listed}");
        for place in sees {
            assert_eq!(api.as_key(key, "GET", place, None).await.status, 200);
        }
        for place in not {
            for (method, below) in [
                ("GET", ""),
                ("PATCH", ""),
                ("DELETE", ""),
                ("POST", "/test"),
                ("POST", "/rotate"),
                ("GET", "/deliveries"),
            ] {
                let body = (method == "PATCH").then(|| json!({}));
                let answer = api.as_key(key, method, &format!("{place}{below}"), body).await;
                assert_eq!((answer.status.as_u16(), answer.code()), (404, "not_found"), "{method} {place}{below}");
            }
        }
    }
    let none = api.issue(json!({"name": "k", "org": "acme", "scopes": ["connect"]})).await;
    let answer = api.as_key(&none, "GET", "/v1/webhooks", None).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (403, "insufficient_scope"));
    let paged = api.admin("GET", "/v1/webhooks?limit=2", None).await.body;
    let cursor = paged["next_cursor"].as_str().unwrap();
    let rest = api.admin("GET", &format!("/v1/webhooks?limit=2&cursor={cursor}"), None).await.body;
    assert_eq!((rest["webhooks"].as_array().unwrap().len(), &rest["next_cursor"]), (1, &Value::Null));
}
