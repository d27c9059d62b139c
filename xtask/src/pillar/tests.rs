//! What the two demo pillars answer, over real sockets, to callers with and without a gateway's word.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::caller::tests::{SEED, claims, header, key_set, signed};
use super::*;
use crate::http::ask_until;

/// Matches nothing, so that the whole answer is read.
pub(super) const TO_THE_END: &str = "\0";

/// A running pillar, behind a stand-in for the gateway's key set.
pub(super) struct Pillar {
    name: Name,
    address: SocketAddr,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Pillar {
    pub(super) async fn start(name: Name) -> Self {
        let gateway = key_set().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve_on(listener, name, gateway));
        Self { name, address }
    }

    /// A field that holds what the gateway would say to this pillar.
    pub(super) fn vouched(&self) -> String {
        format!("x-portico-assertion: {}\r\n", signed(&SEED, header(), claims(self.name.as_str())))
    }

    async fn get(&self, path: &str, fields: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.0\r\nhost: pillar\r\n{fields}\r\n"), TO_THE_END).await
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        let length = body.len();
        let fields = format!("host: pillar\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n");
        self.ask(&format!("POST {path} HTTP/1.0\r\n{fields}\r\n{body}"), TO_THE_END).await
    }

    pub(super) async fn ask(&self, request: &str, mark: &str) -> Answer {
        let answer = ask_until(self.address, request, mark).await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// Status and code of a refusal.
    fn refusal(&self) -> (u16, String) {
        assert!(self.head.contains("content-type: application/problem+json"), "{}", self.head);
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        (self.status, problem["error"].as_str().expect("a code").to_owned())
    }
}

#[tokio::test]
async fn rooms_are_listed_to_whom_the_gateway_vouches_for() {
    let pillar = Pillar::start(Name::Connect).await;
    let answer = pillar.get("/rooms", &pillar.vouched()).await;
    let caller =
        json!({"org": "org_1", "key": "key_1", "mode": "live", "scopes": ["connect", "pay"], "request": "req_1"});
    let rooms = json!([
        {"id": "choir", "name": "Choir rehearsal"}, {"id": "lobby", "name": "Lobby"},
        {"id": "standup", "name": "Daily stand-up"},
    ]);
    assert_eq!((answer.status, answer.json()), (200, json!({"rooms": rooms, "caller": caller})));
    assert_eq!(pillar.get("/rooms/lobby", &pillar.vouched()).await.json()["caller"], caller);
}

#[tokio::test]
async fn without_a_gateway_in_front_nobody_calls() {
    let connect = Pillar::start(Name::Connect).await;
    assert_eq!(connect.get("/rooms", "").await.json()["caller"], Value::Null);
    let knowledge = Pillar::start(Name::Knowledge).await;
    assert_eq!(knowledge.get("/certificates", "").await.json()["caller"], Value::Null);
}

#[tokio::test]
async fn a_false_assertion_is_refused_wherever_one_is_read() {
    let (connect, knowledge) = (Pillar::start(Name::Connect).await, Pillar::start(Name::Knowledge).await);
    let forged = signed(&[8; 32], header(), claims("connect"));
    let of_another = signed(&SEED, header(), claims("pay"));
    for assertion in [forged, of_another, "nonsense".to_owned()] {
        let field = format!("x-portico-assertion: {assertion}\r\n");
        for path in ["/rooms", "/rooms/lobby", "/rooms/lobby/events"] {
            let refusal = connect.get(path, &field).await.refusal();
            assert_eq!(refusal, (401, "invalid_assertion".to_owned()), "{path}");
        }
        for path in ["/certificates", "/certificates/cert-1"] {
            let refusal = knowledge.get(path, &field).await.refusal();
            assert_eq!(refusal, (401, "invalid_assertion".to_owned()), "{path}");
        }
    }
}

#[tokio::test]
async fn rooms_are_made_and_found_again() {
    let pillar = Pillar::start(Name::Connect).await;
    let made = pillar.post("/rooms", r#"{"name": " Kitchen "}"#).await;
    assert_eq!((made.status, made.json()["name"].as_str()), (201, Some("Kitchen")));
    let place = format!("/rooms/{}", made.json()["id"].as_str().expect("an id"));
    assert_eq!(pillar.get(&place, "").await.json()["name"], "Kitchen");
    for (body, expected) in [("{}", (422, "invalid_name")), ("{", (400, "invalid_body"))] {
        let (status, error) = pillar.post("/rooms", body).await.refusal();
        assert_eq!((status, error.as_str()), expected, "{body}");
    }
    for path in ["/rooms/nowhere", "/rooms/nowhere/events", "/elsewhere"] {
        assert_eq!(pillar.get(path, "").await.refusal(), (404, "not_found".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn events_of_a_room_come_one_after_another() {
    let pillar = Pillar::start(Name::Connect).await;
    let answer = pillar.ask("GET /rooms/lobby/events HTTP/1.0\r\nhost: pillar\r\n\r\n", "\"number\":1,").await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: text/event-stream"), "{}", answer.head);
    let data = answer.body.lines().filter_map(|line| line.strip_prefix("data: "));
    let data: Vec<Value> = data.filter_map(|data| serde_json::from_str(data).ok()).collect();
    assert_eq!(data.first(), Some(&json!({"room": "lobby", "number": 0, "event": "tick"})), "{}", answer.body);
}

#[tokio::test]
async fn certificates_are_shown_and_their_tokens_are_not() {
    let pillar = Pillar::start(Name::Knowledge).await;
    let listed = pillar.get("/certificates", &pillar.vouched()).await;
    assert_eq!(listed.status, 200);
    assert_eq!(listed.json()["certificates"].as_array().map(Vec::len), Some(2));
    assert_eq!(listed.json()["caller"]["key"], "key_1");
    let one = pillar.get("/certificates/cert-1", &pillar.vouched()).await;
    assert_eq!(one.json()["certificate"]["holder"], "Ines Okafor");
    assert!(!listed.body.contains("qr-") && !one.body.contains("qr-"), "{}{}", listed.body, one.body);
    assert_eq!(pillar.get("/certificates/cert-9", "").await.refusal(), (404, "not_found".to_owned()));
}

#[tokio::test]
async fn anyone_may_verify_a_certificate_by_its_token() {
    let pillar = Pillar::start(Name::Knowledge).await;
    let verified = pillar.get(&format!("/verify/{TOKEN}"), "").await;
    assert_eq!((verified.status, &verified.json()["valid"]), (200, &json!(true)));
    assert_eq!(verified.json()["certificate"]["id"], "cert-1");
    let unknown = pillar.get("/verify/qr-unknown", "").await;
    assert_eq!((unknown.status, unknown.json()), (404, json!({"valid": false})));
}
