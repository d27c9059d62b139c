//! Documents that services gave themselves: the last good one of each, in memory and in the data directory.
//!
//! In the directory, so that a service that is down when the gateway starts takes nothing away. Never read for another upstream
//! or another path than it came from.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::Value;

use super::Document;
use crate::data::write_private;

/// The documents, by pillar.
#[derive(Debug, Default)]
pub struct Fetched {
    known: Mutex<BTreeMap<String, Known>>,
    directory: OnceLock<PathBuf>,
}

#[derive(Debug, Clone, PartialEq)]
struct Known {
    upstream: String,
    path: String,
    document: Arc<Document>,
}

impl Fetched {
    /// From now on they are kept in this directory, which is made where it is missing. What is there and cannot be read is as good as
    /// nothing: it will be fetched.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn keep_in(&self, directory: PathBuf) -> io::Result<()> {
        fs::create_dir_all(&directory)?;
        let mut known = self.known();
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let Some(pillar) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")) else { continue };
            if let Some(found) = fs::read(&path).ok().and_then(|bytes| read(&bytes)) {
                known.entry(pillar.to_owned()).or_insert(found);
            }
        }
        // Set once: nobody else has it yet.
        let _ = self.directory.set(directory);
        Ok(())
    }

    /// What this upstream of a pillar gave at this path last.
    pub fn find(&self, pillar: &str, upstream: &str, path: &str) -> Option<Arc<Document>> {
        let known = self.known();
        let found = known.get(pillar).filter(|known| known.upstream == upstream && known.path == path);
        found.map(|known| known.document.clone())
    }

    /// Takes what came; whether it says something else than before. What cannot be kept is known until the end all the same.
    pub fn take(&self, pillar: &str, upstream: &str, path: &str, document: Document) -> bool {
        if self.find(pillar, upstream, path).is_some_and(|known| known.digest() == document.digest()) {
            return false;
        }
        let head = Value::from(vec![upstream, path]).to_string();
        let bytes = [head.as_bytes(), b"\n", document.value.to_string().as_bytes()].concat();
        let kept =
            self.directory.get().map(|directory| write_private(&directory.join(format!("{pillar}.json")), &bytes));
        if let Some(Err(error)) = kept {
            tracing::warn!(pillar, "an OpenAPI document is not kept for the next start: {error}");
        }
        let known = Known { upstream: upstream.to_owned(), path: path.to_owned(), document: document.into() };
        self.known().insert(pillar.to_owned(), known);
        true
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        // Each change is one insert.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What [`Fetched::take`] wrote.
fn read(bytes: &[u8]) -> Option<Known> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let [upstream, path] = serde_json::from_slice::<[String; 2]>(&bytes[..end]).ok()?;
    let document = Document::read(&bytes[end + 1..]).ok()?;
    Some(Known { upstream, path, document: document.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(title: &str) -> Document {
        let text = format!(r#"{{"openapi": "3.1.0", "info": {{"title": "{title}", "version": "1"}}, "paths": {{}}}}"#);
        Document::read(text.as_bytes()).expect("a document")
    }

    #[test]
    fn the_last_one_is_there_after_a_start_and_for_nobody_else() {
        let place = tempfile::tempdir().expect("a directory");
        let fetched = Fetched::default();
        fetched.keep_in(place.path().join("documents")).expect("it is made");
        assert!(fetched.take("connect", "rooms", "/openapi.json", document("Rooms")));
        assert!(!fetched.take("connect", "rooms", "/openapi.json", document("Rooms")), "the same");
        assert!(fetched.take("connect", "rooms", "/openapi.json", document("Halls")));
        std::fs::write(place.path().join("documents/pay.json"), "nonsense").expect("written");
        let again = Fetched::default();
        again.keep_in(place.path().join("documents")).expect("it is there");
        for fetched in [fetched, again] {
            let found = fetched.find("connect", "rooms", "/openapi.json").expect("it is known");
            assert_eq!(found.about(), "Halls");
            assert_eq!(fetched.find("connect", "others", "/openapi.json"), None);
            assert_eq!(fetched.find("connect", "rooms", "/other.json"), None);
            assert_eq!(fetched.find("pay", "rooms", "/openapi.json"), None);
        }
    }
}
