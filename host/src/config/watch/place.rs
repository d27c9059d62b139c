//! What stands at a watched path: its content as a digest, its dates, and the directories to have notices from.
//!
//! Digests only tell changes; nothing is trusted because of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::hash::{DefaultHasher, Hasher};
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

/// Files of one directory that are looked at, and bytes of one file; what is beyond does not tell changes.
const MOST_FILES: usize = 10_000;
const MOST_BYTES: u64 = 256 * 1024 * 1024;
/// As many links as Linux follows in one path.
const MOST_LINKS: usize = 40;

/// What of a path is watched.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// The file.
    File,
    /// The files right in the directory with this extension.
    Directory {
        /// Without the dot.
        extension: String,
    },
}

/// Which file or directory, whatever its name.
pub(super) type Identity = (u64, u64);

/// What was there at one time. A file that is not there is not in it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    files: BTreeMap<OsString, Look>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    stamp: Stamp,
    digest: u64,
}

/// What tells without reading that a file was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    identity: Identity,
    length: u64,
    written: Option<SystemTime>,
}

impl Seen {
    /// Reads what is there now.
    pub(super) fn look(path: &Path, target: &Target) -> Self {
        let look = |(name, path): (OsString, PathBuf)| {
            let stamp = Stamp::of(&fs::metadata(&path).ok()?);
            // What is there and cannot be read is not the same as nothing: the reader will say why.
            let digest = digest(&path).unwrap_or(0);
            Some((name, Look { stamp, digest }))
        };
        Self { files: files(path, target).into_iter().filter_map(look).collect() }
    }

    /// Whether both hold the same names with the same content, whenever it was written.
    pub(super) fn same_content(&self, other: &Self) -> bool {
        let digests =
            |seen: &'_ Self| seen.files.iter().map(|(name, look)| (name.clone(), look.digest)).collect::<Vec<_>>();
        digests(self) == digests(other)
    }

    /// Whether names, dates and sizes are these.
    pub(super) fn is_of(&self, stamps: &Stamps) -> bool {
        stamps.0.iter().map(|(name, stamp)| (name, *stamp)).eq(self.files.iter().map(|(name, look)| (name, look.stamp)))
    }
}

/// Names, dates and sizes at one time, without a look into any file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamps(BTreeMap<OsString, Stamp>);

impl Stamps {
    /// As they are now.
    pub(super) fn look(path: &Path, target: &Target) -> Self {
        let stamp = |(name, path): (OsString, PathBuf)| Some((name, Stamp::of(&fs::metadata(&path).ok()?)));
        Self(files(path, target).into_iter().filter_map(stamp).collect())
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self { identity: identity(metadata), length: metadata.len(), written: metadata.modified().ok() }
    }
}

/// Directories whose entries decide what the path leads to: those that hold a link of the path, and the last one.
pub(super) fn directories(path: &Path, target: &Target) -> Vec<(PathBuf, Identity)> {
    let mut found = Vec::new();
    let mut at = PathBuf::new();
    let mut ahead: Vec<OsString> = reversed(path);
    let mut links = 0;
    while let Some(part) = ahead.pop() {
        if part == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&part);
        let link = fs::read_link(&next).ok().filter(|_| links < MOST_LINKS);
        // The last directory that is there: from it comes the notice that a missing one was made.
        if link.is_some() || ahead.is_empty() || !next.exists() {
            found.push(at.clone());
        }
        match link {
            Some(to) => {
                links += 1;
                if to.is_absolute() {
                    at = PathBuf::new();
                }
                ahead.extend(reversed(&to));
            }
            None if next.exists() || ahead.is_empty() => at = next,
            None => break,
        }
    }
    if matches!(target, Target::Directory { .. }) && at.is_dir() {
        found.push(at);
    }
    let mut found: Vec<_> =
        found.into_iter().filter_map(|path| fs::metadata(&path).ok().map(|it| (path, identity(&it)))).collect();
    found.sort();
    found.dedup();
    found
}

/// The parts of a path, the last one first; the root stands as a part.
fn reversed(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    parts.rev().map(|part| part.as_os_str().to_owned()).collect()
}

fn files(path: &Path, target: &Target) -> Vec<(OsString, PathBuf)> {
    match target {
        Target::File => vec![(OsString::new(), path.to_owned())],
        Target::Directory { extension } => {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            let fits = |path: &PathBuf| path.extension().is_some_and(|it| it == extension.as_str());
            let fitting = entries.map(|entry| (entry.file_name(), entry.path())).filter(|(_, path)| fits(path));
            fitting.take(MOST_FILES).collect()
        }
    }
}

fn digest(path: &Path) -> Option<u64> {
    // A pipe would block, and a device would not end.
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut file = File::open(path).ok()?.take(MOST_BYTES);
    let mut hasher = DefaultHasher::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer).ok()? {
            0 => return Some(hasher.finish() | 1),
            read => hasher.write(&buffer[..read]),
        }
    }
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn identity(metadata: &Metadata) -> Identity {
    // Without inode numbers, a file that took another's place is told by when it was made.
    let since = metadata.created().ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    (0, since.map_or(0, |since| since.as_nanos() as u64))
}
