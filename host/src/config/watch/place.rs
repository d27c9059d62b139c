//! What stands at a watched path: its content as a digest, its dates, and the directories to have notices from.
//!
//! Digests only tell changes; nothing is trusted because of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::hash::{DefaultHasher, Hasher};
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Files of one directory that are looked at, and bytes of one file; what is beyond does not tell changes.
const MOST_FILES: usize = 10_000;
const MOST_BYTES: u64 = 256 * 1024 * 1024;
/// Dates of files are as fine as the system's clock ticks, or as its file system counts: two seconds at most.
const SETTLED: Duration = Duration::from_secs(3);
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
    /// Whether it had not been touched for [`SETTLED`] when it was read: then every later write shows in the stamp.
    settled: bool,
}

/// What tells without reading that a file was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    identity: Identity,
    length: u64,
    written: Option<SystemTime>,
    /// When anything about it changed last, its dates included; nobody can set this.
    touched: Option<Duration>,
}

impl Seen {
    /// Reads what is there now, save for files that nobody can have written since they were read the last time.
    pub(super) fn look(path: &Path, target: &Target, before: &Self) -> Self {
        let look = |(name, path): (OsString, PathBuf)| {
            let stamp = Stamp::of(&fs::metadata(&path).ok()?);
            if let Some(known) = before.files.get(&name).filter(|known| known.settled && known.stamp == stamp) {
                return Some((name, *known));
            }
            // Asked before it is read: what is written meanwhile is touched after this.
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok();
            let rest = stamp.touched.zip(now).and_then(|(touched, now)| now.checked_sub(touched));
            let settled = rest.is_some_and(|rest| rest > SETTLED);
            // What is there and cannot be read is not the same as nothing: the reader will say why.
            let digest = digest(&path);
            Some((name, Look { stamp, digest: digest.unwrap_or(0), settled: settled && digest.is_some() }))
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
        let (identity, touched) = (identity(metadata), touched(metadata));
        Self { identity, length: metadata.len(), written: metadata.modified().ok(), touched }
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

#[cfg(unix)]
fn touched(metadata: &Metadata) -> Option<Duration> {
    use std::os::unix::fs::MetadataExt;
    let (seconds, nanos) = (metadata.ctime().try_into().ok()?, metadata.ctime_nsec().try_into().ok()?);
    Some(Duration::new(seconds, nanos))
}

/// Not known: then everything is read each time.
#[cfg(not(unix))]
fn touched(_: &Metadata) -> Option<Duration> {
    None
}

#[cfg(not(unix))]
fn identity(metadata: &Metadata) -> Identity {
    // Without inode numbers, a file that took another's place is told by when it was made.
    let since = metadata.created().ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    (0, since.map_or(0, |since| since.as_nanos() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_that_rests_is_not_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.wasm");
        fs::write(&path, "first").unwrap();
        let look = |before: &Seen| Seen::look(&path, &Target::File, before);
        let of = |seen: &Seen| seen.files[&OsString::new()];
        let first = look(&Seen::default());
        assert!(!of(&first).settled, "written a moment ago");
        // As if it had been read long after it was written: what was read then is taken over.
        let known = Look { digest: 42, settled: true, ..of(&first) };
        let known = Seen { files: [(OsString::new(), known)].into() };
        assert_eq!(of(&look(&known)).digest, 42);
        // The same length, and the date set back: it was touched all the same.
        let dates = fs::File::open(&path).unwrap().metadata().unwrap().modified().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        fs::write(&path, "other").unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(dates).unwrap();
        let after = of(&look(&known));
        assert_ne!(after.digest, 42);
        assert_ne!(after.digest, of(&first).digest);
        assert_eq!((after.stamp.length, after.stamp.written), (5, of(&first).stamp.written));
        let unsettled = Seen { files: [(OsString::new(), Look { digest: 42, settled: false, ..after })].into() };
        assert_eq!(of(&look(&unsettled)).digest, after.digest);
    }
}
