//! Requests, slots and policies for native tests of a policy's rules.

use crate::{
    Address, Auth, Credential, Diagnostic, FieldValue, Health, Method, Mode, Note, Plan, Policy, Principal, Read,
    Request, Response, ResponseRead, Route, Scheme, Slot, Source, Standing,
};

/// A `GET` over TLS without facts or fields, for slot 0 and route 0.
pub fn request() -> RequestBuilder {
    RequestBuilder(Request {
        slot: 0,
        route: 0,
        now: 0,
        method: Method::Get,
        other_method: None,
        scheme: Scheme::Https,
        request_id: None,
        authority: None,
        path: None,
        query: None,
        upgrade: None,
        client_address: None,
        credential: None,
        principal: None,
        upstream_health: None,
        seed: None,
        fields: None,
        other_fields: None,
        notes: None,
    })
}

/// A response of the upstream without fields, for slot 0 and route 0.
pub fn response(status: u16) -> ResponseBuilder {
    ResponseBuilder(Response {
        slot: 0,
        route: 0,
        now: 0,
        status,
        source: Source::Upstream,
        fields: None,
        other_fields: None,
        carry: Vec::new(),
    })
}

/// A slot of this pillar, with the scope of the same name and no routes yet.
pub fn slot(pillar: &str) -> SlotBuilder {
    SlotBuilder(Slot { pillar: pillar.to_owned(), scope: pillar.to_owned(), routes: Vec::new() })
}

/// A valid credential that holds the scopes whose bits are set.
pub fn valid(mode: Mode, scopes: u64) -> Credential {
    Credential::Valid(Standing { mode, scopes })
}

/// Makes a policy for one slot, as the gateway would.
///
/// # Errors
/// All that is wrong with the configuration.
pub fn configure<P: Policy>(slot: &Slot, config: &str) -> Result<(P, Plan), Vec<Diagnostic>> {
    crate::mount::configure(slot, config)
}

/// The lines written on this thread since the last call, outside Wasm.
#[cfg(not(target_family = "wasm"))]
pub fn lines() -> Vec<(crate::log::Level, String)> {
    crate::log::native::LINES.take()
}

/// What was added to counters on this thread since the last call, outside Wasm.
#[cfg(not(target_family = "wasm"))]
pub fn counted() -> Vec<(crate::Counter, u64)> {
    crate::log::native::COUNTS.take()
}

/// Builds a [`Request`].
#[derive(Debug, Clone)]
pub struct RequestBuilder(Request);

impl RequestBuilder {
    /// The slot that is asked.
    pub fn slot(mut self, slot: u32) -> Self {
        self.0.slot = slot;
        self
    }

    /// The rule that matched.
    pub fn route(mut self, route: u32) -> Self {
        self.0.route = route;
        self
    }

    /// Milliseconds since 1970.
    pub fn now(mut self, now: u64) -> Self {
        self.0.now = now;
        self
    }

    /// The method.
    pub fn method(mut self, method: Method) -> Self {
        self.0.method = method;
        self
    }

    /// A method that is none of the usual ones.
    pub fn other_method(mut self, name: &str) -> Self {
        self.0.method = Method::Other;
        self.0.other_method = Some(name.to_owned());
        self
    }

    /// The fact `path`.
    pub fn path(mut self, path: &str) -> Self {
        self.0.path = Some(path.to_owned());
        self
    }

    /// The fact `query`.
    pub fn query(mut self, query: &str) -> Self {
        self.0.query = Some(query.to_owned());
        self
    }

    /// The fact `client-address`.
    pub fn client_address(mut self, address: Address) -> Self {
        self.0.client_address = Some(address);
        self
    }

    /// The fact `credential`.
    pub fn credential(mut self, credential: Credential) -> Self {
        self.0.credential = Some(credential);
        self
    }

    /// The fact `principal`.
    pub fn principal(mut self, org: &str, key: &str) -> Self {
        self.0.principal = Some(Principal { org: org.to_owned(), key: key.to_owned() });
        self
    }

    /// The fact `upstream-health`.
    pub fn upstream_health(mut self, health: &[Health]) -> Self {
        self.0.upstream_health = Some(health.to_vec());
        self
    }

    /// The fact `seed`.
    pub fn seed(mut self, seed: u64) -> Self {
        self.0.seed = Some(seed);
        self
    }

    /// One more value of a declared field.
    pub fn field(mut self, field: Read, value: impl AsRef<[u8]>) -> Self {
        let value = field_value(field.0, value.as_ref());
        self.0.fields.get_or_insert_default().push(value);
        self
    }

    /// One more note of an earlier policy.
    pub fn note(mut self, author: &str, name: &str, value: &str) -> Self {
        self.0.notes.get_or_insert_default().push(Note {
            author: author.to_owned(),
            name: name.to_owned(),
            value: value.to_owned(),
        });
        self
    }

    /// The request.
    pub fn build(self) -> Request {
        self.0
    }
}

/// Builds a [`Response`].
#[derive(Debug, Clone)]
pub struct ResponseBuilder(Response);

impl ResponseBuilder {
    /// Who made it.
    pub fn source(mut self, source: Source) -> Self {
        self.0.source = source;
        self
    }

    /// One more value of a declared field.
    pub fn field(mut self, field: ResponseRead, value: impl AsRef<[u8]>) -> Self {
        let value = field_value(field.0, value.as_ref());
        self.0.fields.get_or_insert_default().push(value);
        self
    }

    /// What the policy's own verdict carried.
    pub fn carry(mut self, bytes: &[u8]) -> Self {
        self.0.carry = bytes.to_vec();
        self
    }

    /// The response.
    pub fn build(self) -> Response {
        self.0
    }
}

/// Builds a [`Slot`].
#[derive(Debug, Clone)]
pub struct SlotBuilder(Slot);

impl SlotBuilder {
    /// The scope that the pillar asks for.
    pub fn scope(mut self, scope: &str) -> Self {
        self.0.scope = scope.to_owned();
        self
    }

    /// One more rule, for all methods of a path made of the pillar and the name.
    pub fn route(mut self, name: &str, auth: Auth) -> Self {
        self.0.routes.push(Route {
            name: name.to_owned(),
            path: format!("/v1/{}/{name}", self.0.pillar),
            methods: Vec::new(),
            auth,
        });
        self
    }

    /// The slot.
    pub fn build(self) -> Slot {
        self.0
    }
}

fn field_value(field: u32, value: &[u8]) -> FieldValue {
    FieldValue { field, value: value.to_vec() }
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests {
    use super::*;
    use crate::{About, Counter, count, log};

    #[test]
    fn what_is_said_natively_can_be_looked_at() {
        const SEEN: Counter = About::new("sample", "1.0.0", "A sample.").counters(&["seen"]).counter("seen");
        log::warn("look");
        count(SEEN, 2);
        assert_eq!(lines(), [(log::Level::Warn, "look".to_owned())]);
        assert_eq!(counted(), [(SEEN, 2)]);
        assert_eq!(lines(), []);
    }
}
