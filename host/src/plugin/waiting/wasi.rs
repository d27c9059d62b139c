//! WASI as policies get it: an empty context.
//!
//! No files, no sockets, no names to look up, no environment, no arguments, nothing to read. What a guest writes becomes lines
//! of the log. Clock and randomness follow from the request, so that the same request gets the same answer, unless real
//! ones were granted.

use super::output::Output;
use rand::TryRng;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, ResourceTable, WasiCtx, WasiCtxBuilder};

/// Streams, pollables and other things that one instance can hold at once.
const MOST_RESOURCES: usize = 256;

/// Bytes of randomness that one call of WASI gives.
const MOST_RANDOM: u64 = 64 << 10;

/// The moment of one request, as a guest without clock and randomness sees it.
#[derive(Debug, Default)]
pub(super) struct Moment {
    /// Milliseconds since 1970.
    now: AtomicU64,
    /// The state of its randomness.
    random: AtomicU64,
}

impl Moment {
    /// Another request.
    pub(super) fn set(&self, now: u64, seed: u64) {
        self.now.store(now, Ordering::Relaxed);
        self.random.store(seed, Ordering::Relaxed);
    }
}

/// What of WASI is real.
#[derive(Debug, Clone, Copy, Default)]
pub struct Real {
    /// The clocks.
    pub clock: bool,
    /// Randomness.
    pub random: bool,
}

/// An empty context, and a table with little room.
pub(super) fn context(moment: &Arc<Moment>, real: Real, words: &[Output; 2]) -> (WasiCtx, ResourceTable) {
    let mut wasi = WasiCtxBuilder::new();
    wasi.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
    wasi.max_random_size(MOST_RANDOM);
    let [output, errors] = words.clone();
    wasi.stdout(output).stderr(errors);
    if !real.clock {
        wasi.wall_clock(Still(moment.clone())).monotonic_clock(Still(moment.clone()));
    }
    if !real.random {
        wasi.secure_random(Seeded(moment.clone())).insecure_random(Seeded(moment.clone())).insecure_random_seed(0);
    }
    let mut table = ResourceTable::new();
    table.set_max_capacity(MOST_RESOURCES);
    (wasi.build(), table)
}

/// A clock that stands at the moment of the request.
struct Still(Arc<Moment>);

impl Still {
    fn at(&self) -> Duration {
        Duration::from_millis(self.0.now.load(Ordering::Relaxed))
    }
}

impl HostWallClock for Still {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        self.at()
    }
}

impl HostMonotonicClock for Still {
    fn resolution(&self) -> u64 {
        1_000_000
    }

    fn now(&self) -> u64 {
        u64::try_from(self.at().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Numbers that follow from the request's seed (SplitMix64).
struct Seeded(Arc<Moment>);

impl TryRng for Seeded {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.try_next_u64()? >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let state = self.0.random.load(Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.random.store(state, Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Ok(mixed ^ (mixed >> 31))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            let random = self.try_next_u64()?.to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
        Ok(())
    }
}
