//! What the upstream learns about the caller: a short-lived signed assertion, never the credential.

use crate::assertion::{Claims, LONGEST_LIFE, Signer};
use crate::chain::Passed;
use crate::clock::Millis;
use crate::key::Mode;
use crate::principal::Principal;
use crate::snapshot::Pillar;
use http::HeaderValue;

/// The assertion for this exchange, where the pillar or a policy wants one and the caller is known.
pub(super) fn of(
    signer: &Signer,
    issuer: &str,
    pillar: &Pillar,
    passed: &Passed,
    caller: Option<(Principal<'_>, Mode)>,
    request: &str,
    now: Millis,
) -> Option<HeaderValue> {
    let asked = passed.decisions.iter().rev().find_map(|(_, decision)| decision.token.as_deref());
    if pillar.audience.is_none() && asked.is_none() {
        return None;
    }
    let audience = asked.and_then(|token| token.audience.as_deref());
    let audience = audience.or(pillar.audience.as_deref()).unwrap_or(&pillar.default_audience);
    let extra = asked.map_or(&[][..], |token| &token.claims);
    let (principal, mode) = caller?;
    let mode = match mode {
        Mode::Live => "live",
        Mode::Sandbox => "sandbox",
    };
    let sign = |subject: &str, org: &str, scope: &str| {
        signer.sign(&Claims { issuer, audience, subject, org, mode, scope, request, extra }, now, LONGEST_LIFE)
    };
    let token = match principal {
        Principal::Key(key) => sign(&key.id.text(), &key.org.text(), key.scopes().as_str()),
        Principal::Claimed(claim) => sign(&claim.subject, &claim.org, &claim.scopes.join(" ")),
    };
    HeaderValue::try_from(token).ok()
}
