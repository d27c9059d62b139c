//! What leaves is what was granted.

use super::*;
use proptest::prelude::*;
use std::time::Duration;

fn grant(tls: bool, host: &str, port: u16, paths: &[&str]) -> OutboundGrant {
    OutboundGrant {
        tls,
        host: host.into(),
        port,
        methods: vec!["GET".into(), "POST".into()],
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        calls: 2,
        response: 1024,
        timeout: Duration::from_secs(1),
        private: false,
    }
}

fn usual() -> Vec<OutboundGrant> {
    vec![
        grant(true, "api.example.com", 443, &["/v1/users/*", "/v1/exact"]),
        grant(false, "2001:db8::1", 8080, &["/*"]),
        grant(false, "10.0.0.1", 80, &["/*"]),
    ]
}

fn call(method: &str, url: &str) -> Call {
    Call { method: method.into(), url: url.into(), fields: Vec::new(), body: Vec::new(), timeout: Duration::ZERO }
}

fn sent(call: Call) -> Result<(String, String), Error> {
    let grants = usual();
    let (_, request) = granted(&grants, &mut Spent::default(), call)?;
    let host = request.fields.get(HOST).unwrap().to_str().unwrap().to_owned();
    Ok((host, request.target.to_string()))
}

#[test]
fn one_spelling_is_compared_and_sent() {
    for (url, host, target) in [
        ("https://api.example.com/v1/exact", "api.example.com", "/v1/exact"),
        ("HTTPS://API.Example.COM.:443/v1/users/7?a=b%2F&c", "api.example.com", "/v1/users/7?a=b%2F&c"),
        ("https://api.example.com/v1/%75sers/%c3%a9", "api.example.com", "/v1/users/%C3%A9"),
        ("https://api.example.com/v1/users/", "api.example.com", "/v1/users/"),
        ("http://[2001:DB8:0::1]:8080", "[2001:db8::1]:8080", "/"),
        ("http://10.0.0.1?x", "10.0.0.1", "/?x"),
    ] {
        assert_eq!(sent(call("GET", url)), Ok((host.into(), target.into())), "{url}");
    }
}

#[test]
fn what_is_not_granted_is_named() {
    use Ungranted::{Method as Verb, Origin, Path, Url as Form};
    for (method, url, what) in [
        ("GET", "http://api.example.com/v1/exact", Origin),
        ("GET", "https://api.example.com:8443/v1/exact", Origin),
        ("GET", "https://api.example.com.evil.test/v1/exact", Origin),
        ("GET", "https://evil-api.example.com/v1/exact", Origin),
        ("GET", "http://10.1/", Origin),
        ("GET", "http://0x0a000001/", Origin),
        ("DELETE", "https://api.example.com/v1/exact", Verb),
        ("get", "https://api.example.com/v1/exact", Verb),
        ("", "https://api.example.com/v1/exact", Verb),
        ("GET", "https://api.example.com/v1/exact/", Path),
        ("GET", "https://api.example.com/v1/users", Path),
        ("GET", "https://api.example.com/v1/usersx", Path),
        ("GET", "https://api.example.com/V1/exact", Path),
        ("GET", "https://api.example.com", Path),
        ("GET", "", Form),
        ("GET", "/v1/exact", Form),
        ("GET", "api.example.com", Form),
        ("GET", "//api.example.com/v1/exact", Form),
        ("GET", "ftp://api.example.com/v1/exact", Form),
        ("GET", "https:///v1/exact", Form),
        ("GET", "https://./v1/exact", Form),
        ("GET", "https://user@api.example.com/v1/exact", Form),
        ("GET", "https://api.example.com@evil.test/v1/exact", Form),
        ("GET", "https://@api.example.com/v1/exact", Form),
        ("GET", "https://api.example.com:/v1/exact", Form),
        ("GET", "https://api.example.com:0/v1/exact", Form),
        ("GET", "https://api.example.com:65979/v1/exact", Form),
        ("GET", "https://api.example.com:+443/v1/exact", Form),
        ("GET", "https://api.example.com/v1/exact#part", Form),
        ("GET", "https://api.example.com\\@evil.test/v1/exact", Form),
        ("GET", "https://api.example.com/v1\\exact", Form),
        ("GET", "https://api.example.com/v1/users/ 7", Form),
        ("GET", " https://api.example.com/v1/exact", Form),
        ("GET", "https://api.example.com/v1/exact\r\nx: y", Form),
        ("GET", "https://api.example.com/v1/users/\u{e9}", Form),
        ("GET", "https://api.example.com/v1/users/../admin", Form),
        ("GET", "https://api.example.com/v1/users/%2e%2E/admin", Form),
        ("GET", "https://api.example.com/v1/users/..;a/admin", Form),
        ("GET", "https://api.example.com/v1/users/%2e.%3Ba/admin", Form),
        ("GET", "https://api.example.com/v1/users/..%2fadmin", Form),
        ("GET", "https://api.example.com/v1/users/..%5cadmin", Form),
        ("GET", "https://api.example.com/v1/users/%00", Form),
        ("GET", "https://api.example.com/v1/users/%252e%252e/admin", Form),
        ("GET", "https://api.example.com/v1//exact", Form),
        ("GET", "http://[2001:db8::1%25eth0]:8080/", Form),
        ("GET", "http://[2001:db8::1:8080/", Form),
    ] {
        assert_eq!(sent(call(method, url)), Err(what.into()), "{method} {url:?}");
    }
    let long = format!("https://api.example.com/v1/users/{}", "a".repeat(LONGEST_URL));
    assert_eq!(sent(call("GET", &long)), Err(Form.into()));
}

