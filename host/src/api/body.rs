//! Bodies of the control API: JSON objects, small, and in time; and configurations in TOML.

use std::error::Error;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::LengthLimitError;
use serde_json::{Map, Value};

use super::{Actor, Refusal};
use crate::config;
use crate::inner;
use crate::json;
use crate::problem::Fault;

/// The most bytes in a body, on either listener.
pub const LIMIT: usize = inner::LARGEST_BODY;
const TOO_LARGE: &str = "A body may have 64 KiB at most.";
/// How long a body may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// The JSON object in a body, or the refusal that it deserves: 415, 413, 408, 400 or 422.
pub async fn json_object(request: Request) -> Result<Map<String, Value>, Refusal> {
    if !is_of_kind(&request, b"application/json") {
        return Err(not_json());
    }
    let bytes = bytes(request, LIMIT, TOO_LARGE).await?;
    match json::read(&bytes) {
        Ok((_, twice)) if !twice.is_empty() => {
            let told = |place| Fault::at(place, "This is named twice; which of the two counts is not sure.");
            Err(Refusal::invalid(twice.into_iter().map(told).collect()))
        }
        Ok((Value::Object(object), _)) => Ok(object),
        Ok(_) => Err(Refusal::invalid(vec![Fault::at("", "The body must be a JSON object.")])),
        Err(error) => Err(malformed(&error.to_string())),
    }
}

/// As [`json_object`]; an empty one where there is no body at all.
pub async fn optional_json_object(request: Request) -> Result<Map<String, Value>, Refusal> {
    // By what comes, and not by what is said of it: what is overlooked would be done otherwise than was asked for.
    if request.body().is_end_stream() { Ok(Map::new()) } else { json_object(request).await }
}

/// The request with all of its body in memory, and that body; or the refusal that it deserves: 413, 408 or 400.
pub(super) async fn gathered(request: Request) -> Result<(Request, Bytes), Refusal> {
    let (parts, body) = request.into_parts();
    let mut carrier = Request::new(body);
    carrier.extensions_mut().extend(parts.extensions.clone());
    let bytes = bytes(carrier, LIMIT, TOO_LARGE).await?;
    Ok((Request::from_parts(parts, Body::from(bytes.clone())), bytes))
}

/// The configuration in a body, as it is written, or the refusal that it deserves: 415, 413, 408 or 400.
pub(super) async fn toml_text(request: Request) -> Result<String, Refusal> {
    if !is_of_kind(&request, b"application/toml") {
        let detail = "Send the configuration as TOML, with `Content-Type: application/toml`.";
        return Err(Refusal::new(415, "unsupported_media_type", "Unsupported media type", detail));
    }
    let most = usize::try_from(config::MAXIMUM).unwrap_or(usize::MAX);
    let bytes = bytes(request, most, "A configuration may have 4 MiB at most.").await?;
    String::from_utf8(bytes.into()).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Refusal::new(400, "not_utf8", "Not UTF-8", format!("The body is not UTF-8 from byte {at} on."))
    })
}

fn is_of_kind(request: &Request, wanted: &[u8]) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
    let essence = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    essence.eq_ignore_ascii_case(wanted)
}

async fn bytes(request: Request, most: usize, too_large: &'static str) -> Result<Bytes, Refusal> {
    let actor = request.extensions().get::<Actor>().cloned();
    let bytes = tokio::time::timeout(PATIENCE, to_bytes(request.into_body(), most))
        .await
        .map_err(|_| {
            Refusal::new(408, "request_timeout", "Request timeout", "The body did not come within 10 seconds.")
        })?
        .map_err(|error| unreadable(&error, too_large))?;
    // The body may have taken its time: whoever's token was revoked meanwhile does nothing any more.
    actor.map_or(Ok(()), |actor| actor.check_again())?;
    Ok(bytes)
}

/// What a body that is there as a whole can be refused with, for documentation.
pub(super) fn refusals() -> [Refusal; 2] {
    [malformed("expected value at line 1 column 1"), not_json()]
}

fn not_json() -> Refusal {
    let detail = "Send the body as JSON, with `Content-Type: application/json`.";
    Refusal::new(415, "unsupported_media_type", "Unsupported media type", detail)
}

fn malformed(why: &str) -> Refusal {
    Refusal::new(400, "malformed_json", "Malformed JSON", format!("The body is not JSON: {why}."))
}

fn unreadable(error: &axum::Error, too_large: &'static str) -> Refusal {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return Refusal::new(413, "request_body_too_large", "Request body too large", too_large);
        }
        cause = error.source();
    }
    Refusal::new(400, "broken_body", "Broken body", "The body broke off before its end.")
}
