//! What happens to keys while they are in use: on real workers, through the shipped policies.

use crate::harness::{Answer, DEFAULT, Gateway, Origin, request};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

fn tell(gateway: &Gateway, method: &str, path: &str, body: Value) -> Answer {
    gateway.admin(method, path).field("content-type", "application/json").body(body.to_string()).send()
}

fn status(gateway: &Gateway, secret: &str) -> (u16, String) {
    let answer = gateway.get("/v1/connect/x").key(secret).send();
    let error = if answer.status == 200 { String::new() } else { answer.error() };
    (answer.status, error)
}

#[test]
fn scopes_rotations_and_imports_hold_on_all_workers_and_after_a_restart() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let (id, old) = gateway.issue(json!({ "name": "k", "scopes": ["connect"] }));
    assert_eq!(status(&gateway, &old).0, 200);
    let scope = format!("/v1/keys/{id}/scope");
    // What manages opens no pillar, under whatever policies.
    assert_eq!(tell(&gateway, "PATCH", &scope, json!({ "scopes": ["keys:read", "usage:read"] })).status, 200);
    assert_eq!(status(&gateway, &old), (403, "insufficient_scope".into()));
    assert_eq!(tell(&gateway, "PATCH", &scope, json!({ "scopes": ["connect"] })).status, 200);

    let rotate = |body: Value| {
        let answer = tell(&gateway, "POST", &format!("/v1/keys/{id}/rotate"), body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["secret"].as_str().expect("a secret").to_owned()
    };
    let second = rotate(json!({ "overlap": 3600 }));
    assert_eq!((status(&gateway, &old).0, status(&gateway, &second).0), (200, 200));
    let third = rotate(json!({ "overlap": 0, "force": true }));
    assert_eq!(status(&gateway, &old), (401, "invalid_api_key".into()));
    assert_eq!(status(&gateway, &second), (401, "key_expired".into()));
    assert_eq!(status(&gateway, &third).0, 200);

    let import =
        json!({ "keys": [{ "secret": "sk_live_of_another_system_7654321", "name": "o", "scopes": ["connect"] }] });
    assert_eq!(tell(&gateway, "POST", "/v1/keys/import", import).status, 201);
    assert_eq!(status(&gateway, "sk_live_of_another_system_7654321").0, 200);
    assert_eq!(gateway.admin("POST", "/v1/peppers").send().status, 201);

    let gateway = gateway.restart();
    assert_eq!(status(&gateway, &third).0, 200);
    assert_eq!(status(&gateway, &second), (401, "key_expired".into()));
    assert_eq!(status(&gateway, "sk_live_of_another_system_7654321").0, 200);
    let verdict = gateway.admin("GET", "/v1/audit/verify").send().json();
    assert_eq!(verdict["whole"], true, "{verdict}");
}

#[test]
fn under_load_no_request_goes_wrong_through_a_rotation_and_none_goes_through_after_a_revocation() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let (id, secret) = gateway.issue(json!({ "name": "k", "scopes": ["connect"] }));
    let (revoked, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                loop {
                    // What is sent after the answer to the revocation must be refused.
                    let after = revoked.load(Ordering::SeqCst);
                    let answer = request(gateway.public, "GET", "/v1/connect/x").key(&secret).send();
                    calls.fetch_add(1, Ordering::Relaxed);
                    if after {
                        assert_eq!((answer.status, answer.error().as_str()), (401, "key_revoked"));
                        return;
                    }
                    assert!(answer.status == 200 || answer.error() == "key_revoked", "{}", answer.text());
                }
            });
        }
        let served = |more: u64| {
            let goal = calls.load(Ordering::Relaxed) + more;
            crate::harness::until("requests are served", || calls.load(Ordering::Relaxed) >= goal);
        };
        served(20);
        let answer = tell(&gateway, "POST", &format!("/v1/keys/{id}/rotate"), json!({ "overlap": 3600 }));
        assert_eq!(answer.status, 200, "{}", answer.text());
        served(20);
        assert_eq!(gateway.revoke(&id).status, 200);
        revoked.store(true, Ordering::SeqCst);
    });
}

