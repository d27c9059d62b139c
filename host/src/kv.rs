//! What policies keep: small values under keys, in spaces with a quota each.
//!
//! No store call runs on the thread that asks: every operation is a task of the control runtime, and waits for the disk on
//! its blocking pool. So an operation that has begun goes on to its end when its future is dropped; one whose future
//! was never polled does not happen.
//!
//! What was set is not flushed before it is acknowledged: the database flushes twice a second, so a loss of power, or a kill,
//! takes at most the last half second of it. That is right here, and nowhere else: a policy keeps counters and cached
//! answers, not money, and a flush for each of them would let any guest set the pace of everybody's disk.

mod row;
mod sled;
mod spaces;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use papaya::HashMap;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::clock::{Clock, Millis};
use crate::config::StoreGrant;

pub use self::sled::SledKv;

/// The longest key, in bytes; the shortest has one.
pub const MAX_KEY: usize = 256;
/// The largest value, in bytes.
pub const MAX_VALUE: usize = 64 << 10;

/// Operations of one space that run or wait; what is beyond is refused at once, so that it costs nobody memory.
const ADMITTED: usize = 64;
/// Operations of one space that run. They are work more than waiting: two at once would not be quicker, and a greedy guest
/// would take processors from whoever serves requests.
const RUNNING_OF_SPACE: usize = 1;
/// Operations that run, and so threads that a disk which stands still can hold.
const RUNNING: usize = 16;
/// How long an operation waits for its turn. One takes some 20 µs: who waits longer waits for a disk that stands still.
const PATIENCE: Duration = Duration::from_millis(250);
/// Between two lines that say that the store does not work.
const QUIET: Duration = Duration::from_secs(60);

/// Why it was not done. To a guest, the second and the third are both `unavailable`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The space has no room for it, or no space would have: the key has not 1 to 256 bytes, or the value more than 64 KiB.
    #[error("the entry does not fit into its space; remove entries, or raise `grant.store`")]
    QuotaExceeded,
    /// Too many operations wait. It did not happen.
    #[error("too many operations wait for the key-value store; try again later")]
    Busy,
    /// The store does not work now. The operation may have happened, or not; what the space holds stays counted right.
    #[error("the key-value store does not work; look at the disk of the data directory")]
    Unavailable(#[source] Failure),
}

/// What went wrong below.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What a store is still doing.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Keeps the spaces. For the control runtime only. Keys and values are within the bounds, spaces are names.
pub trait KvStore: Send + Sync + fmt::Debug {
    /// The value under a key, if it has not expired.
    fn get(&self, space: &str, key: String, now: Millis) -> Pending<'_, Option<Vec<u8>>>;

    /// Sets a value that is gone from `expires` on; stays within the grant, whoever else is writing.
    fn set(&self, grant: &StoreGrant, key: String, entry: Entry, now: Millis) -> Pending<'_, ()>;

    /// Removes a key; that it is not there is no error.
    fn remove(&self, space: &str, key: String) -> Pending<'_, ()>;

    /// Removes what has expired, in slices that hold nobody up for long, and tells how many entries that were.
    fn sweep(&self, now: Millis) -> Pending<'_, u64>;

    /// What the spaces hold, from memory.
    fn spaces(&self) -> BTreeMap<Arc<str>, Held>;
}

/// What is kept under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// From when on it is gone; `None`: it is kept for good.
    pub expires: Option<Millis>,
    /// The value.
    pub value: Vec<u8>,
}

/// What a space holds. Entries that have expired count until they are swept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Keys.
    pub entries: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// A space in numbers, for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// Its name.
    pub name: Arc<str>,
    /// What it holds.
    pub held: Held,
    /// Entries that did not fit, since the start.
    pub over_quota: u64,
    /// Operations that were refused since too many waited, since the start.
    pub turned_away: u64,
}

/// The key-value store, as policies reach it. Clones are the same one; may be called from any runtime.
#[derive(Debug, Clone)]
pub struct Kv(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    control: Handle,
    clock: Clock,
    store: Arc<dyn KvStore>,
    running: Semaphore,
    gates: HashMap<Arc<str>, Arc<Gate>>,
    trouble: Trouble,
}

/// Where operations of one space wait. Spaces come from configurations, so there are few.
#[derive(Debug)]
struct Gate {
    admitted: Arc<Semaphore>,
    running: Semaphore,
    over_quota: AtomicU64,
    turned_away: AtomicU64,
}

/// Failures, told once a minute: a guest may ask ten thousand times a second.
#[derive(Debug, Default)]
struct Trouble {
    failures: AtomicU64,
    told: AtomicU64,
}

impl Kv {
    /// On a store. `control` runs all of it, and needs its timer.
    pub fn new(control: Handle, store: Arc<dyn KvStore>, clock: Clock) -> Self {
        let (running, gates) = (Semaphore::new(RUNNING), HashMap::new());
        Self(Arc::new(Inner { control, clock, store, running, gates, trouble: Trouble::default() }))
    }

    /// The value under a key; `None` also for a key that no entry could have.
    ///
    /// # Errors
    /// `Busy`, `Unavailable`.
    pub async fn get(&self, grant: &StoreGrant, key: String) -> Result<Option<Vec<u8>>, Error> {
        if !fits(&key) {
            return Ok(None);
        }
        let space = grant.space.clone();
        self.run(grant, move |store, now| store.get(&space, key, now)).await
    }

