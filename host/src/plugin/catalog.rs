//! Components by name from the plugin directory, compiled once for each content.

use super::cache::CodeCache;
use super::compiler::Order;
use super::component::{Component, digest};
use super::engine::{EngineRoom, Engines, LARGEST_COMPONENT, LARGEST_MEMORY};
use super::policy::Policy;
use super::room::Rooms;
use super::shelf::Shelf;
use crate::config::{self, Problem, suggest};
use std::cell::Cell;
use std::collections::HashMap;
use std::fs::Metadata;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// The most components that nobody uses and whose code could not be written to the cache: each is held in memory for that.
const MOST_UNUSED: usize = 8;

/// What was compiled in this process and is still in use.
pub struct Catalog {
    engines: Engines,
    compiled: Mutex<HashMap<String, Weak<Component>>>,
    /// What is not in the cache yet: it is to serve first, or could not be written.
    unkept: Mutex<Vec<Arc<Component>>>,
}

impl Catalog {
    /// A catalog on both engines.
    pub fn new(engines: Engines) -> Self {
        Self { engines, compiled: Mutex::default(), unkept: Mutex::default() }
    }

    /// How many instances have room at once.
    pub fn instances(&self) -> usize {
        self.engines.instances()
    }

    /// Has everything compiled again that took too much the last time.
    pub fn try_again(&self) {
        self.engines.compiler().forget();
    }

    /// Has the code that was compiled since, and that of these, found in the cache the next time, whatever became of the component.
    /// What cannot be written is tried again the next time that this is called.
    pub fn keep_code(&self, cache: &CodeCache, more: impl Iterator<Item = Arc<Component>>) {
        let unkept = std::mem::take(&mut *self.unkept());
        let mut failed: Vec<Arc<Component>> = Vec::new();
        for component in unkept.into_iter().chain(more) {
            // Of the same bytes there may be several, for several bounds: one entry is for all of them.
            if !failed.iter().any(|failed| failed.digest == component.digest) && !component.keep_code(cache) {
                failed.push(component);
            }
        }
        let unused = |component: &Arc<Component>| Arc::strong_count(component) == 1;
        let mut surplus = failed.iter().filter(|component| unused(component)).count().saturating_sub(MOST_UNUSED);
        failed.retain(|component| {
            let goes = surplus > 0 && unused(component);
            surplus -= usize::from(goes);
            !goes
        });
        self.unkept().splice(0..0, failed);
    }

    fn unkept(&self) -> MutexGuard<'_, Vec<Arc<Component>>> {
        self.unkept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a compiler stand ready for the next component, where one was compiled before.
    pub fn get_ready(&self, bounds: config::Compile) {
        self.engines.compiler().get_ready(bounds);
    }

    /// Divides the places of each of these workers between these policies.
    pub fn divide(&self, policies: &[Arc<Policy>], workers: usize) -> Rooms {
        Rooms::of(policies, self.engines.places(), workers)
    }

    /// How much room is in use, for each engine that was set up.
    pub fn rooms(&self) -> Vec<EngineRoom> {
        self.engines.rooms()
    }

