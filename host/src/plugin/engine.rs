//! The two engines: compile components and keep time for the guests.
//!
//! The pure one is synchronous by design. A guest there can import nothing that waits, so no fiber, no future and no lock is
//! between a worker and a verdict. Guests that import WASI, the store or outbound requests run on the waiting one, each call
//! on a stack of its own.

mod clock;

use self::clock::{Ticker, at_deadline};
use super::cache;
use super::compiler::{CompileError, Compiler, Order};
use super::failure::Failure;
use super::guest::Guest;
use super::lease::BodyRoom;
use std::sync::{Arc, OnceLock};
use wasmparser::Payload;
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

pub use self::clock::TICK;
pub(super) use self::clock::{LOAD, processor_time, start_clock};

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

/// The most instances that wait, over all workers. Theirs may be large, and each has a stack of its own.
const MOST_WAITING: u32 = 1024;

/// How many of those are kept for loads, which ask one instance at a time.
const KEPT_FOR_LOADS: u32 = 16;

/// Memories and tables for which one place has room; an instance with more of either takes several places. Core instances
/// are only counted, so each place has as many as one component may have.
const MEMORIES: u32 = 1;
const TABLES: u32 = 4;
const MEMORIES_WAITING: u32 = 2;
const TABLES_WAITING: u32 = 8;

/// Stack of a guest that waits: interpreters nest deeply.
const WAITING_STACK: usize = 1 << 20;

/// Stack on which such a guest and what it calls in the host run.
const FIBER: usize = 2 << 20;

/// Bytes of such a stack that stay resident when its call ends: what most calls use.
const STACK_KEPT: usize = 16 << 10;

/// Fuel after which a guest that waits lets its worker do something else: some 100 µs, where a tick of the clock is 5 ms.
const FUEL_AT_ONCE: u64 = 200_000;

/// What the imports begin with that make a guest wait.
const WAITING: [&str; 3] = ["wasi:", "portico:policy/kv@", "portico:policy/http@"];

/// Compiles and instantiates. Cheap to clone; all clones share one pool and one clock.
#[derive(Clone)]
pub struct Engine {
    wasm: wasmtime::Engine,
    linker: Arc<Linker<Guest>>,
    instances: usize,
    bodies: Arc<BodyRoom>,
    waits: bool,
    compiler: Arc<Compiler>,
    _ticker: Arc<Ticker>,
}

/// Both engines; the one for guests that wait is set up when the first of them comes.
#[derive(Clone)]
pub struct Engines {
    pure: Engine,
    waiting: Arc<OnceLock<Engine>>,
    compiler: Arc<Compiler>,
}

impl Engines {
    /// Sets up the pure engine with room for so many instances at once, over all workers and loads, for components that this
    /// compiler compiles.
    ///
    /// # Errors
    /// When the room cannot be had.
    pub fn start(instances: usize, compiler: Compiler) -> Result<Self, EngineError> {
        let compiler = Arc::new(compiler);
        Ok(Self { pure: Engine::start_pure(instances, compiler.clone())?, waiting: Arc::default(), compiler })
    }

    /// What compiles for them.
    pub(super) fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    /// How many instances of guests that do not wait have room at once.
    pub fn instances(&self) -> usize {
        self.pure.instances
    }

    /// How much room is in use, for each engine that was set up.
    pub fn rooms(&self) -> Vec<EngineRoom> {
        [("pure", Some(&self.pure)), ("waiting", self.waiting.get())]
            .into_iter()
            .filter_map(|(name, engine)| engine.and_then(|engine| engine.room(name)))
            .collect()
    }

    /// Places over all workers: for calls that wait, and for followed bodies.
    pub(super) fn places(&self) -> [usize; 2] {
        [(MOST_WAITING - KEPT_FOR_LOADS) as usize, self.pure.bodies.most()]
    }

