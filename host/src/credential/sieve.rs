//! Keeps the filter whole: made from the store where there is none, kept in a file beside the store, made anew where it is too small.
//!
//! The file says by its name what the store held when it was written; digests that came since stand in the store twice, and are added
//! from there. A file that is missing, damaged or of another state of the store is made anew: no crash, copy or restore leaves a key out.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Issuer;
use super::filter::Filter;
use crate::id;
use crate::key::{Digest, KeyStore, StoreError};

/// Digests that are read at once.
const BATCH: usize = 10_000;
/// So many come in before the file is written again.
const FRESH: u64 = 50_000;
/// How often progress is told, in digests.
const TOLD: u64 = 1_000_000;
const PREFIX: &str = "key-filter-";

/// What is known of the filter beside what is in it.
#[derive(Debug)]
pub(super) struct Sieve {
    /// Where its file is; none where it is made at each start.
    directory: Option<PathBuf>,
    /// How many digests had been added when the file was written.
    saved: Mutex<Option<u64>>,
    /// Digests that went since the filter was made.
    gone: AtomicU64,
}

impl Sieve {
    /// The filter over this store, and what is known of its file.
    pub(super) async fn open(
        store: &Arc<dyn KeyStore>,
        directory: Option<PathBuf>,
    ) -> Result<(Arc<Filter>, Self), StoreError> {
        let read = match (&directory, store.filter().await?) {
            (Some(directory), Some(name)) => read(directory, name).await,
            _ => None,
        };
        let saved = Mutex::new(read.as_ref().map(Filter::added));
        let filter = match read {
            Some(filter) => {
                let filter = Arc::new(filter);
                each(store, true, |digest| {
                    filter.add(digest);
                    true
                })
                .await?;
                filter
            }
            None => made(store, 0, |_| {}).await?,
        };
        Ok((filter, Self { directory, saved, gone: AtomicU64::new(0) }))
    }

    /// So many digests are nobody's any more.
    pub(super) fn went(&self, digests: usize) {
        self.gone.fetch_add(digests as u64, Ordering::Relaxed);
    }

    fn saved(&self) -> std::sync::MutexGuard<'_, Option<u64>> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Issuer {
    /// Makes the filter anew where it is too small or mostly of what went, and writes it down. To be called every minute or so, and
    /// never twice at once.
    pub async fn tend_filter(&self) -> Result<(), StoreError> {
        let filter = self.ring.0.filter.load_full();
        let gone = self.sieve.gone.load(Ordering::Relaxed);
        if filter.is_full() || gone > FRESH && gone > filter.added() / 2 {
            let room = filter.added().saturating_sub(gone);
            let made = made(&self.store, room, |building| self.ring.live().building = Some(building.clone())).await;
            let mut live = self.ring.live();
            live.building = None;
            self.ring.0.filter.store(made?);
            drop(live);
            self.sieve.gone.fetch_sub(gone, Ordering::Relaxed);
            *self.sieve.saved() = None;
        }
        self.save_filter().await
    }

    async fn save_filter(&self) -> Result<(), StoreError> {
        let Some(directory) = self.sieve.directory.clone() else { return Ok(()) };
        let (filter, saved) = (self.ring.0.filter.load_full(), *self.sieve.saved());
        if saved.is_some_and(|saved| filter.added() < saved + FRESH) {
            return Ok(());
        }
        let Ok(name) = id::random() else { return Ok(()) };
        let name = u128::from_be_bytes(name);
        // What is in the store and perhaps not in memory yet is held as well before it stands there once only.
        let mut held = Vec::new();
        each(&self.store, true, |digest| {
            filter.add(digest);
            held.push(*digest);
            true
        })
        .await?;
        let added = filter.added();
        let into = path(&directory, name);
        let written = tokio::task::spawn_blocking(move || filter.write(&into, name));
        if let Err(error) = written.await.map_err(|_| StoreError::Closing)? {
            tracing::warn!(
                "the filter of keys could not be written, and is made anew if the gateway starts again: {error}"
            );
            return Ok(());
        }
        self.store.keep_filter(name, held).await?;
        *self.sieve.saved() = Some(added);
        let _ = tokio::task::spawn_blocking(move || remove_others(&directory, name)).await;
        Ok(())
    }
}

/// The filter in the file of this name.
async fn read(directory: &Path, name: u128) -> Option<Filter> {
    let path = path(directory, name);
    let read = tokio::task::spawn_blocking(move || Filter::read(&path, name)).await.ok()?;
    read.inspect_err(|error| tracing::info!("the file with the filter of keys is not used: {error}")).ok()
}

/// A filter over all digests of the store. Each one that is begun is shown: what comes into the store meanwhile has to be added.
async fn made(
    store: &Arc<dyn KeyStore>,
    mut room: u64,
    show: impl Fn(&Arc<Filter>),
) -> Result<Arc<Filter>, StoreError> {
    loop {
        let filter = Arc::new(Filter::for_secrets(room));
        show(&filter);
        let mut seen = 0_u64;
        let whole = each(store, false, |digest| {
            filter.add(digest);
            seen += 1;
            if seen.is_multiple_of(TOLD) {
                tracing::info!(secrets = seen, "making the filter of keys");
            }
            !filter.is_full()
        });
        if whole.await? {
            return Ok(filter);
        }
        room = seen.saturating_mul(4);
    }
}

/// Calls back with all digests, or with those that came in of late, for as long as more are wanted; whether these were all.
async fn each(
    store: &Arc<dyn KeyStore>,
    fresh: bool,
    mut visit: impl FnMut(&Digest) -> bool,
) -> Result<bool, StoreError> {
    let mut after = None;
    loop {
        let digests = store.digests(after, fresh, BATCH).await?;
        if !digests.iter().all(&mut visit) {
            return Ok(false);
        }
        after = digests.last().copied();
        if digests.len() < BATCH {
            return Ok(true);
        }
    }
}

fn path(directory: &Path, name: u128) -> PathBuf {
    directory.join(format!("{PREFIX}{name:032x}"))
}

/// Files of earlier states, and what a write that was cut off left.
fn remove_others(directory: &Path, name: u128) {
    let kept = path(directory, name);
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_one = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if is_one
            && entry.path() != kept
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            tracing::warn!(file = %entry.path().display(), "an earlier filter of keys cannot be removed: {error}");
        }
    }
}
