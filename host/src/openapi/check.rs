//! What must hold of a document before anything is done with it; each thing that does not, with its JSON pointer.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::place::resolved;
use super::walk::{Kind, walk};
use super::{Fault, LARGEST, TOLD, token};

/// The schema of OpenAPI 3.1 documents, as the OpenAPI Initiative publishes it (2022-10-07, Apache-2.0), where the server of a link is
/// named as the specification has it.
const SCHEMA: &str = include_str!("schema-3.1.json");
/// Dialects of schemas that are understood.
const DIALECTS: [&str; 2] =
    ["https://spec.openapis.org/oas/3.1/dialect/base", "https://json-schema.org/draft/2020-12/schema"];
/// The most bytes of one message.
const LONGEST: usize = 240;
/// Path items that refer to one another.
const CHAIN: usize = 8;

/// Whether it is of a version that is understood.
pub(super) fn version(document: &Value) -> Result<(), Fault> {
    let says = |why: String| Err(Fault::at("", why));
    let Some(members) = document.as_object() else {
        return says("the document is not a JSON object; write OpenAPI 3.1".to_owned());
    };
    if members.contains_key("swagger") {
        return says("this is Swagger 2, which nobody develops any more; convert it to OpenAPI 3.1".to_owned());
    }
    match members.get("openapi").and_then(Value::as_str) {
        Some(version) if version.starts_with("3.1.") || version.starts_with("3.0.") => Ok(()),
        Some(version) => {
            let version: String = version.chars().take(32).collect();
            Err(Fault::at("/openapi", format!("{version:?} is not understood; write OpenAPI 3.1 or 3.0")))
        }
        None => says("the document does not say which OpenAPI it is; it begins with \"openapi\": \"3.1.0\"".to_owned()),
    }
}

/// Whether a name in it is longer than any that is meant: it would stand in the pointers of all that is below it.
pub(super) fn has_long_name(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.iter().any(|(name, value)| name.len() > LONGEST_NAME || has_long_name(value)),
        Value::Array(items) => items.iter().any(has_long_name),
        _ => false,
    }
}

/// Puts path items that are kept elsewhere in the document into the place that refers to them.
pub(super) fn inline_paths(document: &mut Value) -> Result<(), Fault> {
    let Some(paths) = document["paths"].as_object() else { return Ok(()) };
    let (mut inlined, mut shared, mut copied) = (Vec::new(), Vec::new(), 0_usize);
    for (path, item) in paths.iter().filter(|(_, item)| item.get("$ref").is_some()) {
        let pointer = format!("/paths/{}", token(path));
        let (mut whole, mut next) = (item.clone(), item.get("$ref").cloned());
        for _ in 0..CHAIN {
            let Some(target) = next.take() else { break };
            let found = target.as_str().and_then(|target| resolved(document, target));
            let Some(found) = found.and_then(Value::as_object) else {
                return Err(elsewhere(&pointer, &target));
            };
            // Many paths may refer to one large item, or to all of the document.
            copied =
                copied.saturating_add(found.iter().map(|(name, value)| name.len() + value.to_string().len()).sum());
            if copied > LARGEST {
                return Err(Fault::at(
                    pointer,
                    "path items that are referred to come to more than 4 MiB; write each once",
                ));
            }
            shared.extend(target.as_str().and_then(|it| it.strip_prefix("#/components/pathItems/")).map(str::to_owned));
            let members = whole.as_object_mut().expect("it has a member");
            members.remove("$ref");
            for (name, value) in found {
                match name.as_str() {
                    "$ref" => next = Some(value.clone()),
                    // What stands beside the reference goes before.
                    _ => drop(members.entry(name).or_insert_with(|| value.clone())),
                }
            }
        }
        if next.is_some() {
            return Err(Fault::at(pointer, "path items refer to one another without an end"));
        }
        inlined.push((path.clone(), whole));
    }
    for (path, item) in inlined {
        document["paths"][path] = item;
    }
    // Its operations are those of the path now; what is left of it, others may still refer to.
    for name in shared {
        let item = document["components"]["pathItems"].get_mut(&name).and_then(Value::as_object_mut);
        for operation in item.into_iter().flatten().filter_map(|(_, operation)| operation.as_object_mut()) {
            operation.remove("operationId");
        }
    }
    Ok(())
}

