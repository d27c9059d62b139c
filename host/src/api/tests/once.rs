//! What comes again with its `Idempotency-Key`, over HTTP.

use super::*;

impl Running {
    /// A `POST` with a key, by this token.
    async fn once(&self, token: &str, path: &str, word: &str, body: &Value) -> Answer {
        let bearer = format!("Bearer {token}");
        let fields =
            [("authorization", bearer.as_str()), ("content-type", "application/json"), ("idempotency-key", word)];
        self.send("POST", path, &fields, body.to_string().as_bytes()).await
    }
}

fn is_replayed(answer: &Answer) -> bool {
    answer.header("idempotency-replayed") == "true"
}

#[tokio::test]
async fn what_makes_things_makes_them_once() {
    let api = Running::start().await;
    let token = api.token.clone();
    let key = api.issue(json!({"name": "k", "scopes": ["pay"]})).await;
    let key = format!("/v1/keys/{}/rotate", key["id"].as_str().unwrap());
    let older = "sk_live_4f9a0c21b7d84e6f95a1c3e8d2b70f64";
    let webhook =
        api.admin("POST", "/v1/webhooks", Some(json!({"url": "https://a.example/", "events": ["key.revoked"]})));
    let webhook = format!("/v1/webhooks/{}", webhook.await.body["id"].as_str().unwrap());
    for (path, body, status) in [
        ("/v1/orgs", json!({"slug": "acme"}), 201),
        ("/v1/tokens", json!({"name": "t", "role": "auditor", "org": "default"}), 201),
        ("/v1/keys", json!({"name": "n", "scopes": ["pay"]}), 201),
        (key.as_str(), json!({"overlap": 60}), 200),
        ("/v1/keys/import", json!({"keys": [{"name": "i", "secret": older, "scopes": ["pay"]}]}), 201),
        ("/v1/webhooks", json!({"url": "https://b.example/", "events": ["key.revoked"]}), 201),
        (&format!("{webhook}/rotate"), json!({"overlap": 60}), 200),
        (&format!("{webhook}/test"), json!({}), 202),
        ("/v1/peppers", json!({}), 201),
    ] {
        let first = api.once(&token, path, "w-1", &body).await;
        assert_eq!(first.status, status, "{path}: {}", first.body);
        assert!(!is_replayed(&first), "{path}");
        // Where it were done again, it would be refused or have another id or secret.
        for word in ["w-1", "\"w-1\""] {
            let again = api.once(&token, path, word, &body).await;
            assert_eq!((again.status, &again.body), (first.status, &first.body), "{path}");
            assert_eq!(again.header("location"), first.header("location"), "{path}");
            assert_eq!(again.header("content-type"), first.header("content-type"), "{path}");
            assert!(is_replayed(&again), "{path}");
            assert_ne!(again.header("x-request-id"), first.header("x-request-id"));
        }
        let other = api.once(&token, path, "w-1", &json!({"other": true})).await;
        assert_eq!((other.status.as_u16(), other.code()), (422, "idempotency_key_reused"), "{path}");
        let query = api.once(&token, &format!("{path}?x=1"), "w-1", &body).await;
        assert_eq!(query.code(), "idempotency_key_reused", "{path}");
    }
}

#[tokio::test]
async fn an_answer_is_for_the_credential_that_asked() {
    let api = Running::start().await;
    let mut tokens = Vec::new();
    for name in ["one", "two"] {
        let body = json!({"name": name, "role": "org-admin", "org": "default"});
        tokens.push(api.admin("POST", "/v1/tokens", Some(body)).await.body["secret"].as_str().unwrap().to_owned());
    }
    let body = json!({"name": "n", "scopes": ["pay"]});
    let first = api.once(&tokens[0], "/v1/keys", "w", &body).await;
    assert_eq!(first.status, 201, "{}", first.body);
    let other = api.once(&tokens[1], "/v1/keys", "w", &body).await;
    assert_eq!((other.status.as_u16(), other.code()), (409, "idempotency_answer_sealed"));
    // The super-admin is in no org, and so has words of its own.
    let whole = api.once(&api.token, "/v1/keys", "w", &body).await;
    assert!(whole.status == 201 && !is_replayed(&whole), "{}", whole.body);
    assert_eq!(api.once(&tokens[0], "/v1/keys", "w", &body).await.body, first.body);
    let keys = api.admin("GET", "/v1/keys", None).await.body["keys"].as_array().unwrap().len();
    assert_eq!(keys, 2);
}

