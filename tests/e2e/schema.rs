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
    let scopes = ["connect", "keys:read", "keys:write", "usage:read"];
    // Another key than the one it asks with is in its reach, too.
    let (_, key) = gateway.issue(json!({ "name": "asks", "mode": "live", "scopes": scopes }));
    let sandbox = gateway.issue(json!({ "name": "tries", "mode": "sandbox", "scopes": scopes })).1;
    let place = tempfile::tempdir().unwrap();
    for (document, key, examples) in [("openapi.yaml", &key, "20"), ("openapi.json", &sandbox, "5")] {
        let output = Command::new(&tool)
            .args(["run", &format!("http://{}/{document}", gateway.public)])
            .args(["--header", &format!("Authorization: Bearer {key}")])
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
    }
}
