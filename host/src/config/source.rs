//! The text that a configuration was read from, and its digest.
//!
//! Says nothing of what it means: two configurations that mean the same are equal, however they are written. May hold what
//! policies keep secret in their own configuration, so it is never shown as it is.

use std::fmt;
use std::sync::Arc;

use ring::digest::{SHA256, digest};

/// A text, with its digest.
#[derive(Clone)]
pub struct Source {
    text: Arc<str>,
    digest: Arc<str>,
}

impl Source {
    /// Of this text.
    pub fn of(text: &str) -> Self {
        let hash = digest(&SHA256, text.as_bytes());
        let digest: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { text: text.into(), digest: digest.into() }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the text, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

impl PartialEq for Source {
    /// Always: what a text means is compared by what was read from it.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({})", self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_of_the_text_and_the_text_is_not_shown() {
        let source = Source::of("abc");
        assert_eq!(source.digest(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(!format!("{:?}", Source::of("hunter2")).contains("hunter2"));
        assert_eq!(source, Source::of("a"));
    }
}
