//! What goes on beside requests, on the control runtime: probes, sweeps, the admin listener.
//!
//! Each task ends when the stop signal comes; none of them can hold up a worker.

use super::Kept;
use super::change::Changes;
use super::documents::Look;
use super::forgiven::TakenOff;
use super::telling::Telling;
use crate::api::{Action, Actor, Desks, Reads, Refusal};
use crate::clock::{Millis, Steady};
use crate::id::OrgId;
use crate::limit::{Definition, Limit, Period, Subject, SubjectKind};
use crate::problem::Fault;
use crate::snapshot::Snapshot;
use crate::upstream;
use crate::usage::{self, Day, Month, MonthlyCount, UsageStore};
use crate::worker::Gateway;
use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const PROBE: Duration = Duration::from_secs(5);
const SWEEP: Duration = Duration::from_millis(250);
/// How long usage is kept: 25 months, at their longest.
const KEPT: Duration = Duration::from_secs(25 * 31 * 86_400);
const FORGET: Duration = Duration::from_secs(3600);
/// Between two sweeps of what has expired in the stores of policies.
const EXPIRE: Duration = Duration::from_secs(10);
/// Between two looks at the files of OpenAPI documents.
const DOCUMENTS: Duration = Duration::from_secs(2);
const SAVE: Duration = Duration::from_secs(60);
/// So long the time of day must have gone on as time passes before what ended long ago is forgotten by it, for good.
const STEADY: Duration = Duration::from_secs(3600);

/// Starts what runs in intervals.
pub(super) fn start(
    gateway: &Arc<Gateway>,
    kept: &Arc<Kept>,
    desks: Desks,
    usage: Arc<dyn UsageStore>,
    telling: Arc<Telling>,
    stopped: watch::Receiver<bool>,
) -> Vec<JoinHandle<()>> {
    let forget = {
        let clock = gateway.clock.clone();
        move || {
            let (usage, oldest) = (usage.clone(), Millis(clock.now().0.saturating_sub(KEPT.as_millis() as u64)));
            async move {
                if let Err(error) = usage.forget_before(Day::of(oldest)).await {
                    tracing::warn!("old usage could not be removed: {}", super::sentence(&error));
                }
            }
        }
    };
    let expire = {
        let kept = kept.clone();
        move || {
            let store = kept.outside.store().cloned();
            async move {
                if let Some(store) = store {
                    store.sweep().await;
                }
            }
        }
    };
    let unrepeated = {
        let repeats = desks.repeats.clone();
        move || {
            let repeats = repeats.clone();
            async move {
                if let Err(error) = repeats.sweep().await {
                    tracing::warn!("old idempotency keys could not be removed: {}", super::sentence(&error));
                }
            }
        }
    };
    let probe = {
        let gateway = gateway.clone();
        move || {
            let snapshot = gateway.live.load_full();
            async move { upstream::probe(&snapshot.upstreams).await }
        }
    };
    let sweep = {
        let (gateway, kept) = (gateway.clone(), kept.clone());
        move || {
            let swept = kept.limits.sweep(gateway.clock.now());
            tracing::trace!(?swept, "swept limits");
            async {}
        }
    };
    tokio::task::spawn_blocking({
        let (telling, gateway) = (telling.clone(), gateway.clone());
        move || telling.look_at_document(&gateway)
    });
    let ends = {
        let (desks, gateway, mut steady) = (desks.clone(), gateway.clone(), Steady::default());
        move || {
            let is_steady = steady.look(Instant::now(), gateway.clock.now()) >= STEADY;
            let (telling, desks, now) = (telling.clone(), desks.clone(), gateway.clock.now());
            let known = gateway.live.load().config.keys.forget_after.as_millis();
            let oldest = Millis(now.0.saturating_sub(u64::try_from(known).unwrap_or(u64::MAX)));
            async move {
                let issuer = desks.issuer.clone();
                // One that was cut off is looked for again after the next start.
                let control = Handle::current();
                let _ = tokio::task::spawn_blocking(move || control.block_on(telling.ended(&issuer, now))).await;
                // Only then: of what is forgotten nobody is told any more.
                if is_steady {
                    forget_ended(&desks, oldest).await;
                }
            }
        }
    };
    let hot = {
        let issuer = desks.issuer.clone();
        move || {
            let issuer = issuer.clone();
            async move {
                if let Err(error) = issuer.sweep().await {
                    tracing::warn!("keys that are not in use stay in memory: {}", super::sentence(&error));
                }
            }
        }
    };
    tokio::spawn({
        let issuer = desks.issuer.clone();
        async move {
            if let Err(error) = issuer.look_for_lost().await {
                tracing::warn!("whether the peppers of all keys are there is not known: {}", super::sentence(&error));
            }
        }
    });
    let save = move || {
        let Desks { issuer, tokens, .. } = desks.clone();
        async move {
            if let Err(error) = issuer.save_used().await {
                tracing::warn!("when keys were last used could not be saved: {}", super::sentence(&error));
            }
            if let Err(error) = issuer.tend_filter().await {
                tracing::warn!("the filter of keys could not be kept: {}", super::sentence(&error));
            }
            if let Err(error) = tokens.save_used().await {
                tracing::warn!("when admin tokens were last used could not be saved: {}", super::sentence(&error));
            }
            if let Err(error) = issuer.save_moves().await {
                tracing::warn!("secrets could not be moved to the newest pepper: {}", super::sentence(&error));
            }
        }
    };
    vec![
        tokio::spawn(every(SWEEP, stopped.clone(), hot)),
        tokio::spawn(every(PROBE, stopped.clone(), probe)),
        tokio::spawn(every(SWEEP, stopped.clone(), sweep)),
        tokio::spawn(every(SAVE, stopped.clone(), save)),
        tokio::spawn(every(SAVE, stopped.clone(), ends)),
        tokio::spawn(every(EXPIRE, stopped.clone(), expire)),
        tokio::spawn(every(FORGET, stopped.clone(), unrepeated)),
        tokio::spawn(every(FORGET, stopped, forget)),
    ]
}

