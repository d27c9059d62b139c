//! Reading requests and responses by handle.

use crate::{Credential, FieldValue, OtherField, Read, Request, Response, ResponseRead, ScopeIndex, Standing};

impl Request {
    /// The first value of a declared field.
    pub fn value(&self, field: Read) -> Option<&[u8]> {
        self.values(field).next()
    }

    /// All values of a declared field, in the order in which they came.
    pub fn values(&self, field: Read) -> impl Iterator<Item = &[u8]> {
        at(&self.fields, field.0)
    }

    /// The first value of a declared field, if it is UTF-8.
    pub fn text(&self, field: Read) -> Option<&str> {
        str::from_utf8(self.value(field)?).ok()
    }

    /// All values at a position of `reads`, for policies that declare their fields at run time.
    pub fn field(&self, position: u32) -> impl Iterator<Item = &[u8]> {
        at(&self.fields, position)
    }

    /// The fields that were not declared by name, where `reads` has `*`.
    pub fn others(&self) -> &[OtherField] {
        self.other_fields.as_deref().unwrap_or_default()
    }

    /// What the principal may do, if the credential is valid. Needs the fact `credential`.
    pub fn standing(&self) -> Option<Standing> {
        match self.credential {
            Some(Credential::Valid(standing)) => Some(standing),
            _ => None,
        }
    }

    /// The value of a note by this name, from an earlier policy by this name. Needs the fact `notes`.
    pub fn note(&self, author: &str, name: &str) -> Option<&str> {
        let notes = self.notes.as_deref().unwrap_or_default();
        notes.iter().find(|note| note.author == author && note.name == name).map(|note| note.value.as_str())
    }
}

impl Response {
    /// The first value of a declared field.
    pub fn value(&self, field: ResponseRead) -> Option<&[u8]> {
        self.values(field).next()
    }

    /// All values of a declared field, in the order in which they came.
    pub fn values(&self, field: ResponseRead) -> impl Iterator<Item = &[u8]> {
        at(&self.fields, field.0)
    }

    /// The first value of a declared field, if it is UTF-8.
    pub fn text(&self, field: ResponseRead) -> Option<&str> {
        str::from_utf8(self.value(field)?).ok()
    }

    /// The fields that were not declared by name, where `response_reads` has `*`.
    pub fn others(&self) -> &[OtherField] {
        self.other_fields.as_deref().unwrap_or_default()
    }
}

impl Standing {
    /// Whether the principal holds a scope that the policy looked for.
    pub fn holds(self, scope: ScopeIndex) -> bool {
        self.scopes.checked_shr(scope.0).unwrap_or(0) & 1 == 1
    }
}

fn at(fields: &Option<Vec<FieldValue>>, position: u32) -> impl Iterator<Item = &[u8]> {
    let fields = fields.as_deref().unwrap_or_default();
    fields.iter().filter(move |value| value.field == position).map(|value| value.value.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{About, Mode, testing};

    const ABOUT: About = About::new("sample", "1.0.0", "A sample.").reads(&["accept", "via"]);
    const ACCEPT: Read = ABOUT.read("accept");
    const VIA: Read = ABOUT.read("via");

    #[test]
    fn values_come_by_field_and_in_order() {
        let request = testing::request().field(VIA, "one").field(ACCEPT, "text/html").field(VIA, b"\xfftwo").build();
        assert_eq!(request.text(ACCEPT), Some("text/html"));
        assert_eq!(request.values(VIA).collect::<Vec<_>>(), [&b"one"[..], b"\xfftwo"]);
        assert_eq!(request.text(VIA), Some("one"));
        assert_eq!(request.field(7).count(), 0);
    }

    #[test]
    fn bytes_that_are_no_text_are_no_text() {
        let request = testing::request().field(VIA, b"\xff").build();
        assert_eq!(request.value(VIA), Some(&b"\xff"[..]));
        assert_eq!(request.text(VIA), None);
    }

    #[test]
    fn a_scope_is_a_bit_and_none_beyond_the_64th() {
        let standing = Standing { mode: Mode::Live, scopes: 0b10 };
        assert!(!standing.holds(ScopeIndex(0)));
        assert!(standing.holds(ScopeIndex(1)));
        assert!(!standing.holds(ScopeIndex(64)));
    }

    #[test]
    fn notes_are_found_by_author_and_name() {
        let request = testing::request().note("geo", "country", "KE").build();
        assert_eq!(request.note("geo", "country"), Some("KE"));
        assert_eq!(request.note("other", "country"), None);
    }
}
