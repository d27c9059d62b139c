//! The database of a running gateway at one moment, without holding its writers up; and a fresh one that rows are put into.
//!
//! Rows are read as they are, one after the other, while whatever changes is written down beside them. At the moment itself an
//! empty transaction keeps all writers out for as long as it takes to write down the last of that: what was read, with all that
//! changed put over it, is then how everything was at that moment.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use sled::transaction::{ConflictableTransactionError, TransactionError};
use sled::{Event, Subscriber, Tree};

use super::spool::Spool;
use crate::data::{Database, Failure};

/// Between two looks at what has changed. A tree has room for 1,024 changes meanwhile; a writer beyond that waits as long.
const LOOK: Duration = Duration::from_millis(5);
/// Changes of one tree that are taken out before the others have their turn.
const TURN: usize = 1_024;

/// A database whose changes are written down.
pub(super) struct Watch {
    trees: Vec<Tree>,
    changed: Arc<Mutex<Changed>>,
    failing: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What has changed since.
struct Changed {
    subscribers: Vec<(Vec<u8>, Subscriber)>,
    spool: Option<Spool>,
    failed: Option<io::Error>,
    /// Whether there is that, for those who must not wait.
    failing: Arc<AtomicBool>,
}

impl Watch {
    /// Begins to write down what changes.
    pub(super) fn begin(database: &Database, spool: Spool) -> Result<Self, Failure> {
        let names = database.names();
        let trees = names.iter().map(|name| database.tree_named(name)).collect::<Result<Vec<_>, _>>()?;
        let (failing, ended): (Arc<AtomicBool>, Arc<AtomicBool>) = Default::default();
        let changed = Changed { subscribers: Vec::new(), spool: Some(spool), failed: None, failing: failing.clone() };
        let mut watch = Self { trees, changed: Arc::new(Mutex::new(changed)), failing, ended, thread: None };
        let (changed, ended) = (watch.changed.clone(), watch.ended.clone());
        let look = move || {
            while !ended.load(Ordering::Acquire) {
                if !locked(&changed).look() {
                    std::thread::park_timeout(LOOK);
                }
            }
        };
        // Before anything is watched: a writer waits until what it changed is taken out, and others wait for it.
        let thread = std::thread::Builder::new().name("portico-backup".into()).spawn(look);
        watch.thread = Some(thread.map_err(|error| Failure::from(sled::Error::Io(error)))?);
        for (name, tree) in names.into_iter().zip(&watch.trees) {
            let subscriber = tree.watch_prefix(Vec::new());
            locked(&watch.changed).subscribers.push((name, subscriber));
        }
        // Whoever was about to write as this began may not have been seen: from now on everybody is.
        watch.alone(|_| ())?;
        Ok(watch)
    }

    /// The trees, by name.
    pub(super) fn trees(&self) -> impl Iterator<Item = (Vec<u8>, Rows)> {
        self.trees.iter().map(|tree| (tree.name().to_vec(), Rows(tree.iter())))
    }

    /// Whether what changes is not written down any more; [`Self::moment`] says why.
    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    /// The moment: calls back while nobody writes, and ends. What changed until then.
    pub(super) fn moment<T>(mut self, now: impl Fn() -> T) -> Result<(T, Result<Spool, io::Error>), Failure> {
        let (seen, spool) = self.alone(|changed| {
            while changed.look() {}
            let spool = match (changed.failed.take(), changed.spool.take()) {
                (None, Some(mut spool)) => spool.end_changes().map(|()| spool),
                (failed, _) => Err(failed.unwrap_or_else(|| io::Error::other("it has ended"))),
            };
            (now(), spool)
        })?;
        self.end();
        Ok((seen, spool))
    }

    /// Does something while nobody writes to this or any other database of the process.
    fn alone<T>(&self, work: impl Fn(&mut Changed) -> T) -> Result<T, Failure> {
        // There is always the default one.
        let tree = self.trees.first().ok_or_else(|| Failure::from(sled::Error::Unsupported("no tree".into())))?;
        let done = Mutex::new(None);
        let alone = tree.transaction(|_| {
            *done.lock().unwrap_or_else(PoisonError::into_inner) = Some(work(&mut locked(&self.changed)));
            Ok::<(), ConflictableTransactionError<()>>(())
        });
        let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        match (alone, done) {
            (Err(TransactionError::Storage(error)), _) => Err(error.into()),
            (_, Some(done)) => Ok(done),
            (_, None) => Err(sled::Error::Unsupported("the transaction was not run".into()).into()),
        }
    }

