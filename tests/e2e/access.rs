//! Who gets in, and what everyone else is told.

use crate::harness::{DEFAULT, Gateway, Origin};
use serde_json::json;

const PUBLIC: &str =
    "[[pillars.connect.routes]]\nname = \"open\"\npath = \"/open/{id}\"\nmethods = [\"GET\"]\nauth = \"none\"\n";

/// How often a policy was asked.
fn calls(gateway: &Gateway, policy: &str) -> u64 {
    let list = gateway.admin("GET", "/v1/plugins").send().json();
    let shown = list["policies"].as_array().expect("policies").iter().find(|shown| shown["policy"] == policy);
    shown.unwrap_or_else(|| panic!("no {policy}: {list}"))["calls"].as_u64().expect("a number")
}

/// The guard of the gateway would give the same codes after the chain: that `gas`, which stands behind `key-auth`, is not
/// asked shows who refused.
#[test]
fn every_refusal_has_its_code() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, &format!("{DEFAULT}\n[pillars.pay]\n"));
    let good = gateway.key(&["connect"]);
    let mut typo = good.clone();
    let last = if typo.pop() == Some('a') { 'b' } else { 'a' };
    typo.push(last);
    let (revoked_id, revoked) = gateway.issue(json!({ "name": "r", "mode": "live", "scopes": ["connect"] }));
    assert_eq!(gateway.revoke(&revoked_id).status, 200);
    let other = gateway.issue(json!({ "name": "o", "mode": "live", "scopes": ["pay"] })).1;
    let bound =
        gateway.issue(json!({ "name": "n", "mode": "live", "scopes": ["connect"], "networks": ["10.0.0.0/8"] })).1;
    let unknown = "sk_live_00000000000000000000000000000007";
    for (field, status, code) in [
        (None, 401, "missing_authorization"),
        (Some("Bearer".to_owned()), 401, "invalid_token_shape"),
        (Some("Basic dXNlcjpwYXNz".to_owned()), 401, "invalid_token_shape"),
        (Some("Bearer sk_live_short".to_owned()), 401, "invalid_token_shape"),
        (Some(format!("Bearer {typo}")), 401, "invalid_token_shape"),
        (Some(format!("Bearer {good} {good}")), 401, "invalid_token_shape"),
        (Some(format!("Bearer {unknown}")), 401, "invalid_api_key"),
        (Some(format!("Bearer {revoked}")), 401, "key_revoked"),
        (Some(format!("Bearer {other}")), 403, "insufficient_scope"),
        (Some(format!("Bearer {bound}")), 403, "address_not_allowed"),
    ] {
        let call = gateway.get("/v1/connect/x");
        let call = match &field {
            Some(value) => call.field("authorization", value),
            None => call,
        };
        let answer = call.send();
        let shown = field.as_deref().map(|value| value.chars().take(24).collect::<String>());
        assert_eq!((answer.status, answer.error().as_str()), (status, code), "{shown:?}");
        assert_eq!(answer.field("www-authenticate").is_some(), status == 401 || code == "insufficient_scope");
        assert_eq!(calls(&gateway, "gas"), 0, "`key-auth` ends the chain: {shown:?}");
    }
    let twice = gateway.get("/v1/connect/x").key(&good).key(&good).send();
    assert_eq!(twice.error(), "invalid_token_shape", "two credentials are none");
    let query = gateway.get(&format!("/v1/connect/x?authorization={good}")).send();
    assert_eq!(query.error(), "missing_authorization", "never from the query");
    assert_eq!(origin.requests(), 0, "none of them reached the upstream");
    assert_eq!(calls(&gateway, "gas"), 0, "nor the policy behind `key-auth`");
    assert_eq!(gateway.get("/v1/connect/x").field("authorization", format!("bEARER {good}")).send().status, 200);
    assert_eq!(calls(&gateway, "gas"), 1);
}

#[test]
fn an_expired_key_is_told_so() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let soon = portico::clock::Clock::system().now().plus(std::time::Duration::from_millis(1500));
    let body = json!({ "name": "e", "mode": "live", "scopes": ["connect"], "expires_at": soon.to_string() });
    let (_, key) = gateway.issue(body);
    crate::harness::until("the key expires", || gateway.get("/v1/connect/x").key(&key).send().status == 401);
    let before = calls(&gateway, "gas");
    assert_eq!(gateway.get("/v1/connect/x").key(&key).send().error(), "key_expired");
    assert_eq!(calls(&gateway, "gas"), before, "`key-auth` ends the chain");
}

