//! A configuration key by key, as it is in force: what is written, and the defaults of what is not.
//!
//! For people and programs that look at it. Secrets of the gateway itself are references anyway; what looks like one in a
//! policy's own configuration is replaced before it leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Number, Value};
use toml::de::{DeTable, DeValue};

use super::Source;
use super::problem::{Missing, Place, Report};
use super::resolve::checked;

/// What stands in the place of a value that is not shown.
pub const HIDDEN: &str = "[redacted]";
/// What the names of a policy's own keys contain whose values are not shown.
const NAMES: [&str; 10] =
    ["key", "token", "secret", "pass", "pwd", "credential", "auth", "private", "cookie", "signature"];
/// What secrets of some kinds begin with.
const MARKS: [&str; 4] = ["sk_live_", "sk_sandbox_", "whsec_", "-----begin"];
/// Words of this length with digits and letters of both cases are taken for secrets.
const LONG: usize = 32;

/// A configuration, as it is in force.
#[derive(Debug)]
pub struct Described {
    root: Value,
    defaults: BTreeSet<String>,
}

/// One key that differs between two configurations. A value that is not shown is [`HIDDEN`] on both sides.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The key path.
    pub key: String,
    /// What it was; none where it was not there.
    pub old: Option<Value>,
    /// What it is; none where it is not there any more.
    pub new: Option<Value>,
}

impl Described {
    /// The configuration in a text that was found to make sense; none where it does not.
    pub fn of(source: &Source, path: &Path) -> Option<Self> {
        let text = source.text();
        let report = Report::noting_defaults(text);
        checked(&report, text, path)?;
        let mut root = Value::Object(table(DeTable::parse(text).ok()?.get_ref()));
        let mut defaults = BTreeSet::new();
        for Missing { key, default } in report.missing() {
            if insert(&mut root, &key, default).is_some() {
                defaults.insert(key);
            }
        }
        let mut described = Self { root, defaults };
        described.settle();
        Some(described)
    }

    /// What is in force under a key path, the whole for an empty one; without secrets.
    pub fn shown(&self, under: &str) -> Option<Value> {
        let mut root = self.root.clone();
        hide(&mut root);
        let mut at = &root;
        for step in steps(under)? {
            at = match step {
                Step::Key(key) => at.get(key)?,
                Step::Item(index) => at.get(index)?,
            };
        }
        Some(at.clone())
    }

