//! OpenAPI 3.0 brought to 3.1: what is said otherwise there, and nothing else.
//!
//! By the OpenAPI Initiative's own guide: `nullable`, exclusive bounds as flags, `example` of a schema, what stands beside a
//! reference.

use serde_json::{Map, Value, json};

use super::walk::{Kind, walk};

/// Has a document of 3.0 say the same as one of 3.1; another one stays as it is.
pub(super) fn renew(document: &mut Value) {
    if !document["openapi"].as_str().is_some_and(|version| version.starts_with("3.0.")) {
        return;
    }
    walk(document, Kind::Document, "", &mut |kind, value, _| {
        if kind == Kind::Schema && value.is_object() {
            let schema = renewed(std::mem::take(value));
            *value = schema;
        }
    });
    document["openapi"] = "3.1.0".into();
}

fn renewed(mut schema: Value) -> Value {
    let Some(members) = schema.as_object_mut() else { return schema };
    if members.contains_key("$ref") {
        // Without a word, as 3.0 has it; in 3.1 they would say something.
        members.retain(|name, _| matches!(name.as_str(), "$ref" | "description" | "summary"));
        return schema;
    }
    for (flag, bound) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        match members.get(flag) {
            Some(Value::Bool(true)) => {
                match members.remove(bound) {
                    Some(limit) => members.insert(flag.to_owned(), limit),
                    None => members.remove(flag),
                };
            }
            Some(Value::Bool(false)) => drop(members.remove(flag)),
            _ => {}
        }
    }
    if let Some(example) = members.remove("example") {
        members.insert("examples".to_owned(), json!([example]));
    }
    if members.remove("nullable") == Some(Value::Bool(true)) { or_null(members) } else { schema }
}

fn or_null(members: &mut Map<String, Value>) -> Value {
    let made_up = ["allOf", "anyOf", "oneOf"].iter().any(|of| members.contains_key(*of));
    match members.get("type") {
        Some(Value::String(name)) => {
            let both = json!([name, "null"]);
            members.insert("type".to_owned(), both);
            if let Some(Value::Array(allowed)) = members.get_mut("enum")
                && !allowed.contains(&Value::Null)
            {
                allowed.push(Value::Null);
            }
            Value::Object(std::mem::take(members))
        }
        // Of a schema that others make up.
        None if made_up => {
            json!({"anyOf": [Value::Object(std::mem::take(members)), {"type": "null"}]})
        }
        // Without a type everything fits already.
        _ => Value::Object(std::mem::take(members)),
    }
}
