//! The field `Idempotency-Key`: a string of structured fields in quotes, as the IETF draft has it, or the bare word that most
//! clients send. Both are the same key.

use http::HeaderMap;

/// The name of the field.
pub const FIELD: &str = "idempotency-key";
/// The most characters of a key.
pub const LONGEST: usize = 255;

/// A key: 1 to 255 visible ASCII characters.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

/// The field is there, and no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "`Idempotency-Key` must be there once, with 1 to 255 visible ASCII characters, bare or in double quotes; a UUID is right"
)]
pub struct Malformed;

impl Key {
    /// The key of a request; none where it has none.
    ///
    /// # Errors
    /// When the field is there more than once, or holds no key.
    pub fn of(fields: &HeaderMap) -> Result<Option<Self>, Malformed> {
        let mut values = fields.get_all(FIELD).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => read(value.as_bytes()).map(Some).ok_or(Malformed),
            (Some(_), Some(_)) => Err(Malformed),
        }
    }

    /// The key, without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Whoever knows it and the credential can ask for the answer.
        f.write_str("Key(…)")
    }
}

fn read(value: &[u8]) -> Option<Key> {
    let value = value.trim_ascii();
    let quoted = value.strip_prefix(b"\"").map(|rest| rest.strip_suffix(b"\""));
    let text = match quoted {
        Some(inner) => unescaped(inner?)?,
        // A comma or a semicolon would be several values, or parameters.
        None if value.iter().any(|byte| b"\",;\\".contains(byte)) => return None,
        None => value.to_vec(),
    };
    let fits = (1..=LONGEST).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic);
    String::from_utf8(text).ok().filter(|_| fits).map(Key)
}

/// What is in the quotes of a string (RFC 9651, section 4.2.5).
fn unescaped(inner: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'"' => return None,
            b'\\' => text.push(*bytes.next().filter(|byte| b"\"\\".contains(byte))?),
            byte => text.push(byte),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn of(values: &[&[u8]]) -> Result<Option<String>, Malformed> {
        let mut fields = HeaderMap::new();
        for value in values {
            fields.append(FIELD, HeaderValue::from_bytes(value).expect("a value"));
        }
        Key::of(&fields).map(|key| key.map(|key| key.as_str().to_owned()))
    }

    #[test]
    fn bare_and_in_quotes_it_is_the_same_key() {
        assert_eq!(of(&[]), Ok(None));
        for (written, read) in [
            ("abc", "abc"),
            ("\"abc\"", "abc"),
            (" 8e03978e-40d5-43dd-bc93-6894a57f9324 ", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
            ("\"a\\\"b\\\\c,;\"", "a\"b\\c,;"),
        ] {
            assert_eq!(of(&[written.as_bytes()]), Ok(Some(read.to_owned())), "{written}");
        }
        assert!(of(&["x".repeat(LONGEST).as_bytes()]).is_ok());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let long = "x".repeat(LONGEST + 1);
        let words: [&str; 12] =
            ["", " ", "\"\"", "\"", "\"a", "a\"b", "\"a\"b\"", "\"a\\b\"", "a b", "a,b", "\"a\";p=1", &long];
        for written in words {
            assert_eq!(of(&[written.as_bytes()]), Err(Malformed), "{written}");
        }
        assert_eq!(of(&["é".as_bytes()]), Err(Malformed));
        assert_eq!(of(&[b"a", b"a"]), Err(Malformed), "twice");
    }
}
