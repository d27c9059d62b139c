//! What policies work for a body: in proportion to its bytes, however they are cut, and whoever makes them overrun waits.

use super::{Link, accept, gateway, open, post, read_until};
use crate::harness::{Gateway, Origin, until};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;

fn policy(gateway: &Gateway) -> Value {
    gateway.admin("GET", "/v1/plugins").send().json()["policies"][0].clone()
}

fn answered(gateway: &Gateway) -> u64 {
    policy(gateway)["quarantine"]["answered"].as_u64().expect("a number")
}

/// What follows `name=` in what the guest tells.
fn told(answer: &str, name: &str) -> usize {
    let value = answer.split(&format!("{name}=")).nth(1).and_then(|rest| rest.split(' ').next());
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name}: {answer}"))
}

const BYTES: usize = 4000;

/// Every one of these chunks was a call into the guest.
#[test]
fn single_bytes_that_come_at_once_go_on_as_one_chunk() {
    let origin = Origin::echo();
    let config = json!({ "request": { "respond": true } });
    for mode in [json!("inspect"), json!({ "buffered": 5000 })] {
        let descriptor = json!({ "request_body": mode, "powers": ["respond"] });
        let gateway = gateway(origin.address, &[Link::new("eye", descriptor, config.clone())], "");
        let head = "POST /v1/connect/x HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut stream = open(&gateway, [head, &"1\r\nx\r\n".repeat(BYTES), "0\r\n\r\n"].concat());
        let answer = read_until(&mut stream, "carry=");
        assert_eq!(told(&answer, "bytes"), BYTES, "{mode}: {answer}");
        println!("{mode}: {BYTES} bytes in {} chunks", told(&answer, "chunks"));
        assert!(told(&answer, "chunks") <= BYTES / 20, "{mode}: {answer}");
        assert_eq!(policy(&gateway)["calls"], 3, "{mode}: both heads, and the body as one call");
    }
}

/// A client that sends one byte, and the next one when that has passed.
#[test]
fn single_bytes_one_by_one_do_not_make_a_guest_work_without_bound() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let config = json!({ "request": { "rounds": 20_000 } });
    let link = Link::new("works", json!({ "request_body": "inspect" }), config);
    let gateway = gateway(listener.local_addr().expect("an address"), &[link], "");
    let head = "POST /v1/connect/x HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut client = open(&gateway, format!("{head}1\r\n~\r\n"));
    let mut upstream = accept(&listener, "~");
    let mut passed = 1;
    let mut buffer = [0; 64];
    while passed < 500 {
        client.write_all(b"1\r\n~\r\n").expect("it takes them");
        let mut seen = 0;
        while seen == 0 {
            match upstream.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(read) => seen = buffer[..read].iter().filter(|byte| **byte == b'~').count(),
            }
        }
        if seen == 0 {
            break;
        }
        passed += seen;
    }
    let refused = read_until(&mut client, "policy_unavailable");
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert_eq!(policy(&gateway)["failures"], json!({ "out_of_fuel": 1 }));
    let fuel = || gateway.admin("GET", "/v1/usage").send().json()["total"]["fuel"].as_u64();
    until("usage is kept", || fuel() > Some(0));
    let fuel = fuel().expect("a number");
    println!("{passed} bytes passed, for {fuel} units of fuel");
    // Eight calls, what each byte is worth, and the call about the head of the request.
    assert!(fuel < 8 * 2_000_000 + 1000 * passed as u64 + 2_000_000, "{passed} bytes, {fuel}");
    assert!(fuel > 10_000_000, "that was not little: {fuel}");
}

/// A caller of its own, and what it is answered.
fn ask(gateway: &Gateway, caller: u8, method: &str, path: &str, body: &str) -> u16 {
    let call = gateway.call(method, path).from([127, 0, 0, caller]).body(body);
    call.send().status
}

/// The guest overruns in one phase alone, and keeps its bounds in all others about the same exchange.
#[test]
fn who_makes_a_policy_overrun_in_a_later_phase_waits_and_nobody_else() {
    let origin = Origin::echo();
    let both = json!({ "request_body": "inspect", "response_body": { "buffered": 10_000 } });
    let config = json!({
        "request": { "loop_at": "bad upload" }, "response": { "loop_at": "bad answer" }, "loop_at_status": 218,
    });
    for (path, body) in [("x", "bad upload"), ("x", "bad answer"), ("status/218", "good")] {
        let gateway = gateway(origin.address, &[Link::new("loops", both.clone(), config.clone())], "");
        let path = format!("/v1/connect/{path}");
        until("calls are answered without the guest", || {
            assert_eq!(ask(&gateway, 2, "POST", &path, body), 503, "{path} {body}");
            answered(&gateway) >= 3
        });
        let shown = policy(&gateway);
        // Before the bound that holds whatever else a caller does: what went well in the same exchange does not count.
        let overran = shown["failures"]["out_of_fuel"].as_u64().expect("a number");
        assert!((5..25).contains(&overran), "{path} {body}: {shown}");
        assert_eq!(shown["quarantine"]["callers"], 1, "{path} {body}: {shown}");
        assert_eq!(ask(&gateway, 3, "POST", "/v1/connect/x", "good"), 200, "{path} {body}");
        until("the caller is back", || ask(&gateway, 2, "POST", "/v1/connect/x", "good") == 200);
    }
}

/// Over the body, and over the head of the refusal that came of it.
#[test]
fn an_exchange_that_overruns_twice_counts_once() {
    let origin = Origin::echo();
    let config = json!({ "request": { "loop_at": "bad" }, "loop_at_status": 503 });
    let gateway = gateway(origin.address, &[Link::new("loops", json!({ "request_body": "inspect" }), config)], "");
    for exchange in 1..=4 {
        assert_eq!(ask(&gateway, 2, "POST", "/v1/connect/x", "bad"), 503);
        let shown = policy(&gateway);
        assert_eq!(shown["failures"], json!({ "out_of_fuel": 2 * exchange }), "{shown}");
        assert_eq!(shown["quarantine"]["callers"], 0, "{shown}");
    }
    assert_eq!(ask(&gateway, 2, "POST", "/v1/connect/x", "bad"), 503);
    assert_eq!(policy(&gateway)["quarantine"]["callers"], 1, "the fifth is one too many");
}

#[test]
fn bodies_that_overrun_for_several_callers_bring_the_whole_policy_down() {
    let origin = Origin::echo();
    let config = json!({ "request": { "loop_at": "bad" } });
    let link = Link::new("loops", json!({ "request_body": "inspect" }), config);
    let gateway = gateway(origin.address, &[link], "");
    let mut last = 1;
    until("the whole is in quarantine", || {
        last = if last == 250 { 2 } else { last + 1 };
        assert_eq!(ask(&gateway, last, "POST", "/v1/connect/x", "bad"), 503);
        !policy(&gateway)["quarantine"]["without_key_until"].is_null()
    });
    until("a caller that has done nothing is back", || ask(&gateway, 254, "POST", "/v1/connect/x", "good") == 200);
    assert_eq!(post(&gateway, "good").status, 200);
}
