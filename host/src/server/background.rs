//! What goes on beside requests, on the control runtime: probes, sweeps, bookkeeping, the admin listener.
//!
//! Each task ends when the stop signal comes; none of them can hold up a worker.

use super::Kept;
use crate::credential::Issuer;
use crate::meter::{Count, Rows};
use crate::upstream;
use crate::worker::Gateway;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const PROBE: Duration = Duration::from_secs(5);
const SWEEP: Duration = Duration::from_secs(1);
const SAVE: Duration = Duration::from_secs(60);

/// Starts what runs in intervals.
pub(super) fn start(
    gateway: &Arc<Gateway>,
    kept: &Arc<Kept>,
    issuer: Arc<Issuer>,
    stopped: watch::Receiver<bool>,
) -> Vec<JoinHandle<()>> {
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
    let save = move || {
        let issuer = issuer.clone();
        async move {
            if let Err(error) = issuer.save_used().await {
                tracing::warn!("when keys were last used could not be saved: {}", super::sentence(&error));
            }
        }
    };
    vec![
        tokio::spawn(every(PROBE, stopped.clone(), probe)),
        tokio::spawn(every(SWEEP, stopped.clone(), sweep)),
        tokio::spawn(every(SAVE, stopped, save)),
    ]
}

async fn every<F: Future<Output = ()>>(period: Duration, mut stopped: watch::Receiver<bool>, mut work: impl FnMut() -> F) {
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
    usage: Arc<Mutex<Rows>>,
}

/// What the admin API shows of a running gateway.
pub(super) fn routes(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/v1/plugins", get(plugins))
        .route("/v1/usage", get(usage))
        .with_state(Shown { gateway, usage: Arc::default() })
}

async fn plugins(State(shown): State<Shown>) -> Json<Value> {
    let snapshot = shown.gateway.live.load_full();
    let one = |policy: &Arc<crate::plugin::Policy>| {
        let declared = &policy.component.declared;
        let counters: serde_json::Map<String, Value> =
            policy.counters.iter().map(|c| (c.name.clone(), c.value.load(Ordering::Relaxed).into())).collect();
        json!({
            "policy": &*policy.name,
            "plugin": declared.name,
            "version": declared.version,
            "summary": declared.summary,
            "digest": policy.component.digest,
            "powers": crate::plugin::named_powers(declared.powers).collect::<Vec<_>>(),
            "calls": policy.calls.load(Ordering::Relaxed),
            "failures": policy.failures.load(Ordering::Relaxed),
            "counters": counters,
        })
    };
    let policies: Vec<Value> = snapshot.policies.iter().map(one).collect();
    Json(json!({ "generation": snapshot.generation, "policies": policies }))
}

async fn usage(State(shown): State<Shown>) -> Json<Value> {
    let mut rows = shown.usage.lock().unwrap_or_else(PoisonError::into_inner);
    for (row, count) in shown.gateway.booked.drain() {
        rows.entry(row).or_default().add(&count);
    }
    let one = |(row, count): (&crate::meter::Row, &Count)| {
        json!({
            "org": row.caller.map(|(org, _)| org.to_string()),
            "key": row.caller.map(|(_, key)| key.to_string()),
            "pillar": &*row.pillar,
            "route": &*row.route,
            "calls": count.calls,
            "succeeded": count.succeeded,
            "denied": count.denied.iter().map(|(code, times)| (code.to_string(), Value::from(*times))).collect::<serde_json::Map<_, _>>(),
            "interrupted": count.interrupted,
            "bytes_in": count.bytes_in,
            "bytes_out": count.bytes_out,
            "units": count.units,
            "gas_micros": count.gas,
            "fuel": count.fuel,
        })
    };
    Json(json!({ "since": "start", "rows": rows.iter().map(one).collect::<Vec<_>>() }))
}
