//! All that is kept of one org, over HTTP: a line of JSON for each thing, and one that says that it was all.
//!
//! Never a secret, nor a digest of one. Read page by page while others write: what changes meanwhile may be in it or not.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, body::Body};
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{AdminState, orgs, stream::Taken, tokens};
use crate::api::requests::RequestShown;
use crate::api::shapes::KeyShown;
use crate::api::shapes::webhook::WebhookShown;
use crate::api::{Action, Actor, Refusal};
use crate::audit::{Filter, Note};
use crate::clock::Millis;
use crate::id::OrgId;
use crate::org::Org;
use crate::requests::{self, RequestLog};
use crate::usage::{Month, UsageStore};

/// What is read at once.
const PAGE: usize = 200;
/// Lines that wait for whoever takes them.
const WAITING: usize = 64;
/// How long nobody may take a line.
const PATIENCE: Duration = Duration::from_secs(60);
/// Exports at once, each of another org: none keeps the others out.
const MOST: usize = 8;
/// How far back usage goes, at most.
const KEPT: Duration = Duration::from_secs(25 * 31 * 86_400);

#[derive(Clone)]
struct Desk {
    state: AdminState,
    usage: Arc<dyn UsageStore>,
    log: Option<Arc<dyn RequestLog>>,
    places: Places,
}

/// Orgs that are being exported.
#[derive(Clone, Default)]
struct Places(Arc<Mutex<HashSet<OrgId>>>);

/// A place, for as long as it is held.
struct Place {
    places: Places,
    org: OrgId,
}

impl Places {
    /// A place for this org; none where it has one, or where there is none left.
    fn take(&self, org: OrgId) -> Option<Place> {
        let mut orgs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = orgs.len() < MOST && orgs.insert(org);
        is_free.then(|| Place { places: self.clone(), org })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.org);
    }
}

/// What ends an export early: nobody takes it, or a store does not work.
struct Ended(Option<Box<dyn std::error::Error + Send + Sync>>);

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Ended {
    fn from(error: E) -> Self {
        Self(Some(Box::new(error)))
    }
}

/// The route `/v1/orgs/{org}/export`. Who had one made is in the audit log.
pub fn routes(state: AdminState, usage: Arc<dyn UsageStore>, log: Option<Arc<dyn RequestLog>>) -> Router {
    let desk = Desk { state, usage, log, places: Places::default() };
    Router::new().route("/v1/orgs/{org}/export", post(export)).with_state(desk)
}

async fn export(
    State(desk): State<Desk>,
    Extension(actor): Extension<Actor>,
    org: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    // It is no more than whoever may do all of this can read anyway.
    let all = [
        Action::ReadOrgs,
        Action::ReadKeys,
        Action::ReadTokens,
        Action::ReadWebhooks,
        Action::ReadUsage,
        Action::ReadAudit,
    ];
    all.into_iter().try_for_each(|action| actor.may(action).map(drop))?;
    let org = orgs::find(&desk.state, &actor, org).await?;
    let place = desk.places.take(org.id).ok_or_else(|| {
        let detail = "This org is being exported, or as many are as may be at once; ask again when that is done.";
        Refusal::new(503, "busy", "Busy", detail).retry_after(5)
    })?;
    let now = desk.state.clock.now();
    let note = Note::new(actor.who(), "org.exported", now).org(Some(org.id)).on(org.id);
    desk.state.desks.audit.append(note).await.map_err(|error| Refusal::failed(&error))?;
    let (lines, taken) = mpsc::channel(WAITING);
    tokio::spawn(async move {
        let _place = place;
        let mut lines = Lines { into: lines, written: 0 };
        if let Err(Ended(Some(error))) = all_of(&desk, &org, now, &mut lines).await {
            tracing::error!(org = %org.id, "the export of an org ended early: {error}");
            // So that nobody takes it for a whole answer.
            let broken = Err(io::Error::other("the export ended early"));
            let _ = tokio::time::timeout(PATIENCE, lines.into.send(broken)).await;
        }
    });
    let mut response = Body::new(Taken(taken)).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/jsonl"));
    Ok(response)
}

