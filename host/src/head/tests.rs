use super::*;
use http::Request;

fn parts(version: Version, target: &str, hosts: &[&str]) -> Parts {
    let mut request = Request::builder().version(version).uri(target);
    for host in hosts {
        request = request.header(HOST, *host);
    }
    request.body(()).unwrap().into_parts().0
}

#[test]
fn one_host_and_nothing_but_a_host() {
    for good in ["example.org", "example.org:8080", "127.0.0.1:9099", "[::1]:9099", "[::1]", "a_b.example"] {
        assert_eq!(authority(&parts(Version::HTTP_11, "/", &[good])), Ok(good));
    }
    for bad in [
        "",
        "user@example.org",
        "example.org/path",
        "example.org:",
        "example.org:port",
        ":80",
        "a b",
        "a,b",
        "::1",
        "a:+80",
        "[]",
        "[v1.x]",
        "[::1",
        "[::1]x",
    ] {
        assert!(authority(&parts(Version::HTTP_11, "/", &[bad])).is_err(), "{bad:?}");
    }
    assert!(authority(&parts(Version::HTTP_11, "/", &[])).is_err());
    assert!(authority(&parts(Version::HTTP_11, "/", &["a", "a"])).is_err());
    assert!(authority(&parts(Version::HTTP_11, "http://other/", &["a"])).is_err());
    assert_eq!(authority(&parts(Version::HTTP_11, "http://A/", &["a"])), Ok("a"));
    assert_eq!(authority(&parts(Version::HTTP_10, "/", &[])), Ok(""));
}

#[test]
fn what_names_a_connection_stays_behind() {
    let mut headers = HeaderMap::new();
    for name in NEVER_FORWARDED {
        headers.insert(name, HeaderValue::from_static("v"));
    }
    headers.insert(CONNECTION, HeaderValue::from_bytes(b"close, \xff, X-Hop , host,content-length").unwrap());
    for name in [
        "x-hop",
        "x-portico-assertion",
        "x-portico-anything",
        "x-forwarded-host",
        "x_portico_assertion",
        "x_forwarded_for",
        "x_request_id",
        "host",
        "accept",
        "content-length",
    ] {
        headers.insert(name, HeaderValue::from_static("v"));
    }
    clean_request(&mut headers);
    let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["accept", "content-length", "host"]);
}

#[test]
fn traces_are_continued_or_begun() {
    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let passed = |value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        headers.insert(TRACESTATE, HeaderValue::from_static("a=b"));
        continue_trace(&mut headers, || (0, 0, 0));
        (headers[TRACEPARENT].to_str().unwrap() == value, headers.contains_key(TRACESTATE))
    };
    assert_eq!(passed(VALID), (true, true));
    assert_eq!(passed(&VALID.replace("00-0af", "01-0af")), (true, true));
    for bad in [
        "",
        "00",
        &VALID.to_uppercase(),
        &VALID.replace("00-0af", "ff-0af"),
        &format!("{VALID}-more"),
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
    ] {
        assert_eq!(passed(bad), (false, false), "{bad:?}");
    }
    let mut headers = HeaderMap::new();
    continue_trace(&mut headers, || (0, 0, 0));
    assert!(is_traceparent(headers[TRACEPARENT].as_bytes()));
}