/// Has other OpenAPI documents of pillars taken up.
pub(super) fn look_at_documents(changes: &Arc<Changes>, stopped: watch::Receiver<bool>) -> JoinHandle<()> {
    let (changes, look) = (Arc::downgrade(changes), Arc::new(Mutex::new(Look::default())));
    let work = move || {
        let (changes, look) = (changes.clone(), look.clone());
        let again = move || look.lock().unwrap_or_else(PoisonError::into_inner).again(&changes);
        async move {
            // One that was cut off has said so on its own.
            let _ = tokio::task::spawn_blocking(again).await;
        }
    };
    tokio::spawn(every(DOCUMENTS, stopped, work))
}

/// Keys and tokens that ended before this instant are forgotten.
async fn forget_ended(desks: &Desks, before: Millis) {
    if let Err(error) = desks.issuer.forget_ended(before).await {
        tracing::warn!("keys that ended long ago could not be forgotten: {}", super::sentence(&error));
    }
    if let Err(error) = desks.tokens.forget_ended(before).await {
        tracing::warn!("admin tokens that ended long ago could not be forgotten: {}", super::sentence(&error));
    }
}

async fn every<F: Future<Output = ()>>(
    period: Duration,
    mut stopped: watch::Receiver<bool>,
    mut work: impl FnMut() -> F,
) {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => work().await,
            _ = stopped.changed() => return,
        }
    }
}

/// The admin listener, until the stop signal comes.
pub(super) async fn admin(listener: TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    let stop = async move {
        // A closed channel is a stop too.
        let _ = stopped.changed().await;
    };
    if let Err(error) = crate::api::serve(listener, router, stop).await {
        tracing::error!("the admin listener ended: {error}");
    }
}

#[derive(Clone)]
struct Shown {
    gateway: Arc<Gateway>,
    usage: Arc<dyn UsageStore>,
    reads: Reads,
}

