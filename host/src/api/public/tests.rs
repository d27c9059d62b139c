use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use super::document::document;
use crate::api::admin::{life, order, webhooks};
use crate::api::{Action, rights};
use crate::config::{self, Config};
use crate::landing;
use crate::snapshot::own::{ENDPOINTS, Needs, is_served};

fn config() -> Config {
    config::parse("[pillars.identity]\n[pillars.connect]\n", Path::new("gateway.toml")).expect("a configuration")
}

/// Method and path of each operation, with the operation.
fn operations(document: &Value) -> BTreeMap<(String, String), &Value> {
    let paths = document["paths"].as_object().expect("paths");
    let of_path = |(path, item): (&String, &'_ Value)| {
        let item = item.as_object().expect("an item").iter();
        item.map(|(method, _)| (method.to_ascii_uppercase(), path.clone())).collect::<Vec<_>>()
    };
    let names: Vec<_> = paths.iter().flat_map(of_path).collect();
    let find = |(method, path): &(String, String)| &document["paths"][path][method.to_ascii_lowercase()];
    names.iter().map(|name| (name.clone(), find(name))).collect()
}

/// Calls back with every value in a document, and its place.
fn each(value: &Value, place: &str, see: &mut impl FnMut(&str, &Value)) {
    see(place, value);
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| each(value, &format!("{place}/{}", name.replace('/', "~1")), see));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, value)| each(value, &format!("{place}/{at}"), see));
        }
        _ => {}
    }
}

#[test]
fn what_is_documented_is_what_answers() {
    let document = document(&config());
    let documented: BTreeSet<_> = operations(&document).into_keys().collect();
    let served = ENDPOINTS.iter().map(|endpoint| (endpoint.method.to_owned(), endpoint.path()));
    let pages = landing::paths().map(|path| ("GET".to_owned(), path.to_owned()));
    assert_eq!(documented, served.chain(pages).collect());
    // With an upstream, identity answers there itself.
    let text = "[upstreams.a]\nendpoints = [\"http://127.0.0.1:1\"]\n[pillars.identity]\nupstream = \"a\"\n";
    let config = config::parse(text, Path::new("gateway.toml")).expect("a configuration");
    let fewer = super::document::document(&config);
    let served = ENDPOINTS.iter().filter(|endpoint| is_served(endpoint, &config)).count();
    assert_eq!(operations(&fewer).len(), served + landing::paths().count());
    assert_eq!(fewer["paths"]["/v1/identity/me"], Value::Null);
}

#[test]
fn the_document_is_whole() {
    let document = document(&config());
    assert_eq!(document["openapi"].as_str().map(|version| &version[..3]), Some("3.1"), "{}", document["openapi"]);
    each(&document, "", &mut |place, value| {
        if let Some(target) = value.get("$ref").and_then(Value::as_str) {
            let found = target.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
            assert!(found.is_some_and(|found| !found.is_null()), "{place} points to {target}, which is not there");
        }
        assert!(!value.is_null() || place.contains("/example") || place.contains("/value"), "{place} is null");
    });
    let mut ids = BTreeSet::new();
    for ((method, path), operation) in operations(&document) {
        for member in ["summary", "description", "operationId"] {
            let text = operation[member].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{method} {path} has no {member}");
        }
        assert!(ids.insert(operation["operationId"].to_string()), "two are {}", operation["operationId"]);
        assert!(operation["tags"][0].is_string() && operation["security"].is_array(), "{method} {path}");
    }
    assert_eq!(document["components"]["securitySchemes"]["key"]["scheme"], "bearer");
}

/// The examples are what the schemas say: also those of refusals, which are real ones.
#[test]
fn every_example_is_as_its_schema_says() {
    let document = document(&config());
    let mut checked = 0;
    let mut check = |place: &str, schema: &Value, example: &Value| {
        let mut whole = schema.clone();
        whole["components"] = document["components"].clone();
        let validator = jsonschema::validator_for(&whole).unwrap_or_else(|error| panic!("{place}: {error}"));
        let wrong: Vec<_> = validator.iter_errors(example).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{place}: {wrong:?}");
        checked += 1;
    };
    each(&document["paths"], "", &mut |place, content| {
        let Some(schema) = content.get("schema").filter(|_| place.contains("/content/")) else { return };
        assert!(content.get("example").is_some() || content.get("examples").is_some(), "{place} has no example");
        content.get("example").into_iter().for_each(|example| check(place, schema, example));
        let named = content.get("examples").and_then(Value::as_object);
        named.into_iter().flatten().for_each(|(_, example)| check(place, schema, &example["value"]));
    });
    assert!(checked > 100, "only {checked} examples");
}