    /// Sets a value, for so many seconds from when its turn comes (0: for good). Where there is no room, what has expired
    /// in the space is removed first.
    ///
    /// # Errors
    /// All; after `QuotaExceeded`, what was there before is still there.
    pub async fn set(&self, grant: &StoreGrant, key: String, value: Vec<u8>, ttl_seconds: u32) -> Result<(), Error> {
        if !fits(&key) || value.len() > MAX_VALUE {
            self.gate(&grant.space).over_quota.fetch_add(1, Ordering::Relaxed);
            return Err(Error::QuotaExceeded);
        }
        let granted = grant.clone();
        self.run(grant, move |store, now| {
            let expires = (ttl_seconds > 0).then(|| now.plus(Duration::from_secs(ttl_seconds.into())));
            store.set(&granted, key, Entry { expires, value }, now)
        })
        .await
    }

    /// Removes a key; that it is not there is no error.
    ///
    /// # Errors
    /// `Busy`, `Unavailable`.
    pub async fn remove(&self, grant: &StoreGrant, key: String) -> Result<(), Error> {
        if !fits(&key) {
            return Ok(());
        }
        let space = grant.space.clone();
        self.run(grant, move |store, _| store.remove(&space, key)).await
    }

    /// Removes what has expired, and tells how many entries that were; for the background, in intervals. What fails is in the log.
    pub async fn sweep(&self) -> u64 {
        let inner = self.0.clone();
        let sweep = self.0.control.spawn(async move {
            let now = inner.clock.now();
            let swept = inner.store.sweep(now).await;
            inner.trouble.tell(&swept, now);
            swept.unwrap_or(0)
        });
        // Cut off only when the control runtime ends.
        sweep.await.unwrap_or(0)
    }

    /// All spaces that hold something or were asked for, by name; from memory, without waiting for the disk.
    pub fn spaces(&self) -> Vec<Space> {
        let mut held = self.0.store.spaces();
        let gates = self.0.gates.pin();
        for (name, _) in &gates {
            held.entry(name.clone()).or_default();
        }
        let space = |(name, held): (Arc<str>, Held)| {
            let count = |count: fn(&Gate) -> &AtomicU64| {
                gates.get(&*name).map_or(0, |gate| count(gate).load(Ordering::Relaxed))
            };
            let (over_quota, turned_away) = (count(|gate| &gate.over_quota), count(|gate| &gate.turned_away));
            Space { name, held, over_quota, turned_away }
        };
        held.into_iter().map(space).collect()
    }

    /// Runs an operation on the control runtime when its turn comes.
    async fn run<T, F>(&self, grant: &StoreGrant, operation: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a dyn KvStore, Millis) -> Pending<'a, T> + Send + 'static,
    {
        let gate = self.gate(&grant.space);
        let Ok(place) = gate.admitted.clone().try_acquire_owned() else {
            gate.turned_away.fetch_add(1, Ordering::Relaxed);
            return Err(Error::Busy);
        };
        let inner = self.0.clone();
        let task = self.0.control.spawn(async move {
            let _place = place;
            // First among its own, then among all: who waits for its own space takes no place from others.
            let turn = async { (gate.running.acquire().await, inner.running.acquire().await) };
            let Ok(_turn) = tokio::time::timeout(PATIENCE, turn).await else {
                gate.turned_away.fetch_add(1, Ordering::Relaxed);
                return Err(Error::Busy);
            };
            let outcome = operation(&*inner.store, inner.clock.now()).await;
            inner.trouble.tell(&outcome, inner.clock.now());
            if let Err(Error::QuotaExceeded) = outcome {
                gate.over_quota.fetch_add(1, Ordering::Relaxed);
            }
            outcome
        });
        task.await.map_err(|error| Error::Unavailable(error.into()))?
    }

    fn gate(&self, space: &str) -> Arc<Gate> {
        let gates = self.0.gates.pin();
        match gates.get(space) {
            Some(gate) => gate.clone(),
            None => gates.get_or_insert_with(space.into(), Arc::default).clone(),
        }
    }
}

impl Default for Gate {
    fn default() -> Self {
        let (admitted, running) = (Arc::new(Semaphore::new(ADMITTED)), Semaphore::new(RUNNING_OF_SPACE));
        Self { admitted, running, over_quota: AtomicU64::default(), turned_away: AtomicU64::default() }
    }
}

impl Trouble {
    fn tell<T>(&self, outcome: &Result<T, Error>, now: Millis) {
        let Err(Error::Unavailable(cause)) = outcome else { return };
        self.failures.fetch_add(1, Ordering::Relaxed);
        let told = self.told.load(Ordering::Relaxed);
        let quiet = told != 0 && now.since(Millis(told)) < QUIET;
        if !quiet && self.told.compare_exchange(told, now.0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let failures = self.failures.swap(0, Ordering::Relaxed);
            tracing::error!(
                failures,
                cause = %cause,
                "the key-value store does not work, and policies are told so; look at the disk of the data directory"
            );
        }
    }
}

/// Whether an entry could have this key.
fn fits(key: &str) -> bool {
    (1..=MAX_KEY).contains(&key.len())
}
