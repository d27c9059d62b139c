use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;
use crate::audit::{AuditStore, SledAudit};
use crate::clock::{Clock, Millis};
use crate::config::SecretSource;
use crate::credential::{Credential, Issuer, Keyring, PepperDesk};
use crate::data::DataDirectory;
use crate::idempotency::{Repeats, SledIdempotency};
use crate::key::{Peppers, SledKeys};
use crate::org::{Admins, SledOrgs, SledTokens, TOKEN_FILE, Tokens};
use crate::outbox::SledOutbox;
use crate::seal::Vault;
use crate::webhook::{self, SledWebhooks, Webhooks};

mod bounds;
mod hooks;
mod life;
mod once;
mod roles;

/// A running admin API over a data directory of its own.
pub(crate) struct Running {
    pub(crate) place: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) ring: Keyring,
    pub(crate) clock: Clock,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) audit: SledAudit,
    token: String,
    server: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What came back.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn code(&self) -> &str {
        self.body["error"].as_str().unwrap_or("no problem")
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

impl Running {
    pub(crate) async fn start() -> Self {
        let place = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Millis(1_795_305_600_000));
        let data = DataDirectory::open(&place.path().join("data")).unwrap();
        let vault = Vault::open(&SecretSource::File(place.path().join("master.key")), &data).unwrap();
        let vault = Arc::new(vault);
        let peppers = Peppers::new(vault.clone());
        let ring = Keyring::new(peppers.all().unwrap());
        let log = SledAudit::open(data.database(), &vault, clock.now()).unwrap();
        let audit: Arc<dyn AuditStore> = Arc::new(log.clone());
        let outbox = SledOutbox::open(data.database()).unwrap();
        let hooks = Arc::new(SledWebhooks::open(data.database(), log.clone(), outbox.clone()).unwrap());
        let configured =
            crate::config::parse("[webhooks]\nprivate = [\"10.0.0.0/8\"]\n[pillars.a]\n", "a.toml".as_ref());
        let settings = configured.unwrap().webhooks;
        let now = webhook::Now { settings, roots: Default::default() };
        let webhooks = Webhooks::open(hooks, vault.clone(), clock.clone(), now).await.unwrap();
        let store = Arc::new(SledKeys::open(data.database(), log.clone(), outbox.clone()).unwrap());
        let issuer = Arc::new(Issuer::open(store, ring.clone(), clock.clone()).await.unwrap());
        let tokens = Arc::new(SledTokens::open(data.database(), log.clone()).unwrap());
        let desks = Desks {
            issuer: issuer.clone(),
            orgs: Arc::new(SledOrgs::open(data.database(), log.clone(), clock.now()).unwrap()),
            admins: Arc::new(Admins::open(&data, &vault, None).unwrap()),
            tokens: Arc::new(Tokens::open(tokens, &vault, clock.clone()).await.unwrap()),
            peppers: Arc::new(PepperDesk::new(peppers, issuer.clone(), audit.clone(), clock.clone())),
            audit,
            webhooks: Arc::new(webhooks),
            repeats: Repeats::new(Arc::new(SledIdempotency::open(data.database()).unwrap()), clock.clone()),
        };
        let scopes: KnownScopes = Arc::new(|| ["connect", "knowledge", "pay"].map(str::to_owned).to_vec());
        let state = AdminState::new(desks, scopes, clock.clone());
        let token = fs::read_to_string(data.path().join(TOKEN_FILE)).unwrap().trim().to_owned();
        let teapot = || async { (StatusCode::IM_A_TEAPOT, "short and stout") };
        let whole = Router::new().route("/v1/teapot", get(teapot));
        // As a listener serves them on which whoever calls is a key.
        let found = issuer.clone();
        let as_key = move |request: Request, next: Next| roles::as_key(found.clone(), request, next);
        let public = Router::new().nest("/public", admin::routes(state.clone())).layer(middleware::from_fn(as_key));
        let public = public.layer(middleware::from_fn_with_state(state.clone(), dress));
        let router = router_with(state, whole, Router::new()).merge(public);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let _data = data;
            serve(listener, router, std::future::pending()).await.unwrap();
        });
        Self { place, address, ring, clock, issuer, audit: log, token, server }
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.place.path().join("data").join(TOKEN_FILE)
    }

    /// Sends a request with exactly these fields.
    async fn send(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Answer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = http::Request::builder().method(method).uri(path).header("host", "admin");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let body = Full::new(Bytes::copy_from_slice(body));
        let response = sender.send_request(request.body(body).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let answer = Answer { status: parts.status, headers: parts.headers, body };
        // What holds for every answer.
        assert!(answer.header("x-request-id").starts_with("req_"));
        assert_eq!(answer.header("cache-control"), "no-store");
        if answer.status.as_u16() >= 400 {
            assert_eq!(answer.header("content-type"), MEDIA_TYPE);
            assert_eq!(answer.body["instance"], answer.header("x-request-id"));
            assert_eq!(answer.body["status"], answer.status.as_u16());
        }
        answer
    }

    async fn admin(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.by(&self.token, method, path, body).await
    }

    /// Sends a request with this token.
    async fn by(&self, token: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        let bearer = format!("Bearer {token}");
        let fields = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let bytes = body.map(|body| body.to_string()).unwrap_or_default();
        self.send(method, path, &fields, bytes.as_bytes()).await
    }

    async fn issue(&self, body: Value) -> Value {
        let answer = self.admin("POST", "/v1/keys", Some(body)).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.body
    }

    pub(crate) fn resolve(&self, secret: &str) -> Credential {
        let field = format!("Bearer {secret}");
        self.issuer.resolve_now(&field, self.address.ip())
    }
}