    /// The one that a component needs, by what it imports.
    pub(super) fn for_component(&self, bytes: &[u8]) -> Result<Engine, String> {
        if !wants_to_wait(bytes) {
            return Ok(self.pure.clone());
        }
        if let Some(engine) = self.waiting.get() {
            return Ok(engine.clone());
        }
        // Two that come first at the same moment both set one up, and one of them stays; a failure is tried again next time.
        let engine = Engine::start_waiting(self.compiler.clone()).map_err(|error| error.to_string())?;
        Ok(self.waiting.get_or_init(|| engine).clone())
    }
}

/// How much of an engine's room is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineRoom {
    /// `pure`, or `waiting`.
    pub engine: &'static str,
    /// Instances that there are now.
    pub instances: usize,
    /// Instances for which there is room.
    pub most: usize,
    /// Memories of those that there are.
    pub memories: usize,
}

/// Whether a component imports something that can make it wait. What cannot be read cannot be compiled either, and the
/// compiler says best why.
fn wants_to_wait(bytes: &[u8]) -> bool {
    let mut depth = 0_usize;
    for payload in wasmparser::Parser::new(0).parse_all(bytes) {
        match payload {
            Ok(Payload::ComponentSection { .. } | Payload::ModuleSection { .. }) => depth += 1,
            Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
            Ok(Payload::ComponentImportSection(imports)) if depth == 0 => {
                let mut names = imports.into_iter().flatten().map(|import| import.name.name);
                if names.any(|name| WAITING.iter().any(|waiting| name.starts_with(waiting))) {
                    return true;
                }
            }
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    false
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly engine could not be set up: {0}")]
pub struct EngineError(String);

impl Engine {
    /// The pure one, with room for so many instances at once, and its clock.
    pub(super) fn start_pure(instances: usize, compiler: Arc<Compiler>) -> Result<Self, EngineError> {
        let instances = instances.clamp(16, MOST_INSTANCES - LEAST_BODIES);
        let bodies = instances.clamp(LEAST_BODIES, MOST_INSTANCES - instances);
        let count = u32::try_from(instances + bodies).unwrap_or(u32::MAX / 4);
        let mut pool = pool(count);
        pool.total_core_instances(count * 16)
            .total_memories(count * MEMORIES)
            .total_tables(count * TABLES)
            .max_memories_per_component(4)
            .max_tables_per_component(16)
            .max_core_instances_per_component(16)
            .max_unused_warm_slots(64);
        let mut config = config(pool);
        config.max_wasm_stack(256 << 10);
        Self::with(&config, [instances, bodies], false, compiler, |linker| {
            super::bindings_0_1::EveryPhase::add_to_linker::<_, super::guest::Imports>(linker, |guest| guest)
        })
    }

    /// The one for guests that wait, and its clock.
    fn start_waiting(compiler: Arc<Compiler>) -> Result<Self, EngineError> {
        let mut pool = pool(MOST_WAITING);
        pool.async_stack_keep_resident(STACK_KEPT);
        // Interpreters are linked together from dozens of modules around one memory.
        pool.total_core_instances(MOST_WAITING * 128)
            .total_memories(MOST_WAITING * MEMORIES_WAITING)
            .total_tables(MOST_WAITING * TABLES_WAITING)
            .total_stacks(MOST_WAITING)
            .max_memories_per_component(8)
            .max_tables_per_component(32)
            .max_core_instances_per_component(128)
            .table_elements(super::guest::TABLE_ELEMENTS_WAITING)
            .max_unused_warm_slots(16);
        let mut config = config(pool);
        config.max_wasm_stack(WAITING_STACK).async_stack_size(FIBER).async_stack_zeroing(true);
        Self::with(&config, [MOST_WAITING as usize, 0], true, compiler, super::waiting::link)
    }

    fn with(
        config: &Config,
        [instances, bodies]: [usize; 2],
        waits: bool,
        compiler: Arc<Compiler>,
        link: impl FnOnce(&mut Linker<Guest>) -> wasmtime::Result<()>,
    ) -> Result<Self, EngineError> {
        let failed = |error: wasmtime::Error| EngineError(format!("{error:#}"));
        let wasm = wasmtime::Engine::new(config).map_err(failed)?;
        let mut linker = Linker::new(&wasm);
        link(&mut linker).map_err(failed)?;
        let ticker = Arc::new(Ticker::start(wasm.clone())?);
        let (linker, bodies) = (Arc::new(linker), BodyRoom::new(bodies));
        Ok(Self { wasm, linker, instances, bodies, waits, compiler, _ticker: ticker })
    }

    /// Compiles a component. Takes milliseconds to seconds: never called on a worker.
    pub(super) fn compile(&self, bytes: &[u8], order: &Order<'_>) -> Result<Component, CompileError> {
        self.loaded(&self.compiler.compile(bytes, order)?)
    }

    /// As [`Self::compile`], for what nobody waits for.
    pub(super) fn compile_at_leisure(&self, bytes: &[u8], order: &Order<'_>) -> Result<Component, CompileError> {
        self.loaded(&self.compiler.compile_at_leisure(bytes, order)?)
    }

    fn loaded(&self, code: &[u8]) -> Result<Component, CompileError> {
        cache::load(self, code).map_err(|error| CompileError::Invalid(error.root_cause().to_string()))
    }

    /// What compiles for it.
    pub(super) fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    /// How many places an instance takes.
    pub(super) fn weight(&self, compiled: &Component) -> usize {
        let [memories, tables] = if self.waits { [MEMORIES_WAITING, TABLES_WAITING] } else { [MEMORIES, TABLES] };
        let takes = compiled
            .resources_required()
            .map_or(1, |needs| needs.num_memories.div_ceil(memories).max(needs.num_tables.div_ceil(tables)).max(1));
        usize::try_from(takes).unwrap_or(usize::MAX)
    }

    fn room(&self, engine: &'static str) -> Option<EngineRoom> {
        let used = self.wasm.pooling_allocator_metrics()?;
        let instances = usize::try_from(used.component_instances()).unwrap_or(usize::MAX);
        Some(EngineRoom { engine, instances, most: self.instances + self.bodies.most(), memories: used.memories() })
    }

    /// Whether calls can be suspended.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// Room for instances that follow bodies, beside the others.
    pub(super) fn bodies(&self) -> &Arc<BodyRoom> {
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
        if self.waits {
            store.fuel_async_yield_interval(Some(FUEL_AT_ONCE)).map_err(|error| Failure::of(&error))?;
        }
        refuel(&mut store)?;
        start_clock(&mut store);
        Ok(store)
    }
}

fn pool(instances: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(instances)
        .max_memory_size(LARGEST_MEMORY)
        .linear_memory_keep_resident(KEPT_RESIDENT)
        .table_keep_resident(4 << 10)
        .pagemap_scan(Enabled::Auto);
    pool
}

fn config(pool: PoolingAllocationConfig) -> Config {
    let mut config = code_settings();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// What machine code depends on: the same for both engines and for whoever compiles for them.
pub(super) fn code_settings() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .concurrency_support(false)
        .gc_support(false)
        .consume_fuel(true)
        .epoch_interruption(true)
        .memory_init_cow(true);
    config
}

/// Gives a store the fuel of one call.
pub(super) fn refuel(store: &mut Store<Guest>) -> Result<(), Failure> {
    let fuel = store.data().bounds.fuel;
    store.set_fuel(fuel).map_err(|error| Failure::of(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three instances of a module with one memory.
    #[test]
    fn an_instance_with_several_memories_takes_several_places() {
        let module = [b"\0asm\x01\0\0\0".as_slice(), &[5, 3, 1, 0, 1]].concat();
        let instances = [2, 10, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let length = u8::try_from(module.len()).unwrap();
        let three = [b"\0asm\x0d\0\x01\0".as_slice(), &[1, length], &module, &instances].concat();
        let compiler = || Arc::new(Compiler::here());
        for (engine, weight) in [(Engine::start_pure(16, compiler()), 3), (Engine::start_waiting(compiler()), 2)] {
            let engine = engine.unwrap();
            let none = Component::from_binary(engine.wasm(), b"\0asm\x0d\0\x01\0").unwrap();
            let three = Component::from_binary(engine.wasm(), &three).unwrap();
            assert_eq!((engine.weight(&none), engine.weight(&three)), (1, weight));
        }
    }
}
