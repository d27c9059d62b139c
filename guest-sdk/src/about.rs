//! What a policy is, as a constant, and handles for what it declared.
//!
//! A handle is a position, found by name while compiling: naming a field that was not declared does not compile, and
//! no request ever searches a string.

use crate::{BodyMode, Descriptor, Facts, Powers};

/// What a policy is, and everything that it may ever see or touch. Built as a constant:
///
/// ```
/// use portico_sdk::{About, Facts, Powers, Write};
///
/// const ABOUT: About = About::new("greeter", "1.0.0", "Greets the upstream.")
///     .sees(Facts::PRINCIPAL)
///     .may(Powers::DENY)
///     .writes(&["x-greeting"]);
/// const X_GREETING: Write = ABOUT.write("x-greeting");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct About {
    name: &'static str,
    version: &'static str,
    summary: &'static str,
    facts: Facts,
    powers: Powers,
    reads: &'static [&'static str],
    response_reads: &'static [&'static str],
    writes: &'static [&'static str],
    response_writes: &'static [&'static str],
    request_body: BodyMode,
    response_body: BodyMode,
    counters: &'static [&'static str],
    schema: &'static str,
}

/// A request field that the policy sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read(pub(crate) u32);

/// A response field that the policy sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseRead(pub(crate) u32);

/// A request field that the policy may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write(pub(crate) u32);

/// A response field that the policy may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseWrite(pub(crate) u32);

/// A counter that the policy adds to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter(pub(crate) u32);

impl About {
    /// A policy that sees and may do nothing yet. `name`: lower case with hyphens; `version`: semantic; `summary`: one
    /// sentence for the operator.
    pub const fn new(name: &'static str, version: &'static str, summary: &'static str) -> Self {
        Self {
            name,
            version,
            summary,
            facts: Facts::empty(),
            powers: Powers::empty(),
            reads: &[],
            response_reads: &[],
            writes: &[],
            response_writes: &[],
            request_body: BodyMode::None,
            response_body: BodyMode::None,
            counters: &[],
            schema: "",
        }
    }

    /// Subscribes to facts, besides those said before.
    pub const fn sees(mut self, facts: Facts) -> Self {
        self.facts = self.facts.union(facts);
        self
    }

    /// Asks for powers, besides those said before.
    pub const fn may(mut self, powers: Powers) -> Self {
        self.powers = self.powers.union(powers);
        self
    }

