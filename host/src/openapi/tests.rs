use super::*;
use serde_json::json;

mod random;

fn read(document: &Value) -> Result<Document, Vec<Fault>> {
    Document::read(document.to_string().as_bytes())
}

/// With these members; the rest is as small as it may be.
fn with(members: &Value) -> Value {
    let mut document = json!({"openapi": "3.1.0", "info": {"title": "Rooms", "version": "1"}, "paths": {}});
    for (name, value) in members.as_object().unwrap() {
        document[name] = value.clone();
    }
    document
}

fn answers(content: &Value) -> Value {
    json!({"responses": {"200": {"description": "As asked.", "content": {"application/json": content}}}})
}

fn placed(document: &Value) -> Placed {
    let read = read(document).unwrap_or_else(|faults| panic!("{faults:?}\n{document}"));
    read.placed("connect", |path| Some(format!("/v1/connect{path}")))
}

/// All of it as one document, in which every reference must lead somewhere.
fn whole(document: &Value) -> Value {
    let placed = placed(document);
    let mut whole = with(&json!({"components": placed.components}));
    for moved in placed.paths {
        whole["paths"][moved.public.unwrap()] = moved.item;
    }
    let mut all = whole.clone();
    assert_eq!(check::shape(&all), [], "{all}");
    assert_eq!(check::meaning(&mut all), [], "{all}");
    whole
}

