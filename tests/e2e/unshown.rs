//! The search for secrets finds them: in each form, at each place, and in whatever a gateway leaves behind.

use crate::harness::{DEFAULT, Gateway, Origin, request, secrets};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::json;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Something like a secret, for this test only.
fn strange(number: usize) -> String {
    let mut state = number as u64 + 0x5eed;
    let digit = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ"[(state >> 33) as usize % 48])
    };
    format!("sk_live_{}", (0..49).map(digit).collect::<String>())
}

#[test]
fn a_secret_is_found_in_each_form_wherever_it_begins() {
    let secret = strange(1);
    secrets::note(&secret);
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    for before in 0..17 {
        let padding = "-".repeat(before);
        let with = format!("{padding}{secret}");
        for (text, kind) in [
            (with.clone(), "as it is"),
            (format!("{padding}{}", &secret[8..36]), "as it is"),
            (format!("{padding}{hex}"), "in hexadecimal digits"),
            (format!("{padding}{}", hex.to_uppercase()), "in hexadecimal capitals"),
            (STANDARD.encode(&with), "in base64"),
            (URL_SAFE.encode(&with), "in base64"),
            (format!("{padding}{}", STANDARD.encode(format!("{with}:x"))), "in base64"),
        ] {
            let found = secrets::found_in(text.as_bytes()).expect("it is there");
            assert!(found.contains(kind) && !found.contains(&secret[8..20]), "{found}");
        }
    }
    // What people recognise it by is no secret.
    assert_eq!(secrets::found_in(format!("sk_live_…{}", &secret[53..]).as_bytes()), None);
}

#[test]
fn the_bytes_of_a_signing_secret_and_of_the_master_key_are_found() {
    let bytes: Vec<u8> = strange(2).bytes().skip(8).take(24).collect();
    secrets::note(&format!("whsec_{}", STANDARD.encode(&bytes)));
    assert!(secrets::found_in(&bytes).is_some());
    let key: Vec<u8> = strange(3).bytes().skip(8).take(32).collect();
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    secrets::note_hex(&format!("{hex}\n"));
    for form in [key.clone(), hex.into_bytes(), STANDARD.encode(&key).into_bytes()] {
        assert!(secrets::found_in(&form).expect("it is there").contains("the master key"));
    }
}

#[test]
fn secrets_are_noted_from_what_a_gateway_answers() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let tell = |method: &str, path: &str, body: serde_json::Value| {
        gateway.admin(method, path).field("content-type", "application/json").body(body.to_string()).send().json()
    };
    let key = tell("POST", "/v1/keys", json!({ "name": "k", "scopes": ["connect", "keys:write"] }));
    let place = format!("/v1/keys/{}/rotate", key["id"].as_str().expect("an id"));
    let rotated = tell("POST", &place, json!({}));
    let token = tell("POST", "/v1/tokens", json!({ "name": "t", "role": "member", "org": "default" }));
    let hook = json!({ "url": "https://hooks.example.com/", "events": ["key.created"] });
    let hook = tell("POST", "/v1/webhooks", hook);
    let own = request(gateway.public, "POST", "/v1/keys").key(rotated["secret"].as_str().expect("a secret"));
    let own =
        own.field("content-type", "application/json").body(r#"{"name": "own", "scopes": ["connect"]}"#).send().json();
    for made in [key, rotated, token, hook, own] {
        let secret = made["secret"].as_str().expect("a secret");
        assert!(secrets::found_in(secret.as_bytes()).is_some(), "it was not noted");
    }
    let read = |name: &str| std::fs::read(gateway.directory().join(name)).expect("a file");
    assert!(secrets::found_in(&read("master.key")).is_some() && secrets::found_in(&read("data/admin-token")).is_some());
}

#[test]
fn a_gateway_that_leaves_a_secret_behind_fails_its_test() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let secret = gateway.key(&["connect"]);
    let left = gateway.directory().join("data/journal/left");
    std::fs::write(&left, format!("{{\"key\":\"{secret}\"}}")).expect("a file");
    let ended = catch_unwind(AssertUnwindSafe(|| drop(gateway))).expect_err("the test must fail");
    let said = ended.downcast_ref::<String>().expect("a sentence");
    assert!(said.contains("data/journal/left: sk_live_ as it is at byte 16"), "{said}");
    assert!(!said.contains(&secret[8..20]));
}
