//! What stands where in an OpenAPI document: the one table by which all that is looked at or changed in it is found.
//!
//! Data is never entered (examples, defaults, constants, extensions): what looks like a reference there is none.

use serde_json::Value;

use super::token;

/// What an object of a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Document,
    Components,
    PathItem,
    Operation,
    Parameter,
    Header,
    RequestBody,
    MediaType,
    Encoding,
    Response,
    Example,
    Link,
    Callback,
    Schema,
    SecurityScheme,
    Tag,
}

/// How a member holds others.
#[derive(Clone, Copy)]
enum Shape {
    One(Kind),
    List(Kind),
    Map(Kind),
}

/// The methods that a path can have operations for.
pub(super) const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

impl Kind {
    /// Its members that hold others.
    fn members(self) -> &'static [(&'static str, Shape)] {
        use Kind::*;
        use Shape::{List, Map, One};
        match self {
            Document => &[("paths", Map(PathItem)), ("components", One(Components)), ("tags", List(Tag))],
            Components => &[
                ("schemas", Map(Schema)),
                ("responses", Map(Response)),
                ("parameters", Map(Parameter)),
                ("examples", Map(Example)),
                ("requestBodies", Map(RequestBody)),
                ("headers", Map(Header)),
                ("securitySchemes", Map(SecurityScheme)),
                ("links", Map(Link)),
                ("callbacks", Map(Callback)),
                ("pathItems", Map(PathItem)),
            ],
            PathItem => &[
                ("parameters", List(Parameter)),
                ("get", One(Operation)),
                ("put", One(Operation)),
                ("post", One(Operation)),
                ("delete", One(Operation)),
                ("options", One(Operation)),
                ("head", One(Operation)),
                ("patch", One(Operation)),
                ("trace", One(Operation)),
            ],
            Operation => &[
                ("parameters", List(Parameter)),
                ("requestBody", One(RequestBody)),
                ("responses", Map(Response)),
                ("callbacks", Map(Callback)),
            ],
            Parameter | Header => &[("schema", One(Schema)), ("examples", Map(Example)), ("content", Map(MediaType))],
            RequestBody => &[("content", Map(MediaType))],
            MediaType => &[("schema", One(Schema)), ("examples", Map(Example)), ("encoding", Map(Encoding))],
            Encoding => &[("headers", Map(Header))],
            Response => &[("headers", Map(Header)), ("content", Map(MediaType)), ("links", Map(Link))],
            Schema => &[
                ("properties", Map(Schema)),
                ("patternProperties", Map(Schema)),
                ("$defs", Map(Schema)),
                ("definitions", Map(Schema)),
                ("dependentSchemas", Map(Schema)),
                ("allOf", List(Schema)),
                ("anyOf", List(Schema)),
                ("oneOf", List(Schema)),
                ("prefixItems", List(Schema)),
                ("not", One(Schema)),
                ("if", One(Schema)),
                ("then", One(Schema)),
                ("else", One(Schema)),
                ("contains", One(Schema)),
                ("propertyNames", One(Schema)),
                ("additionalProperties", One(Schema)),
                ("items", One(Schema)),
                ("unevaluatedItems", One(Schema)),
                ("unevaluatedProperties", One(Schema)),
                ("contentSchema", One(Schema)),
            ],
            // Its members are paths of somebody else.
            Callback | Example | Link | SecurityScheme | Tag => &[],
        }
    }
}

/// Shows a value and all that it holds, each with what it is and its pointer; whoever holds is shown before what is held.
pub(super) fn walk(value: &mut Value, kind: Kind, pointer: &str, see: &mut dyn FnMut(Kind, &mut Value, &str)) {
    see(kind, value, pointer);
    let Some(members) = value.as_object_mut() else { return };
    if members.contains_key("$ref") && kind != Kind::Schema && kind != Kind::PathItem {
        return;
    }
    if kind == Kind::Callback {
        for (name, item) in members.iter_mut().filter(|(name, _)| !name.starts_with("x-")) {
            walk(item, Kind::PathItem, &format!("{pointer}/{}", token(name)), see);
        }
    }
    let holder = kind;
    for (member, shape) in holder.members() {
        let Some(held) = members.get_mut(*member) else { continue };
        let place = format!("{pointer}/{member}");
        match (shape, held) {
            (Shape::One(kind), held) => walk(held, *kind, &place, see),
            (Shape::List(kind), Value::Array(items)) => {
                for (at, item) in items.iter_mut().enumerate() {
                    walk(item, *kind, &format!("{place}/{at}"), see);
                }
            }
            (Shape::Map(kind), Value::Object(named)) => {
                // Elsewhere such a name is one like any other.
                let is_extension = |name: &str| match *member {
                    "paths" => !name.starts_with('/'),
                    "responses" => holder == Kind::Operation && name.starts_with("x-"),
                    _ => false,
                };
                for (name, item) in named.iter_mut().filter(|(name, _)| !is_extension(name)) {
                    walk(item, *kind, &format!("{place}/{}", token(name)), see);
                }
            }
            // Not as the specification has it, which whoever checks the shape says.
            (Shape::List(_) | Shape::Map(_), _) => {}
        }
    }
}
