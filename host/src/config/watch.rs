//! Tells when the content of a file, or of the files in a directory, has changed, however it was saved.
//!
//! Never reads meaning into content, and never gives up: what is deleted, replaced or not there yet is looked at again,
//! by the system's notices and by a slow look at the clock, which also serves file systems that send no notices.

mod place;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use place::{Seen, Stamps, Target};

/// Changes that follow one another faster than this are one change.
const QUIET: Duration = Duration::from_millis(50);
/// A place that never comes to rest is looked at so often all the same.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often a place is looked at without a notice.
const ROUND: Duration = Duration::from_secs(2);

/// Why something cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The path is relative, and there is no working directory that it could be relative to.
    #[error("the path {path} cannot be watched, for it cannot be made absolute; give an absolute one")]
    Path {
        /// As given.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// No thread could be started.
    #[error("no thread could be started to watch {path}; check the limit on threads")]
    Thread {
        /// As given.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Watches for as long as it lives; after it was dropped, nobody is called any more.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    wake: SyncSender<()>,
    thread: Option<JoinHandle<()>>,
}

/// Calls `on_change` on a thread of its own when the content of the file is another than at the time of this call, or
/// than at the last call back; a deletion and a return count as changes. Symbolic links are followed and watched too.
/// Begin to watch before the first reading, so that no change falls in between.
///
/// # Errors
/// [`WatchError`], only at the start. A file or directory that is not there is not an error: it may come.
pub fn watch(path: &Path, on_change: impl FnMut() + Send + 'static) -> Result<Watch, WatchError> {
    start(path, Target::File, on_change)
}

/// As [`watch`], for all files right in a directory whose names end in `.<extension>`. Files here may be large and slow to
/// come, so a change is told when whoever wrote it has closed it, or put it into its place by a rename or a link: then at
/// once. Without such a notice it is told when a file has stayed as it is from one look at the clock to the next.
///
/// # Errors
/// As [`watch`].
pub fn watch_directory(
    path: &Path,
    extension: &str,
    on_change: impl FnMut() + Send + 'static,
) -> Result<Watch, WatchError> {
    start(path, Target::Directory { extension: extension.to_owned() }, on_change)
}

fn start(path: &Path, target: Target, on_change: impl FnMut() + Send + 'static) -> Result<Watch, WatchError> {
    let whole = std::path::absolute(path).map_err(|source| WatchError::Path { path: path.to_owned(), source })?;
    // One place: a second notice before the first was seen says nothing new.
    let (wake, notices) = sync_channel(1);
    let stop = Arc::new(AtomicBool::new(false));
    let notifier = notifier(wake.clone(), matches!(target, Target::Directory { .. }));
    if notifier.is_none() {
        tracing::warn!(path = %whole.display(), "the system sends no notices of changed files; looking every 2 s instead");
    }
    let mut round = Round {
        path: whole,
        target,
        notifier,
        watched: Vec::new(),
        seen: Seen::default(),
        resting: None,
        stop: stop.clone(),
    };
    // Both before this function returns: what changes from now on is seen.
    round.follow();
    round.seen = Seen::look(&round.path, &round.target, &Seen::default());
    let thread = thread::Builder::new()
        .name("portico-watch".to_owned())
        .spawn(move || round.run(&notices, on_change))
        .map_err(|source| WatchError::Thread { path: path.to_owned(), source })?;
    Ok(Watch { stop, wake, thread: Some(thread) })
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Full means that it wakes anyway.
        let _ = self.wake.try_send(());
        // From within the call back, the thread would wait for itself.
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != thread::current().id()) {
            let _ = thread.join();
        }
    }
}

fn notifier(wake: SyncSender<()>, whole_only: bool) -> Option<RecommendedWatcher> {
    let handler = move |event: notify::Result<notify::Event>| {
        let matters =
            event.map_or(true, |event| if whole_only { is_whole(&event.kind) } else { is_change(&event.kind) });
        if matters {
            let _ = wake.try_send(());
        }
    };
    notify::recommended_watcher(handler).ok()
}

/// Reading counts as access; our own looks must not wake us.
fn is_change(kind: &EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if *access != AccessKind::Close(AccessMode::Write))
}

/// Whether what happened leaves a file as it is meant to be. Only Linux tells when a writer closes a file.
fn is_whole(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(access) => *access == AccessKind::Close(AccessMode::Write),
        EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => true,
        // A link is whole when it is there, and so is a directory; a file that is made is still empty, and tells nothing.
        EventKind::Create(made) => *made != CreateKind::File,
        EventKind::Modify(_) => !cfg!(target_os = "linux"),
        EventKind::Any | EventKind::Other => true,
    }
}

/// The thread's own state.
struct Round {
    path: PathBuf,
    target: Target,
    notifier: Option<RecommendedWatcher>,
    /// Directories with notices, and which directory stood there at the time.
    watched: Vec<(PathBuf, place::Identity)>,
    seen: Seen,
    /// What a look at the clock found changed, until the next one finds it so again.
    resting: Option<Stamps>,
    stop: Arc<AtomicBool>,
}

impl Round {
    fn run(mut self, notices: &Receiver<()>, mut on_change: impl FnMut()) {
        loop {
            let noticed = match notices.recv_timeout(ROUND) {
                Ok(()) => self.settle(notices),
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            self.follow();
            if (noticed || self.came_to_rest()) && self.changed() {
                let called = std::panic::catch_unwind(std::panic::AssertUnwindSafe(&mut on_change));
                if called.is_err() {
                    // The hook has said where; the next change is looked at all the same.
                    tracing::error!(path = %self.path.display(), "a change could not be taken up");
                }
            }
        }
    }

    /// Without a notice, files are read again only if their dates or sizes say so; in a directory, if they have said the same
    /// the last time too.
    fn came_to_rest(&mut self) -> bool {
        let now = Stamps::look(&self.path, &self.target);
        if self.seen.is_of(&now) {
            self.resting = None;
            return false;
        }
        let rests = matches!(self.target, Target::File) || self.resting.as_ref() == Some(&now);
        self.resting = (!rests).then_some(now);
        rests
    }

    /// Waits until nothing has happened for a while, where notices may come before a file is whole; `true`.
    fn settle(&self, notices: &Receiver<()>) -> bool {
        if matches!(self.target, Target::Directory { .. }) {
            return true;
        }
        let end = Instant::now() + PATIENCE;
        while !self.stop.load(Ordering::Acquire) && Instant::now() < end {
            if notices.recv_timeout(QUIET).is_err() {
                break;
            }
        }
        true
    }

    fn changed(&mut self) -> bool {
        let now = Seen::look(&self.path, &self.target, &self.seen);
        let changed = !now.same_content(&self.seen);
        self.seen = now;
        changed
    }

    /// Has notices sent for every directory that the path leads through by a link or ends in, as they are now.
    fn follow(&mut self) {
        let Some(notifier) = &mut self.notifier else { return };
        let wanted = place::directories(&self.path, &self.target);
        self.watched.retain(|kept| {
            let still = wanted.contains(kept);
            if !still {
                // An error says that the directory is gone, and its notices with it.
                let _ = notifier.unwatch(&kept.0);
            }
            still
        });
        for directory in wanted {
            if !self.watched.contains(&directory) && notifier.watch(&directory.0, RecursiveMode::NonRecursive).is_ok() {
                self.watched.push(directory);
            }
        }
    }
}

#[cfg(test)]
mod tests;
