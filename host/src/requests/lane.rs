//! What a worker hands over: records as bytes, and figures, in a place of its own.
//!
//! The place has a lock that the worker never waits for: where somebody reads at this moment, the record goes into a second
//! place, and moves over with the next one. So a worker meets neither other workers nor whoever reads.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use bytes::BufMut;

use super::calls::Call;
use super::figures::Figures;
use super::record::Record;
use super::sampling::Sampling;
use super::spans::Journey;
use crate::body::End;
use crate::config::{Access, AddressShown, Telemetry};
use crate::usage::{Pillar, Route, Usage};

/// Bytes of records that wait in one place. More are dropped: 50 ms of more requests than a worker can do.
const MOST: usize = 2 << 20;

/// One worker's place.
#[derive(Debug, Default)]
pub(super) struct Lane {
    held: Mutex<Held>,
    begun: AtomicU64,
    ended: AtomicU64,
    /// Records for which there was no room.
    pub(super) dropped: AtomicU64,
    /// Spans for which there was none.
    pub(super) dropped_spans: AtomicU64,
    /// Heads that were refused, by [`Head`].
    heads: [AtomicU64; Head::ALL.len()],
}

/// Why there was no request: its head was refused before it was one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// It was not HTTP/1.
    Parse,
    /// It was too large, or had too many fields.
    TooLarge,
    /// It did not come, or not whole, in time.
    Timeout,
}

impl Head {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Parse, Self::TooLarge, Self::Timeout];

    /// Its name in metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::TooLarge => "too_large",
            Self::Timeout => "timeout",
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Held {
    /// Records, each after its length, its pillar and its rule.
    frames: Vec<u8>,
    /// Spans of requests that are told, in the same form.
    spans: Vec<u8>,
    figures: Figures,
}

