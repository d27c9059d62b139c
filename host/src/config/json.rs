//! A policy's own configuration: TOML tables as JSON, whose meaning only the policy knows.
//!
//! Dates and times become texts as written; what JSON cannot hold is refused, never bent.

use serde_json::{Map, Number, Value};
use toml::de::{DeTable, DeValue};

use super::form::shown;
use super::problem::{Place, Report};

/// Tables and lists within one another, at most.
const DEEPEST: usize = 32;

/// The table as a JSON object; `None` after a problem was added.
pub(super) fn table(report: &Report<'_>, place: &Place, entries: &DeTable<'_>) -> Option<Map<String, Value>> {
    object(report, place, entries, 0)
}

fn object(report: &Report<'_>, place: &Place, entries: &DeTable<'_>, depth: usize) -> Option<Map<String, Value>> {
    let mut object = Map::new();
    let mut whole = true;
    for (key, node) in entries {
        let place = place.key(key.get_ref(), node.span().start);
        match value(report, &place, node.get_ref(), depth + 1) {
            Some(value) => {
                object.insert(key.get_ref().to_string(), value);
            }
            None => whole = false,
        }
    }
    whole.then_some(object)
}

fn value(report: &Report<'_>, place: &Place, node: &DeValue<'_>, depth: usize) -> Option<Value> {
    let wrong = |message: String| {
        report.add(place, message, None);
        None
    };
    if depth > DEEPEST {
        return wrong(format!("is nested deeper than {DEEPEST} levels"));
    }
    match node {
        DeValue::String(text) => Some(Value::String(text.to_string())),
        DeValue::Boolean(value) => Some(Value::Bool(*value)),
        DeValue::Datetime(time) => Some(Value::String(time.to_string())),
        DeValue::Integer(integer) => {
            let (digits, radix) = (integer.as_str(), integer.radix());
            let number = i64::from_str_radix(digits, radix).map(Number::from);
            match number.or_else(|_| u64::from_str_radix(digits, radix).map(Number::from)) {
                Ok(number) => Some(Value::Number(number)),
                Err(_) => wrong(format!("{} does not fit into 64 bits", shown(&integer.to_string()))),
            }
        }
        DeValue::Float(float) => match float.as_str().parse().ok().and_then(Number::from_f64) {
            Some(number) => Some(Value::Number(number)),
            None => wrong(format!("{} is not a number that JSON can hold", shown(float.as_str()))),
        },
        DeValue::Array(items) => {
            let mut list = Vec::with_capacity(items.len());
            let mut whole = true;
            for (index, item) in items.iter().enumerate() {
                let place = place.item(index, item.span().start);
                match value(report, &place, item.get_ref(), depth + 1) {
                    Some(value) => list.push(value),
                    None => whole = false,
                }
            }
            whole.then_some(Value::Array(list))
        }
        DeValue::Table(entries) => object(report, place, entries, depth).map(Value::Object),
    }
}
