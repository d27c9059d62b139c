//! What an entry holds beside the chain: all that a person could be known by. Pure: a note in, a bare note and a row out.
//!
//! The chain has one hash over that row, which begins with a salt: what is erased with its salt cannot be guessed from the
//! hash. What is not known to say nothing of a person is held beside the chain.

use std::collections::BTreeMap;
use std::mem;
use std::net::IpAddr;

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Note;

/// Bytes of a salt.
pub(super) const SALT: usize = 16;
/// What stands in the place of a text that was erased.
pub const ERASED: &str = "erased";

const DOMAIN: &[u8] = b"portico audit values 1\0";
const ADDRESS: &str = "/actor/address";
const ON: &str = "/on/";
/// Members of a state, before or after, that stand in the chain: all others are held beside it.
const STAYS: [&str; 27] = [
    "begun",
    "by",
    "changed",
    "changed_keys",
    "digest",
    "events",
    "expires_at",
    "generation",
    "keys",
    "mode",
    "needs_restart",
    "outcome",
    "pepper",
    "plugin",
    "previous_ends_at",
    "problems",
    "problems_at",
    "refused",
    "requests",
    "revoked_at",
    "role",
    "rotated_at",
    "scopes",
    "state",
    "tokens",
    "url_changes",
    "webhooks",
];

/// What the chain says of values that are held beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    /// Over the row that has them.
    hash: String,
    /// Where they belong, as JSON pointers into the entry.
    at: Vec<String>,
}

impl Held {
    /// Whether this is the row that was written.
    pub(super) fn is_of(&self, row: &[u8]) -> bool {
        hash(row) == self.hash
    }
}

/// The note without the values, what the chain says of them, and their row; no row where there are none.
pub(super) fn set_aside(note: &Note, salt: [u8; SALT]) -> (Note, Option<(Held, Vec<u8>)>) {
    let (mut bare, mut values) = (note.clone(), BTreeMap::new());
    if let Some(address) = bare.actor.address.take() {
        values.insert(ADDRESS.to_owned(), json!(address));
    }
    for (number, on) in bare.on.iter_mut().enumerate().filter(|(_, on)| on.parse::<IpAddr>().is_ok()) {
        values.insert(format!("{ON}{number}"), mem::take(on).into());
    }
    take(&mut bare.before, "/before".to_owned(), false, &mut values);
    take(&mut bare.after, "/after".to_owned(), false, &mut values);
    if values.is_empty() {
        return (bare, None);
    }
    let mut row = salt.to_vec();
    row.extend_from_slice(&serde_json::to_vec(&values).expect("texts and JSON values"));
    let held = Held { hash: hash(&row), at: values.into_keys().collect() };
    (bare, Some((held, row)))
}

/// Whether a note has values that would be held beside the chain.
pub(super) fn has_values(note: &Note) -> bool {
    set_aside(note, [0; SALT]).1.is_some()
}

/// The note with its values, or with the word that they were erased where there is no row; and which were. None where the row or
/// a place in it makes no sense.
pub(super) fn put_back(mut note: Note, held: Held, row: Option<&[u8]>) -> Option<(Note, Vec<String>)> {
    let mut values: BTreeMap<String, Value> = match row {
        Some(row) => serde_json::from_slice(row.get(SALT..)?).ok()?,
        None => BTreeMap::new(),
    };
    for place in &held.at {
        let value = match row {
            Some(_) => Some(values.remove(place)?),
            None => None,
        };
        put(&mut note, place, value)?;
    }
    Some((note, if row.is_none() { held.at } else { Vec::new() }))
}

fn put(note: &mut Note, place: &str, value: Option<Value>) -> Option<()> {
    if place == ADDRESS {
        note.actor.address = value.map(serde_json::from_value).transpose().ok()?;
        return Some(());
    }
    let value = value.unwrap_or_else(|| ERASED.into());
    if let Some(number) = place.strip_prefix(ON) {
        *note.on.get_mut(number.parse::<usize>().ok()?)? = value.as_str()?.to_owned();
    } else if let Some(within) = place.strip_prefix("/before") {
        *note.before.pointer_mut(within)? = value;
    } else {
        *note.after.pointer_mut(place.strip_prefix("/after")?)? = value;
    }
    Some(())
}

