//! What a refusal looks like on the wire: one document of RFC 9457, with Portico's stable members.
//!
//! Decides nothing: status, code and words come from whoever refuses. `type` always follows from the code, so a client
//! may rely on either.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;

/// The media type of the document.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// One refusal.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The HTTP status, 400 to 599.
    pub status: u16,
    /// The stable code in snake_case: `error`, and the end of `type` (`urn:portico:error:<code>`).
    pub code: Cow<'static, str>,
    /// The same for every refusal with this code.
    pub title: Cow<'static, str>,
    /// What happened this time, and what to do: one sentence. Also `message`.
    pub detail: Cow<'static, str>,
    /// The id of the request.
    pub instance: Option<String>,
    /// All that is wrong with what was sent.
    pub faults: Vec<Fault>,
    /// Members that only some codes have, in order.
    pub members: Vec<(&'static str, Value)>,
}

/// One thing that is wrong with what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where it is.
    pub place: Place,
    /// One sentence: what is wrong, and what to write instead.
    pub detail: String,
}

/// Where in a request something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A JSON pointer into the body (RFC 6901); empty for the whole of it.
    Pointer(String),
    /// The name of a parameter of the query.
    Parameter(String),
}

impl Fault {
    /// Something wrong in the body, at this JSON pointer.
    pub fn at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { place: Place::Pointer(pointer.into()), detail: detail.into() }
    }

    /// Something wrong with a parameter of the query.
    pub fn of(parameter: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { place: Place::Parameter(parameter.into()), detail: detail.into() }
    }
}

/// The token of a JSON pointer for a member of this name (RFC 6901, section 3), with the slash before it.
pub fn token(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

impl Problem {
    /// A refusal without further members.
    pub fn new(
        status: u16,
        code: impl Into<Cow<'static, str>>,
        title: impl Into<Cow<'static, str>>,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            code: code.into(),
            title: title.into(),
            detail: detail.into(),
            instance: None,
            faults: Vec::new(),
            members: Vec::new(),
        }
    }

    /// With the id of the request.
    pub fn instance(mut self, id: impl Into<String>) -> Self {
        self.instance = Some(id.into());
        self
    }

    /// With a member that this code has beyond the usual ones.
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.members.push((name, value.into()));
        self
    }

    /// With everything that is wrong.
    pub fn faults(mut self, faults: Vec<Fault>) -> Self {
        self.faults = faults;
        self
    }

    /// The document.
    pub fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(self).expect("a document of strings, numbers and JSON values can be written").into()
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &format_args!("urn:portico:error:{}", self.code))?;
        map.serialize_entry("title", &self.title)?;
        map.serialize_entry("status", &self.status)?;
        map.serialize_entry("detail", &self.detail)?;
        if let Some(instance) = &self.instance {
            map.serialize_entry("instance", instance)?;
        }
        map.serialize_entry("error", &self.code)?;
        map.serialize_entry("message", &self.detail)?;
        for (name, value) in &self.members {
            map.serialize_entry(name, value)?;
        }
        if !self.faults.is_empty() {
            map.serialize_entry("errors", &self.faults)?;
        }
        map.end()
    }
}

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        match &self.place {
            Place::Pointer(pointer) => map.serialize_entry("pointer", pointer)?,
            Place::Parameter(name) => map.serialize_entry("parameter", name)?,
        }
        map.serialize_entry("detail", &self.detail)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_every_stable_member_in_a_fixed_order() {
        let problem = Problem::new(422, "invalid_body", "The body is not right", "Two \"things\" are wrong.")
            .instance("req_1")
            .with("pillar", "connect")
            .faults(vec![Fault::at(token("a/b~c"), "unknown"), Fault::of("limit", "too large")]);
        assert_eq!(
            problem.to_bytes(),
            concat!(
                r#"{"type":"urn:portico:error:invalid_body","title":"The body is not right","status":422,"#,
                r#""detail":"Two \"things\" are wrong.","instance":"req_1","error":"invalid_body","#,
                r#""message":"Two \"things\" are wrong.","pillar":"connect","errors":["#,
                r#"{"pointer":"/a~1b~0c","detail":"unknown"},{"parameter":"limit","detail":"too large"}]}"#
            )
        );
    }

    #[test]
    fn members_that_are_not_there_are_left_out() {
        let text = Problem::new(404, "not_found", "Not found", "There is nothing here.").to_bytes();
        assert!(!text.windows(8).any(|part| part == b"instance" || part == b"\"errors\""));
    }
}
