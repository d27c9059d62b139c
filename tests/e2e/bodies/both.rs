//! Both bodies of one exchange at the same time: what becomes of one is not taken for what becomes of the other.

use super::{Link, accept, gateway, open, read_until};
use crate::harness::{Gateway, until};
use serde_json::json;
use std::io::Write;
use std::net::{TcpListener, TcpStream};

/// A policy that transforms uploads and holds responses, an upload that is half there, and the upstream that has it.
fn half_way(listener: &TcpListener) -> (Gateway, TcpStream, TcpStream) {
    let address = listener.local_addr().expect("an address");
    let descriptor = json!({ "request_body": "transform", "response_body": { "buffered": 100 }, "powers": ["deny"] });
    let config = json!({ "request": { "replace": "upper", "refuse_at": "bad" } });
    let gateway = gateway(address, &[Link::new("both", descriptor, config)], "");
    let client = open(&gateway, "POST /v1/connect/x HTTP/1.1\r\nhost: g\r\ncontent-length: 7\r\n\r\ngood");
    let upstream = accept(listener, "GOOD");
    (gateway, client, upstream)
}

/// Half of an answer, before the request is whole; comes back when the policy was asked about its head.
fn answer_half(gateway: &Gateway, upstream: &mut TcpStream) {
    upstream.write_all(b"HTTP/1.1 200 OK\r\netag: \"e\"\r\ncontent-length: 8\r\n\r\nhalf").expect("it takes them");
    let calls = || gateway.admin("GET", "/v1/plugins").send().json()["policies"][0]["calls"].as_u64();
    until("the answer is held", || calls() >= Some(4));
}

/// The connection to the upstream breaks off over the refusal, and the answer with it. That is no fault of the upstream.
#[test]
fn an_upload_that_is_refused_while_the_response_is_held_is_answered_by_the_policy() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (gateway, mut client, mut upstream) = half_way(&listener);
    answer_half(&gateway, &mut upstream);
    client.write_all(b"bad").expect("it takes them");
    let answer = read_until(&mut client, "}");
    assert!(answer.starts_with("HTTP/1.1 422 ") && answer.contains("bad_body"), "{answer}");
}

#[test]
fn an_upload_that_changes_while_the_response_is_held_changes_nothing_of_it() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (gateway, mut client, mut upstream) = half_way(&listener);
    answer_half(&gateway, &mut upstream);
    client.write_all(b"add").expect("it takes them");
    read_until(&mut upstream, "ADD");
    upstream.write_all(b"half").expect("it takes them");
    let answer = read_until(&mut client, "\r\n\r\nhalfhalf");
    assert!(answer.contains("etag: \"e\"\r\n"), "its bytes are those of the upstream: {answer}");
}