    /// The key paths at or under this one that have their default.
    pub fn defaults<'a>(&'a self, under: &'a str) -> impl Iterator<Item = &'a str> {
        let within = move |key: &&str| {
            let rest = key.strip_prefix(under);
            under.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.defaults.iter().map(String::as_str).filter(within)
    }

    /// In what another one differs, by key path.
    pub fn changes(&self, new: &Self) -> Vec<Change> {
        let hidden = |root: &Value| {
            let mut root = root.clone();
            hide(&mut root);
            root
        };
        let (shown_old, shown_new) = (hidden(&self.root), hidden(&new.root));
        let (old_is, new_is) = (leaves(&self.root), leaves(&new.root));
        let (old_shown, new_shown) = (leaves(&shown_old), leaves(&shown_new));
        let differing = old_is.keys().chain(new_is.keys()).filter(|key| old_is.get(*key) != new_is.get(*key));
        // What is below a key that is not shown has no name, either.
        let told = |key: &String| {
            let hidden = |among: &BTreeMap<String, &Value>, key: &str| among.get(key).is_some_and(|it| **it == HIDDEN);
            let mut above = key.match_indices(['.', '[']).map(|(end, _)| &key[..end]);
            above.find(|key| hidden(&old_shown, key) || hidden(&new_shown, key)).unwrap_or(key).to_owned()
        };
        let keys: BTreeSet<String> = differing.map(told).collect();
        let shown = |among: &BTreeMap<String, &Value>, key: &str| among.get(key).map(|value| (*value).clone());
        let change = |key: String| Change { old: shown(&old_shown, &key), new: shown(&new_shown, &key), key };
        keys.into_iter().map(change).collect()
    }

    /// Defaults that depend on what is written elsewhere, and not on their own key.
    fn settle(&mut self) {
        let chain = self.root.pointer("/defaults/chain").cloned().unwrap_or_else(|| Value::Array(Vec::new()));
        let Some(root) = self.root.as_object_mut() else { return };
        for (name, pillar) in members(root.get_mut("pillars")) {
            if self.defaults.contains(&format!("pillars.{name}.chain")) {
                pillar["chain"] = chain.clone();
            }
        }
        if self.defaults.contains("api.chain")
            && let Some(api) = root.get_mut("api")
        {
            api["chain"] = chain;
        }
        for (name, policy) in members(root.get_mut("policies")) {
            // It has no meaning there.
            let recycle = format!("policies.{name}.recycle_after");
            if policy["instance"] == "fresh" && self.defaults.remove(&recycle) {
                policy.as_object_mut().map(|policy| policy.remove("recycle_after"));
            }
            let requests = policy.pointer_mut("/grant/outbound").and_then(Value::as_array_mut);
            for request in requests.into_iter().flatten() {
                if request["methods"].as_array().is_some_and(Vec::is_empty) {
                    request["methods"] = Value::from(["GET"].as_slice());
                }
            }
        }
        let key = root.get_mut("secrets").and_then(|secrets| secrets.get_mut("master_key"));
        if let Some(key) = key.and_then(Value::as_object_mut).filter(|key| key.contains_key("env")) {
            key.remove("file");
            self.defaults.remove("secrets.master_key.file");
        }
    }
}

fn members(value: Option<&mut Value>) -> impl Iterator<Item = (&String, &mut Value)> {
    value.and_then(Value::as_object_mut).into_iter().flatten()
}

fn table(entries: &DeTable<'_>) -> Map<String, Value> {
    entries.iter().map(|(key, node)| (key.get_ref().to_string(), json(node.get_ref()))).collect()
}

fn json(node: &DeValue<'_>) -> Value {
    match node {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Integer(integer) => {
            let (digits, radix) = (integer.as_str(), integer.radix());
            let number = i64::from_str_radix(digits, radix).map(Number::from);
            let number = number.or_else(|_| u64::from_str_radix(digits, radix).map(Number::from));
            number.map_or_else(|_| Value::String(integer.to_string()), Value::Number)
        }
        DeValue::Float(float) => match float.as_str().parse().ok().and_then(Number::from_f64) {
            Some(number) => Value::Number(number),
            None => Value::String(float.as_str().to_owned()),
        },
        DeValue::Array(items) => items.iter().map(|item| json(item.get_ref())).collect(),
        DeValue::Table(entries) => Value::Object(table(entries)),
    }
}

/// One step of a key path.
enum Step<'a> {
    Key(&'a str),
    Item(usize),
}

/// The steps of a key path; none where it is not one. Keys in quotes are a policy's own, and no default is among them.
fn steps(path: &str) -> Option<Vec<Step<'_>>> {
    let mut steps = Vec::new();
    for part in path.split('.').filter(|_| !path.is_empty()) {
        let (key, items) = part.split_at(part.find('[').unwrap_or(part.len()));
        if key.is_empty() {
            return None;
        }
        steps.push(Step::Key(key));
        for item in items.split_terminator(']') {
            steps.push(Step::Item(item.strip_prefix('[')?.parse().ok()?));
        }
    }
    Some(steps)
}

/// Puts a default into its place; none where that is no place.
fn insert(root: &mut Value, path: &str, default: Value) -> Option<()> {
    let mut steps = steps(path)?;
    let Some(Step::Key(last)) = steps.pop() else { return None };
    let mut at = root;
    for step in steps {
        at = match step {
            Step::Key(key) => at.as_object_mut()?.entry(key).or_insert_with(|| Value::Object(Map::new())),
            Step::Item(index) => at.get_mut(index)?,
        };
    }
    at.as_object_mut()?.entry(last).or_insert(default);
    Some(())
}

