use std::path::Path;
use std::sync::Arc;

use super::super::{fingerprint, written, written_within};
use super::*;
use crate::config;
use crate::snapshot;

const TOML: &str = r#"
[upstreams.a]
endpoints = ["http://127.0.0.1:1"]
[pillars.identity]
prefix = "/v1/who"
[pillars.pay]
upstream = "a"
sandbox = "a"
[[pillars.pay.routes]]
path = "/hooks/{name}"
methods = ["POST"]
auth = "none"
"#;

fn service(path: &str, operation: &Value) -> Arc<Document> {
    let document = json!({
        "openapi": "3.1.0", "info": {"title": "T", "version": "1"},
        "paths": {path: operation},
        "components": {"schemas": {"A": {"type": "string"}}, "responses": {"Gone": {"description": "Gone."}}},
    });
    Arc::new(Document::read(document.to_string().as_bytes()).unwrap_or_else(|faults| panic!("{faults:?}")))
}

fn with<T>(documents: &[(&str, Arc<Document>)], see: impl FnOnce(Parts<'_>) -> T) -> T {
    let config = config::parse(TOML, Path::new("gateway.toml")).expect("a configuration");
    let routes = snapshot::routes(&config).expect("routes");
    let documents = documents.iter().map(|(name, document)| ((*name).to_owned(), document.clone())).collect();
    see(Parts { config: &config, documents: &documents, routes: &routes })
}

fn merged(documents: &[(&str, Arc<Document>)]) -> (Value, Vec<String>) {
    with(documents, |parts| {
        let written = written(parts);
        (serde_json::from_slice(&written.json).expect("JSON"), written.left_out)
    })
}

fn answers(more: &Value) -> Value {
    let theirs = json!({"X-Request-Id": {"description": "Theirs.", "schema": {"type": "string"}}});
    let mut responses = json!({"200": {"description": "As asked.", "headers": theirs}});
    for (status, response) in more.as_object().expect("responses") {
        responses[status] = response.clone();
    }
    json!({"responses": responses})
}

#[test]
fn a_name_of_the_gateways_own_stays_its_own() {
    let mut me = answers(&json!({}));
    me["operationId"] = "me".into();
    // As the gateway's own operation is called where identity lies at its usual place.
    let (whole, left_out) = merged(&[("identity", service("/me", &json!({"get": me})))]);
    assert_eq!((&whole["paths"]["/v1/who/me"]["get"]["operationId"], left_out.len()), (&json!("identity.me"), 0));
    let mut document = json!({"paths": {"/x": {"get": {"operationId": "identity.me"}}}, "components": {}, "tags": []});
    let documents = [("identity", service("/me", &json!({"get": me})))];
    with(&documents, |parts| add(&mut document, parts, &BTreeSet::new()));
    assert_eq!(document["paths"]["/v1/who/me"]["get"]["operationId"], "identity.me_");
}

#[test]
fn refusals_are_those_that_can_come() {
    let operation =
        answers(&json!({"404": {"$ref": "#/components/responses/Gone"}, "503": {"description": "Theirs."}}));
    let (whole, _) = merged(&[
        ("identity", service("/a", &json!({"get": operation}))),
        ("pay", service("/hooks/{name}", &json!({"post": operation, "get": operation}))),
    ]);
    let codes = |response: &Value| {
        let response = match response["$ref"].as_str() {
            Some(target) => resolved(&whole, target).expect("it is there"),
            None => response,
        };
        let content = &response["content"]["application/problem+json"];
        content["examples"].as_object().map(|all| all.keys().cloned().collect::<Vec<_>>()).unwrap_or_default()
    };
    let scaffold = &whole["paths"]["/v1/who/a"]["get"]["responses"];
    assert_eq!(scaffold.get("504"), None, "nobody is asked");
    assert!(codes(&scaffold["503"]).contains(&"upstream_not_yet_implemented".to_owned()), "{}", scaffold["503"]);
    assert_eq!(scaffold["503"]["description"], "Theirs.");
    assert_eq!(scaffold["404"]["$ref"], "#/components/responses/identity.Gone");
    assert_eq!(scaffold["200"]["headers"]["X-Request-Id"]["description"], "Theirs.");
    assert_eq!(scaffold["200"]["headers"].get("x-request-id"), None);
    let hooks = &whole["paths"]["/v1/pay/hooks/{name}"];
    let (open, closed) = (&hooks["post"], &hooks["get"]);
    assert_eq!((&open["security"], &closed["security"]), (&json!([]), &json!([{"key": []}])));
    assert_eq!((open["responses"].get("401"), open["responses"].get("403")), (None, None));
    assert!(codes(&closed["responses"]["401"]).contains(&"invalid_api_key".to_owned()));
    assert!(codes(&open["responses"]["502"]).contains(&"upstream_unreachable".to_owned()));
    assert!(!codes(&open["responses"]["503"]).contains(&"sandbox_not_available".to_owned()), "it has a sandbox");
    assert_eq!(open["tags"], json!(["pay"]));
}

#[test]
fn what_would_be_too_large_is_left_out_from_the_end() {
    let documents = ["identity", "pay"].map(|name| (name, service("/x", &json!({"get": answers(&json!({}))}))));
    let both = with(&documents, |parts| written(parts).yaml.len());
    with(&documents, |parts| {
        let fits = written_within(parts, both);
        assert_eq!((fits.left_out.len(), fits.yaml.len()), (0, both));
        let less = written_within(parts, both - 1);
        let whole: Value = serde_json::from_slice(&less.json).expect("JSON");
        assert!(whole["paths"]["/v1/who/x"].is_object() && whole["paths"]["/v1/pay/x"].is_null());
        assert!(less.left_out[0].starts_with("pillars.pay.openapi: it is left out"), "{:?}", less.left_out);
        // The gateway's own is always there.
        assert_eq!(written_within(parts, 1).left_out.len(), 2);
    });
}

/// What refers to an operation that is left out would lead nowhere.
#[test]
fn a_document_whose_references_would_lead_nowhere_is_left_out_as_a_whole() {
    let target = "#/paths/~1health/get/responses/200";
    let document = json!({
        "openapi": "3.1.0", "info": {"title": "T", "version": "1"},
        "paths": {
            "/health": {"get": answers(&json!({}))},
            "/v1/pay/b": {"get": {"responses": {"200": {"$ref": target}}}},
        },
    });
    let document = Arc::new(Document::read(document.to_string().as_bytes()).expect("a document"));
    let text = TOML.replace("[pillars.pay]", "[pillars.pay]\nstrip_prefix = false");
    let config = config::parse(&text, Path::new("gateway.toml")).expect("a configuration");
    let (routes, documents) = (snapshot::routes(&config).expect("routes"), [("pay".to_owned(), document)].into());
    let written = written(Parts { config: &config, documents: &documents, routes: &routes });
    assert_eq!(written.left_out.len(), 2, "{:?}", written.left_out);
    assert!(written.left_out[1].contains(&format!("it refers to {target}")), "{:?}", written.left_out);
    let whole: Value = serde_json::from_slice(&written.json).expect("JSON");
    assert!(whole["paths"]["/v1/pay/b"].is_null() && whole["paths"]["/v1/me"].is_object());
}

#[test]
fn a_fingerprint_says_which_pillar_is_another() {
    let one = [("identity", service("/a", &json!({}))), ("pay", service("/a", &json!({"get": answers(&json!({}))})))];
    let other = [("identity", service("/a", &json!({}))), ("pay", service("/b", &json!({"get": answers(&json!({}))})))];
    let (one, other) = (with(&one, fingerprint), with(&other, fingerprint));
    assert_ne!((&one.whole, &one.pillars["pay"]), (&other.whole, &other.pillars["pay"]));
    assert_eq!(one.pillars["identity"], other.pillars["identity"]);
}

#[test]
fn a_reference_that_leads_to_anything_holds_up_nobody() {
    for target in ["Gone/description", "Gone", "Odd", "Lists"] {
        let mut document = json!({
            "openapi": "3.1.0", "info": {"title": "T", "version": "1"},
            "paths": {"/a": {"get": answers(&json!({"401": {"$ref": format!("#/components/responses/{target}")}}))}},
            "components": {"responses": {"Gone": {"description": "Gone."}, "Odd": {"$ref": "#/components/responses/Gone"}}},
        });
        document["components"]["responses"]["Lists"] = json!({"description": "L", "headers": {}, "content": {}});
        let document = Document::read(document.to_string().as_bytes()).unwrap_or_else(|faults| panic!("{faults:?}"));
        let (whole, _) = merged(&[("identity", Arc::new(document))]);
        let response = &whole["paths"]["/v1/who/a"]["get"]["responses"]["401"];
        assert!(response["content"]["application/problem+json"].is_object(), "{target}: {response}");
    }
}

#[test]
fn a_large_response_that_all_share_is_not_copied_without_end() {
    let paths: Value = (0..400)
        .map(|at| (format!("/a{at}"), json!({"get": answers(&json!({"401": {"$ref": "#/components/responses/E"}}))})))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let document = json!({
        "openapi": "3.1.0", "info": {"title": "T", "version": "1"}, "paths": paths,
        "components": {"responses": {"E": {"description": "e".repeat(1 << 20)}}},
    });
    let document =
        Arc::new(Document::read(document.to_string().as_bytes()).unwrap_or_else(|faults| panic!("{faults:?}")));
    let (whole, left_out) =
        merged(&[("identity", document), ("pay", service("/hooks/{name}", &json!({"post": answers(&json!({}))})))]);
    assert!(whole.to_string().len() < 16 << 20 && whole["paths"]["/v1/pay/hooks/{name}"].is_object(), "{left_out:?}");
}
