use super::*;
use http::{HeaderValue, Request};

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
