//! The configuration over HTTP: what runs, and what another one would be; checked, compared, applied.
//!
//! A configuration is sent as it is written, in TOML, and must name the digest of what it was made from to be applied: nobody
//! overwrites what they have not seen.

use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::http::header::{ETAG, IF_MATCH};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::plugins::apart;
use crate::api::{Actor, Refusal, toml_text};
use crate::audit::{self, AuditStore, Note, Who};
use crate::clock::Clock;
use crate::config::{NotWritten, Problem};
use crate::problem::Fault;

/// Questions and changes that may wait for one another.
const MOST_WAITING: usize = 8;

/// Why a configuration was not applied, or cannot be looked at. What runs has not changed then.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It makes no sense, or does not fit the components that are there.
    #[error("the configuration does not fit, for {count} reasons")]
    NotFitting {
        /// The problems, 200 of a file at most.
        problems: Vec<Problem>,
        /// How many there are.
        count: usize,
    },
    /// It was made from another one than the one that runs, or the file says something else meanwhile.
    #[error("another configuration runs, or is in the file, than the one that it was made from")]
    Changed {
        /// The digest of what runs.
        running: String,
        /// The digest of what the file says, where it can be read.
        saved: Option<String>,
    },
    /// The file cannot be written.
    #[error("the configuration file cannot be written")]
    NotWritten(#[from] NotWritten),
    /// Something in here failed.
    #[error("something in the gateway failed")]
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

/// What came of applying a configuration.
#[derive(Debug)]
pub struct Applied {
    /// For whoever asked.
    pub shown: Value,
    /// For the audit log: digests, generations and key paths; null where nothing is written otherwise.
    pub noted: Value,
}

/// Shows and changes the configuration. Its methods wait: never called on an asynchronous thread.
pub trait ConfigControl: Send + Sync {
    /// What runs, of it what is under a key path; none where there is nothing.
    fn show(&self, under: &str) -> Option<Value>;

    /// Whether this one would run. Applies nothing.
    ///
    /// # Errors
    /// [`ConfigError`].
    fn check(&self, text: &str) -> Result<Value, ConfigError>;

    /// In what this one differs from what runs.
    ///
    /// # Errors
    /// [`ConfigError`].
    fn diff(&self, text: &str) -> Result<Value, ConfigError>;

    /// Has this one run and writes it into the file, where the one with the digest `based_on` runs and is there.
    ///
    /// # Errors
    /// [`ConfigError`].
    fn apply(self: Arc<Self>, text: &str, based_on: &str, who: Who) -> Result<Applied, ConfigError>;
}

/// Clones are cheap.
#[derive(Clone)]
struct Control {
    config: Arc<dyn ConfigControl>,
    audit: Arc<dyn AuditStore>,
    clock: Clock,
    waiting: Arc<Semaphore>,
}

impl Control {
    fn turn(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.waiting.clone().try_acquire_owned().map_err(|_| {
            let detail = "Other questions about the configuration are under way; try again when they are done.";
            Refusal::new(503, "busy", "Busy", detail).retry_after(1)
        })
    }

    /// Asks on a thread that may wait, to the end, whether somebody still waits for it or not.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(Arc<dyn ConfigControl>) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (turn, config) = (self.turn()?, self.config.clone());
        apart(move || {
            let _turn = turn;
            question(config)
        })
        .await
    }
}

/// The routes under `/v1/config`. What is applied there is in this log: that it begins, and how it ended.
pub fn routes(config: Arc<dyn ConfigControl>, audit: Arc<dyn AuditStore>, clock: Clock) -> Router {
    let control = Control { config, audit, clock, waiting: Arc::new(Semaphore::new(MOST_WAITING)) };
    Router::new()
        .route("/v1/config", get(show))
        .route("/v1/config/check", post(check))
        .route("/v1/config/diff", post(diff))
        .route("/v1/config/apply", post(apply))
        .with_state(control)
}