#[test]
fn each_grant_has_its_own_budget() {
    let mut grants = usual();
    let mut spent = Spent::default();
    let url = "https://api.example.com/v1/exact";
    let mut ask = |grants: &[OutboundGrant], url: &str| granted(grants, &mut spent, call("GET", url)).map(|_| ());
    assert_eq!(ask(&grants, "https://api.example.com/v1/other"), Err(Ungranted::Path.into()));
    assert_eq!(ask(&grants, url), Ok(()));
    assert_eq!(ask(&grants, url), Ok(()));
    assert_eq!(ask(&grants, url), Err(Error::BudgetExceeded));
    assert_eq!(ask(&grants, "http://10.0.0.1/"), Ok(()));
    // A second grant for the same has requests of its own.
    grants.push(grants[0].clone());
    assert_eq!(ask(&grants, url), Ok(()));
    assert_eq!(ask(&grants, url), Ok(()));
    assert_eq!(ask(&grants, url), Err(Error::BudgetExceeded));
}

fn with_field(name: &str, value: &[u8]) -> Result<(), Error> {
    let mut call = call("GET", "https://api.example.com/v1/exact");
    call.fields.push((name.into(), value.into()));
    sent(call).map(|_| ())
}

#[test]
fn fields_that_are_not_its_own_are_refused() {
    let refused = Err(Ungranted::Field.into());
    for name in [
        "host",
        "Host",
        "content-length",
        "Content_Length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "http2-settings",
        "proxy-authorization",
        "proxy-connection",
        "x-portico-assertion",
        "X_Portico_Assertion",
        "",
        "a b",
        "a:b",
        "a\nb",
    ] {
        assert_eq!(with_field(name, b"1"), refused, "{name:?}");
    }
    for value in [&b"a\r\nb"[..], b"\0", b"\x7f"] {
        assert_eq!(with_field("x-own", value), refused, "{value:?}");
    }
    for name in ["authorization", "Content-Type", "cookie", "accept", "x-own"] {
        assert_eq!(with_field(name, b"any \xff value"), Ok(()), "{name}");
    }
}

#[test]
fn fields_and_body_are_bounded() {
    let too_large = Err(Ungranted::Size.into());
    assert_eq!(with_field("x", &vec![b'v'; MOST_FIELD_BYTES - 1]), Ok(()));
    assert_eq!(with_field("x", &vec![b'v'; MOST_FIELD_BYTES]), too_large);
    for (count, expected) in [(MOST_FIELDS, true), (MOST_FIELDS + 1, false)] {
        let mut call = call("POST", "https://api.example.com/v1/exact");
        call.fields = vec![("x".into(), b"1".to_vec()); count];
        assert_eq!(sent(call).is_ok(), expected);
    }
    for (bytes, expected) in [(LARGEST_BODY, true), (LARGEST_BODY + 1, false)] {
        let mut call = call("POST", "https://api.example.com/v1/exact");
        call.body = vec![0; bytes];
        assert_eq!(sent(call).is_ok(), expected);
    }
}

/// Whether a path lies below `/v1/users/` for whoever decodes once more and resolves dots: written apart from the code.
fn lies_below(path: &str) -> bool {
    let segments: Vec<&str> = path.split('/').collect();
    let hidden = ["%2e", "%2f", "%5c", "%00", "%25"].iter().any(|code| path.to_ascii_lowercase().contains(code));
    let dots = segments.iter().any(|segment| matches!(segment.trim_end_matches(';'), "." | ".."));
    segments.len() > 3 && segments[..3] == ["", "v1", "users"] && !hidden && !dots
}

proptest! {
    #[test]
    fn no_url_panics(url in any::<String>(), method in any::<String>(), name in any::<String>(), value in any::<Vec<u8>>()) {
        let mut call = call(&method, &url);
        call.fields.push((name, value));
        let _ = sent(call);
    }

    #[test]
    fn what_is_sent_lies_where_it_was_granted(
        host in "(https://|HTTPS://|http://)(api\\.example\\.com|API.EXAMPLE.COM|evil\\.test)?(\\.|@evil\\.test|:443|:)?",
        path in "(/(v1|%761|users|\\.\\.|%2[eE]|\\.\\.;|%2f|%5c|a|;|\\?|#|%25|\\\\)){0,6}/?",
    ) {
        let grants = [grant(true, "api.example.com", 443, &["/v1/users/*"])];
        let url = format!("{host}{path}");
        for url in [url, format!("https://api.example.com/v1/users{path}")] {
            if let Ok((_, request)) = granted(&grants, &mut Spent::default(), call("GET", &url)) {
                prop_assert!(lies_below(request.target.path()), "{} became {}", url, request.target);
                prop_assert_eq!(request.fields.get(HOST).map(HeaderValue::as_bytes), Some(&b"api.example.com"[..]));
            }
        }
    }
}
