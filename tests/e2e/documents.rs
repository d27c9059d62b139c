//! The OpenAPI documents of pillars in the gateway's own: whole, valid, and only what the gateway serves.

use crate::harness::{DEFAULT, Gateway, Origin, Receiver, until};
use crate::program::output;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Two services that know nothing of one another, and use the same names.
fn service(title: &str, path: &str, kind: &str) -> Value {
    let room = json!({"$ref": "#/components/schemas/Item"});
    json!({
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1"},
        "servers": [{"url": "http://localhost:9201"}],
        "security": [{"theirs": []}],
        "tags": [{"name": "items"}],
        "paths": {
            path: {
                "get": {
                    "operationId": "list", "tags": ["items"],
                    "responses": {
                        "200": {"description": "All.", "content": {"application/json": {"schema": {"type": "array", "items": room}}}},
                        "401": {"description": "Theirs.", "content": {"application/problem+json": {"schema": {"required": ["why"]}}}},
                    },
                },
                "post": {"operationId": "make", "responses": {"201": {"$ref": "#/components/responses/Made"}}},
            },
            "/open": {"get": {"operationId": "open", "responses": {"200": {"description": "For all."}}}},
        },
        "components": {
            "schemas": {"Item": {"type": kind, "properties": {"next": room}}},
            "responses": {"Made": {"description": "It.", "content": {"application/json": {"schema": room}}}},
            "securitySchemes": {"theirs": {"type": "http", "scheme": "basic"}},
        },
    })
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(format!("{name}.json"))
    }

    /// Saved as editors do: another file in the place of the old one.
    fn save(&self, name: &str, text: &str) {
        let fresh = self.path(&format!("{name}.new"));
        std::fs::write(&fresh, text).expect("written");
        std::fs::rename(&fresh, self.path(name)).expect("in its place");
    }

    /// A configuration with a document for each of these pillars.
    fn toml(&self, origin: &Origin, pillars: &[&str]) -> String {
        let mut toml = format!("{DEFAULT}\n[upstreams.origin]\nendpoints = [\"http://{}\"]\n", origin.address);
        for name in pillars {
            let file = self.path(name);
            toml.push_str(&format!(
                "[pillars.{name}]\nupstream = \"origin\"\nopenapi = {{ file = {:?} }}\n\
                 [[pillars.{name}.routes]]\npath = \"/open\"\nauth = \"none\"\n",
                file.display().to_string()
            ));
        }
        toml
    }
}

