//! What the gateway says of its own API, against what it does: asked by a tool that makes up requests from the document.

use crate::harness::{DEFAULT, Gateway, Origin};
use serde_json::json;
use std::path::Path;
use std::process::Command;

/// Made by `cargo xtask guests`.
const TOOL: &str = "../target/portico/schemathesis/bin/schemathesis";
/// What must hold for every answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,unsupported_method,negative_data_rejection";

/// Every operation of the document, with what fits its schemas and what does not. Bounded in time by what it makes up.
#[test]
fn no_made_up_request_gets_an_answer_that_is_not_documented() {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join(TOOL);
    assert!(tool.exists(), "{} is not there; run `cargo xtask guests`", tool.display());
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, &format!("{DEFAULT}\n[pillars.identity]\n"));
    let scopes = ["connect", "keys:read", "keys:write", "usage:read", "webhooks:write"];
    let issue = |mode: &str| gateway.issue(json!({ "name": "asks", "mode": mode, "scopes": scopes })).1;
    let place = tempfile::tempdir().unwrap();
    // It finds its own key in a list, and changes and revokes that too: so each of these is asked for by a key of its own.
    let changes = ["keys.revoke", "keys.rotate", "keys.scope"];
    let but_changes: Vec<_> = changes.iter().flat_map(|id| ["--exclude-operation-id", *id]).collect();
    let only = |change| vec!["--include-operation-id", change];
    for (document, mode, examples, which) in [
        ("openapi.yaml", "live", "20", but_changes.clone()),
        ("openapi.json", "sandbox", "5", but_changes.clone()),
        ("openapi.json", "live", "20", only(changes[0])),
        ("openapi.json", "live", "20", only(changes[1])),
        ("openapi.json", "live", "20", only(changes[2])),
    ] {
        let key = issue(mode);
        let output = Command::new(&tool)
            .args(["run", &format!("http://{}/{document}", gateway.public)])
            .args(["--header", &format!("Authorization: Bearer {key}")])
            .args(&which)
            .args(["--checks", CHECKS, "--max-examples", examples, "--seed", "7", "--no-color"])
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
        assert!(which != but_changes || !said.contains("Authentication failed"), "it came past the guard: {said}");
    }
}