    fn end(&mut self) {
        // Only while nobody writes: a writer that waits for room there would wait for ever.
        let ended = self.alone(|changed| {
            while changed.look() {}
            changed.subscribers.clear();
        });
        if ended.is_err() {
            locked(&self.changed).look();
            locked(&self.changed).subscribers.clear();
        }
        self.ended.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.thread.is_some() || !locked(&self.changed).subscribers.is_empty() {
            self.end();
        }
    }
}

impl Changed {
    /// Takes out what has changed, and writes it down, as long as that can be done; whether there may be more.
    fn look(&mut self) -> bool {
        let mut more = false;
        for (name, subscriber) in &mut self.subscribers {
            for turn in 1..=TURN {
                // A change that is being made ends the round: it is seen by the next.
                let Some(event) = taken_out(subscriber) else { break };
                more |= turn == TURN;
                let Some(spool) = &mut self.spool else { continue };
                let written = match &event {
                    Event::Insert { key, value } => spool.change(name, key, Some(value)),
                    Event::Remove { key } => spool.change(name, key, None),
                };
                if let Err(error) = written {
                    (self.failed, self.spool) = (Some(error), None);
                    self.failing.store(true, Ordering::Release);
                }
            }
        }
        more
    }
}

/// A change that is there; `None` where none is, or where the next one is being made.
///
/// Polls only where that has to be: a poll that finds nothing waits for the lock that a writer holds while it waits for room
/// here, and a thread that is set aside between the two would be waited for by everybody. What is left of that is a poll right
/// behind a write that came to nothing, in a moment in which more than a thousand changes of the same tree begin.
fn taken_out(subscriber: &mut Subscriber) -> Option<Event> {
    match subscriber.next_timeout(Duration::ZERO) {
        Ok(event) => Some(event),
        Err(RecvTimeoutError::Timeout) => None,
        // Either it is being made, or it came to nothing: that one would be met for ever.
        Err(RecvTimeoutError::Disconnected) => {
            match Pin::new(subscriber).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(event) => event,
                Poll::Pending => None,
            }
        }
    }
}

fn locked(changed: &Mutex<Changed>) -> MutexGuard<'_, Changed> {
    changed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rows of a tree, in the order of their keys.
pub(super) struct Rows(sled::Iter);

impl Iterator for Rows {
    type Item = Result<(sled::IVec, sled::IVec), Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|row| row.map_err(Failure::from))
    }
}

/// A database that rows are put into; nobody else has it.
pub(super) struct Fresh {
    path: PathBuf,
    database: Database,
    tree: Option<(Vec<u8>, Tree)>,
}

impl Fresh {
    /// A new one in this directory.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        Ok(Self { path: path.to_owned(), database: Database::open(path)?, tree: None })
    }

    /// Puts a row there, or takes it away.
    pub(super) fn put(&mut self, name: &[u8], key: &[u8], value: Option<&[u8]>) -> Result<(), Failure> {
        let tree = self.tree(name)?;
        match value {
            Some(value) => tree.insert(key, value)?,
            None => tree.remove(key)?,
        };
        Ok(())
    }

    /// Makes a tree of this name, where it is missing.
    pub(super) fn begin(&mut self, name: &[u8]) -> Result<(), Failure> {
        self.tree(name).map(drop)
    }

    fn tree(&mut self, name: &[u8]) -> Result<&Tree, Failure> {
        let known = self.tree.take().filter(|(known, _)| known == name);
        let tree = match known {
            Some(known) => known,
            None => (name.to_vec(), self.database.tree_named(name)?),
        };
        Ok(&self.tree.insert(tree).1)
    }

    /// Makes all of it durable, and closes it.
    pub(super) fn end(self) -> Result<(), Failure> {
        let Self { path, database, tree } = self;
        database.flush()?;
        drop((tree, database));
        // An open goes through all that was written since the one before: this one, so that the first start need not.
        Database::open(&path).map(drop)
    }
}

/// What tests name of the database.
#[cfg(test)]
pub(super) mod testing {
    use sled::Transactional;
    use sled::transaction::ConflictableTransactionError;

    /// A tree.
    pub(in super::super) type Tree = sled::Tree;

    /// Puts the same row into two trees at once.
    pub(in super::super) fn put_in_both(one: &Tree, two: &Tree, key: &str, number: u32) {
        let both = (one, two).transaction(|(one, two)| {
            one.insert(key, &number.to_be_bytes())?;
            two.insert(key, &number.to_be_bytes())?;
            Ok::<(), ConflictableTransactionError<()>>(())
        });
        both.unwrap();
    }
}
