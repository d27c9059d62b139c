//! Compiled code on disk: what was compiled once is read the next time.
//!
//! Loading compiled code is running it. So nothing is loaded that this gateway did not write itself: each entry is
//! authenticated under a key derived from the master key, which no copy of the data directory holds. An entry that does not
//! verify is compiled again, and replaced.

use super::engine::Engine;
use crate::data::{self, DataDirectory};
use crate::seal::Vault;
use ring::digest::{SHA256, digest};
use ring::hmac;
use std::fs::{self, DirBuilder, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;
use std::time::SystemTime;
use wasmtime::component::Component as Compiled;

/// Bytes that all entries may have together; those that were written or read longest ago go first.
const MOST_BYTES: u64 = 1 << 30;
/// The tag before the code.
const TAG: usize = 32;

/// The entries in a data directory.
#[derive(Debug)]
pub struct CodeCache {
    directory: PathBuf,
    key: hmac::Key,
}

impl CodeCache {
    /// The cache in a data directory.
    ///
    /// # Errors
    /// When its directory cannot be made.
    pub fn open(data: &DataDirectory, vault: &Vault) -> io::Result<Self> {
        let directory = data.path().join("cache");
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*vault.derive("compiled code"));
        Ok(Self { directory, key })
    }

    /// The compiled code of a component with this digest, for this engine.
    pub(super) fn find(&self, engine: &Engine, component: &str) -> Option<Compiled> {
        let name = name(engine, component);
        let entry = fs::read(self.place(&name)).ok()?;
        let Some(code) = self.verified(&name, &entry) else {
            tracing::warn!(component, "an entry of the code cache does not verify; the component is compiled again");
            return None;
        };
        // What is in use is not what goes first. A date that cannot be set costs some time later, and nothing else.
        let _ =
            File::options().write(true).open(self.place(&name)).and_then(|file| file.set_modified(SystemTime::now()));
        load(engine, code)
            .inspect_err(|error| tracing::warn!(component, "an entry of the code cache does not load: {error:#}"))
            .ok()
    }

    /// Keeps compiled code; whether it is there now. A disk that is full costs the next start some time, and nothing else.
    pub(super) fn keep(&self, engine: &Engine, component: &str, compiled: &Compiled) -> bool {
        let name = name(engine, component);
        let place = self.place(&name);
        if place.exists() {
            return true;
        }
        let kept = compiled.serialize().map_err(|error| error.to_string()).and_then(|code| {
            // In two parts: joined they would stand in memory once more.
            data::write_verified(&place, &[self.tag(&name, &code).as_ref(), &code]).map_err(|error| error.to_string())
        });
        match kept {
            Ok(()) => self.sweep(),
            Err(error) => {
                tracing::warn!(component, "compiled code cannot be kept in {}: {error}", place.display());
                return false;
            }
        }
        true
    }

    /// Removes an entry that turned out to be of no use, so that a good one can take its place.
    pub(super) fn forget(&self, engine: &Engine, component: &str) {
        // What is not there need not go.
        let _ = fs::remove_file(self.place(&name(engine, component)));
    }

    fn verified<'e>(&self, name: &str, entry: &'e [u8]) -> Option<&'e [u8]> {
        let (tag, code) = entry.split_at_checked(TAG)?;
        hmac::verify(&self.key, &signed(name, code), tag).ok()?;
        Some(code)
    }

    fn tag(&self, name: &str, code: &[u8]) -> hmac::Tag {
        hmac::sign(&self.key, &signed(name, code))
    }

    fn place(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn sweep(&self) {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let sized = entries.filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            Some((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), metadata.size(), entry.path()))
        });
        let mut all: Vec<_> = sized.collect();
        all.sort();
        let mut sum: u64 = all.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in all {
            if sum <= MOST_BYTES {
                break;
            }
            if fs::remove_file(path).is_ok() {
                sum -= size;
            }
        }
    }
}

/// What the tag is over: the name is fixed in length, so no entry can pass for another one.
fn signed(name: &str, code: &[u8]) -> Vec<u8> {
    [digest(&SHA256, name.as_bytes()).as_ref(), digest(&SHA256, code).as_ref()].concat()
}

/// By component, gateway, engine and its settings: another one of them never finds it.
fn name(engine: &Engine, component: &str) -> String {
    let mut settings = DefaultHasher::new();
    engine.wasm().precompile_compatibility_hash().hash(&mut settings);
    format!("{component}-{}-{:016x}.code", env!("CARGO_PKG_VERSION"), settings.finish())
}

