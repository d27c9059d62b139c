//! Policies that follow bodies: what they see, what they change, in which order, and what that does to the head.

use crate::harness::{Answer, Gateway, Origin, patched, until};
use crate::powers::inline;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

mod both;
mod ending;
mod large;
mod refused;
mod work;

/// A policy of the chain: the guest `follower`, with this configuration.
pub struct Link {
    policy: &'static str,
    descriptor: Value,
    config: Value,
    more: &'static str,
}

impl Link {
    /// One that follows in the modes that the descriptor names; it is granted what it declares.
    pub fn new(policy: &'static str, mut descriptor: Value, config: Value) -> Self {
        for (name, value) in [("name", "follower"), ("version", "1.0.0"), ("summary", "Follows as told.")] {
            descriptor[name] = value.into();
        }
        Self { policy, descriptor, config, more: "" }
    }

    /// With further keys of the policy.
    pub fn with(mut self, more: &'static str) -> Self {
        self.more = more;
        self
    }

    pub fn toml(&self) -> String {
        let bodies =
            ["request", "response"].into_iter().filter(|way| self.descriptor.get(format!("{way}_body")).is_some());
        let powers = self.descriptor.get("powers").map_or("[]".to_owned(), inline);
        let charges = if powers.contains("charge") { "grant.maximum_charge = \"1\"\n" } else { "" };
        let instance = if self.more.contains("instance") { "" } else { "instance = \"pooled\"\n" };
        let deadline = if self.more.contains("deadline") { "" } else { "deadline = \"10s\"\n" };
        format!(
            "[policies.{name}]\n{instance}{deadline}{more}\ngrant.bodies = {bodies:?}\ngrant.powers = {powers}\n{charges}\
             config = {config}\n",
            name = self.policy,
            more = self.more,
            bodies = bodies.collect::<Vec<_>>(),
            config = inline(&self.config),
        )
    }

    pub fn component(&self) -> (&'static str, Vec<u8>) {
        (self.policy, patched("follower", &self.descriptor))
    }
}

/// The configuration of a pillar `connect` behind these policies, in this order; all of it is open to anyone.
pub fn toml(origin: SocketAddr, chain: &[Link], more: &str) -> String {
    let names: Vec<&str> = chain.iter().map(|link| link.policy).collect();
    let policies: String = chain.iter().map(Link::toml).collect();
    format!(
        "[defaults]\nchain = {names:?}\n{policies}{more}\n[upstreams.origin]\nendpoints = [\"http://{origin}\"]\n\
         [pillars.connect]\nupstream = \"origin\"\n\
         [[pillars.connect.routes]]\nname = \"open\"\npath = \"/{{*rest}}\"\nauth = \"none\"\n"
    )
}

pub fn gateway(origin: SocketAddr, chain: &[Link], more: &str) -> Gateway {
    let components: Vec<_> = chain.iter().map(Link::component).collect();
    Gateway::start_with(&toml(origin, chain, more), &components)
}

/// Sends a body to a path that answers with what the origin got.
pub fn post(gateway: &Gateway, body: impl AsRef<[u8]>) -> Answer {
    gateway.call("POST", "/v1/connect/x").body(body).send()
}

/// The values of a field in the request that the upstream got.
fn upstream_saw(answer: &Answer, field: &str) -> Vec<String> {
    let fields: Vec<(String, String)> = serde_json::from_value(answer.json()["fields"].clone()).expect("pairs");
    fields.into_iter().filter(|(name, _)| name == field).map(|(_, value)| value).collect()
}

/// Sends bytes as they are, and leaves the connection open.
pub fn open(gateway: &Gateway, bytes: impl AsRef<[u8]>) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.public).expect("the gateway listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
    stream.write_all(bytes.as_ref()).expect("it takes them");
    stream
}

