//! Refusals in the documentation: the shape of all, and a response for each status with an example for each code.

use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::idempotency::{FIELD, LONGEST};

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
        409 => add("retry-after", "With `idempotency_key_in_use`: seconds until it makes sense to come again.", false),
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

/// The field by which an operation is done once, and the field of answers that are given again.
pub(super) fn add_idempotency(operation: &mut Value) {
    let parameter = json!({
        "name": FIELD,
        "in": "header",
        "required": false,
        "description": "A word of your own for this request, best a UUID; bare, or in double quotes. For 24 hours the same request with the \
            same word is not carried out again: you get the same answer.",
        "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST, "pattern": "^[!#-+.-:<-\\[\\]-~-]+$"},
        "example": "8e03978e-40d5-43dd-bc93-6894a57f9324",
    });
    match operation["parameters"].as_array_mut() {
        Some(parameters) => parameters.push(parameter),
        None => operation["parameters"] = json!([parameter]),
    }
    for response in operation["responses"].as_object_mut().into_iter().flat_map(|all| all.values_mut()) {
        response["headers"]["idempotency-replayed"] = json!({
            "description": "`true` on an answer that was given before, to the same `Idempotency-Key`.",
            "required": false,
            "schema": {"type": "string", "const": "true"},
        });
    }
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
