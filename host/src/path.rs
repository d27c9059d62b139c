//! One normalised path: what is routed, what policies see, and what the upstream gets.
//!
//! What two servers could read differently is refused, not repaired: dot segments, encoded slashes and backslashes,
//! control characters, empty segments. Encodings of what can stand in a path as it is are decoded (RFC 3986, sections 3.3
//! and 6.2.2.2) and those that stay are written in upper case (6.2.2.1), so that one resource has one spelling.

use std::borrow::Cow;

/// The longest path.
pub const LONGEST: usize = 8192;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with a slash.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// It is longer than [`LONGEST`].
    #[error("the path is longer than 8,192 bytes")]
    TooLong,
    /// A `%` without two hexadecimal digits.
    #[error("the path has a % without two hexadecimal digits")]
    BadEncoding,
    /// A character that must be encoded, or must not be there at all.
    #[error("the path has a character that cannot stand in it")]
    BadCharacter,
    /// An encoded slash, backslash, percent sign or control character.
    #[error("the path has an encoded slash, backslash, percent sign or control character")]
    HiddenCharacter,
    /// `.` or `..` as a segment.
    #[error("the path has a dot segment")]
    DotSegment,
    /// Two slashes in a row.
    #[error("the path has an empty segment")]
    EmptySegment,
}

/// The path as it is routed; borrowed where nothing had to be changed.
///
/// # Errors
/// For a path that two servers could read differently.
pub fn normalised(path: &str) -> Result<Cow<'_, str>, PathError> {
    if !path.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    if path.len() > LONGEST {
        return Err(PathError::TooLong);
    }
    // One pass tells whether anything needs a closer look; most paths need none.
    let mut plain = true;
    let mut before = 0;
    for &byte in path.as_bytes() {
        match byte {
            b'%' | b'.' => plain = false,
            b'/' if before == b'/' => return Err(PathError::EmptySegment),
            b'\\' | b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' | b'#' | b'?' => {
                return Err(PathError::BadCharacter);
            }
            0..=b' ' | 0x7f.. => return Err(PathError::BadCharacter),
            _ => {}
        }
        before = byte;
    }
    if plain {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = if path.contains('%') { decoded(path)? } else { Cow::Borrowed(path) };
    if decoded.split('/').any(|segment| segment == "." || segment == "..") {
        return Err(PathError::DotSegment);
    }
    Ok(decoded)
}

fn decoded(path: &str) -> Result<Cow<'_, str>, PathError> {
    let bytes = path.as_bytes();
    let mut out = String::with_capacity(path.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte != b'%' {
            out.push(char::from(byte));
            at += 1;
            continue;
        }
        let digit = |offset: usize| bytes.get(at + offset).and_then(|byte| char::from(*byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(1), digit(2)) else { return Err(PathError::BadEncoding) };
        let value = u8::try_from(high * 16 + low).map_err(|_| PathError::BadEncoding)?;
        match value {
            b'/' | b'\\' | b'%' | 0..=0x1f | 0x7f => return Err(PathError::HiddenCharacter),
            b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => out.push(char::from(value)),
            // Legal in a path as they are: left encoded, one resource would have two spellings, one of which no rule names.
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@' => {
                out.push(char::from(value));
            }
            _ => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(char::from(DIGITS[usize::from(value >> 4)]));
                out.push(char::from(DIGITS[usize::from(value & 15)]));
            }
        }
        at += 3;
    }
    // Nothing changed: keep what the client sent, so that callers can tell.
    Ok(if out == path { Cow::Borrowed(path) } else { Cow::Owned(out) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_paths_are_borrowed() {
        for path in ["/", "/v1/connect/rooms", "/a.b/c", "/a/..b/c.", "/a/b/", "/a:b@c!$&'()*+,;=", "/%20", "/%C3%A9"] {
            assert!(matches!(normalised(path), Ok(Cow::Borrowed(same)) if same == path), "{path}");
        }
    }

    #[test]
    fn one_resource_has_one_spelling() {
        assert_eq!(normalised("/v1/%63onnect/r%6foms").unwrap(), "/v1/connect/rooms");
        assert_eq!(normalised("/%c3%a9").unwrap(), "/%C3%A9");
        assert_eq!(normalised("/a%3Ab%21%40%3b").unwrap(), "/a:b!@;");
    }

    #[test]
    fn what_could_be_read_twice_is_refused() {
        use PathError::*;
        for (path, error) in [
            ("", NotAbsolute),
            ("*", NotAbsolute),
            ("//a", EmptySegment),
            ("/a//b", EmptySegment),
            ("/a/../b", DotSegment),
            ("/a/.", DotSegment),
            ("/%2e%2E/b", DotSegment),
            ("/a/%2fb", HiddenCharacter),
            ("/a%5cb", HiddenCharacter),
            ("/a%00", HiddenCharacter),
            ("/a%252e", HiddenCharacter),
            ("/a%0d%0ab", HiddenCharacter),
            ("/a%7f", HiddenCharacter),
            ("/a%", BadEncoding),
            ("/a%4", BadEncoding),
            ("/a%zz", BadEncoding),
            ("/a\\b", BadCharacter),
            ("/a b", BadCharacter),
            ("/é", BadCharacter),
            ("/a#b", BadCharacter),
        ] {
            assert_eq!(normalised(path).map(Cow::into_owned), Err(error), "{path:?}");
        }
        assert_eq!(normalised(&format!("/{}", "a".repeat(LONGEST))), Err(TooLong));
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(path in "/[a-zA-Z0-9%./_~-]{0,40}") {
            if let Ok(once) = normalised(&path) {
                prop_assert!(matches!(normalised(&once), Ok(Cow::Borrowed(twice)) if twice == once));
            }
        }
    }
}
