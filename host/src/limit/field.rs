//! What clients are told: `RateLimit-Policy`, `RateLimit` (draft-ietf-httpapi-ratelimit-headers) and `Retry-After`.
//!
//! Both fields name a window by its own name. Where an answer speaks of several limits, and an earlier one has a window
//! of the same name, the name is that of limit and window: `"per-org.sec"`.

use http::HeaderValue;

use super::calendar::month;
use super::taking::Limit;
use super::timeline::clamp;
use super::{Period, State, Window};
use crate::clock::Millis;

/// Room for four windows in most cases, so that a field asks for memory once while it is written.
const ROOM: usize = 160;

/// The shortest month, in days.
const SHORTEST: u64 = 28;

/// What is prepared for one limit.
#[derive(Debug)]
pub(super) struct Policy {
    /// `RateLimit-Policy`: one, or one for each length that a month can have.
    fields: Vec<HeaderValue>,
    /// How each window begins in `RateLimit`: `"sec";r=`
    heads: Vec<Box<[u8]>>,
}

impl Policy {
    /// For windows whose names were found valid.
    pub(super) fn new(windows: &[Window]) -> Self {
        let months = windows.iter().any(|window| window.per == Period::Month);
        let lengths = if months { SHORTEST..=31 } else { SHORTEST..=SHORTEST };
        let prepare = |days| {
            let mut text = Vec::with_capacity(ROOM);
            windows.iter().for_each(|window| policy_item(&mut text, None, window, days));
            value(&text)
        };
        let head = |window: &Window| format!("\"{}\";r=", window.name).into_bytes().into();
        Self { fields: lengths.map(prepare).collect(), heads: windows.iter().map(head).collect() }
    }

    /// The value for the month of `now`.
    fn at(&self, now: Millis) -> &HeaderValue {
        let length = if self.fields.len() > 1 { month(clamp(now)).days - SHORTEST } else { 0 };
        let prepared = usize::try_from(length).ok().and_then(|length| self.fields.get(length));
        prepared.or(self.fields.first()).expect("at least one value was prepared")
    }
}

/// `RateLimit-Policy` of these limits together: `"sec";q=100;w=1, "min";q=3000;w=60`. A month's `w` is that of the month
/// of `now`. For one limit, a value that was prepared.
pub fn policy_field<'a>(limits: impl IntoIterator<Item = &'a Limit, IntoIter: Clone>, now: Millis) -> HeaderValue {
    let limits = limits.into_iter();
    let mut one = limits.clone();
    if let (Some(limit), None) = (one.next(), one.next()) {
        return limit.policy().at(now).clone();
    }
    let days = month(clamp(now)).days;
    let mut text = Vec::with_capacity(ROOM);
    for (position, limit) in limits.clone().enumerate() {
        for window in limit.windows() {
            policy_item(&mut text, qualifier(limits.clone().take(position), limit, window), window, days);
        }
    }
    value(&text)
}

/// `RateLimit` of these limits together, with the states that a taking or a refusal told: `"sec";r=42;t=1`. Give the limits
/// in the same order as to [`policy_field`].
pub fn state_field<'a>(limits: impl IntoIterator<Item = (&'a Limit, &'a [State]), IntoIter: Clone>) -> HeaderValue {
    let limits = limits.into_iter();
    let mut text = Vec::with_capacity(ROOM);
    for (position, (limit, states)) in limits.clone().enumerate() {
        let earlier = limits.clone().take(position).map(|(limit, _)| limit);
        for ((window, head), state) in limit.windows().iter().zip(&limit.policy().heads).zip(states) {
            match qualifier(earlier.clone(), limit, window) {
                None => {
                    text.extend_from_slice(if text.is_empty() { b"" } else { b", " });
                    text.extend_from_slice(head);
                    text.extend_from_slice(itoa::Buffer::new().format(state.remaining).as_bytes());
                }
                qualifier => {
                    item(&mut text, qualifier, window);
                    parameter(&mut text, b";r=", state.remaining);
                }
            }
            parameter(&mut text, b";t=", state.reset.into());
        }
    }
    value(&text)
}

/// `Retry-After`, for so many seconds.
pub fn retry_after_field(seconds: u32) -> HeaderValue {
    HeaderValue::from(seconds)
}

/// The name of the limit, where the window's own name would not be unique.
fn qualifier<'a>(mut earlier: impl Iterator<Item = &'a Limit>, limit: &'a Limit, window: &Window) -> Option<&'a str> {
    let taken = earlier.any(|other| other.windows().iter().any(|other| other.name == window.name));
    taken.then(|| limit.definition().limit.as_str())
}

fn policy_item(text: &mut Vec<u8>, qualifier: Option<&str>, window: &Window, days: u64) {
    item(text, qualifier, window);
    parameter(text, b";q=", window.quota);
    let seconds = match window.per {
        Period::Seconds(seconds) => seconds.into(),
        Period::Month => days * 86_400,
    };
    parameter(text, b";w=", seconds);
}

fn item(text: &mut Vec<u8>, qualifier: Option<&str>, window: &Window) {
    text.extend_from_slice(if text.is_empty() { b"\"" } else { b", \"" });
    if let Some(limit) = qualifier {
        text.extend_from_slice(limit.as_bytes());
        text.push(b'.');
    }
    text.extend_from_slice(window.name.as_bytes());
    text.push(b'"');
}

fn parameter(text: &mut Vec<u8>, name: &[u8], number: u64) {
    text.extend_from_slice(name);
    text.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn value(text: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(text).expect("names were checked, and the rest is digits")
}