#[test]
fn a_token_of_an_org_sees_nothing_of_the_whole_gateway_and_acts_on_plugins_are_noted() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let org = tell(&gateway, "POST", "/v1/orgs", json!({ "slug": "acme" })).json();
    let token = tell(&gateway, "POST", "/v1/tokens", json!({ "name": "t", "role": "org-admin", "org": "acme" })).json();
    let token = token["secret"].as_str().expect("a secret");
    let ask = |method: &str, path: &str| request(gateway.admin, method, path).key(token).send();
    for (method, path) in [("GET", "/v1/plugins"), ("POST", "/v1/plugins/gas/disable"), ("GET", "/metrics")] {
        let answer = ask(method, path);
        assert_eq!((answer.status, answer.error().as_str()), (403, "insufficient_role"), "{path}");
    }
    let own = ask("GET", "/v1/usage").json();
    assert_eq!(own["org"], org["id"]);
    let default = gateway.admin("GET", "/v1/orgs/default").send().json();
    let other = ask("GET", &format!("/v1/usage?org={}", default["id"].as_str().expect("an id")));
    assert_eq!((other.status, other.error().as_str()), (404, "not_found"));

    assert_eq!(gateway.admin("POST", "/v1/plugins/gas/disable").send().status, 200);
    assert_eq!(gateway.admin("POST", "/v1/plugins/nobody/disable").send().status, 404);
    let noted = gateway.admin("GET", "/v1/audit?action=plugin").send().json();
    let outcomes: Vec<_> = noted["entries"]
        .as_array()
        .expect("entries")
        .iter()
        .map(|entry| (entry["on"][0].as_str().unwrap_or(""), entry["after"]["outcome"].as_str().unwrap_or("")))
        .collect();
    assert_eq!(outcomes, [("nobody", "failed"), ("nobody", "begun"), ("gas", "done"), ("gas", "begun")]);
    assert_eq!(ask("GET", "/v1/audit?action=plugin").json()["entries"], json!([]));
}

#[test]
fn whoever_is_revoked_rotated_away_or_narrowed_while_a_body_comes_does_nothing() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let body = json!({ "name": "late", "scopes": ["connect"] }).to_string();
    for (method, end, change, error) in [
        ("DELETE", "", json!({}), "key_revoked"),
        ("POST", "/rotate", json!({ "overlap": 0 }), "key_expired"),
        ("PATCH", "/scope", json!({ "scopes": ["connect"] }), "insufficient_scope"),
    ] {
        let (id, secret) = gateway.issue(json!({ "name": "k", "scopes": ["connect", "keys:write"] }));
        let mut stream = TcpStream::connect(gateway.public).expect("the gateway listens");
        let head = format!(
            "POST /v1/keys HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {secret}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("a head");
        // The body is asked for when all that stands before it has let the head pass.
        let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
        let mut told = vec![0; go_on.len()];
        stream.read_exact(&mut told).expect("an interim answer");
        assert_eq!(told, go_on, "{}", String::from_utf8_lossy(&told));
        assert_eq!(tell(&gateway, method, &format!("/v1/keys/{id}{end}"), change).status, 200);
        stream.write_all(body.as_bytes()).expect("a body");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.contains(&format!("\"error\":\"{error}\"")), "{answer}");
    }
    let keys = gateway.admin("GET", "/v1/keys?limit=200").send().json();
    assert!(keys["keys"].as_array().expect("keys").iter().all(|key| key["name"] != "late"), "{keys}");
}

#[test]
fn many_who_want_keys_at_once_get_as_many_as_the_org_may_have_and_the_bound_is_applied_live() {
    let origin = Origin::echo();
    let bound = |most: u32| {
        let address = origin.address;
        let upstream = format!("[upstreams.origin]\nendpoints = [\"http://{address}\"]\n[pillars.connect]\n");
        format!("{DEFAULT}\n[keys]\nmost = {most}\n{upstream}upstream = \"origin\"\n")
    };
    let gateway = Gateway::start(&bound(6));
    let manager = gateway.key(&["connect", "keys:write", "keys:read"]);
    let order = json!({ "name": "n", "scopes": ["connect"] }).to_string();
    let made = AtomicU64::new(1);
    let ask = |own: bool| {
        let call = match own {
            true => gateway.call("POST", "/v1/keys").key(&manager),
            false => gateway.admin("POST", "/v1/keys"),
        };
        let answer = call.field("content-type", "application/json").body(&order).send();
        match answer.status {
            201 => drop(made.fetch_add(1, Ordering::SeqCst)),
            _ => assert_eq!((answer.status, answer.error().as_str()), (409, "too_many_keys")),
        }
    };
    std::thread::scope(|threads| {
        let ask = &ask;
        for number in 0..16 {
            threads.spawn(move || ask(number % 2 == 0));
        }
    });
    let listed = || gateway.get("/v1/keys?limit=200").key(&manager).send().json()["keys"].as_array().map(Vec::len);
    assert_eq!((made.load(Ordering::SeqCst), listed()), (6, Some(6)));
    let post = |path: &str, body: Value| tell(&gateway, "POST", path, body);
    let import =
        json!({ "keys": [{ "secret": "sk_live_of_a_third_system_1234567", "name": "o", "scopes": ["connect"] }] });
    assert_eq!(post("/v1/keys/import", import.clone()).error(), "too_many_keys");
    assert_eq!(status(&gateway, "sk_live_of_a_third_system_1234567").0, 401);

    let before = gateway.generation();
    gateway.save(&bound(7));
    crate::harness::until("it is applied", || gateway.generation() > before);
    assert_eq!(post("/v1/keys/import", import).status, 201);
    assert_eq!(post("/v1/keys", json!({ "name": "n", "scopes": ["connect"] })).error(), "too_many_keys");
}
