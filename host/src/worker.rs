//! What a worker has: what all of them share, and what belongs to one alone.
//!
//! Nothing in here is shared with other workers except what is atomic or immutable; no lock is taken on the way of a
//! request.

use crate::assertion::Signer;
use crate::clock::Clock;
use crate::credential::Keyring;
use crate::id::{NoRandomness, RequestIds};
use crate::inner::Door;
use crate::journal::{Journal, Writer};
use crate::meter::Books;
use crate::plugin::{Instances, Leases};
use crate::requests::Recorder;
use crate::snapshot::Snapshot;
use crate::upstream::Pools;
use crate::usage::{Batch, Tally};
use arc_swap::ArcSwap;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc;

/// Rows of usage that a worker tells apart between two drains.
const MAX_ROWS: usize = 65_536;

/// What all workers share.
pub struct Gateway {
    /// The one swap point.
    pub live: ArcSwap<Snapshot>,
    /// The time.
    pub clock: Clock,
    /// All keys.
    pub keyring: Keyring,
    /// Signs assertions.
    pub signer: Signer,
    /// The keys by which assertions are checked.
    pub jwks: String,
    /// The journals of all workers.
    pub journal: Arc<Journal>,
    /// The way to the gateway's own API.
    pub inner: Door,
    /// Usage on its way to the store.
    booked: mpsc::UnboundedSender<Batch>,
    draining: AtomicBool,
}

impl Gateway {
    /// What all workers share, around a first snapshot.
    pub fn new(
        first: Snapshot,
        clock: Clock,
        keyring: Keyring,
        signer: Signer,
        journal: Arc<Journal>,
        inner: Door,
        booked: mpsc::UnboundedSender<Batch>,
    ) -> Self {
        let jwks = signer.jwks();
        let live = ArcSwap::from_pointee(first);
        Self { live, clock, keyring, signer, jwks, journal, inner, booked, draining: AtomicBool::new(false) }
    }

    /// Whether requests are no longer welcome.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Makes readiness fail; what runs goes on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

/// What belongs to one worker.
pub struct Worker {
    /// What all workers share.
    pub gateway: Arc<Gateway>,
    /// Warm policy instances.
    pub instances: RefCell<Instances>,
    /// Policy instances that follow bodies.
    pub leases: Rc<Leases>,
    /// Connections to upstreams.
    pub pools: Pools,
    /// Ids for requests.
    pub request_ids: RequestIds,
    /// Where exchanges are booked.
    pub books: Rc<Books>,
    /// Where finished requests are told.
    pub recorder: Rc<Recorder>,
    state: Cell<u64>,
}

impl Worker {
    /// A worker without connections, instances or usage.
    ///
    /// # Errors
    /// When the operating system has no randomness to start from.
    pub fn new(gateway: Arc<Gateway>, journal: Writer, recorder: Recorder) -> Result<Self, NoRandomness> {
        let worker = Self {
            gateway,
            instances: RefCell::default(),
            leases: Rc::default(),
            pools: Pools::default(),
            request_ids: RequestIds::new()?,
            books: Rc::new(Books::new(journal, Tally::new(MAX_ROWS))),
            recorder: Rc::new(recorder),
            state: Cell::new(u64::from_le_bytes(crate::id::random()?)),
        };
        worker.settle();
        Ok(worker)
    }

    /// Sixty-four random bits for choices and traces, not for secrets (SplitMix64).
    pub fn random(&self) -> u64 {
        let state = self.state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.state.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Keeps instances of the policies that serve, and divides the places between these.
    fn settle(&self) {
        let snapshot = self.gateway.live.load();
        self.instances.borrow_mut().prune(&snapshot.policies, &snapshot.rooms);
        self.leases.prune(&snapshot.policies, &snapshot.rooms);
    }

    /// Drops what is used up and hands over what was booked; called once a second and at the end.
    pub fn tidy_up(&self) {
        self.settle();
        self.pools.sweep();
        self.hand_over();
    }

    /// Hands over what was booked and recorded; called so often that a call shows within a second.
    pub fn hand_over(&self) {
        self.recorder.hand_over();
        let batch = self.books.drain();
        if !batch.is_empty() {
            // Nobody takes it only when the process is ending without its control side.
            let _ = self.gateway.booked.send(batch);
        }
    }
}
