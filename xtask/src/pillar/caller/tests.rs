//! Assertions, good and forged, against a stand-in for the gateway's key set.

use axum::routing::get;
use axum::{Json, Router};
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::*;

/// What the stand-in signs with.
pub const SEED: [u8; 32] = [7; 32];

/// Where a stand-in for the gateway publishes the public half of `SEED` under the id `k1`.
pub async fn key_set() -> SocketAddr {
    let pair = Ed25519KeyPair::from_seed_unchecked(&SEED).unwrap();
    let x = URL_SAFE_NO_PAD.encode(pair.public_key());
    let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": x}]});
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes: Router = Router::new().route("/.well-known/jwks.json", get(async move || Json(set)));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

/// An assertion with this header and these claims.
pub fn signed(seed: &[u8; 32], header: Value, claims: Value) -> String {
    let encode = |part: Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let body = format!("{}.{}", encode(header), encode(claims));
    let signature = Ed25519KeyPair::from_seed_unchecked(seed).unwrap().sign(body.as_bytes());
    format!("{body}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The header of what the gateway signs.
pub fn header() -> Value {
    json!({"alg": "EdDSA", "kid": "k1"})
}

/// What the gateway would say to this service now.
pub fn claims(audience: &str) -> Value {
    json!({"iss": "portico", "aud": audience, "sub": "key_1", "org": "org_1", "mode": "live", "scope": "connect pay",
        "jti": "req_1", "iat": now(), "exp": now() + 60})
}

async fn verifier() -> Verifier {
    Verifier::new(key_set().await, "connect")
}

fn carrying(assertion: &str) -> HeaderMap {
    HeaderMap::from_iter([(FIELD.parse().unwrap(), assertion.parse().unwrap())])
}

#[tokio::test]
async fn an_assertion_of_the_gateway_says_who_calls() {
    let headers = carrying(&signed(&SEED, header(), claims("connect")));
    let caller = verifier().await.caller(&headers).await.unwrap();
    let expected =
        json!({"org": "org_1", "key": "key_1", "mode": "live", "scopes": ["connect", "pay"], "request": "req_1"});
    assert_eq!(caller, expected);
}

#[tokio::test]
async fn without_an_assertion_nobody_calls() {
    assert_eq!(verifier().await.caller(&HeaderMap::new()).await.unwrap(), Value::Null);
}

#[tokio::test]
async fn what_the_gateway_did_not_say_is_refused() {
    let changed = |name: &str, value: Value| {
        let mut claims = claims("connect");
        claims[name] = value;
        claims
    };
    let cases = [
        ("another signer", signed(&[8; 32], header(), claims("connect"))),
        ("another audience", signed(&SEED, header(), changed("aud", json!("pay")))),
        ("too late", signed(&SEED, header(), changed("exp", json!(now() - 1)))),
        ("no end", signed(&SEED, header(), changed("exp", Value::Null))),
        ("another algorithm", signed(&SEED, json!({"alg": "none", "kid": "k1"}), claims("connect"))),
        ("unknown key", signed(&SEED, json!({"alg": "EdDSA", "kid": "k2"}), claims("connect"))),
        ("no token", "nonsense".to_owned()),
    ];
    for (case, assertion) in cases {
        let refusal = verifier().await.caller(&carrying(&assertion)).await.expect_err(case);
        assert_eq!(refusal.status, StatusCode::UNAUTHORIZED, "{case}");
    }
}
