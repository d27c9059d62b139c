//! A descriptor in a block of bytes that tests replace inside the finished component.
//!
//! Compiling one guest for each power, fact and field would take minutes; patching 4 KiB takes none.

use portico_sdk::{BodyMode, Descriptor, Facts, Powers};
use serde::Deserialize;

/// What a block begins with. Only tests look for it: a guest that named it would hold it twice.
pub const MARKER: [u8; 32] = *b"PORTICO CHAMELEON DESCRIPTOR >>>";

/// The size of a block, with the marker.
pub const BLOCK: usize = 4_096;

/// A block with this JSON, filled up with spaces. For a `static`: too long a text does not compile.
pub const fn block(json: &str) -> [u8; BLOCK] {
    let mut block = [b' '; BLOCK];
    let (marker, text) = block.split_at_mut(MARKER.len());
    marker.copy_from_slice(&MARKER);
    text.split_at_mut(json.len()).0.copy_from_slice(json.as_bytes());
    block
}

/// The same component with another descriptor, as JSON; see README.md. `None` if the component has no block, or the
/// JSON does not fit into it.
pub fn patch(component: &[u8], json: &str) -> Option<Vec<u8>> {
    let at = component.windows(MARKER.len()).position(|window| window == MARKER)?;
    let mut patched = component.to_vec();
    let text = patched.get_mut(at + MARKER.len()..at + BLOCK)?;
    text.fill(b' ');
    text.get_mut(..json.len())?.copy_from_slice(json.as_bytes());
    Some(patched)
}

/// Reads the descriptor that a block holds.
///
/// # Panics
/// If the block does not hold a descriptor, which for a guest is a trap.
pub fn read(block: &[u8; BLOCK]) -> Descriptor {
    let written: Written = serde_json::from_slice(&block[MARKER.len()..]).expect("the test patched in a descriptor");
    written.into()
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    name: String,
    version: String,
    summary: String,
    facts: Vec<String>,
    powers: Vec<String>,
    reads: Vec<String>,
    response_reads: Vec<String>,
    request_writes: Vec<String>,
    response_writes: Vec<String>,
    request_body: Body,
    response_body: Body,
    counters: Vec<String>,
    config_schema: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum Body {
    #[default]
    None,
    Inspect,
    Transform,
    Buffered(u32),
}

impl Default for Written {
    fn default() -> Self {
        Self {
            name: "chameleon".to_owned(),
            version: "1.0.0".to_owned(),
            summary: "Does what its configuration says.".to_owned(),
            facts: Vec::new(),
            powers: Vec::new(),
            reads: Vec::new(),
            response_reads: Vec::new(),
            request_writes: Vec::new(),
            response_writes: Vec::new(),
            request_body: Body::None,
            response_body: Body::None,
            counters: Vec::new(),
            config_schema: String::new(),
        }
    }
}

impl From<Written> for Descriptor {
    fn from(written: Written) -> Self {
        Self {
            name: written.name,
            version: written.version,
            summary: written.summary,
            facts: written.facts.iter().map(|name| fact(name)).collect(),
            powers: written.powers.iter().map(|name| power(name)).collect(),
            reads: written.reads,
            response_reads: written.response_reads,
            request_writes: written.request_writes,
            response_writes: written.response_writes,
            request_body: written.request_body.into(),
            response_body: written.response_body.into(),
            counters: written.counters,
            config_schema: written.config_schema,
        }
    }
}

impl From<Body> for BodyMode {
    fn from(body: Body) -> Self {
        match body {
            Body::None => Self::None,
            Body::Inspect => Self::Inspect,
            Body::Transform => Self::Transform,
            Body::Buffered(most) => Self::Buffered(most),
        }
    }
}

/// The names are those of the contract; `*` stands for all.
fn fact(name: &str) -> Facts {
    let constant = name.to_uppercase().replace('-', "_");
    match name {
        "*" => Facts::all(),
        _ => Facts::from_name(&constant).expect("the contract has this fact"),
    }
}

fn power(name: &str) -> Powers {
    let constant = name.to_uppercase().replace('-', "_");
    match name {
        "*" => Powers::all(),
        _ => Powers::from_name(&constant).expect("the contract has this power"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static PLAIN: [u8; BLOCK] = block("{}");

    #[test]
    fn a_patched_block_is_another_descriptor() {
        let mut component = b"before".to_vec();
        component.extend(PLAIN);
        component.extend(b"after");
        let json = r#"{"name":"other","facts":["client-address","seed"],"powers":["*"],
            "reads":["accept"],"request_body":{"buffered":7}}"#;
        let patched = patch(&component, json).expect("there is a block");
        assert_eq!(patched.len(), component.len());
        assert!(patched.starts_with(b"before") && patched.ends_with(b"after"));
        let block = patched[6..6 + BLOCK].try_into().expect("a whole block");
        let descriptor = read(&block);
        assert_eq!(descriptor.name, "other");
        assert_eq!(descriptor.facts, Facts::CLIENT_ADDRESS | Facts::SEED);
        assert_eq!(descriptor.powers, Powers::all());
        assert_eq!(descriptor.reads, ["accept"]);
        assert_eq!(descriptor.request_body, BodyMode::Buffered(7));
        assert_eq!(read(&PLAIN).name, "chameleon");
    }

    #[test]
    fn the_example_of_the_readme_is_a_descriptor() {
        let readme = include_str!("../README.md");
        let json = readme.split("```json\n").nth(1).expect("a first block");
        let json = json.split("```").next().expect("its end");
        let patched = patch(&PLAIN, json).expect("it fits");
        let descriptor = read(&patched.try_into().expect("a whole block"));
        assert_eq!(descriptor.reads, ["accept", "*"]);
        assert_eq!(descriptor.response_body, BodyMode::Buffered(1_024));
    }

    #[test]
    fn what_does_not_fit_is_not_patched() {
        assert_eq!(patch(b"no block here", "{}"), None);
        assert_eq!(patch(&PLAIN, &" ".repeat(BLOCK)), None);
    }
}
