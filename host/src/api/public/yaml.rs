//! JSON written as YAML, for people: blocks, and every text in double quotes, which YAML reads as JSON does.

use serde_json::Value;

/// The document, with a line break at its end.
pub(super) fn written(document: &Value) -> String {
    let mut text = String::new();
    block(document, 0, &mut text);
    text
}

/// A value that begins on a line of its own.
fn block(value: &Value, depth: usize, text: &mut String) {
    let indent = |text: &mut String| text.extend(std::iter::repeat_n("  ", depth));
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, value) in members {
                indent(text);
                text.push_str(&quoted(name));
                text.push(':');
                nested(value, depth + 1, text);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                indent(text);
                text.push('-');
                nested(item, depth + 1, text);
            }
        }
        flat => {
            indent(text);
            text.push_str(&flat.to_string());
            text.push('\n');
        }
    }
}

/// A value behind its name or its dash.
fn nested(value: &Value, depth: usize, text: &mut String) {
    let is_block = match value {
        Value::Object(members) => !members.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    if is_block {
        text.push('\n');
        block(value, depth, text);
    } else {
        text.push(' ');
        text.push_str(&value.to_string());
        text.push('\n');
    }
}

fn quoted(name: &str) -> String {
    Value::from(name).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks_hold_blocks_and_flat_values_stand_behind_their_names() {
        let document = json!({"a": {"b": [1, "two: \"x\"\n", {"c": null}, [], [true]]}, "d": {}});
        let expected = "\"a\":\n  \"b\":\n    - 1\n    - \"two: \\\"x\\\"\\n\"\n    -\n      \"c\": null\n    - []\n    -\n      - true\n\"d\": {}\n";
        assert_eq!(written(&document), expected);
        assert_eq!(written(&json!("x")), "\"x\"\n");
    }
}
