//! `Idempotency-Key` on the gateway's own API: what comes again is not done again, and no answer lies about in the clear.

use crate::harness::{Answer, DEFAULT, Gateway, Origin, request, secrets, until};
use crate::program::Stand;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const MANAGING: [&str; 4] = ["connect", "keys:read", "keys:write", "webhooks:write"];

fn gateway() -> (Origin, Gateway) {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    (origin, gateway)
}

fn post(gateway: &Gateway, key: &str, path: &str, word: &str, body: &Value) -> Answer {
    let call = gateway.call("POST", path).key(key).field("content-type", "application/json");
    call.field("idempotency-key", word).body(body.to_string()).send()
}

fn is_replayed(answer: &Answer) -> bool {
    answer.field("idempotency-replayed") == Some("true")
}

fn keys(gateway: &Gateway) -> usize {
    gateway.admin("GET", "/v1/keys?limit=200").send().json()["keys"].as_array().expect("keys").len()
}

/// The secrets among these answers are searched for in all that the gateway wrote, when it ends.
#[test]
fn a_new_secret_is_given_again_also_after_a_restart_and_to_nobody_else() {
    let (_origin, gateway) = gateway();
    let (key, other) = (gateway.key(&MANAGING), gateway.key(&MANAGING));
    let body = json!({"name": "ci", "scopes": ["connect"]});
    let first = post(&gateway, &key, "/v1/keys", "w-1", &body);
    assert_eq!((first.status, is_replayed(&first)), (201, false), "{}", first.text());
    let before = keys(&gateway);
    let gateway = gateway.restart();
    let again = post(&gateway, &key, "/v1/keys", "w-1", &body);
    assert_eq!((again.status, is_replayed(&again)), (201, true), "{}", again.text());
    assert_eq!((again.json(), again.field("location")), (first.json(), first.field("location")));
    assert_eq!(post(&gateway, &other, "/v1/keys", "w-1", &body).error(), "idempotency_answer_sealed");
    assert_eq!(post(&gateway, &key, "/v1/keys", "w-1", &json!({"name": "x"})).error(), "idempotency_key_reused");
    assert_eq!(post(&gateway, &key, "/v1/keys", "a b", &body).error(), "invalid_idempotency_key");
    assert_eq!(keys(&gateway), before, "one was made");
    let secret = again.json()["secret"].as_str().expect("a secret").to_owned();
    assert_eq!(gateway.get("/v1/connect/x").key(&secret).send().status, 200);
    // A key that may not make keys is refused before anything is looked up.
    assert_eq!(post(&gateway, &secret, "/v1/keys", "w-1", &body).error(), "insufficient_scope");
}

#[test]
fn of_many_that_come_at_once_one_is_carried_out() {
    let (_origin, gateway) = gateway();
    let key = gateway.key(&MANAGING);
    let before = keys(&gateway);
    let body = json!({"name": "ci", "scopes": ["connect"]});
    let secrets: BTreeSet<String> = std::thread::scope(|scope| {
        let ask = || {
            let mut last = None;
            until("it is answered", || {
                let answer = post(&gateway, &key, "/v1/keys", "w", &body);
                if answer.status == 409 {
                    assert_eq!(answer.error(), "idempotency_key_in_use");
                    assert_eq!(answer.field("retry-after"), Some("1"));
                    return false;
                }
                assert_eq!(answer.status, 201, "{}", answer.text());
                last = answer.json()["secret"].as_str().map(str::to_owned);
                true
            });
            last.expect("a secret")
        };
        let asking: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|asking| asking.join().expect("it asks")).collect()
    });
    assert_eq!((secrets.len(), keys(&gateway)), (1, before + 1));
}