#[test]
fn every_refusal_is_documented_for_people_too() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api-clients.md"));
    let page = page.expect("the clients' page");
    for endpoint in ENDPOINTS {
        for told in super::errors::of(&endpoint) {
            let row = format!("| `{}` | {} |", told.code, told.status);
            assert!(page.contains(&row), "docs/api-clients.md has no row {row}");
        }
    }
}

/// Each operation has its row with its summary, in the order of the document's source; and no row has no operation.
#[test]
fn the_readme_names_every_operation() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).expect("it");
    let section = readme.split("## The gateway's own API").nth(1).and_then(|rest| rest.split("\n## ").next());
    let rows = section.expect("the section").lines().filter(|line| line.starts_with("| `"));
    let written: BTreeSet<_> = rows.map(str::to_owned).collect();
    let document = document(&config());
    let row = |((method, path), operation): ((String, String), &Value)| {
        format!("| `{method} {path}` | {} |", operation["summary"].as_str().unwrap_or_default())
    };
    assert_eq!(written, operations(&document).into_iter().map(row).collect());
}

/// The readers of bodies are written by hand, so that they tell all mistakes at once.
#[test]
fn an_order_has_the_fields_that_are_read() {
    let document = document(&config());
    for (name, read) in [
        ("KeyOrder", &order::FIELDS[..]),
        ("RotationOrder", &life::FIELDS[..]),
        ("ScopeOrder", &order::SCOPE_FIELDS[..]),
        ("WebhookOrder", &webhooks::FIELDS[..]),
        ("WebhookEdit", &webhooks::EDIT_FIELDS[..]),
        ("SecretOrder", &life::FIELDS[..]),
    ] {
        let order = &document["components"]["schemas"][name];
        assert_eq!(order["additionalProperties"], json!(false), "{name}");
        let documented: BTreeSet<_> = order["properties"].as_object().expect("properties").keys().collect();
        let read: Vec<_> = read.iter().map(|field| (*field).to_owned()).collect();
        assert_eq!(documented, read.iter().collect::<BTreeSet<_>>(), "{name}");
    }
    let body = |path: &str, method: &str| document["paths"][path][method]["requestBody"]["required"].clone();
    assert_eq!((body("/v1/keys", "post"), body("/v1/keys/{id}/rotate", "post")), (json!(true), json!(false)));
}

/// The guard asks for what the handlers ask for.
#[test]
fn each_operation_needs_what_the_table_of_rights_says() {
    for endpoint in ENDPOINTS {
        let Needs::Management(any) = endpoint.needs else { continue };
        let action = match endpoint.name {
            "keys.list" | "keys.show" => Action::ReadKeys,
            "keys.issue" | "keys.revoke" | "keys.rotate" | "keys.scope" => Action::WriteKeys,
            "usage" | "usage.history" | "usage.detail" | "requests" | "requests.show" => Action::ReadUsage,
            "webhooks.list" | "webhooks.show" | "webhooks.deliveries" => Action::ReadWebhooks,
            name if name.starts_with("webhooks.") => Action::WriteWebhooks,
            other => panic!("which action is {other}?"),
        };
        assert_eq!(rights::rights(action).keys, any, "{}", endpoint.name);
    }
}

/// Whoever sends a request again must know what comes of it.
#[test]
fn each_post_takes_an_idempotency_key_and_nothing_else_does() {
    let document = document(&config());
    let mut told = 0;
    for ((method, path), operation) in operations(&document) {
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let has = parameters.iter().any(|parameter| parameter["name"] == "idempotency-key");
        assert_eq!(has, method == "POST", "{method} {path}");
        if has {
            let text = operation["description"].as_str().unwrap_or_default().replace('\n', " ");
            assert!(text.contains("`Idempotency-Key`"), "POST {path}: {text}");
            assert!(operation["responses"]["409"]["content"].to_string().contains("idempotency_answer_sealed"));
            told += 1;
        }
    }
    assert!(told >= 5, "only {told} operations");
}

#[test]
fn a_scope_that_is_needed_is_named() {
    let document = document(&config());
    let list = &document["paths"]["/v1/keys"]["get"];
    assert!(list["description"].as_str().is_some_and(|text| text.contains("`keys:read`")), "{list}");
    assert_eq!(list["security"], json!([{"key": []}]));
    assert_eq!(document["paths"]["/openapi.json"]["get"]["security"], json!([]));
    let codes = &list["responses"]["403"]["content"]["application/problem+json"]["examples"];
    assert!(codes["insufficient_scope"].is_object() && codes["address_not_allowed"].is_object(), "{codes}");
}
