//! What clients are told: `RateLimit-Policy`, `RateLimit` (draft-ietf-httpapi-ratelimit-headers) and `Retry-After`.
//!
//! Both fields name a window by its own name. Where an answer speaks of several limits, and an earlier one has a window
//! of the same name, the name is that of limit and window: `"per-org.sec"`.

use bytes::Bytes;
use http::HeaderValue;

use super::calendar::month;
use super::taking::Limit;
use super::timeline::clamp;
use super::{Period, State, Window};
use crate::clock::Millis;

/// Bytes that one window takes in most cases: room is made once.
const ROOM: usize = 40;

/// The shortest month, in days.
const SHORTEST: u64 = 28;

/// `RateLimit-Policy` of one limit, prepared: once, or for each length that a month can have.
#[derive(Debug)]
pub(super) struct Policy(Vec<HeaderValue>);

impl Policy {
    /// For windows whose names were found valid.
    pub(super) fn new(windows: &[Window]) -> Self {
        let months = windows.iter().any(|window| window.per == Period::Month);
        let lengths = if months { SHORTEST..=31 } else { SHORTEST..=SHORTEST };
        let prepare = |days| {
            let mut text = Vec::with_capacity(windows.len() * ROOM);
            windows.iter().for_each(|window| policy_item(&mut text, None, window, days));
            value(text)
        };
        Self(lengths.map(prepare).collect())
    }

    /// The value for the month of `now`.
    pub(super) fn at(&self, now: Millis) -> &HeaderValue {
        let length = if self.0.len() > 1 { month(clamp(now)).days - SHORTEST } else { 0 };
        let prepared = usize::try_from(length).ok().and_then(|length| self.0.get(length));
        prepared.or(self.0.first()).expect("at least one value was prepared")
    }
}

/// `RateLimit-Policy` of these limits together: `"sec";q=100;w=1, "min";q=3000;w=60`. A month's `w` is that of the month
/// of `now`. For one limit, a value that was prepared.
pub fn policy_field<'a>(limits: impl IntoIterator<Item = &'a Limit, IntoIter: Clone>, now: Millis) -> HeaderValue {
    let limits = limits.into_iter();
    let mut one = limits.clone();
    if let (Some(limit), None) = (one.next(), one.next()) {
        return limit.policy(now).clone();
    }
    let days = month(clamp(now)).days;
    let mut text = Vec::with_capacity(4 * ROOM);
    for (position, limit) in limits.clone().enumerate() {
        for window in limit.windows() {
            policy_item(&mut text, qualifier(limits.clone().take(position), limit, window), window, days);
        }
    }
    value(text)
}

/// `RateLimit` of these limits together, with the states that a taking or a refusal told: `"sec";r=42;t=1`. Give the limits
/// in the same order as to [`policy_field`].
pub fn state_field<'a>(limits: impl IntoIterator<Item = (&'a Limit, &'a [State]), IntoIter: Clone>) -> HeaderValue {
    let limits = limits.into_iter();
    let mut text = Vec::with_capacity(4 * ROOM);
    for (position, (limit, states)) in limits.clone().enumerate() {
        let earlier = limits.clone().take(position).map(|(limit, _)| limit);
        for (window, state) in limit.windows().iter().zip(states) {
            item(&mut text, qualifier(earlier.clone(), limit, window), window);
            parameter(&mut text, b";r=", state.remaining);
            parameter(&mut text, b";t=", state.reset.into());
        }
    }
    value(text)
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

fn value(text: Vec<u8>) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(text)).expect("names were checked, and the rest is digits")
}
