//! What the upstream learns about the caller: a short-lived JWT (RFC 7519), signed with Ed25519 (RFC 8037).
//!
//! Never carries the client's credential, and never lives longer than a minute.

use std::fmt;
use std::fmt::Write;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::signature::{Ed25519KeyPair, KeyPair};
use smallvec::SmallVec;

use crate::clock::Millis;
use crate::seal::{self, Vault};

/// The longest that an assertion may live.
pub const LONGEST_LIFE: Duration = Duration::from_secs(60);

/// Claims that an assertion makes itself or that bound it: a policy cannot make them.
pub const RESERVED: [&str; 10] = ["iss", "aud", "sub", "org", "mode", "scope", "jti", "iat", "exp", "nbf"];

const SEED_NAME: &str = "assertion/1";
/// Signature of 64 bytes in base64url.
const SIGNATURE_LENGTH: usize = 86;

/// What an assertion says. All text is written as JSON strings, whatever is in it.
#[derive(Debug, Clone, Copy)]
pub struct Claims<'a> {
    /// Who signs: the gateway's issuer.
    pub issuer: &'a str,
    /// For whom it is.
    pub audience: &'a str,
    /// Who calls: the id of the key, or the subject that a policy verified.
    pub subject: &'a str,
    /// The org of the caller (`org_…`).
    pub org: &'a str,
    /// `live` or `sandbox`.
    pub mode: &'a str,
    /// The scopes held, a space between.
    pub scope: &'a str,
    /// The id of the request.
    pub request: &'a str,
    /// Further claims. One with a [`RESERVED`] name is left out; of two with one name the first is taken.
    pub extra: &'a [(String, String)],
}

/// Signs assertions. The seed stays in here; `Debug` shows the id of the key only.
pub struct Signer {
    pair: Ed25519KeyPair,
    id: String,
    /// The encoded header with its dot: the same for each.
    header: String,
}

impl Signer {
    /// The signer whose seed is in the vault, made now where there is none.
    pub fn open(vault: &Vault) -> Result<Self, seal::Error> {
        Ok(Self::from_seed(&*vault.find_or_make(SEED_NAME)?))
    }

    /// The signer with this seed (the private key of RFC 8032).
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("a seed has 32 bytes");
        let public = URL_SAFE_NO_PAD.encode(pair.public_key());
        // The thumbprint of RFC 7638: required members only, sorted.
        let thumbprint = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{public}"}}"#);
        let id = URL_SAFE_NO_PAD.encode(digest(&SHA256, thumbprint.as_bytes()));
        let header = format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{id}"}}"#);
        let header = URL_SAFE_NO_PAD.encode(header) + ".";
        Self { pair, id, header }
    }

    /// The id of its key, as in `kid`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The public keys, as served at `/.well-known/jwks.json` (RFC 7517, RFC 8037).
    pub fn jwks(&self) -> String {
        let public = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        format!(
            r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{public}","kid":"{}","use":"sig","alg":"EdDSA"}}]}}"#,
            self.id
        )
    }

    /// One assertion, valid from now for `life`, at most [`LONGEST_LIFE`].
    pub fn sign(&self, claims: &Claims<'_>, now: Millis, life: Duration) -> String {
        let mut payload = Payload(SmallVec::new());
        payload.open();
        for (name, value) in [
            ("iss", claims.issuer),
            ("aud", claims.audience),
            ("sub", claims.subject),
            ("org", claims.org),
            ("mode", claims.mode),
            ("scope", claims.scope),
            ("jti", claims.request),
        ] {
            payload.claim(name, value);
        }
        for (at, (name, value)) in claims.extra.iter().enumerate() {
            let taken =
                RESERVED.contains(&name.as_str()) || claims.extra[..at].iter().any(|(earlier, _)| earlier == name);
            if !taken {
                payload.claim(name, value);
            }
        }
        payload.close(now.seconds(), now.plus(life.min(LONGEST_LIFE)).seconds());

        let encoded = payload.0.len().div_ceil(3) * 4;
        let mut token = String::with_capacity(self.header.len() + encoded + 1 + SIGNATURE_LENGTH);
        token.push_str(&self.header);
        URL_SAFE_NO_PAD.encode_string(&payload.0, &mut token);
        let signature = self.pair.sign(token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.id)
    }
}

/// A JSON object under way; the usual one needs no allocation.
struct Payload(SmallVec<[u8; 640]>);

impl Payload {
    fn open(&mut self) {
        self.0.push(b'{');
    }

    fn claim(&mut self, name: &str, value: &str) {
        self.string(name);
        self.0.push(b':');
        self.string(value);
        self.0.push(b',');
    }