    /// Whether plugins can be looked for in a directory at all: said once, and not again for each policy.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn look_into(directory: &Path) -> Result<(), Problem> {
        let Err(error) = std::fs::read_dir(directory) else { return Ok(()) };
        let place = directory.display();
        let message = match error.kind() {
            ErrorKind::NotFound => format!("there is no directory {place}"),
            ErrorKind::NotADirectory => format!("{place} is not a directory"),
            _ => format!("{place} cannot be read: {error}"),
        };
        let help = "name the one that holds the components; `cargo xtask components` makes the shipped one";
        Err(Problem::at("plugins.directory", message).suggesting(help.into()))
    }

    /// What a policy's component may be made from, the best first: what is in the directory, then what served last. For a
    /// policy that an operator holds: what it is held to, after anything new in the directory; never what was gone back from,
    /// unless nothing else is left to start with. Kept ones are read when they are come to. Also the digest of what is in the
    /// directory, where that is among them.
    pub fn offers<'a>(
        &self,
        directory: &Path,
        written: &config::Policy,
        shelf: Option<&'a Shelf>,
        starting: bool,
    ) -> (Option<String>, impl Iterator<Item = Offer> + use<'a>) {
        let key = format!("policies.{}", written.name);
        let (there, file) = match read(directory, &written.plugin, &key) {
            // A start takes what it finds: nobody would begin again for it.
            Ok((bytes, file)) => (Ok(bytes), Some(file).filter(|_| !starting)),
            Err(problem) => (Err(problem), None),
        };
        let there = Offer { digest: there.as_deref().map(digest).ok(), bytes: there, kept: false, file };
        let candidates = candidates(there, written, shelf, starting);
        let in_directory = candidates.iter().find_map(|candidate| match candidate {
            Candidate::There(offer) => offer.digest.clone(),
            Candidate::Kept(_) => None,
        });
        let offers = candidates.into_iter().map(move |candidate| match candidate {
            Candidate::There(offer) => offer,
            Candidate::Kept(digest) => {
                let gone = || Problem::at(format!("{key}.plugin"), "a kept version is gone or damaged");
                let bytes = shelf.and_then(|shelf| shelf.component(&digest)).ok_or_else(gone);
                Offer { bytes, digest: Some(digest), kept: true, file: None }
            }
        });
        (in_directory, offers)
    }

    /// The digest of what is in the directory for a policy, where something can be read.
    pub fn digest_in(directory: &Path, written: &config::Policy) -> Option<String> {
        read(directory, &written.plugin, "").map(|(bytes, _)| digest(&bytes)).ok()
    }

    /// The component that is offered for a policy. Compiles: never called on a worker.
    ///
    /// # Errors
    /// Every reason why it cannot be had.
    pub fn load(
        &self,
        offer: &Offer,
        written: &config::Policy,
        cache: Option<&CodeCache>,
        order: &Order<'_>,
    ) -> Result<Arc<Component>, Vec<Problem>> {
        let key = format!("policies.{}", written.name);
        if written.bounds.memory > LARGEST_MEMORY {
            let message = format!("a policy can have at most {} MiB", LARGEST_MEMORY >> 20);
            return Err(vec![Problem::at(format!("{key}.memory"), message)]);
        }
        // What it says of itself depends on the bounds too, as it may not get to the end of it.
        let bounds = &written.bounds;
        let name = format!("{} {bounds:?}", offer.digest.as_deref().unwrap_or_default());
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        compiled.retain(|_, component| component.strong_count() > 0);
        if let Some(component) = compiled.get(&name).and_then(Weak::upgrade) {
            return Ok(component);
        }
        // What is in memory serves on, also when its file is gone.
        let bytes = offer.bytes.as_ref().map_err(|problem| vec![problem.clone()])?;
        let told = |reasons: Vec<String>| {
            let sentence = |reason| {
                let what = offer.kept_version().unwrap_or_else(|| format!("`{}.wasm`", written.plugin));
                Problem::at(format!("{key}.plugin"), format!("{what} cannot be used: {reason}"))
            };
            reasons.into_iter().map(sentence).collect::<Vec<_>>()
        };
        let given_up = || (order.given_up)().or_else(|| offer.overtaken());
        let order = Order { bounds: order.bounds, given_up: &given_up };
        // For other bounds it may be there, and not in the cache yet.
        let alike =
            compiled.values().filter_map(Weak::upgrade).find(|alike| offer.digest.as_ref() == Some(&alike.digest));
        let component = Component::load(&self.engines, bytes, written.bounds, alike.as_deref(), cache, &order);
        let component = Arc::new(component.map_err(told)?);
        compiled.insert(name, Arc::downgrade(&component));
        if component.compiled && alike.is_none() && cache.is_some() {
            self.unkept().push(component.clone());
        }
        Ok(component)
    }
}

/// What may be offered, before it is read.
enum Candidate {
    /// What is in the directory.
    There(Offer),
    /// A version that was kept, by its digest.
    Kept(String),
}

fn candidates(there: Offer, written: &config::Policy, shelf: Option<&Shelf>, starting: bool) -> Vec<Candidate> {
    let Some(shelf) = shelf else { return vec![Candidate::There(there)] };
    let card = shelf.card(&written.name);
    let Some(held) = card.held.filter(|held| held.plugin == written.plugin) else {
        let last = shelf.last(&written.name, &written.plugin).map(|version| version.digest);
        let last = last.filter(|last| there.digest.as_ref() != Some(last)).map(Candidate::Kept);
        return std::iter::once(Candidate::There(there)).chain(last).collect();
    };
    let is_new = there.digest.as_ref().is_some_and(|digest| !held.instead_of.contains(digest));
    let there = Candidate::There(there);
    let (first, last) = if is_new { (Some(there), None) } else { (None, Some(there)) };
    let others = card.versions.into_iter().rev().filter(|version| version.plugin == written.plugin);
    let others = others.map(|version| version.digest).filter(|digest| *digest != held.digest);
    let others = others.filter(|digest| !held.instead_of.contains(digest)).map(Candidate::Kept).collect::<Vec<_>>();
    let held = Candidate::Kept(held.digest);
    first.into_iter().chain([held]).chain(others).chain(last.filter(|_| starting)).collect()
}