async fn all_of(desk: &Desk, org: &Org, now: Millis, lines: &mut Lines) -> Result<(), Ended> {
    lines.put("org", &orgs::document(org)).await?;
    keys(desk, org, now, lines).await?;
    let one = std::slice::from_ref(org);
    for token in desk.state.desks.tokens.list().iter().filter(|token| token.terms.org == Some(org.id)) {
        lines.put("token", &tokens::document(token, one, &desk.state)).await?;
    }
    for webhook in desk.state.desks.webhooks.after(None, |webhook| webhook.org == org.id) {
        lines.put("webhook", &WebhookShown::of(&webhook, one, now)).await?;
    }
    usage(desk, org.id, now, lines).await?;
    requests(desk, org.id, lines).await?;
    audit(desk, org.id, lines).await?;
    let written = lines.written;
    lines.put("end", &json!({ "lines": written })).await
}

async fn keys(desk: &Desk, org: &Org, now: Millis, lines: &mut Lines) -> Result<(), Ended> {
    let mut after = None;
    loop {
        let (keys, more) = desk.state.desks.issuer.page(Some(org.id), after, PAGE).await?;
        for key in &keys {
            lines.put("key", &KeyShown::of(key, std::slice::from_ref(org), now)).await?;
        }
        after = keys.last().map(|kept| kept.key.id);
        if !more {
            return Ok(());
        }
    }
}

/// A line for each month in which there was something.
async fn usage(desk: &Desk, org: OrgId, now: Millis, lines: &mut Lines) -> Result<(), Ended> {
    let oldest = Millis(now.0.saturating_sub(u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX)));
    let (mut month, last) = (Month::of(oldest), Month::of(now));
    loop {
        let summary = desk.usage.month(Some(org.number()), month).await?;
        if summary.total.calls > 0 {
            let (by_pillar, total) = (summary.by_pillar, summary.total);
            let line = json!({ "period": month.to_string(), "by_pillar": by_pillar, "total": total });
            lines.put("usage", &line).await?;
        }
        if month == last {
            return Ok(());
        }
        month = month.next();
    }
}

async fn requests(desk: &Desk, org: OrgId, lines: &mut Lines) -> Result<(), Ended> {
    let Some(log) = &desk.log else { return Ok(()) };
    let mut before = None;
    loop {
        let filter = requests::Filter { org: Some(org.number()), ..Default::default() };
        let page = log.page(filter, before, PAGE).await?;
        for entry in page.rows.iter().filter_map(|row| requests::Entry::read(row)) {
            let shown = RequestShown::of(&entry);
            lines.put("request", &shown).await?;
        }
        before = page.next;
        if before.is_none() {
            return Ok(());
        }
    }
}

async fn audit(desk: &Desk, org: OrgId, lines: &mut Lines) -> Result<(), Ended> {
    let mut before = None;
    loop {
        let filter = Filter { org: Some(org), ..Filter::default() };
        let page = desk.state.desks.audit.page(filter, before, PAGE).await?;
        for entry in &page.entries {
            lines.put("audit", entry).await?;
        }
        before = page.next;
        if before.is_none() {
            return Ok(());
        }
    }
}

/// Where lines go.
struct Lines {
    into: mpsc::Sender<io::Result<Bytes>>,
    written: u64,
}

impl Lines {
    async fn put(&mut self, kind: &'static str, of: &impl Serialize) -> Result<(), Ended> {
        let mut line: Vec<u8> = serde_json::to_vec(&Line { kind, of: serde_json::to_value(of)? })?;
        line.push(b'\n');
        self.written += 1;
        match tokio::time::timeout(PATIENCE, self.into.send(Ok(line.into()))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Ended(None)),
        }
    }
}

#[derive(Serialize)]
struct Line {
    kind: &'static str,
    #[serde(flatten)]
    of: Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_org_has_one_place_and_takes_none_from_others() {
        let places = Places::default();
        let org = |number: usize| OrgId::from_number(number as u128);
        let mut held: Vec<Place> = (0..MOST - 1).map(|number| places.take(org(number)).unwrap()).collect();
        assert!((0..MOST - 1).all(|number| places.take(org(number)).is_none()), "each has one");
        held.extend(places.take(org(MOST)));
        assert!(places.take(org(MOST + 1)).is_none(), "none is left");
        held.remove(0);
        assert!(places.take(org(0)).is_some());
    }
}
