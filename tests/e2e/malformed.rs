//! What two servers could read differently is refused, and never reaches an upstream.

use crate::harness::{DEFAULT, Gateway, Origin, raw};

#[test]
fn malformed_requests_get_400_and_go_nowhere() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let key = gateway.key(&["connect"]);
    let auth = format!("authorization: Bearer {key}\r\n");
    let get = |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\n{fields}{auth}connection: close\r\n\r\n");
    let host = "host: a\r\n";
    let cases = [
        get("/v1/connect/x", ""),
        get("/v1/connect/x", "host:\r\n"),
        get("/v1/connect/x", "host: a\r\nhost: a\r\n"),
        get("/v1/connect/x", "host: a\r\nhost: b\r\n"),
        get("/v1/connect/x", "host: user@a\r\n"),
        get("/v1/connect/x", "host: a/b\r\n"),
        get("http://other/v1/connect/x", host),
        get("/v1/connect/../pay", host),
        get("/v1/connect/%2e%2e/pay", host),
        get("/v1/connect/a%2fb", host),
        get("/v1/connect/a%5cb", host),
        get("/v1/connect/a%00b", host),
        get("/v1/connect/a%252e", host),
        get("/v1//connect/x", host),
        get("/v1/connect/x", "host: a\r\nbad name: 1\r\n"),
        get("/v1/connect/x", "host: a\r\nx : 1\r\n"),
        get("/v1/connect/x", "host: a\r\n folded: 1\r\n"),
        get("/v1/connect/x", "host: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n"),
        get("/v1/connect/x", "host: a\r\ncontent-length: -1\r\n"),
        get("/v1/connect/x", "host: a\r\ncontent-length: x\r\n"),
        get("/v1/connect/x", "host: a\r\ntransfer-encoding: gzip\r\n"),
        "GET /v1/connect/x HTTP/9.9\r\nhost: a\r\n\r\n".to_owned(),
        "not http at all\r\n\r\n".to_owned(),
        "GET  /v1/connect/x HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\r\n\r\n".to_owned(),
    ];
    for case in cases {
        let answer = raw(gateway.public, case.as_bytes());
        let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
        assert!(line.starts_with("HTTP/1.1 400"), "{case:?} got {line:?}");
    }
    assert_eq!(origin.requests(), 0);
}

#[test]
fn bad_chunks_are_the_clients_fault() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let key = gateway.key(&["connect"]);
    let head = format!(
        "POST /v1/connect/x HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let answer = raw(gateway.public, format!("{head}zz\r\nodd\r\n0\r\n\r\n").as_bytes());
    let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
    assert!(line.starts_with("HTTP/1.1 400"), "{line:?}");
}

#[test]
fn tunnels_and_traces_are_refused() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    assert_eq!(gateway.call("TRACE", "/v1/connect/x").send().error(), "method_not_allowed");
    let connect = raw(gateway.public, b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\nconnection: close\r\n\r\n");
    assert!(connect.starts_with(b"HTTP/1.1 405"), "{}", String::from_utf8_lossy(&connect));
    assert_eq!(origin.requests(), 0);
}

#[test]
fn oversized_heads_are_refused() {
    let origin = Origin::echo();
    let gateway = Gateway::with(&origin, DEFAULT);
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: 1\r\n".repeat(200));
    // As many bytes as are read of a head, and no more: an answer that is sent while further bytes arrive gets lost when
    // the connection is reset, which is how TCP closes what was not read.
    let begin = "GET / HTTP/1.1\r\nhost: a\r\nx: ";
    let large = format!("{begin}{}", "y".repeat((64 << 10) - begin.len()));
    for case in [many, large] {
        let answer = raw(gateway.public, case.as_bytes());
        let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
        assert!(line.starts_with("HTTP/1.1 431"), "{line:?}");
    }
    assert_eq!(gateway.get("/healthz").send().status, 200);
}
