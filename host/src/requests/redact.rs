//! Takes out of a client's texts what looks like a secret, before anything of them is written anywhere.
//!
//! Wrong on the safe side: a long mixed word that is no secret goes too. What holds none is told as it was sent, save for characters that
//! steer whoever shows it.

use std::borrow::Cow;
use std::fmt::Write;

use crate::config::names_secret;

/// What stands in the place of a secret.
pub const INSTEAD: &str = "[redacted]";
/// What keys, tokens and secrets of webhooks contain, and what they have behind it at least.
const MARKS: [(&str, usize); 4] = [("sk_live_", 0), ("sk_sandbox_", 0), (WEBHOOK, 0), ("pat_", 16)];
/// Before a secret in base64, which is no word.
const WEBHOOK: &str = "whsec_";
/// Words of this length with digits and letters of both cases are taken for secrets.
const LONG: usize = 32;
/// How often a text may be escaped. More is nobody's honest text.
const ROUNDS: usize = 4;

/// What a byte can be of, for [`is_plain`]: bits of a word, none between words.
const DIGIT: u8 = 1;
const UPPER: u8 = 2;
const LOWER: u8 = 4;
const DASH: u8 = 8;
const UNDERSCORE: u8 = 16;
/// An escape, a control character, or what is not ASCII.
const DOUBTFUL: u8 = 128;
const BYTES: [u8; 256] = {
    let mut kinds = [DOUBTFUL; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        kinds[byte] = match byte as u8 {
            b'0'..=b'9' => DIGIT,
            b'A'..=b'Z' => UPPER,
            b'a'..=b'z' => LOWER,
            b'-' => DASH,
            b'_' => UNDERSCORE,
            b'%' => DOUBTFUL,
            _ => 0,
        };
        byte += 1;
    }
    kinds
};

/// Whether a text surely has nothing to be taken out, at one glance. Most are.
pub(super) fn is_plain(text: &str) -> bool {
    let (mut length, mut word, mut before) = (0, 0, 0);
    text.bytes().all(|byte| {
        let kind = BYTES[usize::from(byte)];
        (length, word) = if kind == 0 { (0, 0) } else { (length + 1, word | kind) };
        // An underscore behind the last letter of a mark, as `sk_`, `whsec_` and `pat_` have it.
        let is_mark = kind == UNDERSCORE && matches!(before, b'k' | b'c' | b't' | b'K' | b'C' | b'T');
        let is_mixed = length >= LONG && word & (DIGIT | UPPER | LOWER) == DIGIT | UPPER | LOWER;
        before = byte;
        kind != DOUBTFUL && !is_mark && !is_mixed
    })
}

/// The text, without secrets.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if is_plain(text) { text.into() } else { careful(text) }
}

fn careful(text: &str) -> Cow<'_, str> {
    let Some(plain) = unescaped(text) else { return INSTEAD.into() };
    if !plain.split(|c: char| !is_inner(c)).any(is_secret) {
        return visible(text.into());
    }
    let (mut out, mut rest) = (String::with_capacity(plain.len()), &*plain);
    while let Some(start) = rest.find(is_inner) {
        let (before, from) = rest.split_at(start);
        let (word, after) = from.split_at(from.find(|c: char| !is_inner(c)).unwrap_or(from.len()));
        out.push_str(before);
        rest = after;
        if is_secret(word) {
            out.push_str(INSTEAD);
            if word.to_ascii_lowercase().contains(WEBHOOK) {
                rest = after.trim_start_matches(is_base64);
            }
        } else {
            out.push_str(word);
        }
    }
    out.push_str(rest);
    visible(out.into())
}

/// A query or the value of a field: without secrets, and without the values of parameters that are named like one, also in an address
/// that is such a value.
pub(super) fn query(query: &str) -> String {
    let mut out = String::with_capacity(query.len());
    for piece in query.split_inclusive(['&', ';']) {
        let end = piece.trim_end_matches(['&', ';']).len();
        out.push_str(&pair(&piece[..end]));
        out.push_str(&piece[end..]);
    }
    out
}

