//! Who may do what, over HTTP.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::key::Bearer;

/// Takes whoever calls for the key with the id in `x-key`.
pub(super) async fn as_key(issuer: Arc<Issuer>, mut request: Request, next: Next) -> Response {
    let id = request.headers()["x-key"].to_str().unwrap().parse().unwrap();
    let key = issuer.find(id).await.unwrap().unwrap().key;
    let bearer = Bearer::new(key.clone(), key.generation());
    request.extensions_mut().insert(Actor { by: By::Key(bearer), address: None });
    next.run(request).await
}

impl Running {
    async fn org(&self, slug: &str) -> Value {
        let answer = self.admin("POST", "/v1/orgs", Some(json!({"slug": slug}))).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.body
    }

    /// A token's secret and its id.
    async fn token(&self, role: &str, org: &str) -> (String, String) {
        let answer = self.admin("POST", "/v1/tokens", Some(json!({"name": role, "role": role, "org": org}))).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        let text = |member: &str| answer.body[member].as_str().unwrap().to_owned();
        (text("secret"), text("id"))
    }

    pub(super) async fn as_key(&self, key: &Value, method: &str, path: &str, body: Option<Value>) -> Answer {
        let fields = [("x-key", key["id"].as_str().unwrap()), ("content-type", "application/json")];
        let bytes = body.map(|body| body.to_string()).unwrap_or_default();
        self.send(method, &format!("/public{path}"), &fields, bytes.as_bytes()).await
    }
}

#[tokio::test]
async fn each_role_may_do_what_the_table_says_and_nothing_else() {
    let api = Running::start().await;
    api.org("acme").await;
    let key = api.issue(json!({"name": "k", "all_scopes": true, "org": "acme"})).await;
    let key = format!("/v1/keys/{}", key["id"].as_str().unwrap());
    let mut tokens = Vec::new();
    for role in ["org-admin", "member", "auditor"] {
        tokens.push(api.token(role, "acme").await.0);
    }
    let order = json!({"name": "n", "scopes": ["pay"]});
    let scope = json!({"scopes": ["pay"]});
    let token = json!({"name": "t", "role": "auditor"});
    let webhook = json!({"url": "https://hooks.example.com/", "events": ["key.revoked"]});
    for (method, path, body, statuses) in [
        ("GET", "/v1/webhooks", None, [200, 200, 200]),
        ("POST", "/v1/webhooks", Some(webhook), [201, 403, 403]),
        ("GET", "/v1/keys", None, [200, 200, 200]),
        ("GET", key.as_str(), None, [200, 200, 200]),
        ("POST", "/v1/keys", Some(order), [201, 201, 403]),
        ("PATCH", &format!("{key}/scope"), Some(scope), [200, 403, 403]),
        ("POST", &format!("{key}/rotate"), None, [200, 403, 403]),
        ("POST", "/v1/keys/import", Some(json!({"keys": []})), [403, 403, 403]),
        ("GET", "/v1/peppers", None, [403, 403, 403]),
        ("POST", "/v1/peppers", None, [403, 403, 403]),
        ("DELETE", "/v1/peppers/1", None, [403, 403, 403]),
        ("GET", "/v1/orgs", None, [200, 200, 200]),
        ("GET", "/v1/orgs/acme", None, [200, 200, 200]),
        ("POST", "/v1/orgs", Some(json!({"slug": "b"})), [403, 403, 403]),
        ("PATCH", "/v1/orgs/acme", Some(json!({"name": "Acme"})), [200, 403, 403]),
        ("GET", "/v1/tokens", None, [200, 200, 200]),
        ("POST", "/v1/tokens", Some(token), [201, 403, 403]),
        ("GET", "/v1/audit", None, [200, 403, 200]),
        ("GET", "/v1/audit/verify", None, [200, 403, 200]),
        ("GET", "/v1/teapot", None, [403, 403, 403]),
        ("DELETE", &key, None, [200, 403, 403]),
    ] {
        for (token, status) in tokens.iter().zip(statuses) {
            let answer = api.by(token, method, path, body.clone()).await;
            assert_eq!(answer.status.as_u16(), status, "{method} {path}: {}", answer.body);
            assert!(status != 403 || answer.code() == "insufficient_role", "{}", answer.body);
        }
    }
}