fn document(gateway: &Gateway) -> Value {
    let answer = gateway.get("/openapi.json").send();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// By the schema of the OpenAPI Initiative; every reference leads somewhere, and no id is there twice.
fn check(document: &Value) {
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/openapi/schema-3.1.json");
    let schema: Value = serde_json::from_slice(&std::fs::read(schema).expect("the schema")).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let wrong: Vec<String> = validator.iter_errors(document).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let (mut open, mut ids, mut references) = (vec![document], BTreeSet::new(), 0);
    while let Some(value) = open.pop() {
        if let Some(target) = value.get("$ref").and_then(Value::as_str) {
            let found = target.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
            assert!(found.is_some(), "{target} leads nowhere");
            references += 1;
        }
        if let Some(id) = value.get("operationId").and_then(Value::as_str) {
            assert!(ids.insert(id), "{id} is there twice");
        }
        match value {
            Value::Object(members) => open.extend(members.values()),
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    assert!(references > 20 && ids.len() > 20, "{references}, {}", ids.len());
}

#[test]
fn documents_that_clash_stand_beside_one_another() {
    let (origin, files) = (Origin::echo(), Files::new());
    files.save("connect", &service("Rooms", "/rooms", "object").to_string());
    files.save("pay", &service("Pay", "/payments", "string").to_string());
    files.save("zoo", &service("Zoo", "/animals", "number").to_string());
    let gateway = Gateway::start(&files.toml(&origin, &["connect", "pay"]));
    let merged = document(&gateway);
    check(&merged);
    for (pillar, path, kind) in [("connect", "/rooms", "object"), ("pay", "/payments", "string")] {
        let item = &merged["paths"][format!("/v1/{pillar}{path}")];
        let list = &item["get"];
        assert_eq!(
            (&list["operationId"], &list["tags"]),
            (&json!(format!("{pillar}.list")), &json!([format!("{pillar}.items")]))
        );
        assert_eq!(list["security"], json!([{"key": []}]));
        assert!(list["description"].as_str().is_some_and(|text| text.contains(&format!("scope `{pillar}`"))), "{list}");
        let target = list["responses"]["200"]["content"]["application/json"]["schema"]["items"]["$ref"].as_str();
        let target = target.and_then(|target| merged.pointer(&target[1..])).expect("it leads somewhere");
        assert_eq!(target["type"], kind, "to that of its own pillar");
        // What the gateway answers is told, beside what the service says itself.
        let refusal = &list["responses"]["401"]["content"]["application/problem+json"];
        assert_eq!(refusal["schema"]["anyOf"][0]["required"], json!(["why"]));
        assert!(refusal["examples"]["missing_authorization"].is_object(), "{refusal}");
        for status in ["400", "403", "429", "502", "503", "504"] {
            assert!(item["post"]["responses"][status]["$ref"].is_string(), "{status}: {item}");
        }
        let open = &merged["paths"][format!("/v1/{pillar}/open")]["get"];
        assert_eq!((&open["security"], open["responses"].get("403")), (&json!([]), None));
        assert_eq!(open["responses"]["200"]["headers"]["x-request-id"]["required"], true);
    }
    assert_eq!(merged["servers"], json!([{"url": "/"}]));
    assert!(merged["components"]["securitySchemes"].as_object().is_some_and(|schemes| schemes.len() == 1));
    let yaml = gateway.get("/openapi.yaml").send().text();
    assert!(yaml.contains("\"/v1/connect/rooms\":") && yaml.contains("\"connect.Item\":"), "also there");
    // What is told is served.
    let key = gateway.key(&["connect", "pay"]);
    for path in ["/v1/connect/rooms", "/v1/pay/payments"] {
        assert_eq!(gateway.get(path).key(&key).send().status, 200);
        assert_eq!(gateway.get(path).send().error(), "missing_authorization");
    }
    assert_eq!(gateway.get("/v1/connect/open").send().status, 200);
    // One more changes no name of the others.
    let tag = gateway.get("/openapi.json").send().field("etag").map(str::to_owned);
    let generation = gateway.generation();
    gateway.save(&files.toml(&origin, &["connect", "pay", "zoo"]));
    until("it is applied", || gateway.generation() > generation);
    let more = document(&gateway);
    check(&more);
    assert_ne!(gateway.get("/openapi.json").send().field("etag").map(str::to_owned), tag);
    for (path, item) in merged["paths"].as_object().expect("paths") {
        assert_eq!(more["paths"][path], *item, "{path}");
    }
    assert!(more["paths"]["/v1/zoo/animals"].is_object());
}

#[test]
fn what_nobody_gets_through_the_gateway_is_left_out() {
    let (origin, files) = (Origin::echo(), Files::new());
    let mut connect = service("Rooms", "/rooms", "object");
    for path in ["/within/x", "/a%2Fb"] {
        connect["paths"][path] = json!({"get": {"responses": {"200": {"description": "d"}}}});
    }
    files.save("connect", &connect.to_string());
    // A pillar within the other one, and one without its prefix cut off.
    let mut whole = service("Whole", "/v1/whole/x", "object");
    whole["paths"]["/x"] = json!({"get": {"responses": {"200": {"description": "d"}}}});
    files.save("whole", &whole.to_string());
    let more = format!(
        "{}[pillars.within]\nprefix = \"/v1/connect/within\"\n",
        files.toml(&origin, &["connect", "whole"]).replace("[pillars.whole]", "[pillars.whole]\nstrip_prefix = false")
    );
    let gateway = Gateway::start(&more);
    let merged = document(&gateway);
    check(&merged);
    let paths: BTreeSet<&String> = merged["paths"].as_object().expect("paths").keys().collect();
    let of_pillars =
        paths.iter().map(|path| path.as_str()).filter(|path| path.contains("connect") || path.contains("whole"));
    let of_pillars: Vec<_> = of_pillars.collect();
    assert_eq!(of_pillars, ["/v1/connect/open", "/v1/connect/rooms", "/v1/whole/x"]);
    let log = String::from_utf8_lossy(&gateway.log()).into_owned();
    for told in [
        "GET /v1/connect/within/x is left out: the pillar `within` answers there",
        "GET /v1/connect/a%2Fb is left out: the gateway refuses such requests",
        "pillars.whole.openapi: /x is left out: it does not lie at /v1/whole",
    ] {
        assert!(log.contains(told), "{told}");
    }
}

#[test]
fn a_document_that_is_saved_is_taken_up_and_told_and_a_bad_one_is_not() {
    let (origin, files, receiver) = (Origin::echo(), Files::new(), Receiver::start());
    files.save("connect", &service("Rooms", "/rooms", "object").to_string());
    files.save("pay", &service("Pay", "/payments", "string").to_string());
    let toml = format!("{}\n[webhooks]\nprivate = [\"127.0.0.0/8\"]\n", files.toml(&origin, &["connect", "pay"]));
    let gateway = Gateway::start(&toml);
    let hook = json!({ "url": receiver.url(), "events": ["openapi.changed"] });
    let made = gateway.admin("POST", "/v1/webhooks").field("content-type", "application/json").body(hook.to_string());
    assert_eq!(made.send().status, 201);
    let before = document(&gateway);
    // Another layout says the same: nothing is told.
    files.save("pay", &format!("{:#}\n", service("Pay", "/payments", "string")));
    files.save("connect", &service("Halls", "/halls", "object").to_string());
    until("it is taken up", || document(&gateway)["paths"]["/v1/connect/halls"].is_object());
    let after = document(&gateway);
    check(&after);
    assert_eq!(after["paths"]["/v1/connect/rooms"], Value::Null);
    assert_eq!(after["paths"]["/v1/pay/payments"], before["paths"]["/v1/pay/payments"]);
    let told = receiver.wait(1)[0].json();
    assert_eq!((&told["type"], &told["data"]["pillars"]), (&json!("openapi.changed"), &json!(["connect"])));
    assert_ne!(told["data"]["digest"], told["data"]["before"]);
    // A bad one changes nothing; nor does one that is gone.
    for bad in ["{\"openapi\": \"3.1.0\"", "{\"swagger\": \"2.0\"}"] {
        files.save("connect", bad);
        let said = || String::from_utf8_lossy(&gateway.log()).matches("what was read before goes on").count();
        let before = said();
        until("it is told", || said() > before);
        assert_eq!(document(&gateway), after);
    }
    let key = gateway.key(&["connect", "pay"]);
    assert_eq!(gateway.get("/v1/connect/halls").key(&key).send().status, 200);
    // With the next good one it goes on.
    files.save("connect", &service("Rooms", "/rooms", "object").to_string());
    until("it is taken up", || document(&gateway) == before);
    assert_eq!(receiver.wait(2)[1].json()["data"]["pillars"], json!(["connect"]));
    assert_eq!(receiver.messages().len(), 2, "once for each change");
}

#[test]
fn a_bad_document_holds_up_no_start_and_is_a_problem_in_a_check() {
    let (origin, files) = (Origin::echo(), Files::new());
    let mut bad = service("Rooms", "/rooms", "object");
    bad["components"]["schemas"]["Item"]["items"] = json!({"$ref": "other.json#/Item"});
    files.save("connect", &bad.to_string());
    files.save("pay", &service("Pay", "/payments", "string").to_string());
    let toml = files.toml(&origin, &["connect", "pay"]);
    let gateway = Gateway::start(&toml);
    let merged = document(&gateway);
    check(&merged);
    assert!(merged["paths"]["/v1/pay/payments"].is_object() && merged["paths"]["/v1/connect/rooms"].is_null());
    let log = String::from_utf8_lossy(&gateway.log()).into_owned();
    assert!(log.contains("/components/schemas/Item/items/$ref: refers to \"other.json#/Item\""), "{log}");
    let checked = output(gateway.directory(), &["check", "--config", "gateway.toml"]);
    assert_eq!(checked.status.code(), Some(2));
    let problem = String::from_utf8_lossy(&checked.stderr).into_owned();
    for part in ["pillars.connect.openapi: ", "/components/schemas/Item/items/$ref", "put everything into one"] {
        assert!(problem.contains(part), "{part}: {problem}");
    }
    assert!(!problem.contains("pillars.pay"), "{problem}");
    // Named for another pillar, it is refused, and what runs stays.
    let more =
        format!("{toml}[pillars.zoo]\nopenapi = {{ file = {:?} }}\n", files.path("connect").display().to_string());
    gateway.save(&more);
    let said = || String::from_utf8_lossy(&gateway.log()).into_owned();
    until("it is refused", || said().contains("pillars.zoo.openapi: "));
    assert_eq!(document(&gateway), merged);
    // Mended, all of it is there.
    files.save("connect", &service("Rooms", "/rooms", "object").to_string());
    until("it is taken up", || document(&gateway)["paths"]["/v1/connect/rooms"].is_object());
}

/// A service that says what it offers, and for now nothing else.
struct Service {
    address: std::net::SocketAddr,
    says: Arc<Mutex<(u16, String)>>,
    asked: Arc<AtomicUsize>,
}

impl Service {
    fn start(says: &str) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let (address, says) =
            (listener.local_addr().expect("an address"), Arc::new(Mutex::new((200, says.to_owned()))));
        let (answers, asked) = (says.clone(), Arc::<AtomicUsize>::default());
        let counted = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
                    head.extend_from_slice(&byte);
                }
                if !head.starts_with(b"GET /about/openapi.json HTTP/1.1\r\n") {
                    continue;
                }
                counted.fetch_add(1, Ordering::SeqCst);
                let (status, body) = answers.lock().expect("nobody panicked").clone();
                let head =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
            }
        });
        Self { address, says, asked }
    }

    /// Waits until it was asked twice after it says this, so that the first answer has been dealt with.
    fn say(&self, text: &str) {
        *self.says.lock().expect("nobody panicked") = (200, text.to_owned());
        let before = self.asked.load(Ordering::SeqCst);
        until("it is asked", || self.asked.load(Ordering::SeqCst) >= before + 2);
    }
}

