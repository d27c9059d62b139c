//! What makes entries a chain: hashes, tags, and the end of it. Pure: bytes in, bytes out.
//!
//! `hash(n) = SHA-256(domain ‖ hash(n-1) ‖ content(n))`, with 32 zero bytes before the first. An entry is kept as its hash, a tag
//! over that and its content. The end of the chain is kept beside the entries, with a tag of its own, so that a cut is noticed.

use ring::digest::{Context, SHA256};
use ring::hmac;
use serde::{Deserialize, Serialize, Serializer};

use super::Note;
use super::held::Held;

/// The bytes of a SHA-256.
pub(super) type Hash = [u8; 32];

const DOMAIN: &[u8] = b"portico audit 1\0";
const ENTRY: &[u8] = b"entry\0";
const END: &[u8] = b"end\0";
const LINK: usize = 64;
/// The form of content that is written. The first had no number, and all values in the chain.
const FORM: u8 = 2;

/// The end of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// The sequence of the last entry; 0 where there is none.
    pub sequence: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Serialize for Head {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let hash: String = self.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut members = serializer.serialize_struct("Head", 2)?;
        members.serialize_field("sequence", &self.sequence)?;
        members.serialize_field("hash", &hash)?;
        members.end()
    }
}

/// What is wrong with a chain, at the first sequence that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The entry is not there.
    Missing,
    /// The entry is another one than was written there.
    Edited,
    /// The entry is behind the end of the chain.
    Unchained,
    /// The end of the chain is missing, or another one than was written.
    End,
    /// What is held beside the entry is not what was written.
    Values,
    /// What is held beside the entry is gone, and no erasure of its org comes after it.
    ValuesMissing,
}

impl Fault {
    /// One sentence on it.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Missing => "the entry is not there",
            Self::Edited => "the entry is not the one that was written",
            Self::Unchained => "the entry was added past the gateway",
            Self::End => "the end of the log is not the one that was written",
            Self::Values => "the names and addresses of the entry are not those that were written",
            Self::ValuesMissing => "the names and addresses of the entry are gone, and no erasure is on record",
        }
    }
}

/// What came of looking at every entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All is as it was written. Note the head down elsewhere: a log that was put back to an earlier state is only told by it.
    Whole(Head),
    /// The first sequence that does not fit.
    Broken {
        /// The sequence.
        sequence: u64,
        /// What is wrong there.
        fault: Fault,
    },
}

/// What an entry says in the chain.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Content {
    #[serde(default = "first_form")]
    form: u8,
    pub(super) sequence: u64,
    #[serde(flatten)]
    pub(super) note: Note,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) held: Option<Held>,
}

fn first_form() -> u8 {
    1
}

impl Content {
    pub(super) fn new(sequence: u64, note: Note, held: Option<Held>) -> Self {
        Self { form: FORM, sequence, note, held }
    }

    /// Whether all that it says is in the chain.
    pub(super) fn is_former(&self) -> bool {
        self.form < FORM
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an entry is strings, numbers and JSON values")
    }
}

/// Chains and checks, under a key that comes from the master key.
pub(super) struct Seal(hmac::Key);

impl Seal {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// An entry as it is kept behind this end, and the end that it makes.
    pub(super) fn link(&self, end: Head, content: &[u8]) -> (Vec<u8>, Head) {
        let hash = chained(&end.hash, content);
        let mut kept = Vec::with_capacity(LINK + content.len());
        kept.extend_from_slice(&hash);
        kept.extend_from_slice(self.tag(ENTRY, &hash).as_ref());
        kept.extend_from_slice(content);
        (kept, Head { sequence: end.sequence + 1, hash })
    }

    /// The end that a kept entry makes behind this one, and what it says, where it is the entry that was written there.
    pub(super) fn follow(&self, end: Head, kept: &[u8]) -> Option<(Head, Content)> {
        let (link, content) = kept.split_at_checked(LINK)?;
        let (hash, tag) = link.split_first_chunk()?;
        let genuine = chained(&end.hash, content) == *hash && self.genuine(ENTRY, hash, tag);
        let said = self::content(kept).filter(|said| genuine && said.sequence == end.sequence + 1)?;
        Some((Head { sequence: said.sequence, hash: *hash }, said))
    }

    /// The end of the chain, as it is kept.
    pub(super) fn seal(&self, head: Head) -> Vec<u8> {
        let mut kept = Vec::with_capacity(72);
        kept.extend_from_slice(&head.sequence.to_be_bytes());
        kept.extend_from_slice(&head.hash);
        let tag = self.tag(END, &kept);
        kept.extend_from_slice(tag.as_ref());
        kept
    }

    /// The end of the chain, where it is genuine.
    pub(super) fn open(&self, kept: &[u8]) -> Option<Head> {
        let (end, tag) = kept.split_at_checked(40)?;
        let (sequence, hash) = end.split_first_chunk()?;
        let genuine = self.genuine(END, end, tag);
        genuine.then_some(Head { sequence: u64::from_be_bytes(*sequence), hash: hash.try_into().ok()? })
    }

    fn tag(&self, of: &[u8], bytes: &[u8]) -> hmac::Tag {
        hmac::sign(&self.0, &[of, bytes].concat())
    }

    fn genuine(&self, of: &[u8], bytes: &[u8], tag: &[u8]) -> bool {
        hmac::verify(&self.0, &[of, bytes].concat(), tag).is_ok()
    }
}

/// What a kept entry says; genuine or not.
pub(super) fn content(kept: &[u8]) -> Option<Content> {
    let content: Content = serde_json::from_slice(kept.get(LINK..)?).ok()?;
    Some(content).filter(|content| (1..=FORM).contains(&content.form))
}

fn chained(before: &Hash, content: &[u8]) -> Hash {
    let mut context = Context::new(&SHA256);
    [DOMAIN, before, content].into_iter().for_each(|part| context.update(part));
    *context.finish().as_ref().first_chunk().expect("a SHA-256 has 32 bytes")
}