#[tokio::test]
async fn what_is_of_another_org_is_not_there() {
    let api = Running::start().await;
    api.org("acme").await;
    let other = api.org("other").await;
    let key = api.issue(json!({"name": "k", "all_scopes": true, "org": "other"})).await;
    let key = format!("/v1/keys/{}", key["id"].as_str().unwrap());
    let (_, others) = api.token("auditor", "other").await;
    let (admin, own) = api.token("org-admin", "acme").await;
    let answer = api.admin("POST", "/v1/tokens", Some(json!({"name": "s", "role": "super-admin"}))).await;
    let above = format!("/v1/tokens/{}", answer.body["id"].as_str().unwrap());
    for (method, path, body) in [
        ("GET", key.clone(), None),
        ("DELETE", key.clone(), None),
        ("POST", format!("{key}/rotate"), None),
        ("PATCH", format!("{key}/scope"), Some(json!({"scopes": ["pay"]}))),
        ("GET", "/v1/orgs/other".into(), None),
        ("GET", format!("/v1/orgs/{}", other["id"].as_str().unwrap()), None),
        ("PATCH", "/v1/orgs/other".into(), Some(json!({"name": "x"}))),
        ("GET", format!("/v1/tokens/{others}"), None),
        ("DELETE", format!("/v1/tokens/{others}"), None),
        ("DELETE", above, None),
    ] {
        let answer = api.by(&admin, method, &path, body).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (404, "not_found"), "{method} {path}");
    }
    for body in [
        json!({"name": "n", "scopes": ["pay"], "org": "other"}),
        json!({"name": "n", "scopes": ["pay"], "org": "nobody"}),
    ] {
        let answer = api.by(&admin, "POST", "/v1/keys", Some(body)).await;
        assert_eq!((answer.status.as_u16(), &answer.body["errors"][0]["pointer"]), (422, &"/org".into()));
        assert!(answer.body["message"].as_str().unwrap().starts_with("There is no such org"));
    }
    let listed = async |path: &str, member: &str| {
        let body = api.by(&admin, "GET", path, None).await.body;
        body[member].as_array().unwrap().clone()
    };
    assert_eq!(listed("/v1/keys", "keys").await, [0; 0]);
    assert_eq!(listed("/v1/orgs", "orgs").await.len(), 1);
    let tokens = listed("/v1/tokens", "tokens").await;
    assert_eq!((tokens.len(), &tokens[0]["id"]), (1, &own.into()));
    for entry in listed("/v1/audit", "entries").await {
        assert_eq!(entry["org"], tokens[0]["org"]["id"], "{entry}");
    }
    assert_eq!(api.by(&admin, "GET", "/v1/keys?org=other", None).await.status, 422);
    let role = api.by(&admin, "POST", "/v1/tokens", Some(json!({"name": "n", "role": "super-admin"}))).await;
    assert_eq!((role.status.as_u16(), &role.body["errors"][0]["pointer"]), (422, &"/role".into()));
}

#[tokio::test]
async fn a_member_changes_only_what_its_own_token_made() {
    let api = Running::start().await;
    api.org("acme").await;
    let (one, id) = api.token("member", "acme").await;
    let (two, _) = api.token("member", "acme").await;
    let made = api.by(&one, "POST", "/v1/keys", Some(json!({"name": "n", "scopes": ["pay"]}))).await.body;
    assert_eq!((&made["created_by"], &made["org"]["slug"]), (&id.into(), &"acme".into()));
    let place = format!("/v1/keys/{}", made["id"].as_str().unwrap());
    let refused = api.by(&two, "DELETE", &place, None).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (403, "insufficient_role"));
    assert_eq!(api.by(&one, "POST", &format!("{place}/rotate"), None).await.status, 200);
    assert_eq!(api.by(&one, "DELETE", &place, None).await.status, 200);
}

#[tokio::test]
async fn a_token_ends_when_it_is_revoked_or_its_time_is_over() {
    let api = Running::start().await;
    let (secret, id) = api.token("auditor", "default").await;
    assert_eq!(api.by(&secret, "GET", "/v1/keys", None).await.status, 200);
    let shown = api.admin("GET", &format!("/v1/tokens/{id}"), None).await.body;
    assert_eq!((&shown["status"], &shown["role"]), (&"active".into(), &"auditor".into()));
    assert!(!shown["last_used_at"].is_null() && !shown.to_string().contains(&secret[4..30]));
    assert_eq!(api.admin("DELETE", &format!("/v1/tokens/{id}"), None).await.body["status"], "revoked");
    let answer = api.by(&secret, "GET", "/v1/keys", None).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (401, "admin_token_revoked"));
    let body = json!({"name": "n", "role": "super-admin", "expires_at": "2026-11-22T00:00:10Z"});
    let brief = api.admin("POST", "/v1/tokens", Some(body)).await.body;
    let brief = brief["secret"].as_str().unwrap();
    assert_eq!(api.by(brief, "GET", "/v1/teapot", None).await.status, 418);
    api.clock.advance(Duration::from_secs(10));
    assert_eq!(api.by(brief, "GET", "/v1/teapot", None).await.code(), "admin_token_expired");
}

