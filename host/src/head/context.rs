//! Where a request stands in a trace: read from its head, begun where there is none, and written for the upstream (W3C Trace Context).
//!
//! Believes one well-formed `traceparent` and nothing else. Whether anything is told of the trace is decided elsewhere.

use super::{TRACEPARENT, TRACESTATE};
use http::{HeaderMap, HeaderValue};
use std::fmt;

/// Its spans are told, so those below are worth telling.
const SAMPLED: u8 = 1;
/// The id of the trace is random, in its last seven bytes at least (Level 2, section 3.2.2.5).
const RANDOM: u8 = 2;
/// The most members of a `tracestate` (section 3.3.1.1).
const MOST_MEMBERS: usize = 32;
/// The longest key, and the longest value, of a member.
const LONGEST: usize = 256;

/// Where a request stands in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The id of the trace.
    pub trace: u128,
    /// The span that this one is below; 0 where the trace begins here.
    pub parent: u64,
    /// The id of this request's own span.
    pub span: u64,
    flags: u8,
    /// Whether the gateway itself takes part in the trace. Where it does not, what came goes on as it came.
    joins: bool,
}

impl Context {
    /// As the head says; a new trace where it says nothing that can be believed. The gateway takes no part so far.
    pub fn of(headers: &HeaderMap, mut random: impl FnMut() -> u64) -> Self {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let said = match (values.next(), values.next()) {
            (Some(value), None) => traceparent(value.as_bytes()),
            _ => None,
        };
        match said {
            Some((trace, parent, flags)) => Self { trace, parent, span: random().max(1), flags, joins: false },
            None => {
                let trace = u128::from(random()) << 64 | u128::from(random().max(1));
                Self { trace, parent: 0, span: random().max(1), flags: RANDOM, joins: false }
            }
        }
    }

    /// As it was told by these, some time ago.
    pub fn told(trace: u128, parent: u64, span: u64, flags: u8) -> Self {
        Self { trace, parent, span, flags, joins: true }
    }

    /// Whether it goes on with a trace of the client's.
    pub fn is_continued(&self) -> bool {
        self.parent != 0
    }

    /// Whether spans of it are wanted: by the client as long as the gateway takes no part, by the gateway then.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The flags, as they go on.
    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// The gateway takes part, and tells of it or not.
    pub fn join(&mut self, sampled: bool) {
        self.joins = true;
        self.flags = self.flags & !SAMPLED | u8::from(sampled);
    }

    /// Whether the gateway takes part.
    pub fn joins(&self) -> bool {
        self.joins
    }

    /// The id of a span below this request's own, by a number of its own: 0 for the request to the upstream. So nobody has to keep it.
    pub fn below(&self, number: u64) -> u64 {
        let mixed = self.span.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).max(1)
    }

    /// Writes it into the head of the request to the upstream, in the place of what the client sent. Without a trace of the client's, or
    /// where it is malformed, the client's `tracestate` goes.
    pub fn write(&self, headers: &mut HeaderMap) {
        match self.is_continued() {
            true => settle(headers),
            false => drop(headers.remove(TRACESTATE)),
        }
        if !self.joins && self.is_continued() {
            return;
        }
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        hexadecimal(&mut text[3..19], (self.trace >> 64) as u64);
        hexadecimal(&mut text[19..35], self.trace as u64);
        hexadecimal(&mut text[36..52], self.below(0));
        hexadecimal(&mut text[53..], self.flags.into());
        if let Ok(value) = HeaderValue::from_bytes(&text) {
            headers.insert(TRACEPARENT, value);
        }
    }
}

/// The id of a trace, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(pub u128);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The id of a span, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanId(pub u64);

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

fn hexadecimal(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

/// Trace, parent and the flags that are known, of any version but `ff`; later ones may go on behind a further dash.
fn traceparent(value: &[u8]) -> Option<(u128, u64, u8)> {
    let (known, rest) = value.split_at_checked(55)?;
    let dashes = known[2] == b'-' && known[35] == b'-' && known[52] == b'-';
    let version = number(&known[..2])?;
    let ends = rest.is_empty() || (version != 0 && rest.first() == Some(&b'-'));
    let trace = u128::from(number(&known[3..19])?) << 64 | u128::from(number(&known[19..35])?);
    let (parent, flags) = (number(&known[36..52])?, number(&known[53..])? as u8);
    let valid = dashes && ends && version != 0xff && trace != 0 && parent != 0;
    valid.then_some((trace, parent, flags & (SAMPLED | RANDOM)))
}

/// Sixteen digits at most, in lower case only.
fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(digit))
    })
}

/// Makes one field of several, in their order; removes all of them where any member is malformed.
fn settle(headers: &mut HeaderMap) {
    let mut values = headers.get_all(TRACESTATE).iter();
    let (Some(first), more) = (values.next(), values.next().is_some()) else { return };
    if !more {
        if !is_state([first.as_bytes()]) {
            headers.remove(TRACESTATE);
        }
        return;
    }
    let all = || headers.get_all(TRACESTATE).iter().map(HeaderValue::as_bytes);
    let joined = is_state(all()).then(|| {
        // An empty field is no member of a list (RFC 9110, section 5.6.1).
        all().map(<[u8]>::trim_ascii).filter(|value| !value.is_empty()).collect::<Vec<_>>().join(&b","[..])
    });
    match joined.and_then(|joined| HeaderValue::from_bytes(&joined).ok()) {
        Some(value) => drop(headers.insert(TRACESTATE, value)),
        None => drop(headers.remove(TRACESTATE)),
    }
}

/// Whether these fields are the state of a trace: at least one member, at most 32, each well-formed. Which of two with the same key
/// counts is for whoever reads it (section 3.3.1.3).
fn is_state<'a>(fields: impl IntoIterator<Item = &'a [u8]>) -> bool {
    let mut members = 0;
    for member in fields.into_iter().flat_map(|field| field.split(|byte| *byte == b',')) {
        let trim = |byte: &u8| matches!(byte, b' ' | b'\t');
        let start = member.iter().position(|byte| !trim(byte)).unwrap_or(member.len());
        let end = member.iter().rposition(|byte| !trim(byte)).map_or(start, |last| last + 1);
        let member = &member[start..end];
        if member.is_empty() {
            continue;
        }
        members += 1;
        if members > MOST_MEMBERS || !is_member(member) {
            return false;
        }
    }
    members > 0
}

fn is_member(member: &[u8]) -> bool {
    let Some(at) = member.iter().position(|byte| *byte == b'=') else { return false };
    let (key, value) = (&member[..at], &member[at + 1..]);
    let inner = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
    let first = key.first().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let is_value = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'=';
    first
        && key.len() <= LONGEST
        && key.iter().all(inner)
        && (1..=LONGEST).contains(&value.len())
        && value.iter().all(is_value)
}

#[cfg(test)]
mod tests;