#[test]
fn what_is_no_document_is_refused_in_a_sentence() {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let large = format!("{{\"openapi\": \"3.1.0\", \"x-a\": \"{}\"}}", "x".repeat(LARGEST));
    for (text, why) in [
        ("", "not JSON"),
        ("openapi: 3.1.0", "not JSON"),
        (&deep, "recursion limit"),
        (&large, "more than 4 MiB"),
        ("[]", "not a JSON object"),
        ("{}", "does not say which OpenAPI"),
        (r#"{"swagger": "2.0"}"#, "Swagger 2"),
        (r#"{"openapi": "4.0.0"}"#, "\"4.0.0\" is not understood"),
        (r#"{"openapi": "3.1.0", "openapi": "3.1.0"}"#, "there twice"),
        ("{\"openapi\": \"3.1.0\"} x", "trailing"),
    ] {
        let faults = Document::read(text.as_bytes()).unwrap_err();
        assert!(faults[0].message.contains(why), "{why}: {faults:?}");
    }
}

#[test]
fn each_mistake_is_told_with_its_pointer() {
    let operation = answers(&json!({}));
    let named = |id: &str| {
        let mut operation = operation.clone();
        operation["operationId"] = id.into();
        operation
    };
    let schema = |schema: Value| json!({"components": {"schemas": {"A": schema}}});
    let reference = |target: &str| schema(json!({"properties": {"x": {"$ref": target}}}));
    let link = |link: Value| json!({"paths": {"/a": {"get": {"responses": {"200": {"description": "d", "links": {"l": link}}}}}}});
    for (members, pointer, why) in [
        (json!({"paths": {"rooms": {"get": operation}}}), "/paths/rooms", "begins with a slash"),
        (json!({"paths": {"/a?b": {"get": operation}}}), "/paths/~1a?b", "neither a query"),
        (json!({"paths": {"/a/{b": {"get": operation}}}), "/paths/~1a~1{b", "both braces"),
        (json!({"paths": {"/a": 7}}), "/paths/~1a", "must be an object"),
        (json!({"paths": {"/a/{b}": {"get": operation}, "/a/{c}": {}}}), "/paths/~1a~1{c}", "matches the same"),
        (json!({"paths": {"/a": {"get": named("x"), "put": named("x")}}}), "operationId", "already"),
        (json!({"paths": {"/a": {"$ref": "other.json#/a"}}}), "/paths/~1a/$ref", "not in this document"),
        (json!({"paths": {"/a": {"$ref": "#/paths/~1a"}}}), "/paths/~1a", "without an end"),
        (json!({"paths": {"/a": {"get": {"responses": {"200": {}}}}}}), "/paths/~1a/get/responses/200", "description"),
        (json!({"paths": {"/a": {"get": {"responses": 7}}}}), "/paths/~1a/get/responses", "7"),
        (json!({"components": {"schemas": {"a b": {}}}}), "/components/schemas/a b", "letters, digits"),
        (reference("#/components/schemas/B"), "/components/schemas/A/properties/x/$ref", "not there"),
        (reference("https://example.com/a.json"), "/components/schemas/A/properties/x/$ref", "not in this document"),
        (reference("a.json#/b"), "/components/schemas/A/properties/x/$ref", "not in this document"),
        (schema(json!({"items": {"$ref": 7}})), "/components/schemas/A/items/$ref", "is a text"),
        (schema(json!({"$id": "x"})), "/components/schemas/A/$id", "by their place"),
        (schema(json!({"$dynamicRef": "#x"})), "/components/schemas/A/$dynamicRef", "by their place"),
        (
            schema(json!({"discriminator": {"propertyName": "k", "mapping": {"b": "B.json"}}})),
            "/components/schemas/A/discriminator/mapping/b",
            "neither",
        ),
        (link(json!({"operationId": "nobody"})), "links/l/operationId", "no operation"),
        (link(json!({"operationRef": "https://x/#/paths"})), "links/l/operationRef", "leads out"),
        (json!({"jsonSchemaDialect": "http://json-schema.org/draft-07/schema#"}), "/jsonSchemaDialect", "dialect"),
        (json!({"info": {}}), "/info", "title"),
    ] {
        let faults = read(&with(&members)).unwrap_err();
        let told = |fault: &Fault| fault.pointer.ends_with(pointer) && fault.message.contains(why);
        assert!(faults.iter().any(told), "{pointer}: {why}: {faults:?}");
    }
    let many: serde_json::Map<_, _> = (0..50).map(|number| (format!("p{number}"), json!({}))).collect();
    let faults = read(&with(&json!({"paths": many}))).unwrap_err();
    assert_eq!((faults.len(), &*faults[TOLD].message), (TOLD + 1, "and 30 more things are wrong"));
}

/// Everywhere that a name of the document can stand.
#[test]
fn every_name_becomes_that_of_the_pillar() {
    let document = with(&json!({
        "servers": [{"url": "https://rooms.example/{version}/", "variables": {"version": {"default": "v2"}}}],
        "security": [{"theirs": []}],
        "tags": [{"name": "rooms", "description": "Rooms."}],
        "paths": {
            "/rooms/{id}": {
                "servers": [{"url": "/elsewhere"}],
                "parameters": [{"$ref": "#/components/parameters/Id"}, {"$ref": "#/components/parameters/Caller"}],
                "get": {
                    "operationId": "show", "tags": ["rooms"], "security": [],
                    "parameters": [
                        {"name": "x-portico-assertion", "in": "header", "schema": {"type": "string"}},
                        {"name": "q", "in": "query", "schema": {"$ref": "#/components/schemas/Room/properties/name"}},
                    ],
                    "responses": {
                        "200": {
                            "description": "d",
                            "headers": {"x-a": {"$ref": "#/components/headers/A"}},
                            "content": {"application/json": {
                                "schema": {"$ref": "#/components/schemas/Room"},
                                "example": {"$ref": "#/components/schemas/Room"},
                                "examples": {"e": {"$ref": "#/components/examples/E"}, "f": {"value": {"$ref": "x.json"}}},
                            }},
                            "links": {
                                "one": {"operationId": "show"},
                                "two": {"operationRef": "#/paths/~1rooms~1%7Bid%7D/get"},
                                "three": {"$ref": "#/components/links/L"},
                            },
                        },
                        "404": {"$ref": "#/components/responses/Gone"},
                    },
                    "callbacks": {
                        "told": {"{$request.query.url}": {"post": {
                            "operationId": "tell", "requestBody": {"$ref": "#/components/requestBodies/B"},
                            "responses": {"200": {"description": "d"}},
                        }}},
                        "other": {"$ref": "#/components/callbacks/C"},
                    },
                },
            },
            "/shared": {"$ref": "#/components/pathItems/P", "summary": "own"},
        },
        "components": {
            "schemas": {
                "Room": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string", "default": "#/components/schemas/Room"},
                        "$ref": {"type": "string"},
                        "next": {"$ref": "#/components/schemas/Room"},
                        "kind": {"oneOf": [{"$ref": "#/components/schemas/Cat"}, {"$ref": "#/components/schemas/Dog"}],
                                 "discriminator": {"propertyName": "k", "mapping": {"c": "Cat", "d": "#/components/schemas/Dog"}}},
                    },
                    "additionalProperties": {"$ref": "#/paths/~1rooms~1{id}/get/responses/200/content/application~1json/schema"},
                },
                "Pet": {"type": "object", "discriminator": {"propertyName": "k"}},
                "Cat": {"allOf": [{"$ref": "#/components/schemas/Pet"}, {"$defs": {"x": {"$ref": "#/components/schemas/Room"}}}]},
                "Dog": {"allOf": [{"$ref": "#/components/schemas/Pet"}], "const": {"$ref": "none"}, "x-a": {"$ref": "none"}},
            },
            "parameters": {
                "Id": {"name": "id", "in": "path", "required": true, "schema": {"type": "string"}},
                "Caller": {"name": "Authorization", "in": "header", "schema": {"type": "string"}},
            },
            "headers": {"A": {"schema": {"$ref": "#/components/schemas/Cat"}}},
            "examples": {"E": {"value": 1}},
            "links": {"L": {"operationId": "show", "server": {"url": "/x"}}},
            "responses": {"Gone": {"description": "d"}},
            "requestBodies": {"B": {"content": {"a/b": {"schema": {"$ref": "#/components/schemas/Dog"}}}}},
            "callbacks": {"C": {"{$url}": {"$ref": "#/components/pathItems/P"}}},
            "pathItems": {"P": {"put": {"operationId": "share", "responses": {"200": {"description": "d"}}}}},
            "securitySchemes": {"theirs": {"type": "http", "scheme": "basic"}},
        },
    }));
    let whole = whole(&document);
    let show = &whole["paths"]["/v1/connect/v2/rooms/{id}"]["get"];
    assert_eq!((&show["operationId"], &show["tags"]), (&json!("connect.show"), &json!(["connect.rooms"])));
    assert_eq!(show.get("security").or(show.get("servers")), None);
    assert_eq!(
        whole["paths"]["/v1/connect/v2/rooms/{id}"]["parameters"],
        json!([{"$ref": "#/components/parameters/connect.Id"}])
    );
    assert_eq!(show["parameters"][0]["schema"]["$ref"], "#/components/schemas/connect.Room/properties/name");
    let content = &show["responses"]["200"]["content"]["application/json"];
    assert_eq!(content["example"]["$ref"], "#/components/schemas/Room", "data stays");
    assert_eq!(content["examples"]["f"]["value"]["$ref"], "x.json");
    let links = &show["responses"]["200"]["links"];
    assert_eq!(links["one"]["operationId"], "connect.show");
    assert_eq!(links["two"]["operationRef"], "#/paths/~1v1~1connect~1v2~1rooms~1%7Bid%7D/get");
    assert_eq!(whole["components"]["links"]["connect.L"], json!({"operationId": "connect.show"}));
    assert_eq!(show["callbacks"]["told"]["{$request.query.url}"]["post"]["operationId"], "connect.tell");
    let shared = &whole["paths"]["/v1/connect/v2/shared"];
    assert_eq!((&shared["summary"], &shared["put"]["operationId"]), (&json!("own"), &json!("connect.share")));
    let schemas = &whole["components"]["schemas"];
    let room = &schemas["connect.Room"];
    assert_eq!(room["properties"]["name"]["default"], "#/components/schemas/Room");
    assert_eq!(room["properties"]["$ref"], json!({"type": "string"}));
    let at = |name: &str| format!("#/components/schemas/connect.{name}");
    let mapping = &room["properties"]["kind"]["discriminator"]["mapping"];
    assert_eq!(*mapping, json!({"c": at("Cat"), "d": at("Dog"), "Cat": at("Cat"), "Dog": at("Dog")}));
    assert_eq!(schemas["connect.Pet"]["discriminator"]["mapping"], json!({"Cat": at("Cat"), "Dog": at("Dog")}));
    assert_eq!(
        (&schemas["connect.Dog"]["const"]["$ref"], &schemas["connect.Dog"]["x-a"]["$ref"]),
        (&json!("none"), &json!("none"))
    );
    assert_eq!(whole["components"].get("securitySchemes"), None);
    assert_eq!(placed(&document).tags, [json!({"name": "connect.rooms", "description": "Rooms."})]);
}

#[test]
fn references_follow_a_move() {
    let public = |path: &str| (path != "/gone").then(|| format!("/v1/c{path}"));
    for (written, moved) in [
        ("#/components/schemas/A", "#/components/schemas/c.A"),
        ("#/components/schemas/A/properties/components", "#/components/schemas/c.A/properties/components"),
        ("#/paths/~1a~1{b}/get", "#/paths/~1v1~1c~1a~1%7Bb%7D/get"),
        ("#/paths/~1a%7E1b", "#/paths/~1v1~1c~1a~1b"),
        ("#/paths/~1gone/get", "#/paths/~1gone/get"),
        ("#/info", "#/info"),
        ("#", "#"),
        ("#/components", "#/components"),
    ] {
        assert_eq!(moved_reference(written, "c", &public), moved, "{written}");
    }
}

/// What 3.0 says otherwise.
#[test]
fn a_document_of_3_0_says_the_same_in_3_1() {
    let schema = |schema: Value| {
        let mut document = with(&json!({"components": {"schemas": {"A": schema, "B": {}}}}));
        document["openapi"] = "3.0.3".into();
        whole(&document)["components"]["schemas"]["connect.A"].clone()
    };
    let b = json!({"$ref": "#/components/schemas/connect.B"});
    for (written, renewed) in [
        (json!({"type": "string", "nullable": true}), json!({"type": ["string", "null"]})),
        (json!({"type": "string", "nullable": false}), json!({"type": "string"})),
        (
            json!({"type": "string", "enum": ["a"], "nullable": true}),
            json!({"type": ["string", "null"], "enum": ["a", null]}),
        ),
        (json!({"nullable": true}), json!({})),
        (
            json!({"allOf": [{"$ref": "#/components/schemas/B"}], "nullable": true}),
            json!({"anyOf": [{"allOf": [b]}, {"type": "null"}]}),
        ),
        (
            json!({"type": "integer", "minimum": 1, "exclusiveMinimum": true}),
            json!({"type": "integer", "exclusiveMinimum": 1}),
        ),
        (json!({"maximum": 1, "exclusiveMaximum": false}), json!({"maximum": 1})),
        (json!({"exclusiveMaximum": true}), json!({})),
        (json!({"type": "string", "example": "x"}), json!({"type": "string", "examples": ["x"]})),
        (
            json!({"$ref": "#/components/schemas/B", "nullable": true, "description": "d"}),
            json!({"$ref": b["$ref"], "description": "d"}),
        ),
        (
            json!({"properties": {"a": {"items": {"type": "number", "nullable": true}}, "nullable": {"type": "boolean"}}}),
            json!({"properties": {"a": {"items": {"type": ["number", "null"]}}, "nullable": {"type": "boolean"}}}),
        ),
    ] {
        assert_eq!(schema(written.clone()), renewed, "{written}");
    }
}

#[test]
fn a_digest_is_of_what_is_said() {
    let document = with(&json!({}));
    let (one, other) =
        (read(&document).unwrap(), Document::read(format!("\u{feff}{document:#}\n").as_bytes()).unwrap());
    assert_eq!((one.digest(), one.about()), (other.digest(), "Rooms".to_owned()));
    assert!(one.is_of(document.to_string().as_bytes()) && !other.is_of(document.to_string().as_bytes()));
    assert_ne!(one.digest(), read(&with(&json!({"info": {"title": "Halls", "version": "1"}}))).unwrap().digest());
}

#[test]
fn variables_of_a_server_are_put_in_once_and_never_beyond_the_longest_path() {
    let mut document = with(&json!({"paths": {"/a": {"get": answers(&json!({}))}}}));
    let laughs: serde_json::Map<String, Value> = (b'a'..b'k')
        .map(|name| {
            (char::from(name).to_string(), json!({"default": format!("{{{}}}", char::from(name + 1)).repeat(10)}))
        })
        .collect();
    document["servers"] = json!([{"url": "/{a}/x", "variables": laughs}]);
    assert!(placed(&document).paths.iter().all(|moved| moved.public.as_ref().is_some_and(|path| path.len() < 200)));
    document["servers"] = json!([{"url": format!("/{}", "x".repeat(1 << 20))}]);
    assert!(placed(&document).paths.iter().all(|moved| moved.public.as_ref().is_some_and(|path| path.len() < 200)));
    document["servers"] = json!([{"url": "/{v}/x", "variables": {"v": {"default": "v1"}}}]);
    assert_eq!(placed(&document).paths[0].public.as_deref(), Some("/v1/connect/v1/x/a"));
}

#[test]
fn what_is_referred_to_again_and_again_is_not_copied_without_end() {
    let paths: serde_json::Map<String, Value> =
        (0..100).map(|at| (format!("/p{at}"), json!({"$ref": "#/components/pathItems/x"}))).collect();
    let item = json!({"description": "d".repeat(1 << 20)});
    let document = with(&json!({"paths": paths, "components": {"pathItems": {"x": item}}}));
    assert!(read(&document).unwrap_err()[0].message.contains("write each once"));
    let paths: serde_json::Map<String, Value> = (0..100).map(|at| (format!("/p{at}"), json!({"$ref": "#"}))).collect();
    assert!(read(&with(&json!({"paths": paths}))).is_err());
}

#[test]
fn names_without_end_are_one_sentence() {
    let many = vec![json!({"$ref": "#/components/parameters/p"}); 2_000];
    let mut paths = serde_json::Map::new();
    paths.insert(
        format!("/{}", "x".repeat(1 << 17)),
        json!({"get": {"parameters": many, "responses": {"200": {"description": "A."}}}}),
    );
    let document =
        with(&json!({"paths": paths, "components": {"parameters": {"p": {"name": "p", "in": "query", "schema": {}}}}}));
    let faults = read(&document).unwrap_err();
    assert!(faults.iter().any(|fault| fault.message.contains("too long names")), "{faults:?}");
}
