//! However a body ends, the instance that followed it is free again.

use super::{Link, accept, accept_and_read, gateway, open, post, read_until};
use crate::harness::{Gateway, ONE_WORKER, Origin, until};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;

/// A policy that follows one body at a time.
fn alone(mode: &Value) -> Link {
    Link::new("alone", json!({ "request_body": mode, "response_body": mode }), json!({})).with("bodies = 1")
}

fn one_worker(origin: std::net::SocketAddr, link: Link) -> Gateway {
    let chain = [link];
    let components: Vec<_> = chain.iter().map(Link::component).collect();
    Gateway::start_with(&format!("{ONE_WORKER}{}", super::toml(origin, &chain, "")), &components)
}

#[test]
fn more_bodies_than_may_be_followed_are_refused_until_one_ends() {
    let origin = Origin::echo();
    let gateway = one_worker(origin.address, alone(&json!("inspect")));
    let mut stream = open(&gateway, "GET /v1/connect/endless HTTP/1.1\r\nhost: g\r\n\r\n");
    read_until(&mut stream, "data: 1\n");
    let busy = gateway.get("/v1/connect/x").send();
    assert_eq!((busy.status, busy.error().as_str(), busy.field("retry-after")), (503, "policy_unavailable", Some("1")));
    // The client leaves.
    drop(stream);
    until("the instance is free", || gateway.get("/v1/connect/x").send().status == 200);
}

#[test]
fn clients_that_leave_their_upload_free_it() {
    let origin = Origin::echo();
    for mode in [json!("transform"), json!({ "buffered": 1000 })] {
        let gateway = one_worker(origin.address, alone(&mode));
        let stream = open(&gateway, "POST /v1/connect/x HTTP/1.1\r\nhost: g\r\ncontent-length: 100\r\n\r\nhalf");
        until("the body is followed", || post(&gateway, "hello").status == 503);
        drop(stream);
        until("the instance is free", || post(&gateway, "hello").status == 200);
    }
}

#[test]
fn an_upstream_that_breaks_off_frees_it() {
    let origin = Origin::echo();
    for mode in [json!("transform"), json!({ "buffered": 5_000_000 })] {
        let gateway = one_worker(origin.address, alone(&mode));
        for path in ["break", "hang-up"] {
            let mut stream =
                open(&gateway, format!("GET /v1/connect/{path} HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n"));
            let mut seen = String::new();
            let _ = stream.read_to_string(&mut seen);
            assert!(!seen.contains("\r\n0\r\n\r\n") || seen.contains("upstream_broke"), "{mode} {path}: {seen}");
            assert_eq!(seen.contains("upstream_broke"), path == "hang-up" || mode.is_object(), "{mode} {path}: {seen}");
            until("the instance is free", || post(&gateway, "hello").status == 200);
        }
    }
}

/// An upstream may answer before it has the whole request: then nobody waits for the rest.
#[test]
fn an_upstream_that_answers_early_frees_it() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let link = Link::new("alone", json!({ "request_body": "transform" }), json!({})).with("bodies = 1");
    let gateway = one_worker(listener.local_addr().expect("an address"), link);
    for _ in 0..3 {
        let mut client = open(&gateway, "POST /v1/connect/x HTTP/1.1\r\nhost: g\r\ncontent-length: 100\r\n\r\nhalf");
        let mut upstream = accept(&listener, "half");
        upstream.write_all(b"HTTP/1.1 413 No\r\ncontent-length: 2\r\n\r\nno").expect("it takes them");
        let answer = read_until(&mut client, "\r\n\r\nno");
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        let mut rest = Vec::new();
        let _ = upstream.read_to_end(&mut rest);
    }
}

/// They end a body as its last chunk does, on both ways, and go no further; the connections are good for more.
#[test]
fn trailers_end_a_followed_body_and_stay_here() {
    const TRAILERS: &str =
        "te: trailers\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n";
    for (mode, wanted) in [
        (json!("inspect"), "5\r\nhello\r\n0\r\n\r\n"),
        (json!("transform"), "5\r\nHELLO\r\n0\r\n\r\n"),
        (json!({ "buffered": 100 }), "\r\n\r\nHELLO"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let descriptor = json!({ "request_body": mode, "response_body": mode });
        let replace = if mode == "inspect" { json!({}) } else { json!({ "replace": "upper" }) };
        let link = Link::new("ends", descriptor, json!({ "request": replace, "response": replace }));
        let gateway = gateway(listener.local_addr().expect("an address"), &[link], "");
        let request = format!("POST /v1/connect/x HTTP/1.1\r\nhost: g\r\n{TRAILERS}");
        let mut client = open(&gateway, &request);
        let (mut upstream, mut sent) = accept_and_read(&listener, wanted);
        for round in 0..2 {
            assert!(!sent.contains("x-sum"), "{mode} {round}: {sent}");
            write!(upstream, "HTTP/1.1 200 OK\r\n{TRAILERS}").expect("it takes them");
            let answer = read_until(&mut client, wanted);
            assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("x-sum"), "{mode} {round}: {answer}");
            if round == 0 {
                client.write_all(request.as_bytes()).expect("it takes them");
                sent = read_until(&mut upstream, wanted);
            }
        }
    }
}