#[tokio::test]
async fn an_issued_key_works_at_once_and_its_secret_is_shown_once() {
    let api = Running::start().await;
    let body = json!({"name": "demo", "scopes": ["pay"], "networks": ["127.0.0.0/8"]});
    let answer = api.admin("POST", "/v1/keys", Some(body)).await;
    assert_eq!(answer.status, 201);
    let id = answer.body["id"].as_str().unwrap();
    assert_eq!(answer.header("location"), format!("/v1/keys/{id}"));
    let secret = answer.body["secret"].as_str().unwrap();
    let key = api.resolve(secret).valid().unwrap().clone();
    assert_eq!(key.id.to_string(), id);
    assert!(key.holds("pay") && !key.holds("connect"));

    let shown = api.admin("GET", &format!("/v1/keys/{id}"), None).await;
    assert_eq!(shown.status, 200);
    assert_eq!(shown.body["last_four"], secret[secret.len() - 4..]);
    assert_eq!((&shown.body["prefix"], &shown.body["mode"]), (&"sk_live_".into(), &"live".into()));
    assert_eq!((&shown.body["status"], &shown.body["org"]["slug"]), (&"active".into(), &"default".into()));
    assert_eq!(shown.body["created_at"], "2026-11-22T00:00:00.000Z");
    assert_eq!(shown.body["last_used_at"], shown.body["created_at"]);
    let listed = api.admin("GET", "/v1/keys", None).await;
    assert_eq!(listed.body["keys"], json!([shown.body]));
    for body in [shown.body, listed.body] {
        assert!(!body.to_string().contains(&secret[8..30]), "{body}");
    }
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once_and_revoking_again_is_the_same() {
    let api = Running::start().await;
    let key = api.issue(json!({"name": "demo", "all_scopes": true, "mode": "sandbox"})).await;
    assert!(key["secret"].as_str().unwrap().starts_with("sk_sandbox_"));
    let place = format!("/v1/keys/{}", key["id"].as_str().unwrap());
    let first = api.admin("DELETE", &place, None).await;
    assert_eq!((first.status.as_u16(), &first.body["status"]), (200, &"revoked".into()));
    assert!(matches!(api.resolve(key["secret"].as_str().unwrap()), Credential::Revoked(_)));
    api.clock.advance(Duration::from_secs(60));
    assert_eq!(api.admin("DELETE", &place, None).await.body, first.body);
}

#[tokio::test]
async fn whatever_is_not_there_is_404_and_a_wrong_method_405() {
    let api = Running::start().await;
    let unknown = crate::id::KeyId::from_number(1);
    for (method, path) in [
        ("GET", format!("/v1/keys/{unknown}")),
        ("DELETE", format!("/v1/keys/{unknown}")),
        ("GET", "/v1/keys/7".to_owned()),
        ("GET", "/v1/keys/%ff".to_owned()),
        ("GET", "/nowhere".to_owned()),
    ] {
        let answer = api.admin(method, &path, None).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (404, "not_found"), "{method} {path}");
    }
    let answer = api.admin("PUT", "/v1/keys", None).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (405, "method_not_allowed"));
    assert_eq!(answer.header("allow"), "GET,HEAD,POST");
    let answer = api.admin("GET", "/v1/teapot", None).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (418, "im_a_teapot"));
}