    /// Request fields to see, lower case; `*` for all others.
    pub const fn reads(mut self, fields: &'static [&'static str]) -> Self {
        self.reads = fields;
        self
    }

    /// Response fields to see, lower case; `*` for all others.
    pub const fn response_reads(mut self, fields: &'static [&'static str]) -> Self {
        self.response_reads = fields;
        self
    }

    /// Request fields to change, lower case.
    pub const fn writes(mut self, fields: &'static [&'static str]) -> Self {
        self.writes = fields;
        self
    }

    /// Response fields to change, lower case.
    pub const fn response_writes(mut self, fields: &'static [&'static str]) -> Self {
        self.response_writes = fields;
        self
    }

    /// Follows request bodies in this mode; say `export!(…, request_body)` too.
    pub const fn request_body(mut self, mode: BodyMode) -> Self {
        self.request_body = mode;
        self
    }

    /// Follows response bodies in this mode; say `export!(…, response_body)` too.
    pub const fn response_body(mut self, mode: BodyMode) -> Self {
        self.response_body = mode;
        self
    }

    /// Counters to add to, in snake_case.
    pub const fn counters(mut self, names: &'static [&'static str]) -> Self {
        self.counters = names;
        self
    }

    /// The JSON Schema of one slot's configuration, most often `include_str!("../schema.json")`.
    pub const fn schema(mut self, schema: &'static str) -> Self {
        self.schema = schema;
        self
    }

    /// The handle of a request field to see. Meant for constants: an undeclared name then fails to compile.
    ///
    /// # Panics
    /// If `reads` does not have the field.
    pub const fn read(&self, field: &str) -> Read {
        Read(position(self.reads, field))
    }

    /// The handle of a response field to see, as [`read`](About::read).
    ///
    /// # Panics
    /// If `response_reads` does not have the field.
    pub const fn response_read(&self, field: &str) -> ResponseRead {
        ResponseRead(position(self.response_reads, field))
    }

    /// The handle of a request field to change, as [`read`](About::read).
    ///
    /// # Panics
    /// If `writes` does not have the field.
    pub const fn write(&self, field: &str) -> Write {
        Write(position(self.writes, field))
    }

    /// The handle of a response field to change, as [`read`](About::read).
    ///
    /// # Panics
    /// If `response_writes` does not have the field.
    pub const fn response_write(&self, field: &str) -> ResponseWrite {
        ResponseWrite(position(self.response_writes, field))
    }

    /// The handle of a counter, as [`read`](About::read).
    ///
    /// # Panics
    /// If `counters` does not have the name.
    pub const fn counter(&self, name: &str) -> Counter {
        Counter(position(self.counters, name))
    }

    /// The same as the gateway gets it.
    pub fn descriptor(&self) -> Descriptor {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Descriptor {
            name: self.name.to_owned(),
            version: self.version.to_owned(),
            summary: self.summary.to_owned(),
            facts: self.facts,
            powers: self.powers,
            reads: owned(self.reads),
            response_reads: owned(self.response_reads),
            request_writes: owned(self.writes),
            response_writes: owned(self.response_writes),
            request_body: self.request_body,
            response_body: self.response_body,
            counters: owned(self.counters),
            config_schema: self.schema.to_owned(),
        }
    }
}

const fn position(names: &[&str], wanted: &str) -> u32 {
    let mut at = 0;
    while at < names.len() {
        if same(names[at].as_bytes(), wanted.as_bytes()) {
            return at as u32;
        }
        at += 1;
    }
    panic!("this name is not among those that the policy declared")
}

/// `==` on slices is not const yet.
const fn same(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let mut at = 0;
    while at < left.len() {
        if left[at] != right[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABOUT: About = About::new("sample", "1.2.3", "A sample.")
        .sees(Facts::PATH)
        .sees(Facts::SEED)
        .may(Powers::DENY.union(Powers::TAKE))
        .reads(&["accept", "user-agent"])
        .writes(&["x-one", "x-two"])
        .response_reads(&["age"])
        .response_writes(&["server"])
        .counters(&["seen", "refused"])
        .schema("{}");

    #[test]
    fn handles_are_positions() {
        const AGENT: Read = ABOUT.read("user-agent");
        assert_eq!(AGENT, Read(1));
        assert_eq!(ABOUT.write("x-two"), Write(1));
        assert_eq!(ABOUT.response_read("age"), ResponseRead(0));
        assert_eq!(ABOUT.response_write("server"), ResponseWrite(0));
        assert_eq!(ABOUT.counter("refused"), Counter(1));
    }

    #[test]
    #[should_panic(expected = "not among those")]
    fn an_undeclared_name_has_no_handle() {
        ABOUT.write("x-three");
    }

    #[test]
    fn the_descriptor_says_all_of_it() {
        let descriptor = ABOUT.descriptor();
        assert_eq!((descriptor.name.as_str(), descriptor.version.as_str()), ("sample", "1.2.3"));
        assert_eq!(descriptor.facts, Facts::PATH | Facts::SEED);
        assert_eq!(descriptor.powers, Powers::DENY | Powers::TAKE);
        assert_eq!(descriptor.reads, ["accept", "user-agent"]);
        assert_eq!(descriptor.request_writes, ["x-one", "x-two"]);
        assert_eq!(descriptor.response_reads, ["age"]);
        assert_eq!(descriptor.response_writes, ["server"]);
        assert_eq!(descriptor.counters, ["seen", "refused"]);
        assert_eq!(descriptor.config_schema, "{}");
        assert_eq!(descriptor.request_body, BodyMode::None);
    }
}