/// Bytes that a component may be made from.
pub struct Offer {
    /// The bytes, or why they cannot be had.
    pub bytes: Result<Vec<u8>, Problem>,
    /// Their SHA-256, in hexadecimal.
    pub digest: Option<String>,
    /// Whether they come from the versions that were kept.
    pub kept: bool,
    /// The file that they come from, where another one may take its place.
    file: Option<FileAsRead>,
}

/// A file as it was when it was read.
struct FileAsRead {
    path: PathBuf,
    identity: Cell<(u64, u64)>,
}

impl Offer {
    /// How a version that was kept is called: there is no file that an operator knows.
    pub fn kept_version(&self) -> Option<String> {
        let digest = self.digest.as_deref().filter(|_| self.kept)?;
        Some(format!("the kept version {}", digest.get(..12).unwrap_or(digest)))
    }

    /// Whether another file has taken its place meanwhile, or none is there any more. One that is written over is none such: it
    /// counts when it is whole, and that will be told.
    fn overtaken(&self) -> Option<&'static str> {
        let FileAsRead { path, identity } = self.file.as_ref()?;
        let Ok(now) = std::fs::metadata(path) else { return Some("its file was removed meanwhile") };
        if identity.replace(self::identity(&now)) == self::identity(&now) {
            return None;
        }
        // The same again is no change, and nobody would tell it.
        let same = contents(path).is_ok_and(|(bytes, _)| self.digest.as_ref() == Some(&digest(&bytes)));
        (!same).then_some("another file took its place meanwhile")
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn read(directory: &Path, plugin: &str, key: &str) -> Result<(Vec<u8>, FileAsRead), Problem> {
    let path = directory.join(format!("{plugin}.wasm"));
    let failed = |error: std::io::Error| {
        let key = format!("{key}.plugin");
        if error.kind() != ErrorKind::NotFound {
            let message = format!("{} cannot be read: {error}", path.display());
            let meant = "a component must be a file that this user may read".into();
            return Problem::at(key, message).suggesting(meant);
        }
        let names = available(directory);
        let meant = suggest::nearest(plugin, names.iter().map(String::as_str)).map(suggest::did_you_mean);
        let known = || format!("there are: {}", suggest::listed(names.iter().map(String::as_str)));
        let message = format!("there is no `{plugin}.wasm` in {}", directory.display());
        Problem::at(key, message).suggesting(meant.unwrap_or_else(known))
    };
    let (bytes, identity) = contents(&path).map_err(failed)?;
    let identity = Cell::new(identity);
    if bytes.len() as u64 > LARGEST_COMPONENT {
        let message = format!("{} is larger than {} MiB", path.display(), LARGEST_COMPONENT >> 20);
        return Err(Problem::at(format!("{key}.plugin"), message));
    }
    Ok((bytes, FileAsRead { path, identity }))
}

/// What is in a file, up to a byte more than a component may have, and which file that was.
fn contents(path: &Path) -> std::io::Result<(Vec<u8>, (u64, u64))> {
    // To open a pipe would be to wait for whoever writes into it.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    let file = std::fs::File::open(path)?;
    let identity = identity(&file.metadata()?);
    let mut bytes = Vec::new();
    file.take(LARGEST_COMPONENT + 1).read_to_end(&mut bytes)?;
    Ok((bytes, identity))
}

/// Names of what can be had there. A link that leads nowhere cannot.
fn available(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let components = entries.map(|entry| entry.path()).filter(|path| path.is_file());
    let components = components.filter(|path| path.extension().is_some_and(|extension| extension == "wasm"));
    let mut names: Vec<String> = components.filter_map(|path| path.file_stem()?.to_str().map(str::to_owned)).collect();
    names.sort();
    names
}
