//! Why the gateway, and not the upstream, answered.
//!
//! Each reason has one stable code: the same in the body, in usage and in logs (usage counts a policy's own codes
//! together, as `by_policy`). Statuses and wording are not chosen
//! here but in `respond`.

use http::HeaderValue;
use std::borrow::Cow;

/// A refusal by the gateway.
#[derive(Debug, Clone)]
pub enum Denial {
    /// The request breaks a rule of HTTP, or could be read in two ways.
    MalformedRequest(Cow<'static, str>),
    /// No `Authorization` field.
    MissingAuthorization,
    /// Something that cannot be a key.
    InvalidTokenShape,
    /// Well formed, and nobody's key.
    InvalidApiKey,
    /// Whether the key is somebody's cannot be said at this moment.
    CredentialUnavailable,
    /// The key was revoked.
    KeyRevoked,
    /// The key's time is over.
    KeyExpired,
    /// The key lacks the pillar's scope.
    InsufficientScope {
        /// The scope that is needed.
        scope: String,
    },
    /// The key is bound to other networks.
    AddressNotAllowed,
    /// Nothing is at this path.
    NotFound,
    /// The method cannot be used here.
    MethodNotAllowed {
        /// The methods that can.
        allow: &'static str,
    },
    /// A limit has no room.
    RateLimited(Throttle),
    /// A quota for the month is used up.
    QuotaExceeded(Throttle),
    /// A policy that must not be skipped failed.
    PolicyUnavailable {
        /// Which one.
        policy: String,
        /// Seconds until it may be asked again, as far as that is known; at least 1.
        again: u32,
    },
    /// A policy's own refusal.
    ByPolicy {
        /// Status, 400 to 499 or 503.
        status: u16,
        /// Its code.
        code: String,
        /// Its words.
        message: String,
    },
    /// The pillar has no upstream yet.
    UpstreamNotYetImplemented {
        /// The pillar.
        pillar: String,
        /// The path that was asked for.
        path: String,
        /// The method.
        method: String,
        /// Where developers read more.
        developer_docs: String,
    },
    /// The pillar has no upstream for sandbox keys.
    SandboxNotAvailable {
        /// The pillar.
        pillar: String,
    },
    /// The call could not be written down, and the configuration says that it has to be.
    MeteringUnavailable,
    /// No connection to the upstream could be made.
    UpstreamUnreachable,
    /// All connections to the upstream are busy.
    UpstreamOverloaded,
    /// The upstream broke off, or did not speak HTTP.
    UpstreamBroke,
    /// The upstream took too long.
    UpstreamTimedOut,
    /// A policy wants to see the body whole, and it is larger than that policy takes.
    RequestBodyTooLarge {
        /// The most bytes.
        limit: u32,
    },
    /// The client stopped to send a body that a policy wants to see whole.
    RequestBodyStalled,
    /// As [`Self::RequestBodyTooLarge`], for the upstream's body.
    ResponseBodyTooLarge {
        /// The most bytes.
        limit: u32,
    },
    /// A policy does not let the upstream's body pass.
    ResponseRefused {
        /// Which one.
        policy: String,
    },
    /// Too much is asked of the gateway's own API at once.
    GatewayBusy,
    /// The gateway's own API took too long.
    GatewayTimedOut,
}

/// What a client learns about the limit that stopped it.
#[derive(Debug, Clone)]
pub struct Throttle {
    /// Seconds until it may come again.
    pub retry_after: u32,
    /// `RateLimit-Policy`
    pub policy: HeaderValue,
    /// `RateLimit`
    pub state: HeaderValue,
}

impl Denial {
    /// The stable code, in snake_case.
    pub fn code(&self) -> &str {
        match self {
            Self::MalformedRequest(_) => "malformed_request",
            Self::MissingAuthorization => "missing_authorization",
            Self::InvalidTokenShape => "invalid_token_shape",
            Self::InvalidApiKey => "invalid_api_key",
            Self::CredentialUnavailable => "credential_unavailable",
            Self::KeyRevoked => "key_revoked",
            Self::KeyExpired => "key_expired",
            Self::InsufficientScope { .. } => "insufficient_scope",
            Self::AddressNotAllowed => "address_not_allowed",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::RateLimited(_) => "rate_limited",
            Self::QuotaExceeded(_) => "quota_exceeded",
            Self::PolicyUnavailable { .. } => "policy_unavailable",
            Self::ByPolicy { code, .. } => code,
            Self::UpstreamNotYetImplemented { .. } => "upstream_not_yet_implemented",
            Self::SandboxNotAvailable { .. } => "sandbox_not_available",
            Self::MeteringUnavailable => "metering_unavailable",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamOverloaded => "upstream_overloaded",
            Self::UpstreamBroke => "upstream_broke",
            Self::UpstreamTimedOut => "upstream_timed_out",
            Self::RequestBodyTooLarge { .. } => "request_body_too_large",
            Self::RequestBodyStalled => "request_body_stalled",
            Self::ResponseBodyTooLarge { .. } => "response_body_too_large",
            Self::ResponseRefused { .. } => "response_refused",
            Self::GatewayBusy => "gateway_busy",
            Self::GatewayTimedOut => "gateway_timed_out",
        }
    }
}
