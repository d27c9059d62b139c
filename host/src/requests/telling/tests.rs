use super::super::calls::{Call, Phase, Verdict};
use super::super::otlp::Value;
use super::super::record::tests::record;
use super::super::spans::{Asked, Attempt, Journey};
use super::*;
use crate::usage::Caller;
use http::{HeaderMap, HeaderValue};
use std::time::{Duration, Instant};

const KEY: &str = "sk_live_0123456789abcdefghijABCDEFGHIJ0123456789abcdefghi";

fn text(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::Text(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        Value::Bool(is) => Some(is.to_string()),
    }
}

/// The spans of a request with this record, one call of a policy and a request to an upstream that came to this.
fn told(change: impl FnOnce(&mut Record<'_>), verdict: Verdict, outcome: Result<u16, &'static str>) -> Vec<Span> {
    let names = Names::default();
    let (pillar, policy) = (names.pillar("connect"), names.policy("rate-limit"));
    let route = names.route(pillar, "rooms.show");
    names.note_template(pillar, route, "/v1/connect/rooms/{id}");
    let mut headers = HeaderMap::new();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    headers.insert("traceparent", HeaderValue::from_static(parent));
    let mut context = Context::of(&headers, || 77);
    context.join(true);
    let (begun, after) = (Instant::now(), Duration::from_micros);
    let call = Call {
        policy,
        phase: Phase::Request,
        verdict,
        took: after(10),
        begun: begun + after(5),
        ended: begun + after(15),
        fuel: 321,
    };
    let asked = Asked { upstream: "rooms", server: "[::1]:8080", begun: begun + after(20), took: after(100), outcome };
    let attempt = Attempt::from(asked);
    let path = format!("/v1/connect/rooms/{KEY}");
    let query = format!("q=1&token={KEY}");
    let mut record = Record { host: "gateway.test:9099", query: Some(&query), ..record(1 << 80, &path) };
    record.trace = Some((context.trace, context.span));
    change(&mut record);
    let journey = Journey {
        context: &context,
        start: 1_000_000,
        begun,
        took: after(200),
        calls: &[call],
        attempt: Some(&attempt),
    };
    let mut bytes = Vec::new();
    journey.write(&record, &mut bytes);
    let spans = spans(&names, pillar, route, &Written::read(&bytes).expect("it was written"));
    let (trace, whole) = (0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128, spans.clone());
    assert!(whole.iter().all(|span| span.trace_id == trace.to_be_bytes() && span.span_id.len() == 8));
    spans
}

#[test]
fn a_request_is_a_tree_with_times_within_one_another() {
    let spans = told(|record| record.status = 201, Verdict::Next, Ok(201));
    let [server, policy, client] = spans.as_slice() else { panic!("{spans:?}") };
    let names = spans.iter().map(|span| (span.name.as_str(), span.kind)).collect::<Vec<_>>();
    let request = ("GET /v1/connect/rooms/{id}", otlp::SERVER);
    assert_eq!(names, [request, ("policy rate-limit request", otlp::INTERNAL), ("GET", otlp::CLIENT)]);
    assert_eq!(server.parent_span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
    assert!([policy, client].iter().all(|span| span.parent_span_id == server.span_id));
    assert_eq!([server.flags, client.flags], [0x301, 0x101]);
    let times: Vec<_> = spans.iter().map(|span| (span.start_time_unix_nano, span.end_time_unix_nano)).collect();
    assert_eq!(times, [(1_000_000, 1_200_000), (1_005_000, 1_015_000), (1_020_000, 1_120_000)]);
    for (span, key, expected) in [
        (server, "http.request.method", "GET"),
        (server, "http.route", "/v1/connect/rooms/{id}"),
        (server, "http.response.status_code", "201"),
        (server, "url.path", "/v1/connect/rooms/[redacted]"),
        (server, "url.query", "q=1&token=[redacted]"),
        (server, "url.scheme", "http"),
        (server, "server.address", "gateway.test"),
        (server, "server.port", "9099"),
        (server, "network.protocol.version", "1.1"),
        (server, "portico.request_id", "req_00000000010000000000000000"),
        (server, "portico.org_id", "org_00000000000000000000000007"),
        (server, "portico.key_id", "key_00000000000000000000000008"),
        (server, "portico.pillar", "connect"),
        (server, "portico.route", "rooms.show"),
        (policy, "portico.policy", "rate-limit"),
        (policy, "portico.phase", "request"),
        (policy, "portico.verdict", "next"),
        (policy, "portico.fuel", "321"),
        (client, "portico.upstream", "rooms"),
        (client, "server.address", "::1"),
        (client, "server.port", "8080"),
        (client, "http.response.status_code", "201"),
    ] {
        assert_eq!(text(span, key).as_deref(), Some(expected), "{key}");
    }
    for key in ["error.type", "client.address", "portico.denied"] {
        assert_eq!(text(server, key), None, "{key}");
    }
    assert!(spans.iter().all(|span| span.status.is_none()));
    assert!(!format!("{spans:?}").contains("0123456789abc"));
}

#[test]
fn errors_are_said_where_they_happened() {
    let errors = |spans: &[Span]| {
        let one = |span: &Span| (text(span, "error.type"), span.status.is_some());
        spans.iter().map(one).collect::<Vec<_>>()
    };
    let error = |text: &str| Some(text.to_owned());
    let broke =
        told(|record| (record.status, record.denied) = (502, Some("upstream_broke")), Verdict::Next, Err("broke"));
    assert_eq!(errors(&broke), [(error("upstream_broke"), true), (None, false), (error("broke"), true)]);
    assert_eq!(text(&broke[0], "portico.denied"), error("upstream_broke"));
    let trapped =
        told(|record| (record.status, record.denied) = (503, Some("policy_unavailable")), Verdict::Failed, Ok(200));
    assert_eq!(errors(&trapped), [(error("policy_unavailable"), true), (error("failed"), true), (None, false)]);
    let refused = told(|record| (record.status, record.denied) = (429, Some("rate_limited")), Verdict::Deny, Ok(404));
    assert_eq!(errors(&refused), [(error("rate_limited"), false), (None, false), (error("404"), true)]);
    let left = told(|record| (record.status, record.end) = (0, End::Left), Verdict::Next, Ok(200));
    assert_eq!(
        (errors(&left)[0].clone(), text(&left[0], "http.response.status_code")),
        ((error("no_answer"), false), None)
    );
    let method = http::Method::from_bytes(b"QUERY").unwrap();
    let odd = told(|record| record.method = (&method).into(), Verdict::Next, Ok(200));
    assert_eq!((odd[0].name.as_str(), odd[2].name.as_str()), ("HTTP /v1/connect/rooms/{id}", "HTTP"));
}

#[test]
fn what_is_of_nobody_says_nothing_of_anybody() {
    let spans = told(|record| record.caller = Caller::ANONYMOUS, Verdict::Next, Ok(200));
    for key in ["portico.org_id", "portico.key_id", "portico.mode"] {
        assert_eq!(text(&spans[0], key), None, "{key}");
    }
}
