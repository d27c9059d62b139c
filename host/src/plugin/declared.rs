//! A descriptor, checked: names parsed once, rules of the contract held.
//!
//! Knows nothing of grants. What stands here is what the policy wants and could at all be given.

use super::contract::{BodyMode, Descriptor, Facts, Powers};
use http::HeaderName;

/// Positions that a list of fields may have.
const FIELDS: usize = 64;
const COUNTERS: usize = 16;
/// Bytes of a body that a policy can have held.
const MOST_BUFFERED: u32 = 16 << 20;

/// What a policy is, sees and may touch.
#[derive(Debug, Clone, Default)]
pub struct Declared {
    /// Its own name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// One sentence on it.
    pub summary: String,
    /// The facts that it subscribes to.
    pub facts: Facts,
    /// The powers that it needs.
    pub powers: Powers,
    /// Request fields that it sees.
    pub reads: Fields,
    /// Response fields that it sees.
    pub response_reads: Fields,
    /// Request fields that it may write, by position.
    pub request_writes: Vec<HeaderName>,
    /// Response fields that it may write, by position.
    pub response_writes: Vec<HeaderName>,
    /// How it follows request bodies; `None` where it does not.
    pub request_body: Option<BodyMode>,
    /// How it follows response bodies.
    pub response_body: Option<BodyMode>,
    /// Counters, by position.
    pub counters: Vec<String>,
    /// JSON Schema of one slot's configuration.
    pub schema: Option<serde_json::Value>,
}

/// Fields that are read.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    /// By position.
    pub named: Vec<HeaderName>,
    /// All others too.
    pub others: bool,
}

impl Fields {
    /// Whether nothing is read.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty() && !self.others
    }
}

/// Fields that carry credentials: read only under a grant of their own, and never among the others of `*`.
pub fn is_sensitive(name: &HeaderName) -> bool {
    matches!(name.as_str(), "authorization" | "proxy-authorization" | "cookie" | "set-cookie")
}

/// Fields that the gateway alone writes: they frame the message, name its host, say where it came
/// from, carry the gateway's own word, or a trace: whoever changed its ids would tear it.
pub fn is_reserved(name: &HeaderName) -> bool {
    const RESERVED: [&str; 18] = [
        "connection",
        "content-length",
        "date",
        "expect",
        "forwarded",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-real-ip",
        "x-request-id",
    ];
    RESERVED.contains(&name.as_str())
        || name.as_str().starts_with("x-portico-")
        || name.as_str().starts_with("x-forwarded-")
}

impl Declared {
    /// Checks a descriptor; all problems at once, each a sentence.
    pub(super) fn check(descriptor: &Descriptor) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        if !is_name(&descriptor.name) {
            problems.push(format!("its name {:?} is not 1 to 64 of a-z, 0-9 and hyphens", shortened(&descriptor.name)));
        }
        if descriptor.version.is_empty() || descriptor.version.len() > 64 {
            problems.push("its version is empty or longer than 64 bytes".into());
        }
        if descriptor.summary.len() > 1024 {
            problems.push("its summary is longer than 1,024 bytes".into());
        }
        // Both are shown to people, on terminals and in logs.
        for (what, text) in [("version", &descriptor.version), ("summary", &descriptor.summary)] {
            if text.chars().any(char::is_control) {
                problems.push(format!("its {what} has control characters"));
            }
        }
        let reads = fields("reads", &descriptor.reads, true, &mut problems);
        let response_reads = fields("response-reads", &descriptor.response_reads, true, &mut problems);
        let request_writes = written("request-writes", &descriptor.request_writes, &mut problems);
        let response_writes = written("response-writes", &descriptor.response_writes, &mut problems);
        if descriptor.counters.len() > COUNTERS {
            problems.push(format!("it declares {} counters; {COUNTERS} are possible", descriptor.counters.len()));
        }
        for counter in descriptor.counters.iter().take(COUNTERS).filter(|name| !is_snake(name)) {
            problems.push(format!("its counter {:?} is not 1 to 64 of a-z, 0-9 and _", shortened(counter)));
        }
        for (direction, mode) in [("request", descriptor.request_body), ("response", descriptor.response_body)] {
            if let BodyMode::Buffered(most) = mode
                && !(1..=MOST_BUFFERED).contains(&most)
            {
                problems.push(format!(
                    "it buffers up to {most} bytes of the {direction} body; 1 to {MOST_BUFFERED} are possible"
                ));
            }
        }
        let schema = schema(&descriptor.config_schema, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            name: descriptor.name.clone(),
            version: descriptor.version.clone(),
            summary: descriptor.summary.clone(),
            facts: descriptor.facts,
            powers: descriptor.powers,
            reads,
            response_reads,
            request_writes,
            response_writes,
            request_body: mode(descriptor.request_body),
            response_body: mode(descriptor.response_body),
            counters: descriptor.counters.clone(),
            schema,
        })
    }
}

