//! A document under its pillar: paths below the public prefix, and every name of its own made that of the pillar.
//!
//! Names are always changed, also where nothing clashes: what a client generates from one does not change because another pillar
//! came. `$ref`, mappings and links follow.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::token;
use super::walk::{Kind, METHODS, walk};
use crate::path::LONGEST;

/// Where clients find a path that the service itself has; none where they do not.
type Public<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// What a document comes to under its pillar.
#[derive(Debug)]
pub struct Placed {
    /// The paths, as clients ask for them.
    pub paths: Vec<Moved>,
    /// The components, by section and name.
    pub components: Map<String, Value>,
    /// What is said of tags.
    pub tags: Vec<Value>,
}

/// One path.
#[derive(Debug)]
pub struct Moved {
    /// As clients ask for it; none where it does not lie below the pillar.
    pub public: Option<String>,
    /// As the document has it.
    pub written: String,
    /// Its operations.
    pub item: Value,
}

impl Moved {
    /// The methods of its operations, in lower case.
    pub fn methods(&self) -> impl Iterator<Item = &'static str> + use<> {
        let has = METHODS.map(|method| self.item.get(method).map(|_| method));
        has.into_iter().flatten()
    }
}

/// All of a document under a pillar; `public` says where a path lies that the service itself has.
pub(super) fn placed(document: &Value, pillar: &str, public: &Public<'_>) -> Placed {
    let base = base(document);
    let public = move |path: &str| public(&format!("{base}{path}"));
    let mut moved = json!({
        "paths": document.get("paths").cloned().unwrap_or_else(|| json!({})),
        "components": document.get("components").cloned().unwrap_or_else(|| json!({})),
        "tags": document.get("tags").cloned().unwrap_or_else(|| json!([])),
    });
    // By schemes of its own nobody is let in: the gateway's key is.
    moved["components"].as_object_mut().map(|sections| sections.remove("securitySchemes"));
    let children = children(document);
    walk(&mut moved, Kind::Document, "", &mut |kind, value, pointer| {
        follow(document, pillar, &public, &children, (kind, value, pointer));
    });
    let mut components = Map::new();
    for (section, named) in moved["components"].take().as_object_mut().into_iter().flatten() {
        let Value::Object(named) = named.take() else { continue };
        let renamed: Map<String, Value> =
            named.into_iter().map(|(name, value)| (format!("{pillar}.{name}"), value)).collect();
        if !section.starts_with("x-") && !renamed.is_empty() {
            components.insert(section.clone(), renamed.into());
        }
    }
    let Value::Object(paths) = moved["paths"].take() else { return Placed::none() };
    let paths = paths.into_iter().filter(|(path, _)| path.starts_with('/'));
    let paths = paths.map(|(written, item)| Moved { public: public(&written), written, item }).collect();
    let Value::Array(tags) = moved["tags"].take() else { return Placed::none() };
    Placed { paths, components, tags }
}

impl Placed {
    fn none() -> Self {
        Self { paths: Vec::new(), components: Map::new(), tags: Vec::new() }
    }
}

type Children = BTreeMap<String, Vec<String>>;

fn follow(
    document: &Value,
    pillar: &str,
    public: &Public<'_>,
    children: &Children,
    (kind, value, pointer): (Kind, &mut Value, &str),
) {
    if kind == Kind::Schema && value.get("discriminator").is_some_and(Value::is_object) {
        map_all(value, pointer, (pillar, public), children);
    }
    let Some(members) = value.as_object_mut() else { return };
    if let Some(Value::String(target)) = members.get_mut("$ref") {
        *target = moved_reference(target, pillar, public);
    }
    let named = |id: &str| format!("{pillar}.{id}");
    match kind {
        Kind::Operation => {
            if let Some(Value::String(id)) = members.get_mut("operationId") {
                *id = named(id);
            }
            for tag in members.get_mut("tags").and_then(Value::as_array_mut).into_iter().flatten() {
                *tag = tag.as_str().map_or(Value::Null, |tag| named(tag).into());
            }
            members.remove("security");
            members.remove("servers");
            keep_sendable(document, members);
        }
        Kind::PathItem => {
            members.remove("servers");
            keep_sendable(document, members);
        }
        Kind::Tag => {
            if let Some(Value::String(name)) = members.get_mut("name") {
                *name = named(name);
            }
        }
        Kind::Link => {
            if let Some(Value::String(id)) = members.get_mut("operationId") {
                *id = named(id);
            }
            if let Some(Value::String(target)) = members.get_mut("operationRef") {
                *target = moved_reference(target, pillar, public);
            }
            members.remove("server");
        }
        _ => {}
    }
}

