//! Documents that nobody wrote.

use super::*;
use proptest::prelude::*;

/// Schemas that refer to one another, in all the places where they can.
fn schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        (0..4_u8).prop_map(|number| json!({"$ref": format!("#/components/schemas/S{number}")})),
        Just(json!({"type": "string"})),
        Just(json!(true)),
        (0..4_u8).prop_map(|number| json!({"enum": [{"$ref": format!("#/components/schemas/S{number}")}]})),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let many = prop::collection::vec(inner.clone(), 1..3);
        prop_oneof![
            inner.clone().prop_map(|schema| json!({"items": schema})),
            inner.clone().prop_map(|schema| json!({"additionalProperties": schema})),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"properties": {"$ref": a, "properties": b}})),
            many.clone().prop_map(|all| json!({"allOf": all})),
            many.prop_map(|all| json!({"oneOf": all, "discriminator": {"propertyName": "k"}})),
            inner.prop_map(|schema| json!({"if": schema, "default": {"$ref": "#/components/schemas/none"}})),
        ]
    })
}

/// Whatever, by the names that mean something.
fn anything() -> impl Strategy<Value = Value> {
    const NAMES: [&str; 30] = [
        "paths",
        "/a",
        "/a/{b}",
        "get",
        "post",
        "parameters",
        "responses",
        "200",
        "content",
        "a/b",
        "schema",
        "components",
        "schemas",
        "pathItems",
        "A",
        "$ref",
        "links",
        "operationId",
        "operationRef",
        "callbacks",
        "discriminator",
        "mapping",
        "propertyName",
        "oneOf",
        "allOf",
        "properties",
        "servers",
        "url",
        "tags",
        "headers",
    ];
    let text = prop_oneof![
        Just("x"),
        Just("#/components/schemas/A"),
        Just("#/components/pathItems/A"),
        Just("#/paths/~1a"),
        Just("{")
    ];
    let leaf = prop_oneof![text.prop_map(Value::from), Just(json!(true)), Just(json!(1)), Just(Value::Null)];
    leaf.prop_recursive(7, 60, 5, |inner| {
        let named = prop::collection::vec((prop::sample::select(&NAMES[..]), inner.clone()), 0..6);
        prop_oneof![
            prop::collection::vec(inner, 0..3).prop_map(Value::from),
            named.prop_map(|all| all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Value>()),
        ]
    })
}

proptest! {
    #[test]
    fn after_the_move_every_reference_leads_where_it_led(schemas in prop::collection::vec(schema(), 4)) {
        let named: serde_json::Map<String, Value> =
            schemas.iter().enumerate().map(|(number, schema)| (format!("S{number}"), schema.clone())).collect();
        let document = with(&json!({"components": {"schemas": named}}));
        // Resolves all, and by their pillar's names only.
        let moved = whole(&document)["components"]["schemas"].clone();
        for (name, schema) in &named {
            let mut back = moved[format!("connect.{name}")].clone();
            walk::walk(&mut back, walk::Kind::Schema, "", &mut |_, value, _| {
                if let Some(Value::String(target)) = value.get_mut("$ref") {
                    let was = target.strip_prefix("#/components/schemas/connect.").map(str::to_owned);
                    *target = format!("#/components/schemas/{}", was.expect("a name of the pillar"));
                }
                if let Some(discriminator) = value.get_mut("discriminator").and_then(Value::as_object_mut) {
                    discriminator.remove("mapping");
                }
            });
            prop_assert_eq!(&back, schema);
        }
    }

    #[test]
    fn no_document_makes_it_panic(members in anything()) {
        let mut document = with(&json!({}));
        for (name, value) in members.as_object().into_iter().flatten() {
            document[name] = value.clone();
        }
        let text = document.to_string();
        if let Ok(read) = Document::read(text.as_bytes()) {
            let placed = read.placed("p", |path| (path.len() > 2).then(|| format!("/v1/p{path}")));
            prop_assert!(placed.paths.iter().all(|moved| moved.methods().count() <= 8));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Document::read(&bytes);
    }
}
