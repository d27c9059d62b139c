//! What the gateway says of its own API, against what it does: asked by a tool that makes up requests from the document.

use crate::harness::{DEFAULT, Gateway, Origin};
use serde_json::json;
use std::path::Path;
use std::process::Command;

/// Made by `cargo xtask guests`. The interpreter, as the program itself would name the directory in which it was made.
const TOOL: &str = "../target/portico/schemathesis/bin/python3";
/// What must hold for every answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,unsupported_method,negative_data_rejection";

/// The operations of a pillar.
const PILLAR: &str = "^/v1/things";
/// What must hold for those: the service behind it takes whatever it gets.
const CHECKS_OF_PILLAR: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance";

/// What the origin offers, as it would say itself: it tells what it got.
fn things() -> serde_json::Value {
    let told = json!({"$ref": "#/components/schemas/Told"});
    let answer = json!({"200": {"description": "What came.", "content": {"application/json": {"schema": told}}}});
    let id = json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string"}});
    let order = json!({"content": {"application/json": {"schema": {"type": "object", "properties": {"name": {"type": "string"}}}}}});
    json!({
        "openapi": "3.0.3",
        "info": {"title": "Things", "version": "1"},
        "paths": {
            "/things": {"post": {"operationId": "make", "requestBody": order, "responses": answer}},
            "/things/{id}": {"parameters": [id], "get": {"operationId": "show", "responses": answer}},
        },
        "components": {"schemas": {"Told": {
            "type": "object",
            "required": ["method", "target", "fields", "body", "bytes"],
            "properties": {
                "method": {"type": "string"}, "target": {"type": "string"}, "body": {"type": "string", "nullable": true},
                "bytes": {"type": "integer", "minimum": -1, "exclusiveMinimum": true},
                "fields": {"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
            },
        }}},
    })
}

/// Every operation of the document, with what fits its schemas and what does not. Bounded in time by what it makes up.
#[test]
fn no_made_up_request_gets_an_answer_that_is_not_documented() {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join(TOOL);
    assert!(tool.exists(), "{} is not there; run `cargo xtask guests`", tool.display());
    let origin = Origin::echo();
    let place = tempfile::tempdir().unwrap();
    let things = place.path().join("things.json");
    std::fs::write(&things, self::things().to_string()).unwrap();
    let things =
        format!("[pillars.things]\nupstream = \"origin\"\nopenapi = {{ file = {:?} }}\n", things.display().to_string());
    let gateway = Gateway::with(&origin, &format!("{DEFAULT}\n[pillars.identity]\n{things}"));
    let scopes = ["connect", "things", "keys:read", "keys:write", "usage:read", "webhooks:write"];
    let issue = |mode: &str| gateway.issue(json!({ "name": "asks", "mode": mode, "scopes": scopes })).1;
    // It finds its own key in a list, and changes and revokes that too: so each of these is asked for by a key of its own.
    let changes = [("keys.revoke", "key.revoked"), ("keys.rotate", "key.rotated"), ("keys.scope", "key.scoped")];
    let mut but_changes: Vec<_> = changes.iter().flat_map(|(id, _)| ["--exclude-operation-id", *id]).collect();
    but_changes.extend(["--exclude-path-regex", PILLAR]);
    let only = |change| vec!["--include-operation-id", change];
    for (document, mode, examples, which, change) in [
        ("openapi.json", "live", "20", vec!["--include-path-regex", PILLAR], None),
        ("openapi.yaml", "live", "20", but_changes.clone(), None),
        ("openapi.json", "sandbox", "5", but_changes.clone(), None),
        ("openapi.json", "live", "20", only(changes[0].0), Some(changes[0].1)),
        ("openapi.json", "live", "20", only(changes[1].0), Some(changes[1].1)),
        ("openapi.json", "live", "20", only(changes[2].0), Some(changes[2].1)),
    ] {
        let key = issue(mode);
        // What is changed is there: an id that is made up leads to 404 and no further.
        let changed = gateway.issue(json!({ "name": "changed", "mode": mode, "scopes": scopes })).0;
        let settings = place.path().join("settings.toml");
        let fixed = change.map(|_| format!("[parameters]\n\"path.id\" = \"{changed}\"\n"));
        std::fs::write(&settings, fixed.unwrap_or_default()).unwrap();
        let output = Command::new(&tool)
            .args(["-m", "schemathesis.cli"])
            .arg("--config-file")
            .arg(&settings)
            .args(["run", &format!("http://{}/{document}", gateway.public)])
            .args(["--header", &format!("Authorization: Bearer {key}")])
            .args(&which)
            .args([
                "--checks",
                if which.contains(&"--include-path-regex") { CHECKS_OF_PILLAR } else { CHECKS },
                "--max-examples",
                examples,
                "--seed",
                "7",
                "--no-color",
            ])
            .args(["--phases", "examples,coverage,fuzzing", "--generation-database", "none"])
            .args(["--request-timeout", "20", "--suppress-health-check", "all"])
            .current_dir(place.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", place.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).replace(key.as_str(), "sk_…");
        assert!(output.status.success(), "{document}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("generated"), "it did something: {said}");
        if let Some(action) = change {
            let log = gateway.admin("GET", &format!("/v1/audit?object={changed}&action={action}")).send().json();
            assert_ne!(log["entries"], json!([]), "it was done at least once: {said}");
        }
        assert!(which != but_changes || !said.contains("Authentication failed"), "it came past the guard: {said}");
    }
}