#[allow(unsafe_code, reason = "the one place where compiled code is loaded; wasmtime cannot check what it is given")]
pub(super) fn load(engine: &Engine, code: &[u8]) -> wasmtime::Result<Compiled> {
    // SAFETY: these bytes are what wasmtime serialized: in a gateway that held this master key, as the caller has verified, or
    // in a child that this process started and whose answer it has as a whole; wasmtime itself checks that they are of its own
    // version and settings.
    unsafe { Compiled::deserialize(engine.wasm(), code) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Compile, SecretSource};
    use crate::plugin::compiler::{Compiler, Order};
    use std::sync::Arc;
    use std::time::Duration;

    /// A component without anything in it.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    fn compiled(engine: &Engine) -> Compiled {
        let bounds = Compile { time: Duration::from_secs(60), memory: 1 << 30 };
        engine.compile(EMPTY, &Order { bounds, given_up: &|| None }).unwrap()
    }

    fn cache(place: &tempfile::TempDir) -> (DataDirectory, CodeCache) {
        let data = DataDirectory::open(&place.path().join("data")).unwrap();
        let vault = Vault::open(&SecretSource::File(place.path().join("master.key")), &data).unwrap();
        let cache = CodeCache::open(&data, &vault).unwrap();
        (data, cache)
    }

    fn entry(cache: &CodeCache) -> PathBuf {
        fs::read_dir(&cache.directory).unwrap().next().unwrap().unwrap().path()
    }

    #[test]
    fn what_was_kept_is_found_and_nothing_that_was_changed() {
        let place = tempfile::tempdir().unwrap();
        let (_data, cache) = cache(&place);
        let engine = Engine::start_pure(16, Arc::new(Compiler::here())).unwrap();
        let compiled = compiled(&engine);
        assert!(cache.find(&engine, "one").is_none());
        cache.keep(&engine, "one", &compiled);
        assert!(cache.find(&engine, "one").is_some());
        assert!(cache.find(&engine, "two").is_none());

        let path = entry(&cache);
        let whole = fs::read(&path).unwrap();
        for position in [0, TAG - 1, TAG, whole.len() / 2, whole.len() - 1] {
            let mut flipped = whole.clone();
            flipped[position] ^= 1;
            fs::write(&path, flipped).unwrap();
            assert!(cache.find(&engine, "one").is_none(), "bit at {position}");
        }
        for length in [0, TAG - 1, TAG, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(cache.find(&engine, "one").is_none(), "cut to {length}");
        }
        // An entry under another name is another component's.
        fs::write(path.with_file_name(name(&engine, "two")), &whole).unwrap();
        assert!(cache.find(&engine, "two").is_none());
        cache.forget(&engine, "one");
        cache.keep(&engine, "one", &compiled);
        assert!(cache.find(&engine, "one").is_some());
    }

    /// Written by this gateway with another version of the engine, and so authentic: the engine itself says no.
    #[test]
    fn what_another_engine_compiled_is_ignored_and_replaced() {
        let place = tempfile::tempdir().unwrap();
        let (_data, cache) = cache(&place);
        let engine = Engine::start_pure(16, Arc::new(Compiler::here())).unwrap();
        let mut settings = super::super::engine::code_settings();
        settings.module_version(wasmtime::ModuleVersionStrategy::Custom("another".into())).unwrap();
        let another = wasmtime::Engine::new(&settings).unwrap().precompile_component(EMPTY).unwrap();
        let name = name(&engine, "one");
        for code in [&another[..], b"no code", b""] {
            let entry = [cache.tag(&name, code).as_ref(), code].concat();
            fs::write(cache.place(&name), &entry).unwrap();
            assert!(cache.verified(&name, &entry).is_some(), "it is authentic");
            assert!(cache.find(&engine, "one").is_none());
        }
        cache.forget(&engine, "one");
        cache.keep(&engine, "one", &compiled(&engine));
        assert!(cache.find(&engine, "one").is_some());
        // Found by a gateway of another version or settings it is not: they are part of its name.
        let mut names = fs::read_dir(&cache.directory).unwrap();
        assert!(names.next().unwrap().unwrap().file_name().to_str().unwrap().contains(env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn another_master_key_loads_nothing() {
        let place = tempfile::tempdir().unwrap();
        let (data, first) = cache(&place);
        let engine = Engine::start_pure(16, Arc::new(Compiler::here())).unwrap();
        first.keep(&engine, "one", &compiled(&engine));
        let other = tempfile::tempdir().unwrap();
        let (_other_data, mut second) = cache(&other);
        second.directory = data.path().join("cache");
        assert!(first.find(&engine, "one").is_some());
        assert!(second.find(&engine, "one").is_none());
    }

    #[test]
    fn a_disk_that_takes_nothing_is_no_error() {
        let place = tempfile::tempdir().unwrap();
        let (_data, mut cache) = cache(&place);
        let engine = Engine::start_pure(16, Arc::new(Compiler::here())).unwrap();
        cache.directory = place.path().join("not there");
        assert!(!cache.keep(&engine, "one", &compiled(&engine)));
        assert!(cache.find(&engine, "one").is_none());
    }
}