#[test]
fn an_upstream_is_asked_for_its_document_and_the_last_good_one_goes_on() {
    let service = Service::start(&service("Rooms", "/rooms", "object").to_string());
    let toml = format!(
        "{DEFAULT}[upstreams.rooms]\nendpoints = [\"http://{}\"]\n[pillars.connect]\nupstream = \"rooms\"\n\
         openapi = {{ path = \"/about/openapi.json\", every = \"1s\" }}\n",
        service.address
    );
    let gateway = Gateway::start(&toml);
    until("it is asked", || document(&gateway)["paths"]["/v1/connect/rooms"].is_object());
    let first = document(&gateway);
    check(&first);
    let generation = gateway.generation();
    service.say(&format!("{:#}", self::service("Rooms", "/rooms", "object")));
    assert_eq!((document(&gateway), gateway.generation()), (first.clone(), generation), "it says the same");
    let large = format!("{{\"openapi\": \"{}\"}}", "x".repeat(5 << 20));
    for (status, bad, why) in [(500, "", "it answers 500"), (200, "<html>", "not JSON"), (200, &large, "too large")] {
        *service.says.lock().expect("nobody panicked") = (status, bad.to_owned());
        let told = |line: &str| line.contains("rooms has no document at /about/openapi.json") && line.contains(why);
        until("it is told", || String::from_utf8_lossy(&gateway.log()).lines().any(told));
        assert_eq!(document(&gateway), first, "{why}");
    }
    // Also over a restart, with nobody there to be asked.
    let before = service.asked.load(Ordering::SeqCst);
    *service.says.lock().expect("nobody panicked") = (503, String::new());
    let gateway = gateway.restart();
    assert_eq!(document(&gateway), first);
    until("it is asked again", || service.asked.load(Ordering::SeqCst) > before);
    *service.says.lock().expect("nobody panicked") = (200, self::service("Halls", "/halls", "object").to_string());
    until("it is taken up", || document(&gateway)["paths"]["/v1/connect/halls"].is_object());
    assert!(document(&gateway)["paths"]["/v1/connect/rooms"].is_null());
}
