//! What policies can reach beside their requests, each as its grant says: a store, and HTTP.
//!
//! Only in calls about requests and responses. What a policy is and what a configuration comes to must not depend on it.

use crate::config::Grant;
use crate::id::NoRandomness;
use crate::kv::{self, Kv};
use crate::outbound::{self, Call, Outbound, Roots, Spent};
use crate::plugin::bindings_0_1::portico::policy::types::OtherFieldResult as OtherField;
use crate::plugin::bindings_0_1_waiting::policy_world::portico::policy::{http, kv as contract};
use crate::plugin::guest::{Guest, LINES_A_CALL};
use arc_swap::ArcSwapOption;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;

/// Store operations in one call; what is beyond is `unavailable`. All policies write to one disk.
const MOST_KEPT: u32 = 256;

/// What there is for policies to reach. Nothing, until it is opened.
#[derive(Default)]
pub struct Outside {
    control: Option<Handle>,
    /// What randomness of guests is derived from, beside the request's seed: nobody outside can tell one from the other.
    pub(super) secret: [u8; 32],
    store: OnceLock<Kv>,
    outbound: ArcSwapOption<Outbound>,
    roots: Mutex<Roots>,
}

impl Outside {
    /// With the runtime on which all of it happens.
    ///
    /// # Errors
    /// When the operating system has no randomness.
    pub fn on(control: Handle) -> Result<Self, NoRandomness> {
        Ok(Self { control: Some(control), secret: crate::id::random()?, ..Self::default() })
    }

    /// From now on there is a store.
    pub fn open_store(&self, store: Kv) {
        // There is one in a process; it is opened once.
        let _ = self.store.set(store);
    }

    /// The store, if it was opened.
    pub fn store(&self) -> Option<&Kv> {
        self.store.get()
    }

    /// From now on requests can be sent. Reads root certificates: never called on a worker.
    pub(in crate::plugin) fn open_outbound(&self) {
        let roots = self.roots();
        let Some(control) = self.control.clone().filter(|_| self.outbound.load().is_none()) else { return };
        match Outbound::start(control, roots.pem()) {
            Ok(outbound) => self.outbound.store(Some(Arc::new(outbound))),
            Err(error) => tracing::error!("policies cannot send requests: {error}"),
        }
    }

    /// From now on requests believe these roots beside those of the system. Never called on a worker.
    pub fn trust(&self, roots: &Roots) {
        let mut now = self.roots();
        if *now == *roots {
            return;
        }
        if let Some(outbound) = self.outbound.load_full() {
            match outbound.trusting(roots.pem()) {
                Ok(outbound) => self.outbound.store(Some(Arc::new(outbound))),
                // They were read as certificates before; what is believed stays.
                Err(error) => return tracing::error!("the additional root certificates are not believed: {error}"),
            }
        }
        now.clone_from(roots);
    }

    /// Held while requests are opened too, so that they begin with these.
    fn roots(&self) -> MutexGuard<'_, Roots> {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What policies reached, by outcome.
#[derive(Debug, Default)]
pub struct Reached {
    outcomes: [AtomicU64; OUTCOMES.len()],
}

/// The outcomes of what policies reach for, as shown to operators.
const OUTCOMES: [&str; 8] = [
    "outbound_answered",
    "outbound_not_granted",
    "outbound_budget_exceeded",
    "outbound_timed_out",
    "outbound_too_large",
    "outbound_unreachable",
    "store_quota_exceeded",
    "store_unavailable",
];

impl Reached {
    /// Each outcome with its name, as often as it came.
    pub fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        OUTCOMES.into_iter().zip(&self.outcomes).map(|(name, times)| (name, times.load(Ordering::Relaxed)))
    }

