//! The documents of pillars, put into the gateway's own: what of them it serves, with what it adds to each operation.
//!
//! A pillar whose document cannot be taken in as a whole is left out, and told; nobody else's is touched by that.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use http::Method;
use serde_json::{Value, json};

use super::{LARGEST_ANSWER, problem};
use crate::api::public::errors::{self, Told};
use crate::config::{Config, Pillar, Rule};
use crate::openapi::{Document, Moved, Placed, dangling, resolved};
use crate::path::normalised;
use crate::route::Table;
use crate::snapshot::{Documents, Snapshot, Target};

/// What the document is made of.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The documents of pillars.
    pub documents: &'a Documents,
    /// Where each path goes.
    pub routes: &'a Table<Target>,
}

impl<'a> From<&'a Snapshot> for Parts<'a> {
    fn from(snapshot: &'a Snapshot) -> Self {
        Self { config: &snapshot.config, documents: &snapshot.documents, routes: &snapshot.routes }
    }
}

/// Adds the documents of pillars, save for those with these numbers; what of them is left out, as sentences.
pub(super) fn add(whole: &mut Value, parts: Parts<'_>, without: &BTreeSet<usize>) -> Vec<String> {
    let mut left_out = Vec::new();
    let pillars = parts.config.pillars.values().enumerate();
    let documents =
        pillars.filter_map(|(position, pillar)| Some((position, pillar, parts.documents.get(&pillar.name)?)));
    for (number, (position, pillar, document)) in documents.enumerate() {
        let tell = |sentence: String| format!("pillars.{}.openapi: {sentence}", pillar.name);
        if without.contains(&number) {
            left_out.push(tell("it is left out; with it, the whole document would be larger than 16 MiB".to_owned()));
            continue;
        }
        let position = u16::try_from(position).unwrap_or(u16::MAX);
        let taken = || Taken { parts, pillar, position, sentences: Vec::new() }.take(whole, document);
        // Whatever a service says of itself holds up nobody else.
        let taken = catch_unwind(AssertUnwindSafe(taken));
        let defect =
            |_| vec!["it is left out: the gateway cannot take it in, which is a defect of the gateway".to_owned()];
        left_out.extend(taken.unwrap_or_else(defect).into_iter().map(tell));
    }
    left_out
}

struct Taken<'a> {
    parts: Parts<'a>,
    pillar: &'a Pillar,
    position: u16,
    sentences: Vec<String>,
}

