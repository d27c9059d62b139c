//! Components as they stand once every use of a policy is configured, so that fresh instances begin there.
//!
//! The memory and the globals of a configured instance are written back into the component, which is compiled once more:
//! a fresh instance of that is neither set up nor configured for each request. It is the same code with other first values;
//! what a guest has in tables cannot be taken over, and one that changes them stays as it was written.

use super::cache::CodeCache;
use super::compiler::{CompileError, Order};
use super::component::digest;
use super::engine::{refuel, start_clock};
use super::failure::Failure;
use super::guest::Guest;
use super::instance::Live;
use super::linked::Linked;
use super::policy::Policy;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use wasmtime::Store;
use wasmtime::component::{Instance, Lift, WasmList};
use wasmtime_wizer::{ComponentInstanceState, Wizer};

/// The most pieces that a memory may be in, between zeros: the reader keeps a list of all of them.
const MOST_PIECES: usize = 1_000_000;
/// What reading an instance adds to its memories: a page for each time that one is read.
const READING: usize = 1 << 20;

/// Why a policy is not primed.
#[derive(Debug, Clone)]
pub(super) enum Unprimed {
    /// It cannot be, as this sentence says that begins with "it" or "its".
    Never(String),
    /// It could not be this time, for this reason.
    Now(String),
    /// It gave way to something else.
    GaveWay,
}

/// Makes fresh instances of a policy begin configured. Compiles, and runs `configure`: never called on a worker. Gives way to
/// components that are to serve.
///
/// # Errors
/// Why that is not so.
pub(super) fn prime(
    policy: &Policy,
    bytes: &[u8],
    cache: Option<&CodeCache>,
    order: &Order<'_>,
) -> Result<Arc<Linked>, Unprimed> {
    // A component that passed every check can still be one that its reader did not expect.
    let primed = catch_unwind(AssertUnwindSafe(|| primed(policy, bytes, cache, order)));
    primed.unwrap_or_else(|_| Err(never("it is built in a way that cannot be written back")))
}

fn primed(
    policy: &Policy,
    bytes: &[u8],
    cache: Option<&CodeCache>,
    order: &Order<'_>,
) -> Result<Arc<Linked>, Unprimed> {
    let engine = &policy.component.engine;
    let given_up = || (order.given_up)().or_else(|| engine.compiler().is_wanted().then_some("another one is to serve"));
    let order = Order { bounds: order.bounds, given_up: &given_up };
    let name = name(policy);
    let linked = |code| Linked::of(engine, code).map(Arc::new).map_err(|error| root(&error));
    if let Some(code) = cache.and_then(|cache| cache.find(engine, &name)) {
        let known = linked(&code)?;
        try_out(policy, &known)?;
        return Ok(known);
    }
    let configured = configured(policy, bytes, &order)?;
    let code = engine.compile_at_leisure(&configured, &order).map_err(uncompiled)?;
    let primed = linked(&code)?;
    try_out(policy, &primed)?;
    if let Some(cache) = cache {
        cache.forget(engine, &name);
        cache.keep(engine, &name, &code);
    }
    Ok(primed)
}

/// Under what its code is kept: everything that `configure` is told, and of what component.
fn name(policy: &Policy) -> String {
    let uses: Vec<_> =
        policy.slots.iter().map(|slot| (&slot.at.pillar, &slot.at.scope, &slot.at.routes, &slot.at.config)).collect();
    digest(format!("primed {} {uses:?}", policy.component.digest).as_bytes())
}

/// The component with the state that it has once each use is configured.
fn configured(policy: &Policy, bytes: &[u8], order: &Order<'_>) -> Result<Vec<u8>, Unprimed> {
    let mut wizer = Wizer::new();
    wizer.keep_init_func(true);
    let (context, readable) = wizer.instrument_component(bytes).map_err(|error| root(&error))?;
    let engine = &policy.component.engine;
    let code = engine.compile_at_leisure(&readable, order).map_err(uncompiled)?;
    let linked = Arc::new(Linked::of(engine, &code).map_err(|error| root(&error))?);
    let mut bounds = policy.bounds;
    bounds.memory = bounds.memory.saturating_add(READING);
    let guest = Guest::new(policy.name.clone(), bounds, policy.record.counters.clone()).loading();
    let mut live = Live::new(engine, &linked, guest).map_err(|failure| told(&failure))?;
    for number in 0..policy.slots.len() {
        if (order.given_up)().is_some() {
            return Err(Unprimed::GaveWay);
        }
        start_clock(&mut live.store);
        live.configure_as_checked(policy, number).map_err(|failure| told(&failure))?;
    }
    let mut state = Reading { instance: live.made, store: &mut live.store, failed: None };
    let written = at_once(wizer.snapshot_component(&context, &mut state));
    match (state.failed, written) {
        (Some(error), _) => Err(never(format!("its memory could not be read: {error}"))),
        (None, Some(Ok(component))) => Ok(component),
        (None, Some(Err(error))) => Err(root(&error)),
        (None, None) => Err(never("reading it took another way than expected")),
    }
}

