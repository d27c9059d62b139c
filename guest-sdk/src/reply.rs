//! Building answers of a policy's own.

use crate::{OtherField, Reply};

impl Reply {
    /// An answer with this status (200 to 599), no fields and no body.
    pub const fn new(status: u16) -> Self {
        Self { status, fields: Vec::new(), body: Vec::new() }
    }

    /// A plain-text answer.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self::new(status).field("content-type", "text/plain; charset=utf-8").body(body.into())
    }

    /// An answer with a body that is JSON already.
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::new(status).field("content-type", "application/json").body(body)
    }

    /// Adds a field: lower case, not framing, not `x-portico-*`.
    pub fn field(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.fields.push(OtherField { name: name.into(), value: value.into() });
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_says_what_it_is() {
        let reply = Reply::text(418, "tea").field("x-pot", "short");
        assert_eq!((reply.status, reply.body.as_slice()), (418, &b"tea"[..]));
        let names: Vec<&str> = reply.fields.iter().map(|field| &*field.name).collect();
        assert_eq!(names, ["content-type", "x-pot"]);
    }
}
