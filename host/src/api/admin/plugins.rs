//! Plugins over HTTP: what serves, what happened, and what operators want of it.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::api::{Actor, Refusal, optional_json_object};
use crate::audit::{self, AuditStore, Note, Who};
use crate::clock::Clock;
use crate::problem::Fault;

/// Acts that may wait for one another.
const MOST_WAITING: usize = 8;

/// What an operator wants of a policy's component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Look at the directory again, and take what is there, also in place of what was gone back to.
    Reload,
    /// Go back: to the version whose digest begins so, or to the one that served before.
    Rollback(Option<String>),
    /// Take the policy out of its chains.
    Disable,
    /// Put it back.
    Enable,
}

/// Why an act was not carried out. What serves has not changed then.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// There is no such policy.
    #[error("there is no such policy")]
    Unknown,
    /// There is no version to go back to; the sentence says which was looked for.
    #[error("{0}")]
    NoVersion(String),
    /// The component was refused, for these reasons.
    #[error("the component was refused: {}", .0.join("; "))]
    Refused(Vec<String>),
    /// Something in here failed.
    #[error("something in the gateway failed")]
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

/// Shows and changes what serves. Its methods wait: never called on an asynchronous thread.
pub trait PluginControl: Send + Sync {
    /// All policies with their components.
    fn list(&self) -> Value;

    /// What happened to the component of one policy.
    fn history(&self, policy: &str) -> Option<Value>;

    /// Carries an act out for whoever wants it, and shows the policy afterwards.
    ///
    /// # Errors
    /// [`ActError`].
    fn act(&self, policy: &str, act: Act, who: Who) -> Result<Value, ActError>;
}

/// Clones are cheap.
#[derive(Clone)]
struct Control {
    plugins: Arc<dyn PluginControl>,
    audit: Arc<dyn AuditStore>,
    clock: Clock,
    /// Each act waits on a thread: callers that repeat themselves while one takes long must not use up all threads.
    waiting: Arc<Semaphore>,
}

/// The routes under `/v1/plugins`. What is done there is in this log: that it begins, and how it ended.
pub fn routes(plugins: Arc<dyn PluginControl>, audit: Arc<dyn AuditStore>, clock: Clock) -> Router {
    let control = Control { plugins, audit, clock, waiting: Arc::new(Semaphore::new(MOST_WAITING)) };
    let act = |act: fn() -> Act| {
        post(
            move |State(control): State<Control>,
                  Extension(actor): Extension<Actor>,
                  name: Result<Path<String>, PathRejection>| carry_out(control, actor, name, act()),
        )
    };
    Router::new()
        .route("/v1/plugins", get(list))
        .route("/v1/plugins/{policy}/history", get(history))
        .route("/v1/plugins/{policy}/reload", act(|| Act::Reload))
        .route("/v1/plugins/{policy}/disable", act(|| Act::Disable))
        .route("/v1/plugins/{policy}/enable", act(|| Act::Enable))
        .route("/v1/plugins/{policy}/rollback", post(rollback))
        .with_state(control)
}

/// `GET /v1/plugins`
async fn list(State(control): State<Control>) -> Result<Json<Value>, Refusal> {
    Ok(Json(apart(move || control.plugins.list()).await?))
}

/// `GET /v1/plugins/{policy}/history`
async fn history(
    State(control): State<Control>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Refusal> {
    let Ok(Path(policy)) = name else { return Err(unknown("")) };
    let asked = policy.clone();
    apart(move || control.plugins.history(&asked)).await?.map(Json).ok_or_else(|| unknown(&policy))
}

/// `POST /v1/plugins/{policy}/rollback`, with `{"digest": "…"}` or without a body
async fn rollback(
    State(control): State<Control>,
    Extension(actor): Extension<Actor>,
    name: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    let body = optional_json_object(request).await?;
    let mut faults = Vec::new();
    let mut digest = None;
    for (member, value) in &body {
        match (member.as_str(), value) {
            ("digest", Value::String(text)) if is_start_of_digest(text) => digest = Some(text.clone()),
            ("digest", _) => faults.push(Fault::at("/digest", "Write at least the first eight digits of a digest.")),
            (other, _) => {
                faults.push(Fault::at(crate::problem::token(other), "There is no such member; `digest` can be given."));
            }
        }
    }
    if !faults.is_empty() {
        return Err(Refusal::invalid(faults));
    }
    carry_out(control, actor, name, Act::Rollback(digest)).await
}

fn is_start_of_digest(text: &str) -> bool {
    (8..=64).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

async fn carry_out(
    control: Control,
    actor: Actor,
    name: Result<Path<String>, PathRejection>,
    act: Act,
) -> Result<Json<Value>, Refusal> {
    let Ok(Path(policy)) = name else { return Err(unknown("")) };
    let asked = policy.clone();
    let Ok(permit) = control.waiting.clone().try_acquire_owned() else {
        let detail = "Other changes of plugins are under way; try again when they are done.";
        return Err(Refusal::new(503, "busy", "Busy", detail).retry_after(1));
    };
    let action = match act {
        Act::Reload => "plugin.reloaded",
        Act::Rollback(_) => "plugin.rolled_back",
        Act::Disable => "plugin.disabled",
        Act::Enable => "plugin.enabled",
    };
    // What nobody waits for any more is done to its end, and so is what is noted of it.
    let done = tokio::spawn(async move {
        let _permit = permit;
        let who = actor.who();
        let note = Note::new(who.clone(), action, control.clock.now()).on(&policy);
        let begun = audit::begin(&*control.audit, note).await.map_err(|error| Refusal::failed(&error))?;
        let plugins = control.plugins.clone();
        let acted = apart(move || plugins.act(&asked, act, who)).await;
        let outcome = match &acted {
            Ok(Ok(shown)) => Ok(json!({ "state": shown["state"], "digest": shown["digest"] })),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("it was cut off".to_owned()),
        };
        begun.end(&*control.audit, control.clock.now(), outcome).await;
        acted?.map(Json).map_err(|error| refused(error, &policy))
    });
    done.await.map_err(|error| Refusal::failed(&error))?
}

fn refused(error: ActError, policy: &str) -> Refusal {
    match error {
        ActError::Unknown => unknown(policy),
        ActError::NoVersion(sentence) => {
            Refusal::new(409, "no_earlier_version", "No version to go back to", format!("{sentence}."))
        }
        ActError::Refused(reasons) => {
            let faults = reasons.into_iter().map(|reason| Fault::at("", reason)).collect();
            Refusal::refused("plugin_refused", "The component was refused", faults)
        }
        ActError::Failed(error) => Refusal::failed(&*error),
    }
}

fn unknown(policy: &str) -> Refusal {
    let detail = format!("There is no policy `{policy}`; `GET /v1/plugins` lists all.");
    Refusal::new(404, "not_found", "Not found", detail)
}

/// Does what may wait on a thread for that.
pub(super) async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Refusal::failed(&error))
}
