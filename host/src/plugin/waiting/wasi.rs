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
#[derive(Debug)]
pub(super) struct Moment {
    secret: [u8; 32],
    /// Milliseconds since 1970.
    now: AtomicU64,
    /// The request's seed.
    seed: AtomicU64,
    /// Blocks of randomness that were drawn.
    drawn: AtomicU64,
}

impl Moment {
    /// A moment whose randomness follows from this secret too.
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self { secret, now: 0.into(), seed: 0.into(), drawn: 0.into() }
    }

    /// Another request.
    pub(super) fn set(&self, now: u64, seed: u64) {
        self.now.store(now, Ordering::Relaxed);
        self.seed.store(seed, Ordering::Relaxed);
        self.drawn.store(0, Ordering::Relaxed);
    }

    /// The next block: SHA-256 over secret, seed and number, so that neither another request's blocks nor the seed follow
    /// from it.
    fn block(&self) -> [u8; 32] {
        let mut input = [0; 48];
        input[..32].copy_from_slice(&self.secret);
        input[32..40].copy_from_slice(&self.seed.load(Ordering::Relaxed).to_le_bytes());
        input[40..].copy_from_slice(&self.drawn.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        let mut block = [0; 32];
        block.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, &input).as_ref());
        block
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

/// Numbers that follow from the request.
struct Seeded(Arc<Moment>);

impl TryRng for Seeded {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.try_next_u64()? >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let [a, b, c, d, e, f, g, h, ..] = self.0.block();
        Ok(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(32) {
            chunk.copy_from_slice(&self.0.block()[..chunk.len()]);
        }
        Ok(())
    }
}
