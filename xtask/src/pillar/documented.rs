//! The demo pillars answer as their shipped OpenAPI documents say, each operation and each answer of it.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::Name;
use super::tests::{Pillar, TO_THE_END};

fn document(name: Name) -> Value {
    let path = format!("{}/../config/openapi/{}.json", env!("CARGO_MANIFEST_DIR"), name.as_str());
    let bytes = std::fs::read(Path::new(&path)).expect("it is shipped");
    if let Err(faults) = portico::openapi::Document::read(&bytes) {
        panic!("{path}: {faults:?}");
    }
    serde_json::from_slice(&bytes).expect("JSON")
}

/// Whether a body is as the document says for this answer.
fn check(document: &Value, (path, method): (&str, &str), status: u16, kind: &str, body: &str) {
    let response = &document["paths"][path][method]["responses"][status.to_string()];
    assert!(response.is_object(), "{method} {path}: {status} is not documented");
    let content = &response["content"][kind];
    assert!(content.is_object(), "{method} {path}: {status} comes as {kind}");
    let mut schema = content["schema"].clone();
    schema["components"] = document["components"].clone();
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let value = if kind.contains("json") { serde_json::from_str(body).expect("JSON") } else { Value::from(body) };
    for (what, value) in [("the answer", &value), ("the example", &content["example"])] {
        let wrong: Vec<_> = validator.iter_errors(value).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{method} {path}: {status}: {what}: {wrong:?}: {value}");
    }
}

/// Method, path as documented and as asked for, body, status.
type Case = (&'static str, &'static str, &'static str, Option<String>, u16);

async fn hold(name: Name, cases: &[Case]) {
    let (document, pillar) = (document(name), Pillar::start(name).await);
    let vouched = pillar.vouched();
    let mut seen = BTreeSet::new();
    for (method, path, asked, body, status) in cases {
        let mut fields = match (*status, &body) {
            (401, _) => "x-portico-assertion: nonsense\r\n".to_owned(),
            (415, _) => vouched.clone(),
            (_, Some(_)) => format!("{vouched}content-type: application/json\r\n"),
            _ => vouched.clone(),
        };
        let body = body.as_deref().unwrap_or_default();
        fields.push_str(&format!("content-length: {}\r\n", body.len()));
        let head = format!("{} {asked} HTTP/1.0\r\nhost: pillar\r\n{fields}\r\n{body}", method.to_uppercase());
        // A stream has no end.
        let stream = asked.ends_with("/events") && *status == 200;
        let answer = pillar.ask(&head, if stream { "tick" } else { TO_THE_END }).await;
        assert_eq!(answer.status, *status, "{method} {asked}: {}", answer.body);
        let kind = answer.head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default();
        check(&document, (path, method), *status, kind, &answer.body);
        seen.insert((*path, *method, status.to_string()));
    }
    // Whatever is documented has been seen, but for what takes a thousand rooms.
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            for status in
                operation["responses"].as_object().expect("responses").keys().filter(|status| *status != "507")
            {
                assert!(seen.contains(&(path.as_str(), method.as_str(), status.clone())), "{method} {path}: {status}");
            }
        }
    }
}

#[tokio::test]
async fn connect_answers_as_it_is_documented() {
    let body = |text: &str| Some(text.to_owned());
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(super::LARGEST_BODY));
    hold(
        Name::Connect,
        &[
            ("get", "/rooms", "/rooms", None, 200),
            ("get", "/rooms", "/rooms", None, 401),
            ("post", "/rooms", "/rooms", body(r#"{"name": "Kitchen"}"#), 201),
            ("post", "/rooms", "/rooms", body("{"), 400),
            ("post", "/rooms", "/rooms", body(r#"{"name": "Kitchen"}"#), 401),
            ("post", "/rooms", "/rooms", Some(large), 413),
            ("post", "/rooms", "/rooms", body(r#"{"name": "Kitchen"}"#), 415),
            ("post", "/rooms", "/rooms", body(r#"{"name": " "}"#), 422),
            ("get", "/rooms/{id}", "/rooms/lobby", None, 200),
            ("get", "/rooms/{id}", "/rooms/%FF", None, 400),
            ("get", "/rooms/{id}", "/rooms/lobby", None, 401),
            ("get", "/rooms/{id}", "/rooms/attic", None, 404),
            ("get", "/rooms/{id}/events", "/rooms/lobby/events", None, 200),
            ("get", "/rooms/{id}/events", "/rooms/%FF/events", None, 400),
            ("get", "/rooms/{id}/events", "/rooms/lobby/events", None, 401),
            ("get", "/rooms/{id}/events", "/rooms/attic/events", None, 404),
        ],
    )
    .await;
}

#[tokio::test]
async fn knowledge_answers_as_it_is_documented() {
    hold(
        Name::Knowledge,
        &[
            ("get", "/certificates", "/certificates", None, 200),
            ("get", "/certificates", "/certificates", None, 401),
            ("get", "/certificates/{id}", "/certificates/cert-1", None, 200),
            ("get", "/certificates/{id}", "/certificates/%FF", None, 400),
            ("get", "/certificates/{id}", "/certificates/cert-1", None, 401),
            ("get", "/certificates/{id}", "/certificates/cert-9", None, 404),
            ("get", "/verify/{token}", "/verify/qr-4hX9mT2v", None, 200),
            ("get", "/verify/{token}", "/verify/%FF", None, 400),
            ("get", "/verify/{token}", "/verify/nonsense", None, 404),
        ],
    )
    .await;
}