#[test]
fn a_key_that_rotates_itself_gets_its_new_secret_again_as_long_as_the_one_before_works() {
    let (_origin, gateway) = gateway();
    let (id, old) = gateway.issue(json!({ "name": "manages", "scopes": MANAGING }));
    let path = format!("/v1/keys/{id}/rotate");
    let rotated = post(&gateway, &old, &path, "w", &json!({"overlap": 3600}));
    assert_eq!(rotated.status, 200, "{}", rotated.text());
    let young = rotated.json()["secret"].as_str().expect("a secret").to_owned();
    let again = post(&gateway, &old, &path, "w", &json!({"overlap": 3600}));
    assert_eq!((again.json(), is_replayed(&again)), (rotated.json(), true));
    // Nothing new is done by the secret before.
    assert_eq!(post(&gateway, &old, &path, "v", &json!({"overlap": 3600})).error(), "secret_replaced");
    let ended = post(&gateway, &young, &path, "u", &json!({"overlap": 0, "force": true}));
    assert_eq!(ended.status, 200, "{}", ended.text());
    assert_eq!(post(&gateway, &old, &path, "w", &json!({"overlap": 3600})).status, 401);
}

/// What is for pillars is theirs.
#[test]
fn the_field_is_passed_on_to_pillars_and_each_request_is_one() {
    let (_origin, gateway) = gateway();
    let key = gateway.key(&["connect"]);
    for _ in 0..2 {
        let echoed = post(&gateway, &key, "/v1/connect/x", "a b", &json!({}));
        assert_eq!((echoed.status, is_replayed(&echoed)), (200, false));
        assert!(echoed.text().to_ascii_lowercase().contains("idempotency-key"), "{}", echoed.text());
    }
}

/// Asks the admin API once; none where it dies before it has answered.
fn ask(to: SocketAddr, token: &str, word: &str) -> Option<(u16, Value)> {
    let body = json!({"name": word, "scopes": ["connect"]}).to_string();
    let head = format!(
        "POST /v1/keys HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         idempotency-key: {word}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(to).ok()?;
    stream.write_all(head.as_bytes()).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    secrets::note_all(&bytes);
    let text = String::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, serde_json::from_str(body).ok()?))
}

/// Nothing is made twice for one word, wherever the gateway dies; and who asks again learns what came of it.
#[test]
fn death_at_any_moment_makes_nothing_twice() {
    let stand = Stand::new();
    let token = || std::fs::read_to_string(stand.path().join("data/admin-token")).expect("a token").trim().to_owned();
    let mut asked: BTreeMap<String, Option<Value>> = BTreeMap::new();
    for death in 0..5_u64 {
        let serving = stand.serve();
        let (to, token) = (serving.admin, token());
        let client = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for number in 0.. {
                let word = format!("w-{death}-{number}");
                let answer = ask(to, &token, &word);
                let is_over = answer.is_none();
                asked.push((word, answer));
                if is_over {
                    break;
                }
            }
            asked
        });
        std::thread::sleep(Duration::from_millis(60 + 37 * death));
        // Without a word.
        drop(serving);
        for (word, answer) in client.join().expect("it asks") {
            let made = answer.map(|(status, made)| {
                assert_eq!(status, 201, "{made}");
                made
            });
            asked.insert(word, made);
        }
    }
    assert!(asked.len() > 10, "only {} were asked for", asked.len());
    let serving = stand.serve();
    let token = token();
    let mut unknown = 0;
    for (word, first) in &asked {
        let (status, again) = ask(serving.admin, &token, word).expect("it lives");
        match first {
            Some(first) => assert_eq!((status, &again), (201, first), "{word}"),
            None if status == 409 => {
                assert_eq!(again["error"], "idempotency_outcome_unknown", "{again}");
                unknown += 1;
            }
            None => assert_eq!(status, 201, "{again}"),
        }
    }
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let call = request(serving.admin, "GET", &format!("/v1/keys?limit=200{cursor}"));
        let keys = call.field("authorization", format!("Bearer {token}")).send().json();
        let listed = keys["keys"].as_array().expect("keys").iter();
        names.extend(listed.filter_map(|key| key["name"].as_str().map(str::to_owned)));
        let Some(next) = keys["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "nothing was made twice");
    assert!(count <= asked.len() && count + unknown >= asked.len(), "{count}, {unknown} of {}", asked.len());
}