/// `GET /v1/config?key=`
async fn show(State(control): State<Control>, uri: Uri) -> Result<Response, Refusal> {
    let under = wanted(&uri)?;
    let asked = under.clone();
    let Some(shown) = control.ask(move |config| config.show(&asked)).await? else {
        let detail = format!("Nothing of the configuration is at `{under}`; write for example pillars.connect.");
        return Err(Refusal::new(404, "not_found", "Not found", detail));
    };
    let tag = format!("\"{}\"", shown["digest"].as_str().unwrap_or_default());
    let mut response = Json(shown).into_response();
    if let Ok(tag) = HeaderValue::try_from(tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    Ok(response)
}

fn wanted(uri: &Uri) -> Result<String, Refusal> {
    let Query(parameters) = Query::<Vec<(String, String)>>::try_from_uri(uri).unwrap_or_default();
    let mut key = String::new();
    let mut faults = Vec::new();
    for (name, value) in parameters {
        match name.as_str() {
            "key" => key = value,
            _ => faults.push(Fault::of(name, "There is no such parameter; `key` can be given.")),
        }
    }
    if faults.is_empty() { Ok(key) } else { Err(Refusal::invalid(faults)) }
}

/// `POST /v1/config/check`, with a configuration in TOML
async fn check(State(control): State<Control>, request: Request) -> Result<Json<Value>, Refusal> {
    let text = toml_text(request).await?;
    match control.ask(move |config| config.check(&text)).await? {
        Ok(shown) => Ok(Json(shown)),
        // That it does not fit is an answer to the question.
        Err(ConfigError::NotFitting { problems, count }) => {
            Ok(Json(json!({ "fits": false, "problems": problems, "count": count })))
        }
        Err(error) => Err(refused(error)),
    }
}

/// `POST /v1/config/diff`, with a configuration in TOML
async fn diff(State(control): State<Control>, request: Request) -> Result<Json<Value>, Refusal> {
    let text = toml_text(request).await?;
    control.ask(move |config| config.diff(&text)).await?.map(Json).map_err(refused)
}

/// `POST /v1/config/apply`, with a configuration in TOML, and with the digest of the one that it was made from in `If-Match`
async fn apply(
    State(control): State<Control>,
    Extension(actor): Extension<Actor>,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    let based_on = based_on(request.headers())?;
    let text = toml_text(request).await?;
    let turn = control.turn()?;
    // What nobody waits for any more is done to its end, and so is what is noted of it.
    let done = tokio::spawn(async move {
        let _turn = turn;
        let who = actor.who();
        let note = Note::new(who.clone(), "configuration.applied", control.clock.now()).on("configuration");
        let begun = audit::begin(&*control.audit, note).await.map_err(|error| Refusal::failed(&error))?;
        let config = control.config.clone();
        let applied = apart(move || config.apply(&text, &based_on, who)).await;
        let outcome = match &applied {
            Ok(Ok(applied)) => Ok(applied.noted.clone()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("it was cut off".to_owned()),
        };
        begun.end(&*control.audit, control.clock.now(), outcome).await;
        applied?.map(|applied| Json(applied.shown)).map_err(refused)
    });
    done.await.map_err(|error| Refusal::failed(&error))?
}

/// The one digest in `If-Match` (RFC 9110, section 13.1.1).
fn based_on(headers: &HeaderMap) -> Result<String, Refusal> {
    let mut fields = headers.get_all(IF_MATCH).iter();
    let Some(field) = fields.next() else {
        let detail = "Give the digest of the configuration that this one was made from: `If-Match: \"…\"`, with the `digest` of \
                      `GET /v1/config`.";
        return Err(Refusal::new(428, "digest_needed", "A digest is needed", detail));
    };
    let digest = field.to_str().ok().map(|text| text.trim_matches('"'));
    let is_digest = |text: &&str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digest.filter(is_digest).filter(|_| fields.next().is_none()).map(str::to_ascii_lowercase).ok_or_else(|| {
        let detail = "`If-Match` must be one digest of 64 hexadecimal digits, in quotes.";
        Refusal::new(400, "malformed_digest", "Malformed digest", detail)
    })
}

fn refused(error: ConfigError) -> Refusal {
    match error {
        ConfigError::NotFitting { problems, count } => {
            let fault = |problem: &Problem| match problem.line {
                0 => Fault::at("", problem.to_string()),
                line => Fault::at("", format!("line {line}: {problem}")),
            };
            let faults = problems.iter().map(fault).collect();
            Refusal::refused("configuration_refused", "The configuration was refused", faults)
                .with("problems", json!(problems))
                .with("count", count)
        }
        ConfigError::Changed { running, saved } => {
            let detail = match saved.as_ref() == Some(&running) {
                true => {
                    "Another configuration runs than the one that this was made from; look at it, and make yours from that."
                }
                false => {
                    "The configuration file says something else than what runs, or cannot be read; `refused` of `GET /v1/config` may say why."
                }
            };
            Refusal::new(412, "configuration_changed", "The configuration has changed", detail)
                .with("running", running)
                .with("saved", saved)
        }
        ConfigError::NotWritten(error) => {
            let because = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            tracing::error!("{error}: {because}");
            let detail = "The gateway cannot write its configuration file, or the directory of it, so nothing was applied; change the file where \
                          it comes from. The log says more.";
            Refusal::new(409, "configuration_not_writable", "The configuration cannot be written", detail)
        }
        ConfigError::Failed(error) => Refusal::failed(&*error),
    }
}
