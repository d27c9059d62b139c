//! Every secret that a test came by, and a search for them where none may be.
//!
//! One register for the whole run: what one test came by must not lie about in another one's files either. A finding names
//! the place and the kind of secret, never the secret.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use rustc_hash::FxHashMap;
use std::fs;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

/// What secrets of ours begin with. What follows is the secret part, but for the last four characters, which are shown.
const PREFIXES: [&str; 4] = ["sk_live_", "sk_sandbox_", "pat_", "whsec_"];
/// A text is looked at in steps of so many bytes, so a form has at least twice as many.
const STEP: usize = 8;
/// The shortest part of a secret that is looked for.
const SHORTEST: usize = 2 * STEP;
/// The longest part: whoever shows this much of one shows too much.
const LONGEST: usize = 24;
/// What is written down about each form.
const FORMS: [&str; 4] = ["as it is", "in base64", "in hexadecimal digits", "in hexadecimal capitals"];
/// One bit for each beginning that a step may have.
const BITS: usize = 1 << 20;

static REGISTER: RwLock<Option<Register>> = RwLock::new(None);

/// All forms of all secrets, found by any eight bytes in them.
struct Register {
    known: std::collections::HashSet<Vec<u8>>,
    forms: Vec<Form>,
    grams: FxHashMap<u64, Vec<(usize, usize)>>,
    filter: Vec<u64>,
}

struct Form {
    bytes: Vec<u8>,
    kind: &'static str,
    /// What the secret is.
    of: &'static str,
}

/// Takes note of a secret: of all but its prefix and its end, which are shown to people.
pub fn note(secret: &str) {
    let prefix = PREFIXES.iter().find(|prefix| secret.starts_with(**prefix));
    let (of, body) = match prefix {
        Some(prefix) => (*prefix, &secret[prefix.len()..]),
        None => ("a secret", secret),
    };
    let part = &body.as_bytes()[..body.len().saturating_sub(4).min(LONGEST)];
    note_bytes(part, of);
    if of == "whsec_"
        && let Ok(bytes) = STANDARD.decode(body)
    {
        note_bytes(&bytes, "the key in a whsec_");
    }
}

/// Takes note of a key of 32 bytes, written in hexadecimal digits.
pub fn note_hex(text: &str) {
    let text = text.trim();
    let digit = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..text.len() / 2).map(|at| digit(2 * at)).collect();
    note_bytes(&bytes.expect("hexadecimal digits"), "the master key");
}

/// Takes note of each secret in what the gateway said to whoever may know it.
pub fn note_all(text: &[u8]) {
    for prefix in PREFIXES {
        let mut rest = text;
        while let Some(at) = rest.windows(prefix.len()).position(|window| window == prefix.as_bytes()) {
            rest = &rest[at..];
            let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"_+/=".contains(byte);
            let end = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
            if end >= 32 {
                note(std::str::from_utf8(&rest[..end]).expect("ASCII"));
            }
            rest = &rest[end.max(1)..];
        }
    }
}

fn note_bytes(part: &[u8], of: &'static str) {
    if part.len() < SHORTEST {
        return;
    }
    let mut register = REGISTER.write().unwrap_or_else(PoisonError::into_inner);
    register.get_or_insert_with(Register::new).add(part, of);
}

/// Where in these bytes a secret is, and in which form; none where there is none.
pub fn found_in(bytes: &[u8]) -> Option<String> {
    REGISTER.read().unwrap_or_else(PoisonError::into_inner).as_ref()?.find(bytes)
}

/// Looks at every file below a directory but those that are left out; what was found.
pub fn found_below(directory: &Path, leave_out: &[&Path]) -> Vec<String> {
    let (mut places, mut found) = (vec![directory.to_owned()], Vec::new());
    while let Some(place) = places.pop() {
        // What is linked to is no part of it.
        let Ok(about) = fs::symlink_metadata(&place) else { continue };
        if about.is_dir() {
            places.extend(fs::read_dir(&place).into_iter().flatten().flatten().map(|entry| entry.path()));
        } else if about.is_file() && !leave_out.contains(&place.as_path()) {
            let bytes = fs::read(&place).unwrap_or_default();
            found.extend(found_in(&bytes).map(|what| format!("{}: {what}", place.display())));
        }
    }
    found
}

impl Register {
    fn new() -> Self {
        Self { known: Default::default(), forms: Vec::new(), grams: Default::default(), filter: vec![0; BITS / 64] }
    }

    fn add(&mut self, part: &[u8], of: &'static str) {
        if !self.known.insert(part.to_vec()) {
            return;
        }
        let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut forms = vec![(part.to_vec(), FORMS[0]), (hex.to_uppercase().into(), FORMS[3]), (hex.into(), FORMS[2])];
        // Base64 of a text that it is in, wherever it begins there: the characters that depend on it alone.
        for before in 0..3 {
            let padded = [&[0; 2][..before], part].concat();
            let skipped = (8 * before).div_ceil(6);
            let whole = 8 * padded.len() / 6;
            for engine in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
                forms.push((engine.as_bytes()[skipped..whole].to_vec(), FORMS[1]));
            }
        }
        forms.dedup();
        for (bytes, kind) in forms {
            let number = self.forms.len();
            for at in 0..STEP {
                let gram = gram(&bytes[at..]);
                let places = self.grams.entry(gram).or_default();
                places.push((number, at));
                self.filter[bit(gram) / 64] |= 1 << (bit(gram) % 64);
            }
            self.forms.push(Form { bytes, kind, of });
        }
    }

    fn find(&self, bytes: &[u8]) -> Option<String> {
        let mut at = 0_usize;
        for step in bytes.chunks_exact(STEP) {
            let gram = gram(step);
            let bit = bit(gram);
            if gram != 0 && self.filter[bit / 64] >> (bit % 64) & 1 == 1 {
                for (number, before) in self.grams.get(&gram).into_iter().flatten() {
                    let form = &self.forms[*number];
                    let begin = at.checked_sub(*before);
                    let there = begin.and_then(|begin| bytes.get(begin..begin + form.bytes.len()));
                    if there == Some(&form.bytes) {
                        return Some(format!("{} {} at byte {}", form.of, form.kind, at - before));
                    }
                }
            }
            at += STEP;
        }
        None
    }
}

fn gram(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(*bytes.first_chunk().expect("a form is two steps long at least"))
}

fn bit(gram: u64) -> usize {
    (gram.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44) as usize
}
