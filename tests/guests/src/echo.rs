//! The facts that a guest saw, as JSON, so that tests can see what was passed and what was not.

use portico_sdk::{Address, Credential, FieldValue, OtherField, Request, Response};
use serde_json::{Value, json};

/// A request. What was not subscribed to is `null`; bytes that are no text are a list of numbers.
pub fn request(request: &Request) -> Value {
    json!({
        "slot": request.slot,
        "route": request.route,
        "now": request.now,
        "method": request.other_method.clone().unwrap_or_else(|| word(&request.method).to_uppercase()),
        "scheme": word(&request.scheme),
        "request_id": request.request_id,
        "authority": request.authority,
        "path": request.path,
        "query": request.query,
        "upgrade": request.upgrade,
        "client_address": request.client_address.map(address),
        "credential": request.credential.map(credential),
        "principal": request.principal.as_ref().map(|principal| json!({
            "org": principal.org,
            "key": principal.key,
        })),
        "upstream_health": request.upstream_health.as_ref().map(|all| {
            all.iter().map(word).collect::<Vec<String>>()
        }),
        "seed": request.seed,
        "fields": fields(&request.fields),
        "other_fields": others(&request.other_fields),
        "notes": request.notes.as_ref().map(|notes| {
            let note = |note: &portico_sdk::Note| json!([note.author, note.name, note.value]);
            notes.iter().map(note).collect::<Vec<Value>>()
        }),
    })
}

/// A response, as [`request`].
pub fn response(response: &Response) -> Value {
    json!({
        "slot": response.slot,
        "route": response.route,
        "now": response.now,
        "status": response.status,
        "source": word(&response.source),
        "fields": fields(&response.fields),
        "other_fields": others(&response.other_fields),
        "carry": bytes(&response.carry),
    })
}

/// `Scheme::Https` and `Health::Live` say their names in `Debug`.
fn word(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    let name = text.rsplit("::").next().unwrap_or_default();
    name.to_lowercase()
}

fn address(address: Address) -> String {
    match address {
        Address::V4(number) => std::net::Ipv4Addr::from(number).to_string(),
        Address::V6((high, low)) => {
            let number = (u128::from(high) << 64) | u128::from(low);
            std::net::Ipv6Addr::from(number).to_string()
        }
    }
}

fn credential(credential: Credential) -> Value {
    match credential {
        Credential::Absent => json!("absent"),
        Credential::Malformed => json!("malformed"),
        Credential::Unknown => json!("unknown"),
        Credential::Revoked => json!("revoked"),
        Credential::Expired => json!("expired"),
        Credential::AddressNotAllowed => json!("address-not-allowed"),
        Credential::Valid(standing) => {
            json!({ "mode": word(&standing.mode), "scopes": standing.scopes })
        }
    }
}

fn fields(fields: &Option<Vec<FieldValue>>) -> Option<Vec<Value>> {
    let one = |field: &FieldValue| json!([field.field, bytes(&field.value)]);
    Some(fields.as_ref()?.iter().map(one).collect())
}

fn others(fields: &Option<Vec<OtherField>>) -> Option<Vec<Value>> {
    let one = |field: &OtherField| json!([field.name, bytes(&field.value)]);
    Some(fields.as_ref()?.iter().map(one).collect())
}

fn bytes(bytes: &[u8]) -> Value {
    match str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!(bytes),
    }
}

#[cfg(test)]
mod tests {
    use portico_sdk::{Mode, testing};

    use super::*;

    #[test]
    fn what_was_not_passed_is_null() {
        let bare = request(&testing::request().build());
        assert_eq!((&bare["method"], &bare["scheme"]), (&json!("GET"), &json!("https")));
        for fact in ["path", "credential", "fields", "notes", "seed"] {
            assert_eq!(bare[fact], Value::Null, "{fact}");
        }
    }

    #[test]
    fn what_was_passed_is_readable() {
        let seen = testing::request()
            .credential(testing::valid(Mode::Sandbox, 5))
            .client_address(Address::V6((0x2001_0db8_0000_0000, 1)))
            .other_method("BREW")
            .note("a", "b", "c")
            .build();
        let seen = request(&seen);
        assert_eq!(seen["credential"], json!({"mode": "sandbox", "scopes": 5}));
        assert_eq!(seen["client_address"], json!("2001:db8::1"));
        assert_eq!(seen["method"], json!("BREW"));
        assert_eq!(seen["notes"], json!([["a", "b", "c"]]));
        let seen = response(&testing::response(204).carry(b"\xff").build());
        assert_eq!(seen["carry"], json!([255]));
    }
}