#[tokio::test]
async fn orders_for_orgs_and_tokens_name_everything_that_is_wrong() {
    let api = Running::start().await;
    let long = "x".repeat(101);
    for (path, body, pointers) in [
        ("/v1/orgs", json!({}), &["/slug"][..]),
        ("/v1/orgs", json!({"slug": "A b", "name": 7, "nmae": 1}), &["/nmae", "/slug", "/name"]),
        ("/v1/orgs", json!({"slug": null, "name": long}), &["/slug", "/name"]),
        ("/v1/tokens", json!({}), &["/name", "/role", "/org"]),
        ("/v1/tokens", json!({"name": "n", "role": "root", "org": "default"}), &["/role"]),
        ("/v1/tokens", json!({"name": "n", "role": "super-admin", "org": "default"}), &["/org"]),
        (
            "/v1/tokens",
            json!({"name": "n", "role": "member", "org": "nobody", "expires_at": "2020-01-01T00:00:00Z"}),
            &["/expires_at", "/org"],
        ),
        (
            "/v1/tokens",
            json!({"name": [], "role": 0, "org": {}, "expires_at": -1}),
            &["/name", "/role", "/org", "/expires_at", "/org"],
        ),
    ] {
        let answer = api.admin("POST", path, Some(body.clone())).await;
        let found: Vec<&str> =
            answer.body["errors"].as_array().unwrap().iter().map(|fault| fault["pointer"].as_str().unwrap()).collect();
        assert_eq!((answer.status.as_u16(), found.as_slice()), (422, pointers), "{body}");
    }
    api.org("acme").await;
    for (method, path) in [("POST", "/v1/orgs"), ("PATCH", "/v1/orgs/acme")] {
        let answer = api.admin(method, path, Some(json!({"slug": "default"}))).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (409, "slug_taken"));
    }
    assert_eq!(api.admin("PATCH", "/v1/orgs/default", Some(json!({"slug": "other"}))).await.status, 422);
    assert_eq!(api.admin("PATCH", "/v1/orgs/acme", Some(json!({}))).await.status, 422);
    let renamed = api.admin("PATCH", "/v1/orgs/acme", Some(json!({"slug": "acme-2"}))).await;
    assert_eq!(renamed.body["slug"], "acme-2");
    assert_eq!(api.admin("GET", "/v1/orgs/acme", None).await.status, 404);
}