#[tokio::test]
async fn nobody_comes_in_without_the_token_and_guessing_ends() {
    let api = Running::start().await;
    let bearer = format!("Bearer {}", api.token);
    for (fields, code) in [
        (vec![], "missing_authorization"),
        (vec![("authorization", "Bearer pat_wrong")], "invalid_admin_token"),
        (vec![("authorization", api.token.as_str())], "invalid_admin_token"),
        (vec![("authorization", bearer.as_str()), ("authorization", bearer.as_str())], "invalid_admin_token"),
    ] {
        for path in ["/v1/keys", "/v1/teapot", "/nowhere"] {
            let answer = api.send("GET", path, &fields, b"").await;
            assert_eq!((answer.status.as_u16(), answer.code()), (401, code), "{path}");
            assert!(answer.header("www-authenticate").starts_with("Bearer"));
        }
    }
    for _ in 0..30 {
        api.send("GET", "/v1/keys", &[("authorization", "Bearer pat_wrong")], b"").await;
    }
    let answer = api.admin("GET", "/v1/keys", None).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (429, "too_many_failed_logins"));
    assert_eq!(answer.header("retry-after"), "60");
    api.clock.advance(Duration::from_secs(60));
    assert_eq!(api.admin("GET", "/v1/keys", None).await.status, 200);
}

#[tokio::test]
async fn a_body_of_another_kind_size_or_form_is_refused() {
    let api = Running::start().await;
    let bearer = format!("Bearer {}", api.token);
    let large = vec![b' '; LIMIT + 1];
    for (kind, body, status, code) in [
        ("text/plain", &b"{}"[..], 415, "unsupported_media_type"),
        ("", b"{}", 415, "unsupported_media_type"),
        ("application/json", &large, 413, "request_body_too_large"),
        ("application/json", b"{\"name\": ", 400, "malformed_json"),
        ("application/json", b"", 400, "malformed_json"),
        ("application/json", b"\xff", 400, "malformed_json"),
        ("application/json", br#"{"name": "a", "scopes": ["connect"], "name": "b"}"#, 422, "invalid_request"),
        ("Application/JSON; charset=utf-8", b"[]", 422, "invalid_request"),
    ] {
        let fields = [("authorization", bearer.as_str()), ("content-type", kind)];
        let answer = api.send("POST", "/v1/keys", &fields, body).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{kind}");
    }
    assert_eq!(api.ring.hot(), 0);
}

#[tokio::test]
async fn an_order_with_faults_names_all_of_them_and_makes_nothing() {
    let api = Running::start().await;
    let body = json!({"nmae": "demo", "org": "nobody", "mode": "test", "scopes": ["pay"]});
    let answer = api.admin("POST", "/v1/keys", Some(body)).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (422, "invalid_request"));
    let pointers: Vec<&str> =
        answer.body["errors"].as_array().unwrap().iter().map(|fault| fault["pointer"].as_str().unwrap()).collect();
    assert_eq!(pointers, ["/nmae", "/name", "/mode", "/org"]);
    assert_eq!(api.ring.hot(), 0);
}

#[tokio::test]
async fn lists_page_by_cursor_and_name_wrong_parameters() {
    let api = Running::start().await;
    let mut issued = Vec::new();
    for number in 0..5 {
        api.clock.advance(Duration::from_millis(1));
        let key = api.issue(json!({"name": format!("k{number}"), "all_scopes": true})).await;
        issued.push(key["id"].clone());
    }
    let (mut listed, mut cursor) = (Vec::new(), String::new());
    for _ in 0..3 {
        let page = api.admin("GET", &format!("/v1/keys?org=default&limit=2{cursor}"), None).await.body;
        listed.extend(page["keys"].as_array().unwrap().iter().map(|key| key["id"].clone()));
        cursor = page["next_cursor"].as_str().map(|next| format!("&cursor={next}")).unwrap_or_default();
    }
    assert_eq!((listed, cursor.as_str()), (issued, ""));

    let answer = api.admin("GET", "/v1/keys?org=x&cursor=y&limit=0&page=2", None).await;
    assert_eq!(answer.status, 422);
    let named: Vec<&Value> =
        answer.body["errors"].as_array().unwrap().iter().map(|fault| &fault["parameter"]).collect();
    assert_eq!(named, ["limit", "page", "org", "cursor"]);
    let orgs = api.admin("GET", "/v1/orgs", None).await.body;
    assert_eq!(orgs["orgs"][0]["slug"], "default");
    assert!(orgs["orgs"][0]["id"].as_str().unwrap().starts_with("org_"));
}
