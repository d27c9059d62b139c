//! The OpenAPI documents of pillars: read, checked as wholes, and put in their place under the gateway's address.
//!
//! A document that exists here made sense: every reference in it leads somewhere within it. Knows no routes and no refusals;
//! which operations the gateway serves, and what it adds to them, its own document says.

mod check;
mod fetched;
mod older;
mod place;
mod walk;

use std::fmt;

use ring::digest::{SHA256, digest};
use serde_json::Value;

pub use self::check::dangling;
pub use self::fetched::Fetched;
pub use self::place::{Moved, Placed, moved_reference, resolved};
use crate::json;

/// The most bytes of a document.
pub const LARGEST: usize = 4 << 20;
/// Faults that are told; the rest is only counted.
const TOLD: usize = 20;

/// The document of one pillar, as OpenAPI 3.1.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    value: Value,
    digest: String,
    /// SHA-256 of the bytes that it was read from.
    source: [u8; 32],
}

/// One thing that is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where, as a JSON pointer; empty for the whole.
    pub pointer: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl Fault {
    fn at(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.pointer.is_empty() {
            write!(f, "at {}: ", self.pointer)?;
        }
        f.write_str(&self.message)
    }
}

impl Document {
    /// Reads a document: JSON, OpenAPI 3.1 or 3.0, of at most [`LARGEST`] bytes.
    ///
    /// # Errors
    /// What is wrong with it; at least one thing.
    pub fn read(bytes: &[u8]) -> Result<Self, Vec<Fault>> {
        if bytes.len() > LARGEST {
            return Err(vec![Fault::at(
                "",
                "the document has more than 4 MiB; leave examples out, or split the service",
            )]);
        }
        // What some editors put first.
        let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let (mut value, twice) = json::read(text)
            .map_err(|error| vec![Fault::at("", format!("the document is not JSON as it has to be: {error}"))])?;
        if !twice.is_empty() {
            return Err(twice.iter().map(|place| Fault::at(place, "this name is there twice in one object")).collect());
        }
        if check::has_long_name(&value) {
            return Err(vec![Fault::at("", "the document has too long names: one has more than 8 KiB; shorten it")]);
        }
        check::version(&value).map_err(|fault| vec![fault])?;
        older::renew(&mut value);
        check::inline_paths(&mut value).map_err(|fault| vec![fault])?;
        let mut faults = check::meaning(&mut value);
        if faults.is_empty() {
            faults = check::shape(&value);
        }
        if !faults.is_empty() {
            let beyond = faults.len().saturating_sub(TOLD);
            faults.truncate(TOLD);
            if beyond > 0 {
                faults.push(Fault::at("", format!("and {beyond} more things are wrong")));
            }
            return Err(faults);
        }
        let digest = sum(value.to_string().as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { value, digest, source: sum(bytes) })
    }

    /// SHA-256 of what it says, in hexadecimal: however it is laid out.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Whether it was read from these bytes, and so need not be read from them again.
    pub fn is_of(&self, bytes: &[u8]) -> bool {
        self.source == sum(bytes)
    }

    /// What the service calls itself, and says of itself.
    pub fn about(&self) -> String {
        let info = &self.value["info"];
        let text = |member: &str| info[member].as_str().map(str::trim).filter(|text| !text.is_empty());
        match (text("title"), text("description")) {
            (Some(title), Some(description)) => format!("{title}. {description}"),
            (Some(one), None) | (None, Some(one)) => one.to_owned(),
            (None, None) => String::new(),
        }
    }

    /// All of it under a pillar: see [`Placed`].
    pub fn placed(&self, pillar: &str, public: impl Fn(&str) -> Option<String>) -> Placed {
        place::placed(&self.value, pillar, &public)
    }
}

fn sum(bytes: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest(&SHA256, bytes).as_ref());
    sum
}

/// One token of a JSON pointer (RFC 6901, section 3).
fn token(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests;
