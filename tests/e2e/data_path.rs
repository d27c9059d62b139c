//! What passes through, and what does not.

use crate::harness::{DEFAULT, Gateway, Origin, request, until};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn fields(answer: &Value, name: &str) -> Vec<String> {
    let all = answer["fields"].as_array().expect("fields");
    let named = all.iter().filter(|field| field[0] == name);
    named.map(|field| field[1].as_str().expect("a value").to_owned()).collect()
}

#[test]
fn a_request_passes_three_policies_to_its_pillar() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let key = gateway.key(&["connect"]);
    let answer = gateway.call("POST", "/v1/connect/rooms/7?a=b").key(&key).field("accept", "x/y").body("hello").send();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = answer.json();
    assert_eq!(seen["method"], "POST");
    assert_eq!(seen["target"], "/rooms/7?a=b", "the prefix is cut, the query stays");
    assert_eq!(seen["body"], "hello");
    assert_eq!(fields(&seen, "accept"), ["x/y"]);
    assert_eq!(fields(&seen, "host"), ["gateway.test"]);
    assert_eq!(fields(&seen, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(fields(&seen, "x-request-id"), [answer.field("x-request-id").expect("an id")]);
    assert_eq!(answer.values("set-cookie"), ["a=1", "b=2"], "fields with several values stay several, in order");
    assert_eq!(answer.field("ratelimit-policy"), Some("\"sec\";q=100000;w=1, \"min\";q=100000;w=60"));
    assert!(answer.field("ratelimit").is_some_and(|state| state.starts_with("\"sec\";r=99999;")), "{answer:?}");
}

#[test]
fn nothing_that_names_a_connection_crosses() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let key = gateway.key(&["connect"]);
    let answer = gateway
        .get("/v1/connect/x")
        .key(&key)
        .field("connection", "x-hop")
        .field("x-hop", "1")
        .field("keep-alive", "timeout=5")
        .field("te", "trailers")
        .field("proxy-authorization", "Basic xyz")
        .field("x-portico-assertion", "forged")
        .field("x-forwarded-for", "10.0.0.1")
        .field("forwarded", "for=10.0.0.1")
        .field("x-request-id", "mine")
        .send();
    let seen = answer.json();
    for name in ["x-hop", "keep-alive", "te", "proxy-authorization", "authorization", "forwarded"] {
        assert_eq!(fields(&seen, name), Vec::<String>::new(), "{name}");
    }
    assert_eq!(fields(&seen, "x-forwarded-for"), ["127.0.0.1"]);
    assert_ne!(fields(&seen, "x-portico-assertion"), ["forged"]);
    assert_ne!(fields(&seen, "x-request-id"), ["mine"]);
    for name in ["x-private", "x-portico-units", "keep-alive"] {
        assert_eq!(answer.field(name), None, "{name} of the upstream stays behind");
    }
}

#[test]
fn the_upstream_learns_who_calls_by_a_signed_word() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let (id, key) = gateway.issue(serde_json::json!({ "name": "a", "mode": "live", "scopes": ["connect"] }));
    let answer = gateway.get("/v1/connect/x").key(&key).send();
    let token = fields(&answer.json(), "x-portico-assertion").pop().expect("an assertion");
    let jwks = gateway.get("/.well-known/jwks.json").send().json();
    let claims = verified(&token, &jwks);
    assert_eq!(claims["aud"], "connect");
    assert_eq!(claims["sub"], id.as_str());
    assert_eq!(claims["scope"], "connect");
    assert_eq!(claims["mode"], "live");
    assert_eq!(claims["jti"].as_str(), answer.field("x-request-id"));
    let life = claims["exp"].as_u64().expect("exp") - claims["iat"].as_u64().expect("iat");
    assert!(life <= 60, "{life} s");
}

/// The claims of a JWT (RFC 7519), after its signature was checked against a key set (RFC 8037).
pub fn verified(token: &str, jwks: &Value) -> Value {
    use base64::Engine as _;
    let decode = |text: &str| base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(text).expect("base64url");
    let mut parts = token.split('.');
    let (head, body, signature) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let header: Value = serde_json::from_slice(&decode(head)).expect("JSON");
    assert_eq!(header["alg"], "EdDSA");
    let keys = jwks["keys"].as_array().expect("keys");
    let key = keys.iter().find(|key| key["kid"] == header["kid"]).expect("the key");
    let public = decode(key["x"].as_str().expect("x"));
    ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, public)
        .verify(format!("{head}.{body}").as_bytes(), &decode(signature))
        .expect("a good signature");
    serde_json::from_slice(&decode(body)).expect("JSON")
}

