//! Turns a denial into an answer (RFC 9457); the only file that names those statuses.
//!
//! Words are for whoever wrote the client: what is wrong, and what to do. Nothing internal is in them.

use crate::body::Body;
use crate::denial::{Denial, Throttle};
use crate::head::{RATELIMIT, RATELIMIT_POLICY};
use crate::problem::{self, Problem};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};

/// The answer to a refused request; `request_id` becomes its `instance`.
pub fn to(denial: &Denial, request_id: &str) -> Response<Body> {
    let (status, title, detail) = wording(denial);
    let mut problem = Problem::new(status.as_u16(), denial.code().to_owned(), title, detail).instance(request_id);
    if let Denial::UpstreamNotYetImplemented { pillar, path, method, developer_docs } = denial {
        problem = problem
            .with("pillar", pillar.as_str())
            .with("path", path.as_str())
            .with("method", method.as_str())
            .with("developer_docs", developer_docs.as_str());
    }
    let mut response = Response::new(Body::whole(problem.to_bytes()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(problem::MEDIA_TYPE));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match denial {
        Denial::RateLimited(throttle) | Denial::QuotaExceeded(throttle) => {
            let Throttle { retry_after, policy, state } = throttle;
            headers.insert(RETRY_AFTER, HeaderValue::from(*retry_after));
            headers.insert(RATELIMIT_POLICY, policy.clone());
            headers.insert(RATELIMIT, state.clone());
        }
        Denial::MethodNotAllowed { allow } => {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        Denial::PolicyUnavailable { again, .. } => {
            headers.insert(RETRY_AFTER, HeaderValue::from(*again));
        }
        Denial::UpstreamOverloaded
        | Denial::MeteringUnavailable
        | Denial::GatewayBusy
        | Denial::CredentialUnavailable => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        _ => {}
    }
    if let Some(challenge) = challenge(denial) {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

/// The challenge of RFC 6750, section 3: without an error where no credential came.
fn challenge(denial: &Denial) -> Option<HeaderValue> {
    let value = match denial {
        Denial::MissingAuthorization => "Bearer realm=\"portico\"",
        Denial::InvalidTokenShape => {
            "Bearer realm=\"portico\", error=\"invalid_token\", error_description=\"not shaped like a key\""
        }
        Denial::InvalidApiKey => "Bearer realm=\"portico\", error=\"invalid_token\", error_description=\"no such key\"",
        Denial::KeyRevoked => {
            "Bearer realm=\"portico\", error=\"invalid_token\", error_description=\"the key was revoked\""
        }
        Denial::KeyExpired => {
            "Bearer realm=\"portico\", error=\"invalid_token\", error_description=\"the key has expired\""
        }
        Denial::InsufficientScope { scope } => {
            let value = format!("Bearer realm=\"portico\", error=\"insufficient_scope\", scope=\"{scope}\"");
            return HeaderValue::try_from(value).ok();
        }
        _ => return None,
    };
    Some(HeaderValue::from_static(value))
}

fn wording(denial: &Denial) -> (StatusCode, &'static str, String) {
    let (status, title, detail) = match denial {
        Denial::MalformedRequest(why) => {
            return (StatusCode::BAD_REQUEST, "Malformed request", format!("The request is not passed on: {why}."));
        }
        Denial::MissingAuthorization => {
            (401, "Missing authorization", "Send your key in the field `Authorization: Bearer sk_…`.")
        }
        Denial::InvalidTokenShape => (
            401,
            "Invalid token shape",
            "What you sent is not shaped like a key; check that it was copied whole, in one `Authorization: Bearer` field.",
        ),
        Denial::InvalidApiKey => (401, "Invalid API key", "There is no such key; check it for a mix-up."),
        Denial::KeyRevoked => (401, "Key revoked", "This key was revoked; use another one."),
        Denial::KeyExpired => (401, "Key expired", "This key has expired; use another one."),
        Denial::InsufficientScope { scope } => {
            let detail = format!("This needs a key with the scope `{scope}`, which yours does not have.");
            return (StatusCode::FORBIDDEN, "Insufficient scope", detail);
        }
        Denial::AddressNotAllowed => {
            (403, "Address not allowed", "This key can be used only from the networks that it is bound to.")
        }
        Denial::NotFound => (404, "Not found", "There is nothing at this path."),
        Denial::MethodNotAllowed { allow } => {
            return (
                StatusCode::METHOD_NOT_ALLOWED,
                "Method not allowed",
                format!("This method cannot be used here; possible are: {allow}."),
            );
        }
        Denial::RateLimited(throttle) => {
            let detail = format!("Too many requests; come again in {} s.", throttle.retry_after);
            return (StatusCode::TOO_MANY_REQUESTS, "Rate limited", detail);
        }
        Denial::QuotaExceeded(throttle) => {
            let detail = format!("The quota of this month is used up; it starts anew in {} s.", throttle.retry_after);
            return (StatusCode::TOO_MANY_REQUESTS, "Quota exceeded", detail);
        }
        Denial::PolicyUnavailable { policy, again } => {
            let detail = format!("The policy `{policy}` could not decide about this request; try again in {again} s.");
            return (StatusCode::SERVICE_UNAVAILABLE, "Policy unavailable", detail);
        }
        Denial::ByPolicy { status, message, .. } => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::FORBIDDEN);
            return (status, "Refused by a policy", message.clone());
        }
        Denial::UpstreamNotYetImplemented { pillar, .. } => {
            let detail = format!("The pillar `{pillar}` is planned, and nothing answers behind it yet.");
            return (StatusCode::SERVICE_UNAVAILABLE, "Upstream not yet implemented", detail);
        }
        Denial::SandboxNotAvailable { pillar } => {
            let detail = format!("The pillar `{pillar}` has nothing for sandbox keys yet; a live key works.");
            return (StatusCode::SERVICE_UNAVAILABLE, "Sandbox not available", detail);
        }
        Denial::MeteringUnavailable => (
            503,
            "Metering unavailable",
            "Calls cannot be counted at this moment, so none are passed on; try again in a moment.",
        ),
        Denial::CredentialUnavailable => {
            (503, "Credential unavailable", "Your key cannot be looked up at this moment; try again in a moment.")
        }
        Denial::UpstreamUnreachable => {
            (502, "Upstream unreachable", "The service behind this path could not be reached; try again later.")
        }
        Denial::UpstreamOverloaded => {
            (503, "Upstream overloaded", "The service behind this path is busy; try again in a moment.")
        }
        Denial::UpstreamBroke => (502, "Upstream broke off", "The service behind this path broke off its answer."),
        Denial::RequestBodyTooLarge { limit } => {
            let detail = format!("The body of a request to this path can have {limit} bytes.");
            return (StatusCode::PAYLOAD_TOO_LARGE, "Request body too large", detail);
        }
        Denial::RequestBodyStalled => {
            (408, "Request body stalled", "The body of the request did not come; send it again as a whole.")
        }
        Denial::ResponseBodyTooLarge { limit } => {
            let detail = format!(
                "The answer of the service behind this path has more than the {limit} bytes that can be checked."
            );
            return (StatusCode::BAD_GATEWAY, "Response body too large", detail);
        }
        Denial::ResponseRefused { policy } => {
            let detail = format!("The policy `{policy}` does not let this answer pass.");
            return (StatusCode::BAD_GATEWAY, "Response refused", detail);
        }
        Denial::GatewayBusy => {
            (503, "Gateway busy", "The gateway's own API has too much to do; nothing was done, try again in a moment.")
        }
        Denial::GatewayTimedOut => (
            504,
            "Gateway timed out",
            "The gateway's own API took too long; what you asked for may have been done, so look before you try again.",
        ),
        Denial::UpstreamTimedOut => {
            (504, "Upstream timed out", "The service behind this path took too long to answer.")
        }
    };
    (StatusCode::from_u16(status).expect("statuses above are valid"), title, detail.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle() -> Throttle {
        Throttle {
            retry_after: 7,
            policy: HeaderValue::from_static("\"sec\";q=100;w=1"),
            state: HeaderValue::from_static("\"sec\";r=0;t=1"),
        }
    }

    #[test]
    fn every_401_and_only_they_challenge() {
        for denial in [
            Denial::MissingAuthorization,
            Denial::InvalidTokenShape,
            Denial::InvalidApiKey,
            Denial::KeyRevoked,
            Denial::KeyExpired,
        ] {
            let response = to(&denial, "req_1");
            assert_eq!(response.status(), 401, "{denial:?}");
            assert!(response.headers().contains_key(WWW_AUTHENTICATE), "{denial:?}");
        }
        assert!(!to(&Denial::NotFound, "req_1").headers().contains_key(WWW_AUTHENTICATE));
    }

    #[test]
    fn a_throttled_client_learns_when_to_come_again() {
        let response = to(&Denial::RateLimited(throttle()), "req_1");
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "7");
        assert_eq!(response.headers()["ratelimit"], "\"sec\";r=0;t=1");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
}