fn take(value: &mut Value, place: String, stays: bool, values: &mut BTreeMap<String, Value>) {
    match value {
        Value::Null => {}
        Value::Object(members) => {
            for (name, member) in members {
                let within = format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"));
                take(member, within, STAYS.contains(&name.as_str()), values);
            }
        }
        _ if stays => {}
        value => drop(values.insert(place, value.take())),
    }
}

fn hash(row: &[u8]) -> String {
    let mut context = Context::new(&SHA256);
    [DOMAIN, row].into_iter().for_each(|part| context.update(part));
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{ActorKind, Who};
    use crate::clock::Millis;

    fn note() -> Note {
        let actor = Who { kind: ActorKind::Token, id: Some("tok_1".into()), address: "192.0.2.7".parse().ok() };
        let before =
            json!({"name": "Ada's", "scopes": ["pay"], "revoked_at": null, "url/~": {"deep": [1, {"mode": "x"}]}});
        Note::new(actor, "limit.reset", Millis(5)).on("key_1").on("198.51.100.9").change(before, json!("as a whole"))
    }

    #[test]
    fn what_is_set_aside_comes_back_and_the_bare_note_says_nothing_of_it() {
        let (bare, held) = set_aside(&note(), [7; SALT]);
        let (held, row) = held.unwrap();
        let text = serde_json::to_string(&(&bare, &held)).unwrap();
        for value in ["Ada", "192.0.2.7", "198.51.100.9", "deep\":[", "as a whole"] {
            assert!(!text.contains(value), "{value}: {text}");
        }
        assert_eq!((bare.on[0].as_str(), &bare.before["scopes"]), ("key_1", &json!(["pay"])));
        assert_eq!(put_back(bare.clone(), held.clone(), Some(&row)), Some((note(), Vec::new())));
        let (erased, which) = put_back(bare, held.clone(), None).unwrap();
        assert_eq!(which, ["/actor/address", "/after", "/before/name", "/before/url~1~0/deep", "/on/1"]);
        assert_eq!((erased.on[1].as_str(), &erased.before["name"]), (ERASED, &json!(ERASED)));
        assert_eq!((erased.actor.address, &erased.after), (None, &json!(ERASED)));
        assert!(held.is_of(&row));
    }

    #[test]
    fn a_row_is_known_by_all_of_its_bytes_and_its_salt() {
        let (_, held) = set_aside(&note(), [7; SALT]);
        let (held, row) = held.unwrap();
        for at in 0..row.len() {
            let mut edited = row.clone();
            edited[at] ^= 1;
            assert!(!held.is_of(&edited), "byte {at}");
        }
        let (_, other) = set_aside(&note(), [8; SALT]);
        assert!(!held.is_of(&other.unwrap().1), "the same values under another salt");
    }

    #[test]
    fn a_note_without_values_has_no_row() {
        let note = Note::new(Who::gateway(), "key.forgotten", Millis(1)).on("key_1");
        let note = note.change(json!({"keys": 1, "expires_at": null}), Value::Null);
        assert_eq!(set_aside(&note, [1; SALT]), (note.clone(), None));
        assert!(!has_values(&note));
    }

    #[test]
    fn a_row_that_makes_no_sense_gives_no_note() {
        let (bare, held) = set_aside(&note(), [7; SALT]);
        let (held, _) = held.unwrap();
        for row in [&b""[..], &[0; SALT], b"0123456789abcdef{}", b"0123456789abcdef{\"/after\": 1}"] {
            assert_eq!(put_back(bare.clone(), held.clone(), Some(row)), None);
        }
    }
}