/// Holds it against the schema of OpenAPI 3.1.
pub(super) fn shape(document: &Value) -> Vec<Fault> {
    let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("the schema is one");
    let fault = |error: jsonschema::ValidationError<'_>| {
        let mut message = error.to_string();
        if message.len() > LONGEST {
            // It may show all of what it is about.
            let ends = message.char_indices().rev().map(|(at, _)| at);
            let (head, tail) = (floor(&message, LONGEST / 2), ends.take_while(|at| message.len() - at < LONGEST / 2));
            let tail = tail.last().unwrap_or(message.len());
            message = format!("{}…{}", &message[..head], &message[tail..]);
        }
        Fault::at(error.instance_path().to_string(), message)
    };
    validator.iter_errors(document).take(TOLD + 1).map(fault).collect()
}

fn floor(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default()
}

/// The most bytes of a name: no request has a longer path.
const LONGEST_NAME: usize = 8192;
/// Faults that are counted.
const MOST_FAULTS: usize = 1_000;
/// Bytes of pointers that are kept: names may be long, and are in the pointers of all that is below them.
const MOST_PLACES: usize = 64 << 20;

/// What is looked at when all of the document has been seen.
#[derive(Default)]
struct Seen {
    faults: Vec<Fault>,
    /// Bytes of the pointers of all places that were looked at.
    places: usize,
    /// References, and where they stand.
    references: Vec<(String, String)>,
    /// Operations by their id.
    operations: BTreeMap<String, String>,
    /// Links to operations by id.
    links: Vec<(String, String)>,
}

/// Looks at all that a schema does not see: names, references, and what is there twice.
pub(super) fn meaning(document: &mut Value) -> Vec<Fault> {
    let mut seen = Seen::default();
    if let Some(dialect) = document.get("jsonSchemaDialect").filter(|it| !DIALECTS.iter().any(|known| *it == known)) {
        let why = format!("schemas in the dialect {dialect} are not understood; leave it out");
        seen.faults.push(Fault::at("/jsonSchemaDialect", why));
    }
    paths(document, &mut seen.faults);
    let schemas: BTreeSet<String> = match document["components"]["schemas"].as_object() {
        Some(schemas) => schemas.keys().cloned().collect(),
        None => BTreeSet::new(),
    };
    walk(document, Kind::Document, "", &mut |kind, value, pointer| seen.look(kind, value, pointer, &schemas));
    let Seen { mut faults, references, operations, links, places: _ } = seen;
    for (pointer, target) in references {
        if resolved(document, &target).is_none() {
            faults.push(elsewhere(&pointer, &json!(target)));
        }
    }
    for (pointer, id) in links.into_iter().filter(|(_, id)| !operations.contains_key(id)) {
        faults.push(Fault::at(pointer, format!("no operation of the document has the operationId {id:?}")));
    }
    faults
}

/// A reference of a document that leads nowhere within it, where there is one.
pub fn dangling(document: &mut Value) -> Option<String> {
    let mut seen = Seen::default();
    walk(document, Kind::Document, "", &mut |kind, value, pointer| seen.look(kind, value, pointer, &BTreeSet::new()));
    if seen.places > MOST_PLACES {
        return Some("places with too long names".to_owned());
    }
    let target =
        seen.references.into_iter().map(|(_, target)| target).find(|target| resolved(document, target).is_none());
    let linked = || seen.links.into_iter().map(|(_, id)| id).find(|id| !seen.operations.contains_key(id));
    target.or_else(linked)
}

/// A reference that does not lead to a place in the document.
fn elsewhere(pointer: &str, target: &Value) -> Fault {
    let shown: String = target.to_string().chars().take(120).collect();
    let why = match target.as_str() {
        Some(target) if target.starts_with("#/") || target == "#" => "which is not there",
        _ => "which is not in this document; put everything into one, for example by bundling it",
    };
    Fault::at(format!("{pointer}/$ref"), format!("refers to {shown}, {why}"))
}

/// Paths begin with a slash, and no two match the same.
fn paths(document: &Value, faults: &mut Vec<Fault>) {
    let mut templates: BTreeMap<String, &String> = BTreeMap::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten().filter(|(path, _)| !path.starts_with("x-"))
    {
        let pointer = format!("/paths/{}", token(path));
        if !path.starts_with('/') {
            faults.push(Fault::at(&pointer, "a path begins with a slash"));
        } else if path.contains(['?', '#']) {
            faults.push(Fault::at(&pointer, "a path has neither a query nor a fragment"));
        }
        if !item.is_object() {
            faults.push(Fault::at(&pointer, "this must be an object with an operation for each method"));
        }
        let Some(template) = template(path) else {
            faults.push(Fault::at(&pointer, "a parameter has both braces and a name, such as {id}"));
            continue;
        };
        if let Some(other) = templates.insert(template, path) {
            faults.push(Fault::at(&pointer, format!("matches the same requests as {other:?}; keep one of them")));
        }
    }
}