fn pair(pair: &str) -> Cow<'_, str> {
    let (name, value) = match pair.trim_end_matches('=').split_once('=') {
        Some((name, _)) => (Some(name), &pair[name.len() + 1..]),
        None => (None, pair),
    };
    let is_hidden = unescaped(pair).is_none_or(|plain| has_secret_name(&plain))
        || unescaped(value).is_some_and(|plain| is_base64_secret(&plain));
    match (is_hidden, name) {
        (false, _) => text(pair),
        (true, Some(name)) => format!("{}={INSTEAD}", text(name)).into(),
        (true, None) => INSTEAD.into(),
    }
}

/// Whether any parameter in it is named like a secret.
fn has_secret_name(plain: &str) -> bool {
    let mut parts = plain.split(['&', ';', '?', '#', '/', ',', ' ']);
    parts.any(|part| part.rsplit_once('=').is_some_and(|(names, _)| names.split('=').any(names_secret)))
}

fn is_inner(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

fn is_base64(c: char) -> bool {
    is_inner(c) || matches!(c, '+' | '/' | '=')
}

fn is_secret(word: &str) -> bool {
    let lower = word.to_ascii_lowercase();
    let is_marked = |(mark, behind): &(&str, usize)| {
        let mut places = lower.match_indices(mark);
        places.any(|(at, _)| lower.len() - at - mark.len() >= *behind)
    };
    is_mixed(word) || MARKS.iter().any(is_marked)
}

fn is_mixed(word: &str) -> bool {
    let has = |kind: fn(&u8) -> bool| word.as_bytes().iter().any(kind);
    word.len() >= LONG && has(u8::is_ascii_digit) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase)
}

/// Whether all of it is one in base64, whose words may be short. A path is not.
fn is_base64_secret(value: &str) -> bool {
    is_mixed(value) && !value.starts_with('/') && value.chars().all(is_base64)
}

/// Without escapes (RFC 3986, section 2.1), however often they were escaped: a secret is one in any spelling. None where that
/// does not end.
fn unescaped(text: &str) -> Option<Cow<'_, str>> {
    let mut plain = Cow::Borrowed(text);
    for _ in 0..=ROUNDS {
        match unescaped_once(&plain) {
            Some(shorter) => plain = Cow::Owned(shorter),
            None => return Some(plain),
        }
    }
    None
}

fn unescaped_once(text: &str) -> Option<String> {
    let (mut out, mut rest, mut any) = (Vec::new(), text, false);
    while let Some(at) = rest.find('%') {
        let (before, escape) = rest.split_at(at);
        out.extend_from_slice(before.as_bytes());
        let digits = escape.get(1..3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &escape[3..];
                any = true;
            }
            None => {
                out.push(b'%');
                rest = &escape[1..];
            }
        }
    }
    out.extend_from_slice(rest.as_bytes());
    any.then(|| String::from_utf8_lossy(&out).into_owned())
}

/// With escapes for what steers a terminal, breaks lines or turns the direction of text.
fn visible(text: Cow<'_, str>) -> Cow<'_, str> {
    if !text.contains(steers) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if steers(c) {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                // Into memory: that cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
        } else {
            out.push(c);
        }
    }
    out.into()
}

