use super::*;

/// Written by OpenTelemetry's own opentelemetry-proto 1.45.2 for Python, `SerializeToString`.
const REQUEST: &str = "0ac2010a1b0a190a0c736572766963652e6e616d6512090a07706f727469636f12a2010a100a07706f727469636f1205302e312e30\
                       128d010a100102030405060708090a0b0c0d0e0f10120811121314151617182208191a1b1c1d1e1f202a0a474554202f726f6f6d73\
                       3002390100b49376e2fa18410200b49376e2fa184a140a0875726c2e7061746812080a062f726f6f6d734a080a026f6b12021001\
                       4a1b0a0c706f727469636f2e6675656c120b18f9ffffffffffffffff017a021802850101030000";
const RESPONSE: &str = "0a0b08031207746f6f206f6c64";

fn hex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len() / 2).map(|at| digit(2 * at)).collect()
}

fn numbers(from: u8, count: u8) -> Vec<u8> {
    (from..from + count).collect()
}

#[test]
fn bytes_are_those_of_opentelemetrys_own_messages() {
    let span = Span {
        trace_id: numbers(1, 16),
        span_id: numbers(17, 8),
        parent_span_id: numbers(25, 8),
        flags: 1 | REMOTE_IS_KNOWN | REMOTE,
        name: "GET /rooms".into(),
        kind: SERVER,
        start_time_unix_nano: 1_800_000_000_000_000_001,
        end_time_unix_nano: 1_800_000_000_000_000_002,
        attributes: vec![
            attribute("url.path", "/rooms"),
            attribute("ok", Value::Bool(true)),
            attribute("portico.fuel", Value::Int(-7)),
        ],
        status: Some(Status { code: ERROR }),
    };
    let scope = Scope { name: "portico".into(), version: "0.1.0".into() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans: vec![span] }];
    let resource = Resource { attributes: vec![attribute("service.name", "portico")] };
    let request = Request { resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans }] };
    assert_eq!(request.encode_to_vec(), hex(REQUEST));
    assert_eq!(Request::decode(&*hex(REQUEST)), Ok(request));
}

#[test]
fn what_a_collector_rejects_is_read_and_nonsense_is_nothing() {
    assert_eq!(rejected(&hex(RESPONSE)), Some((3, "too old".into())));
    for nothing in [&b""[..], &hex("0a00"), b"\xff\xff", b"<html>"] {
        assert_eq!(rejected(nothing), None, "{nothing:?}");
    }
}

#[test]
fn a_length_is_no_less_than_what_a_span_takes() {
    let resource = Resource { attributes: Vec::new() };
    let span = Span { name: "n".repeat(300), ..Span::default() };
    let (none, two) = (bytes(&resource, Vec::new()).len(), bytes(&resource, vec![span.clone(), span.clone()]).len());
    assert!(two - none <= 2 * length(&span), "{none} {two}");
}