/// Reads until what came has this in it.
pub fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&seen).contains(wanted) {
        let read = stream.read(&mut buffer).expect("more comes");
        assert!(read > 0, "it ended without {wanted:?}: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&seen).into_owned()
}

/// The connection on which a request with this in it comes; those that only ask whether somebody is there are passed over.
pub fn accept(listener: &TcpListener, wanted: &str) -> TcpStream {
    accept_and_read(listener, wanted).0
}

/// As [`accept`], with what came.
pub fn accept_and_read(listener: &TcpListener, wanted: &str) -> (TcpStream, String) {
    loop {
        let (mut stream, _) = listener.accept().expect("a connection");
        if stream.peek(&mut [0]).is_ok_and(|read| read > 0) {
            let seen = read_until(&mut stream, wanted);
            return (stream, seen);
        }
    }
}

#[test]
fn an_inspected_request_body_passes_as_it_is() {
    let origin = Origin::echo();
    let inspects = json!({ "request_body": "inspect" });
    let gateway = gateway(origin.address, &[Link::new("eye", inspects, json!({}))], "");
    let answer = gateway.call("POST", "/v1/connect/x").field("content-md5", "abc").body("hello").send();
    assert_eq!((answer.status, answer.json()["body"].as_str()), (200, Some("hello")));
    assert_eq!(upstream_saw(&answer, "content-length"), ["5"]);
    assert_eq!(upstream_saw(&answer, "content-md5"), ["abc"]);
}

#[test]
fn chunks_are_bounded_and_the_end_knows_all_of_them() {
    let origin = Origin::echo();
    let descriptor = json!({ "request_body": "inspect", "powers": ["respond"] });
    let config = json!({ "carry": "word", "request": { "respond": true } });
    for instance in ["instance = \"pooled\"", "instance = \"fresh\""] {
        let gateway =
            gateway(origin.address, &[Link::new("eye", descriptor.clone(), config.clone()).with(instance)], "");
        let told = post(&gateway, vec![b'x'; 300_000]).text();
        assert!(told.starts_with("bytes=300000 ") && told.ends_with("length=300000 carry=word"), "{told}");
        let largest = told.split("largest=").nth(1).and_then(|rest| rest.split(' ').next()).expect("a number");
        assert!(largest.parse::<usize>().expect("a number") <= 65_536, "{told}");
        // Without a body there is an end, and no chunk; what was counted before is forgotten.
        let told = gateway.get("/v1/connect/x").send().text();
        assert_eq!(told, "bytes=0 chunks=0 largest=0 length=0 carry=word");
    }
}

#[test]
fn a_transformed_request_body_is_sent_in_chunks_and_its_digests_go() {
    let origin = Origin::echo();
    let config = json!({ "request": { "replace": "upper", "more": "!" } });
    let gateway = gateway(origin.address, &[Link::new("loud", json!({ "request_body": "transform" }), config)], "");
    for method in ["POST", "GET"] {
        let call = gateway.call(method, "/v1/connect/x").field("content-md5", "abc").field("etag", "\"e\"");
        let answer = call.body("hello").send();
        assert_eq!(answer.json()["body"], "HELLO!", "{method}");
        assert_eq!(upstream_saw(&answer, "transfer-encoding"), ["chunked"], "{method}");
        for gone in ["content-length", "content-md5", "etag"] {
            assert_eq!(upstream_saw(&answer, gone), Vec::<String>::new(), "{gone}");
        }
    }
    let nothing = gateway.get("/v1/connect/x").send();
    assert_eq!(nothing.json()["body"], "!", "what is added to an empty body is all of it");
}

/// A length that nobody announced, with a method that seldom has a body.
#[test]
fn a_body_in_chunks_passes_with_every_method() {
    let origin = Origin::echo();
    let inspects = json!({ "request_body": "inspect" });
    let followed = gateway(origin.address, &[Link::new("eye", inspects, json!({}))], "");
    let plain = gateway(origin.address, &[], "");
    for (gateway, method) in [(&followed, "GET"), (&followed, "POST"), (&plain, "GET"), (&plain, "POST")] {
        let head = format!("{method} /v1/connect/x HTTP/1.1\r\nhost: g\r\nconnection: close\r\n");
        let mut stream = open(gateway, format!("{head}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"));
        read_until(&mut stream, r#""body":"hello""#);
    }
}

#[test]
fn a_held_request_body_can_still_change_the_head() {
    let (origin, other) = (Origin::echo(), Origin::echo());
    let descriptor = json!({
        "request_body": { "buffered": 100 }, "request_writes": ["x-told"], "powers": ["forward", "rewrite-path"],
    });
    let config = json!({
        "targets": ["other"], "request": { "replace": "double", "tell": true, "path": "/elsewhere", "forward": 0 },
    });
    let more = format!("[upstreams.other]\nendpoints = [\"http://{}\"]\n", other.address);
    let gateway = gateway(origin.address, &[Link::new("holds", descriptor, config)], &more);
    let answer = post(&gateway, "hello");
    assert_eq!((origin.requests(), other.requests()), (0, 1), "the body chose the upstream");
    assert_eq!(answer.json()["target"], "/elsewhere");
    assert_eq!(answer.json()["body"], "hellohello");
    assert_eq!(upstream_saw(&answer, "content-length"), ["10"], "a body that was held has a length");
    assert_eq!(upstream_saw(&answer, "x-told"), ["bytes=5 chunks=1 largest=5 length=5 carry="]);
}

#[test]
fn requests_pass_in_chain_order_and_responses_in_reverse() {
    let origin = Origin::echo();
    let link = |name, mode: Value, marks: [&str; 2]| {
        let wrap = json!({ "wrap": marks });
        let descriptor = json!({ "request_body": mode, "response_body": mode });
        Link::new(name, descriptor, json!({ "request": wrap, "response": wrap }))
    };
    for mode in [json!("transform"), json!({ "buffered": 100_000 })] {
        let chain = [
            link("first", json!("transform"), ["(1", "1)"]),
            link("second", mode.clone(), ["(2", "2)"]),
            link("third", json!("transform"), ["(3", "3)"]),
        ];
        let gateway = gateway(origin.address, &chain, "");
        let answer = post(&gateway, "x");
        let text = answer.text();
        assert_eq!(answer.status, 200, "{mode}");
        assert!(text.contains(r#""body":"(3(2(1x1)2)3)""#), "{mode}: {text}");
        assert!(text.starts_with("(1(2(3{") && text.ends_with("}3)2)1)"), "{mode}: {text}");
        assert_eq!(answer.field("content-length"), None, "{mode}: the first one still streams");
    }
}

#[test]
fn a_held_response_can_still_change_its_head_or_be_replaced() {
    let origin = Origin::echo();
    let descriptor = json!({
        "response_body": { "buffered": 5_000_000 }, "response_writes": ["x-told"], "powers": ["respond"],
    });
    let tells = json!({ "carry": "c", "response": { "tell": true } });
    let gateway = |config| gateway(origin.address, &[Link::new("holds", descriptor.clone(), config)], "");
    let telling = gateway(tells);
    let answer = telling.get("/v1/connect/big").send();
    assert!(answer.field("x-told").is_some_and(|told| told.starts_with("bytes=4194304 ")), "{:?}", answer.fields);
    assert_eq!((answer.body.len(), answer.field("content-length")), (4 << 20, Some("4194304")));
    let changed = gateway(json!({ "response": { "replace": "drop", "more": "gone" } }));
    let answer = changed.get("/v1/connect/big").send();
    assert_eq!((answer.text().as_str(), answer.field("content-length")), ("gone", Some("4")));
    let replaced = gateway(json!({ "response": { "respond": true } })).get("/v1/connect/big").send();
    assert!(replaced.text().starts_with("bytes=4194304 "), "{}", replaced.text());
}

#[test]
fn responses_without_a_body_have_an_end_and_nothing_else() {
    let origin = Origin::echo();
    let descriptor = json!({ "response_body": { "buffered": 1000 }, "response_writes": ["x-told"] });
    let config = json!({ "response": { "tell": true, "more": "more" } });
    let gateway = gateway(origin.address, &[Link::new("holds", descriptor, config)], "");
    for (method, path, status) in [("HEAD", "/v1/connect/x", 200), ("GET", "/v1/connect/empty", 204)] {
        let answer = gateway.call(method, path).send();
        assert_eq!((answer.status, answer.body.len()), (status, 0), "{method}");
        assert_eq!(answer.field("x-told"), Some("bytes=0 chunks=0 largest=0 length=unknown carry="), "{method}");
    }
}

#[test]
fn a_body_that_is_of_no_interest_passes_by() {
    let origin = Origin::echo();
    let skip = json!({ "skip": true, "replace": "drop" });
    let descriptor = json!({ "request_body": "transform", "response_body": { "buffered": 10 } });
    let link = Link::new("idle", descriptor, json!({ "request": skip, "response": skip })).with("bodies = 1");
    let gateway = gateway(origin.address, &[link], "");
    for _ in 0..3 {
        let answer = post(&gateway, "hello");
        assert_eq!(answer.json()["body"], "hello");
        assert_eq!(upstream_saw(&answer, "content-length"), ["5"]);
        assert!(answer.field("content-length").is_some(), "{answer:?}");
    }
}

/// The SDK's example, written as an author would.
#[test]
fn the_example_of_the_sdk_hides_long_numbers() {
    let origin = Origin::echo();
    let toml = format!(
        "[policies.mask]\ngrant.bodies = [\"response\"]\n[upstreams.o]\nendpoints = [\"http://{}\"]\n\
         [pillars.connect]\nupstream = \"o\"\nchain = [\"mask\"]\n[[pillars.connect.routes]]\npath = \"/{{*rest}}\"\nauth = \"none\"\n",
        origin.address
    );
    let gateway = Gateway::start(&toml);
    let document = post(&gateway, "card 4000123412341234, room 42").json();
    assert_eq!(document["body"], "card ****************, room 42");
    assert_eq!(gateway.get("/v1/connect/big").send().field("content-length"), Some("4194304"), "no text passes by");
}

#[test]
fn no_policy_sees_the_body_of_an_answer_with_a_new_secret() {
    let origin = Origin::echo();
    let loud =
        Link::new("loud", json!({ "response_body": "transform" }), json!({ "response": { "replace": "upper" } }));
    let gateway = gateway(origin.address, &[loud], "");
    let (id, key) = gateway.issue(json!({ "name": "manages", "scopes": ["keys:write", "webhooks:write"] }));
    let tell = |path: &str, body: serde_json::Value| {
        let call = gateway.call("POST", path).key(&key).field("content-type", "application/json");
        call.body(body.to_string()).send()
    };
    assert!(gateway.get("/v1/me").key(&key).send().text().contains("MANAGES"), "it follows all other bodies");
    let made = tell("/v1/webhooks", json!({ "url": "https://hooks.example.com/portico", "events": ["key.revoked"] }));
    let place = format!("/v1/webhooks/{}/rotate", made.json()["id"].as_str().expect("an id, as it was made"));
    for answer in [made, tell(&place, json!({}))] {
        assert!(
            answer.json()["secret"].as_str().is_some_and(|secret| secret.starts_with("whsec_")),
            "{}",
            answer.text()
        );
    }
    let issued = tell("/v1/keys", json!({ "name": "ci", "scopes": ["keys:write"] }));
    let rotated = tell(&format!("/v1/keys/{id}/rotate"), json!({}));
    for answer in [issued, rotated] {
        let secret = answer.json()["secret"].as_str().expect("a secret, as it was made").to_owned();
        assert_eq!(gateway.get("/v1/me").key(&secret).send().status, 200);
    }
}

/// Each event comes while the next ones are not sent yet: the stream never ends.
#[test]
fn events_pass_one_by_one() {
    let origin = Origin::echo();
    let chain = [
        Link::new("loud", json!({ "response_body": "transform" }), json!({ "response": { "replace": "upper" } })),
        Link::new("eye", json!({ "response_body": "inspect" }), json!({})),
    ];
    let gateway = gateway(origin.address, &chain, "");
    let mut stream = open(&gateway, "GET /v1/connect/endless HTTP/1.1\r\nhost: g\r\n\r\n");
    for event in 0..5 {
        read_until(&mut stream, &format!("DATA: {event}\n\n"));
    }
}

#[test]
fn a_client_that_waits_to_be_asked_for_its_body_is_asked() {
    let origin = Origin::echo();
    let config = json!({ "request": { "replace": "upper" } });
    let link = Link::new("holds", json!({ "request_body": { "buffered": 100 } }), config);
    let gateway = gateway(origin.address, &[link], "");
    let head = "POST /v1/connect/x HTTP/1.1\r\nhost: g\r\nexpect: 100-continue\r\nconnection: close\r\n";
    let mut stream = open(&gateway, format!("{head}content-length: 5\r\n\r\n"));
    read_until(&mut stream, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").expect("it takes them");
    read_until(&mut stream, r#""body":"HELLO""#);
    // One that is too large by its own word is not asked.
    let mut stream = open(&gateway, format!("{head}content-length: 101\r\n\r\n"));
    let refused = read_until(&mut stream, "request_body_too_large");
    assert!(refused.starts_with("HTTP/1.1 413 "), "{refused}");
    assert_eq!(origin.requests(), 1);
}

#[test]
fn what_bodies_cost_is_charged_and_counted_as_on_the_wire() {
    let origin = Origin::echo();
    let mode = json!("transform");
    let descriptor = json!({ "request_body": mode, "response_body": mode, "powers": ["charge"] });
    let config = json!({
        "maximum_charge": 5,
        "request": { "replace": "double", "charge": 2 }, "response": { "replace": "drop", "more": "12345", "charge": 3 },
    });
    let gateway = gateway(origin.address, &[Link::new("counts", descriptor, config)], "");
    let key = gateway.key(&["connect"]);
    let answer = gateway.call("POST", "/v1/connect/x").key(&key).body("hello").send();
    assert_eq!((answer.status, answer.text().as_str()), (200, "12345"));
    let org = gateway.admin("GET", "/v1/orgs").send().json()["orgs"][0]["id"].as_str().expect("an org").to_owned();
    let usage = || gateway.admin("GET", &format!("/v1/usage?org={org}")).send().json();
    until("usage is kept", || usage()["total"]["calls"] == 1);
    let total = usage()["total"].clone();
    assert_eq!((&total["bytes_in"], &total["bytes_out"]), (&json!(5), &json!(5)), "{total}");
    assert_eq!(total["gas"], "0.000005", "{total}");
    assert!(total["fuel"].as_u64().is_some_and(|fuel| fuel > 1000), "{total}");
}

/// One policy charges for the head, for what is sent and for what comes back: the maximum of its plan is that of the sum.
#[test]
fn charges_of_all_phases_together_stay_within_the_plan() {
    let origin = Origin::echo();
    for mode in [json!("transform"), json!({ "buffered": 10_000 })] {
        let descriptor = json!({ "request_body": mode, "response_body": mode, "powers": ["charge"] });
        let gateway = |maximum: u64| {
            let config = json!({
                "maximum_charge": maximum, "charge": 1, "request": { "charge": 2 }, "response": { "charge": 3 },
            });
            gateway(origin.address, &[Link::new("counts", descriptor.clone(), config)], "")
        };
        let within = gateway(6);
        let key = within.key(&["connect"]);
        assert_eq!(within.call("POST", "/v1/connect/x").key(&key).body("hello").send().status, 200, "{mode}");
        let org = within.admin("GET", "/v1/orgs").send().json()["orgs"][0]["id"].as_str().expect("an org").to_owned();
        let usage = || within.admin("GET", &format!("/v1/usage?org={org}")).send().json()["total"].clone();
        until("usage is kept", || usage()["calls"] == 1);
        assert_eq!(usage()["gas"], "0.000006", "{mode}");
        // The last word of the three goes beyond it.
        let beyond = gateway(5);
        let mut stream =
            open(&beyond, "POST /v1/connect/x HTTP/1.1\r\nhost: g\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert_eq!(answer.starts_with("HTTP/1.1 503 "), mode.is_object(), "{mode}: {answer}");
        assert!(!answer.contains("\r\n0\r\n\r\n"), "{mode}: it does not look whole: {answer}");
        let policy = beyond.admin("GET", "/v1/plugins").send().json()["policies"][0].clone();
        assert_eq!(policy["failures"], json!({ "not_allowed": 1 }), "{mode}");
    }
}

/// A part of what the upstream has is no part of what the client gets.
#[test]
fn no_range_is_asked_for_where_bytes_may_change() {
    let origin = Origin::echo();
    let asked_for = |mode: &str| {
        let link = Link::new("looks", json!({ "response_body": mode }), json!({ "response": {} }));
        let gateway = gateway(origin.address, &[link], "");
        let key = gateway.key(&["connect"]);
        let call = gateway.get("/v1/connect/x").key(&key).field("range", "bytes=0-9").field("if-range", "\"a\"");
        let answer = call.send();
        assert_eq!(answer.status, 200, "{answer:?}");
        let fields = answer.json()["fields"].as_array().expect("fields").clone();
        fields.iter().filter(|field| field[0] == "range" || field[0] == "if-range").count()
    };
    assert_eq!(asked_for("transform"), 0);
    assert_eq!(asked_for("inspect"), 2);
}
