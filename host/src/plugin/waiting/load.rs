//! What is asked while a component is loaded, by whoever waits for it on a thread of its own. Never called on a worker.

use super::Waiting;
use super::call::{Live, guest_of};
use super::reach::Reach;
use super::run::{Queued, Turns};
use super::wasi::Real;
use crate::config::Bounds;
use crate::plugin::component::Component;
use crate::plugin::contract::{Descriptor, Diagnostic};
use crate::plugin::engine::start_clock;
use crate::plugin::failure::Failure;
use crate::plugin::guest::Guest;
use crate::plugin::plan::Plan;
use crate::plugin::policy::{Policy, SlotUse};
use std::sync::Arc;
use std::time::Duration;

/// How long a step of a load may take in all: much more than a guest may run, as it may wait in between.
const LONGEST: Duration = Duration::from_secs(10);

/// Asks one instance twice what it is: only in one instance can a guest know that it was asked before.
pub(in crate::plugin) fn describe(component: &Component, bounds: Bounds) -> Result<[Descriptor; 2], Failure> {
    wait_for(async {
        let name: Arc<str> = "(loading)".into();
        let guest =
            Guest::new(name.clone(), bounds, Arc::new([])).waiting(Waiting::new(&name, Real::default(), Reach::none()));
        let mut live = Live::new(component, guest.loading(), &Turns::default(), &Queued::default()).await?;
        start_clock(&mut live.store);
        let first = live.describe().await?;
        start_clock(&mut live.store);
        Ok([first, live.describe().await?])
    })
}

/// Asks a new instance for the plan of one slot.
pub(in crate::plugin) fn plan(
    policy: &Policy,
    number: u32,
    at: &SlotUse,
) -> Result<Result<Plan, Vec<Diagnostic>>, Failure> {
    wait_for(async {
        let mut live =
            Live::new(&policy.component, guest_of(policy, (0, 0)).loading(), &Turns::default(), &Queued::default())
                .await?;
        start_clock(&mut live.store);
        live.configure(number, at).await
    })
}

/// Waits on a thread of its own: whoever loads may be within a runtime, which cannot wait for another one.
fn wait_for<T: Send>(answer: impl Future<Output = Result<T, Failure>> + Send) -> Result<T, Failure> {
    let no_instance = |why: String| Failure::NoInstance(why);
    std::thread::scope(|scope| {
        let waiting = std::thread::Builder::new().name("portico-load".into()).spawn_scoped(scope, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let runtime = runtime.map_err(|error| no_instance(error.to_string()))?;
            runtime
                .block_on(async { tokio::time::timeout(LONGEST, answer).await.unwrap_or(Err(Failure::WaitedTooLong)) })
        });
        match waiting.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(no_instance("its load ended early".into())),
            Err(error) => Err(no_instance(error.to_string())),
        }
    })
}