    fn count(&self, part: &str, outcome: &str) {
        let is_it = |name: &&str| name.strip_prefix(part).and_then(|rest| rest.strip_prefix('_')) == Some(outcome);
        if let Some(position) = OUTCOMES.iter().position(is_it) {
            self.outcomes[position].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What one instance can reach.
pub(super) struct Reach {
    outside: Arc<Outside>,
    grant: Arc<Grant>,
    reached: Arc<Reached>,
    spent: Spent,
    /// Whether this is a call in which it may.
    open: bool,
    /// Store operations of this call.
    kept: u32,
    /// Failed requests of this call that the log was told.
    told: u32,
}

impl Reach {
    pub(super) fn new(outside: Arc<Outside>, grant: Arc<Grant>, reached: Arc<Reached>) -> Self {
        Self { outside, grant, reached, spent: Spent::default(), open: false, kept: 0, told: 0 }
    }

    pub(super) fn secret(&self) -> [u8; 32] {
        self.outside.secret
    }

    /// Of a component that nobody granted anything yet.
    pub(super) fn none() -> Self {
        Self::new(Arc::default(), Arc::default(), Arc::default())
    }

    /// Another call may reach what is granted, with a new budget.
    pub(super) fn open(&mut self) {
        self.spent = Spent::default();
        (self.kept, self.told) = (0, 0);
        self.open = true;
    }

    pub(super) fn close(&mut self) {
        self.open = false;
    }

    fn store(&mut self) -> Option<(Kv, &crate::config::StoreGrant)> {
        self.kept += 1;
        let store = self.outside.store.get().filter(|_| self.open && self.kept <= MOST_KEPT)?;
        Some((store.clone(), self.grant.store.as_ref()?))
    }

    fn kept<T>(&self, answer: Result<T, kv::Error>) -> Result<T, contract::Error> {
        answer.map_err(|error| match error {
            kv::Error::QuotaExceeded => {
                self.reached.count("store", "quota_exceeded");
                contract::Error::QuotaExceeded
            }
            kv::Error::Busy | kv::Error::Unavailable(_) => {
                self.reached.count("store", "unavailable");
                contract::Error::Unavailable
            }
        })
    }

    /// Why a request brought no answer is for the operator, not for the policy.
    fn tell(&mut self, policy: &str, asked: &str, error: outbound::Error) {
        self.told += 1;
        if self.told <= LINES_A_CALL {
            let (outcome, reason) = (error.outcome(), error.reason());
            tracing::warn!(policy, asked, outcome, reason, "a request of a policy brought no answer: {error}");
        }
    }

    async fn send(&mut self, call: Call) -> Result<outbound::Answer, outbound::Error> {
        let outbound = self.outside.outbound.load_full().filter(|_| self.open);
        let outbound = outbound.ok_or(outbound::Unreached::Stopped)?;
        outbound.send(&self.grant.outbound, &mut self.spent, call).await
    }
}

impl Guest {
    fn reach(&mut self) -> &mut Reach {
        &mut self.waiting.as_mut().expect("only guests that wait are linked with what they reach").reach
    }
}

impl contract::Host for Guest {
    async fn get(&mut self, key: String) -> Result<Option<Vec<u8>>, contract::Error> {
        let Some((store, grant)) = self.reach().store() else { return Err(contract::Error::Unavailable) };
        let answer = store.get(grant, key).await;
        self.reach().kept(answer)
    }

    async fn set(&mut self, key: String, value: Vec<u8>, ttl_seconds: u32) -> Result<(), contract::Error> {
        let Some((store, grant)) = self.reach().store() else { return Err(contract::Error::Unavailable) };
        let answer = store.set(grant, key, value, ttl_seconds).await;
        self.reach().kept(answer)
    }

    async fn remove(&mut self, key: String) -> Result<(), contract::Error> {
        let Some((store, grant)) = self.reach().store() else { return Err(contract::Error::Unavailable) };
        let answer = store.remove(grant, key).await;
        self.reach().kept(answer)
    }
}

impl http::Host for Guest {
    async fn send(&mut self, call: http::Call) -> Result<http::Answer, http::Error> {
        let call = Call {
            method: call.method,
            url: call.url,
            fields: call.fields.into_iter().map(|field| (field.name, field.value)).collect(),
            body: call.body,
            timeout: Duration::from_millis(call.timeout.into()),
        };
        let policy = self.policy.clone();
        let asked = format!("{} {}", call.method, without_query(&call.url));
        let answer = self.reach().send(call).await;
        let outcome = answer.as_ref().map_or_else(|error| error.outcome(), |_| "answered");
        self.reach().reached.count("outbound", outcome);
        answer.map(answered).map_err(|error| {
            self.reach().tell(&policy, &asked, error);
            match error {
                outbound::Error::NotGranted(_) => http::Error::NotGranted,
                outbound::Error::BudgetExceeded => http::Error::BudgetExceeded,
                outbound::Error::TimedOut => http::Error::TimedOut,
                outbound::Error::TooLarge(_) => http::Error::TooLarge,
                outbound::Error::Unreachable(_) => http::Error::Unreachable,
            }
        })
    }
}

fn answered(answer: outbound::Answer) -> http::Answer {
    let field = |(name, value)| OtherField { name, value };
    http::Answer { status: answer.status, fields: answer.fields.into_iter().map(field).collect(), body: answer.body }
}

/// A URL as it may stand in a log: without what often holds secrets.
fn without_query(url: &str) -> &str {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let whole = &url[..end];
    // So may what stands before an @.
    whole.rsplit_once('@').map_or(whole, |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_of_a_url_is_told() {
        for (url, told) in [
            ("https://api.example.com/a?key=1", "https://api.example.com/a"),
            ("https://ops:hunter2@api.example.com/a#b", "api.example.com/a"),
            ("", ""),
            ("?a", ""),
        ] {
            assert_eq!(without_query(url), told);
        }
    }

    #[test]
    fn every_outcome_has_a_place() {
        use crate::outbound::{Error, Part, Ungranted, Unreached};
        let reached = Reached::default();
        for error in [
            Error::NotGranted(Ungranted::Url),
            Error::BudgetExceeded,
            Error::TimedOut,
            Error::TooLarge(Part::Body),
            Error::Unreachable(Unreached::Name),
        ] {
            reached.count("outbound", error.outcome());
        }
        reached.count("outbound", "answered");
        let counted = reached.outcomes().filter(|(name, times)| name.starts_with("outbound") && *times == 1);
        assert_eq!(counted.count(), 6);
    }
}