/// Whether an instance begins at all, and still is what it was.
fn try_out(policy: &Policy, linked: &Arc<Linked>) -> Result<(), Unprimed> {
    let guest = Guest::new(policy.name.clone(), policy.bounds, policy.record.counters.clone()).loading();
    let again = Live::new(&policy.component.engine, linked, guest).and_then(|mut live| {
        start_clock(&mut live.store);
        live.describe()
    });
    let again = again.map_err(|failure| told(&failure))?;
    match super::declared::Declared::check(&again) {
        Ok(declared) if format!("{declared:?}") == format!("{:?}", policy.component.declared) => Ok(()),
        _ => Err(never("it describes itself differently once it is configured")),
    }
}

fn never(why: impl Into<String>) -> Unprimed {
    Unprimed::Never(why.into())
}

fn told(failure: &Failure) -> Unprimed {
    let why = format!("its configured instance is of no use: {failure}");
    match failure {
        // The room may be full for a moment.
        Failure::NoInstance(_) => Unprimed::Now(why),
        _ => Unprimed::Never(why),
    }
}

fn root(error: &wasmtime::Error) -> Unprimed {
    never(format!("it cannot be written back: {}", error.root_cause()))
}

fn uncompiled(error: CompileError) -> Unprimed {
    let why = format!("its configured form is of no use: {error}");
    match error {
        CompileError::GivenUp(_) => Unprimed::GaveWay,
        CompileError::Invalid(_) => Unprimed::Never(why),
        _ => Unprimed::Now(why),
    }
}

/// An instance whose state is read through what was added to its exports. The first failure ends all reading; what is
/// answered from then on is thrown away.
struct Reading<'a> {
    store: &'a mut Store<Guest>,
    instance: Instance,
    failed: Option<String>,
}

impl Reading<'_> {
    fn read<R: Lift + 'static>(&mut self, instance: &str, function: &str) -> Option<R> {
        if self.failed.is_some() {
            return None;
        }
        let answer = self.call(instance, function);
        answer.map_err(|error| self.failed = Some(error)).ok()
    }

    fn call<R: Lift + 'static>(&mut self, instance: &str, function: &str) -> Result<R, String> {
        let missing = || format!("{instance}#{function} is missing");
        let store = &mut *self.store;
        refuel(store).map_err(|failure| failure.to_string())?;
        start_clock(store);
        // The whole of a memory is more than any call may bring.
        store.set_hostcall_fuel(usize::MAX);
        let (_, within) = self.instance.get_export(&mut *store, None, instance).ok_or_else(missing)?;
        let (_, function) = self.instance.get_export(&mut *store, Some(&within), function).ok_or_else(missing)?;
        let function = self.instance.get_typed_func::<(), (R,)>(&mut *store, function);
        let function = function.map_err(|error| error.to_string())?;
        function.call(&mut *store, ()).map(|(value,)| value).map_err(|error| error.root_cause().to_string())
    }
}

impl ComponentInstanceState for Reading<'_> {
    async fn call_func_ret_list_u8(&mut self, instance: &str, func: &str, contents: impl FnOnce(&[u8]) + Send) {
        let list: Option<WasmList<u8>> = self.read(instance, func);
        let memory = list.as_ref().map_or(&[][..], |list| list.as_le_slice(&*self.store));
        if pieces(memory) > MOST_PIECES {
            self.failed = Some(format!("it is in more than {MOST_PIECES} pieces between zeros"));
            contents(&[]);
        } else {
            contents(memory);
        }
    }

    async fn call_func_ret_s32(&mut self, instance: &str, func: &str) -> i32 {
        self.read(instance, func).unwrap_or_default()
    }

    async fn call_func_ret_s64(&mut self, instance: &str, func: &str) -> i64 {
        self.read(instance, func).unwrap_or_default()
    }

    async fn call_func_ret_f32(&mut self, instance: &str, func: &str) -> u32 {
        self.read(instance, func).map_or(0, f32::to_bits)
    }

    async fn call_func_ret_f64(&mut self, instance: &str, func: &str) -> u64 {
        self.read(instance, func).map_or(0, f64::to_bits)
    }
}

/// How many runs of other bytes stand between zeros.
fn pieces(memory: &[u8]) -> usize {
    let begins = memory.windows(2).filter(|pair| pair[0] == 0 && pair[1] != 0).count();
    begins + usize::from(memory.first().is_some_and(|first| *first != 0))
}

/// What a future brings that never waits; `None` for one that does.
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