/// What the admin API shows of a running gateway.
pub(super) fn routes(gateway: Arc<Gateway>, usage: Arc<dyn UsageStore>, reads: Reads) -> Router {
    Router::new().route("/v1/usage", get(show_usage)).with_state(Shown { gateway, usage, reads })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    org: Option<String>,
    month: Option<String>,
}

/// One org's month; without an org, that of the callers without a key.
async fn show_usage(
    State(shown): State<Shown>,
    Extension(actor): Extension<Actor>,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, Refusal> {
    actor.may(Action::ReadUsage)?;
    let wrong = |parameter, detail: &str| Refusal::invalid(vec![Fault::of(parameter, detail)]);
    let org = asked.org.map(|id| id.parse::<OrgId>()).transpose();
    let org = org.map_err(|_| wrong("org", "is not the id of an org; write org_…"))?.or(actor.org());
    if org.is_some_and(|org| !actor.sees(org)) {
        return Err(Refusal::new(404, "not_found", "Not found", "There is no org with this id."));
    }
    let month = match asked.month {
        Some(month) => month.parse().map_err(|_| wrong("month", "is not a month; write for example 2026-11"))?,
        None => Month::of(shown.gateway.clock.now()),
    };
    let usage = shown.usage.clone();
    let summary = shown.reads.run(async move { usage.month(org.map(OrgId::number), month).await }).await?;
    let summary = summary.map_err(|error| Refusal::failed(&error))?;
    Ok(Json(json!({
        "org": org.map(|org| org.to_string()),
        "period": month.to_string(),
        "by_pillar": summary.by_pillar,
        "total": summary.total,
        "computed_at": shown.gateway.clock.now(),
    })))
}

/// Quotas of a month start from what was counted before: before a restart, or before there was such a limit. Those that the
/// earlier snapshot has as they are go on counting.
pub(super) async fn seed_limits(
    snapshot: &Snapshot,
    earlier: Option<&Snapshot>,
    store: &dyn UsageStore,
    taken_off: &TakenOff,
    now: Millis,
) -> Result<(), usage::StoreError> {
    let steps = || snapshot.pillars.iter().flat_map(|pillar| &pillar.chains).flat_map(|chain| &chain.steps);
    let known: Vec<&Definition> = earlier.into_iter().flat_map(limits).map(|limit| limit.definition()).collect();
    let monthly = |limit: &Limit| {
        limit.windows().iter().any(|window| window.per == Period::Month) && !known.contains(&limit.definition())
    };
    if !steps().any(|step| step.limits.iter().any(|limit| monthly(limit))) {
        return Ok(());
    }
    let counts = store.monthly_counts(Month::of(now)).await?;
    for step in steps() {
        for limit in step.limits.iter().filter(|limit| monthly(limit)) {
            let Counted(sums) = counted(limit, &counts);
            for (subject, calls) in sums {
                let calls = taken_off.left(limit.definition(), subject, calls);
                limit.seed(Subject::id(subject), calls, now);
            }
        }
    }
    Ok(())
}

/// Calls of a month, by the number of the subject that a limit counts for.
pub(super) struct Counted(pub(super) HashMap<u128, u64>);

/// What usage says of those for whom a limit counts.
pub(super) fn counted(limit: &Limit, counts: &[MonthlyCount]) -> Counted {
    // One of a rule's own starts anew: usage of a month is known by pillar.
    let pillar = limit.definition().pillar.as_deref();
    let mut sums: HashMap<u128, u64> = HashMap::new();
    for count in counts.iter().filter(|count| pillar.is_none_or(|pillar| *count.pillar == *pillar)) {
        let subject = match limit.kind() {
            SubjectKind::Key => count.caller.key,
            SubjectKind::Org => count.caller.org,
            SubjectKind::Everyone => Some(0),
            SubjectKind::Address | SubjectKind::Custom => None,
        };
        if let Some(subject) = subject {
            *sums.entry(subject).or_default() += count.calls;
        }
    }
    Counted(sums)
}

fn limits(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<Limit>> {
    snapshot
        .pillars
        .iter()
        .flat_map(|pillar| &pillar.chains)
        .flat_map(|chain| &chain.steps)
        .flat_map(|step| &step.limits)
}
