//! The pure engine: compiles components and keeps time for the guests.
//!
//! Synchronous by design. A guest here can import nothing that waits, so no fiber, no future and no lock is between a
//! worker and a verdict. Guests that need WASI or input and output do not run on it.

use super::failure::Failure;
use super::guest::Guest;
use super::lease::Room;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, Store, UpdateDeadline};

/// How often deadlines are looked at.
pub const TICK: Duration = Duration::from_millis(5);

/// Wall clock for each step of a load, at least.
const LOAD: Duration = Duration::from_secs(1);

/// The most memory that a policy can be given: the size of a slot in the pool.
pub const LARGEST_MEMORY: usize = 256 << 20;

/// The largest component that is compiled.
pub const LARGEST_COMPONENT: u64 = 64 << 20;

/// The most instances that an engine has room for. Each takes 4 GiB of addresses, which no memory stands behind.
const MOST_INSTANCES: usize = 8192;

/// The fewest instances that can follow bodies at once; there is as much room for them as for others, or this.
const LEAST_BODIES: usize = 256;

/// Bytes of a memory that stay resident when its instance ends; more costs each fresh instance time.
const KEPT_RESIDENT: usize = 64 << 10;

/// Compiles and instantiates. Cheap to clone; all clones share one pool and one clock.
#[derive(Clone)]
pub struct Engine {
    wasm: wasmtime::Engine,
    linker: Arc<Linker<Guest>>,
    instances: usize,
    bodies: Arc<Room>,
    _ticker: Arc<Ticker>,
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly engine could not be set up: {0}")]
pub struct EngineError(String);

impl Engine {
    /// Sets up an engine with room for so many instances at once, over all workers and loads, and starts its clock.
    ///
    /// # Errors
    /// When the room cannot be had.
    pub fn start(instances: usize) -> Result<Self, EngineError> {
        let instances = instances.clamp(16, MOST_INSTANCES - LEAST_BODIES);
        let bodies = instances.clamp(LEAST_BODIES, MOST_INSTANCES - instances);
        let count = u32::try_from(instances + bodies).unwrap_or(u32::MAX / 4);
        let mut pool = PoolingAllocationConfig::default();
        pool.total_component_instances(count)
            .total_core_instances(count * 4)
            .total_memories(count)
            .total_tables(count * 4)
            .max_memories_per_component(4)
            .max_tables_per_component(16)
            .max_core_instances_per_component(16)
            .max_memory_size(LARGEST_MEMORY)
            .linear_memory_keep_resident(KEPT_RESIDENT)
            .table_keep_resident(4 << 10)
            .max_unused_warm_slots(64)
            .pagemap_scan(Enabled::Auto);
        let mut config = Config::new();
        config
            .wasm_component_model(true)
            .concurrency_support(false)
            .gc_support(false)
            .consume_fuel(true)
            .epoch_interruption(true)
            .memory_init_cow(true)
            .max_wasm_stack(256 << 10)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let wasm = wasmtime::Engine::new(&config).map_err(|error| EngineError(format!("{error:#}")))?;
        let mut linker = Linker::new(&wasm);
        super::bindings_0_1::EveryPhase::add_to_linker::<_, super::guest::Imports>(&mut linker, |guest| guest)
            .map_err(|error| EngineError(format!("{error:#}")))?;
        let ticker = Arc::new(Ticker::start(wasm.clone())?);
        Ok(Self { wasm, linker: Arc::new(linker), instances, bodies: Room::new(bodies), _ticker: ticker })
    }

    /// Compiles a component. Takes milliseconds to seconds: never called on a worker.
    pub(super) fn compile(&self, bytes: &[u8]) -> wasmtime::Result<Component> {
        Component::from_binary(&self.wasm, bytes)
    }

    /// How many instances have room at once.
    pub fn instances(&self) -> usize {
        self.instances
    }

    /// Room for instances that follow bodies, beside the others.
    pub(super) fn bodies(&self) -> &Arc<Room> {
        &self.bodies
    }

    pub(super) fn linker(&self) -> &Linker<Guest> {
        &self.linker
    }

    pub(super) fn wasm(&self) -> &wasmtime::Engine {
        &self.wasm
    }

    /// A store for one instance, with its bounds set and its clock running.
    pub(super) fn store(&self, guest: Guest) -> Result<Store<Guest>, Failure> {
        let bounds = guest.bounds;
        let mut store = Store::new(&self.wasm, guest);
        store.limiter(|guest| guest);
        store.epoch_deadline_callback(|mut store| Ok(at_deadline(store.data_mut())));
        store.set_hostcall_fuel(bounds.copied_out);
        refuel(&mut store)?;
        start_clock(&mut store);
        Ok(store)
    }
}

/// Gives a store the fuel of one call.
pub(super) fn refuel(store: &mut Store<Guest>) -> Result<(), Failure> {
    let fuel = store.data().bounds.fuel;
    store.set_fuel(fuel).map_err(|error| Failure::of(&error))
}

/// Gives a store the time of one call, from now.
pub(super) fn start_clock(store: &mut Store<Guest>) {
    let deadline = store.data().bounds.deadline;
    start_clock_for(store, deadline);
}

/// Gives a store the time for one step of a load. Nobody waits for it, and a machine that is busy for a moment must not
/// make a good component look like a bad one; the fuel is that of a call.
pub(super) fn start_clock_of_load(store: &mut Store<Guest>) {
    let deadline = store.data().bounds.deadline.max(LOAD);
    start_clock_for(store, deadline);
}

fn start_clock_for(store: &mut Store<Guest>, time: Duration) {
    store.data_mut().near_deadline = None;
    let ticks = time.as_millis().div_ceil(TICK.as_millis()) as u64;
    // The last of these ends up to a tick before the deadline; see below.
    store.set_epoch_deadline(ticks.max(1));
}

/// Called a tick before the deadline, and with each tick from then on. The guest is stopped as soon as it has had half a tick of
/// processor time since: at the deadline, if it runs all the time. One whose worker was set aside by the machine can end.
fn at_deadline(guest: &mut Guest) -> UpdateDeadline {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let used = Duration::try_from(used).unwrap_or_default();
    let since = *guest.near_deadline.get_or_insert(used);
    if is_over(since, used) { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(1) }
}

/// Whether a guest has had its time, by the processor time of its thread then and now.
fn is_over(since: Duration, used: Duration) -> bool {
    used.saturating_sub(since) >= TICK / 2
}

/// A thread that moves the engine's epoch on, until it is dropped.
struct Ticker {
    stop: Arc<AtomicBool>,
}

impl Ticker {
    fn start(engine: wasmtime::Engine) -> Result<Self, EngineError> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        std::thread::Builder::new()
            .name("portico-epoch".into())
            .spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    std::thread::sleep(TICK);
                    engine.increment_epoch();
                }
            })
            .map_err(|error| EngineError(format!("no thread for its clock: {error}")))?;
        Ok(Self { stop })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_processor_time_ends_a_call() {
        let at = Duration::from_millis;
        assert!(!is_over(at(100), at(100)), "the first look");
        assert!(!is_over(at(100), at(102)), "set aside for most of a tick");
        assert!(is_over(at(100), at(105)), "ran for the whole tick");
        assert!(!is_over(at(100), at(90)), "a clock that goes back ends nothing");
    }
}