/// Every value by its key path; a list of single values is one.
fn leaves(root: &Value) -> BTreeMap<String, &Value> {
    let mut found = BTreeMap::new();
    let mut open = vec![(Place::of_file(0), root)];
    while let Some((place, value)) = open.pop() {
        match value {
            Value::Object(members) if !members.is_empty() => {
                open.extend(members.iter().map(|(key, value)| (place.key(key, 0), value)));
            }
            Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
                open.extend(items.iter().enumerate().map(|(index, value)| (place.item(index, 0), value)));
            }
            value => drop(found.insert(place.path, value)),
        }
    }
    found
}

/// Replaces what looks like a secret in the configuration of policies.
fn hide(root: &mut Value) {
    let Some(root) = root.as_object_mut() else { return };
    for (_, policy) in members(root.get_mut("policies")) {
        policy.get_mut("config").into_iter().for_each(|own| conceal(own, false));
    }
    // By policy: a policy's name says nothing of the values.
    let overlays = |table: &mut Value| members(table.get_mut("config")).for_each(|(_, own)| conceal(own, false));
    root.get_mut("api").into_iter().for_each(overlays);
    for (_, pillar) in members(root.get_mut("pillars")) {
        overlays(pillar);
        let routes = pillar.get_mut("routes").and_then(Value::as_array_mut);
        routes.into_iter().flatten().for_each(overlays);
    }
}

fn conceal(value: &mut Value, under_secret: bool) {
    match value {
        // As a whole: the names below may be secrets themselves.
        Value::Object(_) | Value::Array(_) | Value::Number(_) if under_secret => *value = HIDDEN.into(),
        Value::Object(members) => {
            members.iter_mut().for_each(|(name, value)| conceal(value, is_secret_name(name)));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| conceal(item, false)),
        Value::String(text) if under_secret || is_secret(text) => *value = HIDDEN.into(),
        Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => {}
    }
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    NAMES.iter().any(|part| name.contains(part))
}