fn mode(mode: BodyMode) -> Option<BodyMode> {
    (!matches!(mode, BodyMode::None)).then_some(mode)
}

fn fields(list: &str, names: &[String], others_allowed: bool, problems: &mut Vec<String>) -> Fields {
    let mut fields = Fields::default();
    if names.len() > FIELDS {
        problems.push(format!("its {list} name {} fields; {FIELDS} are possible", names.len()));
        return fields;
    }
    for name in names {
        if name == "*" && others_allowed {
            fields.others = true;
            continue;
        }
        // A single star is a field name by the letter of RFC 9110, and never by anybody's intention.
        if name == "*" {
            problems.push(format!("its {list} name `*`; name each field"));
            continue;
        }
        match HeaderName::from_bytes(name.as_bytes()) {
            // Compared as written: HeaderName folds the case, and positions must mean what the author wrote.
            Ok(parsed) if parsed.as_str() == name => {
                if fields.named.contains(&parsed) {
                    problems.push(format!("its {list} name `{name}` twice"));
                }
                fields.named.push(parsed);
            }
            _ => problems.push(format!("its {list} name {:?}, which is no field name in lower case", shortened(name))),
        }
    }
    // Positions count the names before `*` only if it stands last.
    if fields.others && names.last().map(String::as_str) != Some("*") {
        problems.push(format!("`*` must stand last in its {list}"));
    }
    fields
}

fn written(list: &str, names: &[String], problems: &mut Vec<String>) -> Vec<HeaderName> {
    let named = fields(list, names, false, problems).named;
    for name in named.iter().filter(|name| is_reserved(name)) {
        problems.push(format!("its {list} name `{name}`, which only the gateway writes"));
    }
    named
}

fn schema(text: &str, problems: &mut Vec<String>) -> Option<serde_json::Value> {
    if text.is_empty() {
        return None;
    }
    let schema = match serde_json::from_str::<serde_json::Value>(text) {
        Ok(schema) => schema,
        Err(error) => {
            problems.push(format!("its config-schema is not JSON: {error}"));
            return None;
        }
    };
    if let Err(error) = jsonschema::validator_for(&schema) {
        problems.push(format!("its config-schema is no JSON Schema: {error}"));
    }
    Some(schema)
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Stable codes and counters: 1 to 64 of `a-z`, `0-9` and `_`.
pub fn is_snake(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// A guest's word, short enough for a message.
pub(super) fn shortened(word: &str) -> &str {
    &word[..word.floor_char_boundary(80.min(word.len()))]
}

/// The powers by the names that grants use.
pub fn named_powers(powers: Powers) -> impl Iterator<Item = &'static str> {
    [
        (Powers::DENY, "deny"),
        (Powers::RESPOND, "respond"),
        (Powers::FORWARD, "forward"),
        (Powers::REWRITE_PATH, "rewrite-path"),
        (Powers::TAKE, "take"),
        (Powers::CHARGE, "charge"),
        (Powers::MINT_TOKEN, "mint-token"),
        (Powers::IDENTIFY, "identify"),
    ]
    .into_iter()
    .filter(move |(power, _)| powers.contains(*power))
    .map(|(_, name)| name)
}
