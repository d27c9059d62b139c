//! The words of JSON (RFC 8259), one after the other. Nothing that stands in the text can make it panic.

use super::error::Error;

/// What kind of value comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Number,
    Text,
    List,
    Object,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool => "`true` or `false`",
            Self::Number => "a number",
            Self::Text => "a string",
            Self::List => "a list",
            Self::Object => "an object",
        }
    }
}

pub(super) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// What kind of value comes, by its first character.
    pub(super) fn kind(&mut self) -> Result<Kind, Error> {
        Ok(match self.peek() {
            Some(b'n') => Kind::Null,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'-' | b'0'..=b'9') => Kind::Number,
            Some(b'"') => Kind::Text,
            Some(b'[') => Kind::List,
            Some(b'{') => Kind::Object,
            _ => return Err(self.wrong("a value")),
        })
    }

    /// Passes the bracket that [`kind`](Scanner::kind) saw.
    pub(super) fn open(&mut self) {
        self.at += 1;
    }

    pub(super) fn close(&mut self, bracket: u8) -> Result<(), Error> {
        match self.peek() == Some(bracket) {
            true => {
                self.at += 1;
                Ok(())
            }
            false => Err(self.wrong("no more than that")),
        }
    }

    /// Whether one more item comes before `end`; passes the comma before it.
    pub(super) fn more(&mut self, end: u8, first: bool) -> Result<bool, Error> {
        match self.peek() {
            Some(byte) if byte == end => Ok(false),
            Some(_) if first => Ok(true),
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            _ => Err(self.wrong("a comma")),
        }
    }

    pub(super) fn colon(&mut self) -> Result<(), Error> {
        match self.peek() {
            Some(b':') => {
                self.at += 1;
                Ok(())
            }
            _ => Err(self.wrong("a colon")),
        }
    }

    pub(super) fn end(&mut self) -> Result<(), Error> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.wrong("the end")),
        }
    }

    /// `null`, `true` or `false`.
    pub(super) fn word(&mut self) -> Result<&'a str, Error> {
        let word = self.while_in(|byte| byte.is_ascii_alphabetic());
        match word {
            "null" | "true" | "false" => Ok(word),
            _ => Err(self.wrong("`null`, `true` or `false`")),
        }
    }

    /// Whether the number that comes has neither fraction nor exponent.
    pub(super) fn is_whole(&self) -> bool {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let digits = rest.iter().skip_while(|byte| **byte == b'-' || byte.is_ascii_digit());
        !matches!(digits.clone().next(), Some(b'.' | b'e' | b'E'))
    }

    /// The text of a number.
    pub(super) fn number(&mut self) -> Result<&'a str, Error> {
        let number = self.while_in(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
        let digits = number.strip_prefix('-').unwrap_or(number);
        let (whole, rest) = digits.split_at(digits.find(|other: char| !other.is_ascii_digit()).unwrap_or(digits.len()));
        let led_by_zero = whole.len() > 1 && whole.starts_with('0');
        if whole.is_empty() || led_by_zero || !is_fraction(rest) {
            return Err(self.wrong("a number"));
        }
        Ok(number)
    }

    /// A string, without its quotes and escapes.
    pub(super) fn text(&mut self) -> Result<String, Error> {
        if self.peek() != Some(b'"') {
            return Err(self.wrong("a string"));
        }
        self.at += 1;
        let mut text = String::new();
        loop {
            text.push_str(self.while_in(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f)));
            match self.byte() {
                Some(b'"') => return Ok(text),
                Some(b'\\') => text.push(self.escape()?),
                _ => return Err(self.wrong("the end of a string")),
            }
        }
    }

    /// Passes one value, whatever it is.
    pub(super) fn skip(&mut self, deepest: usize) -> Result<(), Error> {
        let kind = self.kind()?;
        let end = match kind {
            Kind::Null | Kind::Bool => return self.word().map(drop),
            Kind::Number => return self.number().map(drop),
            Kind::Text => return self.text().map(drop),
            Kind::List => b']',
            Kind::Object => b'}',
        };
        let Some(deepest) = deepest.checked_sub(1) else {
            return Err(self.wrong("less nesting"));
        };
        self.open();
        let mut first = true;
        while self.more(end, first)? {
            first = false;
            if kind == Kind::Object {
                self.text()?;
                self.colon()?;
            }
            self.skip(deepest)?;
        }
        self.close(end)
    }

    fn escape(&mut self) -> Result<char, Error> {
        Ok(match self.byte() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.unit()?;
                let mut units = vec![first];
                if (0xd800..0xdc00).contains(&first) && self.rest().starts_with("\\u") {
                    self.at += 2;
                    units.push(self.unit()?);
                }
                match char::decode_utf16(units).next() {
                    Some(Ok(character)) => character,
                    _ => return Err(self.wrong("a character")),
                }
            }
            _ => return Err(self.wrong("an escape")),
        })
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Result<u16, Error> {
        let digits = self.rest().get(..4).unwrap_or_default();
        let hexadecimal = digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u16::from_str_radix(digits, 16) {
            Ok(unit) if hexadecimal => {
                self.at += 4;
                Ok(unit)
            }
            _ => Err(self.wrong("four hexadecimal digits")),
        }
    }

    /// The next byte that is no space.
    fn peek(&mut self) -> Option<u8> {
        self.while_in(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t'));
        self.text.as_bytes().get(self.at).copied()
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.text.as_bytes().get(self.at).copied()?;
        self.at += 1;
        Some(byte)
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Passes bytes as long as they fit. Predicates only end at ASCII, so this ends between characters.
    fn while_in(&mut self, fits: impl Fn(u8) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.bytes().position(|byte| !fits(byte));
        let passed = rest.get(..length.unwrap_or(rest.len())).unwrap_or_default();
        self.at += passed.len();
        passed
    }

    fn wrong(&self, expected: &str) -> Error {
        Error::new(format!("This is no JSON: {expected} is expected at byte {}.", self.at))
    }
}

/// Nothing, or a point with digits, or an exponent with digits, or both.
fn is_fraction(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (point, exponent) = match text.split_once(['e', 'E']) {
        Some((point, exponent)) => (point, Some(exponent)),
        None => (text, None),
    };
    let point = point.is_empty() || point.strip_prefix('.').is_some_and(digits);
    point && exponent.is_none_or(|text| digits(text.strip_prefix(['+', '-']).unwrap_or(text)))
}
