//! Has fresh instances begin configured, on a thread of its own and after the policy already serves.
//!
//! Nothing waits for it: until it is done, or where it cannot be done, each fresh instance is configured anew. A policy that
//! was replaced meanwhile is passed over, so that many changes in a row cost nothing.

use super::Kept;
use crate::config;
use crate::plugin::{Beginning, Order, Policy};
use crate::snapshot::{Outcome, Snapshot};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a policy serves before it is worth the work.
const SETTLED: Duration = Duration::from_secs(1);
/// How long it rests at a time.
const STEP: Duration = Duration::from_millis(20);
/// How often one policy is tried in a row: the machine may have had no memory for it. The next change hands it in again.
const TRIES: u32 = 5;

/// A policy that serves, and the bytes of its component.
struct Job {
    name: Arc<str>,
    policy: Weak<Policy>,
    component: Vec<u8>,
    bounds: config::Compile,
    since: Instant,
}

/// What is to be done: at most one job for each name.
#[derive(Default)]
struct Desk {
    jobs: Mutex<(Vec<Job>, bool)>,
    changed: Condvar,
}

impl Desk {
    fn jobs(&self) -> MutexGuard<'_, (Vec<Job>, bool)> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Behind the others, unless there is a newer one.
    fn put_back(&self, job: Job) {
        let jobs = &mut self.jobs().0;
        if jobs.iter().all(|newer| newer.name != job.name) {
            jobs.push(Job { since: Instant::now(), ..job });
        }
    }

    /// The next job; `None` once it is over.
    fn next(&self) -> Option<Job> {
        let waiting = |(jobs, over): &mut (Vec<Job>, bool)| jobs.is_empty() && !*over;
        let jobs = self.changed.wait_while(self.jobs(), waiting);
        let (jobs, over) = &mut *jobs.unwrap_or_else(PoisonError::into_inner);
        (!*over && !jobs.is_empty()).then(|| jobs.remove(0))
    }
}

/// Where policies are handed in.
pub(super) struct Priming {
    desk: Arc<Desk>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Priming {
    /// Starts the thread. Without one, policies serve as they are.
    pub(super) fn start(kept: Arc<Kept>) -> Self {
        let desk = Arc::<Desk>::default();
        let at_work = desk.clone();
        let thread = std::thread::Builder::new().name("portico-priming".into());
        let started = thread.spawn(move || {
            while let Some(job) = at_work.next() {
                if !work(&kept, &job) {
                    at_work.put_back(job);
                }
            }
        });
        let started = started.inspect_err(|error| tracing::warn!("fresh instances are configured each time: {error}"));
        Self { desk, thread: Mutex::new(started.ok()) }
    }

    /// Waits for the thread, which gives up what it does once the gateway ends.
    pub(super) fn stop(&self) {
        self.desk.jobs().1 = true;
        self.desk.changed.notify_all();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // One that panicked has said so on its own.
            let _ = thread.join();
        }
    }

    /// Hands in those that are not primed yet, and can be.
    pub(super) fn hand_in(&self, serving: &Snapshot, outcomes: &[Outcome]) {
        let bounds = serving.config.plugins.compile;
        let mut jobs = self.desk.jobs();
        for policy in serving.policies.iter().filter(|policy| policy.wants_priming()) {
            let outcome = outcomes.iter().find(|outcome| *outcome.policy == *policy.name);
            let Some(Ok(component)) = outcome.map(|outcome| &outcome.serving.bytes) else { continue };
            let handed_in = Arc::downgrade(policy);
            let jobs = &mut jobs.0;
            if jobs.iter().any(|job| job.policy.ptr_eq(&handed_in) && job.bounds == bounds) {
                continue;
            }
            jobs.retain(|job| job.name != policy.name);
            let (name, component) = (policy.name.clone(), component.clone());
            jobs.push(Job { name, policy: handed_in, component, bounds, since: Instant::now() });
        }
        self.desk.changed.notify_all();
    }
}

impl Drop for Priming {
    fn drop(&mut self) {
        self.desk.jobs().1 = true;
        self.desk.changed.notify_all();
    }
}

/// `false` if it gave way and is to be done again.
fn work(kept: &Kept, Job { policy, component, bounds, since, .. }: &Job) -> bool {
    let ends = || kept.ending.load(Ordering::Relaxed);
    // In short steps, so that an end is not held up.
    let rest = |until: Instant| {
        while Instant::now() < until && !ends() {
            std::thread::sleep(STEP);
        }
    };
    if policy.strong_count() > 0 {
        rest(*since + SETTLED);
    }
    let Some(policy) = policy.upgrade() else { return true };
    // This thread alone holds one that was replaced.
    let given_up = || (ends() || Arc::strong_count(&policy) == 1).then_some("it serves no more");
    for _ in 0..TRIES {
        if !policy.wants_priming() || given_up().is_some() {
            break;
        }
        if !policy.prime(component, kept.cache(), &Order { bounds: *bounds, given_up: &given_up }) {
            return given_up().is_some();
        }
        if policy.wants_priming() {
            rest(Instant::now() + SETTLED);
        }
    }
    if let Beginning::Refused(reason) = policy.beginning()
        && given_up().is_none()
    {
        tracing::info!(policy = &*policy.name, "each fresh instance is configured anew: {reason}");
    }
    true
}