#[test]
fn the_guard_holds_without_any_policy() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, &format!("{PUBLIC}[pillars.pay]\n"));
    let (good, other) =
        (gateway.key(&["connect"]), gateway.issue(json!({ "name": "o", "mode": "live", "scopes": ["pay"] })).1);
    assert_eq!(gateway.get("/v1/connect/x").send().error(), "missing_authorization");
    assert_eq!(gateway.get("/v1/connect/x").key("nonsense").send().error(), "invalid_token_shape");
    assert_eq!(gateway.get("/v1/connect/x").key(&other).send().error(), "insufficient_scope");
    assert_eq!(gateway.get("/v1/connect/x").key(&good).send().status, 200);
    assert_eq!(gateway.get("/v1/connect/open/7").send().status, 200);
    assert_eq!(gateway.call("DELETE", "/v1/connect/open/7").send().status, 401, "one method opens no other");
    assert_eq!(gateway.get("/v1/connect/open/7/more").send().status, 401);
}

#[test]
fn public_routes_are_public() {
    let origin = Origin::echo();
    let toml = format!(
        "{DEFAULT}\n[upstreams.origin]\nendpoints = [\"http://{}\"]\n[pillars.connect]\nupstream = \"origin\"\n{PUBLIC}",
        origin.address
    );
    let gateway = Gateway::start(&toml);
    assert_eq!(gateway.get("/v1/connect/open/7").send().status, 200);
    assert_eq!(gateway.get("/v1/connect/open/7").key("odd").send().status, 200);
    assert_eq!(gateway.get("/v1/connect/%6fpen/7").send().status, 200, "one path has one spelling");
    assert_eq!(gateway.get("/v1/connect/closed").send().status, 401);
}

#[test]
fn one_resource_has_one_spelling_and_one_rule() {
    let origin = Origin::echo();
    let rules = "[[pillars.connect.routes]]\nname = \"all\"\npath = \"/{*rest}\"\nauth = \"none\"\n\
                 [[pillars.connect.routes]]\nname = \"export\"\npath = \"/admin:export\"\n";
    let gateway = Gateway::with(&origin, rules);
    assert_eq!(gateway.get("/v1/connect/anything").send().status, 200);
    for spelling in ["admin:export", "admin%3Aexport", "admin%3aexport", "%61dmin:export", "admin%3Ae%78port"] {
        assert_eq!(gateway.get(&format!("/v1/connect/{spelling}")).send().status, 401, "{spelling}");
    }
}

#[test]
fn sandbox_keys_never_reach_a_live_upstream() {
    let (live, sandbox) = (Origin::echo(), Origin::echo());
    let toml = format!("{DEFAULT}\n[upstreams.sand]\nendpoints = [\"http://{}\"]\n", sandbox.address);
    let with = format!(
        "{toml}\n[upstreams.live]\nendpoints = [\"http://{}\"]\n[pillars.both]\nupstream = \"live\"\nsandbox = \"sand\"\n[pillars.only]\nupstream = \"live\"\n",
        live.address
    );
    let gateway = Gateway::start(&with);
    let key = gateway.issue(json!({ "name": "s", "mode": "sandbox", "scopes": ["both", "only"] })).1;
    assert!(key.starts_with("sk_sandbox_"));
    assert_eq!(gateway.get("/v1/both/x").key(&key).send().status, 200);
    assert_eq!(gateway.get("/v1/only/x").key(&key).send().error(), "sandbox_not_available");
    assert_eq!((sandbox.requests(), live.requests()), (1, 0));
}

#[test]
fn keys_survive_a_restart_and_revocation_too() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let key = gateway.key(&["connect"]);
    let (id, gone) = gateway.issue(json!({ "name": "g", "mode": "live", "scopes": ["connect"] }));
    gateway.revoke(&id);
    let gateway = gateway.restart();
    assert_eq!(gateway.get("/v1/connect/x").key(&key).send().status, 200);
    assert_eq!(gateway.get("/v1/connect/x").key(&gone).send().error(), "key_revoked");
}

#[test]
fn no_secret_is_written_in_the_clear() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let key = gateway.key(&["connect"]);
    assert_eq!(gateway.get("/v1/connect/x").key(&key).send().status, 200);
    let listed = gateway.admin("GET", "/v1/keys").send();
    assert!(!listed.text().contains(&key));
    let gateway = gateway.restart();
    let mut files = vec![gateway.directory().join("data")];
    let mut looked = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        looked += 1;
        assert!(!bytes.windows(key.len()).any(|window| window == key.as_bytes()), "{}", path.display());
    }
    assert!(looked > 2, "there are files to look at");
}
