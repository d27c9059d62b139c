//! An answer that can be given again: what it says, and no more of its fields than belong to that.

use zeroize::Zeroizing;

/// First byte of everything written here.
const VERSION: u8 = 1;

/// An answer. May hold a secret, so it shows nothing of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Whether no policy may see its body.
    pub is_confidential: bool,
    /// The value of `content-type`.
    pub kind: String,
    /// The value of `location`.
    pub location: Option<String>,
    /// The body; that of a refusal is without the id of its request.
    pub body: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// Its bytes, for sealing.
    pub(super) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let location = self.location.as_deref().unwrap_or_default();
        let size = 16 + self.kind.len() + location.len() + self.body.len();
        let mut bytes = Zeroizing::new(Vec::with_capacity(size));
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.status.to_be_bytes());
        bytes.push(u8::from(self.is_confidential));
        for text in [&self.kind, location] {
            // Fields are far shorter.
            let text = text.get(..usize::from(u16::MAX)).unwrap_or(text);
            bytes.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// What [`Self::to_bytes`] wrote; none where it did not.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<4>()?;
        let [VERSION, high, low, flag] = *head else { return None };
        let (kind, rest) = text(rest)?;
        let (location, body) = text(rest)?;
        Some(Self {
            status: u16::from_be_bytes([high, low]),
            is_confidential: flag != 0,
            kind,
            location: Some(location).filter(|location| !location.is_empty()),
            body: Zeroizing::new(body.to_vec()),
        })
    }
}

fn text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (text, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some((String::from_utf8(text.to_vec()).ok()?, rest))
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Answer({}, …)", self.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        for (location, is_confidential, body) in
            [(Some("/v1/keys/key_1".to_owned()), true, &b"{}"[..]), (None, false, &b""[..])]
        {
            let kind = "application/json".to_owned();
            let answer = Answer { status: 201, is_confidential, kind, location, body: Zeroizing::new(body.to_vec()) };
            let bytes = answer.to_bytes();
            assert_eq!(Answer::read(&bytes), Some(answer));
            for end in 0..bytes.len() - body.len() {
                assert_eq!(Answer::read(&bytes[..end]), None, "cut off at {end}");
            }
        }
        assert_eq!(Answer::read(b"\x02\x00\xc8\x00\x00\x00\x00\x00"), None, "of another version");
    }
}
