//! Has fresh instances begin configured, on a thread of its own and after the policy already serves.
//!
//! Nothing waits for it: until it is done, or where it cannot be done, each fresh instance is configured anew. A policy that
//! was replaced meanwhile is passed over, so that many changes in a row cost nothing.

use super::Kept;
use crate::config;
use crate::plugin::{Beginning, Order, Policy};
use crate::snapshot::{Outcome, Snapshot};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a policy serves before it is worth the work.
const SETTLED: Duration = Duration::from_secs(1);
/// How long it rests at a time.
const STEP: Duration = Duration::from_millis(20);

/// A policy that serves, and the bytes of its component.
struct Job {
    policy: Weak<Policy>,
    component: Vec<u8>,
    bounds: config::Compile,
    since: Instant,
}

/// Where policies are handed in.
#[derive(Default)]
pub(super) struct Priming {
    at_work: Mutex<Option<(Sender<Job>, JoinHandle<()>)>>,
}

impl Priming {
    /// Starts the thread. Without one, policies serve as they are.
    pub(super) fn start(kept: Arc<Kept>) -> Self {
        let (jobs, handed_in) = mpsc::channel();
        let thread = std::thread::Builder::new().name("portico-priming".into());
        match thread.spawn(move || work(&kept, &handed_in)) {
            Ok(thread) => Self { at_work: Mutex::new(Some((jobs, thread))) },
            Err(error) => {
                tracing::warn!("fresh instances are configured each time: {error}");
                Self::default()
            }
        }
    }

    /// Waits for the thread, which gives up what it does once the gateway ends.
    pub(super) fn stop(&self) {
        let at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((jobs, thread)) = at_work {
            drop(jobs);
            // One that panicked has said so on its own.
            let _ = thread.join();
        }
    }

    /// Hands in those that are new, and have fresh instances.
    pub(super) fn hand_in(&self, serving: &Snapshot, outcomes: &[Outcome]) {
        let at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((jobs, _)) = &*at_work else { return };
        for policy in serving.policies.iter().filter(|policy| policy.wants_priming()) {
            let outcome = outcomes.iter().find(|outcome| *outcome.policy == *policy.name);
            let Some(Ok(component)) = outcome.map(|outcome| &outcome.serving.bytes) else { continue };
            let (policy, component, bounds) =
                (Arc::downgrade(policy), component.clone(), serving.config.plugins.compile);
            let job = Job { policy, component, bounds, since: Instant::now() };
            // Its thread is there for as long as this end of the channel.
            let _ = jobs.send(job);
        }
    }
}

fn work(kept: &Kept, handed_in: &Receiver<Job>) {
    let ends = || kept.ending.load(Ordering::Relaxed);
    // In short steps, so that an end is not held up.
    let rest = |until: Instant| {
        while Instant::now() < until && !ends() {
            std::thread::sleep(STEP);
        }
    };
    for Job { policy, component, bounds, since } in handed_in {
        if policy.strong_count() > 0 {
            rest(since + SETTLED);
        }
        let Some(policy) = policy.upgrade() else { continue };
        // This thread alone holds one that was replaced.
        let given_up = || (ends() || Arc::strong_count(&policy) == 1).then_some("it serves no more");
        while policy.wants_priming() && given_up().is_none() {
            policy.prime(&component, kept.cache(), &Order { bounds, given_up: &given_up });
            if policy.wants_priming() {
                rest(Instant::now() + SETTLED);
            }
        }
        if let Beginning::Refused(reason) = policy.beginning() {
            tracing::info!(policy = &*policy.name, "each fresh instance is configured anew: {reason}");
        }
    }
}