fn is_secret(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let has_password = lower
        .split_once("://")
        .is_some_and(|(_, rest)| rest.split('/').next().is_some_and(|authority| authority.contains('@')));
    let mixed = |word: &str| {
        let has = |kind: fn(&u8) -> bool| word.as_bytes().iter().any(kind);
        word.len() >= LONG && has(u8::is_ascii_digit) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase)
    };
    let inner = |c: char| c.is_ascii_alphanumeric() || "_-+/=".contains(c);
    has_password || MARKS.iter().any(|mark| lower.contains(mark)) || text.split(|c| !inner(c)).any(mixed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TEXT: &str = r#"
[defaults]
chain = ["a"]
[secrets]
master_key = { env = "MASTER" }
[policies.a]
config = { api_token = "hunter2", word = "plain", deep = { password = { old = 17 } }, url = "https://me:hunter2@x/" }
[policies.b]
instance = "pooled"
[upstreams.u]
endpoints = ["http://127.0.0.1:1"]
[pillars.p]
upstream = "u"
config.a = { word = "other", list = [{ n = 1 }, { n = 2 }], hook = "whsec_abc" }
[[pillars.p.routes]]
path = "/x"
"#;

    fn described(text: &str) -> Described {
        Described::of(&Source::of(text), Path::new("x.toml")).expect("it makes sense")
    }

    #[test]
    fn what_is_not_written_has_its_default() {
        let all = described(TEXT);
        let at = |key: &str| all.shown(key).unwrap_or_else(|| panic!("no {key}"));
        assert_eq!(at("gateway.listen"), json!("127.0.0.1:9099"));
        assert_eq!(at("policies.a.fuel"), json!(2_000_000));
        assert_eq!(at("policies.a.grant.maximum_charge"), json!("0"));
        assert_eq!(at("pillars.p.prefix"), json!("/v1/p"));
        assert_eq!(at("pillars.p.assertion"), json!(true));
        assert_eq!(at("pillars.p.chain"), json!(["a"]));
        assert_eq!(at("api.chain"), json!(["a"]));
        assert_eq!(at("pillars.p.routes[0].auth"), json!("required"));
        assert_eq!(at("pillars.p.routes[0].name"), json!("/x"));
        assert_eq!(at("policies.b.recycle_after"), json!(1_000_000));
        assert_eq!(at("secrets"), json!({ "master_key": { "env": "MASTER" } }));
        for none in
            ["policies.a.recycle_after", "policies.a.grant.store", "nothing", "pillars.p.routes[1]", "a..b", "["]
        {
            assert_eq!(all.shown(none), None, "{none}");
        }
        let defaults: Vec<&str> = all.defaults("pillars.p.routes[0]").collect();
        assert_eq!(defaults, ["auth", "methods", "name"].map(|key| format!("pillars.p.routes[0].{key}")));
        assert!(
            all.defaults("").any(|key| key == "gateway.listen") && !all.defaults("").any(|key| key.contains("master"))
        );
    }

    #[test]
    fn an_empty_text_is_all_defaults() {
        let all = described("");
        assert_eq!(all.shown("admin.listen"), Some(json!("127.0.0.1:9100")));
        assert_eq!(all.shown("secrets.master_key.file"), Some(json!(".portico/master.key")));
    }

    #[test]
    fn no_secret_of_a_policy_is_shown() {
        let all = described(TEXT).shown("").expect("the whole");
        let own = json!({ "api_token": HIDDEN, "word": "plain", "deep": { "password": HIDDEN }, "url": HIDDEN });
        assert_eq!(all["policies"]["a"]["config"], own);
        assert_eq!(all["pillars"]["p"]["config"]["a"]["hook"], HIDDEN);
        assert_eq!(all["pillars"]["p"]["config"]["a"]["word"], "other");
        assert!(!all.to_string().contains("hunter2"));
        // The name of a policy hides nothing of it.
        let named =
            described("[policies.key-auth]\n[pillars.p]\nchain = [\"key-auth\"]\nconfig.key-auth.word = \"plain\"");
        assert_eq!(named.shown("pillars.p.config.key-auth.word"), Some(json!("plain")));
    }

    #[test]
    fn changes_are_told_by_key_and_secrets_only_as_changed() {
        let old = described(TEXT);
        assert_eq!(old.changes(&described(&format!("# a comment\n{TEXT}"))), []);
        let text = TEXT
            .replace("{ n = 2 }", "{ n = 3 }")
            .replace("\"hunter2\"", "\"hunter3\"")
            .replace("path = \"/x\"", "path = \"/y\"")
            .replace("upstream = \"u\"", "");
        let new = described(&format!("{text}\n[gateway]\nlisten = \"127.0.0.1:1\"\n"));
        let told: Vec<_> = old.changes(&new).into_iter().map(|change| (change.key, change.old, change.new)).collect();
        let row = |key: &str, old: Value, new: Value| {
            let some = |value: Value| Some(value).filter(|value| !value.is_null());
            (key.to_owned(), some(old), some(new))
        };
        let expected = [
            row("gateway.listen", json!("127.0.0.1:9099"), json!("127.0.0.1:1")),
            row("pillars.p.assertion", json!(true), json!(false)),
            row("pillars.p.config.a.list[1].n", json!(2), json!(3)),
            row("pillars.p.routes[0].name", json!("/x"), json!("/y")),
            row("pillars.p.routes[0].path", json!("/x"), json!("/y")),
            row("pillars.p.upstream", json!("u"), Value::Null),
            row("policies.a.config.api_token", json!(HIDDEN), json!(HIDDEN)),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_below_the_name_of_a_secret_has_no_name_either() {
        let one =
            "[policies.a]\nconfig = { tokens = { hunter2 = \"x\", list = [{ hunter3 = true }] }, word = \"w\" }\n";
        let config = described(one);
        assert_eq!(config.shown("policies.a.config"), Some(json!({ "tokens": HIDDEN, "word": "w" })));
        assert_eq!(config.shown("policies.a.config.tokens.hunter2"), None);
        for other in ["{ hunter4 = \"x\" }", "[{ hunter4 = 1 }]", "\"hunter4\"", "{}"] {
            let tokens = "{ hunter2 = \"x\", list = [{ hunter3 = true }] }";
            let told = config.changes(&described(&one.replace(tokens, other)));
            let hidden = Some(json!(HIDDEN));
            let change = Change { key: "policies.a.config.tokens".into(), old: hidden.clone(), new: hidden };
            assert_eq!(told, [change], "{other}");
        }
    }
}
