//! Who calls, from the gateway's signed assertion: what every service behind the gateway does with each request.
//!
//! An assertion is believed only after its signature, its audience and its time were checked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::{Value, json};

use super::Refusal;
use crate::http;

/// The field in which the gateway sends it.
const FIELD: &str = "x-portico-assertion";
/// Assertions with unknown key ids must not make us ask the gateway more often than this.
const COOL_DOWN: Duration = Duration::from_secs(2);

/// Verifies assertions for one audience.
pub struct Verifier {
    gateway: SocketAddr,
    audience: &'static str,
    keys: Mutex<Keys>,
}

#[derive(Default)]
struct Keys {
    by_id: HashMap<String, Vec<u8>>,
    asked: Option<Instant>,
}

impl Verifier {
    /// Verifies what the gateway at this address signs for this audience.
    pub fn new(gateway: SocketAddr, audience: &'static str) -> Self {
        Self { gateway, audience, keys: Mutex::default() }
    }

    /// The caller's org, key, mode and scopes; `null` for a request without an assertion.
    pub async fn caller(&self, headers: &HeaderMap) -> Result<Value, Refusal> {
        let Some(assertion) = headers.get(FIELD) else { return Ok(Value::Null) };
        let claims = match assertion.to_str() {
            Ok(assertion) => self.verify(assertion).await,
            Err(_) => Err("the assertion is not text"),
        };
        match claims {
            Ok(claims) => Ok(said(&claims)),
            Err(reason) => Err(Refusal::new(StatusCode::UNAUTHORIZED, "invalid_assertion", reason)),
        }
    }

    /// The claims of a JSON Web Token (RFC 7519) that the gateway signed for us.
    async fn verify(&self, assertion: &str) -> Result<Value, &'static str> {
        let (signed, signature) = assertion.rsplit_once('.').ok_or("the assertion is not a token")?;
        let (header, claims) = signed.split_once('.').ok_or("the assertion is not a token")?;
        let (header, claims) = (json_part(header)?, json_part(claims)?);
        if header["alg"] != "EdDSA" {
            return Err("the assertion is not signed with EdDSA");
        }
        let id = header["kid"].as_str().ok_or("the assertion does not name its key")?;
        let key = self.key(id).await.ok_or("the gateway does not know the assertion's key")?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| "the assertion's signature is not base64url")?;
        let valid = UnparsedPublicKey::new(&ED25519, key).verify(signed.as_bytes(), &signature).is_ok();
        match valid {
            false => Err("the assertion's signature is not the gateway's"),
            true if claims["aud"] != self.audience => Err("the assertion is meant for another service"),
            true if claims["exp"].as_u64().is_none_or(|end| end < now()) => Err("the assertion has expired"),
            true => Ok(claims),
        }
    }

    /// The public key with this id: a known one, else as the gateway publishes it.
    async fn key(&self, id: &str) -> Option<Vec<u8>> {
        {
            let mut keys = self.keys.lock().ok()?;
            if let Some(key) = keys.by_id.get(id) {
                return Some(key.clone());
            }
            if keys.asked.is_some_and(|asked| asked.elapsed() < COOL_DOWN) {
                return None;
            }
            keys.asked = Some(Instant::now());
        }
        let (status, body) = http::get(self.gateway, "/.well-known/jwks.json", Duration::from_secs(2)).await.ok()?;
        let published: Value = serde_json::from_slice(&body).ok().filter(|_| status == 200)?;
        let mut keys = self.keys.lock().ok()?;
        keys.by_id = published["keys"].as_array()?.iter().filter_map(public_key).collect();
        keys.by_id.get(id).cloned()
    }
}

/// What the pillars show of the claims. The subject is the key that called; scopes are one text, as OAuth has them.
fn said(claims: &Value) -> Value {
    let scopes: Vec<&str> = claims["scope"].as_str().unwrap_or_default().split_whitespace().collect();
    json!({"org": claims["org"], "key": claims["sub"], "mode": claims["mode"], "scopes": scopes, "request": claims["jti"]})
}

/// Id and bytes of an Ed25519 key in a JSON Web Key Set (RFC 8037).
fn public_key(key: &Value) -> Option<(String, Vec<u8>)> {
    if key["kty"] != "OKP" || key["crv"] != "Ed25519" {
        return None;
    }
    Some((key["kid"].as_str()?.to_owned(), URL_SAFE_NO_PAD.decode(key["x"].as_str()?).ok()?))
}

fn json_part(part: &str) -> Result<Value, &'static str> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| "the assertion is not base64url")?;
    serde_json::from_slice(&bytes).map_err(|_| "the assertion is not JSON")
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
pub mod tests;