/// Leaves parameters out that the service gets from the gateway and from nobody else.
fn keep_sendable(document: &Value, members: &mut Map<String, Value>) {
    let Some(Value::Array(parameters)) = members.get_mut("parameters") else { return };
    parameters.retain(|parameter| {
        // Those that have been moved already are looked up by what they were.
        let target = parameter.get("$ref").and_then(Value::as_str);
        let parameter = target.and_then(|target| resolved(document, target)).unwrap_or(parameter);
        let name = parameter["name"].as_str().unwrap_or_default().to_ascii_lowercase();
        parameter["in"] != "header" || !(name.starts_with("x-portico-") || name == "authorization")
    });
    if parameters.is_empty() {
        members.remove("parameters");
    }
}

/// Writes down what a discriminator means without a word, by names that are changed.
fn map_all(schema: &mut Value, pointer: &str, (pillar, public): (&str, &Public<'_>), children: &Children) {
    let reference = |name: &str| json!(format!("#/components/schemas/{pillar}.{name}"));
    let mut names: Vec<String> = Vec::new();
    for of in ["oneOf", "anyOf"] {
        let listed = schema[of].as_array().into_iter().flatten().filter_map(|item| item["$ref"].as_str());
        names.extend(listed.filter_map(schema_name));
    }
    if let Some(name) = pointer.strip_prefix("/components/schemas/").filter(|name| !name.contains('/')) {
        names.extend(children.get(name).into_iter().flatten().cloned());
    }
    let Some(Value::Object(discriminator)) = schema.get_mut("discriminator") else { return };
    let mapping = discriminator.entry("mapping").or_insert_with(|| json!({}));
    let Some(mapping) = mapping.as_object_mut() else { return };
    for target in mapping.values_mut() {
        let Some(text) = target.as_str() else { continue };
        *target = match text.starts_with('#') {
            true => moved_reference(text, pillar, public).into(),
            false => reference(text),
        };
    }
    for name in names {
        mapping.entry(&name).or_insert_with(|| reference(&name));
    }
    if mapping.is_empty() {
        discriminator.remove("mapping");
    }
}

/// The name of the schema that a reference leads to, where it is a component.
fn schema_name(target: &str) -> Option<String> {
    let name = target.strip_prefix("#/components/schemas/")?;
    (!name.contains('/')).then(|| name.to_owned())
}

/// The schemas that say of themselves that they are also another one, by that one.
fn children(document: &Value) -> Children {
    let mut children = Children::new();
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        let parents = schema["allOf"].as_array().into_iter().flatten().filter_map(|item| item["$ref"].as_str());
        for parent in parents.filter_map(schema_name) {
            children.entry(parent).or_default().push(name.clone());
        }
    }
    children
}

/// The path at which the service's own paths begin, as its first server says.
fn base(document: &Value) -> String {
    let server = &document["servers"][0];
    let variable = |name: &str| server["variables"].get(name).and_then(|it| it["default"].as_str()).unwrap_or_default();
    let (mut url, mut rest) = (String::new(), server["url"].as_str().unwrap_or_default());
    // Once over what is written: what comes in for a variable is not looked at for others.
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, next)) = after.split_once('}') else { break };
        url.push_str(before);
        url.push_str(variable(name));
        rest = next;
        if url.len() > LONGEST {
            return String::new();
        }
    }
    url.push_str(rest);
    if url.len() > LONGEST {
        // No request has so long a path.
        return String::new();
    }
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
        None if url.starts_with('/') => &url,
        None => "",
    };
    let path = path.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
    if path.contains(['{', '}']) { String::new() } else { path.to_owned() }
}

/// Where a reference leads after the move.
pub fn moved_reference(target: &str, pillar: &str, public: &Public<'_>) -> String {
    let Some(pointer) = target.strip_prefix('#').map(decoded) else { return target.to_owned() };
    let mut tokens: Vec<String> = pointer.split('/').map(str::to_owned).collect();
    match tokens.get(1).map(String::as_str) {
        Some("components") if tokens.len() > 3 => tokens[3] = format!("{pillar}.{}", tokens[3]),
        Some("paths") if tokens.len() > 2 => {
            let path = tokens[2].replace("~1", "/").replace("~0", "~");
            if let Some(public) = public(&path) {
                tokens[2] = token(&public);
            }
        }
        _ => {}
    }
    format!("#{}", encoded(&tokens.join("/")))
}

/// What a reference leads to in a document; none where that is not there, or somewhere else.
pub fn resolved<'a>(document: &'a Value, target: &str) -> Option<&'a Value> {
    let pointer = decoded(target.strip_prefix('#')?);
    if pointer.is_empty() { Some(document) } else { document.pointer(&pointer) }
}

/// A fragment without percent signs (RFC 3986, section 2.1).
fn decoded(fragment: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(fragment.len()), fragment.as_bytes());
    while let [first, after @ ..] = rest {
        let pair = after.get(..2).filter(|_| *first == b'%').and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| fragment.to_owned())
}

/// A fragment in which only what a URI may hold stands as it is (RFC 3986, section 3.5).
fn encoded(pointer: &str) -> String {
    let mut fragment = String::with_capacity(pointer.len());
    for byte in pointer.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?".contains(&byte) {
            true => fragment.push(char::from(byte)),
            false => fragment.push_str(&format!("%{byte:02X}")),
        }
    }
    fragment
}