fn steers(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}')
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
            ("/w/whsec_C2FVsBQIhrscChlQIYdQ+ab/cd=".into(), format!("/w/{INSTEAD}")),
            ("/w/whsec_C2FVsBQ%2Bab%2Fcd%3D?".into(), format!("/w/{INSTEAD}?")),
            (format!("/p/pat_{}", "a".repeat(49)), format!("/p/{INSTEAD}")),
            ("/p/compat_mode".into(), "/p/compat_mode".into()),
        ] {
            assert_eq!(text(&said), told, "{said}");
        }
    }

    #[test]
    fn what_is_escaped_again_and_again_is_not_told() {
        let escaped = |times| (0..times).fold("%5F".to_owned(), |text, _| text.replace('%', "%25"));
        for (times, told) in [(3, format!("/{INSTEAD}")), (4, INSTEAD.to_owned()), (9, INSTEAD.to_owned())] {
            assert_eq!(text(&format!("/{}", KEY.replace('_', &escaped(times)))), told, "{times}");
        }
    }

    #[test]
    fn what_holds_no_secret_is_told_as_it_was_sent_and_steers_nothing() {
        for sent in ["/a%252e%252e/b", "/a%2fb/%41", "/ä%C3%A4"] {
            assert_eq!(text(sent), sent);
        }
        assert_eq!(text("/a\u{9b}2J\u{85}\u{2028}\u{202e}\t"), "/a%C2%9B2J%C2%85%E2%80%A8%E2%80%AE%09");
        assert_eq!(text(&format!("/%1b[2J/{KEY}")), format!("/%1B[2J/{INSTEAD}"));
    }

    #[test]
    fn values_of_parameters_that_are_named_like_secrets_go() {
        for (said, told) in [
            (
                &*format!("page=2&Api%5FKey=abc&access_token=x=y&q={KEY}&flag"),
                "page=2&Api%5FKey=*&access_token=*&q=*&flag",
            ),
            ("a=1;token=abc;b=2", "a=1;token=*;b=2"),
            ("next=https%3A%2F%2Fx%3Ftoken%3Dabc&b=%20", "next=*&b=%20"),
            ("next=/a?b=c%2526password%253Dx", "next=*"),
            ("token%3Dabc", "*"),
            (
                "a=q2X+k9/Lm3Zt7+Vb1Nc5/Rd8Wp4Hs6Jf0=&b=/a/B/q2Xk9Lm3Zt/7Vb1Nc5Rd8/Wp4Hs6Jf0",
                "a=*&b=/a/B/q2Xk9Lm3Zt/7Vb1Nc5Rd8/Wp4Hs6Jf0",
            ),
            // Values of fields.
            ("https://app/?access_token=hunter2", "https://app/?access_token=*"),
            ("https://app/x?y=1#id_token=hunter2", "https://app/x?y=*"),
            ("Mozilla/5.0 (X11; Linux x86_64)", "Mozilla/5.0 (X11; Linux x86_64)"),
            ("q2X+k9/Lm3Zt7+Vb1Nc5/Rd8Wp4Hs6Jf0==", "*"),
            ("", ""),
            ("&&;=", "&&;="),
        ] {
            assert_eq!(query(said), told.replace('*', INSTEAD), "{said}");
        }
    }

    #[test]
    fn most_texts_are_plain_at_a_glance_and_no_secret_is() {
        for plain in [
            "/v1/connect/rooms/4711",
            "gateway.example:9099",
            "",
            "/o/org_01m5k3v0q8f7c2d9x4e6t1r5yc",
            "/d/5f2b0c7e-9a1d-4f6b-8c3e-5a7d9f1b2c4e",
        ] {
            assert!(is_plain(plain), "{plain}");
        }
        for not in [
            KEY,
            "SK_live_",
            "/whsec_C2F",
            "/p/PAT_aaaaaaaaaaaaaaaaa",
            "/a%20b",
            "/\u{e4}",
            "/a\tb",
            "eyJhbGciOiJFZERTQSIsImtpZCI6IjAwMSJ9",
        ] {
            assert!(!is_plain(not), "{not}");
        }
    }

    proptest! {
        #[test]
        fn what_is_plain_would_be_told_as_it_is(said in "[a-zA-Z0-9_./:?&= -]{0,60}", marked in "[a-z/]{0,3}(sk_live|SK_SANDBOX|whsec|Pat)?_?[a-zA-Z0-9_]{0,40}") {
            for text in [said, marked] {
                if is_plain(&text) {
                    prop_assert_eq!(careful(&text), &*text);
                }
            }
        }

        #[test]
        fn no_text_panics_and_no_key_stays(before in "\\PC{0,20}", after in "[/?&%. ]\\PC{0,20}") {
            let said = format!("{before}/{KEY}{after}");
            prop_assert!(!text(&said).contains("0123456789abc"));
            prop_assert!(!query(&said).contains("0123456789abc"));
        }
    }
}