impl Taken<'_> {
    fn take(mut self, whole: &mut Value, document: &Document) -> Vec<String> {
        let Placed { paths, components, tags } = document.placed(&self.pillar.name, |path| self.public(path));
        let mut items: BTreeMap<String, Value> = BTreeMap::new();
        let mut uses = Uses::default();
        let mut own = json!({"components": components});
        for moved in paths {
            if let Some((public, item)) = self.served(moved, &own, &mut uses) {
                items.insert(public, item);
            }
        }
        own["paths"] = json!(items);
        for (status, response) in self.refusals(&uses) {
            own["components"]["responses"][name_of(status, &self.pillar.name)] = response;
        }
        // It shows what all refusals look like.
        own["components"]["schemas"]["Problem"] = json!({});
        if let Some(target) = dangling(&mut own) {
            self.sentences
                .push(format!("it is left out: it refers to {target}, and nobody gets there through the gateway"));
            return self.sentences;
        }
        own["components"]["schemas"].as_object_mut().map(|schemas| schemas.remove("Problem"));
        self.join(whole, own, tags, document);
        self.sentences
    }

    /// Where clients find a path that the service itself has.
    fn public(&self, path: &str) -> Option<String> {
        let Pillar { prefix, strip_prefix, .. } = self.pillar;
        if *strip_prefix {
            // The bare prefix is the service's root.
            return Some(if path == "/" { prefix.clone() } else { format!("{prefix}{path}") });
        }
        let below = path.strip_prefix(prefix.as_str())?;
        (below.is_empty() || below.starts_with('/')).then(|| path.to_owned())
    }

    /// The operations of a path that this pillar gets through the gateway, finished.
    fn served(&mut self, moved: Moved, components: &Value, uses: &mut Uses) -> Option<(String, Value)> {
        let methods: Vec<&str> = moved.methods().collect();
        let Moved { public, written, mut item } = moved;
        let Some(public) = public else {
            let sentence = format!("{written} is left out: it does not lie at {}", self.pillar.prefix);
            self.sentences.push(sentence);
            return None;
        };
        let mut kept = 0;
        for method in methods {
            match self.rule(&public, method) {
                Ok(rule) => {
                    self.finish(&mut item[method], rule, components, uses);
                    kept += 1;
                }
                Err(why) => {
                    let method_name = method.to_ascii_uppercase();
                    self.sentences.push(format!("{method_name} {public} is left out: {why}"));
                    item.as_object_mut().map(|item| item.remove(method));
                }
            }
        }
        (kept > 0).then_some((public, item))
    }

    /// By which rule requests for an operation come to this pillar; or why they do not.
    fn rule(&self, public: &str, method: &str) -> Result<&Rule, String> {
        let path = filled(public);
        match normalised(&path) {
            Ok(same) if same == path => {}
            Ok(_) => return Err("the gateway writes this path in another way".to_owned()),
            Err(error) => return Err(format!("the gateway refuses such requests, since {error}")),
        }
        let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).map_err(|error| error.to_string())?;
        let found = self.parts.routes.find(&path, &method).map(|found| found.payload);
        match found {
            Some(target) if target.pillar == self.position => {
                self.pillar.rules.get(usize::from(target.rule)).ok_or_else(|| "no rule serves it".to_owned())
            }
            Some(target) => Err(match self.parts.config.pillars.values().nth(usize::from(target.pillar)) {
                Some(other) => format!("the pillar `{}` answers there", other.name),
                None => "the gateway itself answers there".to_owned(),
            }),
            None => Err("no rule serves it".to_owned()),
        }
    }

    /// Says of an operation what the gateway asks for, and what it answers itself.
    fn finish(&self, operation: &mut Value, rule: &Rule, components: &Value, uses: &mut Uses) {
        operation["security"] = if rule.auth { json!([{"key": []}]) } else { json!([]) };
        if rule.auth {
            let said = operation["description"].as_str().map(str::trim_end).filter(|said| !said.is_empty());
            let needs = format!("Needs a key with the scope `{}`.", self.pillar.scope);
            operation["description"] = said.map_or(needs.clone(), |said| format!("{said}\n\n{needs}")).into();
        }
        if operation["tags"].as_array().is_none_or(Vec::is_empty) {
            operation["tags"] = json!([self.pillar.name]);
        }
        if !operation["responses"].is_object() {
            operation["responses"] = json!({});
        }
        let Some(responses) = operation["responses"].as_object_mut() else { return };
        let answers = responses.iter_mut().filter(|(status, _)| !status.starts_with("x-"));
        let inline = answers.map(|(_, response)| response).filter(|it| it.is_object() && it.get("$ref").is_none());
        for response in inline {
            let known =
                response["headers"].as_object().into_iter().flatten().map(|(name, _)| name.to_ascii_lowercase());
            let known: BTreeSet<String> = known.collect();
            for (name, field) in problem::fields(Value::Null).into_iter().filter(|(name, _)| !known.contains(name)) {
                response["headers"][name] = field;
            }
        }
        for (status, ours) in by_status(&errors::of_pillar(self.pillar, rule.auth)) {
            let shared = json!({"$ref": format!("#/components/responses/{}", name_of(status, &self.pillar.name))});
            let Some(theirs) = responses.get_mut(&status.to_string()) else {
                uses.statuses.insert(status);
                responses.insert(status.to_string(), shared);
                continue;
            };
            if let Some(target) = theirs.get("$ref").and_then(Value::as_str) {
                let found = resolved(components, target).filter(|found| is_response(found));
                let found = found.filter(|found| uses.may_copy(found)).cloned();
                *theirs = found.unwrap_or_else(|| json!({"description": "As the service says, or the gateway."}));
            }
            either(theirs, ours);
        }
    }

    /// The gateway's own refusals, for operations that have no word of their own on them.
    fn refusals(&self, uses: &Uses) -> Vec<(u16, Value)> {
        let all = by_status(&errors::of_pillar(self.pillar, true));
        all.into_iter().filter(|(status, _)| uses.statuses.contains(status)).collect()
    }

    fn join(&self, whole: &mut Value, own: Value, tags: Vec<Value>, document: &Document) {
        let ids: BTreeSet<String> = all_ids(whole);
        let Value::Object(mut own) = own else { return };
        if let Some(Value::Object(items)) = own.remove("paths") {
            for (path, mut item) in items {
                for operation in item.as_object_mut().into_iter().flatten().map(|(_, operation)| operation) {
                    // A pillar may have the name of a part of the gateway's own API.
                    if let Some(id) = operation["operationId"].as_str().filter(|id| ids.contains(*id)) {
                        operation["operationId"] = format!("{id}_").into();
                    }
                }
                whole["paths"][path] = item;
            }
        }
        if let Some(Value::Object(sections)) = own.remove("components") {
            for (section, named) in sections {
                for (name, component) in named.as_object().into_iter().flatten() {
                    whole["components"][&section][name] = component.clone();
                }
            }
        }
        let about = json!({"name": self.pillar.name, "description": document.about()});
        let Some(all) = whole["tags"].as_array_mut() else { return };
        let name = |tag: &Value| tag["name"].as_str().unwrap_or_default().to_owned();
        let mut known: BTreeSet<String> = all.iter().map(name).collect();
        all.extend(std::iter::once(about).chain(tags).filter(|tag| known.insert(name(tag))));
    }
}

