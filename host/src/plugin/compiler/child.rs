//! The compiler's process: bounds itself, reads one component, answers, and ends.
//!
//! What it reads may be made to hurt a compiler; so it has nothing that would be worth having, and the bounds stand before
//! the first byte is read.

use super::super::engine::{LARGEST_COMPONENT, code_settings};
use super::{answer, sample};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{self, Read, Write};

/// All of its environment: the allocator takes memory as it is used, so that what counts against the bound is what is needed.
pub(super) const ENVIRONMENT: [(&str, &str); 1] = [("MIMALLOC_ARENA_EAGER_COMMIT", "0")];
/// What is said where memory runs out and somebody notices.
pub(super) const NO_MEMORY: &str = "there is no memory left";
/// The most files: its pipes, and what is looked up about the machine.
const FILES: u64 = 16;

/// Compiles one component, within so many seconds of processor time and bytes of memory. `ahead` of the component, everything is
/// made ready that does not depend on it; and it may turn out that none comes.
///
/// # Errors
/// When a bound cannot be set, or nobody listens.
pub fn run(seconds: u64, memory: u64, ahead: bool, from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    bound(memory)?;
    let engine = wasmtime::Engine::new(&code_settings());
    let mut taken = 0;
    if let Ok(engine) = &engine
        && ahead
    {
        // One that fails makes nothing ready, and the component will show why.
        let _ = engine.precompile_component(&sample::component());
        taken = processor_seconds();
    }
    bound_time(seconds.saturating_add(taken))?;
    let mut component = Vec::new();
    from.take(LARGEST_COMPONENT + 1).read_to_end(&mut component).map_err(|error| match error.kind() {
        io::ErrorKind::OutOfMemory => io::Error::other(NO_MEMORY),
        _ => error,
    })?;
    if ahead && component.is_empty() {
        return Ok(());
    }
    let code = engine.and_then(|engine| engine.precompile_component(&component));
    if code.as_ref().is_err_and(is_no_memory) {
        return Err(io::Error::other(NO_MEMORY));
    }
    answer::write(&code.map_err(|error| error.root_cause().to_string()), to)
}

fn is_no_memory(error: &wasmtime::Error) -> bool {
    let by_system = error.root_cause().downcast_ref::<io::Error>();
    by_system.is_some_and(|error| error.kind() == io::ErrorKind::OutOfMemory) || error.is::<wasmtime::OutOfMemory>()
}

/// Processor time that this process has had, rounded up: what it took to make ready is not the component's.
fn processor_seconds() -> u64 {
    let had = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    u64::try_from(had.tv_sec).unwrap_or_default() + u64::from(had.tv_nsec > 0)
}

fn bound(memory: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    limit(Resource::Data, memory, memory)?;
    limit(Resource::Core, 0, 0)?;
    limit(Resource::Fsize, 0, 0)?;
    limit(Resource::Nofile, FILES, FILES)
}

fn bound_time(seconds: u64) -> io::Result<()> {
    // The first one is told apart from other ends, the second one cannot be put off.
    limit(Resource::Cpu, seconds, seconds.saturating_add(2))
}

fn limit(resource: Resource, current: u64, maximum: u64) -> io::Result<()> {
    // Nobody may lift what the gateway itself was given.
    let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let (current, maximum) = (Some(current.min(most)), Some(maximum.min(most)));
    setrlimit(resource, Rlimit { current, maximum }).map_err(io::Error::from)
}

/// The machine code of a component, for every engine of this gateway; or what is wrong with it.
pub(super) fn machine_code(component: &[u8]) -> Result<Vec<u8>, String> {
    let compiled = wasmtime::Engine::new(&code_settings()).and_then(|engine| engine.precompile_component(component));
    compiled.map_err(|error| error.root_cause().to_string())
}