#[test]
fn events_flow_one_by_one() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let key = gateway.key(&["connect"]);
    let mut stream = TcpStream::connect(gateway.public).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET /v1/connect/endless HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\n\r\n").unwrap();
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains("data: 3\n") {
        let read = stream.read(&mut buffer).expect("the next event");
        assert!(read > 0, "the stream ended: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}

#[test]
fn large_bodies_pass_both_ways() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let key = gateway.key(&["connect"]);
    assert_eq!(gateway.get("/v1/connect/big").key(&key).send().body.len(), 4 << 20);
    let answer = gateway.call("PUT", "/v1/connect/up").key(&key).body(vec![b'y'; 4 << 20]).send();
    assert_eq!(answer.json()["bytes"], 4 << 20);
}

#[test]
fn answers_without_a_body_and_heads_are_whole() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let key = gateway.key(&["connect"]);
    let empty = gateway.get("/v1/connect/empty").key(&key).send();
    assert_eq!((empty.status, empty.body.len()), (204, 0));
    let head = gateway.call("HEAD", "/v1/connect/x").key(&key).send();
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert!(head.field("content-length").is_some_and(|length| length != "0"));
}

#[test]
fn connections_to_the_upstream_are_kept() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let key = gateway.key(&["connect"]);
    until("the first probe was made", || origin.connections() > 0);
    let probes = origin.connections();
    for _ in 0..20 {
        assert_eq!(gateway.get("/v1/connect/x").key(&key).send().status, 200);
    }
    // Another probe may fall in between.
    assert!(origin.connections() - probes <= 4, "{} connections for 20 requests", origin.connections() - probes);
    assert_eq!(origin.requests(), 20);
}

#[test]
fn an_upstream_that_fails_is_named() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let origin = Origin::echo();
    let toml = format!(
        "{DEFAULT}\n[upstreams.gone]\nendpoints = [\"http://{gone}\"]\n[pillars.gone]\nupstream = \"gone\"\n\
         [upstreams.slow]\nendpoints = [\"http://{}\"]\nresponse_timeout = \"100ms\"\n[pillars.slow]\nupstream = \"slow\"\n",
        origin.address
    );
    let gateway = Gateway::with(&origin, &toml);
    let key = gateway.key(&["connect", "gone", "slow"]);
    let answer = gateway.get("/v1/gone/x").key(&key).send();
    assert_eq!((answer.status, answer.error().as_str()), (502, "upstream_unreachable"));
    let answer = gateway.get("/v1/slow/slow/20000").key(&key).send();
    assert_eq!((answer.status, answer.error().as_str()), (504, "upstream_timed_out"));
    let answer = gateway.get("/v1/connect/hang-up").key(&key).send();
    assert_eq!((answer.status, answer.error().as_str()), (502, "upstream_broke"));
    // A body that breaks off is cut off, never made to look whole.
    let broken = gateway.get("/v1/connect/break").key(&key).send();
    assert_eq!(broken.field("content-length"), Some("1000"));
    assert!(broken.body.len() < 1000);
    until("health tells of it", || {
        let health = gateway.get("/v1/health").send().json();
        health["upstream_status"]["gone"] == "down" && health["upstream_status"]["connect"] == "live"
    });
}

#[test]
fn a_pillar_without_an_upstream_says_so() {
    let origin = Origin::echo();
    let toml = format!("{DEFAULT}\n[pillars.pay]\n");
    let gateway = Gateway::with(&origin, &toml);
    let key = gateway.key(&["pay"]);
    let answer = gateway.call("POST", "/v1/pay/transfers").key(&key).send();
    assert_eq!((answer.status, answer.error().as_str()), (503, "upstream_not_yet_implemented"));
    let problem = answer.json();
    assert_eq!(problem["pillar"], "pay");
    assert_eq!(problem["path"], "/v1/pay/transfers");
    assert_eq!(problem["method"], "POST");
    assert!(problem["developer_docs"].is_string());
    let anonymous = gateway.get("/v1/pay/transfers").send();
    assert_eq!(anonymous.error(), "missing_authorization", "auth comes first");
}

#[test]
fn the_gateway_has_pages_of_its_own() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, &format!("{DEFAULT}\n[pillars.pay]\n"));
    let landing = gateway.get("/").send();
    assert!(landing.field("content-type").is_some_and(|media| media.starts_with("text/html")));
    assert!(landing.text().contains("Portico") && landing.text().contains("/v1/connect"));
    assert_eq!(gateway.get("/healthz").send().text(), "ok\n");
    assert_eq!(gateway.get("/readyz").send().status, 200);
    let health = gateway.get("/v1/health").send().json();
    assert_eq!(health["upstream_status"]["pay"], "scaffold");
    let other = gateway.call("POST", "/healthz").send();
    assert_eq!((other.status, other.field("allow")), (405, Some("GET, HEAD")));
    assert_eq!(gateway.get("/nothing/here").send().error(), "not_found");
    assert_eq!(gateway.get("/v1").send().error(), "not_found");
}