/// What of the gateway's own is used by operations of a pillar.
#[derive(Default)]
struct Uses {
    statuses: BTreeSet<u16>,
    /// Bytes of shared responses that were copied into operations.
    copied: usize,
}

impl Uses {
    /// Whether there is room for one more copy of this: a large one that all operations share would fill the memory.
    fn may_copy(&mut self, response: &Value) -> bool {
        if self.copied <= LARGEST_ANSWER {
            self.copied = self.copied.saturating_add(response.to_string().len());
        }
        self.copied <= LARGEST_ANSWER
    }
}

/// Whether it can be made to say what the gateway answers: a reference may lead to anything.
fn is_response(found: &Value) -> bool {
    let has = |member: &str| found.get(member).is_none_or(Value::is_object);
    found.is_object() && found.get("$ref").is_none() && has("headers") && has("content")
}

/// The name of a shared response. No component of a pillar begins so: pillars are written in lower case.
fn name_of(status: u16, pillar: &str) -> String {
    format!("Gateway{status}.{pillar}")
}

/// A path with something in the place of each parameter.
fn filled(template: &str) -> String {
    let mut path = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        path.push_str(before);
        path.push('x');
        rest = after.split_once('}').map_or("", |(_, next)| next);
    }
    path + rest
}

fn by_status(told: &[Told]) -> BTreeMap<u16, Value> {
    let mut by_status = BTreeMap::new();
    for told in told {
        let response = by_status.entry(told.status).or_insert_with(|| problem::response(told.status));
        problem::add(response, told.code.clone(), told.document.clone());
    }
    by_status
}

/// A response of the service that may as well be one of the gateway.
fn either(theirs: &mut Value, mut ours: Value) {
    const KIND: &str = "application/problem+json";
    for (name, field) in ours["headers"].as_object().into_iter().flatten() {
        let known =
            theirs["headers"].as_object().into_iter().flatten().any(|(known, _)| known.eq_ignore_ascii_case(name));
        if !known {
            let mut field = field.clone();
            // Only the gateway sends it.
            field["required"] = json!(name == "x-request-id");
            theirs["headers"][name] = field;
        }
    }
    let ours = ours["content"][KIND].take();
    let known = theirs["content"].as_object_mut().and_then(|content| content.remove(KIND));
    let Some(known) = known else {
        theirs["content"][KIND] = ours;
        return;
    };
    let mut both = json!({"schema": ours["schema"], "examples": ours["examples"]});
    if let Some(schema) = known.get("schema") {
        both["schema"] = json!({"anyOf": [schema, ours["schema"]]});
    } else {
        both["schema"] = json!({});
    }
    if let Some(example) = known.get("example") {
        both["examples"]["service"] = json!({"summary": "Of the service", "value": example});
    }
    for (name, example) in known["examples"].as_object().into_iter().flatten() {
        both["examples"][format!("service.{name}")] = example.clone();
    }
    theirs["content"][KIND] = both;
}

fn all_ids(whole: &Value) -> BTreeSet<String> {
    let items = whole["paths"].as_object().into_iter().flatten().filter_map(|(_, item)| item.as_object());
    let operations = items.flatten().map(|(_, operation)| operation);
    operations.filter_map(|operation| operation["operationId"].as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests;
