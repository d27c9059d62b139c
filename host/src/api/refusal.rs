//! Refusals on their way out of a handler.
//!
//! A handler says what is wrong; the id of the request and the bytes are added in one place, on the way out.

use std::borrow::Cow;
use std::error::Error;

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::problem::{Fault, MEDIA_TYPE, Problem};

/// A refusal: what a handler answers instead of what was asked for.
#[derive(Debug)]
pub struct Refusal {
    /// Apart, because results that are refused are the exception.
    problem: Box<Problem>,
    retry_after: Option<u64>,
}

impl Refusal {
    /// A refusal in these words: see [`Problem::new`].
    pub fn new(status: u16, code: &'static str, title: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { problem: Problem::new(status, code, title, detail).into(), retry_after: None }
    }

    /// 422: the request was understood, and what it asks for cannot be; with everything that is wrong.
    pub fn invalid(faults: Vec<Fault>) -> Self {
        let detail = match faults.as_slice() {
            [only] => only.detail.clone(),
            many => format!("{} things are wrong with the request; `errors` lists them.", many.len()),
        };
        let problem = Problem::new(422, "invalid_request", "The request cannot be carried out", detail);
        Self { problem: problem.faults(faults).into(), retry_after: None }
    }

    /// 422 with a code of its own: what was asked for was tried, and does not fit.
    pub fn refused(code: &'static str, title: &'static str, faults: Vec<Fault>) -> Self {
        let detail = match faults.as_slice() {
            [only] => only.detail.clone(),
            many => format!("There are {} reasons; `errors` lists them.", many.len()),
        };
        Self { problem: Problem::new(422, code, title, detail).faults(faults).into(), retry_after: None }
    }

    /// 503: something in here failed. The cause goes to the log, not to the client.
    pub fn failed(error: &dyn Error) -> Self {
        let mut causes = String::new();
        let mut cause = error.source();
        while let Some(error) = cause {
            causes.push_str(": ");
            causes.push_str(&error.to_string());
            cause = error.source();
        }
        tracing::error!("{error}{causes}");
        Self::store_unavailable()
    }

    /// What [`Self::failed`] tells the client.
    pub(super) fn store_unavailable() -> Self {
        Self::new(
            503,
            "store_unavailable",
            "The store is not available",
            "The gateway cannot reach its store now; its log says why. Try again later.",
        )
    }

    /// With everything that is wrong.
    pub fn faults(mut self, faults: Vec<Fault>) -> Self {
        self.problem.faults = faults;
        self
    }

    /// With a member that this code has beyond the usual ones: see [`Problem::with`].
    pub fn with(mut self, name: &'static str, value: impl Into<serde_json::Value>) -> Self {
        self.problem.members.push((name, value.into()));
        self
    }

    /// What it says.
    pub(super) fn problem(&self) -> &Problem {
        &self.problem
    }

    /// With the seconds after which it makes sense to try again.
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = status(&self.problem).into_response();
        let headers = response.headers_mut();
        if self.problem.status == 401 {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"portico admin\""));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response.extensions_mut().insert(*self.problem);
        response
    }
}

/// The problem for a refusal that nobody worded, for example one of the framework's own.
pub(super) fn unworded(status: StatusCode) -> Problem {
    let reason = status.canonical_reason().unwrap_or("Refused");
    Problem::new(
        status.as_u16(),
        reason.to_ascii_lowercase().replace([' ', '-'], "_").replace('\'', ""),
        reason,
        "The request was refused.",
    )
}

/// The answer with the problem as its body; fields that the refusal set stay.
pub(super) fn render(problem: Problem, refused: &Response) -> Response {
    let mut response = Response::new(Body::from(problem.to_bytes()));
    *response.status_mut() = status(&problem);
    for name in [ALLOW, WWW_AUTHENTICATE, RETRY_AFTER] {
        if let Some(value) = refused.headers().get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    response
}

fn status(problem: &Problem) -> StatusCode {
    StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