/// The path with all parameters alike; none where the braces do not fit.
fn template(path: &str) -> Option<String> {
    let mut template = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, next) = after.split_once('}')?;
        if name.is_empty() || name.contains(['{', '/']) || before.contains('}') {
            return None;
        }
        template.push_str(before);
        template.push_str("{}");
        rest = next;
    }
    (!rest.contains('}')).then(|| template + rest)
}

impl Seen {
    fn look(&mut self, kind: Kind, value: &Value, pointer: &str, schemas: &BTreeSet<String>) {
        let Some(members) = value.as_object() else { return };
        self.places = self.places.saturating_add(pointer.len());
        if self.places > MOST_PLACES {
            if self.faults.len() <= TOLD {
                self.faults.push(Fault::at(
                    "",
                    "places in the document have too long names; shorten them, or split the service",
                ));
            }
            return;
        }
        self.faults.truncate(MOST_FAULTS);
        if let Some(target) = members.get("$ref") {
            match target.as_str() {
                Some(target) => self.references.push((pointer.to_owned(), target.to_owned())),
                None => self.faults.push(Fault::at(format!("{pointer}/$ref"), "a reference is a text")),
            }
        }
        match kind {
            Kind::Components => self.names(value, pointer),
            Kind::Operation => self.operation(value, pointer),
            Kind::Schema => self.schema(value, pointer, schemas),
            Kind::Link => self.link(value, pointer),
            _ => {}
        }
    }

    fn names(&mut self, components: &Value, pointer: &str) {
        let fits = |name: &str| {
            (1..=256).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        for (section, named) in components.as_object().into_iter().flatten() {
            for name in named.as_object().into_iter().flatten().map(|(name, _)| name).filter(|name| !fits(name)) {
                let why = "a name of a component has letters, digits, `.`, `-` and `_`, 256 at most";
                self.faults.push(Fault::at(format!("{pointer}/{section}/{}", token(name)), why));
            }
        }
    }

    fn operation(&mut self, operation: &Value, pointer: &str) {
        let Some(id) = operation["operationId"].as_str() else { return };
        if let Some(other) = self.operations.insert(id.to_owned(), pointer.to_owned()) {
            let why = format!("the operation at {other} has the operationId {id:?} already");
            self.faults.push(Fault::at(format!("{pointer}/operationId"), why));
        }
    }

    fn schema(&mut self, schema: &Value, pointer: &str, schemas: &BTreeSet<String>) {
        for keyword in ["$id", "$anchor", "$dynamicRef", "$dynamicAnchor"] {
            if schema.get(keyword).is_some() {
                let why = "schemas are referred to by their place in the document, such as #/components/schemas/Room";
                self.faults.push(Fault::at(format!("{pointer}/{keyword}"), why));
            }
        }
        let mapping = schema.get("discriminator").and_then(|it| it.get("mapping")).and_then(Value::as_object);
        for (name, target) in mapping.into_iter().flatten() {
            self.places = self.places.saturating_add(pointer.len() + name.len());
            if self.places > MOST_PLACES {
                break;
            }
            let place = format!("{pointer}/discriminator/mapping/{}", token(name));
            match target.as_str() {
                Some(target) if schemas.contains(target) => {}
                Some(target) if target.starts_with('#') => self.references.push((place, target.to_owned())),
                _ => self
                    .faults
                    .push(Fault::at(place, "this is neither the name of a schema nor a reference to one here")),
            }
        }
    }

    fn link(&mut self, link: &Value, pointer: &str) {
        if let Some(id) = link["operationId"].as_str() {
            self.links.push((format!("{pointer}/operationId"), id.to_owned()));
        }
        match link["operationRef"].as_str() {
            None => {}
            Some(target) if target.starts_with("#/") => self.references.push((pointer.to_owned(), target.to_owned())),
            Some(_) => {
                let why = "this leads out of the document; link to an operation of this service";
                self.faults.push(Fault::at(format!("{pointer}/operationRef"), why));
            }
        }
    }
}