#[tokio::test]
async fn a_key_manages_within_its_own_bounds_and_its_org() {
    let api = Running::start().await;
    api.org("acme").await;
    let issue = async |scopes: Value, org: &str| {
        api.clock.advance(Duration::from_millis(1));
        api.issue(json!({"name": "k", "scopes": scopes, "org": org})).await
    };
    let manager = issue(json!(["pay", "keys:write"]), "default").await;
    let reader = issue(json!(["keys:read"]), "default").await;
    let plain = issue(json!(["pay"]), "default").await;
    let mighty = issue(json!(["pay", "connect"]), "default").await;
    let foreign = issue(json!(["pay"]), "acme").await;
    let place = |key: &Value| format!("/v1/keys/{}", key["id"].as_str().unwrap());
    for key in [&plain, &mighty] {
        let answer = api.as_key(key, "GET", "/v1/keys", None).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (403, "insufficient_scope"));
    }
    let listed = api.as_key(&reader, "GET", "/v1/keys", None).await.body;
    assert_eq!(listed["keys"].as_array().unwrap().len(), 4);
    assert_eq!(api.as_key(&reader, "POST", "/v1/keys", Some(json!({}))).await.code(), "insufficient_scope");
    assert_eq!(api.as_key(&manager, "GET", &place(&foreign), None).await.status, 404);
    assert_eq!(api.as_key(&manager, "DELETE", &place(&foreign), None).await.status, 404);

    let child = api.as_key(&manager, "POST", "/v1/keys", Some(json!({"name": "c", "scopes": ["pay"]}))).await;
    assert_eq!((child.status.as_u16(), &child.body["created_by"]), (201, &manager["id"]));
    let more = json!({"name": "c", "scopes": ["pay", "connect"], "mode": "sandbox"});
    let more = api.as_key(&manager, "POST", "/v1/keys", Some(more)).await;
    assert_eq!((more.status.as_u16(), more.code()), (403, "beyond_own_bounds"));
    assert_eq!(more.body["errors"].as_array().unwrap().len(), 2);

    for (target, status) in [(&plain, 200), (&manager, 200), (&mighty, 403)] {
        let rotated = api.as_key(&manager, "POST", &format!("{}/rotate", place(target)), None).await;
        assert_eq!(rotated.status.as_u16(), status, "{}", rotated.body);
    }
    let wider = json!({"scopes": ["pay", "connect", "keys:write"]});
    let wider = api.as_key(&manager, "PATCH", &format!("{}/scope", place(&manager)), Some(wider)).await;
    assert_eq!(wider.code(), "beyond_own_bounds");
    let narrower = json!({"scopes": ["pay"]});
    let narrower = api.as_key(&manager, "PATCH", &format!("{}/scope", place(&manager)), Some(narrower)).await;
    assert_eq!((narrower.status.as_u16(), &narrower.body["scopes"]), (200, &json!(["pay"])));
    assert_eq!(api.as_key(&manager, "DELETE", &place(&plain), None).await.code(), "insufficient_scope");
    let page = api.audit.page(crate::audit::Filter::default(), None, 1).await.unwrap();
    assert_eq!(page.entries[0].note.actor.id.as_deref(), manager["id"].as_str());
    assert!(api.issuer.find(mighty["id"].as_str().unwrap().parse().unwrap()).await.unwrap().unwrap().rotated.is_none());
}

#[tokio::test]
async fn a_member_gives_no_key_what_it_may_do_to_its_own_keys_only() {
    let api = Running::start().await;
    api.org("acme").await;
    let (member, _) = api.token("member", "acme").await;
    let (admin, _) = api.token("org-admin", "acme").await;
    let order = |scopes: Value| json!({"name": "n", "scopes": scopes});
    let mighty = order(json!(["pay", "keys:write"]));
    let refused = api.by(&member, "POST", "/v1/keys", Some(mighty.clone())).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (403, "insufficient_role"), "{}", refused.body);
    assert!(refused.body["message"].as_str().unwrap().contains("`keys:write`"));
    assert_eq!(api.by(&admin, "POST", "/v1/keys", Some(mighty)).await.status, 201);
    let made = api.by(&member, "POST", "/v1/keys", Some(order(json!(["pay", "keys:read", "usage:read"])))).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let place = format!("/v1/keys/{}", made.body["id"].as_str().unwrap());
    let wider = json!({"scopes": ["keys:write"]});
    let refused = api.by(&member, "PATCH", &format!("{place}/scope"), Some(wider.clone())).await;
    assert_eq!(refused.code(), "insufficient_role");
    // An org-admin may, and then its secret is not for the member; ending it is.
    assert_eq!(api.by(&admin, "PATCH", &format!("{place}/scope"), Some(wider)).await.status, 200);
    assert_eq!(api.by(&member, "POST", &format!("{place}/rotate"), None).await.code(), "insufficient_role");
    assert_eq!(api.by(&member, "DELETE", &place, None).await.status, 200);
}

#[tokio::test]
async fn a_token_that_is_revoked_while_a_body_comes_does_nothing() {
    let api = Running::start().await;
    let (secret, id) = api.token("org-admin", "default").await;
    let body = json!({"name": "late", "scopes": ["pay"]}).to_string();
    let mut stream = TcpStream::connect(api.address).await.unwrap();
    let head = format!(
        "POST /v1/keys HTTP/1.1\r\nhost: admin\r\nauthorization: Bearer {secret}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut told = [0; 12];
    stream.read_exact(&mut told).await.unwrap();
    assert_eq!(&told, b"HTTP/1.1 100", "the body is asked for");
    assert_eq!(api.admin("DELETE", &format!("/v1/tokens/{id}"), None).await.status, 200);
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("\"error\":\"admin_token_revoked\""), "{answer}");
    assert_eq!(api.ring.hot(), 0);
}