    fn close(&mut self, issued: u64, expires: u64) {
        let mut number = itoa::Buffer::new();
        self.0.extend_from_slice(br#""iat":"#);
        self.0.extend_from_slice(number.format(issued).as_bytes());
        self.0.extend_from_slice(br#","exp":"#);
        self.0.extend_from_slice(number.format(expires).as_bytes());
        self.0.push(b'}');
    }

    /// A string of RFC 8259, section 7.
    fn string(&mut self, text: &str) {
        self.0.push(b'"');
        let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
        if text.bytes().all(plain) {
            self.0.extend_from_slice(text.as_bytes());
        } else {
            for byte in text.bytes() {
                match byte {
                    b'"' | b'\\' => self.0.extend_from_slice(&[b'\\', byte]),
                    byte if plain(byte) => self.0.push(byte),
                    byte => {
                        let mut escape = String::with_capacity(6);
                        write!(escape, "\\u{byte:04x}").expect("a string takes every text");
                        self.0.extend_from_slice(escape.as_bytes());
                    }
                }
            }
        }
        self.0.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::signature::{ED25519, UnparsedPublicKey};
    use serde_json::Value;

    use super::*;

    const NOW: Millis = Millis(1_795_305_600_999);

    fn claims<'a>(extra: &'a [(String, String)]) -> Claims<'a> {
        Claims {
            issuer: "https://gateway.example",
            audience: "connect",
            subject: "key_00000000000000000000000001",
            org: "org_00000000000000000000000002",
            mode: "live",
            scope: "connect pay",
            request: "req_00000000000000000000000003",
            extra,
        }
    }

    /// Reads a token as an upstream would: with nothing but the published keys.
    fn read(signer: &Signer, token: &str) -> Value {
        let jwks: Value = serde_json::from_str(&signer.jwks()).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        assert_eq!(parts.len(), 3);
        let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
        let header: Value = serde_json::from_slice(&bytes(parts[0])).unwrap();
        assert_eq!(header["alg"], "EdDSA");
        assert_eq!(header["typ"], "JWT");
        let key = jwks["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header["kid"]).unwrap();
        assert_eq!((&key["kty"], &key["crv"]), (&"OKP".into(), &"Ed25519".into()));
        let public = bytes(key["x"].as_str().unwrap());
        let signed = &token[..token.rfind('.').unwrap()];
        UnparsedPublicKey::new(&ED25519, public).verify(signed.as_bytes(), &bytes(parts[2])).unwrap();
        serde_json::from_slice(&bytes(parts[1])).unwrap()
    }

    #[test]
    fn an_assertion_says_who_calls_and_verifies_with_the_published_key() {
        let signer = Signer::from_seed(&[7; 32]);
        let extra = [("tenant".to_owned(), "a \"b\"\n\\c é".to_owned())];
        let said = read(&signer, &signer.sign(&claims(&extra), NOW, Duration::from_secs(30)));
        let expected = serde_json::json!({
            "iss": "https://gateway.example", "aud": "connect", "sub": "key_00000000000000000000000001",
            "org": "org_00000000000000000000000002", "mode": "live", "scope": "connect pay",
            "jti": "req_00000000000000000000000003", "tenant": "a \"b\"\n\\c é",
            "iat": 1_795_305_600, "exp": 1_795_305_630,
        });
        assert_eq!(said, expected);
    }

    #[test]
    fn the_id_of_the_key_is_the_thumbprint_of_the_rfc() {
        // The private key of RFC 8037, appendix A.1, and its thumbprint, appendix A.3.
        let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
        let signer = Signer::from_seed(&seed.try_into().unwrap());
        assert_eq!(signer.id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert!(signer.jwks().contains("\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\""));
    }

    #[test]
    fn no_claim_can_be_made_twice_and_no_life_is_longer_than_a_minute() {
        let signer = Signer::from_seed(&[7; 32]);
        let extra = [("sub", "root"), ("exp", "9"), ("a", "1"), ("a", "2")];
        let extra = extra.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let token = signer.sign(&claims(&extra), NOW, Duration::from_secs(3600));
        let said = read(&signer, &token);
        assert_eq!(said["sub"], "key_00000000000000000000000001");
        assert_eq!(said["a"], "1");
        assert_eq!(said["exp"], 1_795_305_660);
        let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        let text = String::from_utf8(payload).unwrap();
        assert_eq!((text.matches("\"sub\"").count(), text.matches("\"a\"").count()), (1, 1));
    }

    #[test]
    fn debug_shows_no_seed() {
        let signer = Signer::from_seed(&[7; 32]);
        assert_eq!(format!("{signer:?}"), format!("Signer({})", signer.id()));
    }

    proptest! {
        #[test]
        fn any_text_survives_as_a_claim(name in "\\PC{1,12}|[\\x00-\\x7f]{1,12}", value: String) {
            prop_assume!(!RESERVED.contains(&name.as_str()));
            let signer = Signer::from_seed(&[7; 32]);
            let extra = [(name.clone(), value.clone())];
            let said = read(&signer, &signer.sign(&claims(&extra), NOW, LONGEST_LIFE));
            prop_assert_eq!(said[&name].as_str(), Some(value.as_str()));
        }
    }

    /// `cargo test --release -- --ignored --nocapture cost` shows what one assertion costs.
    #[test]
    #[ignore = "a measurement"]
    fn cost_of_an_assertion() {
        let signer = Signer::from_seed(&[7; 32]);
        let quickest = (0..200).map(|_| {
            let start = std::time::Instant::now();
            for _ in 0..50 {
                std::hint::black_box(signer.sign(&claims(&[]), NOW, LONGEST_LIFE));
            }
            start.elapsed() / 50
        });
        println!("one assertion: {:?}", quickest.min().unwrap());
    }
}
