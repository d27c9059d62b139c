//! Components by name from the plugin directory, compiled once for each content.

use super::component::{Component, digest};
use super::engine::{Engine, LARGEST_COMPONENT, LARGEST_MEMORY};
use crate::config::{self, Problem, suggest};
use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// What was compiled in this process and is still in use.
pub struct Catalog {
    engine: Engine,
    compiled: Mutex<HashMap<String, Weak<Component>>>,
}

impl Catalog {
    /// A catalog on an engine.
    pub fn new(engine: Engine) -> Self {
        Self { engine, compiled: Mutex::default() }
    }

    /// How many instances have room at once.
    pub fn instances(&self) -> usize {
        self.engine.instances()
    }

    /// The component that a policy names. Compiles: never called on a worker.
    ///
    /// # Errors
    /// Every reason why it cannot be had.
    pub fn find(&self, directory: &Path, written: &config::Policy) -> Result<Arc<Component>, Vec<Problem>> {
        let key = format!("policies.{}", written.name);
        if written.bounds.memory > LARGEST_MEMORY {
            let message = format!("a policy can have at most {} MiB", LARGEST_MEMORY >> 20);
            return Err(vec![Problem::at(format!("{key}.memory"), message)]);
        }
        let bytes = read(directory, &written.plugin, &key).map_err(|problem| vec![problem])?;
        // What it says of itself depends on the bounds too, as it may not get to the end of it.
        let bounds = &written.bounds;
        let name = format!("{} {bounds:?}", digest(&bytes));
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        compiled.retain(|_, component| component.strong_count() > 0);
        if let Some(component) = compiled.get(&name).and_then(Weak::upgrade) {
            return Ok(component);
        }
        let told = |reasons: Vec<String>| {
            let sentence = |reason| {
                Problem::at(format!("{key}.plugin"), format!("`{}.wasm` cannot be used: {reason}", written.plugin))
            };
            reasons.into_iter().map(sentence).collect::<Vec<_>>()
        };
        let component = Arc::new(Component::load(&self.engine, &bytes, written.bounds).map_err(told)?);
        compiled.insert(name, Arc::downgrade(&component));
        Ok(component)
    }
}

fn read(directory: &Path, plugin: &str, key: &str) -> Result<Vec<u8>, Problem> {
    let path = directory.join(format!("{plugin}.wasm"));
    let failed = |error: std::io::Error| {
        let key = format!("{key}.plugin");
        if error.kind() != std::io::ErrorKind::NotFound {
            return Problem::at(key, format!("{} cannot be read: {error}", path.display()));
        }
        match available(directory) {
            Err(error) => Problem::at(
                "plugins.directory",
                format!(
                    "{} cannot be read: {error}; `cargo xtask components` makes the shipped one",
                    directory.display()
                ),
            ),
            Ok(names) => {
                let meant = suggest::nearest(plugin, names.iter().map(String::as_str)).map(suggest::did_you_mean);
                let known = || format!("there are: {}", suggest::listed(names.iter().map(String::as_str)));
                let message = format!("there is no `{plugin}.wasm` in {}", directory.display());
                Problem::at(key, message).suggesting(meant.unwrap_or_else(known))
            }
        }
    };
    let file = std::fs::File::open(&path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(LARGEST_COMPONENT + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST_COMPONENT {
        let message = format!("{} is larger than {} MiB", path.display(), LARGEST_COMPONENT >> 20);
        return Err(Problem::at(format!("{key}.plugin"), message));
    }
    Ok(bytes)
}

fn available(directory: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wasm")
            && let Some(name) = path.file_stem().and_then(|stem| stem.to_str())
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}
