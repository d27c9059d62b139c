//! The OpenAPI documents of pillars, as a snapshot has them: read from their files, and the last good one where one went bad.
//!
//! A document says what is there, and changes nothing of it: none that is bad holds up a start, or a change of something else.

use super::Ingredients;
use crate::config::{Config, OpenApi, Problem};
use crate::openapi::{self, Document, Fault};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// The documents of pillars that have one, by name.
pub type Documents = BTreeMap<String, Arc<Document>>;

/// Reads the documents of a configuration. One that is bad is a problem where it is new, and otherwise only told.
pub(super) fn read(config: &Config, from: &Ingredients<'_>, problems: &mut Vec<Problem>) -> Documents {
    let mut documents = Documents::new();
    for (name, pillar) in &config.pillars {
        let Some(source) = &pillar.openapi else { continue };
        let file = match source {
            OpenApi::File(file) => file,
            // Whatever came of that has been told.
            OpenApi::Upstream { path, .. } => {
                let fetched = pillar.upstream.as_deref().and_then(|upstream| from.fetched.find(name, upstream, path));
                documents.extend(fetched.map(|document| (name.clone(), document)));
                continue;
            }
        };
        let key = format!("pillars.{name}.openapi");
        let before = from.earlier.and_then(|earlier| {
            let same = earlier.config.pillars.get(name)?.openapi.as_ref() == Some(source);
            earlier.documents.get(name).filter(|_| same)
        });
        match document(file, before) {
            Ok(read) => drop(documents.insert(name.clone(), read)),
            Err(wrong) => match before {
                Some(before) => {
                    tracing::error!("{key}: {}; what was read before goes on", wrong.join("; "));
                    documents.insert(name.clone(), before.clone());
                }
                None if from.starts || has_tried(from, name, source) => {
                    tracing::error!(
                        "{key}: {}; the pillar is not in the OpenAPI document until it is right",
                        wrong.join("; ")
                    );
                }
                None => problems.extend(wrong.into_iter().map(|sentence| Problem::at(&key, sentence))),
            },
        }
    }
    documents
}

/// Whether the running configuration names the same document, and came up without it.
fn has_tried(from: &Ingredients<'_>, name: &str, source: &OpenApi) -> bool {
    let before = from.earlier.and_then(|earlier| earlier.config.pillars.get(name));
    before.is_some_and(|before| before.openapi.as_ref() == Some(source))
}

/// The document in a file; the one before where it says the same.
fn document(path: &Path, before: Option<&Arc<Document>>) -> Result<Arc<Document>, Vec<String>> {
    let bytes = bytes(path).map_err(|error| vec![format!("{} cannot be read: {error}", path.display())])?;
    if let Some(before) = before.filter(|before| before.is_of(&bytes)) {
        return Ok(before.clone());
    }
    let told =
        |faults: Vec<Fault>| faults.iter().map(|fault| format!("{}: {fault}", path.display())).collect::<Vec<_>>();
    let read = Document::read(&bytes).map_err(told)?;
    let known = before.filter(|before| before.digest() == read.digest()).cloned();
    Ok(known.unwrap_or_else(|| read.into()))
}

/// At most one byte more than a document may have, whatever the file turns out to be.
fn bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if !path.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    File::open(path)?.take(openapi::LARGEST as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