#[test]
fn usage_is_booked_for_each_exchange() {
    let origin = Origin::echo();
    let toml =
        format!("{DEFAULT}\n[pillars.connect.config.gas.default]\ngas = \"0.5\"\nper = \"unit\"\nmax_units = 10\n");
    let gateway = Gateway::with(&origin, &toml);
    let key = gateway.key(&["connect"]);
    let org = gateway.admin("GET", "/v1/orgs").send().json()["orgs"][0]["id"].as_str().expect("an org").to_owned();
    for _ in 0..3 {
        assert_eq!(gateway.call("POST", "/v1/connect/x").key(&key).body("12345").send().status, 200);
    }
    assert_eq!(gateway.get("/v1/connect/status/500").key(&key).send().status, 500);
    assert_eq!(gateway.get("/v1/connect/x").key("sk_live_odd").send().status, 401);
    let usage = || gateway.admin("GET", &format!("/v1/usage?org={org}")).send().json();
    until("usage is kept", || usage()["by_pillar"]["connect"]["calls"] == 4);
    let connect = usage()["by_pillar"]["connect"].clone();
    assert_eq!(connect["bytes_in"], 15);
    // Three successes, three reported units each, half a token a unit; the 500 is free.
    assert_eq!(connect["gas"], "4.5", "{connect}");
    let anonymous = gateway.admin("GET", "/v1/usage").send().json();
    assert_eq!(anonymous["total"]["calls"], 1, "{anonymous}");
    let restarted = gateway.restart();
    let usage = restarted.admin("GET", &format!("/v1/usage?org={org}")).send().json();
    assert_eq!(usage["by_pillar"]["connect"]["calls"], 4, "usage survives a restart");
}

#[test]
fn running_requests_end_before_the_gateway_does() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let key = gateway.key(&["connect"]);
    let public = gateway.public;
    let slow = std::thread::spawn(move || request(public, "GET", "/v1/connect/slow/400").key(&key).send());
    until("the request is at the origin", || origin.requests() == 1);
    let begun = Instant::now();
    drop(gateway);
    assert_eq!(slow.join().expect("no panic").status, 200);
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(TcpStream::connect(public).is_err(), "no new connections");
}

#[test]
fn an_upload_that_stalls_spoils_nobody_elses_connection() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let key = gateway.key(&["connect"]);
    let mut stalled = TcpStream::connect(gateway.public).unwrap();
    stalled.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let head = format!(
        "PUT /v1/connect/empty HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\ncontent-length: 1000000\r\n\r\nbegun"
    );
    stalled.write_all(head.as_bytes()).unwrap();
    let mut buffer = [0; 1024];
    let read = stalled.read(&mut buffer).expect("the upstream answers early");
    assert!(buffer[..read].starts_with(b"HTTP/1.1 204"), "{}", String::from_utf8_lossy(&buffer[..read]));
    let begun = Instant::now();
    for _ in 0..3 {
        assert_eq!(gateway.get("/v1/connect/x").key(&key).send().status, 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn old_clients_without_a_host_are_served() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let key = gateway.key(&["connect"]);
    let health = crate::harness::raw(gateway.public, b"GET /healthz HTTP/1.0\r\n\r\n");
    assert!(health.starts_with(b"HTTP/1.0 200"), "{}", String::from_utf8_lossy(&health));
    let request = format!("GET /v1/connect/x HTTP/1.0\r\nauthorization: Bearer {key}\r\n\r\n");
    let answer = String::from_utf8(crate::harness::raw(gateway.public, request.as_bytes())).unwrap();
    assert!(answer.contains(&format!("[\"host\",\"{}\"]", origin.address)), "{answer}");
}

#[test]
fn what_is_cut_off_by_the_end_is_counted() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let key = gateway.key(&["connect"]);
    let org = gateway.admin("GET", "/v1/orgs").send().json()["orgs"][0]["id"].as_str().expect("an org").to_owned();
    let mut stream = TcpStream::connect(gateway.public).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET /v1/connect/endless HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\n\r\n").unwrap();
    let mut buffer = [0; 4096];
    assert!(stream.read(&mut buffer).expect("an answer") > 0);
    let gateway = gateway.restart();
    let usage = gateway.admin("GET", &format!("/v1/usage?org={org}")).send().json();
    assert_eq!(usage["total"]["calls"], 1, "{usage}");
}

#[test]
fn stalled_uploads_do_not_hold_connections_to_the_upstream() {
    let origin = Origin::echo();
    let toml = format!(
        "{DEFAULT}\n[upstreams.narrow]\nendpoints = [\"http://{}\"]\nconnections = 2\n[pillars.narrow]\nupstream = \"narrow\"\n",
        origin.address
    );
    let gateway = Gateway::start(&toml);
    let key = gateway.key(&["narrow"]);
    let stall = || {
        let mut stalled = TcpStream::connect(gateway.public).unwrap();
        stalled.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let head = format!(
            "PUT /v1/narrow/empty HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\ncontent-length: 100\r\n\r\nbegun"
        );
        stalled.write_all(head.as_bytes()).unwrap();
        let mut buffer = [0; 1024];
        assert!(stalled.read(&mut buffer).expect("the upstream answers early") > 0);
        stalled
    };
    let _stalled: Vec<_> = (0..6).map(|_| stall()).collect();
    for _ in 0..6 {
        assert_eq!(gateway.get("/v1/narrow/x").key(&key).send().status, 200);
    }
}
