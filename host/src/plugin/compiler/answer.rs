//! What the compiler's process answers: machine code, or why there is none, so framed that half of it is never taken for all.

use std::io::{self, Read, Write};

/// What each answer begins with.
const SIGN: &[u8; 8] = b"portico:";
const CODE: u8 = b'C';
const REFUSED: u8 = b'R';
/// Bytes of a reason, at most.
const LONGEST_REASON: usize = 4 << 10;

/// An answer, or what came in its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Machine code.
    Code(Vec<u8>),
    /// What is wrong with the component.
    Refused(String),
    /// More machine code than is taken over.
    TooLarge,
    /// Something else than an answer, or half of one.
    Nonsense,
    /// Not one byte.
    Nothing,
}

/// Writes the answer: sign, kind, length, content.
pub(super) fn write(answer: &Result<Vec<u8>, String>, to: &mut impl Write) -> io::Result<()> {
    let (kind, content) = match answer {
        Ok(code) => (CODE, &code[..]),
        Err(reason) => (REFUSED, &reason.as_bytes()[..reason.floor_char_boundary(LONGEST_REASON)]),
    };
    to.write_all(SIGN)?;
    to.write_all(&[kind])?;
    to.write_all(&(content.len() as u64).to_le_bytes())?;
    to.write_all(content)?;
    to.flush()
}

impl Answer {
    /// Reads an answer with at most so many bytes of code.
    pub(super) fn read(mut from: impl Read, most: u64) -> Self {
        let mut head = Vec::new();
        // A pipe that breaks is at its end, too.
        let _ = from.by_ref().take(SIGN.len() as u64 + 9).read_to_end(&mut head);
        if head.is_empty() {
            return Self::Nothing;
        }
        let Some((kind, length)) = head.strip_prefix(SIGN).and_then(|rest| rest.split_first()) else {
            return Self::Nonsense;
        };
        let Ok(length) = length.try_into().map(u64::from_le_bytes) else { return Self::Nonsense };
        match *kind {
            CODE if length > most => return Self::TooLarge,
            REFUSED if length > LONGEST_REASON as u64 => return Self::Nonsense,
            CODE | REFUSED => {}
            _ => return Self::Nonsense,
        }
        let mut content = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        let _ = from.take(length).read_to_end(&mut content);
        if content.len() as u64 != length {
            return Self::Nonsense;
        }
        match *kind {
            CODE => Self::Code(content),
            _ => String::from_utf8(content).map_or(Self::Nonsense, Self::Refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(answer: &Result<Vec<u8>, String>) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(answer, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn an_answer_is_whole_or_nonsense() {
        let code = written(&Ok(b"some code".to_vec()));
        assert_eq!(Answer::read(&code[..], 9), Answer::Code(b"some code".to_vec()));
        assert_eq!(Answer::read(&code[..], 8), Answer::TooLarge);
        assert_eq!(Answer::read(&code[..0], 9), Answer::Nothing);
        for length in 1..code.len() {
            assert_eq!(Answer::read(&code[..length], 9), Answer::Nonsense, "{length}");
        }
        let reason = written(&Err("it is odd".into()));
        assert_eq!(Answer::read(&reason[..], 0), Answer::Refused("it is odd".into()));
        for odd in [&b"memory allocation failed"[..], b"portico:", b"portico:X\0\0\0\0\0\0\0\0", &[0; 64]] {
            assert_eq!(Answer::read(odd, 9), Answer::Nonsense, "{odd:?}");
        }
        let huge = [&SIGN[..], &[REFUSED], &[0xff; 8]].concat();
        assert_eq!(Answer::read(&huge[..], u64::MAX), Answer::Nonsense);
        let long = "ä".repeat(5000);
        assert!(matches!(Answer::read(&written(&Err(long))[..], 0), Answer::Refused(told) if told.len() == 4096));
    }
}