#[tokio::test]
async fn what_depends_on_who_asks_or_when_is_asked_anew() {
    let api = Running::start().await;
    let token = api.token.clone();
    let body = json!({"name": "a", "role": "auditor", "org": "default"});
    let auditor = api.admin("POST", "/v1/tokens", Some(body)).await.body["secret"].as_str().unwrap().to_owned();
    for _ in 0..2 {
        let refused = api.once(&auditor, "/v1/keys", "w", &json!({"name": "n", "scopes": ["pay"]})).await;
        assert_eq!((refused.code(), is_replayed(&refused)), ("insufficient_role", false));
    }
    // A conflict may be over.
    let acme = api.once(&token, "/v1/orgs", "w-1", &json!({"slug": "acme"})).await.body;
    assert_eq!(api.once(&token, "/v1/orgs", "w-2", &json!({"slug": "acme"})).await.code(), "slug_taken");
    let place = format!("/v1/orgs/{}", acme["id"].as_str().unwrap());
    assert_eq!(api.admin("PATCH", &place, Some(json!({"slug": "b"}))).await.status, 200);
    assert_eq!(api.once(&token, "/v1/orgs", "w-2", &json!({"slug": "acme"})).await.status, 201);
    // What is wrong with a body stays wrong; the refusal names the request that it answers.
    let wrong = api.once(&token, "/v1/orgs", "w-3", &json!({"slug": "NO"})).await;
    let again = api.once(&token, "/v1/orgs", "w-3", &json!({"slug": "NO"})).await;
    assert_eq!((wrong.status.as_u16(), is_replayed(&wrong), is_replayed(&again)), (422, false, true));
    assert_eq!(again.body["errors"], wrong.body["errors"]);
    assert_ne!(again.body["instance"], wrong.body["instance"]);
}

#[tokio::test]
async fn a_field_that_is_no_key_is_refused_and_other_methods_do_not_look_at_it() {
    let api = Running::start().await;
    let token = api.token.clone();
    for word in ["a b", "\"a", "a,b", &"x".repeat(256)] {
        let refused = api.once(&token, "/v1/orgs", word, &json!({"slug": "acme"})).await;
        assert_eq!((refused.status.as_u16(), refused.code()), (400, "invalid_idempotency_key"), "{word}");
    }
    let bearer = format!("Bearer {token}");
    let fields = [("authorization", bearer.as_str()), ("idempotency-key", "a b")];
    assert_eq!(api.send("GET", "/v1/orgs", &fields, b"").await.status, 200);
    let large = json!({"slug": "x".repeat(LIMIT)});
    assert_eq!(api.once(&token, "/v1/orgs", "w", &large).await.status, 413);
    let small = api.once(&token, "/v1/orgs", "w", &json!({"slug": "acme"})).await;
    assert_eq!(small.status, 201, "what was never read as a whole was never begun: {}", small.body);
}

/// Whoever asked goes; what was asked for goes on, and its answer is there.
#[tokio::test]
async fn a_client_that_leaves_finds_its_answer_later() {
    let api = Running::start().await;
    let mut left = 0;
    for round in 0..20 {
        let (token, word) = (api.token.clone(), format!("w-{round}"));
        let body = json!({"name": "t", "role": "auditor", "org": "default"});
        let early =
            tokio::time::timeout(Duration::from_millis(round / 2), api.once(&token, "/v1/tokens", &word, &body));
        left += u32::from(early.await.is_err());
        let answer = loop {
            let answer = api.once(&token, "/v1/tokens", &word, &body).await;
            if answer.code() != "idempotency_key_in_use" {
                break answer;
            }
        };
        assert_eq!(answer.status, 201, "{}", answer.body);
    }
    assert!(left > 0, "nobody left");
    let tokens = api.admin("GET", "/v1/tokens?limit=200", None).await.body["tokens"].as_array().unwrap().len();
    assert_eq!(tokens, 20);
}
