//! The pages that answer before any policy, in the documentation: who the gateway is, whether it is well, and its keys.

use serde_json::{Value, json};

/// The item of each path.
pub(super) fn items() -> [(&'static str, Value); 5] {
    let words = |example: &str| json!({"text/plain": {"schema": {"type": "string"}, "example": example}});
    let states = |values: &[&str]| json!({"type": "object", "description": "By name.", "additionalProperties": {"type": "string", "enum": values}});
    let probe = |id: &str, summary: &str, well: &str| {
        let mut operation = get(id, summary, "For load balancers.", words(well));
        operation["responses"]["503"] =
            json!({"description": "Not now; the body says why.", "headers": fields(), "content": words("draining\n")});
        json!({"get": operation})
    };
    let health = json!({"application/json": {
        "schema": {
            "type": "object",
            "required": ["status", "version", "gateway", "upstream_status", "policy_status"],
            "properties": {
                "status": {"type": "string", "enum": ["ok", "degraded", "draining"]},
                "version": {"type": "string"},
                "gateway": {"type": "string", "description": "Its name."},
                "upstream_status": states(&["live", "degraded", "down", "scaffold"]),
                "policy_status": states(&["quarantined", "quarantined_for_some"]),
            },
        },
        "example": {
            "status": "ok", "version": env!("CARGO_PKG_VERSION"), "gateway": "Portico",
            "upstream_status": {"connect": "live", "pay": "scaffold"}, "policy_status": {},
        },
    }});
    let jwks = json!({"application/jwk-set+json": {
        "schema": {
            "type": "object",
            "required": ["keys"],
            "properties": {"keys": {"type": "array", "items": {"type": "object"}}},
        },
        "example": {"keys": [{
            "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": "…",
            "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        }]},
    }});
    let landing = json!({"text/html": {"schema": {"type": "string"}, "example": "<!doctype html>…"}});
    let assertions = "By which services behind the gateway check its word on who calls (RFC 7517).";
    [
        ("/", json!({"get": get("landing", "The landing page", "For people.", landing)})),
        ("/healthz", probe("healthz", "Whether it lives", "ok\n")),
        ("/readyz", probe("readyz", "Whether it takes requests", "ready\n")),
        ("/v1/health", json!({"get": get("health", "How it and its pillars do", "For people and programs.", health)})),
        ("/.well-known/jwks.json", json!({"get": get("jwks", "The keys of its assertions", assertions, jwks)})),
    ]
}

fn get(id: &str, summary: &str, description: &str, content: Value) -> Value {
    json!({
        "tags": ["gateway"],
        "summary": summary,
        "description": description,
        "operationId": id,
        "security": [],
        "responses": {"200": {"description": "As asked.", "headers": fields(), "content": content}},
    })
}

fn fields() -> Value {
    let schema = json!({"type": "string"});
    json!({"x-request-id": {"description": "The id of the request.", "required": true, "schema": schema}})
}
