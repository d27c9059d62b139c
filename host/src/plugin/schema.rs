//! Holds a slot's configuration against the policy's JSON Schema; every problem with its key path.

use super::declared::Declared;
use super::policy::SlotUse;
use crate::config::{Problem, suggest};
use jsonschema::error::ValidationErrorKind;
use serde_json::Value;

const TOLD: usize = 64;

/// All that is wrong with a configuration.
pub(super) fn check(declared: &Declared, at: &SlotUse) -> Vec<Problem> {
    let Some(schema) = &declared.schema else { return Vec::new() };
    let instance = match serde_json::from_str::<Value>(&at.config) {
        Ok(instance) => instance,
        Err(error) => return vec![Problem::at(at.key.clone(), format!("it is not JSON: {error}"))],
    };
    let Ok(validator) = jsonschema::validator_for(schema) else {
        return vec![Problem::at(at.key.clone(), "the policy's schema cannot be used")];
    };
    validator.iter_errors(&instance).take(TOLD).flat_map(|error| problems(schema, &at.key, &error)).collect()
}

fn problems(schema: &Value, key: &str, error: &jsonschema::ValidationError<'_>) -> Vec<Problem> {
    let pointer = error.instance_path().to_string();
    let path = key_path(key, &pointer);
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let known = properties(schema, &error.schema_path().to_string());
            let one = |name: &String| {
                let mut problem = Problem::at(key_path(&path, &format!("/{name}")), "unknown key");
                problem.suggestion = Some(match suggest::nearest(name, known.iter().map(String::as_str)) {
                    Some(meant) => suggest::did_you_mean(meant),
                    None => format!("known are: {}", suggest::listed(known.iter().map(String::as_str))),
                });
                problem
            };
            unexpected.iter().map(one).collect()
        }
        _ => vec![Problem::at(path, error.to_string())],
    }
}

/// The properties that the schema object which refused something has.
fn properties(schema: &Value, schema_path: &str) -> Vec<String> {
    let parent = schema_path.rsplit_once('/').map_or("", |(parent, _)| parent);
    let properties = schema.pointer(parent).and_then(|object| object.get("properties")).and_then(Value::as_object);
    properties.map(|object| object.keys().cloned().collect()).unwrap_or_default()
}

/// A JSON pointer (RFC 6901) below a key path, as a key path.
pub(super) fn key_path(key: &str, pointer: &str) -> String {
    let mut path = key.to_owned();
    for part in pointer.split('/').skip(1).take(32) {
        let part = part.replace("~1", "/").replace("~0", "~");
        if part.bytes().all(|byte| byte.is_ascii_digit()) && !part.is_empty() {
            path.push_str(&format!("[{part}]"));
        } else if part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) && !part.is_empty() {
            path.push_str(&format!(".{part}"));
        } else {
            path.push_str(&format!(".{part:?}"));
        }
    }
    path
}
