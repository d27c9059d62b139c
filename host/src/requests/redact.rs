//! Takes out of a client's texts what looks like a secret, before anything of them is written anywhere.
//!
//! Wrong on the safe side: a long mixed word that is no secret goes too.

use std::borrow::Cow;

/// What stands in the place of a secret.
pub const INSTEAD: &str = "[redacted]";
/// What keys contain.
const MARKS: [&str; 2] = ["sk_live_", "sk_sandbox_"];
/// Words of this length with digits and letters of both cases are taken for secrets.
const LONG: usize = 32;
/// What the names of parameters contain whose values are not told.
const NAMES: [&str; 13] = [
    "key",
    "token",
    "secret",
    "pass",
    "pwd",
    "sig",
    "auth",
    "code",
    "session",
    "credential",
    "jwt",
    "assertion",
    "otp",
];

/// The text, without secrets.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    let plain = unescaped(text);
    if !words(&plain).any(is_secret) {
        return plain;
    }
    let mut out = String::with_capacity(plain.len());
    let mut rest = &*plain;
    for word in words(&plain) {
        // Words are parts of the text, in their order.
        let Some((before, after)) = rest.split_once(word) else { break };
        out.push_str(before);
        out.push_str(if is_secret(word) { INSTEAD } else { word });
        rest = after;
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The query, without secrets, and without the values of parameters that are named like one.
pub(super) fn query(query: &str) -> String {
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if is_secret_name(name) => format!("{}={INSTEAD}", text(name)),
        _ => text(pair).into_owned(),
    };
    query.split('&').map(pair).collect::<Vec<_>>().join("&")
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    text.split(move |c: char| !inner(c)).filter(|word| !word.is_empty())
}

fn is_secret(word: &str) -> bool {
    // Shorter than what keys begin with.
    if word.len() < MARKS[0].len() {
        return false;
    }
    let lower = word.to_ascii_lowercase();
    let has = |kind: fn(&u8) -> bool| word.as_bytes().iter().any(kind);
    let mixed =
        word.len() >= LONG && has(u8::is_ascii_digit) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase);
    mixed || MARKS.iter().any(|mark| lower.contains(mark))
}

fn is_secret_name(name: &str) -> bool {
    let name = unescaped(name).to_ascii_lowercase();
    NAMES.iter().any(|part| name.contains(part))
}

/// Unreserved characters as themselves, however often they were escaped (RFC 3986, section 2.3): a secret is one in any
/// spelling.
fn unescaped(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    // Each round makes it shorter; more than a few are nobody's honest text.
    for _ in 0..4 {
        match unescaped_once(&text) {
            Some(shorter) => text = Cow::Owned(shorter),
            None => return text,
        }
    }
    text
}

fn unescaped_once(text: &str) -> Option<String> {
    let (mut out, mut rest, mut any) = (String::new(), text, false);
    while let Some(at) = rest.find('%') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let byte = escape.get(1..3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            // The percent sign too, where it begins another escape.
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte) => {
                out.push(byte.into());
                rest = &escape[3..];
                any = true;
            }
            _ => {
                out.push('%');
                rest = &escape[1..];
            }
        }
    }
    out.push_str(rest);
    any.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "sk_live_0123456789abcdefghijABCDEFGHIJ0123456789abcdefghi";

    #[test]
    fn secrets_go_in_every_spelling() {
        for (said, told) in [
            ("/v1/rooms/7".to_owned(), "/v1/rooms/7".to_owned()),
            (format!("/v1/{KEY}/x"), format!("/v1/{INSTEAD}/x")),
            (format!("/v1/a-{}", KEY.to_uppercase()), format!("/v1/{INSTEAD}")),
            (format!("/v1/{}", KEY.replace('_', "%5f")), format!("/v1/{INSTEAD}")),
            (format!("/v1/{}", KEY.replace('_', "%255F")), format!("/v1/{INSTEAD}")),
            ("/t/eyJhbGciOiJFZERTQSIsImtpZCI6IjAwMSJ9.eyJ".into(), format!("/t/{INSTEAD}.eyJ")),
            ("/o/org_01m5k3v0q8f7c2d9x4e6t1r5yc".into(), "/o/org_01m5k3v0q8f7c2d9x4e6t1r5yc".into()),
            (
                "/d/5f2b0c7e9a1d4f6b8c3e5a7d9f1b2c4e5f2b0c7e".into(),
                "/d/5f2b0c7e9a1d4f6b8c3e5a7d9f1b2c4e5f2b0c7e".into(),
            ),
            ("100%/%zz/%2f/ä%".into(), "100%/%zz/%2f/ä%".into()),
        ] {
            assert_eq!(text(&said), told, "{said}");
        }
    }

    #[test]
    fn values_of_parameters_that_are_named_like_secrets_go() {
        let told = query(&format!("page=2&Api%5FKey=abc&access_token=x=y&q={KEY}&flag"));
        assert_eq!(told, format!("page=2&Api_Key={INSTEAD}&access_token={INSTEAD}&q={INSTEAD}&flag"));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_no_key_stays(before in "\\PC{0,20}", after in "[/?&%. ]\\PC{0,20}") {
            let said = format!("{before}/{KEY}{after}");
            prop_assert!(!text(&said).contains("0123456789abc"));
            prop_assert!(!query(&said).contains("0123456789abc"));
        }
    }
}