/// The worker's end of it.
#[derive(Debug)]
pub struct Recorder {
    lane: Arc<Lane>,
    settings: Arc<Telemetry>,
    /// Whether anybody wants records, beside figures.
    kept: bool,
    /// How it is decided whose spans are told, where any are.
    sampling: Option<Arc<Sampling>>,
    spare: RefCell<Held>,
    has_spare: Cell<bool>,
    /// Whether what ends from now on is cut off, and not left by its client.
    cuts: Cell<bool>,
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, Held> {
        // Records are whole after each write, and a count too low is no reason to count no more.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes all records out, and gives an empty place in return.
    pub(super) fn take(&self, empty: Vec<u8>) -> Vec<u8> {
        std::mem::replace(&mut self.lock().frames, empty)
    }

    /// The same, of spans.
    pub(super) fn take_spans(&self) -> Vec<u8> {
        std::mem::take(&mut self.lock().spans)
    }

    pub(super) fn add_to(&self, figures: &mut Figures) {
        figures.merge(&self.lock().figures);
    }

    pub(super) fn refused(&self, head: Head) -> u64 {
        self.heads[head as usize].load(Ordering::Relaxed)
    }

    pub(super) fn in_flight(&self) -> u64 {
        let ended = self.ended.load(Ordering::Acquire);
        self.begun.load(Ordering::Relaxed).saturating_sub(ended)
    }
}

/// Each record in what a lane held, with its pillar and its rule.
pub(super) fn frames(mut bytes: &[u8]) -> impl Iterator<Item = (Pillar, Route, &[u8])> {
    use bytes::Buf;
    std::iter::from_fn(move || {
        let length = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
        let (pillar, route) = (bytes.try_get_u16().ok()?, bytes.try_get_u16().ok()?);
        let (record, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        Some((Pillar::numbered(pillar), Route::numbered(route), record))
    })
}

impl Held {
    fn write(&mut self, record: &Record<'_>, usage: &Usage<'_>) -> bool {
        frame(&mut self.frames, usage, |into| record.write(into))
    }
}

/// Adds a frame; whether there was room for it.
fn frame(frames: &mut Vec<u8>, usage: &Usage<'_>, write: impl FnOnce(&mut Vec<u8>)) -> bool {
    if frames.len() >= MOST {
        return false;
    }
    let start = frames.len();
    frames.put_u32(0);
    frames.put_u16(usage.pillar.number());
    frames.put_u16(usage.route.number());
    let body = frames.len();
    write(frames);
    let length = u32::try_from(frames.len() - body).unwrap_or_default();
    frames[start..start + 4].copy_from_slice(&length.to_be_bytes());
    true
}

impl Recorder {
    pub(super) fn new(lane: Arc<Lane>, settings: Arc<Telemetry>, sampling: Option<Arc<Sampling>>) -> Self {
        let kept = settings.requests.keep || settings.access != Access::Off;
        let (spare, has_spare, cuts) = (RefCell::default(), Cell::new(false), Cell::new(false));
        Self { lane, settings, kept, sampling, spare, has_spare, cuts }
    }

    pub(super) fn sampling(&self) -> Option<&Sampling> {
        self.sampling.as_deref()
    }

    pub(super) fn settings(&self) -> &Telemetry {
        &self.settings
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept
    }

    /// Moves over what could not be handed over before.
    pub fn hand_over(&self) {
        if self.has_spare.get() {
            self.with(|_| ());
        }
    }

    /// What is dropped from now on was not left by its client: the gateway ends, and waits no longer.
    pub fn cut_off(&self) {
        self.cuts.set(true);
    }

    /// How something ended that looks like this.
    pub(super) fn how(&self, end: End) -> End {
        if end == End::Left && self.cuts.get() { End::Cut } else { end }
    }

    /// A head was refused.
    pub fn refused(&self, head: Head) {
        step(&self.lane.heads[head as usize], Ordering::Relaxed);
    }

    pub(super) fn began(&self) {
        step(&self.lane.begun, Ordering::Relaxed);
    }

    pub(super) fn ended(&self, record: &Record<'_>, usage: &Usage<'_>, calls: &[Call], took: Duration) {
        step(&self.lane.ended, Ordering::Release);
        let written = self.with(|held| {
            held.figures.count(usage, took);
            calls.iter().for_each(|call| held.figures.count_call(call));
            !self.kept || held.write(record, usage)
        });
        if !written {
            step(&self.lane.dropped, Ordering::Relaxed);
        }
    }

    /// A request is told span by span.
    pub(super) fn tell(&self, journey: &Journey<'_>, record: &Record<'_>, usage: &Usage<'_>) {
        if !self.with(|held| frame(&mut held.spans, usage, |into| journey.write(record, into))) {
            let dropped = &self.lane.dropped_spans;
            dropped.store(dropped.load(Ordering::Relaxed).wrapping_add(journey.count()), Ordering::Relaxed);
        }
    }

    pub(super) fn count_upstream(&self, name: &str, took: Duration, failure: Option<&'static str>) {
        self.with(|held| held.figures.count_upstream(name, took, failure));
    }

    fn with<T>(&self, change: impl FnOnce(&mut Held) -> T) -> T {
        let mut held = match self.lane.held.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(held)) => held.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.has_spare.set(true);
                return change(&mut self.spare.borrow_mut());
            }
        };
        if self.has_spare.replace(false) {
            self.settle(&mut held);
        }
        change(&mut held)
    }

    fn settle(&self, held: &mut Held) {
        let mut spare = self.spare.borrow_mut();
        let spare = std::mem::take(&mut *spare);
        held.figures.merge(&spare.figures);
        held.frames.extend_from_slice(&spare.frames);
        held.spans.extend_from_slice(&spare.spans);
    }
}

impl Drop for Recorder {
    /// The worker ends: nobody waits for it any more.
    fn drop(&mut self) {
        self.settle(&mut self.lane.lock());
    }
}

/// One more, of a figure that one thread writes and others read.
fn step(figure: &AtomicU64, order: Ordering) {
    figure.store(figure.load(Ordering::Relaxed).wrapping_add(1), order);
}

impl Telemetry {
    /// As much of an address as is told.
    pub(super) fn address(&self, address: IpAddr) -> Option<IpAddr> {
        match (self.address, address) {
            (AddressShown::Off, _) => None,
            (AddressShown::Full, address) => Some(address),
            (AddressShown::Network, IpAddr::V4(address)) => {
                Some(Ipv4Addr::from(u32::from(address) & 0xffff_ff00).into())
            }
            (AddressShown::Network, IpAddr::V6(address)) => {
                Some(Ipv6Addr::from(u128::from(address) & (u128::MAX << 80)).into())
            }
        }
    }
}
