//! Refusals in the documentation: the shape of all, and a response for each status with an example for each code.

use http::StatusCode;
use serde_json::{Map, Value, json};

/// The shape of every refusal.
pub(super) fn schema() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    json!({
        "type": "object",
        "description": "A refusal (RFC 9457).",
        "required": ["type", "title", "status", "detail", "instance", "error", "message"],
        "properties": {
            "type": text("`urn:portico:error:` and the code."),
            "title": text("The same for every refusal with this code."),
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": text("What happened this time, and what to do."),
            "instance": text("The id of the request."),
            "error": text("The code: stable."),
            "message": text("As `detail`."),
            "errors": {
                "type": "array",
                "description": "All that is wrong with what was sent.",
                "items": {
                    "type": "object",
                    "required": ["detail"],
                    "properties": {
                        "pointer": text("Where in the body, as a JSON pointer (RFC 6901)."),
                        "parameter": text("Or which parameter of the query."),
                        "detail": text("What is wrong, and what to write instead."),
                    },
                },
            },
        },
    })
}

/// The fields that every answer has, and those that were documented already.
pub(super) fn fields(more: Value) -> Map<String, Value> {
    let mut fields = match more {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    let field = |description: &str, required: bool| json!({"description": description, "required": required, "schema": {"type": "string"}});
    fields.insert("x-request-id".to_owned(), field("The id of the request.", true));
    let limits = "Where limits apply, as in the IETF draft on rate limit fields.";
    fields.insert("ratelimit-policy".to_owned(), field(limits, false));
    fields.insert("ratelimit".to_owned(), field(limits, false));
    fields
}

/// A response for a status, without any code yet.
pub(super) fn response(status: u16) -> Value {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Refused");
    let mut fields = fields(Value::Null);
    let mut add = |name: &str, description: &str, required: bool| {
        let field = json!({"description": description, "required": required, "schema": {"type": "string"}});
        fields.insert(name.to_owned(), field);
    };
    match status {
        401 => add("www-authenticate", "What is wrong with the key (RFC 6750).", true),
        403 => add("www-authenticate", "With `insufficient_scope`: the scope that is needed (RFC 6750).", false),
        429 => add("retry-after", "Seconds until it makes sense to come again.", true),
        503 => add("retry-after", "Seconds until it makes sense to come again, where that is known.", false),
        _ => {}
    }
    json!({
        "description": reason,
        "headers": fields,
        "content": {"application/problem+json": {
            "schema": {
                "allOf": [{"$ref": "#/components/schemas/Problem"}],
                "properties": {"error": {"enum": []}, "status": {"const": status}},
            },
            "examples": {},
        }},
    })
}

/// One more code that comes with this response.
pub(super) fn add(response: &mut Value, code: String, document: Value) {
    let content = &mut response["content"]["application/problem+json"];
    if let Some(codes) = content["schema"]["properties"]["error"]["enum"].as_array_mut()
        && !codes.iter().any(|known| *known == code)
    {
        codes.push(code.clone().into());
    }
    let title = document["title"].clone();
    content["examples"][code] = json!({"summary": title, "value": document});
}
